/* GET /v1/jobs/{id}/result: the result as Accept asks. */
#include "server/endpoints.h"
#include "server/job_response.h"

enum { RESULT_BYTES = 64 << 20 };

static bool get(struct mf_request *request, struct mf_error *err)
{
    static const char *const no_query[] = {NULL};
    struct mf_job job;
    MF_AUTO(mf_buffer) struct mf_buffer text;
    mf_buffer_init(&text, RESULT_BYTES);
    const char *id = mf_request_job_id(request, err);
    return id && mf_request_only_query(request, no_query, err) &&
           mf_store_result(request->store, MF_TENANT_DEFAULT, id, &job, &text, err) &&
           mf_respond_result(request, &job, &text, false, err);
}

const struct mf_endpoint mf_endpoint_result = {
    .method = "GET", .pattern = "/v1/jobs/{id}/result", .handle = get};
