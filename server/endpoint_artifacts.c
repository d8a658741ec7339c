/* GET /v1/jobs/{id}/artifacts and …/{name}: the DICOM objects of a result, made when asked for, and
 * what is kept beside it: masks, explanation, and the heat maps drawn from that. */
#include "server/artifacts.h"
#include "server/endpoints.h"
#include "server/heatmap.h"
#include "server/job_response.h"
#include "server/services.h"

#include <string.h>

enum { OBJECT_BYTES = 1 << 30 };

static const char *const JSON_ONLY[] = {"application/json"};
static const char MASKS[] = "masks";
static const char EXPLANATION[] = "explanation";
static const char *const DICOM_ONLY[] = {"application/dicom"};
static const char *const PNG_ONLY[] = {"image/png"};

static json_t *item_json(const struct mf_job_record *record, const struct mf_write_item *item)
{
    return json_pack("{s:s, s:o, s:s, s:s, s:s, s:s}", "name", item->name, "href",
                     json_sprintf("/v1/jobs/%s/artifacts/%s", record->job.id, item->name),
                     "media_type", DICOM_ONLY[0], "sop_class_uid", item->sop_class_uid,
                     "series_instance_uid", item->series_instance_uid, "sop_instance_uid",
                     item->sop_instance_uid);
}

/* What is no DICOM object: masks, explanation, heat maps. */
static json_t *other_json(const struct mf_job_record *record, const char *name, const char *type)
{
    return json_pack("{s:s, s:o, s:s, s:n, s:n, s:n}", "name", name, "href",
                     json_sprintf("/v1/jobs/%s/artifacts/%s", record->job.id, name), "media_type",
                     type, "sop_class_uid", "series_instance_uid", "sop_instance_uid");
}

static bool list_explanation(const struct mf_job_record *record, const json_t *explanation,
                             json_t *list)
{
    MF_AUTO(mf_json) json_t *names = mf_heatmap_names(explanation);
    bool ok =
        names && json_array_append_new(list, other_json(record, EXPLANATION, JSON_ONLY[0])) == 0;
    for (size_t i = 0; ok && i < json_array_size(names); i++)
        ok = json_array_append_new(
                 list,
                 other_json(record, json_string_value(json_array_get(names, i)), PNG_ONLY[0])) == 0;
    return ok;
}

static json_t *list_json(const struct mf_job_record *record, const struct mf_job_artifacts *a)
{
    size_t n = 0;
    const struct mf_write_item *items = mf_write_set_items(a->set, &n);
    json_t *list = json_array();
    bool ok = list != NULL;
    for (size_t i = 0; ok && i < n; i++)
        ok = json_array_append_new(list, item_json(record, &items[i])) == 0;
    if (ok && record->masks)
        ok = json_array_append_new(list, other_json(record, MASKS, JSON_ONLY[0])) == 0;
    if (ok && a->explanation)
        ok = list_explanation(record, a->explanation, list);
    if (!ok) {
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
    if (!mf_request_accepts(request, JSON_ONLY[0], err) ||
        !mf_request_only_query(request, no_query, err) ||
        !mf_request_record(request, arena, &record, &answered, err))
        return false;
    return answered ||
           (mf_job_artifacts_open(&record, request->services->blobs, NULL, &a, err) &&
            mf_respond_json_take(request, 200, JSON_ONLY[0], list_json(&record, &a), err));
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

/* A document that is kept beside the result, as it is. */
static bool respond_kept(struct mf_request *request, const char *kept, size_t len,
                         struct mf_error *err)
{
    char *text = kept ? strdup(kept) : NULL;
    if (!kept)
        return mf_error_set(err, MF_ERR_NOT_FOUND, "the result has no such artifact");
    if (!text)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for an artifact");
    mf_respond_take(request, 200, JSON_ONLY[0], text, len);
    return true;
}

static bool respond_heatmap(struct mf_request *request, struct mf_job_artifacts *a,
                            const char *name, struct mf_error *err)
{
    MF_AUTO(mf_buffer) struct mf_buffer picture;
    mf_buffer_init(&picture, OBJECT_BYTES);
    if (!a->explanation)
        return mf_error_set(err, MF_ERR_NOT_FOUND, "the result has no such artifact");
    if (!mf_artifact_heatmap(a->set, a->explanation, name, &a->images, &picture, err))
        return false;
    size_t len = 0;
    char *body = mf_buffer_take(&picture, &len);
    if (!body)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a picture");
    mf_respond_take(request, 200, PNG_ONLY[0], body, len);
    return true;
}

/* Whether this is the name of a picture rather than of a DICOM object. */
static bool is_heatmap(const char *name)
{
    return strncmp(name, "attribution-", 12) == 0 || strncmp(name, "relevance-", 10) == 0 ||
           strcmp(name, "rollout") == 0;
}

static bool get_one(struct mf_request *request, struct mf_error *err)
{
    static const char *const no_query[] = {NULL};
    const char *name = request->parameters[1];
    bool masks = strcmp(name, MASKS) == 0, why = strcmp(name, EXPLANATION) == 0;
    bool picture = is_heatmap(name);
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(MF_RECORD_BYTES);
    MF_AUTO(mf_job_artifacts) struct mf_job_artifacts a = {.fd = -1};
    struct mf_job_record record = {0};
    bool answered = false;
    if (!mf_request_accepts(request,
                            masks || why ? JSON_ONLY[0]
                            : picture    ? PNG_ONLY[0]
                                         : DICOM_ONLY[0],
                            err) ||
        !mf_request_only_query(request, no_query, err) ||
        !mf_request_record(request, arena, &record, &answered, err))
        return false;
    if (answered)
        return true;
    if (masks || why)
        return respond_kept(request, masks ? record.masks : record.explanation,
                            masks ? record.masks_len : record.explanation_len, err);
    if (!mf_job_artifacts_open(&record, request->services->blobs, request->services->decoder, &a,
                               err) ||
        !mf_job_artifacts_amend(&a, request->store, err))
        return false;
    if (picture)
        return respond_heatmap(request, &a, name, err);
    const struct mf_write_item *item = mf_write_set_find(a.set, name);
    if (!item)
        return mf_error_set(err, MF_ERR_NOT_FOUND, "the result has no such artifact");
    return respond_object(request, &a, item, err);
}

const struct mf_endpoint mf_endpoint_artifacts = {
    .method = "GET", .pattern = "/v1/jobs/{id}/artifacts", .handle = get_list};

const struct mf_endpoint mf_endpoint_artifact = {
    .method = "GET", .pattern = "/v1/jobs/{id}/artifacts/{name}", .slow = true, .handle = get_one};
