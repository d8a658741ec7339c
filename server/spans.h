/*
 * Spans: what a request and what a run of a job is in a trace. A job is a trace of its own, whose
 * id is the job's: it may wait for long, and any process may run it. A request that is about a job
 * links to it.
 */
#ifndef MF_SERVER_SPANS_H
#define MF_SERVER_SPANS_H

#include "server/request.h"
#include "server/trace.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The trace that a request is part of: its client's (`traceparent`), or a new one where spans are
 * recorded; "" otherwise. The same one for its log line and its span. *ret_parent: the client's
 * span or ""; returns whether it is to be recorded. */
bool mf_span_trace(const struct mf_trace *trace, const struct mf_request *request,
                   char ret_trace[MF_TRACE_ID], char ret_parent[MF_SPAN_ID]);

/* A request that was answered after `seconds`; it goes on in the trace of its `traceparent`. Those
 * that are answered on the event loop (health, metrics, the page) are left out. `id` and `parent`
 * are from mf_span_trace(). */
void mf_span_request(struct mf_trace *trace, const struct mf_request *request,
                     const char id[MF_TRACE_ID], const char parent[MF_SPAN_ID], double seconds);

/* A run of a claimed job, which began at started_ns (monotonic) and ends now. `problem`: why it
 * gave no result. */
void mf_span_job(struct mf_trace *trace, const struct mf_claim *claim, uint64_t started_ns,
                 const struct mf_error *problem);

#ifdef __cplusplus
}
#endif

#endif
