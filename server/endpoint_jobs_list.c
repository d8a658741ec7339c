/* GET /v1/jobs: jobs, newest first, filtered, a page at a time (RFC 8288 `next`). */
#include "server/endpoints.h"
#include "server/job_response.h"

#include "core/clock.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_LIMIT = 100, MAX_LIMIT = 1000 };

#define MAX_CURSOR ((INT64_C(1) << 53) - 1) /* what every JSON reader holds exactly */

static const char *const PARAMETERS[] = {
    "state", "priority", "created_from", "created_to", "limit", "cursor", NULL};

static bool bad(struct mf_error *err, const char *name)
{
    return mf_error_set(err, MF_ERR_MALFORMED, "query parameter \"%s\" has an invalid value", name);
}

static bool read_integer(const struct mf_request *request, const char *name, int64_t min,
                         int64_t max, int64_t *ret, struct mf_error *err)
{
    const char *text = mf_request_query(request, name);
    if (!text)
        return true;
    char *end;
    errno = 0;
    long long n = strtoll(text, &end, 10);
    if (errno || !*text || *end || strspn(text, "0123456789") != strlen(text) || n < min || n > max)
        return bad(err, name);
    *ret = n;
    return true;
}

static bool read_time(const struct mf_request *request, const char *name, int64_t *ret,
                      struct mf_error *err)
{
    const char *text = mf_request_query(request, name);
    struct mf_time t;
    struct mf_error ignored = MF_ERROR_INIT;
    if (!text)
        return true;
    if (!mf_time_parse_fhir(text, &t, &ignored) || t.precision != MF_TIME_SECOND || t.local)
        return bad(err, name);
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
        return bad(err, "state");
    if (priority && !mf_priority_parse(priority, &p))
        return bad(err, "priority");
    *filter = (struct mf_job_filter){.tenant = request->tenant,
                                     .state = state ? (int)s : -1,
                                     .priority = priority ? (int)p : -1};
    if (!read_integer(request, "limit", 1, MAX_LIMIT, &limit, err) ||
        !read_integer(request, "cursor", 1, MAX_CURSOR, &filter->cursor, err) ||
        !read_time(request, "created_from", &filter->created_from_ms, err) ||
        !read_time(request, "created_to", &filter->created_to_ms, err))
        return false;
    filter->limit = (size_t)limit;
    return true;
}

/* Appends "name=value" with everything but unreserved characters escaped. */
static bool put_parameter(struct mf_buffer *out, const char *name, const char *value,
                          struct mf_error *err)
{
    if (!mf_buffer_printf(out, err, "%s%s=", out->len ? "&" : "?", name))
        return false;
    for (; *value; value++) {
        unsigned char c = (unsigned char)*value;
        bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                     c == '-' || c == '.' || c == '_' || c == '~';
        if (!mf_buffer_printf(out, err, plain ? "%c" : "%%%02X", c))
            return false;
    }
    return true;
}

/* "/v1/jobs?…&cursor=N": the same query from where this page ends. */
static const char *next_target(struct mf_request *request, int64_t cursor, struct mf_error *err)
{
    MF_AUTO(mf_buffer) struct mf_buffer query;
    mf_buffer_init(&query, 4096);
    for (size_t i = 0; PARAMETERS[i]; i++) {
        const char *value = mf_request_query(request, PARAMETERS[i]);
        if (value && strcmp(PARAMETERS[i], "cursor") != 0 &&
            !put_parameter(&query, PARAMETERS[i], value, err))
            return NULL;
    }
    return mf_arena_printf(request->arena, err, "/v1/jobs%s%scursor=%" PRId64,
                           query.len ? query.data : "", query.len ? "&" : "?", cursor);
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
    if (next && (!(target = next_target(request, next, err)) ||
                 !mf_respond_field(request, err, "Link", "<%s>; rel=\"next\"", target)))
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
