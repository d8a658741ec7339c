/* UPS: the section `ups` of the configuration. */
#include "server/ups_client.h"

#include "server/dicom_address.h"
#include "server/fetch_source.h"
#include "server/web_client.h"

#include <stdio.h>
#include <string.h>

bool mf_ups_wanted(const struct mf_config *config)
{
    return strcmp(config->ups.manager, "off") != 0;
}

static bool is_web(const char *address)
{
    return strncmp(address, "http://", 7) == 0 || strncmp(address, "https://", 8) == 0;
}

/* The next address of ups.outputs; false after the last. */
static bool next_output(const char **at, char ret[MF_UPS_URL])
{
    *at += strspn(*at, " ");
    size_t len = strcspn(*at, " ");
    if (len == 0 || strcmp(*at, "off") == 0)
        return false;
    size_t kept = len < MF_UPS_URL ? len : MF_UPS_URL - 1;
    while (kept > 0 && (*at)[kept - 1] == '/')
        kept--;
    snprintf(ret, MF_UPS_URL, "%.*s", (int)kept, *at);
    *at += len;
    return true;
}

/* --- choosing --- */

/* A STOW-RS URL may be the service's, or its resource "studies". */
static bool is_place(const char *address, const struct mf_ups_place *place)
{
    struct mf_dicom_address peer;
    if (is_web(address)) {
        size_t len = strlen(address);
        return strncmp(place->url, address, len) == 0 &&
               (place->url[len] == '\0' || place->url[len] == '/');
    }
    return mf_dicom_address_parse(address, &peer) && strcmp(peer.ae, place->ae) == 0;
}

void mf_ups_output(const struct mf_config *config, const struct mf_ups_item *item,
                   char ret[MF_UPS_URL])
{
    const char *at = config->ups.outputs;
    char address[MF_UPS_URL];
    ret[0] = '\0';
    while (next_output(&at, address)) {
        if (!ret[0])
            snprintf(ret, MF_UPS_URL, "%s", address);
        for (size_t i = 0; i < item->output_count; i++)
            if (is_place(address, &item->outputs[i])) {
                snprintf(ret, MF_UPS_URL, "%s", address);
                return;
            }
    }
}

/* --- checking --- */

static bool check_code(const char *text, const struct mf_registry *registry, struct mf_error *err)
{
    struct mf_ups_code code;
    char model[128];
    if (!mf_ups_code_parse(text, &code, model))
        return mf_error_set(err, MF_ERR_USAGE,
                            "ups.codes: \"%.100s\" is no CODE^SCHEME or CODE^SCHEME=MODEL", text);
    return !model[0] || mf_registry_find(registry, model) >= 0 ||
           mf_error_set(err, MF_ERR_USAGE, "ups.codes: there is no model named %.64s", model);
}

static bool check_codes(const struct mf_config *config, const struct mf_registry *registry,
                        struct mf_error *err)
{
    struct mf_ups_code code;
    const struct mf_string_list *codes = &config->ups.codes, *stations = &config->ups.stations;
    if (codes->count + stations->count == 0)
        return mf_error_set(err, MF_ERR_USAGE,
                            "ups.manager needs ups.codes or ups.stations: which work items are "
                            "ours");
    if (codes->count > MF_UPS_CODES || stations->count > MF_UPS_CODES)
        return mf_error_set(err, MF_ERR_USAGE, "ups: more than %d codes", MF_UPS_CODES);
    for (size_t i = 0; i < codes->count; i++)
        if (!check_code(codes->items[i], registry, err))
            return false;
    for (size_t i = 0; i < stations->count; i++)
        if (!mf_ups_code_parse(stations->items[i], &code, NULL))
            return mf_error_set(err, MF_ERR_USAGE, "ups.stations: \"%.100s\" is no CODE^SCHEME",
                                stations->items[i]);
    return true;
}

static bool check_outputs(const struct mf_config *config, struct mf_error *err)
{
    const char *at = config->ups.outputs;
    char address[MF_UPS_URL];
    size_t n = 0;
    for (; next_output(&at, address); n++) {
        struct mf_dicom_address peer;
        bool dicom = mf_dicom_address_parse(address, &peer);
        if (!dicom && !mf_web_url_plain(address))
            return mf_error_set(err, MF_ERR_USAGE,
                                "ups.outputs: \"%.100s\" is no http(s)://host/path or "
                                "dicom(s)://AE@host:port",
                                address);
        if (dicom && !mf_dicom_address_usable(&peer, config))
            return mf_error_set(err, MF_ERR_USAGE, "ups.outputs: \"%.100s\" needs dimse.tls_ca",
                                address);
    }
    return n > 0 || mf_error_set(err, MF_ERR_USAGE,
                                 "ups.manager needs ups.outputs: where the results are stored");
}

static bool check_source(const struct mf_config *config, struct mf_error *err)
{
    struct mf_fetch_source from;
    struct mf_error none = MF_ERROR_INIT;
    bool first = strcmp(config->ups.source, "off") == 0;
    return mf_fetch_source_find(config, config->ups.tenant, first ? NULL : config->ups.source,
                                &from, &none) ||
           mf_error_set(err, MF_ERR_USAGE,
                        first ? "ups.manager needs a source in fetch.sources: where the inputs are"
                              : "ups.source: \"%s\" is not in fetch.sources",
                        config->ups.source);
}

bool mf_ups_check(const struct mf_config *config, const struct mf_registry *registry,
                  struct mf_error *err)
{
    if (!mf_ups_wanted(config))
        return true;
    if (!mf_web_url_plain(config->ups.manager))
        return mf_error_set(err, MF_ERR_USAGE, "ups.manager: \"%.100s\" is no http(s)://host/path",
                            config->ups.manager);
    if (strcmp(config->ups.authorization_file, "off") != 0 &&
        !mf_web_url_protected(config->ups.manager))
        return mf_error_set(err, MF_ERR_USAGE,
                            "ups.authorization_file: ups.manager must be https, or this machine");
    return check_codes(config, registry, err) && check_outputs(config, err) &&
           check_source(config, err);
}
