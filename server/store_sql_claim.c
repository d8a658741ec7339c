/*
 * SQL store: out of the queue. claim hands jobs out by priority, then by turn. How attempts end is
 * in store_sql_attempts.c.
 */
#include "server/store_sql.h"

#include <string.h>

static struct mf_sql_store *self(struct mf_store *store)
{
    return (struct mf_sql_store *)store;
}

struct candidate {
    int64_t seq;
    bool again; /* claimed before in a reply that got lost: nothing changes */
};

enum { OLDEST_EVERY = 8 };

static bool is_held(const struct mf_claim_request *r, const char *id, int64_t fence)
{
    for (size_t i = 0; i < r->held_count; i++)
        if (r->held[i].fence == fence && strcmp(r->held[i].id, id) == 0)
            return true;
    return false;
}

/* Takes what a query of the queue gives, up to `max` in all, as far as the solo rule allows. */
static bool take_queued(struct mf_sql_store *s, struct mf_sql_rows *q, size_t max, size_t running,
                        struct candidate *picked, size_t *count, struct mf_error *err)
{
    int row;
    while ((row = mf_sql_row(s, q, err)) == 1 && *count < max) {
        const int64_t seq = mf_sql_int64(q, 0);
        const bool solo = mf_sql_int64(q, 1) != 0;
        if (solo && running + *count > 0) /* it waits until it can have a worker for itself */
            break;
        picked[(*count)++] = (struct candidate){seq, false};
        if (solo)
            break;
    }
    if (row == 1)
        mf_sql_done(q);
    return row >= 0;
}

/* The job whose turn it is within a priority. */
#define FIRST_OF(priority)                                                                         \
    "(SELECT seq FROM jobs WHERE state = 0 AND priority = " #priority " ORDER BY turn, seq LIMIT " \
    "1)"

/* Puts the oldest of those whose turn it is within their priority in the place of the last that was
 * picked, unless it is among them, or has to run alone beside others. */
static bool take_oldest(struct mf_sql_store *s, size_t running, struct candidate *picked,
                        size_t count, struct mf_error *err)
{
    struct candidate oldest = {.seq = 0};
    size_t n = 0;
    struct mf_sql_rows *q = mf_sql_query(s, err,
                                         "SELECT seq, solo FROM jobs WHERE state = 0 AND seq IN"
                                         " (" FIRST_OF(0) ", " FIRST_OF(1) ", " FIRST_OF(
                                             2) ")"
                                                " ORDER BY seq LIMIT 1/*! FOR UPDATE SKIP LOCKED*/",
                                         "");
    if (!take_queued(s, q, 1, running + count - 1, &oldest, &n, err))
        return false;
    for (size_t i = 0; i < count; i++)
        if (picked[i].seq == oldest.seq)
            return true;
    if (n == 1)
        picked[count - 1] = oldest;
    return true;
}

/* The head of the queue by priority, then turn; but for every OLDEST_EVERY-th job that is handed
 * out priorities do not count, so that nothing waits for ever behind what is more urgent. */
static bool pick_queued(struct mf_sql_store *s, size_t max, size_t running,
                        struct candidate *picked, size_t *count, struct mf_error *err)
{
    const uint64_t wanted = max - *count;
    struct mf_sql_rows *q = mf_sql_query(
        s, err,
        "SELECT seq, solo FROM jobs WHERE state = 0 ORDER BY priority, turn, seq LIMIT ?"
        "/*! FOR UPDATE SKIP LOCKED*/",
        "i", (int64_t)wanted);
    const size_t before = *count;
    if (!take_queued(s, q, max, running, picked, count, err))
        return false;
    const bool due = (s->work_taken + wanted) / OLDEST_EVERY != s->work_taken / OLDEST_EVERY;
    return !due || *count == before || *count < max || take_oldest(s, running, picked, *count, err);
}

/* Finds the jobs to hand out: lost replies first, then the head of the queue as far as the solo
 * rule allows. */
static bool pick(struct mf_sql_store *s, const struct mf_claim_request *r, struct candidate *picked,
                 size_t *ret_count, struct mf_error *err)
{
    size_t count = 0, running = 0;
    bool solo_running = false;
    int row;
    struct mf_sql_rows *q =
        mf_sql_query(s, err, "SELECT seq, id, fence, solo FROM jobs WHERE state = 1 AND worker = ?",
                     "t", r->worker);
    while ((row = mf_sql_row(s, q, err)) == 1) {
        running++;
        solo_running = solo_running || (int)mf_sql_int64(q, 3);
        if (count < r->max && !is_held(r, mf_sql_text(q, 1), mf_sql_int64(q, 2)))
            picked[count++] = (struct candidate){mf_sql_int64(q, 0), true};
    }
    if (row < 0)
        return false;
    *ret_count = count;
    if (solo_running || count == r->max)
        return true;
    return pick_queued(s, r->max, running, picked, ret_count, err);
}

static bool mark_running(struct mf_sql_store *s, int64_t seq, const char *worker,
                         struct mf_error *err)
{
    return mf_sql_run(s, err,
                      "UPDATE jobs SET state = 1, worker = ?, started = ?,"
                      " attempts = attempts + 1,"
                      " fence = /*!greatest(nextval('fences'), */fence + 1/*!)*/ WHERE seq = ?",
                      "tii", worker, mf_sql_now_ms(s), seq) &&
           mf_sql_run(s, err,
                      "INSERT INTO leases(job, deadline, progress) VALUES(?, ?, 0) ON CONFLICT(job)"
                      " DO UPDATE SET deadline = excluded.deadline, progress = 0",
                      "ii", seq, mf_sql_lease_deadline(s)) &&
           mf_sql_changed(s, seq, err);
}

static struct mf_sql_rows *ask_inputs(struct mf_sql_store *s, int64_t seq, struct mf_error *err)
{
    return mf_sql_query(s, err,
                        "SELECT part, kind, locator, \"offset\", size, sha256, count(*) OVER ()"
                        " FROM inputs WHERE job = ? ORDER BY ordinal",
                        "i", seq);
}

static bool read_inputs(struct mf_sql_store *s, struct mf_sql_rows *q, struct mf_arena *arena,
                        const struct mf_job_input **ret, size_t *ret_count, struct mf_error *err)
{
    struct mf_job_input *inputs = NULL;
    size_t i = 0;
    int row;
    while ((row = mf_sql_row(s, q, err)) == 1) {
        if (!inputs)
            inputs = mf_arena_alloc(arena, (size_t)mf_sql_int64(q, 6), sizeof *inputs, err);
        if (!inputs) {
            mf_sql_done(q);
            return false;
        }
        struct mf_job_input *in = &inputs[i++];
        in->part = mf_arena_strdup(arena, mf_sql_text(q, 0), err);
        in->kind = mf_arena_strdup(arena, mf_sql_text(q, 1), err);
        in->locator = mf_arena_strdup(arena, mf_sql_text(q, 2), err);
        in->offset = (uint64_t)mf_sql_int64(q, 3);
        in->size = (uint64_t)mf_sql_int64(q, 4);
        mf_sql_copy_digest(q, 5, in->sha256);
        if (!in->part || !in->kind || !in->locator) {
            mf_sql_done(q);
            return false;
        }
    }
    *ret = inputs;
    *ret_count = i;
    return row == 0;
}

bool mf_sql_inputs(struct mf_sql_store *s, int64_t seq, struct mf_arena *arena,
                   const struct mf_job_input **ret, size_t *ret_count, struct mf_error *err)
{
    return read_inputs(s, ask_inputs(s, seq, err), arena, ret, ret_count, err);
}

static const char *column_copy(struct mf_sql_rows *q, int column, struct mf_arena *arena,
                               struct mf_error *err)
{
    const char *text = mf_sql_text(q, column);
    return mf_arena_strdup(arena, text ? text : "", err);
}

static struct mf_sql_rows *ask_claim(struct mf_sql_store *s, int64_t seq, struct mf_error *err)
{
    return mf_sql_query(
        s, err,
        "SELECT id, fence, tenant, model, options, attempts, solo, started - created, body,"
        " priority FROM jobs JOIN job_index ON job = seq WHERE seq = ?",
        "i", seq);
}

static bool read_claim(struct mf_sql_store *s, struct mf_sql_rows *q, struct mf_arena *arena,
                       struct mf_claim *claim, int64_t *ret_waited_ms, struct mf_error *err)
{
    if (mf_sql_row(s, q, err) != 1)
        return mf_error_set(err, MF_ERR_INTERNAL, "a queued job has no index");
    mf_sql_copy_text(q, 0, claim->id, MF_JOB_ID);
    claim->fence = mf_sql_int64(q, 1);
    claim->tenant = column_copy(q, 2, arena, err);
    claim->model = mf_sql_null(q, 3) ? NULL : column_copy(q, 3, arena, err);
    claim->options = column_copy(q, 4, arena, err);
    claim->attempt = mf_sql_int64(q, 5);
    claim->solo = (int)mf_sql_int64(q, 6) != 0;
    *ret_waited_ms = mf_sql_int64(q, 7);
    claim->priority = (enum mf_priority)mf_sql_int64(q, 9);
    claim->index_len = (size_t)mf_sql_bytes(q, 8);
    const char *body = mf_sql_blob(q, 8);
    claim->index = mf_arena_strndup(arena, body ? body : "", claim->index_len, err);
    mf_sql_done(q);
    return claim->tenant && claim->options && claim->index;
}

/* What is under way for jobs that are claimed together. */
struct asked {
    struct mf_sql_rows *jobs[MF_SQL_TOGETHER], *inputs[MF_SQL_TOGETHER];
};

static bool read_asked(struct mf_sql_store *s, const struct asked *asked,
                       const struct candidate *picked, size_t n, struct mf_arena *arena,
                       struct mf_claim *claims, struct mf_error *err)
{
    for (size_t i = 0; i < n; i++) {
        int64_t waited_ms = 0;
        struct mf_claim *c = &claims[i];
        if (!read_claim(s, asked->jobs[i], arena, c, &waited_ms, err) ||
            !read_inputs(s, asked->inputs[i], arena, &c->inputs, &c->input_count, err))
            return false;
        s->work_taken += !picked[i].again;
        if (!picked[i].again && c->attempt == 1) {
            s->wait_seconds_total += (double)(waited_ms > 0 ? waited_ms : 0) / 1e3;
            s->wait_count++;
        }
    }
    return true;
}

/* Marks up to `together` of what was picked as running, and reads what its worker needs: all is
 * asked before the first answer is waited for. */
static bool claim_some(struct mf_sql_store *s, const char *worker, const struct candidate *picked,
                       size_t n, struct mf_arena *arena, struct mf_claim *claims,
                       struct mf_error *err)
{
    struct asked asked = {{NULL}, {NULL}};
    bool ok = true;
    for (size_t i = 0; i < n && ok; i++) {
        ok = picked[i].again || mark_running(s, picked[i].seq, worker, err);
        asked.jobs[i] = ok ? ask_claim(s, picked[i].seq, err) : NULL;
        asked.inputs[i] = ok ? ask_inputs(s, picked[i].seq, err) : NULL;
    }
    ok = ok && read_asked(s, &asked, picked, n, arena, claims, err);
    for (size_t i = 0; i < n && !ok; i++) {
        mf_sql_done(asked.jobs[i]);
        mf_sql_done(asked.inputs[i]);
    }
    return ok;
}

static bool claim_step(struct mf_sql_store *s, const struct mf_claim_request *r,
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
    for (size_t i = 0; i < n; i += s->engine->together) {
        const size_t some = n - i < s->engine->together ? n - i : s->engine->together;
        if (!claim_some(s, r->worker, picked + i, some, arena, claims + i, err))
            return false;
    }
    *ret = claims;
    *ret_count = n;
    return true;
}

bool mf_sql_claim(struct mf_store *store, const struct mf_claim_request *request,
                  struct mf_arena *arena, struct mf_claim **ret, size_t *ret_count,
                  struct mf_error *err)
{
    struct mf_sql_store *s = self(store);
    *ret_count = 0;
    if (request->max == 0 || request->max > 1000 || !*request->worker)
        return mf_error_set(err, MF_ERR_INTERNAL, "a claim names no worker or asks for no jobs");
    if (!mf_sql_savepoint(s, err))
        return false;
    bool ok = mf_sql_end(s, claim_step(s, request, arena, ret, ret_count, err), err);
    if (!ok)
        *ret_count = 0;
    for (size_t i = 0; i < *ret_count; i++)
        (*ret)[i].frames_ahead = mf_store_ahead_take(&s->ahead, (*ret)[i].id);
    return ok;
}
