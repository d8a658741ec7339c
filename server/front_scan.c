/* Scanner of the front. */
#include "server/front_scan.h"

#include "server/pipeline.h"

#include <stdlib.h>
#include <string.h>

/* The inputs that a decoder reads, in their order. */
static struct mf_part *make_parts(const struct mf_scan *scan, size_t *ret_count,
                                  struct mf_error *err)
{
    struct mf_part *parts = calloc(scan->input_count + 1, sizeof *parts);
    if (!parts) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for an upload");
        return NULL;
    }
    size_t n = 0;
    for (size_t i = 0; i < scan->input_count; i++) {
        const struct mf_job_input *in = &scan->inputs[i];
        bool dicom = strcmp(in->part, "dicom") == 0;
        if (dicom || strcmp(in->part, "ehr") == 0)
            parts[n++] = (struct mf_part){.kind = dicom ? MF_PART_DICOM : MF_PART_EHR,
                                          .fd = scan->fd,
                                          .offset = in->offset,
                                          .size = in->size};
    }
    *ret_count = n;
    return parts;
}

/* A decoder that was killed from outside says nothing about the input: it gets a second chance. */
static bool scan_twice(struct mf_decoder *decoder, const struct mf_part *parts, size_t n,
                       const struct mf_decoder_meanwhile *meanwhile, struct mf_buffer *ret_index,
                       int *ret_connection, struct mf_error *err)
{
    struct mf_error first = MF_ERROR_INIT;
    if (mf_decoder_scan_and_stay(decoder, parts, n, meanwhile, ret_index, ret_connection, &first))
        return true;
    if (first.code != MF_ERR_CRASHED && first.code != MF_ERR_UNAVAILABLE)
        return mf_error_set(err, first.code, "%s", first.msg);
    mf_buffer_clear(ret_index);
    return mf_decoder_scan_and_stay(decoder, parts, n, NULL, ret_index, ret_connection, err);
}

bool mf_front_scan(void *context, const struct mf_scan *scan, struct mf_scanned *ret,
                   struct mf_error *err)
{
    struct mf_front_scan *s = context;
    struct mf_pipeline_options options = MF_PIPELINE_OPTIONS_INIT;
    struct mf_acceptance acceptance;
    MF_AUTO(mf_fd) int connection = -1;
    size_t n = 0;
    if (!mf_pipeline_options_parse(scan->options, scan->options_len, &options, err))
        return false;
    const struct mf_route_origin origin = {.tenant = scan->tenant};
    options.identity = s->identity;
    options.routing = s->routing;
    options.origin = &origin;
    MF_AUTO(mf_mem) struct mf_part *parts = make_parts(scan, &n, err);
    const struct mf_decoder_meanwhile meanwhile = {scan->meanwhile, scan->meanwhile_context};
    if (!parts || !scan_twice(s->decoder, parts, n, scan->meanwhile ? &meanwhile : NULL,
                              &ret->index, &connection, err))
        return false;
    struct mf_pipeline_ahead ahead = {connection, parts, n, false};
    if (!mf_pipeline_accept(s->registry, ret->index.data ? ret->index.data : "", ret->index.len,
                            &options, &acceptance, scan->ahead ? &ahead : NULL, err))
        return false;
    snprintf(ret->model, sizeof ret->model, "%s", acceptance.model);
    ret->route = acceptance.route;
    if (ahead.asked) {
        ret->frames_ahead = connection;
        connection = -1;
    }
    return true;
}

void mf_front_prepare(void *context)
{
    struct mf_front_scan *s = context;
    mf_decoder_prepare(s->decoder);
}
