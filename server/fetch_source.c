/* Sources: reading fetch.sources. */
#include "server/fetch_source.h"

#include "server/store.h"

#include <stdio.h>
#include <string.h>

/* Copies len characters when they fit and there are any. */
static bool copy(char *out, size_t size, const char *text, size_t len)
{
    if (len == 0 || len >= size)
        return false;
    memcpy(out, text, len);
    out[len] = '\0';
    return true;
}

static bool read_address(struct mf_fetch_source *s)
{
    struct mf_dicom_address peer;
    size_t len = strlen(s->address);
    if (strncmp(s->address, "http://", 7) == 0 || strncmp(s->address, "https://", 8) == 0) {
        s->method = MF_FETCH_WEB;
        while (len > 0 && s->address[len - 1] == '/')
            s->address[--len] = '\0';
        return true;
    }
    bool move;
    if (!mf_dicom_address_parse_with(s->address, "move", &peer, &move))
        return false;
    s->method = move ? MF_FETCH_MOVE : MF_FETCH_GET;
    s->address[strcspn(s->address, "?")] = '\0';
    return true;
}

/* One entry, "[TENANT/]NAME=ADDRESS". */
static bool read_source(const char *entry, size_t len, struct mf_fetch_source *ret)
{
    struct mf_fetch_source s = {.method = MF_FETCH_WEB};
    const char *equals = memchr(entry, '=', len);
    if (!equals)
        return false;
    size_t name_len = (size_t)(equals - entry);
    const char *name = entry, *slash = memchr(entry, '/', name_len);
    if (slash) {
        if (!copy(s.tenant, sizeof s.tenant, entry, (size_t)(slash - entry)))
            return false;
        name = slash + 1;
        name_len = (size_t)(equals - name);
    } else {
        snprintf(s.tenant, sizeof s.tenant, "%s", MF_TENANT_DEFAULT);
    }
    if (!copy(s.name, sizeof s.name, name, name_len) ||
        !copy(s.address, sizeof s.address, equals + 1, len - (size_t)(equals + 1 - entry)) ||
        !read_address(&s))
        return false;
    *ret = s;
    return true;
}

/* The next entry of the list; its length, 0 at the end. */
static size_t next_entry(const char **at)
{
    *at += strspn(*at, " ");
    return strcspn(*at, " ");
}

static const char *first_entry(const struct mf_config *config)
{
    return strcmp(config->fetch.sources, "off") == 0 ? "" : config->fetch.sources;
}

bool mf_fetch_source_find(const struct mf_config *config, const char *tenant, const char *name,
                          struct mf_fetch_source *ret, struct mf_error *err)
{
    const char *at = first_entry(config);
    for (size_t len; (len = next_entry(&at)) > 0; at += len)
        if (read_source(at, len, ret) && strcmp(ret->tenant, tenant) == 0 &&
            (!name || strcmp(ret->name, name) == 0))
            return true;
    return mf_error_set(err, MF_ERR_UNUSABLE, "\"source\" is not in fetch.sources");
}

static bool is_of(const struct mf_fetch_source *s, const char *url, const char *ae)
{
    struct mf_dicom_address peer;
    size_t len = strlen(s->address);
    if (s->method == MF_FETCH_WEB)
        return strncmp(url, s->address, len) == 0 && (url[len] == '/' || !url[len]);
    return mf_dicom_address_parse(s->address, &peer) && strcmp(peer.ae, ae) == 0;
}

bool mf_fetch_source_match(const struct mf_config *config, const char *tenant, const char *url,
                           const char *ae, struct mf_fetch_source *ret)
{
    const char *at = first_entry(config);
    for (size_t len; (len = next_entry(&at)) > 0; at += len)
        if (read_source(at, len, ret) && strcmp(ret->tenant, tenant) == 0 && is_of(ret, url, ae))
            return true;
    return false;
}

bool mf_fetch_sources_need_query(const struct mf_config *config)
{
    struct mf_fetch_source s;
    const char *at = first_entry(config);
    for (size_t len; (len = next_entry(&at)) > 0; at += len)
        if (read_source(at, len, &s) && s.method != MF_FETCH_WEB)
            return true;
    return false;
}

/* What is missing for a source that was read; NULL = nothing. */
static const char *missing(const struct mf_config *config, const struct mf_fetch_source *s)
{
    struct mf_dicom_address peer;
    if (s->method == MF_FETCH_WEB || !mf_dicom_address_parse(s->address, &peer))
        return NULL;
    if (!mf_dicom_address_usable(&peer, config))
        return "dimse.tls_ca";
    if (s->method == MF_FETCH_MOVE && strcmp(config->dimse.listen, "off") == 0)
        return "dimse.listen, where the objects come to";
    if (s->method == MF_FETCH_MOVE && strcmp(config->dimse.tenant, s->tenant) != 0)
        return "dimse.tenant to be its tenant";
    return NULL;
}

bool mf_fetch_sources_check(const struct mf_config *config, struct mf_error *err)
{
    const char *at = first_entry(config);
    for (size_t len; (len = next_entry(&at)) > 0; at += len) {
        struct mf_fetch_source s;
        int shown = len < 100 ? (int)len : 100;
        if (!read_source(at, len, &s))
            return mf_error_set(err, MF_ERR_USAGE,
                                "fetch.sources: \"%.*s\" is no NAME=http(s)://host/path nor "
                                "NAME=dicom(s)://AE@host:port[?move]",
                                shown, at);
        const char *what = missing(config, &s);
        if (what)
            return mf_error_set(err, MF_ERR_USAGE, "fetch.sources: \"%.*s\" needs %s", shown, at,
                                what);
    }
    return true;
}
