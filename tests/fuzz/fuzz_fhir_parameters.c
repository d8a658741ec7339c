/*
 * Any bytes as the body of POST /fhir/$infer: refused with a reason that is the sender's, or a
 * multipart body that our own parser reads: one ehr and one options at most, a dicom at least.
 */
#include "server/fhir_parameters.h"

#include "core/buffer.h"
#include "server/multipart.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct parts {
    size_t dicom, ehr, options;
};

static bool keep(void *context, const void *data, size_t len, struct mf_error *err)
{
    return mf_buffer_append(context, data, len, err);
}

static bool begin(void *context, const char *name, struct mf_error *err)
{
    struct parts *parts = context;
    (void)err;
    parts->dicom += strcmp(name, "dicom") == 0;
    parts->ehr += strcmp(name, "ehr") == 0;
    parts->options += strcmp(name, "options") == 0;
    return true;
}

static bool data(void *context, const void *bytes, size_t len, struct mf_error *err)
{
    (void)context;
    (void)err;
    return bytes || len == 0;
}

static bool end(void *context, struct mf_error *err)
{
    (void)context;
    (void)err;
    return true;
}

static void read_back(const struct mf_buffer *body)
{
    static const struct mf_multipart_sink sink = {begin, data, end};
    struct mf_error err = MF_ERROR_INIT;
    struct parts parts = {0, 0, 0};
    MF_AUTO(mf_multipart)
    struct mf_multipart *m = mf_multipart_new("multipart/form-data; boundary=fuzz-boundary",
                                              1 << 20, &sink, &parts, &err);
    if (!m || !mf_multipart_feed(m, body->data, body->len, &err) || !mf_multipart_finish(m, &err) ||
        parts.dicom == 0 || parts.ehr > 1 || parts.options > 1)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    /* base64 decodes to any bytes, so an input can hold the boundary on purpose; a real one is
     * drawn afresh */
    static const char boundary[MF_FHIR_BOUNDARY] = "fuzz-boundary";
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_buffer) struct mf_buffer body;
    mf_buffer_init(&body, 4 << 20);
    if (mf_fhir_parameters_to_multipart((const char *)bytes, size, boundary, keep, &body, &err)) {
        if (!memmem(bytes, size, "ZnV6e", 5)) /* its beginning in base64 */
            read_back(&body);
    } else if (err.code != MF_ERR_MALFORMED && err.code != MF_ERR_UNUSABLE &&
               err.code != MF_ERR_TOO_LARGE) {
        abort();
    }
    return 0;
}
