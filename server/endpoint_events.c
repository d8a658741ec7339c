/* GET /v1/events, GET /v1/jobs/{id}/events: changes of jobs as Server-Sent Events (feed.h). */
#include "server/endpoints.h"
#include "server/feed.h"
#include "server/job_response.h"
#include "server/services.h"

#include <stdlib.h>
#include <string.h>

static const char *const NO_QUERY[] = {NULL};
static const char TYPE[] = "text/event-stream";

/* The number in Last-Event-ID; −1 = none; 0, which is never kept, for what is no number of ours. */
static int64_t last_event(const struct mf_request *request)
{
    const char *text = mf_request_header(request, "Last-Event-ID");
    if (!text || !*text)
        return -1;
    return strlen(text) <= 18 && strspn(text, "0123456789") == strlen(text)
               ? strtoll(text, NULL, 10)
               : 0;
}

static bool respond(struct mf_request *request, const char *job, struct mf_error *err)
{
    struct mf_subscription *s =
        mf_feed_subscribe(request->services->feed, request->tenant, job, last_event(request), err);
    request->state = s;
    if (!s || !mf_respond_field(request, err, "X-Accel-Buffering", "no"))
        return false;
    mf_respond_follow(request, 200, TYPE, mf_subscription_follow, s);
    return true;
}

static bool acceptable(struct mf_request *request, struct mf_error *err)
{
    if (!mf_request_only_query(request, NO_QUERY, err) || !mf_request_accepts(request, TYPE, err))
        return false;
    return !__atomic_load_n(&request->services->draining, __ATOMIC_RELAXED) ||
           mf_error_set(err, MF_ERR_UNAVAILABLE, "the service is stopping");
}

static bool follow_all(struct mf_request *request, struct mf_error *err)
{
    return acceptable(request, err) && respond(request, NULL, err);
}

static bool follow_job(struct mf_request *request, struct mf_error *err)
{
    struct mf_job job;
    const char *id = mf_request_job_id(request, err);
    return id && acceptable(request, err) &&
           mf_store_job(request->store, request->tenant, id, &job, err) &&
           respond(request, id, err);
}

static void dispose(struct mf_request *request)
{
    mf_feed_unsubscribe(request->state);
}

const struct mf_endpoint mf_endpoint_events = {
    .method = "GET", .pattern = "/v1/events", .handle = follow_all, .dispose = dispose};
const struct mf_endpoint mf_endpoint_job_events = {
    .method = "GET", .pattern = "/v1/jobs/{id}/events", .handle = follow_job, .dispose = dispose};
