/*
 * SQLite engine: the chain of the audit trail. Its head is kept in memory; whenever something is
 * rolled back it is read again.
 */
#include "server/store_sqlite.h"

#include <string.h>

static bool need_head(struct mf_sqlite_store *s, struct mf_error *err)
{
    if (s->audit_known)
        return true;
    if (!mf_sql_audit_head(&s->sql, &s->audit_head, err))
        return false;
    s->audit_known = true;
    return true;
}

bool mf_sqlite_audit(struct mf_sql_store *store, const struct mf_audit_row *row,
                     struct mf_error *err)
{
    struct mf_sqlite_store *s = (struct mf_sqlite_store *)store;
    return need_head(s, err) && mf_sql_audit_insert(store, &s->audit_head, row, err);
}

/* --- databases from before the chain --- */

static bool chain_row(struct mf_sqlite_store *s, int64_t after, bool *ret_more,
                      struct mf_error *err)
{
    char tenant[MF_TENANT], job[MF_JOB_ID], event[64], detail[512];
    struct mf_audit_row row = {.tenant = tenant, .job = job, .event = event};
    struct mf_sql_rows *q = mf_sql_query(&s->sql, err,
                                         "SELECT seq, time, tenant, job, event, detail FROM audit"
                                         " WHERE seq > ? ORDER BY seq LIMIT 1",
                                         "i", after);
    int found = mf_sql_row(&s->sql, q, err);
    *ret_more = found == 1;
    if (found != 1)
        return found == 0;
    row.seq = mf_sql_int64(q, 0);
    row.time_ms = mf_sql_int64(q, 1);
    mf_sql_copy_text(q, 2, tenant, sizeof tenant);
    mf_sql_copy_text(q, 3, job, sizeof job);
    mf_sql_copy_text(q, 4, event, sizeof event);
    mf_sql_copy_text(q, 5, detail, sizeof detail);
    row.detail = mf_sql_null(q, 5) ? NULL : detail;
    mf_sql_done(q);
    if (row.seq != s->audit_head.seq + 1) /* a gap from before: the chain begins behind it */
        s->audit_head.seq = row.seq - 1;
    mf_audit_hash(s->audit_head.hash, &row, s->audit_head.hash);
    s->audit_head.seq = row.seq;
    return mf_sql_run(&s->sql, err, "UPDATE audit SET hash = ? WHERE seq = ?", "bi",
                      s->audit_head.hash, sizeof s->audit_head.hash, row.seq);
}

bool mf_sqlite_audit_migrate(struct mf_sqlite_store *s, struct mf_error *err)
{
    int64_t chained = 0;
    if (!mf_sql_int(&s->sql,
                    mf_sql_query(&s->sql, err,
                                 "SELECT count(*) FROM pragma_table_info('audit')"
                                 " WHERE name = 'hash'",
                                 ""),
                    &chained, err))
        return false;
    if (chained)
        return true;
    if (!mf_sqlite_execute(s,
                           "ALTER TABLE audit ADD COLUMN actor TEXT;"
                           "ALTER TABLE audit ADD COLUMN hash BLOB;",
                           err))
        return false;
    bool more = true;
    while (more)
        if (!chain_row(s, s->audit_head.seq, &more, err))
            return false;
    s->audit_known = true;
    return true;
}
