/* Traces: reading traceparent, spans as JSON, the thread that sends them. */
#include "server/trace.h"

#include "core/buffer.h"
#include "core/clock.h"
#include "core/json.h"
#include "core/log.h"
#include "server/web_client.h"

#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    WAITING_BYTES = 1 << 20,
    HEAD_BYTES = 2048,
    HOST_BYTES = 256,
    STACK_BYTES = 256 << 10,
    SEND_S = 2,     /* between two batches */
    LONGEST_S = 64, /* between attempts */
    TIMEOUT_S = 10,
    LAST_TIMEOUT_S = 2
};

struct mf_trace {
    const struct mf_config *config;
    pthread_mutex_t lock;
    pthread_cond_t ended;
    bool ending, started;
    struct mf_buffer waiting; /* spans, with commas between them */
    uint64_t dropped;
    pthread_t thread;
    struct mf_buffer batch; /* of the thread: what is being sent, until it arrived */
    char head[HEAD_BYTES];  /* of a request's body, up to the spans */
};

static const char TAIL[] = "]}]}]}";

/* --- W3C Trace Context --- */

/* Copies `len` lower-case hex digits; false when they are not, or all zero and `zero` is not
 * allowed. */
static bool take_hex(const char *text, size_t len, bool zero, char *out)
{
    if (strspn(text, "0123456789abcdef") < len || (!zero && strspn(text, "0") >= len))
        return false;
    memcpy(out, text, len);
    out[len] = '\0';
    return true;
}

bool mf_trace_context_parse(const char *text, struct mf_trace_context *ret)
{
    char version[3], flags[3];
    size_t len = text ? strlen(text) : 0;
    if (len < 55 || !take_hex(text, 2, true, version) || strcmp(version, "ff") == 0 ||
        text[2] != '-' || !take_hex(text + 3, 32, false, ret->trace) || text[35] != '-' ||
        !take_hex(text + 36, 16, false, ret->span) || text[52] != '-' ||
        !take_hex(text + 53, 2, true, flags))
        return false;
    if (len > 55 && (strcmp(version, "00") == 0 || text[55] != '-'))
        return false;
    ret->sampled = strtol(flags, NULL, 16) & 1;
    return true;
}

/* --- spans as JSON (opentelemetry-proto, trace.proto) --- */

static json_t *attribute_json(const struct mf_span_attribute *a)
{
    char number[24];
    if (a->text)
        return json_pack("{s:s, s:{s:s}}", "key", a->key, "value", "stringValue", a->text);
    snprintf(number, sizeof number, "%" PRId64, a->number);
    return json_pack("{s:s, s:{s:s}}", "key", a->key, "value", "intValue", number);
}

static json_t *span_json(const struct mf_span *s)
{
    char start[24], end[24];
    const uint64_t now = (uint64_t)mf_clock_wall_ms() * 1000000;
    snprintf(end, sizeof end, "%" PRIu64, now);
    snprintf(start, sizeof start, "%" PRIu64, now - (mf_clock_monotonic_ns() - s->started_ns));
    json_t *attributes = json_array();
    for (size_t i = 0; i < s->attribute_count; i++)
        json_array_append_new(attributes, attribute_json(&s->attributes[i]));
    json_t *links = json_array();
    if (s->linked[0])
        json_array_append_new(
            links, json_pack("{s:s, s:s}", "traceId", s->linked_trace, "spanId", s->linked));
    return json_pack("{s:s, s:s, s:s, s:s, s:i, s:s, s:s, s:o, s:o, s:{s:i}}", "traceId", s->trace,
                     "spanId", s->id, "parentSpanId", s->parent, "name", s->name, "kind",
                     (int)s->kind, "startTimeUnixNano", start, "endTimeUnixNano", end, "attributes",
                     attributes, "links", links, "status", "code", s->failed ? 2 : 0);
}

bool mf_trace_wanted(const struct mf_trace *t, const char *id)
{
    char first[9];
    snprintf(first, sizeof first, "%.8s", id);
    return (int64_t)(strtoul(first, NULL, 16) % 100) < t->config->trace.percent;
}

void mf_trace_add(struct mf_trace *t, const struct mf_span *span)
{
    struct mf_error full = MF_ERROR_INIT;
    MF_AUTO(mf_json) json_t *document = span_json(span);
    MF_AUTO(mf_mem) char *text = document ? mf_json_text(document, 0) : NULL;
    if (!text)
        return;
    pthread_mutex_lock(&t->lock);
    size_t before = t->waiting.len;
    if ((before && !mf_buffer_append_str(&t->waiting, ",", &full)) ||
        !mf_buffer_append_str(&t->waiting, text, &full)) {
        t->waiting.len = before;
        t->dropped++;
    }
    pthread_mutex_unlock(&t->lock);
}

/* --- sending --- */

/* Whether the batch is done with: it arrived, or will never be taken. */
static bool send_batch(struct mf_trace *t, int timeout_s)
{
    struct mf_error err = MF_ERROR_INIT;
    long status = 0;
    MF_AUTO(mf_buffer) struct mf_buffer body;
    mf_buffer_init(&body, WAITING_BYTES + HEAD_BYTES + sizeof TAIL);
    if (!mf_buffer_append_str(&body, t->head, &err) ||
        !mf_buffer_append(&body, t->batch.data, t->batch.len, &err) ||
        !mf_buffer_append_str(&body, TAIL, &err))
        return true;
    const char *ca = t->config->trace.ca;
    const struct mf_web_request request = {.url = t->config->trace.endpoint,
                                           .accept = "application/json",
                                           .content_type = "application/json",
                                           .body = body.data,
                                           .body_len = body.len,
                                           .ca_file = strcmp(ca, "off") == 0 ? NULL : ca,
                                           .timeout_s = timeout_s};
    if (mf_web_send(&request, &status, &err) && status / 100 == 2)
        return true;
    bool again = status == 0 || status == 429 || (status >= 502 && status <= 504);
    mf_log(MF_LOG_WARN, "trace.not_sent", MF_LOG_I("status", status), MF_LOG_S("reason", err.msg),
           MF_LOG_I("again", again));
    return !again;
}

/* What waits becomes the batch; locked. */
static void take_batch(struct mf_trace *t)
{
    struct mf_buffer taken = t->waiting;
    if (t->batch.len > 0 || taken.len == 0)
        return;
    t->waiting = t->batch;
    t->batch = taken;
    if (t->dropped)
        mf_log(MF_LOG_WARN, "trace.dropped", MF_LOG_I("spans", t->dropped));
    t->dropped = 0;
}

static void *thread_main(void *argument)
{
    struct mf_trace *t = argument;
    int pause_s = SEND_S;
    pthread_mutex_lock(&t->lock);
    for (bool ending = false; !ending;) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += pause_s;
        if (!t->ending)
            pthread_cond_timedwait(&t->ended, &t->lock, &until);
        ending = t->ending;
        take_batch(t);
        pthread_mutex_unlock(&t->lock);
        bool done = t->batch.len == 0 || send_batch(t, ending ? LAST_TIMEOUT_S : TIMEOUT_S);
        if (done)
            mf_buffer_clear(&t->batch);
        pause_s = done ? SEND_S : 2 * pause_s < LONGEST_S ? 2 * pause_s : LONGEST_S;
        pthread_mutex_lock(&t->lock);
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

/* --- starting and stopping --- */

bool mf_trace_check(const struct mf_config *config, struct mf_error *err)
{
    const char *endpoint = config->trace.endpoint;
    return strcmp(endpoint, "off") == 0 || mf_web_url_plain(endpoint) ||
           mf_error_set(err, MF_ERR_USAGE,
                        "trace.endpoint: \"%.100s\" is no http or https URL without user, query or "
                        "fragment",
                        endpoint);
}

/* Who sends: OpenTelemetry's resource and scope. */
static bool make_head(struct mf_trace *t, const char *part)
{
    char host[HOST_BYTES] = "", instance[HOST_BYTES + 32];
    if (gethostname(host, sizeof host - 1) != 0 || !host[0])
        snprintf(host, sizeof host, "localhost");
    snprintf(instance, sizeof instance, "%s:%d", host, (int)getpid());
    const struct mf_span_attribute of[] = {{"service.namespace", "medfusion", 0},
                                           {"service.name", part, 0},
                                           {"service.version", MF_VERSION, 0},
                                           {"service.instance.id", instance, 0},
                                           {"host.name", host, 0}};
    json_t *attributes = json_array();
    for (size_t i = 0; i < sizeof of / sizeof *of; i++)
        json_array_append_new(attributes, attribute_json(&of[i]));
    MF_AUTO(mf_json) json_t *resource = json_pack("{s:o}", "attributes", attributes);
    MF_AUTO(mf_mem) char *text = resource ? mf_json_text(resource, 0) : NULL;
    return text && snprintf(t->head, sizeof t->head,
                            "{\"resourceSpans\":[{\"resource\":%s,\"scopeSpans\":[{\"scope\":{"
                            "\"name\":\"medfusion\",\"version\":\"%s\"},\"spans\":[",
                            text, MF_VERSION) < (int)sizeof t->head;
}

/* The thread takes no signals: they are for the process' own. */
static bool start_thread(struct mf_trace *t)
{
    sigset_t all, before;
    pthread_attr_t attributes;
    sigfillset(&all);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool ok = pthread_create(&t->thread, &attributes, thread_main, t) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return ok;
}

struct mf_trace *mf_trace_new(const struct mf_config *config, const char *part,
                              struct mf_error *err)
{
    if (strcmp(config->trace.endpoint, "off") == 0)
        return NULL;
    MF_AUTO(mf_trace) struct mf_trace *t = calloc(1, sizeof *t);
    if (!t) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for traces");
        return NULL;
    }
    t->config = config;
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->ended, NULL);
    mf_buffer_init(&t->waiting, WAITING_BYTES);
    mf_buffer_init(&t->batch, WAITING_BYTES);
    t->started = make_head(t, part) && start_thread(t);
    if (!t->started) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "the thread for traces cannot be started");
        return NULL;
    }
    return MF_STEAL(t);
}

void mf_trace_free(struct mf_trace *t)
{
    if (!t)
        return;
    if (t->started) {
        pthread_mutex_lock(&t->lock);
        t->ending = true;
        pthread_mutex_unlock(&t->lock);
        pthread_cond_signal(&t->ended);
        pthread_join(t->thread, NULL);
    }
    pthread_cond_destroy(&t->ended);
    pthread_mutex_destroy(&t->lock);
    mf_buffer_free(&t->waiting);
    mf_buffer_free(&t->batch);
    free(t);
}
