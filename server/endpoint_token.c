/*
 * POST /oauth2/token: an access token for a SMART Backend Services client (client_credentials with
 * a signed assertion, RFC 7523), and GET /fhir/.well-known/smart-configuration, which says so.
 * Errors of the former are those of RFC 6749 5.2, not problem documents.
 */
#include "server/endpoints.h"

#include "server/auth.h"
#include "server/services.h"

#include "core/buffer.h"

#include <string.h>

enum { FORM_BYTES = 32 << 10 };

static const char JSON[] = "application/json";
static const char ASSERTION_TYPE[] = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

struct exchange {
    struct mf_buffer form;
};

static const char *token_url(const struct mf_request *request)
{
    const struct mf_auth *auth = request->services->auth;
    return auth ? mf_auth_token_url(auth) : NULL;
}

static bool begin(struct mf_request *request, struct mf_error *err)
{
    const char *type = mf_request_header(request, "Content-Type");
    static const char form[] = "application/x-www-form-urlencoded";
    if (!token_url(request))
        return mf_error_set(err, MF_ERR_NOT_FOUND, "no tokens are given here (auth.trust)");
    if (!type || strncmp(type, form, sizeof form - 1) != 0)
        return mf_error_set(err, MF_ERR_UNSUPPORTED, "Content-Type must be %s", form);
    if (request->query_count)
        return mf_error_set(err, MF_ERR_MALFORMED, "unknown query parameter");
    struct exchange *x = mf_arena_alloc(request->arena, 1, sizeof *x, err);
    if (!x)
        return false;
    mf_buffer_init(&x->form, FORM_BYTES);
    request->state = x;
    return true;
}

static bool data(struct mf_request *request, const void *bytes, size_t len, struct mf_error *err)
{
    struct exchange *x = request->state;
    return mf_buffer_append(&x->form, bytes, len, err);
}

static bool respond_error(struct mf_request *request, int status, const char *error,
                          const char *description, struct mf_error *err)
{
    return mf_respond_json_take(
        request, status, JSON,
        json_pack("{s:s, s:s}", "error", error, "error_description", description), err);
}

static bool handle(struct mf_request *request, struct mf_error *err)
{
    static const char *const names[] = {"grant_type", "scope", "client_assertion_type",
                                        "client_assertion", NULL};
    struct exchange *x = request->state;
    struct mf_error reason = MF_ERROR_INIT;
    if (!x->form.data || !mf_request_add_query(request, x->form.data, &reason) ||
        !mf_request_only_query(request, names, &reason))
        return respond_error(request, 400, "invalid_request", "the form is incomplete", err);
    const char *grant = mf_request_query(request, "grant_type");
    const char *type = mf_request_query(request, "client_assertion_type");
    const char *assertion = mf_request_query(request, "client_assertion");
    const char *scopes = mf_request_query(request, "scope");
    if (!grant || !type || !assertion || !scopes)
        return respond_error(request, 400, "invalid_request", "the form is incomplete", err);
    if (strcmp(grant, "client_credentials") != 0)
        return respond_error(request, 400, "unsupported_grant_type",
                             "grant_type must be client_credentials", err);
    if (strcmp(type, ASSERTION_TYPE) != 0)
        return respond_error(request, 400, "invalid_request", "client_assertion_type is another",
                             err);
    json_t *token = mf_auth_exchange(request->services->auth, assertion, scopes, &reason);
    if (token)
        return mf_respond_json_take(request, 200, JSON, token, err);
    if (reason.code == MF_ERR_UNAUTHORIZED)
        return respond_error(request, 401, "invalid_client", reason.msg, err);
    if (reason.code == MF_ERR_UNUSABLE)
        return respond_error(request, 400, "invalid_scope", reason.msg, err);
    return mf_error_set(err, reason.code, "%s", reason.msg);
}

static void dispose(struct mf_request *request)
{
    struct exchange *x = request->state;
    if (!x)
        return;
    if (x->form.data)
        explicit_bzero(x->form.data, x->form.len);
    mf_buffer_free(&x->form);
}

const struct mf_endpoint mf_endpoint_token = {.method = "POST",
                                              .pattern = "/oauth2/token",
                                              .begin = begin,
                                              .data = data,
                                              .handle = handle,
                                              .dispose = dispose};

/* --- discovery --- */

static bool describe(struct mf_request *request, struct mf_error *err)
{
    const char *url = token_url(request);
    if (!url)
        return mf_error_set(err, MF_ERR_NOT_FOUND, "no tokens are given here (auth.trust)");
    return mf_respond_json_take(
        request, 200, JSON,
        json_pack("{s:s, s:[s], s:[s, s], s:[s], s:[s, s, s, s, s, s, s, s], s:[s, s, s]}",
                  "token_endpoint", url, "token_endpoint_auth_methods_supported", "private_key_jwt",
                  "token_endpoint_auth_signing_alg_values_supported", "RS384", "ES384",
                  "grant_types_supported", "client_credentials", "scopes_supported", "jobs.read",
                  "jobs.write", "dicom.read", "dicom.write", "metrics.read",
                  "system/DiagnosticReport.crs", "system/Observation.crs",
                  "system/RiskAssessment.crs", "capabilities", "client-confidential-asymmetric",
                  "permission-v1", "permission-v2"),
        err);
}

const struct mf_endpoint mf_endpoint_smart_configuration = {
    .method = "GET",
    .pattern = "/fhir/.well-known/smart-configuration",
    .quick = true,
    .handle = describe};
