/*
 * Key sets of others, kept fresh: given in the configuration, in a file (read anew when it
 * changes), or at an address (fetched anew now and then, and soon after a token named a key that is
 * not known, so that a rotation is noticed). What was read last stays in use while a file or a
 * server is out of order.
 */
#ifndef MF_SERVER_JWKS_H
#define MF_SERVER_JWKS_H

#include "server/config.h"
#include "server/jose.h"

#ifdef __cplusplus
extern "C" {
#endif

struct mf_jwks;

/* From an object with one of the members jwks (a JWK set), jwks_file (a path) and jwks_url, whose
 * host must be one of auth.jwks_hosts and whose scheme is https, or http on loopback. Nothing is
 * fetched yet. MF_ERR_USAGE; `name` names the owner. */
struct mf_jwks *mf_jwks_new(const json_t *object, const char *name, const struct mf_config *config,
                            struct mf_error *err) MF_CHECK_RESULT;
void mf_jwks_free(struct mf_jwks *jwks);

/* Checks a token's signature; MF_ERR_UNAUTHORIZED. From any thread; does not block. */
bool mf_jwks_verify(struct mf_jwks *jwks, const struct mf_jwt *jwt,
                    struct mf_error *err) MF_CHECK_RESULT;

/* Reads or fetches what is due; called about once a second, on a thread that may block. Whether
 * something was read; false with an error in *err: why not. */
bool mf_jwks_refresh(struct mf_jwks *jwks, struct mf_error *err);

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_jwks, struct mf_jwks *, mf_jwks_free(*p))

#endif
