/*
 * /v1/admin/dead-letters and /v1/admin/dead-letters/{id}: deliveries that were given up, for the
 * scope admin. GET shows them, POST has them delivered again, DELETE drops them; all that fit the
 * query, or one. Several are dropped at once only where the query says which.
 */
#include "server/access.h"
#include "server/dead_letter_json.h"
#include "server/endpoints.h"
#include "server/paging.h"
#include "server/services.h"

enum { DEFAULT_LIMIT = 100 };

static const char *const NO_QUERY[] = {NULL};
static const char *const LIST_QUERY[] = {"tenant", "destination", "limit", "cursor", NULL};
static const char *const FILTER_QUERY[] = {"tenant", "destination", NULL};
static const char JSON[] = "application/json";

/* Those of the query; of the path's id, when it has one. */
static bool read_filter(const struct mf_request *request, const char *const allowed[],
                        struct mf_dead_letter_filter *ret, struct mf_error *err)
{
    *ret = (struct mf_dead_letter_filter){.tenant = mf_request_query(request, "tenant"),
                                          .destination = mf_request_query(request, "destination")};
    if (!mf_request_only_query(request, allowed, err))
        return false;
    if (ret->tenant && !mf_tenant_valid(ret->tenant))
        return mf_paging_bad(err, "tenant");
    if (ret->destination && !*ret->destination)
        return mf_paging_bad(err, "destination");
    const char *id = request->parameters[0];
    return !id || mf_dead_letter_id(id, &ret->id) ||
           mf_error_set(err, MF_ERR_NOT_FOUND, "there is no such dead letter");
}

static bool list(struct mf_request *request, struct mf_error *err)
{
    struct mf_dead_letter_filter filter;
    struct mf_dead_letter *letters = NULL;
    int64_t limit = DEFAULT_LIMIT, cursor = 0, next = 0;
    size_t n = 0;
    const char *target = NULL;
    if (!read_filter(request, LIST_QUERY, &filter, err) ||
        !mf_paging_integer(request, "limit", 1, MF_STORE_BATCH, &limit, err) ||
        !mf_paging_integer(request, "cursor", 1, MF_PAGING_MAX_CURSOR, &cursor, err) ||
        !mf_store_dead_letters(request->store, &filter, cursor, (size_t)limit, request->arena,
                               &letters, &n, &next, err))
        return false;
    if (next &&
        !(target = mf_paging_next(request, "/v1/admin/dead-letters", LIST_QUERY, next, err)))
        return false;
    json_t *array = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(array, mf_dead_letter_to_json(&letters[i]));
    return mf_respond_json_take(
        request, 200, JSON,
        json_pack("{s:o, s:o}", "dead_letters", array, "next", mf_json_string(target)), err);
}

static bool get(struct mf_request *request, struct mf_error *err)
{
    struct mf_dead_letter_filter filter;
    struct mf_dead_letter *letter = NULL;
    size_t n = 0;
    int64_t next;
    if (!read_filter(request, NO_QUERY, &filter, err) ||
        !mf_store_dead_letters(request->store, &filter, 0, 1, request->arena, &letter, &n, &next,
                               err))
        return false;
    if (n == 0)
        return mf_error_set(err, MF_ERR_NOT_FOUND, "there is no such dead letter");
    return mf_respond_json_take(request, 200, JSON, mf_dead_letter_to_json(letter), err);
}

static bool end(struct mf_request *request, const char *const allowed[],
                enum mf_dead_letter_end how, const char *name, struct mf_error *err)
{
    struct mf_dead_letter_filter filter;
    int64_t n = 0;
    if (!read_filter(request, allowed, &filter, err))
        return false;
    if (how == MF_DEAD_LETTER_DROP && !filter.id && !filter.tenant && !filter.destination)
        return mf_error_set(err, MF_ERR_MALFORMED,
                            "the query must say which are dropped: \"tenant\" or \"destination\"");
    return mf_store_dead_letters_end_all(request->store, &filter, how,
                                         request->principal ? request->principal->name : NULL, &n,
                                         err) &&
           mf_respond_json_take(request, 200, JSON, json_pack("{s:I}", name, (json_int_t)n), err);
}

static bool retry_all(struct mf_request *request, struct mf_error *err)
{
    return end(request, FILTER_QUERY, MF_DEAD_LETTER_RETRY, "retried", err);
}

static bool retry_one(struct mf_request *request, struct mf_error *err)
{
    return end(request, NO_QUERY, MF_DEAD_LETTER_RETRY, "retried", err);
}

static bool drop_all(struct mf_request *request, struct mf_error *err)
{
    return end(request, FILTER_QUERY, MF_DEAD_LETTER_DROP, "dropped", err);
}

static bool drop_one(struct mf_request *request, struct mf_error *err)
{
    return end(request, NO_QUERY, MF_DEAD_LETTER_DROP, "dropped", err);
}

const struct mf_endpoint mf_endpoint_dead_letters_list = {
    .method = "GET", .pattern = "/v1/admin/dead-letters", .handle = list};
const struct mf_endpoint mf_endpoint_dead_letters_drop = {
    .method = "DELETE", .pattern = "/v1/admin/dead-letters", .slow = true, .handle = drop_all};
const struct mf_endpoint mf_endpoint_dead_letters_retry = {
    .method = "POST", .pattern = "/v1/admin/dead-letters", .slow = true, .handle = retry_all};
const struct mf_endpoint mf_endpoint_dead_letter_get = {
    .method = "GET", .pattern = "/v1/admin/dead-letters/{id}", .handle = get};
const struct mf_endpoint mf_endpoint_dead_letter_drop = {
    .method = "DELETE", .pattern = "/v1/admin/dead-letters/{id}", .handle = drop_one};
const struct mf_endpoint mf_endpoint_dead_letter_retry = {
    .method = "POST", .pattern = "/v1/admin/dead-letters/{id}", .handle = retry_one};
