/* Fetch: QIDO-RS and WADO-RS (PS3.18 10.4, 10.6). */
#include "server/fetch_private.h"

#include "server/web_client.h"

#include "core/buffer.h"

#include <string.h>

enum { URL_BYTES = 2048, ANSWER_BYTES = 8 << 20 };

static bool judge(long status, struct mf_error *err)
{
    if (status / 100 == 2)
        return true;
    if (status == 404)
        return mf_error_set(err, MF_ERR_NOT_FOUND, "the source has no such study");
    return mf_error_set(err, MF_ERR_UNAVAILABLE, "the source answered %ld", status);
}

/* --- QIDO-RS --- */

static bool add_key(struct mf_buffer *url, const char *key, const char *value, struct mf_error *err)
{
    return !value || (mf_buffer_printf(url, err, "%s=", key) && mf_web_encode(url, value, err) &&
                      mf_buffer_append_str(url, "&", err));
}

static bool make_url(const struct mf_fetch_source *from, const struct mf_fetch_match *match,
                     struct mf_buffer *url, struct mf_error *err)
{
    if (match->series)
        return mf_buffer_printf(url, err, "%s/studies/%s/series?includefield=00180015&limit=%d",
                                from->address, match->study, MF_FETCH_ROWS);
    return mf_buffer_printf(url, err, "%s/studies?", from->address) &&
           add_key(url, "StudyInstanceUID", match->study, err) &&
           add_key(url, "PatientID", match->patient, err) &&
           add_key(url, "StudyDate", match->dates, err) &&
           mf_buffer_printf(url, err, "includefield=00100021&limit=%d", MF_FETCH_ROWS);
}

static json_t *find(const struct mf_fetch *f, const struct mf_fetch_source *from,
                    const struct mf_fetch_match *match, struct mf_error *err)
{
    static const struct mf_json_limits limits = {ANSWER_BYTES, 32};
    long status = 0;
    int seconds;
    MF_AUTO(mf_buffer) struct mf_buffer answer, url;
    mf_buffer_init(&answer, ANSWER_BYTES);
    mf_buffer_init(&url, URL_BYTES);
    if (!mf_fetch_seconds(f, &seconds, err) || !make_url(from, match, &url, err))
        return NULL;
    const struct mf_web_request request = {.url = url.data,
                                           .accept = "application/dicom+json",
                                           .timeout_s = seconds,
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

static bool retrieve(const struct mf_fetch *f, const struct mf_fetch_source *from,
                     const char *study, struct mf_error *err)
{
    char url[URL_BYTES];
    long status = 0;
    int seconds;
    struct objects o = {.fetch = f};
    if (!mf_fetch_seconds(f, &seconds, err))
        return false;
    snprintf(url, sizeof url, "%s/studies/%s", from->address, study);
    const struct mf_web_request request = {
        .url = url,
        .accept = "multipart/related; type=\"application/dicom\"; transfer-syntax=*",
        .timeout_s = seconds,
        .max_bytes = (uint64_t)f->config->http.max_body_bytes,
        .data = take_objects,
        .context = &o};
    bool ok = mf_web_send(&request, &status, err) && judge(status, err);
    if (ok && !o.multipart)
        ok = mf_error_set(err, MF_ERR_NOT_FOUND, "the source has no such study");
    ok = ok && mf_multipart_finish(o.multipart, err);
    mf_multipart_free(o.multipart);
    return ok;
}

const struct mf_fetch_way mf_fetch_web = {find, retrieve};
