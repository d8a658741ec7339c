/*
 * The key of an encrypted database: "store.key" in the data directory, wrapped (vault.h). Where it
 * is the database is encrypted (store_sqlite_pages.h); where it is not, the database is plain.
 */
#ifndef MF_SERVER_STORE_KEY_H
#define MF_SERVER_STORE_KEY_H

#include "server/vault.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The key of the database in `directory`; a new one, when there is no database yet. *ret_sealed:
 * whether there is one (never without a vault). MF_ERR_USAGE: the database is encrypted and vault
 * is NULL, or the other way round; MF_ERR_IO: the key does not open. */
bool mf_store_key_open(const struct mf_vault *vault, const char *directory,
                       unsigned char key[MF_GCM_KEY], bool *ret_sealed,
                       struct mf_error *err) MF_CHECK_RESULT;
/* Makes one; whoever calls makes the database. */
bool mf_store_key_make(const struct mf_vault *vault, const char *directory,
                       unsigned char key[MF_GCM_KEY], struct mf_error *err) MF_CHECK_RESULT;
/* The name of the key that wrapped it; false: there is none. */
bool mf_store_key_wrapped_by(const char *directory, char id[MF_VAULT_ID]);
/* Wraps it anew with the newest key, unless that is so or there is none. */
bool mf_store_key_rewrap(const struct mf_vault *vault, const char *directory, bool *ret_changed,
                         struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
