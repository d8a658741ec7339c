/*
 * SQLite store: how attempts end. heartbeat and finish, and the ways back: release, lost leases,
 * crashes.
 *
 * Crash accounting (DESIGN.md, "Processes"): a crash counts against a job only if it was all that
 * its worker was running; otherwise every job of that worker runs alone next time (`solo`).
 * max_crashes own crashes, or max_losses lost attempts, fail the job with the reason.
 */
#include "server/store_sqlite.h"

#include "core/clock.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

static struct mf_sqlite_store *self(struct mf_store *store)
{
    return (struct mf_sqlite_store *)store;
}

/* What decides how a running job goes on. */
struct running {
    int64_t seq, fence, crashes, losses, started;
    enum mf_job_state state;
    bool cancel;
    char id[MF_JOB_ID], tenant[MF_TENANT], worker[MF_WORKER_ID];
};

#define RUNNING_COLUMNS "seq, fence, crashes, losses, started, state, cancel, id, tenant, worker"

static void read_running(sqlite3_stmt *q, struct running *r)
{
    r->seq = sqlite3_column_int64(q, 0);
    r->fence = sqlite3_column_int64(q, 1);
    r->crashes = sqlite3_column_int64(q, 2);
    r->losses = sqlite3_column_int64(q, 3);
    r->started = sqlite3_column_int64(q, 4);
    r->state = (enum mf_job_state)sqlite3_column_int(q, 5);
    r->cancel = sqlite3_column_int(q, 6) != 0;
    mf_sqlite_text(q, 7, r->id, sizeof r->id);
    mf_sqlite_text(q, 8, r->tenant, sizeof r->tenant);
    mf_sqlite_text(q, 9, r->worker, sizeof r->worker);
}

/* 1: found, 0: no such job, −1: failed */
static int find_running(struct mf_sqlite_store *s, const char *id, struct running *ret,
                        struct mf_error *err)
{
    sqlite3_stmt *q =
        mf_sqlite_query(s, err, "SELECT " RUNNING_COLUMNS " FROM jobs WHERE id = ?", "t", id);
    int row = mf_sqlite_row(s, q, err);
    if (row == 1) {
        read_running(q, ret);
        mf_sqlite_done(q);
    }
    return row;
}

static bool drop_lease(struct mf_sqlite_store *s, int64_t seq, struct mf_error *err)
{
    return MF_SQLITE_RUN(s, err, "DELETE FROM leases WHERE job = ?", "i", seq);
}

/* Makes a job terminal: state, problem, counter, audit entry, event. */
static bool end_job(struct mf_sqlite_store *s, const struct running *r, enum mf_job_state state,
                    const struct mf_error *problem, struct mf_error *err)
{
    bool failed = state == MF_JOB_FAILED;
    const char *name = mf_job_state_name(state);
    char event[32];
    snprintf(event, sizeof event, "job.%s", name);
    s->work_changed = true;
    return MF_SQLITE_RUN(s, err,
                         "UPDATE jobs SET state = ?, finished = ?, worker = NULL, problem_code = ?,"
                         " problem_detail = ? WHERE seq = ?",
                         "iitti", (int64_t)state, mf_clock_wall_ms(),
                         failed ? mf_code_name(problem->code) : NULL, failed ? problem->msg : NULL,
                         r->seq) &&
           drop_lease(s, r->seq, err) && mf_sqlite_count(s, name, 1, err) &&
           mf_sqlite_audit(s, r->tenant, r->id, event, failed ? mf_code_name(problem->code) : NULL,
                           err) &&
           mf_sqlite_note_end(s, r->id, err);
}

static bool requeue(struct mf_sqlite_store *s, const struct running *r, bool solo, bool counted,
                    int64_t crashes, int64_t losses, struct mf_error *err)
{
    s->work_changed = true;
    return MF_SQLITE_RUN(s, err,
                         "UPDATE jobs SET state = 0, worker = NULL, crashes = ?, losses = ?,"
                         " solo = max(solo, ?), attempts = attempts - ? WHERE seq = ?",
                         "iiiii", crashes, losses, (int64_t)solo, (int64_t)!counted, r->seq) &&
           drop_lease(s, r->seq, err);
}

/* One running job is given back. `alone`: its worker was running nothing else. */
static bool end_attempt(struct mf_sqlite_store *s, const struct running *r, enum mf_attempt_end end,
                        bool alone, struct mf_error *err)
{
    int64_t crashes = r->crashes + (end == MF_END_CRASHED && alone);
    int64_t losses = r->losses + (end == MF_END_LOST);
    struct mf_error problem = MF_ERROR_INIT;
    if (end == MF_END_CRASHED &&
        (!mf_sqlite_count(s, "crashes", 1, err) ||
         !mf_sqlite_audit(s, r->tenant, r->id, "job.crashed", alone ? "alone" : "in a batch", err)))
        return false;
    if (end == MF_END_LOST && !mf_sqlite_count(s, "losses", 1, err))
        return false;
    if (r->cancel)
        return end_job(s, r, MF_JOB_CANCELLED, NULL, err);
    if (crashes >= s->settings.max_crashes)
        mf_error_set(&problem, MF_ERR_CRASHED,
                     "processing this job alone crashed the worker %" PRId64 " times", crashes);
    else if (losses >= s->settings.max_losses)
        mf_error_set(&problem, MF_ERR_CRASHED,
                     "the worker was stopped or lost %" PRId64 " times while running this job",
                     losses);
    if (problem.code != MF_OK)
        return end_job(s, r, MF_JOB_FAILED, &problem, err);
    return requeue(s, r, end == MF_END_CRASHED && !alone, end != MF_END_RETURNED, crashes, losses,
                   err);
}

/* --- heartbeat and finish --- */

static bool heartbeat_step(struct mf_sqlite_store *s, struct mf_heartbeat *beats, size_t n,
                           struct mf_error *err)
{
    for (size_t i = 0; i < n; i++) {
        struct running r = {.seq = 0};
        int found = find_running(s, beats[i].job.id, &r, err);
        if (found < 0)
            return false;
        if (!found || r.state != MF_JOB_RUNNING || r.fence != beats[i].job.fence) {
            beats[i].lease = MF_LEASE_LOST;
            continue;
        }
        beats[i].lease = r.cancel ? MF_LEASE_CANCEL : MF_LEASE_KEPT;
        double done = beats[i].progress;
        done = isfinite(done) ? fmin(fmax(done, 0.0), 1.0) : 0.0;
        if (!MF_SQLITE_RUN(s, err, "UPDATE leases SET deadline = ?, progress = ? WHERE job = ?",
                           "idi", mf_sqlite_lease_deadline(s), done, r.seq))
            return false;
    }
    return true;
}

bool mf_sqlite_heartbeat(struct mf_store *store, struct mf_heartbeat *beats, size_t n,
                         struct mf_error *err)
{
    struct mf_sqlite_store *s = self(store);
    return mf_sqlite_savepoint(s, err) && mf_sqlite_end(s, heartbeat_step(s, beats, n, err), err);
}

static void note_run(struct mf_sqlite_store *s, const struct running *r)
{
    int64_t ms = mf_clock_wall_ms() - r->started;
    double seconds = (double)(ms > 0 ? ms : 0) / 1e3;
    s->run_seconds_total += seconds;
    s->run_count++;
    s->typical_run_s = isnan(s->typical_run_s) ? seconds : 0.8 * s->typical_run_s + 0.2 * seconds;
}

static bool finish_one(struct mf_sqlite_store *s, struct mf_outcome *o, struct mf_error *err)
{
    struct running r = {.seq = 0};
    int found = find_running(s, o->job.id, &r, err);
    if (found < 0)
        return false;
    bool mine = found && r.fence == o->job.fence;
    o->lease = mine && mf_job_state_terminal(r.state) ? MF_LEASE_KEPT : MF_LEASE_LOST;
    if (!mine || r.state != MF_JOB_RUNNING)
        return true;
    o->lease = MF_LEASE_KEPT;
    enum mf_job_state state = r.cancel ? MF_JOB_CANCELLED : o->state;
    if (state == MF_JOB_SUCCEEDED) {
        if (!MF_SQLITE_RUN(s, err, "INSERT INTO results(job, body) VALUES(?, ?)", "ib", r.seq,
                           o->result, o->result_len) ||
            (o->masks && !MF_SQLITE_RUN(s, err, "INSERT INTO masks(job, body) VALUES(?, ?)", "ib",
                                        r.seq, o->masks, o->masks_len)) ||
            (o->explanation &&
             !MF_SQLITE_RUN(s, err, "INSERT INTO explanations(job, body) VALUES(?, ?)", "ib", r.seq,
                            o->explanation, o->explanation_len)))
            return false;
        note_run(s, &r);
    }
    return end_job(s, &r, state, &o->problem, err);
}

static bool finish_step(struct mf_sqlite_store *s, struct mf_outcome *outcomes, size_t n,
                        struct mf_error *err)
{
    for (size_t i = 0; i < n; i++) {
        const struct mf_outcome *o = &outcomes[i];
        if (!mf_job_state_terminal(o->state) || (o->state == MF_JOB_SUCCEEDED && !o->result) ||
            (o->state == MF_JOB_FAILED && o->problem.code == MF_OK))
            return mf_error_set(err, MF_ERR_INTERNAL, "job %s: its outcome is incomplete",
                                o->job.id);
        if (!finish_one(s, &outcomes[i], err))
            return false;
    }
    return true;
}

bool mf_sqlite_finish(struct mf_store *store, struct mf_outcome *outcomes, size_t n,
                      struct mf_error *err)
{
    struct mf_sqlite_store *s = self(store);
    return mf_sqlite_savepoint(s, err) && mf_sqlite_end(s, finish_step(s, outcomes, n, err), err);
}

/* --- release --- */

static bool runs_alone(struct mf_sqlite_store *s, const char *worker, bool *ret,
                       struct mf_error *err)
{
    int64_t n = 0;
    if (!mf_sqlite_int(s,
                       mf_sqlite_query(s, err,
                                       "SELECT count(*) FROM jobs WHERE state = 1 AND worker = ?",
                                       "t", worker),
                       &n, err))
        return false;
    *ret = n == 1;
    return true;
}

static bool release_step(struct mf_sqlite_store *s, const struct mf_job_ref *jobs, size_t n,
                         enum mf_attempt_end end, struct mf_error *err)
{
    bool alone = n == 1; /* jobs released together were running together */
    for (size_t i = 0; i < n; i++) {
        struct running r = {.seq = 0};
        int found = find_running(s, jobs[i].id, &r, err);
        if (found < 0)
            return false;
        if (!found || r.state != MF_JOB_RUNNING || r.fence != jobs[i].fence)
            continue;
        if (alone && !runs_alone(s, r.worker, &alone, err))
            return false;
        if (!end_attempt(s, &r, end, alone, err))
            return false;
    }
    return true;
}

bool mf_sqlite_release(struct mf_store *store, const struct mf_job_ref *jobs, size_t n,
                       enum mf_attempt_end end, struct mf_error *err)
{
    struct mf_sqlite_store *s = self(store);
    return mf_sqlite_savepoint(s, err) && mf_sqlite_end(s, release_step(s, jobs, n, end, err), err);
}

static bool worker_gone_step(struct mf_sqlite_store *s, const char *worker, enum mf_attempt_end end,
                             struct mf_error *err)
{
    bool alone = false;
    if (!runs_alone(s, worker, &alone, err))
        return false;
    for (;;) { /* one at a time: each step takes its row out of the selection */
        struct running r = {.seq = 0};
        sqlite3_stmt *q = mf_sqlite_query(
            s, err, "SELECT " RUNNING_COLUMNS " FROM jobs WHERE state = 1 AND worker = ? LIMIT 1",
            "t", worker);
        int row = mf_sqlite_row(s, q, err);
        if (row < 0)
            return false;
        if (row == 0)
            break;
        read_running(q, &r);
        mf_sqlite_done(q);
        if (!end_attempt(s, &r, end, alone, err))
            return false;
    }
    return MF_SQLITE_RUN(s, err, "DELETE FROM workers WHERE id = ?", "t", worker);
}

bool mf_sqlite_worker_gone(struct mf_store *store, const char *worker, enum mf_attempt_end end,
                           struct mf_error *err)
{
    struct mf_sqlite_store *s = self(store);
    return mf_sqlite_savepoint(s, err) &&
           mf_sqlite_end(s, worker_gone_step(s, worker, end, err), err);
}

/* --- lost leases --- */

static bool expire_step(struct mf_sqlite_store *s, int64_t now, struct mf_error *err)
{
    for (;;) {
        struct running r = {.seq = 0};
        sqlite3_stmt *q =
            mf_sqlite_query(s, err,
                            "SELECT " RUNNING_COLUMNS
                            " FROM leases JOIN jobs ON seq = job WHERE deadline <= ? LIMIT 1",
                            "i", now);
        int row = mf_sqlite_row(s, q, err);
        if (row <= 0)
            return row == 0;
        read_running(q, &r);
        mf_sqlite_done(q);
        if (!end_attempt(s, &r, MF_END_LOST, true, err))
            return false;
    }
}

bool mf_sqlite_expire_leases(struct mf_sqlite_store *s, struct mf_error *err)
{
    return mf_sqlite_savepoint(s, err) &&
           mf_sqlite_end(s, expire_step(s, (int64_t)mf_clock_monotonic_ns(), err), err);
}

uint64_t mf_sqlite_next_lease_ns(struct mf_sqlite_store *s)
{
    int64_t deadline = 0;
    struct mf_error ignored = MF_ERROR_INIT;
    sqlite3_stmt *q =
        mf_sqlite_query(s, &ignored, "SELECT deadline FROM leases ORDER BY deadline LIMIT 1", "");
    return mf_sqlite_int(s, q, &deadline, &ignored) ? (uint64_t)deadline : UINT64_MAX;
}
