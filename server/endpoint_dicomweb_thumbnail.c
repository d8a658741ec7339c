/*
 * GET
 * /dicom-web/studies/{study}[/series/{series}[/instances/{instance}[/frames/{frame}]]]/thumbnail:
 * one small picture that stands for what the path names (PS3.18 10.4.1.1.5): the middle image of
 * its first series that has images, and of that the middle frame.
 */
#include "server/dicomweb.h"
#include "server/endpoints.h"
#include "server/numbers.h"
#include "server/rendered.h"

#include <string.h>

enum { PICTURE_BYTES = 16 << 20, MAX_FRAME = 1 << 20, MOST_TRIES = 64 };

/* How many of the rows, which are sorted, are of the first one's series. */
static size_t series_length(const struct mf_found *rows, size_t n)
{
    size_t i = 1;
    while (i < n && strcmp(rows[i].stored.instance.values[MF_SERIES_UID],
                           rows[0].stored.instance.values[MF_SERIES_UID]) == 0)
        i++;
    return i;
}

/* The picture of one instance: of the frame, or (0) of the middle one. */
static bool picture(struct mf_request *request, const struct mf_stored *stored,
                    const struct mf_rendering *r, uint32_t frame, struct mf_buffer *out,
                    struct mf_error *err)
{
    MF_AUTO(mf_rendered_source) struct mf_rendered_source s = {.fd = -1};
    if (!mf_rendered_open(request, stored, &s, err))
        return false;
    if (frame > s.object->frames)
        return mf_error_set(err, MF_ERR_NOT_FOUND, "the instance has %u frames",
                            (unsigned)s.object->frames);
    return mf_rendered_append(&s, r, frame ? frame : s.object->frames / 2 + 1, out, err);
}

/* Of a series the middle instance, else those beside it in turn; then the next series. */
static bool find_picture(struct mf_request *request, const struct mf_found *rows, size_t n,
                         const struct mf_rendering *r, uint32_t frame, struct mf_buffer *out,
                         struct mf_error *err)
{
    struct mf_error first = MF_ERROR_INIT;
    size_t tries = 0;
    for (size_t begin = 0, count; begin < n; begin += count) {
        count = series_length(rows + begin, n - begin);
        for (size_t i = 0; i < count && tries < MOST_TRIES; i++, tries++) {
            struct mf_error problem = MF_ERROR_INIT;
            size_t step = (i + 1) / 2, middle = count / 2, len = out->len;
            size_t at = begin + (middle + (i % 2 ? count - step : step)) % count;
            if (picture(request, &rows[at].stored, r, frame, out, &problem))
                return true;
            if (problem.code != MF_ERR_NOT_ACCEPTABLE)
                return mf_error_set(err, problem.code, "%s", problem.msg);
            out->len = len;
            mf_error_set(&first, problem.code, "%s", problem.msg);
        }
    }
    return mf_error_set(err, first.code, "%s", first.msg);
}

static bool thumbnail(struct mf_request *request, struct mf_error *err)
{
    struct mf_rendering r;
    struct mf_found *rows = NULL;
    size_t n = 0;
    uint32_t frame = 0;
    const char *number = request->parameters[2] ? request->parameters[3] : NULL;
    MF_AUTO(mf_buffer) struct mf_buffer body;
    mf_buffer_init(&body, PICTURE_BYTES);
    if (!mf_rendering_read(request, true, &r, err))
        return false;
    if (number && !mf_number_parse(number, 1, MAX_FRAME, &frame))
        return mf_error_set(err, MF_ERR_MALFORMED,
                            "the path must name one frame as a number, from 1");
    if (!mf_dicomweb_find(request, &rows, &n, err))
        return false;
    mf_dicomweb_sort(rows, n);
    return find_picture(request, rows, n, &r, frame, &body, err) &&
           mf_rendered_respond(request, r.type, &body, err);
}

#define STUDY MF_DICOMWEB_ROOT "/studies/{study}"
#define SERIES STUDY "/series/{series}"
#define INSTANCE SERIES "/instances/{instance}"

const struct mf_endpoint mf_endpoint_wado_study_thumbnail = {
    .method = "GET", .pattern = STUDY "/thumbnail", .slow = true, .handle = thumbnail};
const struct mf_endpoint mf_endpoint_wado_series_thumbnail = {
    .method = "GET", .pattern = SERIES "/thumbnail", .slow = true, .handle = thumbnail};
const struct mf_endpoint mf_endpoint_wado_instance_thumbnail = {
    .method = "GET", .pattern = INSTANCE "/thumbnail", .slow = true, .handle = thumbnail};
const struct mf_endpoint mf_endpoint_wado_frame_thumbnail = {.method = "GET",
                                                             .pattern = INSTANCE
                                                             "/frames/{frame}/thumbnail",
                                                             .slow = true,
                                                             .handle = thumbnail};
