/*
 * /fhir/$infer, the asynchronous pattern of FHIR (http://hl7.org/fhir/R4/async.html): POST answers
 * 202 with the address to poll; GET there answers 202 with X-Progress until the result, a Bundle;
 * DELETE ends it. Underneath it is a job like any other: what POST /v1/jobs checks and promises
 * holds here too.
 */
#include "server/collected_body.h"
#include "server/endpoints.h"
#include "server/fhir_parameters.h"
#include "server/fhir_results.h"
#include "server/job_response.h"
#include "server/negotiate.h"

#include "core/clock.h"

#include <pthread.h>
#include <string.h>

enum { PARAMETERS_BYTES = 48 << 20, POLLED = 256, POLLS_PER_S = 10 };

static const char FHIR_JSON[] = "application/fhir+json";

/* --- POST --- */

/* A header field's value, for what is handed on to POST /v1/jobs. */
static bool set_header(struct mf_request *request, const char *name, const char *value,
                       struct mf_error *err)
{
    bool found = false;
    for (size_t i = 0; i < request->header_count; i++)
        if (strcasecmp(request->headers[i].name, name) == 0) {
            request->headers[i].value = value;
            found = true;
        }
    return found || mf_request_add_header(request, name, value, err);
}

static bool is_parameters(const struct mf_request *request)
{
    const char *type = mf_request_header(request, "Content-Type");
    return mf_media_type_is(type, FHIR_JSON) || mf_media_type_is(type, "application/json");
}

static bool begin(struct mf_request *request, struct mf_error *err)
{
    if (mf_negotiate(mf_request_header(request, "Accept"),
                     (const char *const[]){FHIR_JSON, "application/json"}, 2) < 0)
        return mf_error_set(err, MF_ERR_NOT_ACCEPTABLE, "answers are application/fhir+json");
    if (!set_header(request, "Accept", FHIR_JSON, err))
        return false;
    if (!is_parameters(request))
        return mf_endpoint_jobs_post.begin(request, err);
    return mf_collect_begin(request, PARAMETERS_BYTES, err);
}

static bool data(struct mf_request *request, const void *bytes, size_t len, struct mf_error *err)
{
    if (!is_parameters(request))
        return mf_endpoint_jobs_post.data(request, bytes, len, err);
    return mf_buffer_append(mf_collected(request), bytes, len, NULL) ||
           mf_error_set(err, MF_ERR_TOO_LARGE,
                        "a Parameters resource of more than %d bytes; send multipart/form-data",
                        PARAMETERS_BYTES);
}

static bool pass_on(void *context, const void *bytes, size_t len, struct mf_error *err)
{
    return mf_endpoint_jobs_post.data(context, bytes, len, err);
}

/* Turns the Parameters into the upload that POST /v1/jobs takes. */
static bool unwrap(struct mf_request *request, struct mf_error *err)
{
    char boundary[MF_FHIR_BOUNDARY] = "medfusion";
    MF_AUTO(mf_buffer) struct mf_buffer body = *mf_collected(request);
    request->state = NULL;
    mf_job_id_new(boundary + strlen(boundary));
    const char *type =
        mf_arena_printf(request->arena, err, "multipart/form-data; boundary=%s", boundary);
    return type && set_header(request, "Content-Type", type, err) &&
           mf_endpoint_jobs_post.begin(request, err) &&
           mf_fhir_parameters_to_multipart(body.data ? body.data : "", body.len, boundary, pass_on,
                                           request, err);
}

/* The id of the job that a 202 of POST /v1/jobs is about, from its Location. */
static const char *accepted_job(const struct mf_request *request)
{
    static const char PREFIX[] = "/v1/jobs/";
    for (size_t i = 0; i < request->response.field_count; i++) {
        const struct mf_field *f = &request->response.fields[i];
        if (strcmp(f->name, "Location") == 0 && strncmp(f->value, PREFIX, strlen(PREFIX)) == 0)
            return f->value + strlen(PREFIX);
    }
    return NULL;
}

/* Gives the 202 the form of the pattern. */
static bool respond_accepted(struct mf_request *request, struct mf_error *err)
{
    const char *id = accepted_job(request);
    if (request->response.status != 202 || !id)
        return true;
    return mf_respond_field(request, err, "Content-Location", "/fhir/$infer/%s", id) &&
           mf_respond_field(request, err, "Retry-After", "1") &&
           mf_respond_json_take(request, 202, FHIR_JSON,
                                json_pack("{s:s, s:[{s:s, s:s, s:s}]}", "resourceType",
                                          "OperationOutcome", "issue", "severity", "information",
                                          "code", "informational", "diagnostics",
                                          "accepted; ask at Content-Location"),
                                err);
}

static bool handle(struct mf_request *request, struct mf_error *err)
{
    if (is_parameters(request) && !unwrap(request, err))
        return false;
    return mf_endpoint_jobs_post.handle(request, err) && respond_accepted(request, err);
}

static bool resume(struct mf_request *request, struct mf_error *err)
{
    return mf_endpoint_jobs_post.resume(request, err) && respond_accepted(request, err);
}

static void dispose(struct mf_request *request)
{
    if (!is_parameters(request))
        mf_endpoint_jobs_post.dispose(request);
    else
        mf_collect_dispose(request);
}

/* --- GET --- */

/* Who asks too often is told so: more than ten times a second for one job. */
static bool too_often(const char *id)
{
    static struct {
        char id[MF_JOB_ID];
        uint64_t since_ns;
        unsigned count;
    } polled[POLLED];
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    uint64_t now = mf_clock_monotonic_ns();
    unsigned slot = 0;
    for (const char *p = id; *p; p++)
        slot = slot * 31 + (unsigned char)*p;
    slot %= POLLED;
    pthread_mutex_lock(&lock);
    if (strcmp(polled[slot].id, id) != 0 || now - polled[slot].since_ns > 1000000000) {
        snprintf(polled[slot].id, MF_JOB_ID, "%s", id);
        polled[slot].since_ns = now;
        polled[slot].count = 0;
    }
    bool often = ++polled[slot].count > POLLS_PER_S;
    pthread_mutex_unlock(&lock);
    return often;
}

static bool respond_progress(struct mf_request *request, const struct mf_job *job,
                             struct mf_error *err)
{
    bool ok =
        job->state == MF_JOB_QUEUED
            ? mf_respond_field(request, err, "X-Progress", "queued, position %lld",
                               (long long)job->position)
            : mf_respond_field(request, err, "X-Progress", "running, %.0f%%", 100 * job->progress);
    if (!ok || !mf_respond_field(request, err, "Retry-After", "1"))
        return false;
    mf_respond_empty(request, 202);
    return true;
}

static bool poll(struct mf_request *request, struct mf_error *err)
{
    static const char *const QUERY[] = {"type", NULL};
    struct mf_job job;
    const char *type = mf_request_query(request, "type");
    const char *id = mf_request_job_id(request, err);
    bool transaction = type && strcmp(type, "transaction") == 0;
    if (!id || !mf_request_only_query(request, QUERY, err) ||
        !mf_store_job(request->store, request->tenant, id, &job, err))
        return false;
    if (type && !transaction && strcmp(type, "collection") != 0)
        return mf_error_set(err, MF_ERR_MALFORMED, "type must be collection or transaction");
    if (!mf_job_state_terminal(job.state))
        return too_often(id) ? mf_error_set(err, MF_ERR_BUSY, "asked too often; see Retry-After")
                             : respond_progress(request, &job, err);
    if (job.purged)
        return mf_error_set(err, MF_ERR_GONE, "the job's data was purged");
    if (job.state == MF_JOB_CANCELLED)
        return mf_error_set(err, MF_ERR_NOT_FOUND, "the job was cancelled");
    if (job.state == MF_JOB_FAILED)
        return mf_error_set(err, job.problem.code, "%s", job.problem.msg);
    json_t *bundle = mf_fhir_result(
        request, id, transaction ? MF_FHIR_BUNDLE_TRANSACTION : MF_FHIR_BUNDLE_COLLECTION, NULL,
        err);
    return bundle && mf_respond_json_take(request, 200, FHIR_JSON, bundle, err);
}

/* --- DELETE --- */

/* Running: cancelled. Ended: its data is not needed any more. */
static bool cancel(struct mf_request *request, struct mf_error *err)
{
    static const char *const NO_QUERY[] = {NULL};
    struct mf_job job;
    struct mf_error refused = MF_ERROR_INIT;
    const char *id = mf_request_job_id(request, err);
    if (!id || !mf_request_only_query(request, NO_QUERY, err))
        return false;
    bool ok = mf_store_cancel(request->store, request->tenant, id, &job, &refused);
    if (!ok && refused.code == MF_ERR_CONFLICT) /* it has ended, perhaps just now */
        ok = mf_endpoint_job_purge.handle(request, err);
    else if (!ok)
        mf_error_set(err, refused.code, "%s", refused.msg);
    if (ok)
        mf_respond_empty(request, 202);
    return ok;
}

static void after(struct mf_services *services)
{
    mf_endpoint_jobs_post.after(services);
}

const struct mf_endpoint mf_endpoint_fhir_infer = {.method = "POST",
                                                   .pattern = "/fhir/$infer",
                                                   .slow = true,
                                                   .begin = begin,
                                                   .data = data,
                                                   .handle = handle,
                                                   .resume = resume,
                                                   .dispose = dispose,
                                                   .after = after};
const struct mf_endpoint mf_endpoint_fhir_poll = {
    .method = "GET", .pattern = "/fhir/$infer/{id}", .handle = poll};
const struct mf_endpoint mf_endpoint_fhir_cancel = {
    .method = "DELETE", .pattern = "/fhir/$infer/{id}", .handle = cancel};
