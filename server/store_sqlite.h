/* Private to the SQLite engine: its struct, and what its files share. */
#ifndef MF_SERVER_STORE_SQLITE_H
#define MF_SERVER_STORE_SQLITE_H

#include "server/store_sql.h"

#include <sqlite3.h>

enum { MF_SQLITE_STATEMENTS = 160, MF_SQLITE_LOG_FRAMES = 4000 };

struct mf_sqlite_rows {
    struct mf_sql_rows base;
    const char *sql; /* the literal's address is the key; NULL: prepared for one use */
    sqlite3_stmt *statement;
};

struct mf_sqlite_store {
    struct mf_sql_store sql;
    sqlite3 *db;
    struct mf_sqlite_pages *pages; /* NULL: they are plain */
    struct mf_sqlite_rows statements[MF_SQLITE_STATEMENTS];
    size_t statement_count;
    struct mf_sqlite_rows once;

    uint64_t held_until_ns; /* no checkpoint before; 0: they are made */
    int64_t hold;           /* number of the hold */

    bool audit_known; /* audit_head is the last row of the trail */
    struct mf_audit_point audit_head;
};

extern const char mf_sqlite_schema[];        /* SQL; does nothing where it is there */
extern const char mf_sqlite_memory_schema[]; /* of the TEMP tables */

bool mf_sqlite_fail(struct mf_sqlite_store *s, struct mf_error *err);
/* Runs SQL without parameters. */
bool mf_sqlite_execute(struct mf_sqlite_store *s, const char *sql, struct mf_error *err);

/* Chains a row to the audit trail. */
bool mf_sqlite_audit(struct mf_sql_store *store, const struct mf_audit_row *row,
                     struct mf_error *err);
/* Adds the columns that tables of earlier programs lack. Before the schema. */
bool mf_sqlite_upgrade(struct mf_sqlite_store *s, struct mf_error *err);
/* Chains the audit trail of a database from before there was a chain. */
bool mf_sqlite_audit_migrate(struct mf_sqlite_store *s, struct mf_error *err);

/* The log is moved into the database file by the commit that makes it MF_SQLITE_LOG_FRAMES long. */
void mf_sqlite_limit_log(struct mf_sqlite_store *s);
/* Moves the log into the database file without waiting for anybody, and gives the log its whole
 * size (16 MB) so that commits need not grow it. For when nothing else is to be done. */
void mf_sqlite_checkpoint(struct mf_sql_store *store);
/* mf_store_hold(). */
int64_t mf_sqlite_hold(struct mf_sql_store *store, int64_t ms);
/* Ends a hold whose time is over; when a group begins. */
void mf_sqlite_hold_lapse(struct mf_sqlite_store *s);

#endif
