/* Fetch: QIDO-RS for the patient and the priors, WADO-RS for the objects. */
#include "server/fetch.h"

#include "dicom/instance.h"
#include "server/store.h"
#include "server/web_client.h"

#include "core/buffer.h"
#include "core/json.h"

#include <stdlib.h>
#include <string.h>

enum { URL_BYTES = 1024, ANSWER_BYTES = 8 << 20, MOST_ROWS = 200 };

/* Whether "NAME" (of the default tenant) or "TENANT/NAME" is what is looked for. */
static bool is_source(const struct mf_fetch *f, const char *name, size_t len)
{
    const char *slash = memchr(name, '/', len), *tenant = slash ? name : MF_TENANT_DEFAULT;
    size_t tenant_len = slash ? (size_t)(slash - name) : strlen(tenant);
    if (slash) {
        len -= tenant_len + 1;
        name = slash + 1;
    }
    return strlen(f->tenant) == tenant_len && memcmp(f->tenant, tenant, tenant_len) == 0 &&
           (!f->source || (strlen(f->source) == len && memcmp(f->source, name, len) == 0));
}

/* The address of the source, without a slash at its end. */
static bool find_source(const struct mf_fetch *f, char url[URL_BYTES], struct mf_error *err)
{
    const char *at = f->config->fetch.sources;
    if (strcmp(at, "off") == 0)
        at = "";
    while (*(at += strspn(at, " "))) {
        size_t len = strcspn(at, " "), name = strcspn(at, "= ");
        if (is_source(f, at, name) && name < len && len - name < 512) {
            snprintf(url, URL_BYTES, "%.*s", (int)(len - name - 1), at + name + 1);
            for (size_t n = strlen(url); n > 0 && url[n - 1] == '/'; n--)
                url[n - 1] = '\0';
            return true;
        }
        at += len;
    }
    return mf_error_set(err, MF_ERR_UNUSABLE, "\"source\" is not in fetch.sources");
}

static bool judge(long status, struct mf_error *err)
{
    if (status / 100 == 2)
        return true;
    if (status == 404)
        return mf_error_set(err, MF_ERR_NOT_FOUND, "the source has no such study");
    return mf_error_set(err, MF_ERR_UNAVAILABLE, "the source answered %ld", status);
}

/* --- QIDO-RS --- */

/* The studies that match, as an array; the caller owns it. */
static json_t *search(const struct mf_fetch *f, const char *base, const char *key,
                      const char *value, struct mf_error *err)
{
    static const struct mf_json_limits limits = {ANSWER_BYTES, 32};
    long status = 0;
    MF_AUTO(mf_buffer) struct mf_buffer answer, url;
    mf_buffer_init(&answer, ANSWER_BYTES);
    mf_buffer_init(&url, 2 * URL_BYTES);
    if (!mf_buffer_printf(&url, err, "%s/studies?%s=", base, key) ||
        !mf_web_encode(&url, value, err) ||
        !mf_buffer_append_str(&url, "&includefield=00100021&limit=200", err))
        return NULL;
    const struct mf_web_request request = {.url = url.data,
                                           .accept = "application/dicom+json",
                                           .timeout_s = (int)f->config->fetch.timeout_s,
                                           .max_bytes = ANSWER_BYTES,
                                           .data = mf_web_keep,
                                           .context = &answer};
    if (!mf_web_send(&request, &status, err) || !judge(status, err))
        return NULL;
    if (answer.len == 0)
        return json_array();
    json_t *list = mf_json_parse(answer.data, answer.len, &limits, "the source's answer", err);
    if (list && !json_is_array(list)) {
        json_decref(list);
        mf_error_set(err, MF_ERR_UNAVAILABLE, "the source's answer is not a list");
        return NULL;
    }
    return list;
}

static const char *value_of(const json_t *row, const char *tag)
{
    const json_t *values = json_object_get(json_object_get(row, tag), "Value");
    const char *text = json_string_value(json_array_get(values, 0));
    return text ? text : "";
}

/* --- WADO-RS --- */

struct objects {
    const struct mf_fetch *fetch;
    struct mf_multipart *multipart;
};

static bool object_begin(void *context, const char *content_type, struct mf_error *err)
{
    const struct objects *o = context;
    (void)content_type; /* a decoder looks at the bytes */
    return o->fetch->sink->begin(o->fetch->context, "dicom", err);
}

static bool object_data(void *context, const void *data, size_t len, struct mf_error *err)
{
    const struct objects *o = context;
    return o->fetch->sink->data(o->fetch->context, data, len, err);
}

static bool object_end(void *context, struct mf_error *err)
{
    const struct objects *o = context;
    return o->fetch->sink->end(o->fetch->context, err);
}

static bool take_objects(void *context, const char *content_type, const void *data, size_t len,
                         struct mf_error *err)
{
    static const struct mf_multipart_sink sink = {object_begin, object_data, object_end};
    struct objects *o = context;
    if (!o->multipart) {
        size_t most = (size_t)o->fetch->config->http.max_parts;
        if (strncmp(content_type, "multipart/related", 17) != 0)
            return mf_error_set(err, MF_ERR_UNAVAILABLE,
                                "the source's answer is not multipart/related");
        o->multipart = mf_multipart_new(content_type, most, &sink, o, err);
    }
    return o->multipart && mf_multipart_feed(o->multipart, data, len, err);
}

static bool retrieve(const struct mf_fetch *f, const char *base, const char *study,
                     struct mf_error *err)
{
    char url[2 * URL_BYTES];
    long status = 0;
    struct objects o = {.fetch = f};
    snprintf(url, sizeof url, "%s/studies/%s", base, study);
    const struct mf_web_request request = {
        .url = url,
        .accept = "multipart/related; type=\"application/dicom\"; transfer-syntax=*",
        .timeout_s = (int)f->config->fetch.timeout_s,
        .max_bytes = (uint64_t)f->config->http.max_body_bytes,
        .data = take_objects,
        .context = &o};
    bool ok = mf_web_send(&request, &status, err) && judge(status, err);
    if (ok && !o.multipart)
        ok = mf_error_set(err, MF_ERR_NOT_FOUND, "the source has no such study");
    ok = ok && mf_multipart_finish(o.multipart, err);
    mf_multipart_free(o.multipart);
    return ok || mf_error_prefix(err, "fetching the study");
}

/* --- priors --- */

static int newest_first(const void *a, const void *b)
{
    const json_t *const *x = a, *const *y = b;
    return strcmp(value_of(*y, "00080020"), value_of(*x, "00080020"));
}

/* Whether a row is an earlier study of the same patient. */
static bool is_prior(const json_t *row, const json_t *current)
{
    const char *date = value_of(row, "00080020"), *issuer = value_of(current, "00100021");
    return *date && strcmp(date, value_of(current, "00080020")) < 0 &&
           mf_uid_valid(value_of(row, "0020000D")) &&
           strcmp(value_of(row, "00100020"), value_of(current, "00100020")) == 0 &&
           strcmp(value_of(row, "00100021"), issuer) == 0;
}

static bool retrieve_priors(const struct mf_fetch *f, const char *base, const json_t *current,
                            struct mf_error *err)
{
    const json_t *rows[MOST_ROWS];
    size_t n = 0, most = (size_t)f->config->fetch.max_priors;
    const char *patient = value_of(current, "00100020");
    if (!*patient || !*value_of(current, "00080020") || strpbrk(patient, "*?\\"))
        return true;
    MF_AUTO(mf_json) json_t *list = search(f, base, "PatientID", patient, err);
    if (!list)
        return mf_error_prefix(err, "looking for priors");
    for (size_t i = 0; i < json_array_size(list) && n < MOST_ROWS; i++)
        if (is_prior(json_array_get(list, i), current))
            rows[n++] = json_array_get(list, i);
    if (n > 1)
        qsort(rows, n, sizeof rows[0], newest_first); /* NOLINT: of pointers */
    for (size_t i = 0; i < n && i < most; i++)
        if (!retrieve(f, base, value_of(rows[i], "0020000D"), err))
            return false;
    return true;
}

bool mf_fetch_study(const struct mf_fetch *f, struct mf_error *err)
{
    char base[URL_BYTES];
    if (!mf_uid_valid(f->study))
        return mf_error_set(err, MF_ERR_UNUSABLE, "\"study_instance_uid\" is not a UID");
    if (!find_source(f, base, err))
        return false;
    MF_AUTO(mf_json) json_t *found = search(f, base, "StudyInstanceUID", f->study, err);
    if (!found)
        return false;
    if (json_array_size(found) == 0)
        return mf_error_set(err, MF_ERR_NOT_FOUND, "the source has no such study");
    return retrieve(f, base, f->study, err) &&
           (!f->priors || retrieve_priors(f, base, json_array_get(found, 0), err));
}
