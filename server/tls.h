/*
 * TLS of the HTTP front, behind a fence around GnuTLS (which libmicrohttpd uses): what is loaded at
 * the start, and the profile, which follows BCP 195 (RFC 9325, PS3.15 B.12): TLS 1.2 and 1.3,
 * ephemeral elliptic-curve key exchange, authenticated encryption only, no renegotiation.
 */
#ifndef MF_SERVER_TLS_H
#define MF_SERVER_TLS_H

#include "core/auto.h"
#include "core/error.h"
#include "server/config.h"

#ifdef __cplusplus
extern "C" {
#endif

/* GnuTLS priority string of the profile. */
extern const char mf_tls_priorities[];

/* PEM texts of http.tls_certificate, http.tls_key and http.tls_client_ca (NULL = clients need no
 * certificate). */
struct mf_tls {
    char *certificate, *key, *client_ca;
};

/* Whether http.tls_certificate is set. */
bool mf_tls_wanted(const struct mf_config *config);
/* Reads the files and checks that key and certificate belong together. MF_ERR_USAGE names the key
 * of the configuration; NULL on failure. Call only when TLS is wanted. */
struct mf_tls *mf_tls_load(const struct mf_config *config, struct mf_error *err) MF_CHECK_RESULT;
void mf_tls_free(struct mf_tls *tls);

/* Makes the handshake of a session (gnutls_session_t) that is about to begin demand a certificate
 * of one of the client authorities, and fail without one. */
void mf_tls_demand_certificate(void *session);

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_tls, struct mf_tls *, mf_tls_free(*p))

#endif
