/*
 * SQL store: the queue. submit puts a job in and gives it its turn (shares.h), claim hands jobs out
 * by priority, then by turn. How attempts end is in store_sql_attempts.c.
 */
#include "server/store_sql.h"

#include <inttypes.h>
#include <string.h>

static struct mf_sql_store *self(struct mf_store *store)
{
    return (struct mf_sql_store *)store;
}

/* --- submit --- */

/* How many jobs wait, whether this one is known, and the row that it will be in if it is not. What
 * follows needs no answer from the database, which may be far away. */
#define LOOK                                                                                       \
    "SELECT (SELECT count(*) FROM jobs WHERE state = 0),"                                          \
    " EXISTS(SELECT 1 FROM jobs WHERE " MF_SQL_IS_JOB "),"                                         \
    " coalesce(NULL, /*!nextval(pg_get_serial_sequence('jobs', 'seq')), */"                        \
    "(SELECT coalesce(max(seq), 0) + 1 FROM jobs))"

/* 1: the key was used with this fingerprint (or the id exists already: a repeated call); 0: new;
 * −1: refused. */
static int find_replay(struct mf_sql_store *s, const struct mf_submission *sub,
                       struct mf_submitted *ret, int64_t *ret_seq, struct mf_error *err)
{
    struct mf_sql_rows *q = mf_sql_query(s, err, LOOK, "tt", sub->id, sub->tenant);
    int row = mf_sql_row(s, q, err);
    if (row != 1)
        return -1;
    bool known = mf_sql_int64(q, 1) != 0;
    ret->queued = mf_sql_int64(q, 0);
    *ret_seq = mf_sql_int64(q, 2);
    mf_sql_done(q);
    if (known)
        memcpy(ret->id, sub->id, MF_JOB_ID);
    if (known || !sub->idempotency_key)
        return known;
    q = mf_sql_query(s, err,
                     "SELECT fingerprint, job FROM idempotency WHERE tenant = ? AND key = ?", "tt",
                     sub->tenant, sub->idempotency_key);
    row = mf_sql_row(s, q, err);
    if (row != 1)
        return row;
    unsigned char fingerprint[MF_SHA256_BYTES];
    mf_sql_copy_digest(q, 0, fingerprint);
    bool same = memcmp(fingerprint, sub->fingerprint, MF_SHA256_BYTES) == 0;
    mf_sql_copy_text(q, 1, ret->id, MF_JOB_ID);
    mf_sql_done(q);
    if (!same) {
        mf_error_set(err, MF_ERR_UNUSABLE,
                     "Idempotency-Key: it was used before for a different request");
        return -1;
    }
    ret->replayed = true;
    return mf_sql_count(s, "replayed", 1, err) ? 1 : -1;
}

static bool insert_inputs(struct mf_sql_store *s, int64_t seq, const struct mf_submission *sub,
                          struct mf_error *err)
{
    for (size_t i = 0; i < sub->input_count; i++) {
        const struct mf_job_input *in = &sub->inputs[i];
        if (!mf_sql_run(s, err,
                        "INSERT INTO inputs(job, ordinal, part, kind, locator, \"offset\","
                        " size, sha256) VALUES(?, ?, ?, ?, ?, ?, ?, ?)",
                        "iitttiib", seq, (int64_t)i, in->part, in->kind, in->locator,
                        (int64_t)in->offset, (int64_t)in->size, in->sha256,
                        (size_t)MF_SHA256_BYTES))
            return false;
    }
    return true;
}

/* The turn that is served now, or the one after the tenant's last job, whichever is later. */
#define INSERT_JOB                                                                                 \
    "INSERT INTO jobs(seq, id, tenant, state, priority, model, options, created, turn)"            \
    " /*!OVERRIDING SYSTEM VALUE */VALUES(?8, ?1, ?2, 0, ?3, ?4, ?5, ?6, (SELECT "                 \
    "coalesce(max(turns.turn), 0) FROM ("                                                          \
    "SELECT (SELECT turn FROM jobs WHERE state = 0 AND priority = ?3 ORDER BY turn LIMIT 1)"       \
    " AS turn UNION ALL SELECT (SELECT turn + ?7 FROM jobs WHERE state = 0 AND priority = ?3"      \
    " AND tenant = ?2 ORDER BY turn DESC LIMIT 1)) AS turns))"

static bool insert_job(struct mf_sql_store *s, const struct mf_submission *sub, int64_t seq,
                       struct mf_error *err)
{
    int64_t now = mf_sql_now_ms(s);
    if (!mf_sql_run(s, err, INSERT_JOB, "ttittiii", sub->id, sub->tenant, (int64_t)sub->priority,
                    sub->model, sub->options, now, mf_shares_cost(&s->shares, sub->tenant), seq) ||
        !mf_sql_run(s, err, "INSERT INTO job_index(job, body) VALUES(?, ?)", "ib", seq, sub->index,
                    sub->index_len) ||
        !insert_inputs(s, seq, sub, err))
        return false;
    if (sub->idempotency_key &&
        !mf_sql_run(s, err,
                    "INSERT INTO idempotency(tenant, key, fingerprint, job, created)"
                    " VALUES(?, ?, ?, ?, ?)",
                    "ttbti", sub->tenant, sub->idempotency_key, sub->fingerprint,
                    (size_t)MF_SHA256_BYTES, sub->id, now))
        return false;
    return mf_sql_count(s, "submitted", 1, err) && mf_sql_changed(s, seq, err) &&
           mf_sql_audit(s, sub->tenant, sub->id, "job.submitted", NULL, err);
}

/* Whether one more of this tenant may be queued. A full queue still has room for those who have
 * little in it: nobody can lock the others out. */
static bool find_room(struct mf_sql_store *s, const struct mf_submission *sub, int64_t queued,
                      bool *ret, struct mf_error *err)
{
    const int64_t reserve = sub->max_queued / 8 + 1;
    int64_t own = 0;
    *ret = sub->max_queued == 0 || queued < sub->max_queued;
    if (*ret || queued >= sub->max_queued + reserve)
        return true;
    if (!mf_sql_int(s,
                    mf_sql_query(s, err, "SELECT count(*) FROM jobs WHERE state = 0 AND tenant = ?",
                                 "t", sub->tenant),
                    &own, err))
        return false;
    *ret = own < reserve;
    return true;
}

static bool submit_step(struct mf_sql_store *s, const struct mf_submission *sub,
                        struct mf_submitted *ret, struct mf_error *err)
{
    bool room = false;
    int64_t seq = 0;
    int replay = find_replay(s, sub, ret, &seq, err);
    if (replay != 0)
        return replay > 0;
    if (!find_room(s, sub, ret->queued, &room, err))
        return false;
    if (!room)
        return mf_error_set(err, MF_ERR_BUSY,
                            "the queue is full (%" PRId64 " jobs); try again later", ret->queued);
    memcpy(ret->id, sub->id, MF_JOB_ID);
    if (!insert_job(s, sub, seq, err) || !find_room(s, sub, ++ret->queued, &room, err))
        return false;
    ret->full = !room;
    return true;
}

bool mf_sql_submit(struct mf_store *store, const struct mf_submission *sub,
                   struct mf_submitted *ret, struct mf_error *err)
{
    struct mf_sql_store *s = self(store);
    if (!mf_job_id_valid(sub->id) || (unsigned)sub->priority >= MF_PRIORITY_COUNT)
        return mf_error_set(err, MF_ERR_INTERNAL, "a submission has an invalid id or priority");
    struct mf_submitted made = {.replayed = false};
    if (!mf_sql_savepoint(s, err) || !mf_sql_end(s, submit_step(s, sub, &made, err), err))
        return false;
    if (!made.replayed && sub->frames_ahead > 0)
        mf_store_ahead_keep(&s->ahead, made.id, sub->frames_ahead);
    s->work_changed = true;
    s->work_made += !made.replayed;
    *ret = made;
    return true;
}

/* --- claim --- */

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
