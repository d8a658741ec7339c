/* Worker: see worker.h. One thread runs jobs, a second one keeps their leases (heartbeat.h). */
#include "server/worker.h"

#include "core/clock.h"
#include "core/log.h"
#include "engine/bundle.h"
#include "engine/engine.h"
#include "server/blobs.h"
#include "server/heartbeat.h"
#include "server/levels.h"
#include "server/model_policy.h"
#include "server/pipeline.h"
#include "server/spans.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

enum {
    PATIENCE_MS = 10000, /* of one call to the store */
    STORE_TRIES = 6,     /* before a worker gives up: one minute without a store */
    CLAIM_ARENA = 512 << 20
};

struct worker {
    const struct mf_worker_options *options;
    struct mf_registry *registry;
    struct mf_decoder *decoder;
    struct mf_pipeline *pipeline;
    struct mf_blobs *blobs;
    struct mf_store *store;
    struct mf_levels *levels; /* NULL: sets do not follow feedback */
    struct mf_heartbeat_thread *heartbeat;
    char *models;           /* JSON text for the announcement */
    struct mf_trace *trace; /* NULL: none */
};

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

/* --- one job --- */

/* The descriptors of the packs that a claim's inputs lie in, and the parts in them. */
struct inputs {
    struct mf_part *parts; /* of the claim's arena */
    size_t count;
    const char *locators[MF_DECODER_MAX_FDS];
    int fds[MF_DECODER_MAX_FDS];
    size_t fd_count;
};

static void close_inputs(struct inputs *in)
{
    for (size_t i = 0; i < in->fd_count; i++)
        close(in->fds[i]);
    in->fd_count = 0;
}

/* The descriptor of a pack, opened at its first use. */
static int open_pack(const struct worker *w, struct inputs *in, const char *locator,
                     struct mf_error *err)
{
    for (size_t i = in->fd_count; i-- > 0;)
        if (strcmp(in->locators[i], locator) == 0)
            return in->fds[i];
    if (in->fd_count == MF_DECODER_MAX_FDS) {
        mf_error_set(err, MF_ERR_TOO_LARGE, "the job's inputs lie in more than %d packs",
                     MF_DECODER_MAX_FDS);
        return -1;
    }
    int fd = mf_blobs_open_pack(w->blobs, locator, err);
    if (fd < 0)
        return -1;
    in->locators[in->fd_count] = locator;
    in->fds[in->fd_count++] = fd;
    return fd;
}

static bool open_inputs(const struct worker *w, const struct mf_claim *claim,
                        struct mf_arena *arena, struct inputs *in, struct mf_error *err)
{
    in->parts = mf_arena_alloc(arena, claim->input_count + 1, sizeof *in->parts, err);
    if (!in->parts)
        return false;
    for (size_t i = 0; i < claim->input_count; i++) {
        const struct mf_job_input *input = &claim->inputs[i];
        bool ehr = strcmp(input->part, "ehr") == 0;
        if (!ehr && strcmp(input->part, "dicom") != 0)
            continue; /* the options are in the claim */
        int fd = open_pack(w, in, input->locator, err);
        if (fd < 0)
            return false;
        in->parts[in->count++] =
            (struct mf_part){ehr ? MF_PART_EHR : MF_PART_DICOM, fd, input->offset, input->size};
    }
    return true;
}

/* A job in hand: what the pipeline asks and tells, and how it ended. */
struct job {
    struct worker *w;
    const struct mf_claim *claim;
    size_t place; /* among those in hand */
    struct mf_job_ref ref;
    json_t *masks, *explanation;
    bool delivered, told;     /* there is a result; the store knows */
    struct mf_error problem;  /* why there is none */
    struct mf_error *failure; /* why the store could not be told */
};

static bool drain_is_over(const struct worker *w)
{
    uint64_t allowed = (uint64_t)w->options->config->http.drain_timeout_s * 1000000000;
    return stop_asked && mf_clock_monotonic_ns() - atomic_load(&stop_since_ns) >= allowed;
}

static bool stopped(void *context)
{
    const struct job *job = context;
    return mf_heartbeat_lease(job->w->heartbeat, job->place) != MF_LEASE_KEPT ||
           drain_is_over(job->w);
}

static void progress(void *context, double done)
{
    const struct job *job = context;
    mf_heartbeat_progress(job->w->heartbeat, done);
}

static const struct mf_aci *levels(void *context, const struct mf_bundle *bundle, const char *site,
                                   double alpha, struct mf_error *err)
{
    const struct job *job = context;
    return mf_levels_get(job->w->levels, job->w->store, job->claim->tenant, bundle, site, alpha,
                         err);
}

/* Repeats a call to the store through its restarts. */
#define TRY_STORE(call)                                                                            \
    do {                                                                                           \
        for (int try_ = 0; try_ < STORE_TRIES; try_++) {                                           \
            mf_error_clear(err);                                                                   \
            if (call)                                                                              \
                return true;                                                                       \
            if (err->code != MF_ERR_IO)                                                            \
                break;                                                                             \
        }                                                                                          \
        return false;                                                                              \
    } while (0)

static bool finish(struct worker *w, struct mf_outcome *outcome, struct mf_error *err)
{
    TRY_STORE(mf_store_finish(w->store, outcome, 1, err));
}

static bool release(struct worker *w, const struct mf_job_ref *jobs, size_t n,
                    enum mf_attempt_end end, struct mf_error *err)
{
    TRY_STORE(mf_store_release(w->store, jobs, n, end, err));
}

static bool report_predecessor(struct worker *w, struct mf_error *err)
{
    TRY_STORE(
        mf_store_worker_gone(w->store, w->options->predecessor, w->options->predecessor_end, err));
}

/* Tells the store the result, before the pipeline tidies up after the run. */
static void deliver(void *context, const json_t *result)
{
    struct job *job = context;
    MF_AUTO(mf_mem) char *text = mf_json_text(result, 0);
    MF_AUTO(mf_mem) char *masks = job->masks ? mf_json_text(job->masks, 0) : NULL;
    MF_AUTO(mf_mem) char *why = job->explanation ? mf_json_text(job->explanation, 0) : NULL;
    if (!text || (job->masks && !masks) || (job->explanation && !why)) {
        mf_error_set(&job->problem, MF_ERR_NO_MEMORY, "out of memory for the result");
        return;
    }
    struct mf_outcome outcome = {.job = job->ref,
                                 .state = MF_JOB_SUCCEEDED,
                                 .result = text,
                                 .result_len = strlen(text),
                                 .masks = masks,
                                 .masks_len = masks ? strlen(masks) : 0,
                                 .explanation = why,
                                 .explanation_len = why ? strlen(why) : 0};
    mf_heartbeat_running(job->w->heartbeat, -1);
    job->delivered = true;
    job->told = finish(job->w, &outcome, job->failure);
}

static void run_pipeline(struct job *job, struct mf_arena *arena)
{
    const struct mf_claim *claim = job->claim;
    struct mf_pipeline_options options;
    struct inputs in = {.count = 0};
    if (!mf_pipeline_options_parse(claim->options, claim->options ? strlen(claim->options) : 0,
                                   &options, &job->problem))
        return;
    options.identity = &job->w->options->config->ehr;
    if (claim->model)
        snprintf(options.model, sizeof options.model, "%s", claim->model);
    if (open_inputs(job->w, claim, arena, &in, &job->problem)) {
        const struct mf_pipeline_job run = {.id = claim->id,
                                            .parts = in.parts,
                                            .part_count = in.count,
                                            .index = claim->index,
                                            .index_len = claim->index_len,
                                            .options = &options,
                                            .stopped = stopped,
                                            .progress = progress,
                                            .levels = job->w->levels ? levels : NULL,
                                            .deliver = deliver,
                                            .context = job,
                                            .masks = &job->masks,
                                            .explanation = &job->explanation};
        json_decref(mf_pipeline_run(job->w->pipeline, &run, &job->problem));
    }
    close_inputs(&in);
}

/* Tells the store how a run that gave no result ended. */
static bool end_without_result(const struct job *job, struct mf_error *err)
{
    const struct mf_error *problem = &job->problem;
    struct mf_outcome outcome = {.job = job->ref, .state = MF_JOB_FAILED, .problem = *problem};
    enum mf_lease lease = mf_heartbeat_lease(job->w->heartbeat, job->place);
    if (lease == MF_LEASE_LOST)
        return true; /* somebody else's now */
    if (lease == MF_LEASE_CANCEL)
        outcome.state = MF_JOB_CANCELLED;
    else if (problem->code == MF_ERR_CONFLICT) /* the drain is over */
        return release(job->w, &job->ref, 1, MF_END_RETURNED, err);
    else if (problem->code == MF_ERR_IO || problem->code == MF_ERR_UNAVAILABLE)
        return release(job->w, &job->ref, 1, MF_END_LOST, err); /* not the job's fault */
    return finish(job->w, &outcome, err);
}

/* Whether every device that was computed on can be computed on again. */
static bool devices_work(const struct worker *w, struct mf_error *err)
{
    for (size_t i = 0; i < mf_registry_count(w->registry); i++) {
        struct mf_engine *engine = mf_registry_engine(w->registry, i);
        if (engine && !mf_engine_works(engine, err))
            return false;
    }
    return true;
}

/* The device failed under this job: that counts as a crash, and the worker must end. Always false.
 */
static bool give_up(const struct job *job, const struct mf_error *failure, struct mf_error *err)
{
    mf_log(MF_LOG_ERROR, "worker.device_failed", MF_LOG_S("job", job->claim->id),
           MF_LOG_S("reason", failure->msg));
    return release(job->w, &job->ref, 1, MF_END_CRASHED, err) &&
           mf_error_set(err, failure->code, "%s", failure->msg);
}

/* Runs one claimed job to an outcome. False when the store cannot be told: the worker must end. */
static bool run_job(struct worker *w, const struct mf_claim *claim, struct mf_arena *arena,
                    size_t place, struct mf_error *err)
{
    struct job job = {.w = w,
                      .claim = claim,
                      .place = place,
                      .ref = {.fence = claim->fence},
                      .problem = MF_ERROR_INIT,
                      .failure = err};
    memcpy(job.ref.id, claim->id, sizeof job.ref.id);
    uint64_t start = mf_clock_monotonic_ns();
    mf_heartbeat_running(w->heartbeat, (long)place);
    run_pipeline(&job, arena);
    mf_heartbeat_running(w->heartbeat, -1);
    double ms = (double)(mf_clock_monotonic_ns() - start) / 1e6;
    struct mf_error failure = MF_ERROR_INIT;
    if (!job.delivered && !devices_work(w, &failure))
        job.told = give_up(&job, &failure, err);
    else if (!job.delivered)
        job.told = end_without_result(&job, err);
    mf_span_job(w->trace, claim, start, job.delivered ? NULL : &job.problem);
    json_decref(job.masks);
    json_decref(job.explanation);
    mf_decoder_prepare(w->decoder); /* for the next job, now that nobody waits for this one */
    mf_log(job.delivered ? MF_LOG_INFO : MF_LOG_WARN, job.delivered ? "job.ran" : "job.no_result",
           MF_LOG_S("job", claim->id), MF_LOG_I("attempt", claim->attempt), MF_LOG_R("ms", ms),
           MF_LOG_S("reason", job.delivered ? "" : job.problem.msg));
    return job.told;
}

/* --- many jobs --- */

/* Runs claimed jobs one after the other; those not begun when the worker is told to stop go back.
 */
static bool run_claims(struct worker *w, const struct mf_claim *claims, size_t count,
                       struct mf_arena *arena, struct mf_error *err)
{
    struct mf_job_ref refs[256] = {{{0}, 0}};
    for (size_t i = 0; i < count; i++) {
        refs[i].fence = claims[i].fence;
        memcpy(refs[i].id, claims[i].id, sizeof refs[i].id);
    }
    mf_heartbeat_hold(w->heartbeat, refs, count);
    bool ok = true;
    size_t i = 0;
    for (; ok && i < count && !stop_asked; i++) {
        if (claims[i].frames_ahead > 0)
            mf_decoder_adopt(w->decoder, claims[i].frames_ahead);
        ok = mf_heartbeat_lease(w->heartbeat, i) == MF_LEASE_LOST ||
             run_job(w, &claims[i], arena, i, err);
    }
    if (ok && i < count)
        ok = release(w, refs + i, count - i, MF_END_RETURNED, err);
    mf_heartbeat_hold(w->heartbeat, NULL, 0);
    return ok;
}

/* One claim and its jobs. */
static bool work_once(struct worker *w, struct mf_error *err)
{
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(CLAIM_ARENA);
    struct mf_claim_request request = {
        .worker = w->options->id, .max = (size_t)w->options->config->worker.batch, .wait_ms = -1};
    struct mf_claim *claims = NULL;
    size_t count = 0;
    if (!arena)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    if (!mf_store_claim(w->store, &request, arena, &claims, &count, err))
        return false;
    return run_claims(w, claims, count, arena, err);
}

static bool work(struct worker *w, struct mf_error *err)
{
    int failures = 0;
    mf_decoder_prepare(w->decoder);
    while (!stop_asked) {
        struct mf_error error = MF_ERROR_INIT;
        if (work_once(w, &error)) {
            failures = 0;
            continue;
        }
        mf_log(MF_LOG_WARN, "worker.store_failed", MF_LOG_S("reason", error.msg));
        if (error.code != MF_ERR_IO || ++failures == STORE_TRIES)
            return mf_error_set(err, error.code, "%s", error.msg);
    }
    return true;
}

/* --- starting --- */

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
           (w->blobs = mf_blobs_open(config->data.directory, 0, err)) &&
           (w->store = mf_store_connect(config->data.directory, PATIENCE_MS, err)) &&
           ((w->models = models_text(w->registry)) ||
            mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory"));
}

static bool start_heartbeat(struct worker *w, struct mf_error *err)
{
    const struct mf_config *config = w->options->config;
    struct mf_heartbeat_options options = {.directory = config->data.directory,
                                           .worker = {.ready = true, .models = w->models},
                                           .lease_s = config->jobs.lease_s,
                                           .job_timeout_s = config->worker.job_timeout_s};
    struct mf_model_info info = {.device = "none"};
    if (mf_registry_count(w->registry))
        mf_registry_info(w->registry, 0, &info);
    snprintf(options.worker.id, sizeof options.worker.id, "%s", w->options->id);
    snprintf(options.worker.device, sizeof options.worker.device, "%s", info.device);
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

bool mf_worker_run(const struct mf_worker_options *options, struct mf_error *err)
{
    struct worker w = {.options = options};
    struct mf_error error = MF_ERROR_INIT;
    bool ok = open_worker(&w, &error);
    if (ok) {
        take_signals(w.store);
        ok = (!options->predecessor || report_predecessor(&w, &error)) &&
             start_heartbeat(&w, &error);
    }
    if (ok) {
        mf_log(MF_LOG_INFO, "worker.ready", MF_LOG_S("worker", options->id));
        tell_ready(options->ready_fd);
        ok = work(&w, &error);
    }
    /* an orderly end is announced, so that nobody waits for this worker */
    if (ok && !mf_store_worker_gone(w.store, options->id, MF_END_RETURNED, &error))
        mf_log(MF_LOG_WARN, "worker.farewell_failed", MF_LOG_S("reason", error.msg));
    close_worker(&w);
    return ok || mf_error_set(err, error.code, "%s", error.msg);
}
