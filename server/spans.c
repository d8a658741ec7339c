/* Spans of requests and jobs; names of attributes as in OpenTelemetry's semantic conventions. */
#include "server/spans.h"

#include "server/access.h"
#include "server/job_response.h"

#include "core/clock.h"

#include <string.h>

static void new_id(char out[MF_SPAN_ID])
{
    char id[MF_JOB_ID];
    mf_job_id_new(id);
    snprintf(out, MF_SPAN_ID, "%.16s", id);
}

/* The span of a job's first run, which others can name without knowing more than the job. */
static void job_span(const char *job, char out[MF_SPAN_ID])
{
    snprintf(out, MF_SPAN_ID, "%.16s", job);
}

static void add_text(struct mf_span *s, const char *key, const char *text)
{
    s->attributes[s->attribute_count++] = (struct mf_span_attribute){.key = key, .text = text};
}

static void add_number(struct mf_span *s, const char *key, int64_t number)
{
    s->attributes[s->attribute_count++] = (struct mf_span_attribute){.key = key, .number = number};
}

bool mf_span_trace(const struct mf_trace *trace, const struct mf_request *r,
                   char ret_trace[MF_TRACE_ID], char ret_parent[MF_SPAN_ID])
{
    struct mf_trace_context from;
    ret_trace[0] = ret_parent[0] = '\0';
    if (mf_request_header_count(r, "traceparent") == 1 &&
        mf_trace_context_parse(mf_request_header(r, "traceparent"), &from)) {
        memcpy(ret_trace, from.trace, MF_TRACE_ID);
        memcpy(ret_parent, from.span, MF_SPAN_ID);
        return trace && from.sampled;
    }
    if (!trace)
        return false;
    mf_job_id_new(ret_trace);
    return mf_trace_wanted(trace, ret_trace);
}

void mf_span_request(struct mf_trace *trace, const struct mf_request *r, const char id[MF_TRACE_ID],
                     const char parent[MF_SPAN_ID], double seconds)
{
    char name[MF_PRINCIPAL], job[MF_JOB_ID];
    struct mf_span span = {.kind = MF_SPAN_SERVER, .name = name};
    if (!r->endpoint || r->endpoint->quick)
        return;
    memcpy(span.trace, id, sizeof span.trace);
    memcpy(span.parent, parent, sizeof span.parent);
    snprintf(name, sizeof name, "%s %s", r->endpoint->method, r->endpoint->pattern);
    new_id(span.id);
    span.started_ns = mf_clock_monotonic_ns() - (uint64_t)(seconds * 1e9);
    span.failed = r->response.status >= 500;
    add_text(&span, "http.request.method", r->method);
    add_text(&span, "http.route", r->endpoint->pattern);
    add_number(&span, "http.response.status_code", r->response.status);
    add_number(&span, "http.request.body.size", (int64_t)r->body_bytes);
    mf_request_job(r, job);
    if (job[0]) {
        add_text(&span, "medfusion.job.id", job);
        memcpy(span.linked_trace, job, sizeof span.linked_trace);
        job_span(job, span.linked);
    }
    mf_trace_add(trace, &span);
}

void mf_span_job(struct mf_trace *trace, const struct mf_claim *claim, uint64_t started_ns,
                 const struct mf_error *problem)
{
    struct mf_span span = {.kind = MF_SPAN_CONSUMER, .name = "job", .started_ns = started_ns};
    if (!trace || !mf_trace_wanted(trace, claim->id))
        return;
    memcpy(span.trace, claim->id, sizeof span.trace);
    job_span(claim->id, span.id);
    if (claim->attempt > 1) {
        memcpy(span.parent, span.id, sizeof span.parent);
        new_id(span.id);
    }
    add_text(&span, "medfusion.job.id", claim->id);
    add_number(&span, "medfusion.job.attempt", claim->attempt);
    if (claim->model)
        add_text(&span, "medfusion.model", claim->model);
    span.failed = problem != NULL;
    if (problem)
        add_text(&span, "error.type", mf_code_name(problem->code));
    mf_trace_add(trace, &span);
}
