/*
 * Signed tokens (JWT, RFC 7519, 7515, 7517), behind a fence around libcjose. Only RS384 and ES384
 * are known (SMART App Launch, "Client Authentication: Asymmetric"), each bound to its type of key
 * (RSA of at least 2048 bits, P-384); keys come from key sets in memory and are found by `kid`
 * alone: what a token says about where keys might be (jku, x5u, jwk, x5c) is never followed.
 *
 * Whatever is wrong with a token is MF_ERR_UNAUTHORIZED with a sentence that quotes nothing of it.
 */
#ifndef MF_SERVER_JOSE_H
#define MF_SERVER_JOSE_H

#include "core/auto.h"
#include "core/error.h"
#include "core/json.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { MF_JWT_BYTES = 8 << 10, MF_JWK_SET_BYTES = 256 << 10, MF_JWK_SET_KEYS = 64 };

/* --- key sets --- */

struct mf_jwk_set;

/* The usable keys of a JWK set; keys of other types, sizes or uses, and those without a `kid`, are
 * passed over. MF_ERR_USAGE names the set: not one, a private key in it, a kid twice. */
struct mf_jwk_set *mf_jwk_set_parse(const char *text, size_t len, const char *name,
                                    struct mf_error *err) MF_CHECK_RESULT;
void mf_jwk_set_free(struct mf_jwk_set *set);
size_t mf_jwk_set_count(const struct mf_jwk_set *set);
bool mf_jwk_set_has(const struct mf_jwk_set *set, const char *kid);

/* --- tokens --- */

struct mf_jwt {
    const char *text; /* borrowed */
    json_t *header, *claims;
    const char *kid; /* in the header */
};

/* Takes a token apart and judges its header: algorithm, kid, `typ` one of `types` (of any case; an
 * absent one is refused), no `crit`. The claims are not to be believed yet. */
bool mf_jwt_open(const char *text, const char *const types[], struct mf_jwt *ret,
                 struct mf_error *err) MF_CHECK_RESULT;
/* Checks the signature with the set's key of its kid. Not from two threads at once for one set. */
bool mf_jwt_verify(const struct mf_jwt *jwt, const struct mf_jwk_set *set,
                   struct mf_error *err) MF_CHECK_RESULT;
void mf_jwt_close(struct mf_jwt *jwt);

/* Whether the token may be used at `now` (seconds since 1970): `exp` is there, not over and at most
 * `longest_s` away, `nbf` and `iat` are not in the future; a minute of skew is allowed. */
bool mf_jwt_in_time(const struct mf_jwt *jwt, int64_t now, int64_t longest_s,
                    struct mf_error *err) MF_CHECK_RESULT;
/* Whether `aud` is or contains this text. */
bool mf_jwt_for_audience(const struct mf_jwt *jwt, const char *audience);

/* --- base64url without padding (RFC 4648, 5); the caller frees. NULL: out of memory, or not that
 * --- */
char *mf_base64url(const void *data, size_t len);
unsigned char *mf_base64url_decode(const char *text, size_t len, size_t *ret_len);

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_jwk_set, struct mf_jwk_set *, mf_jwk_set_free(*p))
MF_AUTO_DEFINE(mf_jwt, struct mf_jwt, mf_jwt_close(p))

#endif
