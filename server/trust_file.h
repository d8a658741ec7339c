/*
 * Who may say who somebody is (auth.trust), a JSON file:
 *
 *   {"schema": "medfusion.trust/1",
 *    "token_url": "https://medfusion.example/oauth2/token",
 *    "issuers": [{"issuer": "https://idp.example", "audience": "https://medfusion.example",
 *                 "jwks_url": …, "tenant": "north", "scopes": "jobs.read system/Observation.rs",
 *                 "scopeless": false}],
 *    "clients": [{"client_id": "ehr", "jwks_file": …, "tenant": "north", "scopes": "fhir.read"}]}
 *
 * Issuers are authorization servers whose access tokens (JWT, RFC 9068) are accepted; `scopes` is
 * the most that a token of theirs can do, and what one without a claim `scope` can do when
 * `scopeless` is true (CDS Hooks). In place of `tenant`, `tenant_claim` names the claim that holds
 * it. Clients are SMART Backend Services that get their tokens from us at `token_url`.
 */
#ifndef MF_SERVER_TRUST_FILE_H
#define MF_SERVER_TRUST_FILE_H

#include "server/access.h"
#include "server/jwks.h"

#ifdef __cplusplus
extern "C" {
#endif

struct mf_trusted {
    const char *id;                    /* issuer, or client_id */
    const char *audience;              /* of an issuer's tokens */
    const char *tenant, *tenant_claim; /* one of them */
    struct mf_grant limit;
    bool scopeless;
    struct mf_jwks *jwks;
};

struct mf_trust_file {
    json_t *root; /* owns the texts */
    const char *token_url;
    struct mf_trusted *issuers, *clients;
    size_t issuer_count, client_count;
};

/* MF_ERR_USAGE names the file and what is wrong in it; NULL on failure. */
struct mf_trust_file *mf_trust_file_read(const char *path, const struct mf_config *config,
                                         struct mf_error *err) MF_CHECK_RESULT;
void mf_trust_file_free(struct mf_trust_file *trust);
/* NULL: it is not trusted. */
const struct mf_trusted *mf_trust_file_issuer(const struct mf_trust_file *trust,
                                              const char *issuer);
const struct mf_trusted *mf_trust_file_client(const struct mf_trust_file *trust,
                                              const char *client_id);

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_trust_file, struct mf_trust_file *, mf_trust_file_free(*p))

#endif
