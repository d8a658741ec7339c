/* Heartbeat: see heartbeat.h. The thread sleeps on a condition variable until the next beat may be
 * due; a job that comes to hand does not wake it. */
#include "server/heartbeat.h"

#include "server/worker_report.h"

#include "core/clock.h"
#include "core/log.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <time.h>

enum {
    MAX_JOBS = 256,
    ANNOUNCE_TTL_S = 60,
    REPORT_EVERY_S = 5,
    PATIENCE_MS = 5000,
    FIRST_TRIES = 12
};

struct mf_heartbeat_thread {
    struct mf_heartbeat_options options;
    struct mf_store *store; /* of the thread alone */
    pthread_t thread;
    bool started;
    pthread_mutex_t lock; /* guards everything below */
    pthread_cond_t changed;
    bool stop;
    struct mf_heartbeat jobs[MAX_JOBS];
    size_t count;
    uint64_t next_beat_ns;
    size_t running, running_count; /* from, and how many */
    uint64_t running_since_ns;
};

static const uint64_t SECOND = 1000000000;

static bool announce(struct mf_heartbeat_thread *t, struct mf_error *err)
{
    struct mf_worker worker = t->options.worker;
    MF_AUTO(mf_mem)
    char *report = t->options.gauges
                       ? mf_worker_report(worker.models, t->options.gauges, t->options.name)
                       : NULL;
    if (report)
        worker.models = report;
    return mf_store_announce(t->store, &worker, ANNOUNCE_TTL_S, err);
}

static uint64_t announce_interval(const struct mf_heartbeat_thread *t)
{
    return (t->options.gauges ? REPORT_EVERY_S : ANNOUNCE_TTL_S / 3) * SECOND;
}

static void announce_again(struct mf_heartbeat_thread *t)
{
    struct mf_error err = MF_ERROR_INIT;
    if (!announce(t, &err))
        mf_log(MF_LOG_WARN, "worker.announce_failed", MF_LOG_S("reason", err.msg));
}

/* Sends one beat for the jobs in hand (called with the lock held; gives it up meanwhile) and keeps
 * what it says about those that are still in hand afterwards. */
static void beat(struct mf_heartbeat_thread *t)
{
    static struct mf_heartbeat beats[MAX_JOBS]; /* one thread */
    size_t count = t->count;
    struct mf_error err = MF_ERROR_INIT;
    memcpy(beats, t->jobs, count * sizeof *beats);
    pthread_mutex_unlock(&t->lock);
    bool ok = mf_store_heartbeat(t->store, beats, count, &err);
    if (!ok)
        mf_log(MF_LOG_WARN, "worker.heartbeat_failed", MF_LOG_S("reason", err.msg));
    pthread_mutex_lock(&t->lock);
    for (size_t i = 0; ok && i < t->count; i++)
        for (size_t k = 0; k < count; k++)
            if (strcmp(t->jobs[i].job.id, beats[k].job.id) == 0 &&
                t->jobs[i].job.fence == beats[k].job.fence)
                t->jobs[i].lease = beats[k].lease;
}

/* The job that hangs fails. Where several ran together, none can be blamed: each runs alone next.
 */
static bool blame(struct mf_heartbeat_thread *t, struct mf_error *err)
{
    struct mf_job_ref refs[MAX_JOBS];
    struct mf_outcome outcome = {.job = t->jobs[t->running].job, .state = MF_JOB_FAILED};
    for (size_t i = 0; i < t->running_count; i++) {
        refs[i] = t->jobs[t->running + i].job;
        mf_log(MF_LOG_ERROR, "worker.job_hangs", MF_LOG_S("job", refs[i].id));
    }
    if (t->running_count > 1)
        return mf_store_release(t->store, refs, t->running_count, MF_END_CRASHED, err);
    mf_error_set(&outcome.problem, MF_ERR_TIMEOUT, "the job took more than %lld seconds",
                 (long long)t->options.job_timeout_s);
    return mf_store_finish(t->store, &outcome, 1, err);
}

/* Ends the process: an engine that hangs cannot be stopped otherwise. */
static _Noreturn void end_hanging(struct mf_heartbeat_thread *t)
{
    struct mf_error err = MF_ERROR_INIT;
    if (!blame(t, &err))
        mf_log(MF_LOG_ERROR, "worker.finish_failed", MF_LOG_S("reason", err.msg));
    _exit(1);
}

static uint64_t min_ns(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t beat_interval(const struct mf_heartbeat_thread *t)
{
    return (uint64_t)t->options.lease_s * SECOND / 3;
}

static void *run(void *arg)
{
    struct mf_heartbeat_thread *t = arg;
    uint64_t now = mf_clock_monotonic_ns();
    uint64_t next_announce = now + announce_interval(t); /* the first one was at the start */
    pthread_mutex_lock(&t->lock);
    while (!t->stop) {
        now = mf_clock_monotonic_ns();
        uint64_t timeout = t->running_since_ns + (uint64_t)t->options.job_timeout_s * SECOND;
        if (t->running_count > 0 && now >= timeout)
            end_hanging(t);
        if (now >= next_announce) {
            pthread_mutex_unlock(&t->lock);
            announce_again(t);
            pthread_mutex_lock(&t->lock);
            next_announce = now + announce_interval(t);
        }
        if (t->count && now >= t->next_beat_ns) {
            beat(t);
            t->next_beat_ns = now + beat_interval(t);
        }
        /* Jobs come to hand without a signal: it looks as often as one may need it. */
        uint64_t look = now + min_ns(beat_interval(t), (uint64_t)t->options.job_timeout_s * SECOND);
        uint64_t until = min_ns(next_announce, t->count ? min_ns(look, t->next_beat_ns) : look);
        until = t->running_count > 0 ? min_ns(until, timeout) : until;
        struct timespec at = {(time_t)(until / SECOND), (long)(until % SECOND)};
        if (!t->stop)
            pthread_cond_timedwait(&t->changed, &t->lock, &at);
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

/* The first sign of life: the store may be starting, too, or its database. */
static bool announce_first(struct mf_heartbeat_thread *t, struct mf_error *err)
{
    for (int i = 0; i < FIRST_TRIES; i++) {
        mf_error_clear(err);
        if (announce(t, err))
            return true;
        if (err && err->code != MF_ERR_IO)
            break;
    }
    return false;
}

struct mf_heartbeat_thread *mf_heartbeat_start(const struct mf_heartbeat_options *options,
                                               struct mf_error *err)
{
    struct mf_heartbeat_thread *t = calloc(1, sizeof *t);
    if (!t) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
        return NULL;
    }
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&t->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&t->lock, NULL);
    t->options = *options;
    t->store = mf_store_connect(options->directory, PATIENCE_MS, err);
    sigset_t all, before; /* signals belong to the main thread */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    t->started =
        t->store && announce_first(t, err) && pthread_create(&t->thread, NULL, run, t) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (t->started)
        return t;
    mf_error_set(err, MF_ERR_INTERNAL, "the heartbeat thread cannot be started");
    mf_heartbeat_stop(t);
    return NULL;
}

void mf_heartbeat_stop(struct mf_heartbeat_thread *t)
{
    if (!t)
        return;
    pthread_mutex_lock(&t->lock);
    t->stop = true;
    pthread_cond_signal(&t->changed);
    pthread_mutex_unlock(&t->lock);
    if (t->started) {
        mf_store_interrupt(t->store);
        pthread_join(t->thread, NULL);
    }
    mf_store_free(t->store);
    pthread_cond_destroy(&t->changed);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

void mf_heartbeat_hold(struct mf_heartbeat_thread *t, const struct mf_job_ref *jobs, size_t count)
{
    pthread_mutex_lock(&t->lock);
    t->count = count < MAX_JOBS ? count : MAX_JOBS;
    for (size_t i = 0; i < t->count; i++)
        t->jobs[i] = (struct mf_heartbeat){.job = jobs[i], .lease = MF_LEASE_KEPT};
    t->running_count = 0;
    t->next_beat_ns = mf_clock_monotonic_ns() + beat_interval(t);
    pthread_mutex_unlock(&t->lock);
}

void mf_heartbeat_running(struct mf_heartbeat_thread *t, size_t first, size_t count)
{
    pthread_mutex_lock(&t->lock);
    t->running = first;
    t->running_count = first + count <= t->count ? count : 0;
    t->running_since_ns = mf_clock_monotonic_ns();
    pthread_mutex_unlock(&t->lock);
}

void mf_heartbeat_progress(struct mf_heartbeat_thread *t, size_t job, double done)
{
    pthread_mutex_lock(&t->lock);
    if (job < t->count)
        t->jobs[job].progress = done;
    pthread_mutex_unlock(&t->lock);
}

enum mf_lease mf_heartbeat_lease(struct mf_heartbeat_thread *t, size_t job)
{
    pthread_mutex_lock(&t->lock);
    enum mf_lease lease = job < t->count ? t->jobs[job].lease : MF_LEASE_LOST;
    pthread_mutex_unlock(&t->lock);
    return lease;
}
