/* GET /v1/jobs/{id}/result: the result as Accept asks. */
#include "server/endpoints.h"
#include "server/job_response.h"

static bool get(struct mf_request *request, struct mf_error *err)
{
    static const char *const no_query[] = {NULL};
    MF_AUTO(mf_stored_result) struct mf_stored_result stored = {.job = {.state = MF_JOB_QUEUED}};
    const char *id = mf_request_job_id(request, err);
    return id && mf_request_only_query(request, no_query, err) &&
           mf_stored_result_read(request, id, &stored, err) &&
           mf_respond_result(request, &stored, false, err);
}

const struct mf_endpoint mf_endpoint_result = {
    .method = "GET", .pattern = "/v1/jobs/{id}/result", .handle = get};
