/* GET /v1/jobs: jobs, newest first, filtered, a page at a time (RFC 8288 `next`). */
#include "server/endpoints.h"
#include "server/job_response.h"
#include "server/paging.h"

#include "core/clock.h"

enum { DEFAULT_LIMIT = 100, MAX_LIMIT = 1000 };

static const char *const PARAMETERS[] = {
    "state", "priority", "created_from", "created_to", "limit", "cursor", NULL};

static bool read_time(const struct mf_request *request, const char *name, int64_t *ret,
                      struct mf_error *err)
{
    const char *text = mf_request_query(request, name);
    struct mf_time t;
    struct mf_error ignored = MF_ERROR_INIT;
    if (!text)
        return true;
    if (!mf_time_parse_fhir(text, &t, &ignored) || t.precision != MF_TIME_SECOND || t.local)
        return mf_paging_bad(err, name);
    *ret = t.begin > 0 ? t.begin : 1; /* 0 would be no limit */
    return true;
}

static bool read_filter(const struct mf_request *request, struct mf_job_filter *filter,
                        struct mf_error *err)
{
    const char *state = mf_request_query(request, "state");
    const char *priority = mf_request_query(request, "priority");
    enum mf_job_state s;
    enum mf_priority p;
    int64_t limit = DEFAULT_LIMIT;
    if (state && !mf_job_state_parse(state, &s))
        return mf_paging_bad(err, "state");
    if (priority && !mf_priority_parse(priority, &p))
        return mf_paging_bad(err, "priority");
    *filter = (struct mf_job_filter){.tenant = request->tenant,
                                     .state = state ? (int)s : -1,
                                     .priority = priority ? (int)p : -1};
    if (!mf_paging_integer(request, "limit", 1, MAX_LIMIT, &limit, err) ||
        !mf_paging_integer(request, "cursor", 1, MF_PAGING_MAX_CURSOR, &filter->cursor, err) ||
        !read_time(request, "created_from", &filter->created_from_ms, err) ||
        !read_time(request, "created_to", &filter->created_to_ms, err))
        return false;
    filter->limit = (size_t)limit;
    return true;
}

static bool list(struct mf_request *request, struct mf_error *err)
{
    struct mf_job_filter filter;
    struct mf_job *jobs = NULL;
    size_t n = 0;
    int64_t next = 0;
    const char *target = NULL;
    if (!mf_request_only_query(request, PARAMETERS, err) || !read_filter(request, &filter, err) ||
        !mf_store_list(request->store, &filter, request->arena, &jobs, &n, &next, err))
        return false;
    if (next && !(target = mf_paging_next(request, "/v1/jobs", PARAMETERS, next, err)))
        return false;
    json_t *array = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(array, mf_job_to_json(&jobs[i]));
    return mf_respond_json_take(
        request, 200, "application/json",
        json_pack("{s:o, s:o}", "jobs", array, "next", mf_json_string(target)), err);
}

const struct mf_endpoint mf_endpoint_jobs_list = {
    .method = "GET", .pattern = "/v1/jobs", .handle = list};
