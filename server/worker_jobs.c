/*
 * A worker's jobs, from claim to outcome. Several are begun one after the other, their networks
 * computed together, and each is ended on its own.
 */
#include "server/worker_private.h"

#include "core/clock.h"
#include "core/log.h"
#include "engine/engine.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

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
    size_t place, behind; /* among those in hand; how many run together with it, and end after it */
    struct mf_pipeline_options options;
    struct inputs in;
    struct mf_pipeline_job run;
    struct mf_pipeline_begun *begun;
    struct mf_job_ref ref;
    json_t *masks, *explanation;
    bool delivered, told;     /* there is a result; the store knows */
    struct mf_error problem;  /* why there is none */
    struct mf_error *failure; /* why the store could not be told */
};

static bool stopped(void *context)
{
    const struct job *job = context;
    return mf_heartbeat_lease(job->w->heartbeat, job->place) != MF_LEASE_KEPT ||
           mf_worker_drained(job->w);
}

static void progress(void *context, double done)
{
    const struct job *job = context;
    mf_heartbeat_progress(job->w->heartbeat, job->place, done);
}

static const struct mf_aci *levels(void *context, const struct mf_bundle *bundle, const char *site,
                                   double alpha, struct mf_error *err)
{
    const struct job *job = context;
    return mf_levels_get(job->w->levels, job->w->store, job->claim->tenant, bundle, site, alpha,
                         err);
}

static bool finish(struct worker *w, struct mf_outcome *outcome, struct mf_error *err)
{
    MF_TRY_STORE(mf_store_finish(w->store, outcome, 1, err));
}

bool mf_worker_release(struct worker *w, const struct mf_job_ref *jobs, size_t n,
                       enum mf_attempt_end end, struct mf_error *err)
{
    MF_TRY_STORE(mf_store_release(w->store, jobs, n, end, err));
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
    mf_heartbeat_running(job->w->heartbeat, job->place + 1, job->behind);
    job->delivered = true;
    job->told = finish(job->w, &outcome, job->failure);
}

/* Up to what the network reads. */
static void begin(struct job *job, struct mf_arena *arena)
{
    const struct mf_claim *claim = job->claim;
    struct mf_pipeline_options *options = &job->options;
    if (claim->frames_ahead > 0)
        mf_decoder_adopt(job->w->decoder, claim->frames_ahead);
    if (!mf_pipeline_options_parse(claim->options, claim->options ? strlen(claim->options) : 0,
                                   options, &job->problem))
        return;
    options->identity = &job->w->options->config->ehr;
    if (claim->model)
        snprintf(options->model, sizeof options->model, "%s", claim->model);
    if (!open_inputs(job->w, claim, arena, &job->in, &job->problem))
        return;
    job->run = (struct mf_pipeline_job){.id = claim->id,
                                        .parts = job->in.parts,
                                        .part_count = job->in.count,
                                        .index = claim->index,
                                        .index_len = claim->index_len,
                                        .options = options,
                                        .stopped = stopped,
                                        .progress = progress,
                                        .levels = job->w->levels ? levels : NULL,
                                        .deliver = deliver,
                                        .context = job,
                                        .masks = &job->masks,
                                        .explanation = &job->explanation};
    job->begun = mf_pipeline_begin(job->w->pipeline, &job->run, &job->problem);
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
        return mf_worker_release(job->w, &job->ref, 1, MF_END_RETURNED, err);
    else if (problem->code == MF_ERR_IO || problem->code == MF_ERR_UNAVAILABLE)
        return mf_worker_release(job->w, &job->ref, 1, MF_END_LOST, err); /* not the job's fault */
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

/* The device failed under these jobs: that counts as a crash, of the one that ran alone or of none,
 * and then each runs alone. The worker must end: always false. */
static bool give_up(struct worker *w, const struct job *jobs, size_t count,
                    const struct mf_error *failure, struct mf_error *err)
{
    struct mf_job_ref refs[MF_WORKER_MOST_CLAIMS];
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        if (jobs[i].delivered)
            continue;
        refs[n++] = jobs[i].ref;
        mf_log(MF_LOG_ERROR, "worker.device_failed", MF_LOG_S("job", jobs[i].claim->id),
               MF_LOG_S("reason", failure->msg));
    }
    return mf_worker_release(w, refs, n, MF_END_CRASHED, err) &&
           mf_error_set(err, failure->code, "%s", failure->msg);
}

static void compute(struct worker *w, const struct job *jobs, size_t count)
{
    struct mf_pipeline_begun *begun[MF_WORKER_MOST_CLAIMS];
    uint64_t start = mf_clock_monotonic_ns(), studies = 0;
    for (size_t i = 0; i < count; i++) {
        begun[i] = jobs[i].begun;
        studies += begun[i] != NULL;
    }
    if (studies == 0)
        return;
    mf_pipeline_compute(begun, count);
    MF_GAUGE_ADD(w->gauges->computing_ns, mf_clock_monotonic_ns() - start);
    MF_GAUGE_ADD(w->gauges->batches, 1);
    MF_GAUGE_ADD(w->gauges->studies, studies);
}

/* From the network's answer to the store. */
static void end(struct worker *w, struct job *job, uint64_t start, struct mf_error *err)
{
    const struct mf_claim *claim = job->claim;
    if (job->begun)
        json_decref(mf_pipeline_end(w->pipeline, job->begun, &job->problem));
    job->begun = NULL;
    close_inputs(&job->in);
    struct mf_error works = MF_ERROR_INIT;
    if (!job->delivered && devices_work(w, &works)) {
        mf_heartbeat_running(w->heartbeat, job->place + 1, job->behind);
        job->told = end_without_result(job, err);
    }
    double ms = (double)(mf_clock_monotonic_ns() - start) / 1e6;
    mf_span_job(w->trace, claim, start, job->delivered ? NULL : &job->problem);
    json_decref(job->masks);
    json_decref(job->explanation);
    mf_log(job->delivered ? MF_LOG_INFO : MF_LOG_WARN, job->delivered ? "job.ran" : "job.no_result",
           MF_LOG_S("job", claim->id), MF_LOG_I("attempt", claim->attempt), MF_LOG_R("ms", ms),
           MF_LOG_S("reason", job->delivered ? "" : job->problem.msg));
}

bool mf_worker_run_jobs(struct worker *w, const struct mf_claim *claims, size_t first, size_t count,
                        struct mf_arena *arena, struct mf_error *err)
{
    struct job *jobs = mf_arena_alloc(arena, count, sizeof *jobs, err);
    struct mf_error failure = MF_ERROR_INIT;
    uint64_t start = mf_clock_monotonic_ns();
    bool told = true;
    if (!jobs)
        return false;
    for (size_t i = 0; i < count; i++) {
        jobs[i] = (struct job){.w = w,
                               .claim = &claims[first + i],
                               .place = first + i,
                               .behind = count - i - 1,
                               .ref = {.fence = claims[first + i].fence},
                               .problem = MF_ERROR_INIT,
                               .failure = err};
        memcpy(jobs[i].ref.id, claims[first + i].id, sizeof jobs[i].ref.id);
    }
    mf_heartbeat_running(w->heartbeat, first, count);
    for (size_t i = 0; i < count; i++)
        if (mf_heartbeat_lease(w->heartbeat, first + i) != MF_LEASE_LOST)
            begin(&jobs[i], arena);
    compute(w, jobs, count);
    for (size_t i = 0; i < count; i++) {
        end(w, &jobs[i], start, err);
        told = told && jobs[i].told;
    }
    mf_heartbeat_running(w->heartbeat, 0, 0);
    if (!devices_work(w, &failure))
        return give_up(w, jobs, count, &failure, err);
    mf_decoder_prepare(w->decoder); /* for the next job, now that nobody waits for these */
    return told;
}
