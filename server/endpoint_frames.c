/*
 * GET /v1/jobs/{id}/frames and …/{n}: the images that a result was made of, for people who look at
 * it. The list is made of the index alone; a picture is decoded when it is asked for, in a decoder.
 */
#include "server/artifacts.h"
#include "server/endpoints.h"
#include "server/frame_picture.h"
#include "server/job_response.h"
#include "server/numbers.h"
#include "server/services.h"

#include <string.h>

enum { PICTURE_BYTES = 512 << 20, MAX_SIDE = 65535, MAX_FRAME = 1 << 20 };

static const char *const JSON_ONLY[] = {"application/json"};
static const char *const PNG_ONLY[] = {"image/png"};

static const json_t *frames_of(const struct mf_job_artifacts *a)
{
    return json_object_get(json_object_get(a->result, "study"), "frames");
}

static const struct mf_index_object *object_of(const struct mf_job_artifacts *a,
                                               const json_t *frame)
{
    return mf_artifact_object(a->upload.index, mf_json_get_string(frame, "sop_instance_uid", NULL));
}

/* --- the list --- */

static json_t *spacing_json(const struct mf_index_object *o)
{
    const double *mm = o->pixel_spacing[0] > 0 ? o->pixel_spacing : o->imager_pixel_spacing;
    return mm[0] > 0 ? json_pack("[f, f]", mm[0], mm[1]) : json_null();
}

static json_t *frame_json(const struct mf_job_artifacts *a, const char *job, size_t i)
{
    const json_t *frame = json_array_get(frames_of(a), i);
    const struct mf_index_object *o = object_of(a, frame);
    return json_pack(
        "{s:o, s:O, s:O, s:O, s:O, s:O, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "href",
        o ? json_sprintf("/v1/jobs/%s/frames/%zu", job, i) : json_null(), "study_instance_uid",
        json_object_get(frame, "study_instance_uid"), "sop_instance_uid",
        json_object_get(frame, "sop_instance_uid"), "index", json_object_get(frame, "index"),
        "role", json_object_get(frame, "role"), "acquired", json_object_get(frame, "acquired"),
        "rows", o ? json_integer(o->rows) : json_null(), "columns",
        o ? json_integer(o->columns) : json_null(), "spacing_mm", o ? spacing_json(o) : json_null(),
        "modality", mf_json_string(o ? o->modality : NULL), "view",
        mf_json_string(o ? o->view_position : NULL), "body_part",
        mf_json_string(o ? o->body_part : NULL), "laterality",
        mf_json_string(o ? o->laterality : NULL), "photometric",
        mf_json_string(o ? o->photometric : NULL));
}

static json_t *list_json(const struct mf_job_artifacts *a, const char *job)
{
    json_t *list = json_array();
    for (size_t i = 0; list && i < json_array_size(frames_of(a)); i++)
        if (json_array_append_new(list, frame_json(a, job, i)) != 0) {
            json_decref(list);
            list = NULL;
        }
    return json_pack("{s:s, s:s, s:o, s:o}", "schema", "medfusion.frames/1", "job", job, "subject",
                     mf_artifact_subject(a->upload.index, a->result), "frames", list);
}

static bool get_list(struct mf_request *request, struct mf_error *err)
{
    static const char *const no_query[] = {NULL};
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(MF_RECORD_BYTES);
    MF_AUTO(mf_job_artifacts) struct mf_job_artifacts a = {.fd = -1};
    struct mf_job_record record = {0};
    bool answered = false;
    if (!mf_request_accepts(request, JSON_ONLY[0], err) ||
        !mf_request_only_query(request, no_query, err) ||
        !mf_request_record(request, arena, &record, &answered, err))
        return false;
    return answered ||
           (mf_job_artifacts_read(&record, request->services->blobs, NULL, &a, err) &&
            mf_respond_json_take(request, 200, JSON_ONLY[0], list_json(&a, record.job.id), err));
}

/* --- one picture --- */

static bool read_query(const struct mf_request *request, struct mf_frame_picture *ret,
                       struct mf_error *err)
{
    static const char *const known[] = {"bits", "side", NULL};
    const char *bits = mf_request_query(request, "bits"), *side = mf_request_query(request, "side");
    ret->bits = 8;
    if (!mf_request_only_query(request, known, err))
        return false;
    if (bits && (!mf_number_parse(bits, 8, 16, &ret->bits) || ret->bits % 8 != 0))
        return mf_error_set(err, MF_ERR_MALFORMED, "query parameter \"bits\" must be 8 or 16");
    if (side && !mf_number_parse(side, 1, MAX_SIDE, &ret->side))
        return mf_error_set(err, MF_ERR_MALFORMED,
                            "query parameter \"side\" must be a number of pixels from 1 to %d",
                            (int)MAX_SIDE);
    return true;
}

static bool respond_picture(struct mf_request *request, struct mf_job_artifacts *a, uint32_t number,
                            const struct mf_frame_picture *wanted, struct mf_error *err)
{
    MF_AUTO(mf_frame_set) struct mf_frame_set decoded = {.count = 0};
    MF_AUTO(mf_buffer) struct mf_buffer png;
    mf_buffer_init(&png, PICTURE_BYTES);
    const json_t *frame = json_array_get(frames_of(a), number);
    const struct mf_index_object *object = object_of(a, frame);
    if (!object)
        return mf_error_set(err, MF_ERR_NOT_FOUND, "the result has no such frame");
    if (!mf_artifact_decode(&a->images, object, (uint32_t)mf_json_get_int(frame, "index", 0),
                            &decoded, err) ||
        !mf_frame_picture(&decoded.frames[0], wanted, &png, err))
        return false;
    size_t len = 0;
    char *body = mf_buffer_take(&png, &len);
    if (!body)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a picture");
    mf_respond_take(request, 200, PNG_ONLY[0], body, len);
    return true;
}

static bool get_one(struct mf_request *request, struct mf_error *err)
{
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(MF_RECORD_BYTES);
    MF_AUTO(mf_job_artifacts) struct mf_job_artifacts a = {.fd = -1};
    struct mf_job_record record = {0};
    struct mf_frame_picture wanted = {0};
    uint32_t number = 0;
    bool answered = false;
    if (!mf_request_accepts(request, PNG_ONLY[0], err) || !read_query(request, &wanted, err))
        return false;
    if (!mf_number_parse(request->parameters[1], 0, MAX_FRAME, &number))
        return mf_error_set(err, MF_ERR_NOT_FOUND, "the result has no such frame");
    if (!mf_request_record(request, arena, &record, &answered, err))
        return false;
    return answered || (mf_job_artifacts_read(&record, request->services->blobs,
                                              request->services->decoder, &a, err) &&
                        respond_picture(request, &a, number, &wanted, err));
}

const struct mf_endpoint mf_endpoint_frames = {
    .method = "GET", .pattern = "/v1/jobs/{id}/frames", .handle = get_list};

const struct mf_endpoint mf_endpoint_frame = {
    .method = "GET", .pattern = "/v1/jobs/{id}/frames/{n}", .slow = true, .handle = get_one};
