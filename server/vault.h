/*
 * Vault: the keys that wrap the keys of what is stored (data.keys). Every pack, and the database,
 * has a key of its own, made from 256 random bits; it is kept beside what it opens, wrapped with a
 * key of this file by AES-256-GCM. So changing the key of the file re-wraps some bytes an object
 * (`medfusion vault rewrap`) and encrypts nothing anew.
 *
 * The file (medfusion.vault/1, for its owner's eyes only) lists keys with ids, the newest first: it
 * wraps, the others open what was wrapped before. A wrapped key is 96 bytes: "MFKEY1", the id of
 * the wrapping key, a random nonce, the ciphertext and its tag; the authenticated data is the id
 * and the name of what it opens, so that it opens nothing else. Nonces are random: one key may wrap
 * 2^32 objects (SP 800-38D, 8.3).
 */
#ifndef MF_SERVER_VAULT_H
#define MF_SERVER_VAULT_H

#include "core/auto.h"
#include "core/error.h"
#include "server/gcm.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { MF_VAULT_ID = 17, MF_WRAPPED_KEY = 96 };

struct mf_vault;

/* Reads a key file; "off" gives NULL without an error. MF_ERR_USAGE names the file and what is
 * wrong in it, or that others may read it. */
struct mf_vault *mf_vault_open(const char *path, struct mf_error *err);
void mf_vault_free(struct mf_vault *vault);

/* Adds a new key to the file, which wraps from now on; makes the file when there is none. `id`
 * receives its name. */
bool mf_vault_add(const char *path, char id[MF_VAULT_ID], struct mf_error *err) MF_CHECK_RESULT;

/* Wraps a key for what is called `name`. */
bool mf_vault_wrap(const struct mf_vault *vault, const char *name,
                   const unsigned char key[MF_GCM_KEY], unsigned char out[MF_WRAPPED_KEY],
                   struct mf_error *err) MF_CHECK_RESULT;
/* The way back. MF_ERR_IO: it was wrapped with a key that is not in the file (its id is named), for
 * something else, or is damaged. */
bool mf_vault_unwrap(const struct mf_vault *vault, const char *name,
                     const unsigned char wrapped[MF_WRAPPED_KEY], unsigned char out[MF_GCM_KEY],
                     struct mf_error *err) MF_CHECK_RESULT;

/* Whether these bytes are a wrapped key; then `id` receives the name of the key that wrapped it. */
bool mf_vault_wrapped_by(const unsigned char wrapped[MF_WRAPPED_KEY], char id[MF_VAULT_ID]);
/* The name of the key that wraps. */
const char *mf_vault_newest(const struct mf_vault *vault);

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_vault, struct mf_vault *, mf_vault_free(*p))

#endif
