/*
 * Traces: spans for an OpenTelemetry collector (OTLP 1 over HTTP, JSON), and the header field by
 * which a client's trace goes on here (W3C Trace Context). Spans hold routes, our own ids and
 * numbers, no patient data. They are telemetry: a collector that is away for long, or a crash,
 * costs spans and nothing else.
 */
#ifndef MF_SERVER_TRACE_H
#define MF_SERVER_TRACE_H

#include "core/auto.h"
#include "core/error.h"
#include "server/config.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { MF_TRACE_ID = 33, MF_SPAN_ID = 17, MF_SPAN_ATTRIBUTES = 6 };

/* What `traceparent` says: lower-case hex. */
struct mf_trace_context {
    char trace[MF_TRACE_ID], span[MF_SPAN_ID];
    bool sampled;
};

/* False for what is none (W3C Trace Context, 3.2): it is to be ignored. */
bool mf_trace_context_parse(const char *traceparent, struct mf_trace_context *ret);

enum mf_span_kind { MF_SPAN_SERVER = 2, MF_SPAN_CONSUMER = 5 }; /* as OTLP numbers them */

struct mf_span_attribute {
    const char *key;
    const char *text; /* NULL: the number */
    int64_t number;
};

struct mf_span {
    char trace[MF_TRACE_ID], id[MF_SPAN_ID];
    char parent[MF_SPAN_ID];                            /* "" = none */
    char linked_trace[MF_TRACE_ID], linked[MF_SPAN_ID]; /* "" = none */
    enum mf_span_kind kind;
    const char *name;
    uint64_t started_ns; /* monotonic; it ends now */
    struct mf_span_attribute attributes[MF_SPAN_ATTRIBUTES];
    size_t attribute_count;
    bool failed;
};

struct mf_trace;

/* Whether trace.endpoint is a URL or "off". MF_ERR_USAGE. */
bool mf_trace_check(const struct mf_config *config, struct mf_error *err) MF_CHECK_RESULT;

/* Starts a thread that sends what is added, for this part of the program ("front", "worker"). NULL
 * without an error when trace.endpoint is "off". */
struct mf_trace *mf_trace_new(const struct mf_config *config, const char *part,
                              struct mf_error *err);
/* Sends what is left, but for two seconds at most. */
void mf_trace_free(struct mf_trace *trace);

/* Whether a trace that begins here is among the trace.percent that are recorded: all processes
 * decide alike. */
bool mf_trace_wanted(const struct mf_trace *trace, const char *id);
/* Adds one span; thread-safe, never waits. When more is waiting than 1 MiB it is dropped. */
void mf_trace_add(struct mf_trace *trace, const struct mf_span *span);

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_trace, struct mf_trace *, mf_trace_free(*p))

#endif
