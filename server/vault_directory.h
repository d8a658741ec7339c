/*
 * What lies in a data directory, seen by its keys: counting, wrapping keys anew, and encrypting
 * what is in plain. For `medfusion vault`.
 */
#ifndef MF_SERVER_VAULT_DIRECTORY_H
#define MF_SERVER_VAULT_DIRECTORY_H

#include "server/vault.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { MF_VAULT_USES = 128 };

/* How many packs, and whether the database, a key has wrapped; id "" = in plain. */
struct mf_vault_use {
    char id[MF_VAULT_ID];
    size_t packs;
    bool database;
};

/* Counts what is there; at most MF_VAULT_USES keys. */
bool mf_vault_directory_uses(const char *directory, struct mf_vault_use uses[MF_VAULT_USES],
                             size_t *ret_count, struct mf_error *err) MF_CHECK_RESULT;
/* Wraps the keys of all packs and of the database with the newest key of the vault; what is wrapped
 * so already, and what is in plain, is left. The daemon may be running. May be repeated after a
 * failure. */
bool mf_vault_directory_rewrap(const struct mf_vault *vault, const char *directory,
                               size_t *ret_changed, struct mf_error *err) MF_CHECK_RESULT;
/* Encrypts what is in plain. MF_ERR_CONFLICT: a daemon works there. May be repeated after it was
 * interrupted. */
bool mf_vault_directory_seal(const struct mf_vault *vault, const char *directory,
                             size_t *ret_changed, struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
