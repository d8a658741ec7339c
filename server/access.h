/*
 * Access: what a request may do. Every route names the right it needs in the router's table
 * (router.c); scopes grant rights; whoever authenticated (auth.h) is a principal of one tenant with
 * the rights of its scopes.
 *
 * Scopes are our own ("jobs.read", …) and those of SMART Backend Services for FHIR resources, in
 * both versions of their syntax ("system/Observation.read", "system/Observation.rs").
 */
#ifndef MF_SERVER_ACCESS_H
#define MF_SERVER_ACCESS_H

#include "core/error.h"
#include "server/config.h"
#include "server/store.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What a route needs. A route that names none is nobody's. */
enum mf_access {
    MF_ACCESS_NONE,
    MF_ACCESS_PUBLIC, /* no authentication: holds no patient data */
    MF_ACCESS_ANY,    /* whoever authenticated */
    MF_ACCESS_JOBS_READ,
    MF_ACCESS_JOBS_WRITE,
    MF_ACCESS_DICOM_READ,
    MF_ACCESS_DICOM_WRITE,
    MF_ACCESS_FHIR_READ,   /* of the type that the path names, else of every type */
    MF_ACCESS_FHIR_SEARCH, /* the same */
    MF_ACCESS_FHIR_WRITE,
    MF_ACCESS_METRICS,
    MF_ACCESS_ADMIN, /* of the service itself, above tenants; never without authentication */
    MF_ACCESS_COUNT
};

/* Types of FHIR resources that scopes can tell apart; the rest is OTHER. */
enum mf_fhir_type {
    MF_FHIR_DIAGNOSTIC_REPORT,
    MF_FHIR_OBSERVATION,
    MF_FHIR_RISK_ASSESSMENT,
    MF_FHIR_OTHER,
    MF_FHIR_TYPE_COUNT
};

enum { MF_PRINCIPAL = 128 };

/* Rights as bits. */
struct mf_grant {
    uint32_t access;                        /* 1 << enum mf_access */
    unsigned char fhir[MF_FHIR_TYPE_COUNT]; /* bits of c, r, u, d, s in this order */
};

struct mf_principal {
    char tenant[MF_TENANT];
    char name[MF_PRINCIPAL]; /* for the audit trail: "key:NAME", "client:ID" … */
    struct mf_grant grant;
};

/* Adds the rights of one scope; false (and nothing) for a text that is no scope of ours. */
bool mf_grant_add(struct mf_grant *grant, const char *scope, size_t len);
/* Adds those of a list between spaces; what is not known grants nothing. */
void mf_grant_add_list(struct mf_grant *grant, const char *scopes);
/* Leaves what both grant. Whether `part` grants nothing that `whole` does not. */
void mf_grant_limit(struct mf_grant *grant, const struct mf_grant *limit);
bool mf_grant_covers(const struct mf_grant *whole, const struct mf_grant *part);

/* Whether the right is granted; `fhir_type` is the resource type in the path, or NULL. */
bool mf_grant_allows(const struct mf_grant *grant, enum mf_access access, const char *fhir_type);
/* The scope that a client should ask for ("jobs.read"); NULL for PUBLIC, ANY and NONE. */
const char *mf_access_scope(enum mf_access access);

/* A name of a tenant: 1 to 64 of a–z, 0–9, '-', '_', '.', not beginning with a '.' or '-'. */
bool mf_tenant_valid(const char *tenant);

/* Whether requests must authenticate themselves (auth.keys or auth.trust is set). */
bool mf_access_guarded(const struct mf_config *config);
/* Whether this configuration may listen where it does (http.expose); MF_ERR_USAGE says what is
 * missing. */
bool mf_access_check_listen(const struct mf_config *config, bool loopback,
                            struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
