/* Responses about jobs. */
#include "server/job_response.h"

#include "server/negotiate.h"
#include "server/result_report.h"

#include "core/clock.h"
#include "core/result.h"
#include "fhir/report.h"

#include <string.h>

enum { JSON_TYPE, FHIR_TYPE, TEXT_TYPE, TYPE_COUNT };

enum { RESULT_BYTES = 64 << 20, INDEX_BYTES = 128 << 20 };

static const char *const OFFERS[TYPE_COUNT] = {"application/json", "application/fhir+json",
                                               "text/plain"};

static json_t *time_or_null(int64_t ms)
{
    char text[MF_TIME_TEXT];
    return ms ? json_string(mf_clock_format_ms(ms, text)) : json_null();
}

json_t *mf_job_to_json(const struct mf_job *job)
{
    json_t *problem =
        job->problem.code == MF_OK ? json_null() : mf_problem_to_json(&job->problem, NULL, job->id);
    return json_pack(
        "{s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:f, s:I, s:o, s:o, s:o, s:b, s:b, s:o}", "schema",
        "medfusion.job/1", "id", job->id, "state", mf_job_state_name(job->state), "priority",
        mf_priority_name(job->priority), "model", mf_json_string(job->model[0] ? job->model : NULL),
        "position", job->position ? json_integer(job->position) : json_null(), "eta_s",
        mf_json_real(job->eta_s), "progress", job->progress, "attempts", (json_int_t)job->attempts,
        "created", time_or_null(job->created_ms), "started", time_or_null(job->started_ms),
        "finished", time_or_null(job->finished_ms), "cancel_requested", job->cancel_requested,
        "purged", job->purged, "problem", problem);
}

bool mf_respond_job(struct mf_request *request, int status, const struct mf_job *job,
                    struct mf_error *err)
{
    return (status != 202 || mf_respond_field(request, err, "Location", "/v1/jobs/%s", job->id)) &&
           mf_respond_json_take(request, status, OFFERS[JSON_TYPE], mf_job_to_json(job), err);
}

bool mf_result_acceptable(const struct mf_request *request, struct mf_error *err)
{
    if (mf_negotiate(mf_request_header(request, "Accept"), OFFERS, TYPE_COUNT) >= 0)
        return true;
    return mf_error_set(
        err, MF_ERR_NOT_ACCEPTABLE,
        "a result is given as application/json, application/fhir+json or text/plain");
}

static bool respond_text(struct mf_request *request, const json_t *result, struct mf_error *err)
{
    char *text = mf_result_to_text(result);
    if (!text)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a result");
    mf_respond_take(request, 200, "text/plain; charset=utf-8", text, strlen(text));
    return true;
}

bool mf_result_plain(const struct mf_request *request)
{
    return mf_negotiate(mf_request_header(request, "Accept"), OFFERS, TYPE_COUNT) == JSON_TYPE;
}

bool mf_stored_result_read(struct mf_request *request, const char *id, struct mf_stored_result *ret,
                           struct mf_error *err)
{
    mf_buffer_init(&ret->text, RESULT_BYTES);
    mf_buffer_init(&ret->index, INDEX_BYTES);
    if (request->ended) {
        struct mf_buffer taken = request->ended->text;
        request->ended->text = ret->text;
        ret->text = taken;
        ret->job = request->ended->job;
        request->ended = NULL;
        return true;
    }
    bool fhir = mf_negotiate(mf_request_header(request, "Accept"), OFFERS, TYPE_COUNT) == FHIR_TYPE;
    return mf_store_result(request->store, request->tenant, id, &ret->job, &ret->text,
                           fhir ? &ret->index : NULL, err);
}

void mf_stored_result_free(struct mf_stored_result *stored)
{
    mf_buffer_free(&stored->text);
    mf_buffer_free(&stored->index);
}

json_t *mf_stored_result_report(const struct mf_stored_result *stored, struct mf_store *store,
                                enum mf_fhir_bundle_type type, struct mf_error *err)
{
    MF_AUTO(mf_result_report) struct mf_result_report report = {.result = NULL};
    if (!mf_result_report_open(&report, stored->text.data ? stored->text.data : "",
                               stored->text.len, stored->index.data ? stored->index.data : "",
                               stored->index.len, stored->job.finished_ms, err) ||
        !mf_result_report_amend(&report, store, stored->job.tenant, stored->job.id, err))
        return NULL;
    return mf_fhir_report(report.result, &report.context, type, err);
}

static bool respond_fhir(struct mf_request *request, const struct mf_stored_result *stored,
                         struct mf_error *err)
{
    json_t *bundle =
        mf_stored_result_report(stored, request->store, MF_FHIR_BUNDLE_COLLECTION, err);
    return bundle && mf_respond_json_take(request, 200, OFFERS[FHIR_TYPE], bundle, err);
}

static bool respond_success(struct mf_request *request, struct mf_stored_result *stored,
                            struct mf_error *err)
{
    const char *accept = mf_request_header(request, "Accept");
    int type = mf_negotiate(accept, OFFERS, TYPE_COUNT);
    if (type < 0)
        return mf_result_acceptable(request, err);
    if (!mf_respond_field(request, err, "Vary", "Accept"))
        return false;
    if (type == JSON_TYPE) {
        size_t len = 0;
        char *body = mf_buffer_take(&stored->text, &len);
        if (!body)
            return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a result");
        mf_respond_take(request, 200, OFFERS[JSON_TYPE], body, len);
        return true;
    }
    if (type == FHIR_TYPE)
        return respond_fhir(request, stored, err);
    MF_AUTO(mf_json)
    json_t *result = mf_json_parse(stored->text.data ? stored->text.data : "", stored->text.len,
                                   NULL, "result", err);
    return result && respond_text(request, result, err);
}

/* The problem of a job that ended without a result. `late`: with its own status. */
static bool respond_failure(struct mf_request *request, const struct mf_job *job, bool late,
                            struct mf_error *err)
{
    struct mf_error problem = MF_ERROR_INIT;
    if (job->state == MF_JOB_CANCELLED)
        mf_error_set(&problem, MF_ERR_CONFLICT, "the job was cancelled");
    else if (late)
        mf_error_set(&problem, job->problem.code, "%s", job->problem.msg);
    else
        mf_error_set(&problem, MF_ERR_CONFLICT, "the job failed: %s", job->problem.msg);
    if (late && !mf_respond_field(request, err, "Location", "/v1/jobs/%s", job->id))
        return false;
    mf_respond_problem(request, &problem, job->id);
    return true;
}

bool mf_respond_result(struct mf_request *request, struct mf_stored_result *stored, bool late,
                       struct mf_error *err)
{
    const struct mf_job *job = &stored->job;
    if (job->purged)
        return mf_error_set(err, MF_ERR_GONE, "the job's data was purged");
    if (job->state == MF_JOB_SUCCEEDED)
        return respond_success(request, stored, err);
    if (mf_job_state_terminal(job->state))
        return respond_failure(request, job, late, err);
    return mf_error_set(err, MF_ERR_CONFLICT, "the job is %s: it has no result yet",
                        mf_job_state_name(job->state));
}

const char *mf_request_job_id(const struct mf_request *request, struct mf_error *err)
{
    if (mf_job_id_valid(request->parameters[0]))
        return request->parameters[0];
    mf_error_set(err, MF_ERR_NOT_FOUND, "there is no such job");
    return NULL;
}

void mf_request_job(const struct mf_request *r, char job[MF_JOB_ID])
{
    static const char prefix[] = "/v1/jobs/";
    const char *route = r->endpoint ? r->endpoint->pattern : ""; /* none: refused before routing */
    const char *id =
        strncmp(route, "/v1/jobs/{", 10) == 0 || strncmp(route, "/fhir/$infer/{", 14) == 0
            ? r->parameters[0]
            : "";
    for (size_t i = 0; i < r->response.field_count; i++) {
        const struct mf_field *f = &r->response.fields[i];
        if (strstr(f->name, "Location") && strncmp(f->value, prefix, sizeof prefix - 1) == 0)
            id = f->value + sizeof prefix - 1;
    }
    snprintf(job, MF_JOB_ID, "%s", id);
    if (!mf_job_id_valid(job))
        job[0] = '\0';
}

bool mf_request_record(struct mf_request *request, struct mf_arena *arena,
                       struct mf_job_record *record, bool *ret_answered, struct mf_error *err)
{
    const char *id = mf_request_job_id(request, err);
    *ret_answered = false;
    if (!arena)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    if (!id || !mf_store_record(request->store, request->tenant, id, arena, record, err))
        return false;
    if (record->result && record->index)
        return true;
    struct mf_stored_result none = {.job = record->job};
    *ret_answered = true;
    return mf_respond_result(request, &none, false, err);
}
