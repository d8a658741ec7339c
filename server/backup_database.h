/*
 * Backup: the database of a data directory, while a daemon works with it or not. SQLite's files are
 * copied as they are (encrypted, where they are) while the store holds still (mf_store_hold());
 * PostgreSQL is dumped and restored by its own programs.
 */
#ifndef MF_SERVER_BACKUP_DATABASE_H
#define MF_SERVER_BACKUP_DATABASE_H

#include "server/backup_files.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Whether a file of a data directory belongs to SQLite's database. */
bool mf_backup_is_sqlite(const char *name);

/* Copies "store.db" and its log. `directory` is what copier->from is. MF_ERR_UNAVAILABLE: the
 * daemon was started, stopped or restarted its store meanwhile. */
bool mf_backup_sqlite(const char *directory, struct mf_backup_copier *copier,
                      struct mf_error *err) MF_CHECK_RESULT;

/* Runs pg_dump or pg_restore (into an empty database) with the file at `path`. The connection
 * string goes into the program's environment: never into its arguments, which others can read. */
bool mf_backup_postgres(const char *database, const char *path, bool restore,
                        struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
