/*
 * Authentication: who a request comes from. API keys (auth.keys) and bearer tokens (auth.trust):
 * access tokens of trusted issuers, and those that we give to SMART Backend Services clients
 * against a signed assertion (endpoint_token.c).
 *
 * Requests are judged on the event loop, from memory alone: a thread keeps files and key sets
 * fresh, and looks at them once a second. Signatures that were checked are remembered for a minute.
 */
#ifndef MF_SERVER_AUTH_H
#define MF_SERVER_AUTH_H

#include "server/access.h"
#include "server/request.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { MF_ACCESS_TOKEN_S = 300 }; /* how long a token of ours is good */

struct mf_auth;

/* Reads the files of the configuration. MF_ERR_USAGE names file and reason. */
struct mf_auth *mf_auth_new(const struct mf_config *config, struct mf_error *err) MF_CHECK_RESULT;
/* Begins: makes what is kept in the data directory, and the thread. */
bool mf_auth_start(struct mf_auth *auth, struct mf_error *err) MF_CHECK_RESULT;
void mf_auth_free(struct mf_auth *auth);

/* Who presents this key or token. MF_ERR_UNAUTHORIZED. */
bool mf_auth_identify(struct mf_auth *auth, const char *credential, struct mf_principal *ret,
                      struct mf_error *err) MF_CHECK_RESULT;

/* Judges a routed request: sets its tenant and principal, or refuses it with MF_ERR_UNAUTHORIZED or
 * MF_ERR_FORBIDDEN and WWW-Authenticate in the response (RFC 6750). */
bool mf_auth_admit(struct mf_request *request, struct mf_error *err) MF_CHECK_RESULT;

/* Writes what an authenticated request did (who, method, path, status) to the audit trail. May
 * block. */
bool mf_auth_record(const struct mf_request *request, struct mf_error *err) MF_CHECK_RESULT;

/* --- our own tokens --- */

/* The address of the token endpoint; NULL: there is none. */
const char *mf_auth_token_url(const struct mf_auth *auth);
/* An access token for the client that signed this assertion, as JSON (RFC 6749, 5.1; the caller
 * owns it). `scopes`: what is asked for. MF_ERR_UNAUTHORIZED: the assertion; MF_ERR_UNUSABLE: none
 * of the scopes is the client's. May block. */
json_t *mf_auth_exchange(struct mf_auth *auth, const char *assertion, const char *scopes,
                         struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_auth, struct mf_auth *, mf_auth_free(*p))

#endif
