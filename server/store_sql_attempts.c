/*
 * SQL store: how attempts end. heartbeat and finish, and the ways back: release, lost leases,
 * crashes.
 *
 * Crash accounting (DESIGN.md, "Processes"): a crash counts against a job only if it was all that
 * its worker was running; otherwise every job of that worker runs alone next time (`solo`).
 * max_crashes own crashes, or max_losses lost attempts, fail the job with the reason.
 */
#include "server/store_sql.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

static struct mf_sql_store *self(struct mf_store *store)
{
    return (struct mf_sql_store *)store;
}

/* What decides how a running job goes on. */
struct running {
    int64_t seq, fence, crashes, losses, started;
    enum mf_job_state state;
    bool cancel;
    double progress;
    char id[MF_JOB_ID], tenant[MF_TENANT], worker[MF_WORKER_ID];
};

#define RUNNING_COLUMNS                                                                            \
    "seq, fence, crashes, losses, started, state, cancel, id, tenant, worker,"                     \
    " (SELECT l.progress FROM leases l WHERE l.job = seq)"

static void read_running(struct mf_sql_rows *q, struct running *r)
{
    r->seq = mf_sql_int64(q, 0);
    r->fence = mf_sql_int64(q, 1);
    r->crashes = mf_sql_int64(q, 2);
    r->losses = mf_sql_int64(q, 3);
    r->started = mf_sql_int64(q, 4);
    r->state = (enum mf_job_state)(int)mf_sql_int64(q, 5);
    r->cancel = (int)mf_sql_int64(q, 6) != 0;
    mf_sql_copy_text(q, 7, r->id, sizeof r->id);
    mf_sql_copy_text(q, 8, r->tenant, sizeof r->tenant);
    mf_sql_copy_text(q, 9, r->worker, sizeof r->worker);
    r->progress = mf_sql_double(q, 10);
}

static struct mf_sql_rows *ask_running(struct mf_sql_store *s, const char *id, struct mf_error *err)
{
    return mf_sql_query(s, err, "SELECT " RUNNING_COLUMNS " FROM jobs WHERE id = ?/*! FOR UPDATE*/",
                        "t", id);
}

/* 1: found, 0: no such job, −1: failed */
static int take_running(struct mf_sql_store *s, struct mf_sql_rows *q, struct running *ret,
                        struct mf_error *err)
{
    int row = mf_sql_row(s, q, err);
    if (row == 1) {
        read_running(q, ret);
        mf_sql_done(q);
    }
    return row;
}

static int find_running(struct mf_sql_store *s, const char *id, struct running *ret,
                        struct mf_error *err)
{
    return take_running(s, ask_running(s, id, err), ret, err);
}

static bool drop_lease(struct mf_sql_store *s, int64_t seq, struct mf_error *err)
{
    return mf_sql_run(s, err, "DELETE FROM leases WHERE job = ?", "i", seq);
}

/* Makes a job terminal: state, problem, counter, audit entry, event. */
static bool end_job(struct mf_sql_store *s, const struct running *r, enum mf_job_state state,
                    const struct mf_error *problem, struct mf_error *err)
{
    bool failed = state == MF_JOB_FAILED;
    const char *name = mf_job_state_name(state);
    char event[32];
    snprintf(event, sizeof event, "job.%s", name);
    s->work_changed = true;
    return mf_sql_run(s, err,
                      "UPDATE jobs SET state = ?, finished = ?, worker = NULL, problem_code = ?,"
                      " problem_detail = ? WHERE seq = ?",
                      "iitti", (int64_t)state, mf_sql_now_ms(s),
                      failed ? mf_code_name(problem->code) : NULL, failed ? problem->msg : NULL,
                      r->seq) &&
           drop_lease(s, r->seq, err) && mf_sql_count(s, name, 1, err) &&
           mf_sql_changed(s, r->seq, err) && mf_sql_deliver(s, r->tenant, r->id, state, err) &&
           mf_sql_audit(s, r->tenant, r->id, event, failed ? mf_code_name(problem->code) : NULL,
                        err) &&
           mf_sql_note_end(s, r->id, err);
}

/* The turn that is served now where the job waits; a job that comes back is not behind it. */
#define SERVED                                                                                     \
    "(SELECT q.turn FROM jobs q WHERE q.state = 0 AND q.priority = jobs.priority"                  \
    " ORDER BY q.turn LIMIT 1)"

static bool requeue(struct mf_sql_store *s, const struct running *r, bool solo, bool counted,
                    int64_t crashes, int64_t losses, struct mf_error *err)
{
    s->work_changed = true;
    s->work_made++;
    return mf_sql_run(s, err,
                      "UPDATE jobs SET state = 0, worker = NULL, crashes = ?, losses = ?,"
                      " solo = solo | ?, attempts = attempts - ?,"
                      " turn = CASE WHEN turn < " SERVED " THEN " SERVED " ELSE turn END"
                      " WHERE seq = ?",
                      "iiiii", crashes, losses, (int64_t)solo, (int64_t)!counted, r->seq) &&
           drop_lease(s, r->seq, err) && mf_sql_changed(s, r->seq, err);
}

/* One running job is given back. `alone`: its worker was running nothing else. */
static bool end_attempt(struct mf_sql_store *s, const struct running *r, enum mf_attempt_end end,
                        bool alone, struct mf_error *err)
{
    int64_t crashes = r->crashes + (end == MF_END_CRASHED && alone);
    int64_t losses = r->losses + (end == MF_END_LOST);
    struct mf_error problem = MF_ERROR_INIT;
    if (end == MF_END_CRASHED &&
        (!mf_sql_count(s, "crashes", 1, err) ||
         !mf_sql_audit(s, r->tenant, r->id, "job.crashed", alone ? "alone" : "in a batch", err)))
        return false;
    if (end == MF_END_LOST && !mf_sql_count(s, "losses", 1, err))
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

static bool heartbeat_step(struct mf_sql_store *s, struct mf_heartbeat *beats, size_t n,
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
        if (!mf_sql_run(s, err, "UPDATE leases SET deadline = ?, progress = ? WHERE job = ?", "idi",
                        mf_sql_lease_deadline(s), done, r.seq) ||
            (done != r.progress && !mf_sql_changed(s, r.seq, err)))
            return false;
    }
    return true;
}

bool mf_sql_heartbeat(struct mf_store *store, struct mf_heartbeat *beats, size_t n,
                      struct mf_error *err)
{
    struct mf_sql_store *s = self(store);
    return mf_sql_savepoint(s, err) && mf_sql_end(s, heartbeat_step(s, beats, n, err), err);
}

static void note_run(struct mf_sql_store *s, const struct running *r)
{
    int64_t ms = mf_sql_now_ms(s) - r->started;
    double seconds = (double)(ms > 0 ? ms : 0) / 1e3;
    s->run_seconds_total += seconds;
    s->run_count++;
    s->typical_run_s = isnan(s->typical_run_s) ? seconds : 0.8 * s->typical_run_s + 0.2 * seconds;
}

static bool finish_one(struct mf_sql_store *s, struct mf_outcome *o, struct mf_sql_rows *q,
                       struct mf_error *err)
{
    struct running r = {.seq = 0};
    int found = take_running(s, q, &r, err);
    if (found < 0)
        return false;
    bool mine = found && r.fence == o->job.fence;
    o->lease = mine && mf_job_state_terminal(r.state) ? MF_LEASE_KEPT : MF_LEASE_LOST;
    if (!mine || r.state != MF_JOB_RUNNING)
        return true;
    o->lease = MF_LEASE_KEPT;
    enum mf_job_state state = r.cancel ? MF_JOB_CANCELLED : o->state;
    if (state == MF_JOB_SUCCEEDED) {
        if (!mf_sql_run(s, err, "INSERT INTO results(job, body) VALUES(?, ?)", "ib", r.seq,
                        o->result, o->result_len) ||
            (o->masks && !mf_sql_run(s, err, "INSERT INTO masks(job, body) VALUES(?, ?)", "ib",
                                     r.seq, o->masks, o->masks_len)) ||
            (o->explanation &&
             !mf_sql_run(s, err, "INSERT INTO explanations(job, body) VALUES(?, ?)", "ib", r.seq,
                         o->explanation, o->explanation_len)))
            return false;
        note_run(s, &r);
    }
    return end_job(s, &r, state, &o->problem, err);
}

/* Up to `together` of them: all jobs are asked for before the first is waited for. A job that is
 * named twice is not among these twice (its second answer would be of before it ended). */
static bool finish_some(struct mf_sql_store *s, struct mf_outcome *outcomes, size_t n,
                        struct mf_error *err)
{
    struct mf_sql_rows *jobs[MF_SQL_TOGETHER];
    bool ok = true;
    for (size_t i = 0; i < n; i++)
        jobs[i] = ask_running(s, outcomes[i].job.id, err);
    for (size_t i = 0; i < n; i++)
        if (ok)
            ok = finish_one(s, &outcomes[i], jobs[i], err);
        else
            mf_sql_done(jobs[i]);
    return ok;
}

static size_t how_many(const struct mf_outcome *outcomes, size_t n, size_t together)
{
    size_t some = 1;
    for (; some < n && some < together; some++)
        for (size_t k = 0; k < some; k++)
            if (strcmp(outcomes[k].job.id, outcomes[some].job.id) == 0)
                return some;
    return some;
}

static bool finish_step(struct mf_sql_store *s, struct mf_outcome *outcomes, size_t n,
                        struct mf_error *err)
{
    for (size_t i = 0; i < n; i++) {
        const struct mf_outcome *o = &outcomes[i];
        if (!mf_job_state_terminal(o->state) || (o->state == MF_JOB_SUCCEEDED && !o->result) ||
            (o->state == MF_JOB_FAILED && o->problem.code == MF_OK))
            return mf_error_set(err, MF_ERR_INTERNAL, "job %s: its outcome is incomplete",
                                o->job.id);
    }
    for (size_t i = 0, some; i < n; i += some) {
        some = how_many(outcomes + i, n - i, s->engine->together);
        if (!finish_some(s, outcomes + i, some, err))
            return false;
    }
    return true;
}

bool mf_sql_finish(struct mf_store *store, struct mf_outcome *outcomes, size_t n,
                   struct mf_error *err)
{
    struct mf_sql_store *s = self(store);
    return mf_sql_savepoint(s, err) && mf_sql_end(s, finish_step(s, outcomes, n, err), err);
}

/* --- release --- */

static bool runs_alone(struct mf_sql_store *s, const char *worker, bool *ret, struct mf_error *err)
{
    int64_t n = 0;
    if (!mf_sql_int(s,
                    mf_sql_query(s, err, "SELECT count(*) FROM jobs WHERE state = 1 AND worker = ?",
                                 "t", worker),
                    &n, err))
        return false;
    *ret = n == 1;
    return true;
}

static bool release_step(struct mf_sql_store *s, const struct mf_job_ref *jobs, size_t n,
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

bool mf_sql_release(struct mf_store *store, const struct mf_job_ref *jobs, size_t n,
                    enum mf_attempt_end end, struct mf_error *err)
{
    struct mf_sql_store *s = self(store);
    return mf_sql_savepoint(s, err) && mf_sql_end(s, release_step(s, jobs, n, end, err), err);
}

static bool worker_gone_step(struct mf_sql_store *s, const char *worker, enum mf_attempt_end end,
                             struct mf_error *err)
{
    bool alone = false;
    if (!runs_alone(s, worker, &alone, err))
        return false;
    for (;;) { /* one at a time: each step takes its row out of the selection */
        struct running r = {.seq = 0};
        struct mf_sql_rows *q = mf_sql_query(s, err,
                                             "SELECT " RUNNING_COLUMNS
                                             " FROM jobs WHERE state = 1 AND worker = ? LIMIT 1"
                                             "/*! FOR UPDATE*/",
                                             "t", worker);
        int row = mf_sql_row(s, q, err);
        if (row < 0)
            return false;
        if (row == 0)
            break;
        read_running(q, &r);
        mf_sql_done(q);
        if (!end_attempt(s, &r, end, alone, err))
            return false;
    }
    return mf_sql_run(s, err, "DELETE FROM workers WHERE id = ?", "t", worker);
}

bool mf_sql_worker_gone(struct mf_store *store, const char *worker, enum mf_attempt_end end,
                        struct mf_error *err)
{
    struct mf_sql_store *s = self(store);
    return mf_sql_savepoint(s, err) && mf_sql_end(s, worker_gone_step(s, worker, end, err), err);
}

/* --- lost leases --- */

static bool expire_step(struct mf_sql_store *s, int64_t now, struct mf_error *err)
{
    for (;;) {
        struct running r = {.seq = 0};
        struct mf_sql_rows *q =
            mf_sql_query(s, err,
                         "SELECT " RUNNING_COLUMNS " FROM leases JOIN jobs ON seq = job"
                         " WHERE deadline <= ? LIMIT 1/*! FOR UPDATE OF jobs SKIP LOCKED*/",
                         "i", now);
        int row = mf_sql_row(s, q, err);
        if (row <= 0)
            return row == 0;
        read_running(q, &r);
        mf_sql_done(q);
        if (!end_attempt(s, &r, MF_END_LOST, true, err))
            return false;
    }
}

bool mf_sql_expire_leases(struct mf_sql_store *s, struct mf_error *err)
{
    return mf_sql_savepoint(s, err) &&
           mf_sql_end(s, expire_step(s, mf_sql_lease_clock_ns(s), err), err);
}
