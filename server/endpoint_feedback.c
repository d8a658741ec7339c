/* PUT and GET /v1/jobs/{id}/feedback: what readers say about a result. */
#include "server/access.h"
#include "server/collected_body.h"
#include "server/endpoints.h"
#include "server/feedback.h"
#include "server/job_response.h"
#include "server/negotiate.h"

static const char *const NO_QUERY[] = {NULL};

enum { BODY_BYTES = 1 << 20 };

static bool begin(struct mf_request *request, struct mf_error *err)
{
    if (!mf_media_type_is(mf_request_header(request, "Content-Type"), "application/json"))
        return mf_error_set(err, MF_ERR_UNSUPPORTED, "Content-Type must be application/json");
    return mf_collect_begin(request, BODY_BYTES, err);
}

static bool data(struct mf_request *request, const void *bytes, size_t len, struct mf_error *err)
{
    return mf_collect_data(request, "feedback", bytes, len, err);
}

static bool respond(struct mf_request *request, const struct mf_observed *observed,
                    struct mf_error *err)
{
    json_t *json = mf_feedback_to_json(observed, err);
    return json && mf_respond_json_take(request, 200, "application/json", json, err);
}

static bool put(struct mf_request *request, struct mf_error *err)
{
    struct mf_observed observed;
    const struct mf_buffer *body = mf_collected(request);
    const char *id = mf_request_job_id(request, err);
    return id && mf_request_only_query(request, NO_QUERY, err) &&
           mf_feedback_give(request->store, request->tenant,
                            request->principal ? request->principal->name : NULL, id,
                            body->data ? body->data : "", body->len, request->arena, &observed,
                            err) &&
           respond(request, &observed, err);
}

static bool get(struct mf_request *request, struct mf_error *err)
{
    struct mf_observed observed;
    const char *id = mf_request_job_id(request, err);
    return id && mf_request_only_query(request, NO_QUERY, err) &&
           mf_feedback_read(request->store, request->tenant, id, request->arena, &observed, err) &&
           respond(request, &observed, err);
}

const struct mf_endpoint mf_endpoint_feedback_put = {.method = "PUT",
                                                     .pattern = "/v1/jobs/{id}/feedback",
                                                     .begin = begin,
                                                     .data = data,
                                                     .handle = put,
                                                     .dispose = mf_collect_dispose};
const struct mf_endpoint mf_endpoint_feedback_get = {
    .method = "GET", .pattern = "/v1/jobs/{id}/feedback", .handle = get};
