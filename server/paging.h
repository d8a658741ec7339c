/* Paging: lists that are given a page at a time, by number parameters of the query and the address
 * of the next page (RFC 8288 `next`). */
#ifndef MF_SERVER_PAGING_H
#define MF_SERVER_PAGING_H

#include "server/request.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What every reader of JSON holds exactly. */
#define MF_PAGING_MAX_CURSOR ((INT64_C(1) << 53) - 1)

/* The refusal of a query parameter's value: MF_ERR_MALFORMED that names it. Returns false. */
bool mf_paging_bad(struct mf_error *err, const char *name);

/* A query parameter that is a number from `min` to `max`; *ret stays as it is without one. */
bool mf_paging_integer(const struct mf_request *request, const char *name, int64_t min, int64_t max,
                       int64_t *ret, struct mf_error *err) MF_CHECK_RESULT;

/* The same query (those of `parameters`, NULL-terminated, that were given) with another cursor, as
 * an address in the request's arena, which is also put into a Link field. NULL on failure. */
const char *mf_paging_next(struct mf_request *request, const char *path,
                           const char *const parameters[], int64_t cursor, struct mf_error *err);

#ifdef __cplusplus
}
#endif

#endif
