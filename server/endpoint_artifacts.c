/* GET /v1/jobs/{id}/artifacts and …/{name}: the DICOM objects of a result, made when asked for, and
 * the masks that they are made of. */
#include "server/artifacts.h"
#include "server/endpoints.h"
#include "server/job_response.h"
#include "server/negotiate.h"
#include "server/services.h"

#include <string.h>

enum { OBJECT_BYTES = 1 << 30 };

static const char *const JSON_ONLY[] = {"application/json"};
static const char MASKS[] = "masks";
static const char *const DICOM_ONLY[] = {"application/dicom"};

static bool check_accept(const struct mf_request *request, const char *const offers[1],
                         struct mf_error *err)
{
    return mf_negotiate(mf_request_header(request, "Accept"), offers, 1) >= 0 ||
           mf_error_set(err, MF_ERR_NOT_ACCEPTABLE, "this is given as %s only", offers[0]);
}

static json_t *item_json(const struct mf_job_record *record, const struct mf_write_item *item)
{
    return json_pack("{s:s, s:o, s:s, s:s, s:s, s:s}", "name", item->name, "href",
                     json_sprintf("/v1/jobs/%s/artifacts/%s", record->job.id, item->name),
                     "media_type", DICOM_ONLY[0], "sop_class_uid", item->sop_class_uid,
                     "series_instance_uid", item->series_instance_uid, "sop_instance_uid",
                     item->sop_instance_uid);
}

/* The masks that the segmentations are made of, as JSON. */
static json_t *masks_json(const struct mf_job_record *record)
{
    return json_pack("{s:s, s:o, s:s, s:n, s:n, s:n}", "name", MASKS, "href",
                     json_sprintf("/v1/jobs/%s/artifacts/%s", record->job.id, MASKS), "media_type",
                     JSON_ONLY[0], "sop_class_uid", "series_instance_uid", "sop_instance_uid");
}

static json_t *list_json(const struct mf_job_record *record, const struct mf_write_set *set)
{
    size_t n = 0;
    const struct mf_write_item *items = mf_write_set_items(set, &n);
    json_t *list = json_array();
    for (size_t i = 0; list && i < n + (record->masks != NULL); i++)
        if (json_array_append_new(list,
                                  i < n ? item_json(record, &items[i]) : masks_json(record)) != 0) {
            json_decref(list);
            list = NULL;
        }
    return json_pack("{s:s, s:s, s:o}", "schema", "medfusion.artifacts/1", "job", record->job.id,
                     "artifacts", list);
}

static bool get_list(struct mf_request *request, struct mf_error *err)
{
    static const char *const no_query[] = {NULL};
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(MF_RECORD_BYTES);
    MF_AUTO(mf_job_artifacts) struct mf_job_artifacts a = {.fd = -1};
    struct mf_job_record record = {0};
    bool answered = false;
    if (!check_accept(request, JSON_ONLY, err) || !mf_request_only_query(request, no_query, err) ||
        !mf_request_record(request, arena, &record, &answered, err))
        return false;
    return answered ||
           (mf_job_artifacts_open(&record, request->services->blobs, NULL, &a, err) &&
            mf_respond_json_take(request, 200, JSON_ONLY[0], list_json(&record, a.set), err));
}

static bool respond_object(struct mf_request *request, struct mf_job_artifacts *a,
                           const struct mf_write_item *item, struct mf_error *err)
{
    MF_AUTO(mf_buffer) struct mf_buffer object;
    mf_buffer_init(&object, OBJECT_BYTES);
    if (!mf_artifact_make(a->set, item, &a->images, &object, err) ||
        !mf_respond_field(request, err, "Content-Disposition", "attachment; filename=\"%s.dcm\"",
                          item->name))
        return false;
    size_t len = 0;
    char *body = mf_buffer_take(&object, &len);
    if (!body)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a DICOM object");
    mf_respond_take(request, 200, DICOM_ONLY[0], body, len);
    return true;
}

static bool respond_masks(struct mf_request *request, const struct mf_job_record *record,
                          struct mf_error *err)
{
    char *text = record->masks ? strdup(record->masks) : NULL;
    if (!record->masks)
        return mf_error_set(err, MF_ERR_NOT_FOUND, "the result has no such artifact");
    if (!text)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the masks");
    mf_respond_take(request, 200, JSON_ONLY[0], text, record->masks_len);
    return true;
}

static bool get_one(struct mf_request *request, struct mf_error *err)
{
    static const char *const no_query[] = {NULL};
    const char *name = request->parameters[1];
    bool masks = strcmp(name, MASKS) == 0;
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(MF_RECORD_BYTES);
    MF_AUTO(mf_job_artifacts) struct mf_job_artifacts a = {.fd = -1};
    struct mf_job_record record = {0};
    bool answered = false;
    if (!check_accept(request, masks ? JSON_ONLY : DICOM_ONLY, err) ||
        !mf_request_only_query(request, no_query, err) ||
        !mf_request_record(request, arena, &record, &answered, err))
        return false;
    if (answered || masks)
        return answered || respond_masks(request, &record, err);
    if (!mf_job_artifacts_open(&record, request->services->blobs, request->services->decoder, &a,
                               err))
        return false;
    const struct mf_write_item *item = mf_write_set_find(a.set, name);
    if (!item)
        return mf_error_set(err, MF_ERR_NOT_FOUND, "the result has no such artifact");
    return respond_object(request, &a, item, err);
}

const struct mf_endpoint mf_endpoint_artifacts = {
    .method = "GET", .pattern = "/v1/jobs/{id}/artifacts", .handle = get_list};

const struct mf_endpoint mf_endpoint_artifact = {
    .method = "GET", .pattern = "/v1/jobs/{id}/artifacts/{name}", .slow = true, .handle = get_one};
