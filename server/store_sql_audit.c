/*
 * SQL store: the audit trail. Rows are chained by the engine, in the transaction of what they
 * tell of.
 */
#include "server/store_sql.h"

#include <string.h>

enum { PURGE_BATCH = 5000, DAY_MS = 86400000 };

static bool take_point(struct mf_sql_store *s, struct mf_sql_rows *q, struct mf_audit_point *ret,
                       bool *ret_found, struct mf_error *err)
{
    int row = mf_sql_row(s, q, err);
    *ret_found = row == 1;
    if (row != 1)
        return row == 0;
    ret->seq = mf_sql_int64(q, 0);
    mf_sql_copy_digest(q, 1, ret->hash);
    mf_sql_done(q);
    return true;
}

static bool read_base(struct mf_sql_store *s, struct mf_audit_point *ret, struct mf_error *err)
{
    bool found;
    memset(ret, 0, sizeof *ret);
    return take_point(s, mf_sql_query(s, err, "SELECT seq, hash FROM audit_base", ""), ret, &found,
                      err);
}

bool mf_sql_audit_head(struct mf_sql_store *s, struct mf_audit_point *ret, struct mf_error *err)
{
    bool found;
    return take_point(
               s, mf_sql_query(s, err, "SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1", ""),
               ret, &found, err) &&
           (found || read_base(s, ret, err));
}

void mf_sql_audit_link(struct mf_sql_store *s, struct mf_audit_point *head,
                       struct mf_audit_row *row)
{
    row->seq = head->seq + 1;
    row->time_ms = mf_sql_now_ms(s);
    mf_audit_hash(head->hash, row, row->hash);
    head->seq = row->seq;
    memcpy(head->hash, row->hash, sizeof row->hash);
}

bool mf_sql_audit_insert(struct mf_sql_store *s, struct mf_audit_point *head,
                         const struct mf_audit_row *given, struct mf_error *err)
{
    const struct mf_audit_point before = *head;
    struct mf_audit_row row = *given;
    mf_sql_audit_link(s, head, &row);
    if (mf_sql_run(s, err,
                   "INSERT INTO audit(seq, time, tenant, job, event, detail, actor, hash)"
                   " VALUES(?, ?, ?, ?, ?, ?, ?, ?)",
                   "iitttttb", row.seq, row.time_ms, row.tenant, row.job, row.event, row.detail,
                   row.actor, row.hash, sizeof row.hash))
        return true;
    *head = before;
    return false;
}

bool mf_sql_audit(struct mf_sql_store *s, const char *tenant, const char *job, const char *event,
                  const char *detail, struct mf_error *err)
{
    return s->engine->audit(
        s, &(struct mf_audit_row){.tenant = tenant, .job = job, .event = event, .detail = detail},
        err);
}

bool mf_sql_audit_add(struct mf_store *store, const struct mf_audit_row *row, struct mf_error *err)
{
    struct mf_sql_store *s = (struct mf_sql_store *)store;
    return mf_sql_savepoint(s, err) && mf_sql_end(s, s->engine->audit(s, row, err), err);
}

/* --- reading --- */

static bool copy_row(struct mf_sql_rows *q, struct mf_arena *arena, struct mf_audit_row *ret,
                     struct mf_error *err)
{
    const char **const texts[] = {&ret->tenant, &ret->job, &ret->event, &ret->detail, &ret->actor};
    ret->seq = mf_sql_int64(q, 0);
    ret->time_ms = mf_sql_int64(q, 1);
    for (int i = 0; i < 5; i++) {
        const char *value = mf_sql_text(q, 2 + i);
        *texts[i] = value ? mf_arena_strdup(arena, value, err) : NULL;
        if (value && !*texts[i])
            return false;
    }
    mf_sql_copy_digest(q, 7, ret->hash);
    return true;
}

bool mf_sql_audit_read(struct mf_store *store, int64_t after, struct mf_arena *arena,
                       struct mf_audit_point *ret_base, struct mf_audit_row **ret,
                       size_t *ret_count, struct mf_error *err)
{
    struct mf_sql_store *s = (struct mf_sql_store *)store;
    struct mf_audit_row *rows = mf_arena_alloc(arena, MF_AUDIT_PAGE, sizeof *rows, err);
    size_t n = 0;
    int row;
    if (!rows || !read_base(s, ret_base, err))
        return false;
    struct mf_sql_rows *q =
        mf_sql_query(s, err,
                     "SELECT seq, time, tenant, job, event, detail, actor, hash FROM audit"
                     " WHERE seq > ? ORDER BY seq LIMIT ?",
                     "ii", after, (int64_t)MF_AUDIT_PAGE);
    while ((row = mf_sql_row(s, q, err)) == 1)
        if (!copy_row(q, arena, &rows[n++], err)) {
            mf_sql_done(q);
            return false;
        }
    *ret = rows;
    *ret_count = n;
    return row == 0;
}

/* --- retention --- */

/* The last of the oldest rows that are all from before then; seq 0: there is none. */
static bool find_end(struct mf_sql_store *s, int64_t before_ms, struct mf_audit_point *ret,
                     struct mf_error *err)
{
    struct mf_sql_rows *q =
        mf_sql_query(s, err, "SELECT seq, hash, time FROM audit ORDER BY seq LIMIT ?", "i",
                     (int64_t)PURGE_BATCH);
    int row;
    ret->seq = 0;
    while ((row = mf_sql_row(s, q, err)) == 1) {
        int64_t time = mf_sql_int64(q, 2);
        if (time > before_ms || (ret->seq == 0 && time > before_ms - DAY_MS))
            break;
        ret->seq = mf_sql_int64(q, 0);
        mf_sql_copy_digest(q, 1, ret->hash);
    }
    if (row == 1)
        mf_sql_done(q);
    return row >= 0;
}

static bool expire_step(struct mf_sql_store *s, int64_t before_ms, struct mf_error *err)
{
    char point[MF_AUDIT_POINT_TEXT];
    struct mf_audit_point end;
    if (!find_end(s, before_ms, &end, err))
        return false;
    if (end.seq == 0)
        return true;
    return mf_sql_run(s, err, "DELETE FROM audit WHERE seq <= ?", "i", end.seq) &&
           mf_sql_run(s, err,
                      "INSERT INTO audit_base(id, seq, hash) VALUES(1, ?, ?) ON CONFLICT(id)"
                      " DO UPDATE SET seq = excluded.seq, hash = excluded.hash",
                      "ib", end.seq, end.hash, sizeof end.hash) &&
           mf_sql_audit(s, "", "", "audit.purged", mf_audit_point_format(&end, point), err);
}

bool mf_sql_expire_audit(struct mf_sql_store *s, struct mf_error *err)
{
    if (s->settings.audit_retention_s == 0)
        return true;
    int64_t before_ms = mf_sql_now_ms(s) - s->settings.audit_retention_s * 1000;
    return mf_sql_savepoint(s, err) && mf_sql_end(s, expire_step(s, before_ms, err), err);
}
