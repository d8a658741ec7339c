/* Authentication: judging a request. RFC 6750 for what is answered to those who may not. */
#include "server/auth.h"

#include "server/job_response.h"
#include "server/router.h"
#include "server/services.h"
#include "server/store_audit.h"

#include <string.h>
#include <strings.h>

/* The key or token of a request: `Authorization: Bearer …` or `X-API-Key: …`; NULL: none. */
static const char *credential_of(const struct mf_request *r, struct mf_error *err)
{
    const char *authorization = mf_request_header(r, "Authorization");
    const char *key = mf_request_header(r, "X-API-Key");
    if (authorization && key) {
        mf_error_set(err, MF_ERR_MALFORMED, "both Authorization and X-API-Key are given");
        return NULL;
    }
    if (!authorization)
        return key;
    if (strncasecmp(authorization, "Bearer ", 7) != 0) {
        mf_error_set(err, MF_ERR_UNAUTHORIZED, "Authorization must be Bearer with a key or token");
        return NULL;
    }
    return authorization + 7 + strspn(authorization + 7, " ");
}

static bool challenge(struct mf_request *r, const struct mf_error *reason, bool tried,
                      struct mf_error *err)
{
    if (reason->code == MF_ERR_UNAUTHORIZED &&
        !mf_respond_field(r, err, "WWW-Authenticate", "Bearer realm=\"medfusion\"%s",
                          tried ? ", error=\"invalid_token\"" : ""))
        return false;
    return mf_error_set(err, reason->code, "%s", reason->msg);
}

/* The resource type that a FHIR route's path names, or NULL. */
static const char *fhir_type(const struct mf_request *r)
{
    return strncmp(r->endpoint->pattern, "/fhir/{type}", 12) == 0 ? r->parameters[0] : NULL;
}

static bool forbid(struct mf_request *r, enum mf_access access, struct mf_error *err)
{
    const char *scope = mf_access_scope(access);
    if (!scope)
        return mf_error_set(err, MF_ERR_FORBIDDEN, "this is allowed to nobody");
    if (!mf_respond_field(r, err, "WWW-Authenticate",
                          "Bearer realm=\"medfusion\", error=\"insufficient_scope\", scope=\"%s\"",
                          scope))
        return false;
    return mf_error_set(err, MF_ERR_FORBIDDEN, "this needs the scope %s", scope);
}

bool mf_auth_admit(struct mf_request *r, struct mf_error *err)
{
    enum mf_access access = mf_route_access(r->endpoint);
    struct mf_error reason = MF_ERROR_INIT;
    if (access == MF_ACCESS_PUBLIC)
        return true;
    if (!r->services->auth && access == MF_ACCESS_ADMIN)
        return mf_error_set(err, MF_ERR_FORBIDDEN,
                            "this needs the scope admin, and here nobody authenticates "
                            "(auth.keys, auth.trust)");
    if (!r->services->auth)
        return true;
    const char *credential = credential_of(r, &reason);
    struct mf_principal *principal = mf_arena_alloc(r->arena, 1, sizeof *principal, err);
    if (!principal)
        return false;
    if (!credential)
        mf_error_set(&reason, MF_ERR_UNAUTHORIZED, "this needs a key or a token");
    if (reason.code != MF_OK ||
        !mf_auth_identify(r->services->auth, credential, principal, &reason))
        return challenge(r, &reason, credential != NULL, err);
    r->principal = principal;
    r->tenant = principal->tenant;
    if (!mf_grant_allows(&principal->grant, access, fhir_type(r)))
        return forbid(r, access, err);
    return true;
}

bool mf_auth_record(const struct mf_request *r, struct mf_error *err)
{
    char detail[256], job[MF_JOB_ID];
    mf_request_job(r, job);
    snprintf(detail, sizeof detail, "%.16s %.200s %d", r->method, r->path, r->response.status);
    const struct mf_audit_row row = {.tenant = r->tenant,
                                     .actor = r->principal->name,
                                     .job = job,
                                     .event = "request",
                                     .detail = detail};
    return mf_store_audit_add(r->store, &row, err);
}
