/*
 * PostgreSQL engine: the connection, groups, and what becomes of them when something fails.
 *
 * A connection that broke is opened again at the next turn, at most every RETRY_MS. What was asked
 * in a group that failed is asked again by the clients (MF_SQL_AGAIN), which is harmless for every
 * verb; also when COMMIT was sent and its answer never came. Leases end by the database's clock; a
 * database that was started less than a lease ago gives every running job a whole one, because no
 * worker could renew it meanwhile.
 */
#include "server/store_postgres.h"

#include "core/clock.h"
#include "core/log.h"

#include <math.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

enum { RETRY_MS = 250, OLDEST_SERVER = 150000, LEASES_EVERY_MS = 1000 };

static const uint64_t MS = 1000000;

static struct mf_postgres_store *self(struct mf_sql_store *store)
{
    return (struct mf_postgres_store *)store;
}

/* --- the connection --- */

/* Bounds on what one host may hold up: a transaction that is left open, or waits, is ended by the
 * server. An acknowledgement means a durable commit, whatever the server's default is. */
static const char SESSION[] = "SET client_encoding = 'UTF8';"
                              "SET jit = off;"
                              "SET lock_timeout = '10s';"
                              "SET statement_timeout = '30s';"
                              "SET idle_in_transaction_session_timeout = '30s';"
                              "SET client_min_messages = warning;"
                              "SELECT set_config('synchronous_commit', 'on', false)"
                              " WHERE current_setting('synchronous_commit') = 'off';"
                              "LISTEN medfusion";

/* Running jobs whose workers could not reach the database. */
static const char RENEW[] =
    "UPDATE leases SET deadline = greatest(deadline,"
    " (extract(epoch FROM pg_postmaster_start_time()) * 1000000000)::int8 + %lld)"
    " WHERE pg_postmaster_start_time() > clock_timestamp() - interval '%lld seconds'";

void mf_pg_disconnect(struct mf_postgres_store *s)
{
    mf_pg_forget_rows(s);
    for (int i = 0; i < MF_PG_ROWS; i++)
        s->rows[i].state = MF_PG_FREE; /* no answer will come */
    PQfinish(s->db);
    s->db = NULL;
    s->statement_count = s->expected_from = 0;
    mf_buffer_clear(&s->expected);
}

/* The reasons that libpq gives name hosts and users, never passwords; the first line says what. */
static bool no_connection(const struct mf_postgres_store *s, struct mf_error *err)
{
    char line[160] = "out of memory";
    const char *message = s->db ? PQerrorMessage(s->db) : NULL;
    if (message)
        snprintf(line, sizeof line, "%.*s", (int)strcspn(message, "\n"), message);
    return mf_error_set(err, MF_ERR_UNAVAILABLE, "the database cannot be reached (%s)", line);
}

static bool open_connection(struct mf_postgres_store *s, struct mf_error *err)
{
    /* What comes before the address is default, what follows it is not to be changed. */
    static const char *const names[] = {
        "connect_timeout",  "tcp_user_timeout", "keepalives_idle",  "keepalives_interval",
        "keepalives_count", "dbname",           "application_name", NULL};
    const char *const values[] = {"2", "10000", "5", "2", "3", s->address, "medfusion", NULL};
    s->db = PQconnectdbParams(names, values, 1);
    if (!s->db || PQstatus(s->db) != CONNECTION_OK)
        return no_connection(s, err);
    if (PQserverVersion(s->db) < OLDEST_SERVER)
        return mf_error_set(err, MF_ERR_USAGE, "store.database: PostgreSQL 15 or later is needed");
    return true;
}

static bool prepare_session(struct mf_postgres_store *s, struct mf_error *err)
{
    char renew[512];
    long long lease_s = (long long)s->sql.settings.lease_s;
    snprintf(renew, sizeof renew, RENEW, lease_s * 1000000000, lease_s);
    if (!mf_pg_execute(s->db, SESSION, err) || !mf_pg_migrate(s->db, !s->migrated, err) ||
        !mf_pg_execute(s->db, renew, err))
        return false;
    s->migrated = true;
    return PQenterPipelineMode(s->db) == 1 ||
           mf_error_set(err, MF_ERR_INTERNAL, "the database connection has no pipeline mode");
}

bool mf_pg_connect(struct mf_postgres_store *s, struct mf_error *err)
{
    mf_pg_disconnect(s);
    s->next_try_ns = mf_clock_monotonic_ns() + RETRY_MS * MS;
    if (!open_connection(s, err) || !prepare_session(s, err)) {
        mf_pg_disconnect(s);
        return false;
    }
    s->failed = s->begun = false;
    s->sql.missed = s->sql.work_changed = true; /* notifications may have come to nobody */
    return true;
}

static void take_notifications(struct mf_postgres_store *s)
{
    PGnotify *note;
    while (s->db && (note = PQnotifies(s->db)) != NULL) {
        if (note->be_pid != PQbackendPID(s->db))
            mf_pg_heard(s, note->extra);
        PQfreemem(note);
    }
}

static bool pg_ready(struct mf_sql_store *store, struct mf_error *err)
{
    struct mf_postgres_store *s = self(store);
    bool told = s->db == NULL;
    if (s->db && (!PQconsumeInput(s->db) || PQstatus(s->db) == CONNECTION_BAD))
        mf_pg_disconnect(s);
    if (!s->db) {
        if (!told)
            mf_log(MF_LOG_WARN, "database.lost");
        if (mf_clock_monotonic_ns() < s->next_try_ns)
            return mf_error_set(err, MF_ERR_UNAVAILABLE, "the database cannot be reached");
        if (!mf_pg_connect(s, err))
            return false;
        mf_log(MF_LOG_INFO, "database.connected");
    }
    take_notifications(s);
    return true;
}

static int pg_descriptor(struct mf_sql_store *store)
{
    struct mf_postgres_store *s = self(store);
    return s->db ? PQsocket(s->db) : -1;
}

/* Leases are looked at every second, and a lost connection is tried again soon. */
static uint64_t pg_next_lease_ns(struct mf_sql_store *store)
{
    struct mf_postgres_store *s = self(store);
    return s->db ? s->next_lease_ns : s->next_try_ns;
}

static void pg_idle(struct mf_sql_store *store)
{
    store->purged = false; /* the server's VACUUM sees to what is left of it */
}

/* --- clocks --- */

static int64_t pg_now_ms(struct mf_sql_store *store)
{
    struct mf_postgres_store *s = self(store);
    (void)mf_pg_need_time(s); /* if it fails, so does what the time is for */
    return s->now_ms;
}

static int64_t pg_lease_clock_ns(struct mf_sql_store *store)
{
    struct mf_postgres_store *s = self(store);
    s->next_lease_ns = mf_clock_monotonic_ns() + LEASES_EVERY_MS * MS;
    return pg_now_ms(store) * 1000000;
}

/* --- groups --- */

static void start(struct mf_postgres_store *s)
{
    s->begun = s->wrote = s->undone = s->timed = false;
    s->failed = s->db == NULL;
    s->state[0] = '\0';
    s->reason = (struct mf_error)MF_ERROR_INIT;
    s->ended_before = s->sql.ended_count;
    s->made_before = s->sql.work_made;
    s->taken_before = s->sql.work_taken;
    mf_pg_forget_rows(s);
    mf_pg_notes_clear(s);
}

/* Whether asking again may help: lost connections and servers that stop (08, 57P), conflicts of
 * transactions (40), a key that somebody else has just used (23505), waits that took too long
 * (55P03, 57014, 25P0x), and lack of resources (53). Appendix A of PostgreSQL's documentation. */
static bool passes(const char *state)
{
    static const char *const begins[] = {"08",    "57P", "40",    "23505", "55P03",
                                         "57014", "25P", "25006", "53"};
    if (!state[0])
        return true;
    for (size_t i = 0; i < sizeof begins / sizeof *begins; i++)
        if (strncmp(state, begins[i], strlen(begins[i])) == 0)
            return true;
    return false;
}

/* Leaves a transaction that failed, and says what that means for those who asked. */
static enum mf_sql_commit give_up(struct mf_postgres_store *s, struct mf_error *err)
{
    bool again = !s->sql.singly || (s->failed && passes(s->state));
    bool own = s->undone && !s->failed; /* a verb refused: its own answer says why */
    if (s->failed) {
        mf_pg_tell(s, err);
        mf_log(MF_LOG_WARN, "database.transaction_failed",
               MF_LOG_S("state", s->state[0] ? s->state : "none"));
    }
    if (s->begun && !mf_pg_recover(s))
        mf_pg_disconnect(s);
    start(s);
    return again ? MF_SQL_AGAIN : own ? MF_SQL_COMMITTED : MF_SQL_REFUSED;
}

static enum mf_sql_commit end_transaction(struct mf_postgres_store *s, struct mf_error *err)
{
    struct mf_error tail = MF_ERROR_INIT;
    if (!s->undone && !s->failed && !mf_pg_tail(s, &tail) && !s->failed)
        s->undone = true; /* out of memory */
    if (s->undone || s->failed)
        return give_up(s, err);
    if (s->begun &&
        (!mf_pg_send(s, s->wrote ? "COMMIT" : "ROLLBACK", 'd') || !mf_pg_sync(s, s->wrote)))
        return give_up(s, err);
    bool told = s->wrote;
    start(s);
    if (told)
        take_notifications(s);
    return MF_SQL_COMMITTED;
}

static bool pg_begin(struct mf_sql_store *store, struct mf_error *err)
{
    (void)err;
    start(self(store));
    self(store)->group = true;
    return true;
}

static enum mf_sql_commit pg_commit(struct mf_sql_store *store, struct mf_error *err)
{
    struct mf_postgres_store *s = self(store);
    enum mf_sql_commit end = end_transaction(s, err);
    s->group = false;
    return end;
}

static bool pg_healthy(struct mf_sql_store *store)
{
    return !self(store)->failed && !self(store)->undone;
}

static bool pg_savepoint(struct mf_sql_store *store, struct mf_error *err)
{
    struct mf_postgres_store *s = self(store);
    if (!s->group) {
        if (!s->db && !mf_pg_connect(s, err))
            return false;
        start(s);
    }
    s->verb = true;
    s->writes_before = store->writes;
    mf_pg_notes_mark(s);
    return true;
}

/* A verb that failed before it wrote leaves nothing; otherwise its transaction cannot be kept. */
static bool pg_end(struct mf_sql_store *store, bool ok, struct mf_error *err)
{
    struct mf_postgres_store *s = self(store);
    if (!ok) {
        mf_pg_notes_rewind(s);
        s->undone = s->undone || store->writes != s->writes_before;
    }
    if (s->group) {
        s->verb = false;
        return ok;
    }
    struct mf_error failure = MF_ERROR_INIT;
    enum mf_sql_commit end = end_transaction(s, &failure);
    s->verb = false;
    if (!ok || end == MF_SQL_COMMITTED)
        return ok;
    return mf_error_set(err, MF_ERR_IO, "%s", failure.code ? failure.msg : "the job store failed");
}

/* --- opening and closing --- */

static void pg_free(struct mf_sql_store *store)
{
    struct mf_postgres_store *s = self(store);
    mf_pg_disconnect(s);
    mf_pg_notes_clear(s);
    free(s->notes.audits);
    free(s->notes.changes);
    mf_buffer_free(&s->text);
    mf_buffer_free(&s->expected);
    if (s->address)
        explicit_bzero(s->address, strlen(s->address));
    free(s->address);
    free(s);
}

static const struct mf_sql_engine ENGINE = {.shared = true,
                                            .together = MF_SQL_TOGETHER,
                                            .join = "string_agg(DISTINCT m.Modality, ',')",
                                            .free = pg_free,
                                            .query = mf_pg_query,
                                            .run = mf_pg_run,
                                            .row = mf_pg_row,
                                            .done = mf_pg_done,
                                            .null = mf_pg_null,
                                            .integer = mf_pg_integer,
                                            .real = mf_pg_real,
                                            .text = mf_pg_text,
                                            .bytes = mf_pg_bytes,
                                            .now_ms = pg_now_ms,
                                            .lease_clock_ns = pg_lease_clock_ns,
                                            .savepoint = pg_savepoint,
                                            .end = pg_end,
                                            .ready = pg_ready,
                                            .begin = pg_begin,
                                            .healthy = pg_healthy,
                                            .commit = pg_commit,
                                            .audit = mf_pg_audit,
                                            .count = mf_pg_count,
                                            .changed = mf_pg_changed,
                                            .descriptor = pg_descriptor,
                                            .next_lease_ns = pg_next_lease_ns,
                                            .idle = pg_idle};

struct mf_store *mf_store_open_postgres(const struct mf_store_settings *settings,
                                        struct mf_error *err)
{
    struct mf_postgres_store *s = calloc(1, sizeof *s);
    if (!s) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the job store");
        return NULL;
    }
    s->sql.base.ops = &mf_sql_verbs;
    s->sql.engine = &ENGINE;
    s->sql.settings = *settings;
    s->sql.settings.database = NULL; /* ours is below */
    s->sql.typical_run_s = NAN;
    s->address = strdup(settings->database);
    mf_buffer_init(&s->text, 64 << 10);
    mf_buffer_init(&s->expected, 1 << 20);
    MF_AUTO(mf_store) struct mf_store *store = &s->sql.base;
    if (!s->address) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the job store");
        return NULL;
    }
    if (!mf_sql_read_destinations(&s->sql, err) ||
        !mf_shares_parse(settings->shares, &s->sql.shares, err) || !mf_pg_connect(s, err))
        return NULL;
    return MF_STEAL(store);
}
