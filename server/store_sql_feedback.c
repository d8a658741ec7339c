/* SQL store: feedback on results, states learnt from it, and results as the monitor reads them
 * (store_feedback.h). */
#include "server/store_sql.h"

#include <string.h>

static struct mf_sql_store *self(struct mf_store *store)
{
    return (struct mf_sql_store *)store;
}

static const char *copy_column(struct mf_sql_rows *q, int column, struct mf_arena *arena,
                               size_t *ret_len, struct mf_error *err)
{
    size_t n = (size_t)mf_sql_bytes(q, column);
    char *copy = mf_arena_alloc(arena, n + 1, 1, err);
    if (copy && n)
        memcpy(copy, mf_sql_blob(q, column), n);
    if (ret_len)
        *ret_len = n;
    return copy;
}

/* --- reading --- */

static bool read_feedback(struct mf_sql_store *s, int64_t seq, struct mf_arena *arena,
                          struct mf_observed *o, struct mf_error *err)
{
    int64_t count = 0;
    if (!mf_sql_int(s,
                    mf_sql_query(s, err, "SELECT count(*) FROM feedback WHERE job = ?1", "i", seq),
                    &count, err))
        return false;
    struct mf_feedback *rows = mf_arena_alloc(arena, (size_t)count + 1, sizeof *rows, err);
    if (!rows)
        return false;
    struct mf_sql_rows *q = mf_sql_query(s, err,
                                         "SELECT change, reader, time, body FROM feedback"
                                         " WHERE job = ?1 ORDER BY change",
                                         "i", seq);
    size_t n = 0;
    int row;
    while ((row = mf_sql_row(s, q, err)) == 1 && n < (size_t)count) {
        o->revision = mf_sql_int64(q, 0);
        rows[n].reader = copy_column(q, 1, arena, NULL, err);
        rows[n].time_ms = mf_sql_int64(q, 2);
        rows[n].body = copy_column(q, 3, arena, NULL, err);
        if (!rows[n].reader || !rows[n].body) {
            mf_sql_done(q);
            return false;
        }
        n++;
    }
    o->feedback = rows;
    o->feedback_count = n;
    return row == 0;
}

/* Options, result and feedback of the job in `seq`. */
static bool read_observed(struct mf_sql_store *s, int64_t seq, struct mf_arena *arena,
                          struct mf_observed *o, struct mf_error *err)
{
    struct mf_sql_rows *q = mf_sql_query(s, err,
                                         "SELECT options, body FROM jobs LEFT JOIN results"
                                         " ON job = seq WHERE seq = ?1",
                                         "i", seq);
    if (mf_sql_row(s, q, err) != 1)
        return false;
    bool has = !mf_sql_null(q, 1);
    o->options = copy_column(q, 0, arena, NULL, err);
    o->result = has ? copy_column(q, 1, arena, &o->result_len, err) : NULL;
    bool ok = o->options && (o->result || !has);
    mf_sql_done(q);
    return ok && read_feedback(s, seq, arena, o, err);
}

static bool find_seq(struct mf_sql_store *s, const char *id, int64_t *ret, struct mf_error *err)
{
    return mf_sql_int(s, mf_sql_query(s, err, "SELECT seq FROM jobs WHERE id = ?", "t", id), ret,
                      err);
}

/* The same; nobody else gives feedback on it before this group ends. */
static bool lock_seq(struct mf_sql_store *s, const char *id, int64_t *ret, struct mf_error *err)
{
    return mf_sql_int(
        s, mf_sql_query(s, err, "SELECT seq FROM jobs WHERE id = ?/*! FOR UPDATE*/", "t", id), ret,
        err);
}

bool mf_sql_feedback(struct mf_store *store, const char *tenant, const char *id,
                     struct mf_arena *arena, struct mf_observed *ret, struct mf_error *err)
{
    struct mf_sql_store *s = self(store);
    int64_t seq = 0;
    *ret = (struct mf_observed){.revision = 0};
    return mf_sql_job(store, tenant, id, &ret->job, err) && find_seq(s, id, &seq, err) &&
           read_observed(s, seq, arena, ret, err);
}

bool mf_sql_state(struct mf_store *store, const char *tenant, const char *key, int64_t known,
                  struct mf_arena *arena, const char **ret_text, int64_t *ret_version,
                  struct mf_error *err)
{
    struct mf_sql_store *s = self(store);
    struct mf_sql_rows *q = mf_sql_query(s, err,
                                         "SELECT version, body FROM states WHERE tenant = ? AND"
                                         " key = ? ORDER BY version DESC LIMIT 1",
                                         "tt", tenant, key);
    int row = mf_sql_row(s, q, err);
    *ret_text = NULL;
    *ret_version = 0;
    if (row != 1)
        return row == 0;
    *ret_version = mf_sql_int64(q, 0);
    bool wanted = *ret_version != known;
    if (wanted)
        *ret_text = copy_column(q, 1, arena, NULL, err);
    mf_sql_done(q);
    return !wanted || *ret_text;
}

#define OBSERVED_REST " AND seq < ?2 AND model = ?3 AND purged = 0 ORDER BY seq DESC LIMIT ?4"

bool mf_sql_observed(struct mf_store *store, const char *tenant, const char *model, int64_t cursor,
                     size_t limit, struct mf_arena *arena, struct mf_observed **ret,
                     size_t *ret_count, int64_t *ret_next, struct mf_error *err)
{
    struct mf_sql_store *s = self(store);
    if (limit == 0 || limit > MF_OBSERVED_MAX)
        return mf_error_set(err, MF_ERR_INTERNAL, "a page of results has 1 to %d", MF_OBSERVED_MAX);
    struct mf_observed *rows = mf_arena_alloc(arena, limit, sizeof *rows, err);
    int64_t *seqs = mf_arena_alloc(arena, limit, sizeof *seqs, err);
    if (!rows || !seqs)
        return false;
    /* Two texts, so that a tenant's are found by their index. */
    struct mf_sql_rows *q = mf_sql_query(
        s, err,
        tenant ? "SELECT seq, id, tenant FROM jobs WHERE tenant = ?1 AND state = 2" OBSERVED_REST
               : "SELECT seq, id, tenant FROM jobs WHERE ?1 IS NULL AND state = 2" OBSERVED_REST,
        "titi", tenant, cursor ? cursor : INT64_MAX, model, (int64_t)limit + 1);
    size_t n = 0;
    int row;
    while ((row = mf_sql_row(s, q, err)) == 1 && n < limit) {
        seqs[n] = mf_sql_int64(q, 0);
        mf_sql_copy_text(q, 1, rows[n].job.id, sizeof rows[n].job.id);
        mf_sql_copy_text(q, 2, rows[n].job.tenant, sizeof rows[n].job.tenant);
        n++;
    }
    if (row < 0)
        return false;
    if (row == 1)
        mf_sql_done(q);
    *ret_next = row == 1 ? seqs[n - 1] : 0;
    *ret_count = n;
    *ret = rows;
    for (size_t i = 0; i < n; i++) {
        struct mf_job key = rows[i].job;
        if (!mf_sql_job(store, key.tenant, key.id, &rows[i].job, err) ||
            !read_observed(s, seqs[i], arena, &rows[i], err))
            return false;
    }
    return true;
}

/* --- writing --- */

static bool current_revision(struct mf_sql_store *s, int64_t seq, int64_t *ret,
                             struct mf_error *err)
{
    return mf_sql_int(s,
                      mf_sql_query(s, err,
                                   "SELECT coalesce(max(change), 0) FROM feedback WHERE job = ?",
                                   "i", seq),
                      ret, err);
}

/* The next version of the state; *ret_kept false when it is not the next any more. */
static bool put_state(struct mf_sql_store *s, const struct mf_feedback_put *p, bool *ret_kept,
                      struct mf_error *err)
{
    int64_t newest = 0;
    if (!mf_sql_int(s,
                    mf_sql_query(s, err,
                                 "SELECT coalesce(max(version), 0) FROM states WHERE"
                                 " tenant = ? AND key = ?",
                                 "tt", p->tenant, p->state_key),
                    &newest, err))
        return false;
    *ret_kept = newest + 1 == p->state_version;
    return !*ret_kept || mf_sql_run(s, err,
                                    "INSERT INTO states(tenant, key, version, time, body)"
                                    " VALUES(?, ?, ?, ?, ?)",
                                    "ttiit", p->tenant, p->state_key, p->state_version,
                                    mf_sql_now_ms(s), p->state);
}

static bool put_step(struct mf_store *store, const struct mf_feedback_put *p, bool *ret_kept,
                     struct mf_error *err)
{
    struct mf_sql_store *s = self(store);
    struct mf_job job;
    int64_t seq = 0, revision = 0;
    if (!mf_sql_job(store, p->tenant, p->job, &job, err) || !lock_seq(s, p->job, &seq, err) ||
        !current_revision(s, seq, &revision, err))
        return false;
    if (job.purged)
        return mf_error_set(err, MF_ERR_GONE, "the job's data was purged");
    if (job.state != MF_JOB_SUCCEEDED)
        return mf_error_set(err, MF_ERR_CONFLICT, "the job is %s: it has no result",
                            mf_job_state_name(job.state));
    *ret_kept = revision == p->revision;
    if (*ret_kept && p->state_key && !put_state(s, p, ret_kept, err))
        return false;
    return !*ret_kept || (mf_sql_run(s, err, "DELETE FROM feedback WHERE job = ? AND reader = ?",
                                     "it", seq, p->reader) &&
                          mf_sql_run(s, err,
                                     "INSERT INTO feedback(job, reader, time, body)"
                                     " VALUES(?, ?, ?, ?)",
                                     "itit", seq, p->reader, mf_sql_now_ms(s), p->body) &&
                          mf_sql_audit(s, p->tenant, p->job, "feedback.given", p->reader, err));
}

bool mf_sql_feedback_put(struct mf_store *store, const struct mf_feedback_put *put, bool *ret_kept,
                         struct mf_error *err)
{
    struct mf_sql_store *s = self(store);
    return mf_sql_savepoint(s, err) && mf_sql_end(s, put_step(store, put, ret_kept, err), err);
}

bool mf_sql_expire_states(struct mf_sql_store *s, int64_t before_ms, struct mf_error *err)
{
    return mf_sql_run(s, err,
                      "DELETE FROM states WHERE time <= ?1 AND EXISTS (SELECT 1 FROM states n"
                      " WHERE n.tenant = states.tenant AND n.key = states.key"
                      " AND n.version > states.version)",
                      "i", before_ms);
}
