/* GET /openapi.json: the contract, compiled in from server/openapi.json (made from openapi.yaml).
 */
#include "server/endpoints.h"

extern const char mf_openapi_json[];
extern const size_t mf_openapi_json_len;

static bool get(struct mf_request *request, struct mf_error *err)
{
    (void)err;
    mf_respond_static(request, 200, "application/json", mf_openapi_json, mf_openapi_json_len);
    return true;
}

const struct mf_endpoint mf_endpoint_openapi = {
    .method = "GET", .pattern = "/openapi.json", .quick = true, .handle = get};
