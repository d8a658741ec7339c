/* GET and DELETE /v1/jobs/{id}, DELETE /v1/jobs/{id}/data: one job's state, its cancellation, its
 * purge. */
#include "server/endpoints.h"
#include "server/job_response.h"
#include "server/services.h"

#include "core/digest.h"

#include <string.h>

static const char *const NO_QUERY[] = {NULL};

/* Whether If-None-Match holds this entity tag, or "*". */
static bool matches(const char *field, const char *tag)
{
    return field && (strcmp(field, "*") == 0 || strstr(field, tag) != NULL);
}

static bool respond_tagged(struct mf_request *request, struct mf_error *err)
{
    unsigned char digest[MF_SHA256_BYTES];
    char hex[MF_SHA256_HEX], tag[40];
    mf_sha256(request->response.body, request->response.body_len, digest);
    snprintf(tag, sizeof tag, "\"%.32s\"", mf_sha256_to_hex(digest, hex));
    if (!mf_respond_field(request, err, "ETag", "%s", tag))
        return false;
    if (matches(mf_request_header(request, "If-None-Match"), tag))
        mf_respond_empty(request, 304);
    return true;
}

static bool get(struct mf_request *request, struct mf_error *err)
{
    struct mf_job job;
    const char *id = mf_request_job_id(request, err);
    return id && mf_request_only_query(request, NO_QUERY, err) &&
           mf_store_job(request->store, request->tenant, id, &job, err) &&
           mf_respond_job(request, 200, &job, err) && respond_tagged(request, err);
}

static bool cancel(struct mf_request *request, struct mf_error *err)
{
    struct mf_job job;
    const char *id = mf_request_job_id(request, err);
    return id && mf_request_only_query(request, NO_QUERY, err) &&
           mf_store_cancel(request->store, request->tenant, id, &job, err) &&
           mf_respond_job(request, 202, &job, err);
}

static bool purge(struct mf_request *request, struct mf_error *err)
{
    const char *const *locators = NULL;
    size_t n = 0;
    const char *id = mf_request_job_id(request, err);
    if (!id || !mf_request_only_query(request, NO_QUERY, err) ||
        !mf_store_purge(request->store, request->tenant, id, request->arena, &locators, &n, err))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!mf_blobs_delete(request->services->blobs, locators[i], err))
            return false;
    mf_respond_empty(request, 204);
    return true;
}

const struct mf_endpoint mf_endpoint_job_get = {
    .method = "GET", .pattern = "/v1/jobs/{id}", .handle = get};
const struct mf_endpoint mf_endpoint_job_cancel = {
    .method = "DELETE", .pattern = "/v1/jobs/{id}", .handle = cancel};
const struct mf_endpoint mf_endpoint_job_purge = {
    .method = "DELETE", .pattern = "/v1/jobs/{id}/data", .handle = purge};
