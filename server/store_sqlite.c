/*
 * SQLite store: opening, schema, statements, groups.
 *
 * WAL with synchronous=FULL: a commit is one fsync of the log. The database is locked for this
 * process alone (locking_mode=EXCLUSIVE), which also spares the shared-memory index. Leases,
 * progress and the list of workers live in TEMP tables in memory: they change every few seconds and
 * mean nothing after a restart.
 */
#include "server/store_sqlite.h"

#include "core/clock.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* 2: feedback, which a program that knows 1 would not purge. 3: the audit trail is a chain. */
enum { SCHEMA_VERSION = 3, PATH_BYTES = 4096 };

static const char PRAGMAS[] = "PRAGMA locking_mode=EXCLUSIVE;"
                              "PRAGMA journal_mode=WAL;"
                              "PRAGMA synchronous=FULL;"
                              "PRAGMA temp_store=MEMORY;"
                              "PRAGMA foreign_keys=OFF;"
                              "PRAGMA secure_delete=ON;";

static const char SCHEMA[] =
    "CREATE TABLE IF NOT EXISTS jobs("
    " seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, tenant TEXT NOT NULL,"
    " state INTEGER NOT NULL, priority INTEGER NOT NULL, model TEXT, options TEXT NOT NULL,"
    " created INTEGER NOT NULL, started INTEGER NOT NULL DEFAULT 0,"
    " finished INTEGER NOT NULL DEFAULT 0, attempts INTEGER NOT NULL DEFAULT 0,"
    " fence INTEGER NOT NULL DEFAULT 0, crashes INTEGER NOT NULL DEFAULT 0,"
    " losses INTEGER NOT NULL DEFAULT 0, solo INTEGER NOT NULL DEFAULT 0,"
    " cancel INTEGER NOT NULL DEFAULT 0, purged INTEGER NOT NULL DEFAULT 0,"
    " worker TEXT, problem_code TEXT, problem_detail TEXT);"
    "CREATE INDEX IF NOT EXISTS jobs_open ON jobs(state, priority, seq) WHERE state IN (0, 1);"
    "CREATE INDEX IF NOT EXISTS jobs_state ON jobs(tenant, state, seq);"
    "CREATE INDEX IF NOT EXISTS jobs_finished ON jobs(finished) WHERE finished > 0;"
    "CREATE TABLE IF NOT EXISTS job_index(job INTEGER PRIMARY KEY, body BLOB NOT NULL);"
    "CREATE TABLE IF NOT EXISTS inputs("
    " job INTEGER NOT NULL, ordinal INTEGER NOT NULL, part TEXT NOT NULL, kind TEXT NOT NULL,"
    " locator TEXT NOT NULL, offset INTEGER NOT NULL, size INTEGER NOT NULL,"
    " sha256 BLOB NOT NULL, PRIMARY KEY(job, ordinal)) WITHOUT ROWID;"
    "CREATE INDEX IF NOT EXISTS inputs_locator ON inputs(locator);"
    "CREATE TABLE IF NOT EXISTS results(job INTEGER PRIMARY KEY, body BLOB NOT NULL);"
    "CREATE TABLE IF NOT EXISTS masks(job INTEGER PRIMARY KEY, body BLOB NOT NULL);"
    "CREATE TABLE IF NOT EXISTS explanations(job INTEGER PRIMARY KEY, body BLOB NOT NULL);"
    "CREATE TABLE IF NOT EXISTS idempotency("
    " tenant TEXT NOT NULL, key TEXT NOT NULL, fingerprint BLOB NOT NULL, job TEXT NOT NULL,"
    " created INTEGER NOT NULL, PRIMARY KEY(tenant, key)) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS counters(name TEXT PRIMARY KEY, value INTEGER NOT NULL)"
    " WITHOUT ROWID;"
    "CREATE TEMP TABLE leases("
    " job INTEGER PRIMARY KEY, deadline INTEGER NOT NULL, progress REAL NOT NULL);"
    "CREATE TEMP TABLE workers("
    " id TEXT PRIMARY KEY, device TEXT NOT NULL, ready INTEGER NOT NULL, models TEXT NOT NULL,"
    " deadline INTEGER NOT NULL);";

bool mf_sqlite_fail(struct mf_sqlite_store *s, struct mf_error *err)
{
    int code = sqlite3_errcode(s->db);
    return mf_error_set(err, code == SQLITE_NOMEM ? MF_ERR_NO_MEMORY : MF_ERR_IO,
                        "the job store failed (SQLite %d: %s)", sqlite3_extended_errcode(s->db),
                        sqlite3_errstr(code));
}

static bool execute(struct mf_sqlite_store *s, const char *sql, struct mf_error *err)
{
    return sqlite3_exec(s->db, sql, NULL, NULL, NULL) == SQLITE_OK || mf_sqlite_fail(s, err);
}

/* --- statements --- */

static sqlite3_stmt *find_statement(struct mf_sqlite_store *s, const char *sql,
                                    struct mf_error *err)
{
    for (size_t i = 0; i < s->statement_count; i++)
        if (s->statements[i].sql == sql)
            return s->statements[i].statement;
    if (s->statement_count == MF_SQLITE_STATEMENTS) {
        mf_error_set(err, MF_ERR_INTERNAL, "the job store has too many statements");
        return NULL;
    }
    sqlite3_stmt *statement = NULL;
    if (sqlite3_prepare_v3(s->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &statement, NULL) !=
        SQLITE_OK) {
        mf_sqlite_fail(s, err);
        return NULL;
    }
    s->statements[s->statement_count].sql = sql;
    s->statements[s->statement_count++].statement = statement;
    return statement;
}

sqlite3_stmt *mf_sqlite_query(struct mf_sqlite_store *s, struct mf_error *err, const char *sql,
                              const char *types, ...)
{
    sqlite3_stmt *q = find_statement(s, sql, err);
    if (!q)
        return NULL;
    sqlite3_reset(q);
    int rc = SQLITE_OK;
    va_list ap;
    va_start(ap, types);
    for (int i = 1; types[i - 1] && rc == SQLITE_OK; i++) {
        const void *pointer;
        switch (types[i - 1]) {
        case 't':
            rc = sqlite3_bind_text(q, i, va_arg(ap, const char *), -1, SQLITE_STATIC);
            break;
        case 'd':
            rc = sqlite3_bind_double(q, i, va_arg(ap, double));
            break;
        case 'b':
            pointer = va_arg(ap, const void *);
            rc = sqlite3_bind_blob64(q, i, pointer, va_arg(ap, size_t), SQLITE_STATIC);
            break;
        default:
            rc = sqlite3_bind_int64(q, i, va_arg(ap, int64_t));
            break;
        }
    }
    va_end(ap);
    if (rc != SQLITE_OK) {
        mf_sqlite_fail(s, err);
        return NULL;
    }
    return q;
}

int mf_sqlite_row(struct mf_sqlite_store *s, sqlite3_stmt *statement, struct mf_error *err)
{
    if (!statement)
        return -1;
    int rc = sqlite3_step(statement);
    if (rc == SQLITE_ROW)
        return 1;
    if (rc != SQLITE_DONE)
        mf_sqlite_fail(s, err);
    sqlite3_reset(statement);
    return rc == SQLITE_DONE ? 0 : -1;
}

void mf_sqlite_done(sqlite3_stmt *statement)
{
    if (statement)
        sqlite3_reset(statement);
}

bool mf_sqlite_int(struct mf_sqlite_store *s, sqlite3_stmt *statement, int64_t *ret,
                   struct mf_error *err)
{
    if (mf_sqlite_row(s, statement, err) != 1)
        return false;
    *ret = sqlite3_column_int64(statement, 0);
    mf_sqlite_done(statement);
    return true;
}

void mf_sqlite_text(sqlite3_stmt *statement, int column, char *out, size_t size)
{
    const unsigned char *text = sqlite3_column_text(statement, column);
    snprintf(out, size, "%s", text ? (const char *)text : "");
}

/* --- transactions --- */

bool mf_sqlite_savepoint(struct mf_sqlite_store *s, struct mf_error *err)
{
    return MF_SQLITE_RUN(s, err, "SAVEPOINT verb", "");
}

bool mf_sqlite_end(struct mf_sqlite_store *s, bool ok, struct mf_error *err)
{
    if (ok)
        return MF_SQLITE_RUN(s, err, "RELEASE verb", "");
    struct mf_error ignored = MF_ERROR_INIT; /* the caller already holds the reason */
    s->audit_known = false;
    if (MF_SQLITE_RUN(s, &ignored, "ROLLBACK TO verb", ""))
        (void)MF_SQLITE_RUN(s, &ignored, "RELEASE verb", "");
    return false;
}

bool mf_sqlite_begin(struct mf_sqlite_store *s, struct mf_error *err)
{
    return MF_SQLITE_RUN(s, err, "BEGIN", "");
}

bool mf_sqlite_commit(struct mf_sqlite_store *s, bool *ret_fatal, struct mf_error *err)
{
    *ret_fatal = false;
    bool known = s->audit_known;
    s->audit_known = false; /* unless the commit succeeds */
    if (sqlite3_get_autocommit(
            s->db)) /* SQLite has undone the group by itself: disk full or I/O error */
        return mf_error_set(err, MF_ERR_IO, "the job store cannot write; try again later");
    if (MF_SQLITE_RUN(s, err, "COMMIT", "")) {
        s->audit_known = known;
        return true;
    }
    *ret_fatal = sqlite3_errcode(s->db) != SQLITE_FULL;
    struct mf_error ignored = MF_ERROR_INIT;
    if (!sqlite3_get_autocommit(s->db) && !MF_SQLITE_RUN(s, &ignored, "ROLLBACK", ""))
        *ret_fatal = true;
    return false;
}

/* --- counters, events --- */

bool mf_sqlite_count(struct mf_sqlite_store *s, const char *counter, int64_t by,
                     struct mf_error *err)
{
    return MF_SQLITE_RUN(s, err,
                         "INSERT INTO counters(name, value) VALUES(?, ?)"
                         " ON CONFLICT(name) DO UPDATE SET value = value + excluded.value",
                         "ti", counter, by);
}

bool mf_sqlite_note_end(struct mf_sqlite_store *s, const char *id, struct mf_error *err)
{
    mf_store_ahead_drop(&s->ahead, id);
    if (s->ended_count == s->ended_capacity) {
        size_t capacity = s->ended_capacity ? 2 * s->ended_capacity : 64;
        void *grown = realloc(s->ended, capacity * sizeof *s->ended);
        if (!grown)
            return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory in the job store");
        s->ended = grown;
        s->ended_capacity = capacity;
    }
    memcpy(s->ended[s->ended_count++], id, MF_JOB_ID);
    return true;
}

void mf_sqlite_events_clear(struct mf_sqlite_store *s)
{
    s->work_changed = false;
    s->ended_count = 0;
}

/* --- opening and closing --- */

static void sqlite_free(struct mf_store *store)
{
    struct mf_sqlite_store *s = (struct mf_sqlite_store *)store;
    mf_store_ahead_drop(&s->ahead, NULL);
    for (size_t i = 0; i < s->statement_count; i++)
        sqlite3_finalize(s->statements[i].statement);
    sqlite3_close(s->db);
    free(s->ended);
    free(s);
}

static void sqlite_interrupt(struct mf_store *store)
{
    (void)store; /* nothing of this handle ever waits */
}

static const struct mf_store_ops OPS = {
    .free = sqlite_free,
    .submit = mf_sqlite_submit,
    .claim = mf_sqlite_claim,
    .heartbeat = mf_sqlite_heartbeat,
    .finish = mf_sqlite_finish,
    .release = mf_sqlite_release,
    .worker_gone = mf_sqlite_worker_gone,
    .announce = mf_sqlite_announce,
    .workers = mf_sqlite_workers,
    .job = mf_sqlite_job,
    .result = mf_sqlite_result,
    .record = mf_sqlite_record,
    .list = mf_sqlite_list,
    .cancel = mf_sqlite_cancel,
    .purge = mf_sqlite_purge,
    .locators_used = mf_sqlite_locators_used,
    .counts = mf_sqlite_counts,
    .wait_for_jobs = mf_sqlite_wait_for_jobs,
    .changes = mf_sqlite_changes,
    .interrupt = sqlite_interrupt,
    .instances_add = mf_sqlite_instances_add,
    .instances_search = mf_sqlite_instances_search,
    .studies_due = mf_sqlite_studies_due,
    .study_settle = mf_sqlite_study_settle,
    .study_hasten = mf_sqlite_study_hasten,
    .study = mf_sqlite_study,
    .deliveries_due = mf_sqlite_deliveries_due,
    .delivery_settle = mf_sqlite_delivery_settle,
    .feedback = mf_sqlite_feedback,
    .feedback_put = mf_sqlite_feedback_put,
    .state = mf_sqlite_state,
    .observed = mf_sqlite_observed,
    .audit_add = mf_sqlite_audit_add,
    .audit_read = mf_sqlite_audit_read,
};

static bool check_version(struct mf_sqlite_store *s, const char *path, struct mf_error *err)
{
    int64_t version = 0;
    if (!mf_sqlite_int(s, mf_sqlite_query(s, err, "PRAGMA user_version", ""), &version, err))
        return false;
    if (version < 0 || version > SCHEMA_VERSION) /* older ones lack tables only: SCHEMA adds them */
        return mf_error_set(err, MF_ERR_IO, "%s: schema version %d, this program knows %d", path,
                            (int)version, SCHEMA_VERSION);
    return execute(s, "PRAGMA user_version=3", err);
}

/* After a restart: what was running is lost, or (the store alone was restarted) gets a whole lease.
 */
static bool recover(struct mf_sqlite_store *s, struct mf_error *err)
{
    int64_t lease_ns = s->settings.fresh_start ? 0 : s->settings.lease_s * INT64_C(1000000000);
    return MF_SQLITE_RUN(s, err,
                         "INSERT INTO leases(job, deadline, progress)"
                         " SELECT seq, ?, 0 FROM jobs WHERE state = 1",
                         "i",
                         s->settings.fresh_start ? INT64_C(0)
                                                 : (int64_t)mf_clock_monotonic_ns() + lease_ns) &&
           mf_sqlite_expire_leases(s, err);
}

static bool open_database(struct mf_sqlite_store *s, const char *path, struct mf_error *err)
{
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
    mode_t mask = umask(077);
    int rc = sqlite3_open_v2(path, &s->db, flags, NULL);
    bool ok = rc == SQLITE_OK && execute(s, PRAGMAS, err);
    umask(mask);
    if (!ok) {
        mf_error_set(err, MF_ERR_IO, "%s: cannot be opened (%s)", path, sqlite3_errstr(rc));
        return mf_error_prefix(err, "%s", path);
    }
    sqlite3_extended_result_codes(s->db, 1);
    mf_sqlite_limit_log(s);
    /* BEGIN IMMEDIATE takes the lock that EXCLUSIVE mode then keeps: a second owner fails here. */
    if (!execute(s, "BEGIN IMMEDIATE", err) || !execute(s, SCHEMA, err) ||
        !execute(s, mf_sqlite_instances_schema, err) ||
        !execute(s, mf_sqlite_feedback_schema, err) || !check_version(s, path, err) ||
        !execute(s, mf_sqlite_audit_schema, err) || !mf_sqlite_audit_migrate(s, err) ||
        !mf_sqlite_outbox_open(s, err) || !mf_sqlite_changes_open(s, err) ||
        !execute(s, "COMMIT", err) || !recover(s, err))
        return mf_error_prefix(err, "%s", path);
    mf_sqlite_events_clear(s);
    return true;
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
    MF_AUTO(mf_store) struct mf_store *store = s ? &s->base : NULL;
    if (!s) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the job store");
        return NULL;
    }
    s->base.ops = &OPS;
    s->settings = *settings;
    s->typical_run_s = NAN;
    if (!open_database(s, path, err))
        return NULL;
    return MF_STEAL(store);
}
