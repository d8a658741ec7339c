/* Router: the table of endpoints, and which of them serves a request. */
#ifndef MF_SERVER_ROUTER_H
#define MF_SERVER_ROUTER_H

#include "server/access.h"
#include "server/request.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Sets request->endpoint and its path parameters. MF_ERR_NOT_FOUND, or MF_ERR_METHOD with an Allow
 * field in the response. */
bool mf_route(struct mf_request *request, struct mf_error *err) MF_CHECK_RESULT;

/* All endpoints, for metrics: a stable index of each. */
size_t mf_route_count(void);
const struct mf_endpoint *mf_route_at(size_t i);
size_t mf_route_index(const struct mf_endpoint *endpoint); /* mf_route_count() for none */
/* The right that a request for it needs. */
enum mf_access mf_route_access(const struct mf_endpoint *endpoint);

#ifdef __cplusplus
}
#endif

#endif
