/* server/authorize.c: how a request is refused, and what the trail says of it. */
#include "auth_subject.h"

#include "server/store_audit.h"

static struct mf_request *admit(struct auth_subject *t, const char *target, const char *headers,
                                struct mf_error *err)
{
    *err = (struct mf_error)MF_ERROR_INIT;
    struct mf_error begun = MF_ERROR_INIT;
    struct mf_request *r = loopback_open(&t->l, "GET", target, headers, &begun);
    assert_non_null(r->endpoint);
    bool admitted = mf_auth_admit(r, err);
    assert_int_equal(admitted, err->code == MF_OK);
    return r;
}

static void a_request_is_refused_with_its_reason(void **state)
{
    (void)state;
    static const struct {
        const char *target, *headers, *said, *asked; /* asked: WWW-Authenticate, or NULL */
    } cases[] = {
        {"/v2/health/live", NULL, "", NULL},
        {"/v1/jobs", NULL, "this needs a key or a token", "Bearer realm=\"medfusion\""},
        {"/v1/jobs", "Authorization: Basic YTpi",
         "Authorization must be Bearer with a key or token", "Bearer realm=\"medfusion\""},
        {"/v1/jobs", "Authorization: Bearer x\nX-API-Key: x",
         "both Authorization and X-API-Key are given", NULL},
        {"/v1/jobs", "Authorization: Bearer   x", "the token is malformed",
         "Bearer realm=\"medfusion\", error=\"invalid_token\""},
        {"/v1/jobs", "KEY", "", NULL},
        {"/v1/admin/models", "KEY", "this needs the scope admin",
         "Bearer realm=\"medfusion\", error=\"insufficient_scope\", scope=\"admin\""},
        {"/fhir/Observation/x", "KEY", "", NULL},
        {"/fhir/Observation", "KEY", "", NULL},
    };
    struct auth_subject t;
    auth_start(&t);
    auth_open(&t);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char headers[256] = "";
        struct mf_error err;
        const char *given = cases[i].headers;
        snprintf(headers, sizeof headers, "X-API-Key: %s", t.text);
        if (!given || strcmp(given, "KEY") != 0)
            snprintf(headers, sizeof headers, "%s", given ? given : "");
        struct mf_request *r = admit(&t, cases[i].target, headers, &err);
        const char *asked = response_field(r, "WWW-Authenticate");
        assert_string_equal(err.msg, cases[i].said);
        assert_string_equal(asked ? asked : "", cases[i].asked ? cases[i].asked : "");
        mf_request_free(r);
    }
    auth_end(&t);
}

static void where_nobody_authenticates_nobody_is_an_administrator(void **state)
{
    (void)state;
    struct auth_subject t;
    struct mf_error err;
    auth_start(&t);
    struct mf_request *r = admit(&t, "/v1/jobs", NULL, &err);
    assert_no_error(&err);
    assert_null(r->principal);
    mf_request_free(r);
    r = admit(&t, "/v1/admin/models", NULL, &err);
    assert_int_equal(err.code, MF_ERR_FORBIDDEN);
    assert_non_null(strstr(err.msg, "here nobody authenticates"));
    mf_request_free(r);
    auth_end(&t);
}

/* A route that is in no table of rights is closed to everybody. */
static void what_names_no_right_is_allowed_to_nobody(void **state)
{
    (void)state;
    char headers[128];
    struct mf_error err;
    struct auth_subject t;
    auth_start(&t);
    auth_open(&t);
    snprintf(headers, sizeof headers, "Authorization: bearer %s", t.text);
    struct mf_request *r = admit(&t, "/v1/jobs", headers, &err);
    assert_string_equal(r->tenant, "north");
    assert_true(auth_is_of_key(&t, r->principal->name));
    const struct mf_endpoint unknown = *r->endpoint;
    r->endpoint = &unknown;
    assert_false(mf_auth_admit(r, &err));
    assert_error(&err, MF_ERR_FORBIDDEN, "this is allowed to nobody");
    mf_request_free(r);
    auth_end(&t);
}

/* What cannot be said in full is not let through either. */
static void a_refusal_that_does_not_fit_is_a_refusal(void **state)
{
    (void)state;
    char headers[128];
    struct mf_error err, begun = MF_ERROR_INIT;
    struct auth_subject t;
    auth_start(&t);
    auth_open(&t);
    snprintf(headers, sizeof headers, "X-API-Key: %s", t.text);
    for (int with_key = 0; with_key < 2; with_key++) {
        struct mf_request *r =
            loopback_open(&t.l, "GET", "/v1/admin/models", with_key ? headers : NULL, &begun);
        r->response.field_count = MF_RESPONSE_FIELDS;
        err = (struct mf_error)MF_ERROR_INIT;
        assert_false(mf_auth_admit(r, &err));
        assert_error(&err, MF_ERR_INTERNAL, "a response header field does not fit");
        r->response.field_count = 0;
        mf_request_free(r);
    }
    struct mf_request *r = loopback_open(&t.l, "GET", "/v1/jobs", headers, &begun);
    struct mf_arena *whole = r->arena;
    MF_AUTO(mf_arena) struct mf_arena *tiny = mf_arena_new(1);
    r->arena = tiny;
    err = (struct mf_error)MF_ERROR_INIT;
    assert_false(mf_auth_admit(r, &err));
    assert_int_equal(err.code, MF_ERR_TOO_LARGE);
    r->arena = whole;
    mf_request_free(r);
    auth_end(&t);
}

static void a_request_is_in_the_trail(void **state)
{
    (void)state;
    char headers[128];
    struct mf_error err;
    struct auth_subject t;
    struct mf_audit_point base;
    struct mf_audit_row *rows = NULL;
    size_t n = 0;
    auth_start(&t);
    auth_open(&t);
    snprintf(headers, sizeof headers, "X-API-Key: %s", t.text);
    struct mf_request *r = admit(&t, "/v1/jobs?limit=1", headers, &err);
    r->response.status = 200;
    assert_true(mf_auth_record(r, &err));
    assert_true(mf_store_audit_read(t.l.f.store, 0, t.l.f.arena, &base, &rows, &n, &err));
    assert_int_equal(n, 1);
    assert_true(auth_is_of_key(&t, rows[0].actor));
    assert_string_equal(rows[0].tenant, "north");
    assert_string_equal(rows[0].detail, "GET /v1/jobs 200");
    mf_request_free(r);
    auth_end(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_is_refused_with_its_reason),
        cmocka_unit_test(where_nobody_authenticates_nobody_is_an_administrator),
        cmocka_unit_test(what_names_no_right_is_allowed_to_nobody),
        cmocka_unit_test(a_refusal_that_does_not_fit_is_a_refusal),
        cmocka_unit_test(a_request_is_in_the_trail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
