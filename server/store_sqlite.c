/*
 * SQLite engine: opening, statements, groups.
 *
 * WAL with synchronous=FULL: a commit is one fsync of the log. The database is locked for this
 * process alone (locking_mode=EXCLUSIVE), which also spares the shared-memory index.
 */
#include "server/store_sqlite.h"

#include "server/store_key.h"
#include "server/store_sqlite_pages.h"

#include "core/clock.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* 2: feedback, which a program that knows 1 would not purge. 3: the audit trail is a chain. 4:
 * turns of jobs, dead letters. */
enum { SCHEMA_VERSION = 4, PATH_BYTES = 4096 };

static const char PRAGMAS[] = "PRAGMA locking_mode=EXCLUSIVE;"
                              "PRAGMA journal_mode=WAL;"
                              "PRAGMA synchronous=FULL;"
                              "PRAGMA temp_store=MEMORY;"
                              "PRAGMA foreign_keys=OFF;"
                              "PRAGMA secure_delete=ON;";

static const struct mf_sql_engine ENGINE;

static struct mf_sqlite_store *self(struct mf_sql_store *store)
{
    return (struct mf_sqlite_store *)store;
}

static sqlite3_stmt *statement(struct mf_sql_rows *rows)
{
    return ((struct mf_sqlite_rows *)rows)->statement;
}

bool mf_sqlite_fail(struct mf_sqlite_store *s, struct mf_error *err)
{
    int code = sqlite3_errcode(s->db);
    return mf_error_set(err, code == SQLITE_NOMEM ? MF_ERR_NO_MEMORY : MF_ERR_IO,
                        "the job store failed (SQLite %d: %s)", sqlite3_extended_errcode(s->db),
                        sqlite3_errstr(code));
}

bool mf_sqlite_execute(struct mf_sqlite_store *s, const char *sql, struct mf_error *err)
{
    return sqlite3_exec(s->db, sql, NULL, NULL, NULL) == SQLITE_OK || mf_sqlite_fail(s, err);
}

/* --- statements --- */

static struct mf_sqlite_rows *prepare(struct mf_sqlite_store *s, const char *sql, bool literal,
                                      struct mf_error *err)
{
    for (size_t i = 0; literal && i < s->statement_count; i++)
        if (s->statements[i].sql == sql)
            return &s->statements[i];
    if (literal && s->statement_count == MF_SQLITE_STATEMENTS) {
        mf_error_set(err, MF_ERR_INTERNAL, "the job store has too many statements");
        return NULL;
    }
    struct mf_sqlite_rows *rows = literal ? &s->statements[s->statement_count] : &s->once;
    if (!literal)
        sqlite3_finalize(rows->statement);
    *rows = (struct mf_sqlite_rows){.base = {&ENGINE}, .sql = literal ? sql : NULL};
    if (sqlite3_prepare_v3(s->db, sql, -1, literal ? SQLITE_PREPARE_PERSISTENT : 0,
                           &rows->statement, NULL) != SQLITE_OK) {
        mf_sqlite_fail(s, err);
        return NULL;
    }
    s->statement_count += literal;
    return rows;
}

static struct mf_sql_rows *sqlite_query(struct mf_sql_store *store, const char *sql, bool literal,
                                        const struct mf_sql_value *values, size_t n,
                                        struct mf_error *err)
{
    struct mf_sqlite_store *s = self(store);
    struct mf_sqlite_rows *rows = prepare(s, sql, literal, err);
    if (!rows)
        return NULL;
    sqlite3_stmt *q = rows->statement;
    sqlite3_reset(q);
    int rc = SQLITE_OK;
    for (size_t i = 0; i < n && rc == SQLITE_OK; i++) {
        const struct mf_sql_value *v = &values[i];
        const int at = (int)i + 1;
        rc = v->type == 't'   ? sqlite3_bind_text(q, at, v->bytes, -1, SQLITE_STATIC)
             : v->type == 'd' ? sqlite3_bind_double(q, at, v->real)
             : v->type == 'b' ? sqlite3_bind_blob64(q, at, v->bytes, v->len, SQLITE_STATIC)
                              : sqlite3_bind_int64(q, at, v->integer);
    }
    if (rc != SQLITE_OK) {
        mf_sqlite_fail(s, err);
        return NULL;
    }
    return &rows->base;
}

static int sqlite_row(struct mf_sql_store *store, struct mf_sql_rows *rows, struct mf_error *err)
{
    int rc = sqlite3_step(statement(rows));
    if (rc == SQLITE_ROW)
        return 1;
    if (rc != SQLITE_DONE)
        mf_sqlite_fail(self(store), err);
    sqlite3_reset(statement(rows));
    return rc == SQLITE_DONE ? 0 : -1;
}

static void sqlite_done(struct mf_sql_rows *rows)
{
    sqlite3_reset(statement(rows));
}

static bool sqlite_run(struct mf_sql_store *store, const char *sql,
                       const struct mf_sql_value *values, size_t n, struct mf_error *err)
{
    struct mf_sql_rows *rows = sqlite_query(store, sql, true, values, n, err);
    return rows && sqlite_row(store, rows, err) == 0;
}

static bool sqlite_null(struct mf_sql_rows *rows, int column)
{
    return sqlite3_column_type(statement(rows), column) == SQLITE_NULL;
}

static int64_t sqlite_integer(struct mf_sql_rows *rows, int column)
{
    return sqlite3_column_int64(statement(rows), column);
}

static double sqlite_real(struct mf_sql_rows *rows, int column)
{
    return sqlite3_column_double(statement(rows), column);
}

static const char *sqlite_text(struct mf_sql_rows *rows, int column)
{
    return (const char *)sqlite3_column_text(statement(rows), column);
}

static const void *sqlite_bytes(struct mf_sql_rows *rows, int column, size_t *ret_len)
{
    const void *bytes = sqlite3_column_blob(statement(rows), column);
    *ret_len = (size_t)sqlite3_column_bytes(statement(rows), column);
    return bytes;
}

/* --- clocks --- */

static int64_t sqlite_now_ms(struct mf_sql_store *store)
{
    (void)store;
    return mf_clock_wall_ms();
}

static int64_t sqlite_lease_clock_ns(struct mf_sql_store *store)
{
    (void)store;
    return (int64_t)mf_clock_monotonic_ns();
}

/* --- transactions --- */

static bool run(struct mf_sql_store *store, const char *sql, struct mf_error *err)
{
    return sqlite_run(store, sql, NULL, 0, err);
}

static bool sqlite_savepoint(struct mf_sql_store *store, struct mf_error *err)
{
    return run(store, "SAVEPOINT verb", err);
}

static bool sqlite_end(struct mf_sql_store *store, bool ok, struct mf_error *err)
{
    if (ok)
        return run(store, "RELEASE verb", err);
    struct mf_error ignored = MF_ERROR_INIT; /* the caller already holds the reason */
    self(store)->audit_known = false;
    if (run(store, "ROLLBACK TO verb", &ignored))
        (void)run(store, "RELEASE verb", &ignored);
    return false;
}

static bool sqlite_ready(struct mf_sql_store *store, struct mf_error *err)
{
    (void)store;
    (void)err;
    return true;
}

static bool sqlite_begin(struct mf_sql_store *store, struct mf_error *err)
{
    mf_sqlite_hold_lapse(self(store));
    return run(store, "BEGIN", err);
}

static enum mf_sql_commit sqlite_commit(struct mf_sql_store *store, struct mf_error *err)
{
    struct mf_sqlite_store *s = self(store);
    bool known = s->audit_known;
    s->audit_known = false; /* unless the commit succeeds */
    if (sqlite3_get_autocommit(s->db)) {
        /* SQLite has undone the group by itself: disk full or I/O error */
        mf_error_set(err, MF_ERR_IO, "the job store cannot write; try again later");
        return MF_SQL_REFUSED;
    }
    if (run(store, "COMMIT", err)) {
        s->audit_known = known;
        return MF_SQL_COMMITTED;
    }
    bool fatal = sqlite3_errcode(s->db) != SQLITE_FULL;
    struct mf_error ignored = MF_ERROR_INIT;
    if (!sqlite3_get_autocommit(s->db) && !run(store, "ROLLBACK", &ignored))
        fatal = true;
    return fatal ? MF_SQL_FATAL : MF_SQL_REFUSED;
}

static bool sqlite_healthy(struct mf_sql_store *store)
{
    return !sqlite3_get_autocommit(self(store)->db);
}

/* --- counters, changes --- */

static bool sqlite_count(struct mf_sql_store *store, const char *counter, int64_t by,
                         struct mf_error *err)
{
    return mf_sql_run(store, err,
                      "INSERT INTO counters(name, value) VALUES(?, ?)"
                      " ON CONFLICT(name) DO UPDATE SET value = counters.value + excluded.value",
                      "ti", counter, by);
}

_Static_assert(MF_CHANGES_KEPT == 10000, "the number in the statement");

static bool sqlite_changed(struct mf_sql_store *store, int64_t seq, struct mf_error *err)
{
    return mf_sql_run(store, err, "INSERT INTO job_changes(job) VALUES(?)", "i", seq) &&
           mf_sql_run(store, err,
                      "DELETE FROM job_changes WHERE number <= last_insert_rowid() - 10000", "");
}

static int sqlite_descriptor(struct mf_sql_store *store)
{
    (void)store; /* nobody else changes anything */
    return -1;
}

static uint64_t sqlite_next_lease_ns(struct mf_sql_store *store)
{
    int64_t deadline = 0;
    struct mf_error ignored = MF_ERROR_INIT;
    struct mf_sql_rows *q =
        mf_sql_query(store, &ignored, "SELECT deadline FROM leases ORDER BY deadline LIMIT 1", "");
    return mf_sql_int(store, q, &deadline, &ignored) ? (uint64_t)deadline : UINT64_MAX;
}

/* --- opening and closing --- */

static void sqlite_free(struct mf_sql_store *store)
{
    struct mf_sqlite_store *s = self(store);
    for (size_t i = 0; i < s->statement_count; i++)
        sqlite3_finalize(s->statements[i].statement);
    sqlite3_finalize(s->once.statement);
    sqlite3_close(s->db);
    mf_sqlite_pages_free(s->pages);
    free(s);
}

static const struct mf_sql_engine ENGINE = {.together = 1,
                                            .join = "group_concat(DISTINCT m.Modality)",
                                            .free = sqlite_free,
                                            .query = sqlite_query,
                                            .run = sqlite_run,
                                            .row = sqlite_row,
                                            .done = sqlite_done,
                                            .null = sqlite_null,
                                            .integer = sqlite_integer,
                                            .real = sqlite_real,
                                            .text = sqlite_text,
                                            .bytes = sqlite_bytes,
                                            .now_ms = sqlite_now_ms,
                                            .lease_clock_ns = sqlite_lease_clock_ns,
                                            .savepoint = sqlite_savepoint,
                                            .end = sqlite_end,
                                            .ready = sqlite_ready,
                                            .begin = sqlite_begin,
                                            .healthy = sqlite_healthy,
                                            .commit = sqlite_commit,
                                            .audit = mf_sqlite_audit,
                                            .count = sqlite_count,
                                            .changed = sqlite_changed,
                                            .descriptor = sqlite_descriptor,
                                            .next_lease_ns = sqlite_next_lease_ns,
                                            .idle = mf_sqlite_checkpoint,
                                            .hold = mf_sqlite_hold};

static bool check_version(struct mf_sqlite_store *s, struct mf_error *err)
{
    int64_t version = 0;
    if (!mf_sql_int(&s->sql, mf_sql_query(&s->sql, err, "PRAGMA user_version", ""), &version, err))
        return false;
    if (version < 0 || version > SCHEMA_VERSION)
        return mf_error_set(err, MF_ERR_IO, "schema version %d, this program knows %d",
                            (int)version, SCHEMA_VERSION);
    return mf_sqlite_execute(s, "PRAGMA user_version=4", err);
}

/* After a restart: what was running is lost, or (the store alone was restarted) gets a whole lease.
 */
static bool recover(struct mf_sqlite_store *s, struct mf_error *err)
{
    int64_t deadline = s->sql.settings.fresh_start ? 0 : mf_sql_lease_deadline(&s->sql);
    return mf_sql_run(&s->sql, err,
                      "INSERT INTO leases(job, deadline, progress)"
                      " SELECT seq, ?, 0 FROM jobs WHERE state = 1",
                      "i", deadline) &&
           mf_sql_expire_leases(&s->sql, err);
}

/* The first row of the changes stands for nothing: it holds the number where this run of the store
 * begins. */
static bool open_changes(struct mf_sqlite_store *s, struct mf_error *err)
{
    return mf_sqlite_execute(s, mf_sqlite_memory_schema, err) &&
           mf_sql_run(&s->sql, err, "INSERT INTO job_changes(number, job) VALUES(?, 0)", "i",
                      mf_clock_wall_ms() * 1000);
}

static bool open_database(struct mf_sqlite_store *s, const char *path, struct mf_error *err)
{
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
    mode_t mask = umask(077);
    int rc = sqlite3_open_v2(path, &s->db, flags, mf_sqlite_pages_vfs(s->pages));
    bool ok = rc == SQLITE_OK && mf_sqlite_execute(s, PRAGMAS, err);
    umask(mask);
    if (!ok) {
        mf_error_set(err, MF_ERR_IO, "cannot be opened (%s)", sqlite3_errstr(rc));
        return mf_error_prefix(err, "%s", path);
    }
    sqlite3_extended_result_codes(s->db, 1);
    mf_sqlite_limit_log(s);
    /* BEGIN IMMEDIATE takes the lock that EXCLUSIVE mode then keeps: a second owner fails here. */
    if (!mf_sqlite_execute(s, "BEGIN IMMEDIATE", err) || !check_version(s, err) ||
        !mf_sqlite_upgrade(s, err) || !mf_sqlite_execute(s, mf_sqlite_schema, err) ||
        !mf_sqlite_audit_migrate(s, err) || !open_changes(s, err) ||
        !mf_sqlite_execute(s, "COMMIT", err) || !recover(s, err))
        return mf_error_prefix(err, "%s", path);
    mf_sql_events_clear(&s->sql);
    return true;
}

static bool open_pages(struct mf_sqlite_store *s, const char *directory, struct mf_error *err)
{
    unsigned char key[MF_GCM_KEY];
    bool sealed = false;
    if (!mf_store_key_open(s->sql.settings.vault, directory, key, &sealed, err))
        return false;
    if (!sealed)
        return true;
    s->pages = mf_sqlite_pages_new(key, err);
    explicit_bzero(key, sizeof key);
    return s->pages != NULL;
}

struct mf_store *mf_store_open_sqlite(const char *directory,
                                      const struct mf_store_settings *settings,
                                      struct mf_error *err)
{
    char path[PATH_BYTES];
    if (snprintf(path, sizeof path, "%s/store.db", directory) >= (int)sizeof path) {
        mf_error_set(err, MF_ERR_USAGE, "data.directory: the path is too long");
        return NULL;
    }
    struct mf_sqlite_store *s = calloc(1, sizeof *s);
    if (!s) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the job store");
        return NULL;
    }
    s->sql.base.ops = &mf_sql_verbs;
    s->sql.engine = &ENGINE;
    s->sql.settings = *settings;
    s->sql.typical_run_s = NAN;
    MF_AUTO(mf_store) struct mf_store *store = &s->sql.base;
    if (!mf_sql_read_destinations(&s->sql, err) ||
        !mf_shares_parse(settings->shares, &s->sql.shares, err) || !open_pages(s, directory, err) ||
        !open_database(s, path, err))
        return NULL;
    return MF_STEAL(store);
}
