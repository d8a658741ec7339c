/*
 * Front: making the services, serving, draining.
 *
 * Threads: event loops and a guard (http.c), pools for what blocks (uploads apart from the rest), a
 * waiter for what waits, a feed for what follows; this one waits for the signal to stop and, now
 * and then, sweeps payloads that no job refers to.
 */
#include "server/front.h"

#include "server/auth.h"
#include "server/deidentify.h"
#include "server/feed.h"
#include "server/fhir_client.h"
#include "server/front_scan.h"
#include "server/http.h"
#include "server/model_policy.h"
#include "server/process.h"
#include "server/quota.h"
#include "server/routing.h"
#include "server/trace.h"

#include "core/log.h"

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    PATIENCE_MS = 10000,
    SWEEP_EVERY_S = 3600,
    SWEEP_FIRST_S = 60,
    MALLOC_ARENAS = 2,
    QUICK_THREADS = 4,
    RETIRE_STEP_NS = 100000000
};

struct front {
    struct mf_services services;
    struct mf_front_scan scan;
    struct mf_registry *registry;
    struct mf_routing *routing;
    struct mf_served_model *models;
    struct mf_pool *pool, *slow;
    struct mf_waiter *waiter;
    struct mf_http *http;
    struct mf_tls *tls;
    struct mf_store *store; /* of this thread */
    struct mf_deidentify_rules deidentify;
};

/* As if the supervisor had asked: this process drains and ends, and a new one starts. */
static void stop_front(void)
{
    kill(getpid(), SIGTERM);
}

/* --- making --- */

static bool open_models(struct front *f, const struct mf_config *config, struct mf_error *err)
{
    f->registry = mf_model_policy_open(config, NULL, err);
    if (!f->registry)
        return false;
    size_t n = mf_registry_count(f->registry);
    f->models = calloc(n + 1, sizeof *f->models);
    if (!f->models)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the list of models");
    for (size_t i = 0; i < n; i++) {
        struct mf_model_info info;
        mf_registry_info(f->registry, i, &info);
        f->models[i] = (struct mf_served_model){info.name, info.version, info.digest};
    }
    f->services.models = f->models;
    f->services.model_count = n;
    f->scan.registry = f->registry;
    if (!(f->routing = mf_routing_load(config->routing.rules, err)))
        return false;
    f->scan.routing = f->routing;
    f->services.registry = f->registry;
    return true;
}

static bool open_decoder(struct front *f, const struct mf_front_options *o, struct mf_error *err)
{
    const struct mf_config *config = o->config;
    const struct mf_decoder_limits limits = mf_decoder_limits_of(config);
    f->scan.identity = &config->ehr;
    f->scan.decoder =
        mf_decoder_new(o->decoder_address, (unsigned)config->decoder.processes, &limits, err);
    f->services.scanner = (struct mf_scanner){mf_front_scan, &f->scan, mf_front_prepare};
    f->services.describer = (struct mf_describer){mf_intake_describe_by_decoder, f->scan.decoder};
    f->services.decoder = f->scan.decoder;
    return f->scan.decoder != NULL;
}

static bool open_services(struct front *f, const struct mf_front_options *o, struct mf_error *err)
{
    const struct mf_config *config = o->config;
    const char *directory = config->data.directory;
    struct mf_services *s = &f->services;
    s->config = config;
    s->generation = o->generation;
    s->stop = stop_front;
    s->query = o->query_address;
    s->ups_gauges = o->ups_gauges;
    if (strcmp(config->deidentify.secret_file, "off") != 0) {
        if (!mf_deidentify_configured(config, &f->deidentify, err))
            return false;
        s->deidentify = &f->deidentify;
    }
    if (mf_tls_wanted(config) && !(f->tls = mf_tls_load(config, err)))
        return false;
    struct mf_error untraced = MF_ERROR_INIT;
    s->trace = mf_trace_new(config, "front", &untraced);
    if (untraced.code)
        return mf_error_set(err, untraced.code, "%s", untraced.msg);
    if (mf_access_guarded(config) &&
        (!(s->auth = mf_auth_new(config, err)) || !mf_auth_start(s->auth, err)))
        return false;
    if ((config->quota.requests_per_minute || config->quota.bytes_per_hour) &&
        !(s->quota =
              mf_quota_new(config->quota.requests_per_minute, config->quota.bytes_per_hour, err)))
        return false;
    return open_models(f, config, err) && open_decoder(f, o, err) &&
           (s->blobs =
                mf_blobs_open_configured(config, (uint64_t)config->data.min_free_bytes, err)) &&
           (s->fhir = mf_fhir_client_new(config->fhir.servers, (int)config->fhir.timeout_s, err)) &&
           (s->keys = mf_keys_new(err)) && (s->metrics = mf_metrics_new(o->gauges, err)) &&
           (s->monitor = mf_monitor_new(err)) &&
           (f->store = mf_store_connect(directory, PATIENCE_MS, err)) &&
           (f->pool = mf_pool_new(QUICK_THREADS, directory, PATIENCE_MS, err)) &&
           (f->slow = mf_pool_new((size_t)config->http.handlers, directory, PATIENCE_MS, err)) &&
           (f->waiter =
                mf_waiter_new(directory, PATIENCE_MS, (size_t)config->http.max_connections, err)) &&
           (s->feed =
                mf_feed_new(directory, PATIENCE_MS, (size_t)config->http.max_event_streams, err));
}

/* In this order: no request is left that could use what goes next. */
static void close_services(struct front *f)
{
    mf_waiter_free(f->waiter);
    mf_pool_free(f->slow);
    mf_pool_free(f->pool);
    if (f->services.feed)
        mf_feed_stop(f->services.feed);
    mf_http_stop(f->http);
    mf_feed_free(f->services.feed);
    mf_trace_free(f->services.trace);
    mf_tls_free(f->tls);
    mf_auth_free(f->services.auth);
    mf_quota_free(f->services.quota);
    mf_store_free(f->store);
    mf_monitor_free(f->services.monitor);
    mf_metrics_free(f->services.metrics);
    mf_keys_free(f->services.keys);
    mf_fhir_client_free(f->services.fhir);
    mf_blobs_free(f->services.blobs);
    mf_decoder_free(f->scan.decoder);
    free(f->models);
    mf_routing_free(f->routing);
    mf_registry_free(f->registry);
}

/* --- serving --- */

static bool locators_used(void *context, const char *const *names, size_t n, bool *ret_used,
                          struct mf_error *err)
{
    return mf_store_locators_used(context, names, n, ret_used, err);
}

static void sweep(struct front *f)
{
    struct mf_error err = MF_ERROR_INIT;
    size_t deleted = 0;
    if (!mf_blobs_sweep(f->services.blobs, f->services.config->data.orphan_age_s, locators_used,
                        f->store, &deleted, &err))
        mf_log(MF_LOG_WARN, "payloads.sweep_failed", MF_LOG_S("reason", err.msg));
    else if (deleted > 0)
        mf_log(MF_LOG_INFO, "payloads.swept", MF_LOG_I("deleted", deleted));
}

/* Returns the signal that ended the waiting. */
static int wait_for_stop(struct front *f, const sigset_t *signals)
{
    struct timespec wait = {.tv_sec = SWEEP_FIRST_S};
    for (;;) {
        int number = sigtimedwait(signals, NULL, &wait);
        if (number > 0)
            return number;
        if (errno != EAGAIN)
            continue;
        sweep(f);
        malloc_trim(0);
        wait.tv_sec = SWEEP_EVERY_S;
    }
}

/* Another front accepts. Whoever is connected to this one has its answers, and each says that the
 * connection ends with it; streams of events end, and are begun again at the other one. */
static void retire(struct front *f, const sigset_t *signals)
{
    const struct timespec step = {.tv_nsec = RETIRE_STEP_NS};
    int64_t steps = (f->services.config->http.idle_timeout_s + 1) * 1000000000 / RETIRE_STEP_NS;
    mf_log(MF_LOG_INFO, "front.retiring");
    mf_http_retire(f->http);
    mf_feed_stop(f->services.feed);
    while (steps-- > 0 && mf_http_connections(f->http) > 0)
        if (sigtimedwait(signals, NULL, &step) > 0)
            return;
}

static void drain(struct front *f)
{
    __atomic_store_n(&f->services.draining, 1, __ATOMIC_RELAXED);
    mf_waiter_stop(f->waiter);
    mf_feed_stop(f->services.feed);
    mf_http_drain(f->http, (int)f->services.config->http.drain_timeout_s * 1000);
}

static void tell_ready(int ready_fd)
{
    if (ready_fd < 0)
        return;
    ssize_t ignored = write(ready_fd, "1", 1);
    (void)ignored; /* whoever waited is gone */
    close(ready_fd);
}

bool mf_front_run(const struct mf_front_options *o, struct mf_error *err)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGUSR1);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN); /* the HTTP library writes to sockets that clients have closed */
    mallopt(M_ARENA_MAX, MALLOC_ARENAS);

    struct front f = {.http = NULL};
    bool ok = open_services(&f, o, err);
    if (ok && o->go_fd >= 0) {
        tell_ready(o->ready_fd);
        ok = mf_process_wait_go(o->go_fd) ||
             mf_error_set(err, MF_ERR_UNAVAILABLE, "this front is not needed any more");
    }
    if (ok) {
        const struct mf_http_options http = {.listen_fd = o->listen_fd,
                                             .tls = f.tls,
                                             .services = &f.services,
                                             .pool = f.pool,
                                             .slow = f.slow,
                                             .waiter = f.waiter};
        f.http = mf_http_start(&http, err);
        ok = f.http != NULL;
    }
    if (ok) {
        if (o->go_fd < 0)
            tell_ready(o->ready_fd);
        if (wait_for_stop(&f, &signals) == SIGUSR1)
            retire(&f, &signals);
        drain(&f);
    }
    close_services(&f);
    return ok;
}
