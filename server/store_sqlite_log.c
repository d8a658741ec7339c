/*
 * SQLite engine: the write-ahead log, looked after when the store is idle, and left alone while the
 * database is copied.
 *
 * Overwriting a log is cheaper to sync than growing it: the file system has nothing to note about
 * the file, which is a quarter of a commit. So the log is given its whole size before it is needed,
 * and is kept. SQLite reads a log as far as its frames' salts and checksums hold (SQLite file
 * format, 4.1), and zeros have neither.
 */
#include "server/store_sqlite.h"

#include "core/clock.h"

enum { FRAME_BYTES = 4096 + 24, HEADER_BYTES = 32 };

void mf_sqlite_limit_log(struct mf_sqlite_store *s)
{
    sqlite3_wal_autocheckpoint(s->db, MF_SQLITE_LOG_FRAMES);
}

/* Fills the log with zeros from its end on. Whoever cannot have the room goes on without. */
static void reserve(struct mf_sqlite_store *s)
{
    static const char zeros[1 << 16];
    const sqlite3_int64 want = HEADER_BYTES + (sqlite3_int64)MF_SQLITE_LOG_FRAMES * FRAME_BYTES;
    sqlite3_file *log = NULL;
    sqlite3_int64 size = 0;
    if (sqlite3_file_control(s->db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &log) != SQLITE_OK ||
        !log || !log->pMethods || log->pMethods->xFileSize(log, &size) != SQLITE_OK || size >= want)
        return;
    int rc = SQLITE_OK;
    for (; rc == SQLITE_OK && size < want; size += (sqlite3_int64)sizeof zeros)
        rc = log->pMethods->xWrite(log, zeros, (int)sizeof zeros, size);
    if (rc == SQLITE_OK)
        log->pMethods->xSync(log, SQLITE_SYNC_NORMAL);
}

void mf_sqlite_checkpoint(struct mf_sql_store *store)
{
    struct mf_sqlite_store *s = (struct mf_sqlite_store *)store;
    mf_sqlite_hold_lapse(s);
    if (s->held_until_ns)
        return;
    /* What was purged must leave the log, too. */
    int mode = s->sql.purged ? SQLITE_CHECKPOINT_TRUNCATE : SQLITE_CHECKPOINT_PASSIVE;
    if (sqlite3_wal_checkpoint_v2(s->db, NULL, mode, NULL, NULL) == SQLITE_OK)
        s->sql.purged = false;
    reserve(s);
}

void mf_sqlite_hold_lapse(struct mf_sqlite_store *s)
{
    if (!s->held_until_ns || mf_clock_monotonic_ns() < s->held_until_ns)
        return;
    s->held_until_ns = 0;
    mf_sqlite_limit_log(s);
}

int64_t mf_sqlite_hold(struct mf_sql_store *store, int64_t ms)
{
    struct mf_sqlite_store *s = (struct mf_sqlite_store *)store;
    mf_sqlite_hold_lapse(s);
    if (!s->held_until_ns) /* also another process must not have the same number */
        sqlite3_randomness(sizeof s->hold, &s->hold);
    s->held_until_ns = mf_clock_monotonic_ns() + (uint64_t)(ms > 0 ? ms : 0) * 1000000;
    sqlite3_wal_autocheckpoint(s->db, 0);
    mf_sqlite_hold_lapse(s);
    return s->hold;
}
