/* Access: scopes to rights, rights to routes. SMART App Launch 2.2, "Scopes and Launch Context". */
#include "server/access.h"

#include "server/tls.h"

#include <string.h>

enum { CREATE = 1, READ = 2, UPDATE = 4, DELETE = 8, SEARCH = 16, ALL = 31 };

struct own_scope {
    const char *name;
    uint32_t access;
    unsigned char fhir; /* of every type */
};

#define BIT(name) (1u << MF_ACCESS_##name)

static const struct own_scope OWN[] = {
    {"jobs.read", BIT(JOBS_READ), 0},   {"jobs.write", BIT(JOBS_WRITE), 0},
    {"dicom.read", BIT(DICOM_READ), 0}, {"dicom.write", BIT(DICOM_WRITE), 0},
    {"fhir.read", 0, READ | SEARCH},    {"fhir.write", 0, CREATE | UPDATE | DELETE},
    {"metrics.read", BIT(METRICS), 0},  {"admin", BIT(ADMIN), 0},
};

enum { OWN_COUNT = sizeof OWN / sizeof OWN[0] };

static const char *const TYPES[MF_FHIR_OTHER] = {"DiagnosticReport", "Observation",
                                                 "RiskAssessment"};

/* The type of this name; −1: all of them ("*"). */
static int find_type(const char *name, size_t len)
{
    if (len == 1 && *name == '*')
        return -1;
    for (int i = 0; i < MF_FHIR_OTHER; i++)
        if (strlen(TYPES[i]) == len && memcmp(TYPES[i], name, len) == 0)
            return i;
    return MF_FHIR_OTHER;
}

/* "read", "write", "*", or letters of "cruds" in this order; 0: neither. */
static unsigned char permissions(const char *text, size_t len)
{
    static const char letters[] = "cruds";
    unsigned char bits = 0;
    const char *next = letters;
    if (len == 1 && *text == '*')
        return ALL;
    if (len == 4 && memcmp(text, "read", 4) == 0)
        return READ | SEARCH;
    if (len == 5 && memcmp(text, "write", 5) == 0)
        return CREATE | UPDATE | DELETE;
    for (size_t i = 0; i < len; i++) {
        const char *found = strchr(next, text[i]);
        if (!found)
            return 0;
        bits |= (unsigned char)(1 << (found - letters));
        next = found + 1;
    }
    return bits;
}

/* "system/TYPE.PERMISSIONS" */
static bool add_smart(struct mf_grant *grant, const char *scope, size_t len)
{
    static const char prefix[] = "system/";
    size_t skip = sizeof prefix - 1;
    if (len <= skip || memcmp(scope, prefix, skip) != 0)
        return false;
    const char *type = scope + skip, *dot = memchr(type, '.', len - skip);
    if (!dot || dot == type)
        return false;
    unsigned char bits = permissions(dot + 1, (size_t)(scope + len - dot - 1));
    int at = find_type(type, (size_t)(dot - type));
    for (int i = 0; i < MF_FHIR_TYPE_COUNT; i++)
        if (at < 0 || at == i)
            grant->fhir[i] |= bits;
    return bits != 0;
}

bool mf_grant_add(struct mf_grant *grant, const char *scope, size_t len)
{
    for (size_t i = 0; i < OWN_COUNT; i++) {
        if (strlen(OWN[i].name) != len || memcmp(OWN[i].name, scope, len) != 0)
            continue;
        grant->access |= OWN[i].access;
        for (int t = 0; t < MF_FHIR_TYPE_COUNT; t++)
            grant->fhir[t] |= OWN[i].fhir;
        return true;
    }
    return add_smart(grant, scope, len);
}

void mf_grant_add_list(struct mf_grant *grant, const char *scopes)
{
    while (*(scopes += strspn(scopes, " "))) {
        size_t len = strcspn(scopes, " ");
        (void)mf_grant_add(grant, scopes, len);
        scopes += len;
    }
}

void mf_grant_limit(struct mf_grant *grant, const struct mf_grant *limit)
{
    grant->access &= limit->access;
    for (int i = 0; i < MF_FHIR_TYPE_COUNT; i++)
        grant->fhir[i] &= limit->fhir[i];
}

bool mf_grant_covers(const struct mf_grant *whole, const struct mf_grant *part)
{
    bool covers = (part->access & ~whole->access) == 0;
    for (int i = 0; i < MF_FHIR_TYPE_COUNT; i++)
        covers = covers && (part->fhir[i] & ~whole->fhir[i]) == 0;
    return covers;
}

/* What a FHIR route needs of a type's permissions. */
static unsigned char needed(enum mf_access access)
{
    return access == MF_ACCESS_FHIR_READ ? READ : access == MF_ACCESS_FHIR_SEARCH ? SEARCH : CREATE;
}

bool mf_grant_allows(const struct mf_grant *grant, enum mf_access access, const char *fhir_type)
{
    bool all = true;
    switch (access) {
    case MF_ACCESS_PUBLIC:
    case MF_ACCESS_ANY:
        return true;
    case MF_ACCESS_FHIR_READ:
    case MF_ACCESS_FHIR_SEARCH:
    case MF_ACCESS_FHIR_WRITE:
        if (fhir_type)
            return grant->fhir[find_type(fhir_type, strlen(fhir_type)) & 3] & needed(access);
        for (int i = 0; i < MF_FHIR_OTHER; i++)
            all = all && (grant->fhir[i] & needed(access));
        return all;
    case MF_ACCESS_NONE:
    case MF_ACCESS_COUNT:
        return false;
    default:
        return grant->access >> access & 1;
    }
}

const char *mf_access_scope(enum mf_access access)
{
    switch (access) {
    case MF_ACCESS_FHIR_READ:
    case MF_ACCESS_FHIR_SEARCH:
        return "fhir.read";
    case MF_ACCESS_FHIR_WRITE:
        return "fhir.write";
    default:
        break;
    }
    for (size_t i = 0; i < OWN_COUNT; i++)
        if ((unsigned)access < MF_ACCESS_COUNT && OWN[i].access == 1u << access)
            return OWN[i].name;
    return NULL;
}

bool mf_tenant_valid(const char *tenant)
{
    size_t len = strlen(tenant);
    return len > 0 && len < MF_TENANT && *tenant != '.' && *tenant != '-' &&
           strspn(tenant, "abcdefghijklmnopqrstuvwxyz0123456789-_.") == len;
}

/* --- listening --- */

static bool is_set(const char *value)
{
    return strcmp(value, "off") != 0;
}

bool mf_access_guarded(const struct mf_config *config)
{
    return is_set(config->auth.keys) || is_set(config->auth.trust);
}

bool mf_access_check_listen(const struct mf_config *config, bool loopback, struct mf_error *err)
{
    const char *expose = config->http.expose;
    bool safe = strcmp(expose, "safe") == 0, open = strcmp(expose, "open") == 0;
    bool tls = mf_tls_wanted(config);
    if (!safe && !open && strcmp(expose, "plain") != 0)
        return mf_error_set(err, MF_ERR_USAGE, "http.expose: must be safe, plain or open");
    if (is_set(config->http.tls_client_ca) && !tls)
        return mf_error_set(err, MF_ERR_USAGE, "http.tls_client_ca needs http.tls_certificate");
    if (loopback || open)
        return true;
    if (!mf_access_guarded(config) && !(tls && is_set(config->http.tls_client_ca)))
        return mf_error_set(err, MF_ERR_USAGE,
                            "http.listen: %s is reached from other machines, and nobody would have "
                            "to authenticate: set auth.keys, auth.trust or http.tls_client_ca, or "
                            "allow it with http.expose open",
                            config->http.listen);
    if (safe && !tls)
        return mf_error_set(err, MF_ERR_USAGE,
                            "http.listen: %s is reached from other machines without TLS: set "
                            "http.tls_certificate, or http.expose plain behind a proxy",
                            config->http.listen);
    return true;
}
