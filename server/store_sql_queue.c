/*
 * SQL store: into the queue. submit puts a job in and gives it its turn (shares.h). How jobs are
 * handed out is in store_sql_claim.c.
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
