/* The store of a data directory, or of a database, for commands. */
#ifndef MF_SERVER_CLI_STORE_H
#define MF_SERVER_CLI_STORE_H

#include "server/store.h"
#include "server/vault.h"

/* The store of `directory`: the daemon's that runs there, else the database itself; where
 * `directory` is NULL, the PostgreSQL database whose connection string is the first line of
 * `database_file`. MF_ERR_USAGE: there is none. */
struct mf_store *mf_cli_open_store(const char *directory, const char *database_file,
                                   const struct mf_vault *vault, struct mf_error *err);

#endif
