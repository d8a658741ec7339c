/* SQL store: looking at jobs, and what people do with them: read, list, cancel, purge; workers
 * and counts. */
#include "server/store_sql.h"

#include <math.h>
#include <string.h>

static struct mf_sql_store *self(struct mf_store *store)
{
    return (struct mf_sql_store *)store;
}

/* --- one job --- */

#define JOB_COLUMNS                                                                                \
    "seq, id, tenant, model, state, priority, attempts, created, started, finished, cancel, "      \
    "purged, problem_code, problem_detail"

static int64_t read_job(struct mf_sql_rows *q, struct mf_job *job)
{
    char code[64];
    memset(job, 0, sizeof *job);
    mf_sql_copy_text(q, 1, job->id, sizeof job->id);
    mf_sql_copy_text(q, 2, job->tenant, sizeof job->tenant);
    mf_sql_copy_text(q, 3, job->model, sizeof job->model);
    job->state = (enum mf_job_state)(int)mf_sql_int64(q, 4);
    job->priority = (enum mf_priority)(int)mf_sql_int64(q, 5);
    job->attempts = mf_sql_int64(q, 6);
    job->created_ms = mf_sql_int64(q, 7);
    job->started_ms = job->state == MF_JOB_QUEUED ? 0 : mf_sql_int64(q, 8);
    job->finished_ms = mf_sql_int64(q, 9);
    job->cancel_requested = (int)mf_sql_int64(q, 10) != 0;
    job->purged = (int)mf_sql_int64(q, 11) != 0;
    job->eta_s = NAN;
    job->progress = mf_job_state_terminal(job->state) ? 1 : 0;
    mf_sql_copy_text(q, 12, code, sizeof code);
    if (code[0]) {
        job->problem.code = mf_code_from_name(code);
        mf_sql_copy_text(q, 13, job->problem.msg, sizeof job->problem.msg);
    }
    return mf_sql_int64(q, 0);
}

static bool queue_estimate(struct mf_sql_store *s, struct mf_job *job, int64_t seq,
                           struct mf_error *err)
{
    int64_t ahead = 0, workers = 0;
    if (!mf_sql_int(s,
                    mf_sql_query(s, err,
                                 "SELECT count(*) FROM jobs WHERE state = 0 AND"
                                 " (priority, turn, seq) <"
                                 " (?1, (SELECT turn FROM jobs WHERE seq = ?2), ?2)",
                                 "ii", (int64_t)job->priority, seq),
                    &ahead, err) ||
        !mf_sql_int(s, mf_sql_query(s, err, "SELECT count(*) FROM workers", ""), &workers, err))
        return false;
    job->position = ahead + 1;
    job->eta_s = s->typical_run_s * ceil((double)(ahead + 1) / (double)(workers > 0 ? workers : 1));
    return true;
}

static bool running_estimate(struct mf_sql_store *s, struct mf_job *job, int64_t seq,
                             struct mf_error *err)
{
    struct mf_sql_rows *q =
        mf_sql_query(s, err, "SELECT progress FROM leases WHERE job = ?", "i", seq);
    int row = mf_sql_row(s, q, err);
    if (row < 0)
        return false;
    if (row == 1) {
        job->progress = mf_sql_double(q, 0);
        mf_sql_done(q);
    }
    double elapsed = (double)(mf_sql_now_ms(s) - job->started_ms) / 1e3;
    job->eta_s = isnan(s->typical_run_s) ? NAN : fmax(0.0, s->typical_run_s - elapsed);
    return true;
}

static bool estimate(struct mf_sql_store *s, struct mf_job *job, int64_t seq, struct mf_error *err)
{
    if (job->state == MF_JOB_QUEUED)
        return queue_estimate(s, job, seq, err);
    if (job->state == MF_JOB_RUNNING)
        return running_estimate(s, job, seq, err);
    return true;
}

#define FIND_JOB "SELECT " JOB_COLUMNS " FROM jobs WHERE " MF_SQL_IS_JOB

/* `locked`: nobody else changes it before this group ends. */
static bool find_job(struct mf_sql_store *s, const char *tenant, const char *id, bool locked,
                     struct mf_job *ret, int64_t *ret_seq, struct mf_error *err)
{
    struct mf_sql_rows *q =
        mf_sql_query(s, err, locked ? FIND_JOB "/*! FOR UPDATE*/" : FIND_JOB, "tt", id, tenant);
    int row = mf_sql_row(s, q, err);
    if (row == 0)
        return mf_error_set(err, MF_ERR_NOT_FOUND, "there is no such job");
    if (row < 0)
        return false;
    *ret_seq = read_job(q, ret);
    mf_sql_done(q);
    return estimate(s, ret, *ret_seq, err);
}

bool mf_sql_job(struct mf_store *store, const char *tenant, const char *id, struct mf_job *ret,
                struct mf_error *err)
{
    int64_t seq = 0;
    return find_job(self(store), tenant, id, false, ret, &seq, err);
}

static bool append_body(struct mf_sql_store *s, struct mf_sql_rows *q, const char *id,
                        struct mf_buffer *out, struct mf_error *err)
{
    int row = mf_sql_row(s, q, err);
    if (row < 0)
        return false;
    if (row == 0)
        return mf_error_set(err, MF_ERR_INTERNAL, "job %s: its result is missing", id);
    bool ok = mf_buffer_append(out, mf_sql_blob(q, 0), (size_t)mf_sql_bytes(q, 0), err);
    mf_sql_done(q);
    return ok;
}

bool mf_sql_result(struct mf_store *store, const char *tenant, const char *id,
                   struct mf_job *ret_job, struct mf_buffer *ret_text, struct mf_buffer *ret_index,
                   struct mf_error *err)
{
    struct mf_sql_store *s = self(store);
    int64_t seq = 0;
    if (!find_job(s, tenant, id, false, ret_job, &seq, err))
        return false;
    if (ret_job->state != MF_JOB_SUCCEEDED || ret_job->purged)
        return true;
    struct mf_sql_rows *q =
        mf_sql_query(s, err, "SELECT body FROM results WHERE job = ?", "i", seq);
    if (!append_body(s, q, id, ret_text, err))
        return false;
    if (!ret_index)
        return true;
    q = mf_sql_query(s, err, "SELECT body FROM job_index WHERE job = ?", "i", seq);
    return append_body(s, q, id, ret_index, err);
}

#define LIST_REST                                                                                  \
    " AND (?3 < 0 OR priority = ?3) AND (?4 = 0 OR created >= ?4)"                                 \
    " AND (?5 = 0 OR created < ?5) AND seq < ?6 ORDER BY seq DESC LIMIT ?7"

bool mf_sql_list(struct mf_store *store, const struct mf_job_filter *f, struct mf_arena *arena,
                 struct mf_job **ret, size_t *ret_count, int64_t *ret_next, struct mf_error *err)
{
    struct mf_sql_store *s = self(store);
    if (f->limit == 0 || f->limit > 1000)
        return mf_error_set(err, MF_ERR_INTERNAL, "a list asks for no jobs or more than 1000");
    struct mf_job *jobs = mf_arena_alloc(arena, f->limit, sizeof *jobs, err);
    int64_t *seqs = mf_arena_alloc(arena, f->limit, sizeof *seqs, err);
    if (!jobs || !seqs)
        return false;
    /* Two texts, so that a rare state is found by its index. */
    struct mf_sql_rows *q = mf_sql_query(
        s, err,
        f->state < 0 ? "SELECT " JOB_COLUMNS " FROM jobs WHERE tenant = ?1" LIST_REST
                     : "SELECT " JOB_COLUMNS
                       " FROM jobs WHERE tenant = ?1 AND state = ?2" LIST_REST,
        "tiiiiii", f->tenant, (int64_t)f->state, (int64_t)f->priority, f->created_from_ms,
        f->created_to_ms, f->cursor ? f->cursor : INT64_MAX, (int64_t)f->limit + 1);
    size_t n = 0;
    int row;
    while ((row = mf_sql_row(s, q, err)) == 1 && n < f->limit) {
        seqs[n] = read_job(q, &jobs[n]);
        n++;
    }
    if (row < 0)
        return false;
    if (row == 1)
        mf_sql_done(q);
    *ret_next = row == 1 ? seqs[n - 1] : 0;
    *ret = jobs;
    *ret_count = n;
    for (size_t i = 0; i < n; i++)
        if (!estimate(s, &jobs[i], seqs[i], err))
            return false;
    return true;
}

/* --- cancel and purge --- */

static bool cancel_step(struct mf_sql_store *s, const char *tenant, const char *id,
                        struct mf_job *ret, struct mf_error *err)
{
    int64_t seq = 0;
    if (!find_job(s, tenant, id, true, ret, &seq, err))
        return false;
    if (mf_job_state_terminal(ret->state))
        return mf_error_set(err, MF_ERR_CONFLICT, "the job is %s already",
                            mf_job_state_name(ret->state));
    if (ret->cancel_requested)
        return true;
    bool queued = ret->state == MF_JOB_QUEUED;
    if (!mf_sql_run(s, err, "UPDATE jobs SET cancel = 1, state = ?, finished = ? WHERE seq = ?",
                    "iii", (int64_t)(queued ? MF_JOB_CANCELLED : MF_JOB_RUNNING),
                    queued ? mf_sql_now_ms(s) : INT64_C(0), seq) ||
        !mf_sql_audit(s, tenant, id, "job.cancel_requested", NULL, err))
        return false;
    if (!mf_sql_changed(s, seq, err))
        return false;
    if (queued && (!mf_sql_count(s, "cancelled", 1, err) || !mf_sql_note_end(s, id, err) ||
                   !mf_sql_deliver(s, tenant, id, MF_JOB_CANCELLED, err)))
        return false;
    return find_job(s, tenant, id, false, ret, &seq, err);
}

bool mf_sql_cancel(struct mf_store *store, const char *tenant, const char *id, struct mf_job *ret,
                   struct mf_error *err)
{
    struct mf_sql_store *s = self(store);
    return mf_sql_savepoint(s, err) && mf_sql_end(s, cancel_step(s, tenant, id, ret, err), err);
}

static bool collect_locators(struct mf_sql_store *s, int64_t seq, struct mf_arena *arena,
                             const char *const **ret, size_t *ret_count, struct mf_error *err)
{
    int64_t n = 0;
    if (!mf_sql_int(s,
                    mf_sql_query(s, err, "SELECT count(DISTINCT locator) FROM inputs WHERE job = ?",
                                 "i", seq),
                    &n, err))
        return false;
    const char **list = mf_arena_alloc(arena, (size_t)n + 1, sizeof *list, err);
    if (!list)
        return false;
    /* Not what another job or a stored instance refers to. */
    struct mf_sql_rows *q = mf_sql_query(
        s, err,
        "SELECT DISTINCT locator FROM inputs i WHERE job = ?1"
        " AND NOT EXISTS (SELECT 1 FROM inputs o WHERE o.locator = i.locator AND o.job <> ?1)"
        " AND NOT EXISTS (SELECT 1 FROM instances n WHERE n.locator = i.locator)",
        "i", seq);
    size_t i = 0;
    int row;
    while ((row = mf_sql_row(s, q, err)) == 1 && i < (size_t)n) {
        list[i] = mf_arena_strdup(arena, mf_sql_text(q, 0), err);
        if (!list[i++]) {
            mf_sql_done(q);
            return false;
        }
    }
    *ret = list;
    *ret_count = i;
    return row == 0;
}

static bool forget_data(struct mf_sql_store *s, int64_t seq, struct mf_error *err)
{
    return mf_sql_run(s, err, "DELETE FROM inputs WHERE job = ?", "i", seq) &&
           mf_sql_run(s, err, "DELETE FROM job_index WHERE job = ?", "i", seq) &&
           mf_sql_run(s, err, "DELETE FROM results WHERE job = ?", "i", seq) &&
           mf_sql_run(s, err, "DELETE FROM masks WHERE job = ?", "i", seq) &&
           mf_sql_run(s, err, "DELETE FROM explanations WHERE job = ?", "i", seq) &&
           mf_sql_run(s, err, "DELETE FROM feedback WHERE job = ?", "i", seq);
}

static bool purge_step(struct mf_sql_store *s, const char *tenant, const char *id,
                       struct mf_arena *arena, const char *const **ret, size_t *ret_count,
                       struct mf_error *err)
{
    struct mf_job job = {.state = MF_JOB_QUEUED};
    int64_t seq = 0;
    if (!find_job(s, tenant, id, true, &job, &seq, err))
        return false;
    if (!mf_job_state_terminal(job.state))
        return mf_error_set(err, MF_ERR_CONFLICT, "the job is still %s: cancel it first",
                            mf_job_state_name(job.state));
    if (job.purged)
        return true;
    s->purged = true;
    return collect_locators(s, seq, arena, ret, ret_count, err) && forget_data(s, seq, err) &&
           mf_sql_run(s, err, "UPDATE jobs SET purged = 1, options = '{}' WHERE seq = ?", "i",
                      seq) &&
           mf_sql_changed(s, seq, err) && mf_sql_audit(s, tenant, id, "job.purged", NULL, err);
}

bool mf_sql_purge(struct mf_store *store, const char *tenant, const char *id,
                  struct mf_arena *arena, const char *const **ret_locators, size_t *ret_count,
                  struct mf_error *err)
{
    struct mf_sql_store *s = self(store);
    *ret_locators = NULL;
    *ret_count = 0;
    return mf_sql_savepoint(s, err) &&
           mf_sql_end(s, purge_step(s, tenant, id, arena, ret_locators, ret_count, err), err);
}

bool mf_sql_locators_used(struct mf_store *store, const char *const *locators, size_t n,
                          bool *ret_used, struct mf_error *err)
{
    struct mf_sql_store *s = self(store);
    for (size_t i = 0; i < n; i++) {
        int64_t used = 0;
        if (!mf_sql_int(s,
                        mf_sql_query(s, err,
                                     "SELECT EXISTS(SELECT 1 FROM inputs WHERE locator = ?1)"
                                     " OR EXISTS(SELECT 1 FROM instances WHERE locator = ?1)",
                                     "t", locators[i]),
                        &used, err))
            return false;
        ret_used[i] = used != 0;
    }
    return true;
}

/* --- retention --- */

static bool expire_jobs_step(struct mf_sql_store *s, int limit, int *ret_removed,
                             struct mf_error *err)
{
    int64_t before = mf_sql_now_ms(s) - s->settings.retention_s * 1000;
    for (*ret_removed = 0; *ret_removed < limit; ++*ret_removed) {
        struct mf_sql_rows *q =
            mf_sql_query(s, err,
                         "SELECT seq, state, id FROM jobs WHERE finished > 0 AND"
                         " finished <= ? ORDER BY finished LIMIT 1"
                         "/*! FOR UPDATE SKIP LOCKED*/",
                         "i", before);
        int row = mf_sql_row(s, q, err);
        if (row < 0)
            return false;
        if (row == 0)
            break;
        int64_t seq = mf_sql_int64(q, 0);
        char counter[32], id[MF_JOB_ID];
        mf_sql_copy_text(q, 2, id, sizeof id);
        snprintf(counter, sizeof counter, "expired_%s",
                 mf_job_state_name((enum mf_job_state)(int)mf_sql_int64(q, 1)));
        mf_sql_done(q);
        if (!forget_data(s, seq, err) || !mf_sql_count(s, counter, 1, err) ||
            !mf_sql_run(s, err, "DELETE FROM outbox WHERE job = ?", "t", id) ||
            !mf_sql_run(s, err, "DELETE FROM jobs WHERE seq = ?", "i", seq))
            return false;
    }
    return mf_sql_expire_states(s, before, err) &&
           mf_sql_run(s, err,
                      "DELETE FROM idempotency WHERE created <= ? AND NOT EXISTS"
                      " (SELECT 1 FROM jobs WHERE id = job)",
                      "i", before);
}

bool mf_sql_expire_jobs(struct mf_sql_store *s, int limit, int *ret_removed, struct mf_error *err)
{
    return mf_sql_savepoint(s, err) &&
           mf_sql_end(s, expire_jobs_step(s, limit, ret_removed, err), err);
}

/* --- workers --- */

bool mf_sql_announce(struct mf_store *store, const struct mf_worker *worker, int ttl_s,
                     struct mf_error *err)
{
    struct mf_sql_store *s = self(store);
    return mf_sql_run(
        s, err,
        "INSERT INTO workers(id, device, ready, models, deadline) VALUES(?, ?, ?, ?, ?)"
        " ON CONFLICT(id) DO UPDATE SET device = excluded.device, ready = excluded.ready,"
        " models = excluded.models, deadline = excluded.deadline",
        "ttiti", worker->id, worker->device, (int64_t)worker->ready,
        worker->models ? worker->models : "[]",
        mf_sql_lease_clock_ns(s) + ttl_s * INT64_C(1000000000));
}

bool mf_sql_workers(struct mf_store *store, struct mf_arena *arena, struct mf_worker **ret,
                    size_t *ret_count, struct mf_error *err)
{
    struct mf_sql_store *s = self(store);
    int64_t n = 0;
    if (!mf_sql_run(s, err, "DELETE FROM workers WHERE deadline <= ?", "i",
                    mf_sql_lease_clock_ns(s)) ||
        !mf_sql_int(s, mf_sql_query(s, err, "SELECT count(*) FROM workers", ""), &n, err))
        return false;
    struct mf_worker *list = mf_arena_alloc(arena, (size_t)n + 1, sizeof *list, err);
    if (!list)
        return false;
    struct mf_sql_rows *q =
        mf_sql_query(s, err, "SELECT id, device, ready, models FROM workers ORDER BY id", "");
    size_t i = 0;
    int row;
    while ((row = mf_sql_row(s, q, err)) == 1 && i < (size_t)n) {
        mf_sql_copy_text(q, 0, list[i].id, sizeof list[i].id);
        mf_sql_copy_text(q, 1, list[i].device, sizeof list[i].device);
        list[i].ready = (int)mf_sql_int64(q, 2) != 0;
        list[i].models = mf_arena_strdup(arena, mf_sql_text(q, 3), err);
        if (!list[i++].models) {
            mf_sql_done(q);
            return false;
        }
    }
    *ret = list;
    *ret_count = i;
    return row == 0;
}

/* --- counts --- */

static int64_t *counter_slot(struct mf_store_counts *c, const char *name)
{
    enum mf_job_state state;
    if (mf_job_state_parse(name, &state))
        return &c->finished_total[state];
    return strcmp(name, "submitted") == 0  ? &c->submitted_total
           : strcmp(name, "replayed") == 0 ? &c->replayed_total
           : strcmp(name, "crashes") == 0  ? &c->crashes_total
           : strcmp(name, "losses") == 0   ? &c->losses_total
                                           : NULL;
}

bool mf_sql_counts(struct mf_store *store, struct mf_store_counts *ret, struct mf_error *err)
{
    struct mf_sql_store *s = self(store);
    struct mf_store_counts c = {.wait_seconds_total = s->wait_seconds_total,
                                .run_seconds_total = s->run_seconds_total,
                                .wait_count = s->wait_count,
                                .run_count = s->run_count};
    int64_t expired[MF_JOB_STATE_COUNT] = {0};
    int row;
    struct mf_sql_rows *q = mf_sql_query(s, err, "SELECT name, value FROM counters", "");
    while ((row = mf_sql_row(s, q, err)) == 1) {
        const char *name = mf_sql_text(q, 0);
        enum mf_job_state state;
        int64_t *slot = counter_slot(&c, name);
        if (slot)
            *slot = mf_sql_int64(q, 1);
        else if (strncmp(name, "expired_", 8) == 0 && mf_job_state_parse(name + 8, &state))
            expired[state] = mf_sql_int64(q, 1);
    }
    if (row < 0)
        return false;
    q = mf_sql_query(s, err,
                     "SELECT state, count(*) FROM jobs WHERE state IN (0, 1) GROUP BY state", "");
    while ((row = mf_sql_row(s, q, err)) == 1)
        c.jobs[(int)mf_sql_int64(q, 0)] = mf_sql_int64(q, 1);
    if (row < 0)
        return false;
    if (!mf_sql_int(s, mf_sql_query(s, err, "SELECT count(*) FROM outbox WHERE due > 0", ""),
                    &c.deliveries, err) ||
        !mf_sql_int(s, mf_sql_query(s, err, "SELECT count(*) FROM outbox WHERE failed > 0", ""),
                    &c.dead_letters, err))
        return false;
    for (int i = MF_JOB_SUCCEEDED; i < MF_JOB_STATE_COUNT; i++)
        c.jobs[i] = c.finished_total[i] - expired[i];
    *ret = c;
    return true;
}

bool mf_sql_wait_for_jobs(struct mf_store *store, const char (*ids)[MF_JOB_ID], size_t n,
                          int wait_ms, bool *ret_terminal, struct mf_ended_job *ended,
                          struct mf_error *err)
{
    struct mf_sql_store *s = self(store);
    size_t over = 0, last = 0;
    (void)wait_ms; /* the server loop parks the call; here the answer is what is known now */
    for (size_t i = 0; i < n; i++) {
        int64_t open = 0;
        if (!mf_sql_int(s,
                        mf_sql_query(s, err,
                                     "SELECT EXISTS(SELECT 1 FROM jobs WHERE id = ? AND"
                                     " state IN (0, 1))",
                                     "t", ids[i]),
                        &open, err))
            return false;
        ret_terminal[i] = open == 0;
        if (ret_terminal[i]) {
            over++;
            last = i;
        }
    }
    if (!ended)
        return true;
    struct mf_error unknown = MF_ERROR_INIT; /* or another tenant's: whoever asks later is told */
    ended->known = over == 1 && mf_sql_result(store, ended->tenant, ids[last], &ended->job,
                                              &ended->text, NULL, &unknown);
    return true;
}
