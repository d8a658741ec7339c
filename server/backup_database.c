/* Backup: databases (backup_database.h). */
#include "server/backup_database.h"

#include "core/auto.h"
#include "core/clock.h"
#include "server/control.h"
#include "server/store.h"

#include <errno.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATIENCE_MS = 10000, HOLD_MS = 60000, CANNOT_START = 127 };

static const char FILE_NAME[] = "store.db", LOG_NAME[] = "store.db-wal";

bool mf_backup_is_sqlite(const char *name)
{
    return strncmp(name, FILE_NAME, sizeof FILE_NAME - 1) == 0;
}

/* --- SQLite --- */

struct hold {
    struct mf_store *store;
    int64_t number;
    uint64_t renewed_ns;
};

static bool renew(struct hold *h, struct mf_error *err)
{
    int64_t number = 0;
    if (!mf_store_hold(h->store, HOLD_MS, &number, err))
        return false;
    if (h->renewed_ns && number != h->number)
        return mf_error_set(err, MF_ERR_UNAVAILABLE,
                            "the job store did not hold still while it was copied; try again");
    h->number = number;
    h->renewed_ns = mf_clock_monotonic_ns();
    return true;
}

static bool renew_in_time(void *context, struct mf_error *err)
{
    struct hold *h = context;
    return mf_clock_monotonic_ns() - h->renewed_ns < (uint64_t)HOLD_MS / 4 * 1000000 ||
           renew(h, err);
}

/* The file first: the log then holds all that is newer. */
static bool copy_files(struct mf_backup_copier *copier, struct mf_error *err)
{
    bool no_log;
    return mf_backup_copy(copier, FILE_NAME, NULL, err) &&
           mf_backup_copy(copier, LOG_NAME, &no_log, err);
}

static bool copy_from_daemon(const char *directory, struct mf_backup_copier *copier,
                             struct mf_error *err)
{
    int64_t number;
    struct mf_error ignored = MF_ERROR_INIT;
    MF_AUTO(mf_store) struct mf_store *store = mf_store_connect(directory, PATIENCE_MS, err);
    struct hold hold = {.store = store};
    copier->step = renew_in_time;
    copier->context = &hold;
    bool ok = store && renew(&hold, err) && copy_files(copier, err) && renew(&hold, err);
    copier->step = NULL;
    if (store)
        (void)!mf_store_hold(store, 0, &number, ok ? err : &ignored);
    return ok;
}

bool mf_backup_sqlite(const char *directory, struct mf_backup_copier *copier, struct mf_error *err)
{
    struct mf_reload_status running;
    struct mf_error silent = MF_ERROR_INIT;
    if (mf_control_ask(directory, MF_CONTROL_STATUS, &running, &silent))
        return copy_from_daemon(directory, copier, err);
    if (flock(copier->from, LOCK_EX | LOCK_NB) != 0) /* as a daemon does (supervisor.c) */
        return mf_error_set(err, MF_ERR_UNAVAILABLE,
                            "%s: a daemon is starting or stopping there; try again", directory);
    bool ok = copy_files(copier, err);
    flock(copier->from, LOCK_UN);
    return ok;
}

/* --- PostgreSQL --- */

/* libpq's settings as environment variables. `name` receives the database's name. */
static bool set_environment(const char *database, char *name, size_t size, struct mf_error *err)
{
    PQconninfoOption *options = PQconninfoParse(database, NULL);
    bool ok = options != NULL;
    if (!ok)
        return mf_error_set(err, MF_ERR_USAGE, "store.database: is no connection string");
    for (const PQconninfoOption *o = options; ok && o->keyword; o++) {
        if (o->val && o->envvar)
            ok = setenv(o->envvar, o->val, 1) == 0;
        if (o->val && (strcmp(o->keyword, "dbname") == 0 || // the user's name stands for it
                       (strcmp(o->keyword, "user") == 0 && !name[0])))
            snprintf(name, size, "%s", o->val);
    }
    PQconninfoFree(options);
    return ok || mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a connection string");
}

static bool run(char *const arguments[], struct mf_error *err)
{
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        execvp(arguments[0], arguments);
        _exit(CANNOT_START);
    }
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (pid < 0 || (WIFEXITED(status) && WEXITSTATUS(status) == CANNOT_START))
        return mf_error_set(err, MF_ERR_UNAVAILABLE,
                            "%s: cannot be started (Debian: postgresql-client)", arguments[0]);
    return (WIFEXITED(status) && WEXITSTATUS(status) == 0) ||
           mf_error_set(err, MF_ERR_UNAVAILABLE, "%s failed; what it said is above", arguments[0]);
}

bool mf_backup_postgres(const char *database, const char *path, bool restore, struct mf_error *err)
{
    char name[256] = "", file[4096], target[sizeof name];
    char *const dump[] = {"pg_dump",       "--format=custom", "--no-owner", "--no-privileges",
                          "--no-password", "--file",          file,         NULL};
    char *const load[] = {"pg_restore",
                          "--exit-on-error",
                          "--single-transaction",
                          "--no-owner",
                          "--no-privileges",
                          "--no-password",
                          "--dbname",
                          target,
                          file,
                          NULL};
    if (!set_environment(database, name, sizeof name, err))
        return false;
    snprintf(file, sizeof file, "%s", path);
    snprintf(target, sizeof target, "%s", name);
    return run(restore ? load : dump, err);
}
