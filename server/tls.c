/* TLS of the front: PEM files are read once, when the front starts. */
#include "server/tls.h"

#include "core/buffer.h"

#include <gnutls/gnutls.h>
#include <stdlib.h>
#include <string.h>

enum { PEM_BYTES = 1 << 20 };

const char mf_tls_priorities[] =
    "SECURE128:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:-KX-ALL:+ECDHE-ECDSA:+ECDHE-RSA:-CIPHER-ALL:"
    "+AES-256-GCM:+CHACHA20-POLY1305:+AES-128-GCM:-MAC-ALL:+AEAD:%SERVER_PRECEDENCE";

static bool is_set(const char *path)
{
    return strcmp(path, "off") != 0;
}

bool mf_tls_wanted(const struct mf_config *config)
{
    return is_set(config->http.tls_certificate);
}

static char *read_pem(const char *key, const char *path, struct mf_error *err)
{
    struct mf_error detail = MF_ERROR_INIT;
    MF_AUTO(mf_buffer) struct mf_buffer text;
    mf_buffer_init(&text, PEM_BYTES);
    if (mf_buffer_read_file(&text, path, &detail))
        return mf_buffer_take(&text, NULL);
    mf_error_set(err, MF_ERR_USAGE, "%s: %s", key, detail.msg);
    return NULL;
}

static gnutls_datum_t datum(const char *text)
{
    return (gnutls_datum_t){(unsigned char *)(uintptr_t)text, (unsigned)strlen(text)};
}

static bool check(const struct mf_tls *tls, struct mf_error *err)
{
    gnutls_certificate_credentials_t credentials;
    gnutls_priority_t priorities;
    const gnutls_datum_t certificate = datum(tls->certificate), key = datum(tls->key);
    if (gnutls_certificate_allocate_credentials(&credentials) != GNUTLS_E_SUCCESS)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for TLS");
    int rc =
        gnutls_certificate_set_x509_key_mem(credentials, &certificate, &key, GNUTLS_X509_FMT_PEM);
    bool ok = rc == GNUTLS_E_SUCCESS ||
              mf_error_set(err, MF_ERR_USAGE, "http.tls_certificate and http.tls_key: %s",
                           gnutls_strerror(rc));
    if (ok && tls->client_ca) {
        const gnutls_datum_t ca = datum(tls->client_ca);
        ok = gnutls_certificate_set_x509_trust_mem(credentials, &ca, GNUTLS_X509_FMT_PEM) > 0 ||
             mf_error_set(err, MF_ERR_USAGE, "http.tls_client_ca: there is no certificate in it");
    }
    gnutls_certificate_free_credentials(credentials);
    if (!ok)
        return false;
    if (gnutls_priority_init(&priorities, mf_tls_priorities, NULL) != GNUTLS_E_SUCCESS)
        return mf_error_set(err, MF_ERR_INTERNAL, "this GnuTLS does not know the TLS profile");
    gnutls_priority_deinit(priorities);
    return true;
}

struct mf_tls *mf_tls_load(const struct mf_config *config, struct mf_error *err)
{
    MF_AUTO(mf_tls) struct mf_tls *tls = calloc(1, sizeof *tls);
    if (!tls) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for TLS");
        return NULL;
    }
    if (!is_set(config->http.tls_key)) {
        mf_error_set(err, MF_ERR_USAGE, "http.tls_certificate needs http.tls_key");
        return NULL;
    }
    tls->certificate = read_pem("http.tls_certificate", config->http.tls_certificate, err);
    tls->key = read_pem("http.tls_key", config->http.tls_key, err);
    bool client_ca = is_set(config->http.tls_client_ca);
    if (client_ca)
        tls->client_ca = read_pem("http.tls_client_ca", config->http.tls_client_ca, err);
    if (!tls->certificate || !tls->key || (client_ca && !tls->client_ca) || !check(tls, err))
        return NULL;
    return MF_STEAL(tls);
}

void mf_tls_free(struct mf_tls *tls)
{
    if (!tls)
        return;
    free(tls->certificate);
    if (tls->key)
        explicit_bzero(tls->key, strlen(tls->key));
    free(tls->key);
    free(tls->client_ca);
    free(tls);
}

void mf_tls_demand_certificate(void *session)
{
    gnutls_certificate_server_set_request(session, GNUTLS_CERT_REQUIRE);
    gnutls_session_set_verify_cert(session, NULL, 0);
}
