/*
 * Access tokens that we give: "mft_CLAIMS.TAG", claims as base64url JSON and their HMAC-SHA256
 * under a key of this data directory. They hold tenant and scopes, and are good for minutes.
 */
#ifndef MF_SERVER_TOKENS_H
#define MF_SERVER_TOKENS_H

#include "core/auto.h"
#include "server/access.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { MF_TOKEN_SCOPES = 1024 };

struct mf_token_key;

/* The key in the file "token.key" of the directory, made when there is none. */
struct mf_token_key *mf_token_key_open(const char *directory, struct mf_error *err) MF_CHECK_RESULT;
void mf_token_key_close(struct mf_token_key *key);

/* A token (the caller frees it). Times are seconds since 1970. */
char *mf_token_make(const struct mf_token_key *key, const char *name, const char *tenant,
                    const char *scopes, int64_t expires, struct mf_error *err) MF_CHECK_RESULT;
/* Whether the text looks like a token of ours. */
bool mf_token_is(const char *text);
/* MF_ERR_UNAUTHORIZED: not ours, or expired. */
bool mf_token_identify(const struct mf_token_key *key, const char *text, int64_t now,
                       struct mf_principal *ret, struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_token_key, struct mf_token_key *, mf_token_key_close(*p))

#endif
