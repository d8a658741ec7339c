/* An access token of a FHIR server: OAuth 2.0 client credentials (RFC 6749 4.4), the client proved
 * by a secret (HTTP Basic) or by a signed assertion (RFC 7523; SMART Backend Services). */
#ifndef MF_SERVER_FHIR_TOKEN_H
#define MF_SERVER_FHIR_TOKEN_H

#include "core/buffer.h"
#include "server/fhir_servers.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { MF_FHIR_TOKEN_BYTES = 8 << 10 };

struct mf_fhir_token {
    char *text; /* NULL = none yet */
    uint64_t until_ns;
};

/* Asks for a token unless there is one that is good for a while. MF_ERR_UNAVAILABLE: the
 * authorization server refuses, or answers nonsense; MF_ERR_USAGE: the private key cannot be used;
 * what mf_web_send() sets. */
bool mf_fhir_token_renew(struct mf_fhir_token *token, const struct mf_fhir_server *server,
                         int timeout_s, struct mf_error *err) MF_CHECK_RESULT;
void mf_fhir_token_clear(struct mf_fhir_token *token);

/* The client assertion: a JWT for `server`, good for five minutes from now_s, appended to `out`;
 * `jti` makes it unique. RS384 or ES384 (P-384) by the key. MF_ERR_USAGE names what is wrong with
 * the key. */
bool mf_fhir_assertion(const struct mf_fhir_server *server, int64_t now_s, const char *jti,
                       struct mf_buffer *out, struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
