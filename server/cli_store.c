/* The store of a data directory, or of a database, for commands. */
#include "server/cli_store.h"

#include "server/config.h"
#include "server/control.h"

#include <stdio.h>
#include <unistd.h>

enum { PATIENCE_MS = 5000 };

/* The database itself, or the process that owns it. */
static struct mf_store *open_directory(const char *directory,
                                       const struct mf_store_settings *settings,
                                       struct mf_error *err)
{
    char path[4096];
    struct mf_error owned = MF_ERROR_INIT;
    snprintf(path, sizeof path, "%s/store.db", directory);
    bool here = access(path, R_OK) == 0;
    snprintf(path, sizeof path, "%s/store.sock", directory);
    if (!here && access(path, R_OK) != 0) {
        mf_error_set(err, MF_ERR_USAGE, "%s: there is no store.db in it", directory);
        return NULL;
    }
    struct mf_store *store = here ? mf_store_open_sqlite(directory, settings, &owned) : NULL;
    struct mf_reload_status running;
    struct mf_error silent = MF_ERROR_INIT;
    if (store || owned.code != MF_ERR_USAGE ||
        mf_control_ask(directory, MF_CONTROL_STATUS, &running, &silent))
        return store ? store : mf_store_connect(directory, PATIENCE_MS, err);
    mf_error_set(err, MF_ERR_USAGE, "%s (--keys)", owned.msg); /* and there is no daemon to ask */
    return NULL;
}

struct mf_store *mf_cli_open_store(const char *directory, const char *database_file,
                                   const struct mf_vault *vault, struct mf_error *err)
{
    struct mf_store_settings settings = {.lease_s = 30,
                                         .max_crashes = 3,
                                         .max_losses = 20,
                                         .retention_s = INT64_C(3153600000),
                                         .vault = vault};
    if (directory)
        return open_directory(directory, &settings, err);
    const struct mf_config config = {.store = {.database = "off", .database_file = database_file}};
    MF_AUTO(mf_mem) char *database = NULL;
    if (!mf_config_database(&config, &database, err))
        return NULL;
    settings.database = database;
    return mf_store_open_postgres(&settings, err);
}
