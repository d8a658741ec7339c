/*
 * SQLite store: the queue. submit puts a job in, claim hands jobs out by priority, then age. How
 * attempts end is in store_sqlite_attempts.c.
 */
#include "server/store_sqlite.h"

#include "core/clock.h"

#include <inttypes.h>
#include <string.h>

static struct mf_sqlite_store *self(struct mf_store *store)
{
    return (struct mf_sqlite_store *)store;
}

int64_t mf_sqlite_lease_deadline(const struct mf_sqlite_store *s)
{
    return (int64_t)mf_clock_monotonic_ns() + s->settings.lease_s * INT64_C(1000000000);
}

/* --- submit --- */

/* 1: the key was used with this fingerprint (or the id exists already: a repeated call); 0: new;
 * −1: refused. */
static int find_replay(struct mf_sqlite_store *s, const struct mf_submission *sub,
                       struct mf_submitted *ret, struct mf_error *err)
{
    int64_t seq = 0;
    struct mf_error found = MF_ERROR_INIT;
    if (mf_sqlite_int(s,
                      mf_sqlite_query(s, &found, "SELECT seq FROM jobs WHERE id = ? AND tenant = ?",
                                      "tt", sub->id, sub->tenant),
                      &seq, &found)) {
        memcpy(ret->id, sub->id, MF_JOB_ID);
        return 1;
    }
    if (!sub->idempotency_key)
        return 0;
    sqlite3_stmt *q = mf_sqlite_query(
        s, err, "SELECT fingerprint, job FROM idempotency WHERE tenant = ? AND key = ?", "tt",
        sub->tenant, sub->idempotency_key);
    int row = mf_sqlite_row(s, q, err);
    if (row != 1)
        return row;
    bool same = sqlite3_column_bytes(q, 0) == MF_SHA256_BYTES &&
                memcmp(sqlite3_column_blob(q, 0), sub->fingerprint, MF_SHA256_BYTES) == 0;
    mf_sqlite_text(q, 1, ret->id, MF_JOB_ID);
    mf_sqlite_done(q);
    if (!same) {
        mf_error_set(err, MF_ERR_UNUSABLE,
                     "Idempotency-Key: it was used before for a different request");
        return -1;
    }
    ret->replayed = true;
    return mf_sqlite_count(s, "replayed", 1, err) ? 1 : -1;
}

static bool count_queued(struct mf_sqlite_store *s, int64_t *ret, struct mf_error *err)
{
    return mf_sqlite_int(
        s, mf_sqlite_query(s, err, "SELECT count(*) FROM jobs WHERE state = 0", ""), ret, err);
}

static bool insert_inputs(struct mf_sqlite_store *s, int64_t seq, const struct mf_submission *sub,
                          struct mf_error *err)
{
    for (size_t i = 0; i < sub->input_count; i++) {
        const struct mf_job_input *in = &sub->inputs[i];
        if (!MF_SQLITE_RUN(s, err,
                           "INSERT INTO inputs(job, ordinal, part, kind, locator, offset, size,"
                           " sha256) VALUES(?, ?, ?, ?, ?, ?, ?, ?)",
                           "iitttiib", seq, (int64_t)i, in->part, in->kind, in->locator,
                           (int64_t)in->offset, (int64_t)in->size, in->sha256,
                           (size_t)MF_SHA256_BYTES))
            return false;
    }
    return true;
}

static bool insert_job(struct mf_sqlite_store *s, const struct mf_submission *sub,
                       struct mf_error *err)
{
    int64_t now = mf_clock_wall_ms();
    if (!MF_SQLITE_RUN(s, err,
                       "INSERT INTO jobs(id, tenant, state, priority, model, options, created)"
                       " VALUES(?, ?, 0, ?, ?, ?, ?)",
                       "ttitti", sub->id, sub->tenant, (int64_t)sub->priority, sub->model,
                       sub->options, now))
        return false;
    int64_t seq = sqlite3_last_insert_rowid(s->db);
    if (!MF_SQLITE_RUN(s, err, "INSERT INTO job_index(job, body) VALUES(?, ?)", "ib", seq,
                       sub->index, sub->index_len) ||
        !insert_inputs(s, seq, sub, err))
        return false;
    if (sub->idempotency_key &&
        !MF_SQLITE_RUN(s, err,
                       "INSERT INTO idempotency(tenant, key, fingerprint, job, created)"
                       " VALUES(?, ?, ?, ?, ?)",
                       "ttbti", sub->tenant, sub->idempotency_key, sub->fingerprint,
                       (size_t)MF_SHA256_BYTES, sub->id, now))
        return false;
    return mf_sqlite_count(s, "submitted", 1, err) &&
           mf_sqlite_audit(s, sub->tenant, sub->id, "job.submitted", NULL, err);
}

static bool submit_step(struct mf_sqlite_store *s, const struct mf_submission *sub,
                        struct mf_submitted *ret, struct mf_error *err)
{
    int replay = find_replay(s, sub, ret, err);
    if (replay < 0 || !count_queued(s, &ret->queued, err))
        return false;
    if (replay > 0)
        return true;
    if (sub->max_queued > 0 && ret->queued >= sub->max_queued)
        return mf_error_set(err, MF_ERR_BUSY,
                            "the queue is full (%" PRId64 " jobs); try again later", ret->queued);
    memcpy(ret->id, sub->id, MF_JOB_ID);
    ret->queued++;
    return insert_job(s, sub, err);
}

bool mf_sqlite_submit(struct mf_store *store, const struct mf_submission *sub,
                      struct mf_submitted *ret, struct mf_error *err)
{
    struct mf_sqlite_store *s = self(store);
    if (!mf_job_id_valid(sub->id) || (unsigned)sub->priority >= MF_PRIORITY_COUNT)
        return mf_error_set(err, MF_ERR_INTERNAL, "a submission has an invalid id or priority");
    struct mf_submitted made = {.replayed = false};
    if (!mf_sqlite_savepoint(s, err) || !mf_sqlite_end(s, submit_step(s, sub, &made, err), err))
        return false;
    if (!made.replayed && sub->frames_ahead > 0)
        mf_store_ahead_keep(&s->ahead, made.id, sub->frames_ahead);
    s->work_changed = true;
    *ret = made;
    return true;
}

/* --- claim --- */

struct candidate {
    int64_t seq;
    bool again; /* claimed before in a reply that got lost: nothing changes */
};

static bool is_held(const struct mf_claim_request *r, const char *id, int64_t fence)
{
    for (size_t i = 0; i < r->held_count; i++)
        if (r->held[i].fence == fence && strcmp(r->held[i].id, id) == 0)
            return true;
    return false;
}

/* Finds the jobs to hand out: lost replies first, then the head of the queue as far as the solo
 * rule allows. */
static bool pick(struct mf_sqlite_store *s, const struct mf_claim_request *r,
                 struct candidate *picked, size_t *ret_count, struct mf_error *err)
{
    size_t count = 0, running = 0;
    bool solo_running = false;
    int row;
    sqlite3_stmt *q = mf_sqlite_query(
        s, err, "SELECT seq, id, fence, solo FROM jobs WHERE state = 1 AND worker = ?", "t",
        r->worker);
    while ((row = mf_sqlite_row(s, q, err)) == 1) {
        running++;
        solo_running = solo_running || sqlite3_column_int(q, 3);
        if (count < r->max &&
            !is_held(r, (const char *)sqlite3_column_text(q, 1), sqlite3_column_int64(q, 2)))
            picked[count++] = (struct candidate){sqlite3_column_int64(q, 0), true};
    }
    if (row < 0)
        return false;
    *ret_count = count;
    if (solo_running || count == r->max)
        return true;
    q = mf_sqlite_query(s, err,
                        "SELECT seq, solo FROM jobs WHERE state = 0 ORDER BY priority, seq LIMIT ?",
                        "i", (int64_t)(r->max - count));
    while ((row = mf_sqlite_row(s, q, err)) == 1) {
        bool solo = sqlite3_column_int(q, 1);
        if (solo && running + count > 0) /* it waits until it can have a worker for itself */
            break;
        picked[count++] = (struct candidate){sqlite3_column_int64(q, 0), false};
        if (solo)
            break;
    }
    if (row == 1)
        mf_sqlite_done(q);
    *ret_count = count;
    return row >= 0;
}

static bool mark_running(struct mf_sqlite_store *s, int64_t seq, const char *worker,
                         struct mf_error *err)
{
    return MF_SQLITE_RUN(s, err,
                         "UPDATE jobs SET state = 1, worker = ?, started = ?,"
                         " attempts = attempts + 1, fence = fence + 1 WHERE seq = ?",
                         "tii", worker, mf_clock_wall_ms(), seq) &&
           MF_SQLITE_RUN(s, err,
                         "INSERT OR REPLACE INTO leases(job, deadline, progress) VALUES(?, ?, 0)",
                         "ii", seq, mf_sqlite_lease_deadline(s));
}

bool mf_sqlite_inputs(struct mf_sqlite_store *s, int64_t seq, struct mf_arena *arena,
                      const struct mf_job_input **ret, size_t *ret_count, struct mf_error *err)
{
    int64_t n = 0;
    if (!mf_sqlite_int(
            s, mf_sqlite_query(s, err, "SELECT count(*) FROM inputs WHERE job = ?", "i", seq), &n,
            err))
        return false;
    struct mf_job_input *inputs = mf_arena_alloc(arena, (size_t)n + 1, sizeof *inputs, err);
    if (!inputs)
        return false;
    sqlite3_stmt *q = mf_sqlite_query(s, err,
                                      "SELECT part, kind, locator, offset, size, sha256 FROM inputs"
                                      " WHERE job = ? ORDER BY ordinal",
                                      "i", seq);
    size_t i = 0;
    int row;
    while ((row = mf_sqlite_row(s, q, err)) == 1 && i < (size_t)n) {
        struct mf_job_input *in = &inputs[i++];
        in->part = mf_arena_strdup(arena, (const char *)sqlite3_column_text(q, 0), err);
        in->kind = mf_arena_strdup(arena, (const char *)sqlite3_column_text(q, 1), err);
        in->locator = mf_arena_strdup(arena, (const char *)sqlite3_column_text(q, 2), err);
        in->offset = (uint64_t)sqlite3_column_int64(q, 3);
        in->size = (uint64_t)sqlite3_column_int64(q, 4);
        if (sqlite3_column_bytes(q, 5) == MF_SHA256_BYTES)
            memcpy(in->sha256, sqlite3_column_blob(q, 5), MF_SHA256_BYTES);
        if (!in->part || !in->kind || !in->locator) {
            mf_sqlite_done(q);
            return false;
        }
    }
    *ret = inputs;
    *ret_count = i;
    return row == 0;
}

static const char *column_copy(sqlite3_stmt *q, int column, struct mf_arena *arena,
                               struct mf_error *err)
{
    const char *text = (const char *)sqlite3_column_text(q, column);
    return mf_arena_strdup(arena, text ? text : "", err);
}

static bool load_claim(struct mf_sqlite_store *s, int64_t seq, struct mf_arena *arena,
                       struct mf_claim *claim, int64_t *ret_waited_ms, struct mf_error *err)
{
    sqlite3_stmt *q = mf_sqlite_query(
        s, err,
        "SELECT id, fence, tenant, model, options, attempts, solo, started - created, body"
        " FROM jobs JOIN job_index ON job = seq WHERE seq = ?",
        "i", seq);
    if (mf_sqlite_row(s, q, err) != 1)
        return mf_error_set(err, MF_ERR_INTERNAL, "a queued job has no index");
    mf_sqlite_text(q, 0, claim->id, MF_JOB_ID);
    claim->fence = sqlite3_column_int64(q, 1);
    claim->tenant = column_copy(q, 2, arena, err);
    claim->model = sqlite3_column_type(q, 3) == SQLITE_NULL ? NULL : column_copy(q, 3, arena, err);
    claim->options = column_copy(q, 4, arena, err);
    claim->attempt = sqlite3_column_int64(q, 5);
    claim->solo = sqlite3_column_int(q, 6) != 0;
    *ret_waited_ms = sqlite3_column_int64(q, 7);
    claim->index_len = (size_t)sqlite3_column_bytes(q, 8);
    const char *body = sqlite3_column_blob(q, 8);
    claim->index = mf_arena_strndup(arena, body ? body : "", claim->index_len, err);
    mf_sqlite_done(q);
    return claim->tenant && claim->options && claim->index &&
           mf_sqlite_inputs(s, seq, arena, &claim->inputs, &claim->input_count, err);
}

static bool claim_step(struct mf_sqlite_store *s, const struct mf_claim_request *r,
                       struct mf_arena *arena, struct mf_claim **ret, size_t *ret_count,
                       struct mf_error *err)
{
    struct candidate *picked = mf_arena_alloc(arena, r->max, sizeof *picked, err);
    size_t n = 0;
    if (!picked || !pick(s, r, picked, &n, err))
        return false;
    struct mf_claim *claims = mf_arena_alloc(arena, n + 1, sizeof *claims, err);
    if (!claims)
        return false;
    for (size_t i = 0; i < n; i++) {
        int64_t waited_ms = 0;
        if ((!picked[i].again && !mark_running(s, picked[i].seq, r->worker, err)) ||
            !load_claim(s, picked[i].seq, arena, &claims[i], &waited_ms, err))
            return false;
        if (!picked[i].again && claims[i].attempt == 1) {
            s->wait_seconds_total += (double)(waited_ms > 0 ? waited_ms : 0) / 1e3;
            s->wait_count++;
        }
    }
    *ret = claims;
    *ret_count = n;
    return true;
}

bool mf_sqlite_claim(struct mf_store *store, const struct mf_claim_request *request,
                     struct mf_arena *arena, struct mf_claim **ret, size_t *ret_count,
                     struct mf_error *err)
{
    struct mf_sqlite_store *s = self(store);
    *ret_count = 0;
    if (request->max == 0 || request->max > 1000 || !*request->worker)
        return mf_error_set(err, MF_ERR_INTERNAL, "a claim names no worker or asks for no jobs");
    if (!mf_sqlite_savepoint(s, err))
        return false;
    bool ok = mf_sqlite_end(s, claim_step(s, request, arena, ret, ret_count, err), err);
    if (!ok)
        *ret_count = 0;
    for (size_t i = 0; i < *ret_count; i++)
        (*ret)[i].frames_ahead = mf_store_ahead_take(&s->ahead, (*ret)[i].id);
    return ok;
}
