/* Worker: see worker.h. One thread runs jobs (worker_claims.c, worker_jobs.c), a second one keeps
 * their leases (heartbeat.h). */
#include "server/worker_private.h"

#include "core/clock.h"
#include "core/log.h"
#include "engine/bundle.h"
#include "engine/engine.h"
#include "server/model_policy.h"
#include "server/process.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

enum { PATIENCE_MS = 10000 }; /* of one call to the store */

/* --- stopping: the handler only notes the time and wakes a claim that waits --- */

static volatile sig_atomic_t stop_asked;
static _Atomic uint64_t stop_since_ns;
static struct mf_store *store_to_wake;

static void on_stop(int signal_number)
{
    (void)signal_number;
    if (!stop_asked)
        atomic_store(&stop_since_ns, mf_clock_monotonic_ns());
    stop_asked = 1;
    if (store_to_wake)
        mf_store_interrupt(store_to_wake);
}

static void take_signals(struct mf_store *store)
{
    struct sigaction action = {.sa_handler = on_stop};
    store_to_wake = store;
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
}

bool mf_worker_stopping(void)
{
    return stop_asked;
}

bool mf_worker_drained(const struct worker *w)
{
    uint64_t allowed = (uint64_t)w->options->config->http.drain_timeout_s * 1000000000;
    return stop_asked && mf_clock_monotonic_ns() - atomic_load(&stop_since_ns) >= allowed;
}

static bool work(struct worker *w, struct mf_error *err)
{
    int failures = 0;
    mf_decoder_prepare(w->decoder);
    while (!mf_worker_stopping()) {
        struct mf_error error = MF_ERROR_INIT;
        if (mf_worker_work(w, &error)) {
            failures = 0;
            continue;
        }
        mf_log(MF_LOG_WARN, "worker.store_failed", MF_LOG_S("reason", error.msg));
        if (error.code != MF_ERR_IO || ++failures == MF_WORKER_STORE_TRIES)
            return mf_error_set(err, error.code, "%s", error.msg);
    }
    return true;
}

/* --- starting --- */

static bool report_predecessor(struct worker *w, struct mf_error *err)
{
    MF_TRY_STORE(
        mf_store_worker_gone(w->store, w->options->predecessor, w->options->predecessor_end, err));
}

/* Before anything is loaded, which takes long and may fail: a worker that is gone is ready for
 * nothing, and its jobs are somebody else's. */
static bool open_store(struct worker *w, struct mf_error *err)
{
    w->store = mf_store_connect(w->options->config->data.directory, PATIENCE_MS, err);
    return w->store && (!w->options->predecessor || report_predecessor(w, err));
}

/* [{"name","version","digest","labels":[id…]}…] */
static char *models_text(const struct mf_registry *registry)
{
    MF_AUTO(mf_json) json_t *models = json_array();
    for (size_t i = 0; models && i < mf_registry_count(registry); i++) {
        const struct mf_bundle *bundle = mf_registry_bundle(registry, i);
        json_t *labels = json_array();
        for (size_t k = 0; k < mf_bundle_label_count(bundle); k++)
            json_array_append_new(labels, json_string(mf_bundle_labels(bundle)[k].id));
        if (json_array_append_new(models,
                                  json_pack("{s:s, s:s, s:s, s:o}", "name", mf_bundle_name(bundle),
                                            "version", mf_bundle_version(bundle), "digest",
                                            mf_bundle_digest(bundle), "labels", labels)) != 0)
            return NULL;
    }
    return models ? mf_json_text(models, 0) : NULL;
}

/* Whether sets follow feedback, as configured. */
static bool open_levels(struct worker *w, struct mf_error *err)
{
    const char *feedback = w->options->config->trust.feedback;
    if (strcmp(feedback, "record") == 0)
        return true;
    if (strcmp(feedback, "adapt") != 0)
        return mf_error_set(err, MF_ERR_USAGE, "trust.feedback must be record or adapt");
    return (w->levels = mf_levels_new(err)) != NULL;
}

/* Adaptation as configured; the states of sites lie beside the data. */
static bool open_adaptation(struct worker *w, struct mf_error *err)
{
    const struct mf_config *config = w->options->config;
    enum mf_adapt_mode mode;
    char directory[4096];
    if (!mf_adapt_mode_parse(config->trust.adaptation, &mode))
        return mf_error_set(err, MF_ERR_USAGE,
                            "trust.adaptation must be off, shadow, episodic or site");
    snprintf(directory, sizeof directory, "%s/adaptation", config->data.directory);
    return mf_pipeline_adapt(w->pipeline, mode, directory, err);
}

static bool open_worker(struct worker *w, struct mf_error *err)
{
    const struct mf_config *config = w->options->config;
    const struct mf_registry_device device = {.device = w->options->device,
                                              .threads = w->options->threads,
                                              .dtype = config->worker.dtype,
                                              .kernels = config->worker.kernels,
                                              .weights = w->options->weights};
    const struct mf_decoder_limits limits = mf_decoder_limits_of(config);
    struct mf_error untraced = MF_ERROR_INIT;
    w->trace = mf_trace_new(config, "worker", &untraced);
    if (untraced.code)
        return mf_error_set(err, untraced.code, "%s", untraced.msg);
    return (w->registry = mf_model_policy_open(config, &device, err)) &&
           (w->decoder = mf_decoder_new(w->options->decoder_address, 1, &limits, err)) &&
           (w->pipeline = mf_pipeline_new(w->registry, w->decoder, err)) &&
           open_adaptation(w, err) && open_levels(w, err) &&
           (w->blobs = mf_blobs_open_configured(config, 0, err)) &&
           ((w->models = models_text(w->registry)) ||
            mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory"));
}

/* What the models take: nothing is taken later. */
static void note_memory(struct worker *w)
{
    size_t total = 0, available = 0, taken = 0, all = 0;
    for (size_t i = 0; i < mf_registry_count(w->registry); i++) {
        struct mf_engine *engine = mf_registry_engine(w->registry, i);
        if (engine && mf_engine_device_memory(engine, &total, &available, &taken))
            all += taken;
    }
    MF_GAUGE_SET(w->gauges->memory_total, total);
    MF_GAUGE_SET(w->gauges->memory_available, available);
    MF_GAUGE_SET(w->gauges->memory_taken, all);
}

static bool start_heartbeat(struct worker *w, struct mf_error *err)
{
    const struct mf_config *config = w->options->config;
    struct mf_heartbeat_options options = {.directory = config->data.directory,
                                           .worker = {.ready = true, .models = w->models},
                                           .lease_s = config->jobs.lease_s,
                                           .job_timeout_s = config->worker.job_timeout_s,
                                           .gauges = w->options->name ? w->gauges : NULL,
                                           .name = w->options->name};
    struct mf_model_info info = {.device = "none"};
    if (mf_registry_count(w->registry))
        mf_registry_info(w->registry, 0, &info);
    snprintf(options.worker.id, sizeof options.worker.id, "%s", w->options->id);
    snprintf(options.worker.device, sizeof options.worker.device, "%s", info.device);
    snprintf(w->gauges->device, sizeof w->gauges->device, "%s", info.device);
    note_memory(w);
    w->heartbeat = mf_heartbeat_start(&options, err);
    return w->heartbeat != NULL;
}

static void tell_ready(int ready_fd)
{
    if (ready_fd < 0)
        return;
    ssize_t told = write(ready_fd, "r", 1);
    (void)told; /* a parent that is gone takes us with it */
    close(ready_fd);
}

static void close_worker(struct worker *w)
{
    store_to_wake = NULL;
    mf_heartbeat_stop(w->heartbeat);
    mf_store_free(w->store);
    mf_blobs_free(w->blobs);
    mf_pipeline_free(w->pipeline);
    mf_levels_free(w->levels);
    mf_decoder_free(w->decoder);
    mf_registry_free(w->registry);
    mf_trace_free(w->trace);
    free(w->models);
}

/* Beside workers that still run: everything is loaded, and nothing is begun before their end. */
static bool wait_for_turn(const struct mf_worker_options *options, struct mf_error *err)
{
    if (options->go_fd < 0)
        return true;
    tell_ready(options->ready_fd);
    return mf_process_wait_go(options->go_fd) ||
           mf_error_set(err, MF_ERR_UNAVAILABLE, "this worker is not needed any more");
}

bool mf_worker_run(const struct mf_worker_options *options, struct mf_error *err)
{
    struct worker w = {.options = options};
    w.gauges = options->gauges ? options->gauges : &w.own_gauges;
    struct mf_error error = MF_ERROR_INIT;
    bool ok = open_store(&w, &error) && open_worker(&w, &error) && wait_for_turn(options, &error);
    if (ok) {
        take_signals(w.store);
        ok = start_heartbeat(&w, &error);
    }
    if (ok) {
        mf_log(MF_LOG_INFO, "worker.ready", MF_LOG_S("worker", options->id));
        if (options->go_fd < 0)
            tell_ready(options->ready_fd);
        ok = work(&w, &error);
    }
    /* an orderly end is announced, so that nobody waits for this worker */
    if (ok && !mf_store_worker_gone(w.store, options->id, MF_END_RETURNED, &error))
        mf_log(MF_LOG_WARN, "worker.farewell_failed", MF_LOG_S("reason", error.msg));
    close_worker(&w);
    return ok || mf_error_set(err, error.code, "%s", error.msg);
}
