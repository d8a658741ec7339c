/*
 * SQLite store: the audit trail. The head of the chain is kept in memory; whenever something is
 * rolled back it is read again.
 */
#include "server/store_sqlite.h"

#include "core/clock.h"

#include <string.h>

enum { PURGE_BATCH = 5000, DAY_MS = 86400000 };

const char mf_sqlite_audit_schema[] =
    "CREATE TABLE IF NOT EXISTS audit("
    " seq INTEGER PRIMARY KEY, time INTEGER NOT NULL, tenant TEXT NOT NULL, job TEXT NOT NULL,"
    " event TEXT NOT NULL, detail TEXT, actor TEXT, hash BLOB);"
    "CREATE TABLE IF NOT EXISTS audit_base("
    " id INTEGER PRIMARY KEY CHECK (id = 1), seq INTEGER NOT NULL, hash BLOB NOT NULL);";

static bool take_point(struct mf_sqlite_store *s, sqlite3_stmt *q, struct mf_audit_point *ret,
                       bool *ret_found, struct mf_error *err)
{
    int row = mf_sqlite_row(s, q, err);
    *ret_found = row == 1;
    if (row != 1)
        return row == 0;
    ret->seq = sqlite3_column_int64(q, 0);
    memset(ret->hash, 0, sizeof ret->hash);
    if (sqlite3_column_bytes(q, 1) == MF_SHA256_BYTES)
        memcpy(ret->hash, sqlite3_column_blob(q, 1), MF_SHA256_BYTES);
    mf_sqlite_done(q);
    return true;
}

static bool read_base(struct mf_sqlite_store *s, struct mf_audit_point *ret, struct mf_error *err)
{
    bool found;
    memset(ret, 0, sizeof *ret);
    return take_point(s, mf_sqlite_query(s, err, "SELECT seq, hash FROM audit_base", ""), ret,
                      &found, err);
}

/* The last row, into s->audit_head. */
static bool need_head(struct mf_sqlite_store *s, struct mf_error *err)
{
    bool found;
    if (s->audit_known)
        return true;
    if (!take_point(
            s, mf_sqlite_query(s, err, "SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1", ""),
            &s->audit_head, &found, err) ||
        (!found && !read_base(s, &s->audit_head, err)))
        return false;
    s->audit_known = true;
    return true;
}

bool mf_sqlite_audit_head(struct mf_sqlite_store *s, struct mf_audit_point *ret,
                          struct mf_error *err)
{
    if (!need_head(s, err))
        return false;
    *ret = s->audit_head;
    return true;
}

static bool append(struct mf_sqlite_store *s, const struct mf_audit_row *given,
                   struct mf_error *err)
{
    struct mf_audit_row row = *given;
    if (!need_head(s, err))
        return false;
    row.seq = s->audit_head.seq + 1;
    row.time_ms = mf_clock_wall_ms();
    mf_audit_hash(s->audit_head.hash, &row, row.hash);
    if (!MF_SQLITE_RUN(s, err,
                       "INSERT INTO audit(seq, time, tenant, job, event, detail, actor, hash)"
                       " VALUES(?, ?, ?, ?, ?, ?, ?, ?)",
                       "iitttttb", row.seq, row.time_ms, row.tenant, row.job, row.event, row.detail,
                       row.actor, row.hash, sizeof row.hash))
        return false;
    s->audit_head.seq = row.seq;
    memcpy(s->audit_head.hash, row.hash, sizeof row.hash);
    return true;
}

bool mf_sqlite_audit(struct mf_sqlite_store *s, const char *tenant, const char *job,
                     const char *event, const char *detail, struct mf_error *err)
{
    return append(
        s, &(struct mf_audit_row){.tenant = tenant, .job = job, .event = event, .detail = detail},
        err);
}

bool mf_sqlite_audit_add(struct mf_store *store, const struct mf_audit_row *row,
                         struct mf_error *err)
{
    struct mf_sqlite_store *s = (struct mf_sqlite_store *)store;
    return mf_sqlite_savepoint(s, err) && mf_sqlite_end(s, append(s, row, err), err);
}

/* --- reading --- */

static const char *text(sqlite3_stmt *q, int column)
{
    return (const char *)sqlite3_column_text(q, column);
}

static bool copy_row(sqlite3_stmt *q, struct mf_arena *arena, struct mf_audit_row *ret,
                     struct mf_error *err)
{
    const char **const texts[] = {&ret->tenant, &ret->job, &ret->event, &ret->detail, &ret->actor};
    ret->seq = sqlite3_column_int64(q, 0);
    ret->time_ms = sqlite3_column_int64(q, 1);
    for (int i = 0; i < 5; i++) {
        const char *value = text(q, 2 + i);
        *texts[i] = value ? mf_arena_strdup(arena, value, err) : NULL;
        if (value && !*texts[i])
            return false;
    }
    memset(ret->hash, 0, sizeof ret->hash);
    if (sqlite3_column_bytes(q, 7) == MF_SHA256_BYTES)
        memcpy(ret->hash, sqlite3_column_blob(q, 7), MF_SHA256_BYTES);
    return true;
}

bool mf_sqlite_audit_read(struct mf_store *store, int64_t after, struct mf_arena *arena,
                          struct mf_audit_point *ret_base, struct mf_audit_row **ret,
                          size_t *ret_count, struct mf_error *err)
{
    struct mf_sqlite_store *s = (struct mf_sqlite_store *)store;
    struct mf_audit_row *rows = mf_arena_alloc(arena, MF_AUDIT_PAGE, sizeof *rows, err);
    size_t n = 0;
    int row;
    if (!rows || !read_base(s, ret_base, err))
        return false;
    sqlite3_stmt *q =
        mf_sqlite_query(s, err,
                        "SELECT seq, time, tenant, job, event, detail, actor, hash FROM audit"
                        " WHERE seq > ? ORDER BY seq LIMIT ?",
                        "ii", after, (int64_t)MF_AUDIT_PAGE);
    while ((row = mf_sqlite_row(s, q, err)) == 1 && n < MF_AUDIT_PAGE)
        if (!copy_row(q, arena, &rows[n++], err)) {
            mf_sqlite_done(q);
            return false;
        }
    *ret = rows;
    *ret_count = n;
    return row == 0;
}

/* --- databases from before the chain --- */

static bool chain_row(struct mf_sqlite_store *s, int64_t after, bool *ret_more,
                      struct mf_error *err)
{
    char tenant[MF_TENANT], job[MF_JOB_ID], event[64], detail[512];
    struct mf_audit_row row = {.tenant = tenant, .job = job, .event = event};
    sqlite3_stmt *q = mf_sqlite_query(s, err,
                                      "SELECT seq, time, tenant, job, event, detail FROM audit"
                                      " WHERE seq > ? ORDER BY seq LIMIT 1",
                                      "i", after);
    int found = mf_sqlite_row(s, q, err);
    *ret_more = found == 1;
    if (found != 1)
        return found == 0;
    row.seq = sqlite3_column_int64(q, 0);
    row.time_ms = sqlite3_column_int64(q, 1);
    mf_sqlite_text(q, 2, tenant, sizeof tenant);
    mf_sqlite_text(q, 3, job, sizeof job);
    mf_sqlite_text(q, 4, event, sizeof event);
    mf_sqlite_text(q, 5, detail, sizeof detail);
    row.detail = text(q, 5) ? detail : NULL;
    mf_sqlite_done(q);
    if (row.seq != s->audit_head.seq + 1) /* a gap from before: the chain begins behind it */
        s->audit_head.seq = row.seq - 1;
    mf_audit_hash(s->audit_head.hash, &row, s->audit_head.hash);
    s->audit_head.seq = row.seq;
    return MF_SQLITE_RUN(s, err, "UPDATE audit SET hash = ? WHERE seq = ?", "bi",
                         s->audit_head.hash, sizeof s->audit_head.hash, row.seq);
}

bool mf_sqlite_audit_migrate(struct mf_sqlite_store *s, struct mf_error *err)
{
    int64_t chained = 0;
    if (!mf_sqlite_int(
            s,
            mf_sqlite_query(
                s, err, "SELECT count(*) FROM pragma_table_info('audit') WHERE name = 'hash'", ""),
            &chained, err))
        return false;
    if (chained)
        return true;
    if (sqlite3_exec(s->db,
                     "ALTER TABLE audit ADD COLUMN actor TEXT;"
                     "ALTER TABLE audit ADD COLUMN hash BLOB;",
                     NULL, NULL, NULL) != SQLITE_OK)
        return mf_sqlite_fail(s, err);
    bool more = true;
    while (more)
        if (!chain_row(s, s->audit_head.seq, &more, err))
            return false;
    s->audit_known = true;
    return true;
}

/* --- retention --- */

/* The last of the oldest rows that are all from before then; seq 0: there is none. */
static bool find_end(struct mf_sqlite_store *s, int64_t before_ms, struct mf_audit_point *ret,
                     struct mf_error *err)
{
    sqlite3_stmt *q =
        mf_sqlite_query(s, err, "SELECT seq, hash, time FROM audit ORDER BY seq LIMIT ?", "i",
                        (int64_t)PURGE_BATCH);
    int row;
    ret->seq = 0;
    while ((row = mf_sqlite_row(s, q, err)) == 1) {
        int64_t time = sqlite3_column_int64(q, 2);
        if (time > before_ms || (ret->seq == 0 && time > before_ms - DAY_MS))
            break;
        ret->seq = sqlite3_column_int64(q, 0);
        memset(ret->hash, 0, sizeof ret->hash);
        if (sqlite3_column_bytes(q, 1) == MF_SHA256_BYTES)
            memcpy(ret->hash, sqlite3_column_blob(q, 1), MF_SHA256_BYTES);
    }
    if (row == 1)
        mf_sqlite_done(q);
    return row >= 0;
}

static bool expire_step(struct mf_sqlite_store *s, int64_t before_ms, struct mf_error *err)
{
    char point[MF_AUDIT_POINT_TEXT];
    struct mf_audit_point end;
    if (!find_end(s, before_ms, &end, err))
        return false;
    if (end.seq == 0)
        return true;
    return MF_SQLITE_RUN(s, err, "DELETE FROM audit WHERE seq <= ?", "i", end.seq) &&
           MF_SQLITE_RUN(s, err,
                         "INSERT INTO audit_base(id, seq, hash) VALUES(1, ?, ?) ON CONFLICT(id)"
                         " DO UPDATE SET seq = excluded.seq, hash = excluded.hash",
                         "ib", end.seq, end.hash, sizeof end.hash) &&
           mf_sqlite_audit(s, "", "", "audit.purged", mf_audit_point_format(&end, point), err);
}

bool mf_sqlite_expire_audit(struct mf_sqlite_store *s, struct mf_error *err)
{
    if (s->settings.audit_retention_s == 0)
        return true;
    int64_t before_ms = mf_clock_wall_ms() - s->settings.audit_retention_s * 1000;
    return mf_sqlite_savepoint(s, err) && mf_sqlite_end(s, expire_step(s, before_ms, err), err);
}
