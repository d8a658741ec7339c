/*
 * Private to the PostgreSQL engine: its struct, and what its files share.
 *
 * One connection, in libpq's pipeline mode: statements are sent, and their outcome is looked at
 * when the first row of a query is wanted, at the latest with the commit; so queries that were
 * asked one after the other are answered together. A group (or a verb that is called alone) is one
 * transaction at READ COMMITTED. What every group must write in one order, the audit chain, the
 * numbered changes and the counters, is kept in memory until the end (`notes`), so that the row
 * that orders groups is locked for no longer than a commit takes (store_postgres_tail.c).
 */
#ifndef MF_SERVER_STORE_POSTGRES_H
#define MF_SERVER_STORE_POSTGRES_H

#include "server/store_sql.h"

#include <libpq-fe.h>

enum { MF_PG_STATEMENTS = 200, MF_PG_ROWS = 64, MF_PG_COUNTERS = 32 };

struct mf_pg_rows {
    struct mf_sql_rows base;
    enum {
        MF_PG_FREE,
        MF_PG_ASKED,
        MF_PG_DROPPED, /* asked, but nobody wants the answer any more */
        MF_PG_ANSWERED,
        MF_PG_FAILED
    } state;
    PGresult *result; /* of what was answered */
    int row;          /* the current one; −1 before the first */
};

struct mf_pg_audit {
    char *texts[5]; /* tenant, job, event, detail, actor: NULL allowed */
};

/* What a group writes at its end. */
struct mf_pg_notes {
    struct mf_pg_audit *audits;
    size_t audit_count, audit_capacity;
    int64_t *changes; /* rows of jobs */
    size_t change_count, change_capacity;
    struct {
        char name[32];
        int64_t by;
    } counts[MF_PG_COUNTERS];
    size_t count_count;
};

enum { MF_PG_QUERY = 128 };

struct mf_postgres_store {
    struct mf_sql_store sql;
    char *address; /* connection string: holds a secret, is never told */
    PGconn *db;    /* NULL: not connected */
    uint64_t next_try_ns;
    bool migrated; /* the schema has been brought up to date by this process */

    const char *statements[MF_PG_STATEMENTS]; /* prepared on this connection; index = name */
    size_t statement_count;
    struct mf_buffer text; /* of the statement that is being prepared */
    struct mf_pg_rows rows[MF_PG_ROWS];

    /* Commands whose results are still to come, in order: d = nothing to see, t = the time, s =
     * end of a pipeline, from MF_PG_QUERY on: a query, and which of `rows` it is. */
    struct mf_buffer expected;
    size_t expected_from;

    bool group;  /* begin() was called: verbs are steps of it */
    bool verb;   /* a savepoint is open */
    bool begun;  /* BEGIN was sent */
    bool wrote;  /* so COMMIT must be waited for */
    bool undone; /* a verb that had written failed: the group cannot be kept */
    bool timed;  /* now_ms is of this transaction */
    int64_t now_ms;
    bool failed;   /* a statement of this transaction failed */
    char state[6]; /* its SQLSTATE; "" = the connection broke */
    struct mf_error reason;
    uint64_t writes_before; /* the verb under way */
    struct mf_pg_notes notes;
    size_t audits_before, changes_before;
    int64_t counts_before[MF_PG_COUNTERS];
    size_t counts_count_before;

    size_t ended_before; /* events from before this group: they are not told again */
    uint64_t made_before, taken_before;
    uint64_t next_lease_ns;
};

/* --- connection (store_postgres.c) --- */

/* Opens the connection, checks the schema, listens. MF_ERR_UNAVAILABLE when there is no database
 * to be reached. */
bool mf_pg_connect(struct mf_postgres_store *s, struct mf_error *err);
void mf_pg_disconnect(struct mf_postgres_store *s);

/* --- schema (store_postgres_schema.c) --- */

/* Checks the migrations that were applied to the database, and (`apply`) applies those that are
 * missing, in one transaction. MF_ERR_USAGE: the schema is not one that this program knows. */
bool mf_pg_migrate(PGconn *db, bool apply, struct mf_error *err);
/* Runs SQL without parameters, outside of a pipeline. */
bool mf_pg_execute(PGconn *db, const char *sql, struct mf_error *err);

/* --- statements (store_postgres_pipe.c) --- */

struct mf_sql_rows *mf_pg_query(struct mf_sql_store *store, const char *sql, bool literal,
                                const struct mf_sql_value *values, size_t n, struct mf_error *err);
bool mf_pg_run(struct mf_sql_store *store, const char *sql, const struct mf_sql_value *values,
               size_t n, struct mf_error *err);
int mf_pg_row(struct mf_sql_store *store, struct mf_sql_rows *rows, struct mf_error *err);
void mf_pg_done(struct mf_sql_rows *rows);
/* Lets go of every query. */
void mf_pg_forget_rows(struct mf_postgres_store *s);
bool mf_pg_null(struct mf_sql_rows *rows, int column);
int64_t mf_pg_integer(struct mf_sql_rows *rows, int column);
double mf_pg_real(struct mf_sql_rows *rows, int column);
const char *mf_pg_text(struct mf_sql_rows *rows, int column);
const void *mf_pg_bytes(struct mf_sql_rows *rows, int column, size_t *ret_len);
/* Sends a command of the protocol's own (BEGIN, COMMIT, ROLLBACK). */
bool mf_pg_send(struct mf_postgres_store *s, const char *sql, char tag);
/* Ends the pipeline; `wait`: until all that was sent is answered. False when something failed. */
bool mf_pg_sync(struct mf_postgres_store *s, bool wait);
/* Reads until the time of this transaction is known. */
bool mf_pg_need_time(struct mf_postgres_store *s);
/* After a failure: leaves the transaction. False when the connection is of no use any more. */
bool mf_pg_recover(struct mf_postgres_store *s);
/* Why the transaction failed. */
bool mf_pg_tell(const struct mf_postgres_store *s, struct mf_error *err);

/* --- what groups write in one order (store_postgres_tail.c) --- */

bool mf_pg_audit(struct mf_sql_store *store, const struct mf_audit_row *row, struct mf_error *err);
bool mf_pg_count(struct mf_sql_store *store, const char *counter, int64_t by, struct mf_error *err);
bool mf_pg_changed(struct mf_sql_store *store, int64_t seq, struct mf_error *err);
/* Remembers how much has been noted, and goes back to that. */
void mf_pg_notes_mark(struct mf_postgres_store *s);
void mf_pg_notes_rewind(struct mf_postgres_store *s);
void mf_pg_notes_clear(struct mf_postgres_store *s);
/* Writes the notes: the last thing before COMMIT. */
bool mf_pg_tail(struct mf_postgres_store *s, struct mf_error *err);
/* Takes a notification's payload in. */
void mf_pg_heard(struct mf_postgres_store *s, const char *payload);

#endif
