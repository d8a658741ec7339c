/*
 * HTTP over libmicrohttpd, which this file and http_response.c alone know.
 *
 * Event loops (http.threads) read sockets, feed endpoints and send responses; they never block:
 * what may block runs on the pool while its connection is suspended, and a request that waits for a
 * job holds no thread at all.
 *
 * The library hides some malformed framing from its callbacks; what it shows is judged here and in
 * request.c (RFC 9112, 6.3 and 11.2): the raw target with its escapes, repeated Host,
 * Content-Length and Transfer-Encoding, and both of the latter together. After a refusal the rest
 * of the body is read and dropped, so that the client sees the answer instead of a reset.
 */
#include "server/http_private.h"

#include "server/auth.h"
#include "server/guard.h"
#include "server/job_response.h"
#include "server/quota.h"
#include "server/router.h"
#include "server/spans.h"

#include "core/clock.h"
#include "core/log.h"

#include <microhttpd.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

enum {
    CONNECTION_BYTES = 256 << 10, /* of the library's buffers for one connection */
    LOOP_STACK = 256 << 10,
    DROP_BYTES = 8 << 20 /* a refused body announced as larger is not read at all */
};

#define EXCHANGE_OF(pointer, member)                                                               \
    ((struct mf_exchange *)(void *)((char *)(pointer)-offsetof(struct mf_exchange, member)))

static void clear_deadline(struct mf_connection *c)
{
    if (c && c->guarded)
        mf_guard_set_deadline(c->guarded, UINT64_MAX);
}

/* --- connections and the life of an exchange --- */

static struct mf_connection *connection_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info ? info->socket_context : NULL;
}

static void free_exchange(struct mf_exchange *x)
{
    struct mf_http *http = x->http;
    if (x->owner)
        x->owner->exchange = NULL;
    mf_request_free(x->request);
    free(x);
    pthread_mutex_lock(&http->lock);
    if (--http->active == 0)
        pthread_cond_signal(&http->idle);
    pthread_mutex_unlock(&http->lock);
}

static void on_connection(void *cls, struct MHD_Connection *connection, void **socket_context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct mf_http *http = cls;
    struct mf_connection *c = *socket_context;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        c = calloc(1, sizeof *c);
        *socket_context = c;
        mf_metrics_connection(http->options.services->metrics, 1);
        __atomic_add_fetch(&http->connections, 1, __ATOMIC_RELAXED);
        if (c && info)
            c->guarded = mf_guard_add(http->guard, info->connect_fd);
        mf_http_set_deadline(c, http->config->http.header_timeout_s);
        if (http->options.tls && http->options.tls->client_ca)
            mf_tls_demand_certificate(
                MHD_get_connection_info(connection, MHD_CONNECTION_INFO_GNUTLS_SESSION)
                    ->tls_session);
        return;
    }
    mf_metrics_connection(http->options.services->metrics, -1);
    __atomic_sub_fetch(&http->connections, 1, __ATOMIC_RELAXED);
    if (!c)
        return;
    mf_guard_remove(http->guard, c->guarded);
    if (c->exchange)
        free_exchange(c->exchange);
    free(c);
    *socket_context = NULL;
}

/* The request line is in: its raw target, before the library decodes anything. */
static void *on_target(void *cls, const char *target, struct MHD_Connection *connection)
{
    struct mf_http *http = cls;
    struct mf_connection *c = connection_of(connection);
    struct mf_exchange *x = c ? calloc(1, sizeof *x) : NULL;
    if (!x)
        return NULL;
    x->http = http;
    x->connection = connection;
    x->owner = c;
    c->exchange = x;
    pthread_mutex_lock(&http->lock);
    http->active++;
    pthread_mutex_unlock(&http->lock);
    x->request = mf_request_new(http->options.services, &x->refusal);
    if (x->request)
        (void)(mf_request_set_target(x->request, target, &x->refusal) || x->refusal.code);
    mf_http_set_deadline(c, http->config->http.header_timeout_s);
    return x;
}

/* The trace joins log lines with spans; the job (whose id is its trace's) with those of a worker.
 */
static void log_request(const struct mf_request *r, const char *trace, double seconds)
{
    const struct mf_endpoint *e = r->endpoint;
    char job[MF_JOB_ID];
    mf_request_job(r, job);
    mf_log(e && e->quick ? MF_LOG_DEBUG : MF_LOG_INFO, "http.request",
           MF_LOG_S("method", e ? e->method : "-"), MF_LOG_S("route", e ? e->pattern : "-"),
           MF_LOG_I("status", r->response.status), MF_LOG_R("ms", seconds * 1e3),
           MF_LOG_I("received", r->body_bytes), MF_LOG_I("sent", r->response.body_len),
           MF_LOG_S("trace", trace), MF_LOG_S("job", job));
}

/* What is left of a request that was answered: its figures, its log line, its span. */
static void note_request(const struct mf_services *services, const struct mf_request *r,
                         double seconds)
{
    char trace[MF_TRACE_ID], parent[MF_SPAN_ID];
    bool recorded = mf_span_trace(services->trace, r, trace, parent);
    mf_metrics_request(services->metrics, r->endpoint, r->response.status, seconds, r->body_bytes);
    log_request(r, trace, seconds);
    if (recorded)
        mf_span_request(services->trace, r, trace, parent, seconds);
}

static void on_completed(void *cls, struct MHD_Connection *connection, void **con_cls,
                         enum MHD_RequestTerminationCode code)
{
    struct mf_http *http = cls;
    struct mf_exchange *x = *con_cls;
    (void)code;
    if (!x)
        return;
    const struct mf_request *r = x->request;
    if (r && r->response.status) {
        uint64_t answered = x->followed_ns ? x->followed_ns : mf_clock_monotonic_ns();
        note_request(http->options.services, r, (double)(answered - r->started_ns) / 1e9);
    }
    *con_cls = NULL;
    free_exchange(x);
    mf_http_set_deadline(connection_of(connection),
                         http->config->http.idle_timeout_s + http->config->http.header_timeout_s);
}

/* --- running what may block --- */

/* What an endpoint function left: its response, or a problem. */
static void conclude(struct mf_exchange *x, bool ok)
{
    if (!ok)
        mf_respond_problem(x->request, &x->refusal,
                           x->request->wait_for[0] ? x->request->wait_for : NULL);
    else if (x->request->response.status == 0)
        mf_respond_empty(x->request, 204);
}

/* Hands the response to the event loop. What is not in the audit trail is not answered. */
static void finish(struct mf_exchange *x, bool ok)
{
    const struct mf_endpoint *endpoint = x->request->endpoint;
    struct mf_services *services = x->http->options.services;
    struct mf_error unrecorded = MF_ERROR_INIT;
    conclude(x, ok);
    if (x->request->principal && !mf_auth_record(x->request, &unrecorded))
        mf_respond_problem(x->request, &unrecorded, NULL);
    x->stage = MF_STAGE_ANSWER;
    MHD_resume_connection(x->connection); /* from here on x is the event loop's */
    if (endpoint->after)
        endpoint->after(services);
}

static void run_resume(struct mf_task *task, struct mf_store *store)
{
    struct mf_exchange *x = EXCHANGE_OF(task, task);
    x->request->store = store;
    finish(x, x->request->endpoint->resume(x->request, &x->refusal));
}

/* On the waiter's thread: a result that came with the news is sent at once. */
static void wait_is_over(struct mf_wait *wait, struct mf_ended_job *ended)
{
    struct mf_exchange *x = EXCHANGE_OF(wait, wait);
    if (ended && x->request->wait_plain && !x->request->principal) {
        x->request->ended = ended;
        finish(x, x->request->endpoint->resume(x->request, &x->refusal));
        return;
    }
    x->task.run = run_resume;
    mf_pool_run(x->http->options.pool, &x->task);
}

static void run_handle(struct mf_task *task, struct mf_store *store)
{
    struct mf_exchange *x = EXCHANGE_OF(task, task);
    struct mf_request *r = x->request;
    r->store = store;
    bool ok = r->endpoint->handle(r, &x->refusal);
    if (!ok || !r->wait_for[0] || r->response.status) {
        finish(x, ok);
        return;
    }
    memcpy(x->wait.job, r->wait_for, sizeof x->wait.job);
    x->wait.tenant = r->tenant;
    x->wait.until_ns = r->wait_until_ns;
    x->wait.done = wait_is_over;
    mf_waiter_add(x->http->options.waiter, &x->wait);
}

/* --- the way of a request --- */

struct header_scan {
    struct mf_exchange *x;
    size_t bytes;
    bool ok;
};

static enum MHD_Result on_header(void *cls, enum MHD_ValueKind kind, const char *name,
                                 size_t name_len, const char *value, size_t value_len)
{
    struct header_scan *scan = cls;
    struct mf_exchange *x = scan->x;
    (void)kind;
    scan->bytes += name_len + value_len + 4;
    if (scan->bytes > (size_t)x->http->config->http.max_header_bytes)
        scan->ok =
            mf_error_set(&x->refusal, MF_ERR_HEADERS, "the header fields have more than %d bytes",
                         (int)x->http->config->http.max_header_bytes);
    else if (strlen(name) != name_len || (value && strlen(value) != value_len))
        scan->ok = mf_error_set(&x->refusal, MF_ERR_MALFORMED, "a header field has a NUL byte");
    else
        scan->ok = mf_request_add_header(x->request, name, value, &x->refusal);
    return scan->ok ? MHD_YES : MHD_NO;
}

/* Counts a request against its tenant's quota, with the body that it announces. */
static bool take_quota(struct mf_request *r, struct mf_error *err)
{
    int retry_s = 0;
    if (mf_route_access(r->endpoint) == MF_ACCESS_PUBLIC ||
        mf_quota_take(r->services->quota, r->tenant, r->has_length ? r->content_length : 0,
                      mf_clock_monotonic_ns(), &retry_s, err))
        return true;
    struct mf_error ignored = MF_ERROR_INIT;
    (void)mf_respond_field(r, &ignored, "Retry-After", "%d", retry_s);
    return false;
}

/* The same for a piece of a body that was not announced. */
static bool take_bytes(struct mf_request *r, size_t len, struct mf_error *err)
{
    int retry_s = 0;
    return !r->services->quota || r->has_length ||
           mf_quota_take_bytes(r->services->quota, r->tenant, len, mf_clock_monotonic_ns(),
                               &retry_s, err);
}

/* Judges a request by its header; false: x->refusal says why not. */
static bool admit(struct mf_exchange *x, const char *method)
{
    struct mf_request *r = x->request;
    struct header_scan scan = {x, 0, true};
    r->method = mf_arena_strdup(r->arena, method, &x->refusal);
    MHD_get_connection_values_n(x->connection, MHD_HEADER_KIND, on_header, &scan);
    x->unframed = x->refusal.code != MF_OK || !r->method || !scan.ok ||
                  !mf_request_check_headers(r, &x->refusal);
    return !x->unframed && mf_route(r, &x->refusal) && mf_auth_admit(r, &x->refusal) &&
           (!r->services->quota || take_quota(r, &x->refusal)) &&
           (!r->endpoint->begin || r->endpoint->begin(r, &x->refusal));
}

/* The header is in. A refusal is sent at once when the framing is in doubt (and the connection
 * closed), when the client waits for leave to send its body, or when its body is too large to be
 * read just for good manners. */
static enum MHD_Result on_head(struct mf_exchange *x, const char *method)
{
    struct mf_request *r = x->request;
    bool ok = admit(x, method);
    x->stage = ok ? MF_STAGE_BODY : MF_STAGE_REFUSED;
    x->body_start_ns = mf_clock_monotonic_ns();
    mf_http_set_deadline(x->owner, x->http->config->http.header_timeout_s);
    const char *expect = mf_request_header(r, "Expect");
    if (ok || (!x->unframed && !(expect && strcasecmp(expect, "100-continue") == 0) &&
               !(r->has_length && r->content_length > DROP_BYTES)))
        return MHD_YES;
    if (x->unframed && !mf_respond_field(r, &x->refusal, MHD_HTTP_HEADER_CONNECTION, "close"))
        return MHD_NO;
    return mf_http_send_problem(x);
}

static enum MHD_Result on_body(struct mf_exchange *x, const char *data, size_t len)
{
    struct mf_request *r = x->request;
    const struct mf_config *config = x->http->config;
    r->body_bytes += len;
    if (config->http.min_body_rate > 0)
        mf_guard_set_deadline(
            x->owner->guarded,
            x->body_start_ns + (uint64_t)config->http.header_timeout_s * UINT64_C(1000000000) +
                r->body_bytes * 1000 / (uint64_t)config->http.min_body_rate * 1000000);
    else
        clear_deadline(x->owner);
    if (x->stage == MF_STAGE_BODY && r->endpoint->data &&
        (!take_bytes(r, len, &x->refusal) || !r->endpoint->data(r, data, len, &x->refusal)))
        x->stage = MF_STAGE_REFUSED;
    /* A body without end is not dropped for ever. */
    return r->body_bytes > (uint64_t)config->http.max_body_bytes + DROP_BYTES ? MHD_NO : MHD_YES;
}

static enum MHD_Result on_end(struct mf_exchange *x)
{
    struct mf_request *r = x->request;
    clear_deadline(x->owner);
    if (x->stage == MF_STAGE_REFUSED)
        return mf_http_send_problem(x);
    if (r->endpoint->quick) {
        conclude(x, r->endpoint->handle(r, &x->refusal));
        return mf_http_send_response(x);
    }
    x->stage = MF_STAGE_RUNNING;
    x->task.run = run_handle;
    MHD_suspend_connection(x->connection);
    mf_pool_run(r->endpoint->slow ? x->http->options.slow : x->http->options.pool, &x->task);
    return MHD_YES;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *data_size, void **con_cls)
{
    struct mf_exchange *x = *con_cls;
    (void)cls;
    (void)connection;
    (void)url;
    (void)version;
    if (!x || !x->request || !x->owner || !x->owner->guarded)
        return MHD_NO; /* out of memory: the connection is closed */
    size_t len = *data_size;
    switch (x->stage) {
    case MF_STAGE_NEW:
        return on_head(x, method);
    case MF_STAGE_BODY:
    case MF_STAGE_REFUSED:
        *data_size = 0;
        return len > 0 ? on_body(x, data, len) : on_end(x);
    case MF_STAGE_ANSWER:
        return mf_http_send_response(x);
    case MF_STAGE_RUNNING:
        break;
    }
    return MHD_YES;
}

/* --- starting and stopping --- */

static size_t tls_options(const struct mf_tls *tls, struct MHD_OptionItem out[4])
{
    size_t n = 0;
    out[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_CERT, 0, tls->certificate};
    out[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_KEY, 0, tls->key};
    out[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_PRIORITIES, 0,
                                       (void *)(uintptr_t)mf_tls_priorities};
    if (tls->client_ca)
        out[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_TRUST, 0, tls->client_ca};
    return n;
}

static struct MHD_Daemon *start_daemon(struct mf_http *http)
{
    const struct mf_config *config = http->config;
    struct MHD_OptionItem extra[6];
    size_t n = 0;
    if (config->http.threads > 1)
        extra[n++] = (struct MHD_OptionItem){MHD_OPTION_THREAD_POOL_SIZE,
                                             (intptr_t)config->http.threads, NULL};
    if (http->options.tls)
        n += tls_options(http->options.tls, extra + n);
    extra[n] = (struct MHD_OptionItem){MHD_OPTION_END, 0, NULL};
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC;
    return MHD_start_daemon(
        http->options.tls ? flags | MHD_USE_TLS : flags, 0, NULL, NULL, on_request, http,
        MHD_OPTION_LISTEN_SOCKET, (MHD_socket)http->options.listen_fd, MHD_OPTION_URI_LOG_CALLBACK,
        on_target, http, MHD_OPTION_NOTIFY_COMPLETED, on_completed, http,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, http, MHD_OPTION_STRICT_FOR_CLIENT, 1,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)config->http.max_connections,
        MHD_OPTION_PER_IP_CONNECTION_LIMIT, (unsigned)config->http.max_connections_per_ip,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)config->http.idle_timeout_s,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_BYTES, MHD_OPTION_THREAD_STACK_SIZE,
        (size_t)LOOP_STACK, MHD_OPTION_ARRAY, extra, MHD_OPTION_END);
}

struct mf_http *mf_http_start(const struct mf_http_options *options, struct mf_error *err)
{
    struct mf_http *http = calloc(1, sizeof *http);
    if (!http) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the HTTP server");
        return NULL;
    }
    pthread_mutex_init(&http->lock, NULL);
    pthread_cond_init(&http->idle, NULL);
    http->options = *options;
    http->config = options->services->config;
    http->guard = mf_guard_new(err);
    http->daemon = http->guard ? start_daemon(http) : NULL;
    if (!http->daemon) {
        mf_error_set(err, MF_ERR_IO, "the HTTP server cannot start");
        mf_http_stop(http);
        return NULL;
    }
    return http;
}

void mf_http_retire(struct mf_http *http)
{
    MHD_quiesce_daemon(http->daemon);
    __atomic_store_n(&http->retiring, 1, __ATOMIC_RELAXED);
}

int64_t mf_http_connections(const struct mf_http *http)
{
    return __atomic_load_n(&http->connections, __ATOMIC_RELAXED);
}

void mf_http_drain(struct mf_http *http, int timeout_ms)
{
    MHD_quiesce_daemon(http->daemon);
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    int64_t ns = until.tv_nsec + (int64_t)(timeout_ms % 1000) * 1000000;
    until.tv_sec += timeout_ms / 1000 + ns / 1000000000;
    until.tv_nsec = ns % 1000000000;
    pthread_mutex_lock(&http->lock);
    while (http->active > 0 && pthread_cond_timedwait(&http->idle, &http->lock, &until) == 0) {
    }
    pthread_mutex_unlock(&http->lock);
}

void mf_http_stop(struct mf_http *http)
{
    if (!http)
        return;
    if (http->daemon)
        MHD_stop_daemon(http->daemon);
    mf_guard_free(http->guard);
    pthread_cond_destroy(&http->idle);
    pthread_mutex_destroy(&http->lock);
    free(http);
}
