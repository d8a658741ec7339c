/*
 * API keys: the file that `medfusion key` writes and the front reads. Of a key only its SHA-256 is
 * kept: a key is 256 random bits, so there is nothing to guess and nothing to slow down.
 *
 * A key is "mfk_ID_SECRET": 16 hex digits that may be shown and logged, and 43 base64url characters
 * that may not.
 */
#ifndef MF_SERVER_API_KEYS_H
#define MF_SERVER_API_KEYS_H

#include "core/auto.h"
#include "core/digest.h"
#include "server/access.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { MF_API_KEY_ID = 17, MF_API_KEY_NAME = 65, MF_API_KEY_SCOPES = 512, MF_API_KEY_TEXT = 80 };

struct mf_api_key {
    char id[MF_API_KEY_ID], name[MF_API_KEY_NAME], tenant[MF_TENANT];
    char scopes[MF_API_KEY_SCOPES]; /* between spaces */
    unsigned char sha256[MF_SHA256_BYTES];
    int64_t created_ms, expires_ms, revoked_ms; /* the last two: 0 = not */
};

struct mf_api_keys {
    struct mf_api_key *keys;
    size_t count, capacity;
};

/* "valid", "expired" or "revoked". */
const char *mf_api_key_state(const struct mf_api_key *key, int64_t now_ms);

/* Whoever reads the file in order to change it holds this lock (a descriptor to be closed) until
 * the change is written; waits for others. −1 on failure. */
int mf_api_keys_lock(const char *path, struct mf_error *err) MF_CHECK_RESULT;
/* MF_ERR_USAGE names the file and what is wrong in it; NULL on failure. */
struct mf_api_keys *mf_api_keys_read(const char *path, struct mf_error *err) MF_CHECK_RESULT;
/* An empty list. */
struct mf_api_keys *mf_api_keys_new(struct mf_error *err) MF_CHECK_RESULT;
void mf_api_keys_free(struct mf_api_keys *keys);
/* Replaces the file as a whole; only its owner may read it. */
bool mf_api_keys_write(const struct mf_api_keys *keys, const char *path,
                       struct mf_error *err) MF_CHECK_RESULT;

/* Makes a key with the name, tenant, scopes and times of `wanted`; `text` receives what its owner
 * must be given, the only time that it exists. MF_ERR_USAGE: an invalid tenant, an unknown scope.
 */
bool mf_api_keys_add(struct mf_api_keys *keys, const struct mf_api_key *wanted,
                     char text[MF_API_KEY_TEXT], struct mf_error *err) MF_CHECK_RESULT;
/* MF_ERR_NOT_FOUND: there is no such key. Revoking again changes nothing. */
bool mf_api_keys_revoke(struct mf_api_keys *keys, const char *id, int64_t now_ms,
                        struct mf_error *err) MF_CHECK_RESULT;

/* Whether the text looks like a key of ours. */
bool mf_api_key_is(const char *text);
/* Who the key belongs to; MF_ERR_UNAUTHORIZED, always with the same sentence. The comparison takes
 * the same time however much of the secret is right. */
bool mf_api_keys_identify(const struct mf_api_keys *keys, const char *text, int64_t now_ms,
                          struct mf_principal *ret, struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_api_keys, struct mf_api_keys *, mf_api_keys_free(*p))

#endif
