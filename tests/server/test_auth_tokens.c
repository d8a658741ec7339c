/* server/auth.c: what a client's signed assertion is exchanged for. */
#include "auth_subject.h"

#include "tests/scarce.h"

static char *assertion(struct auth_subject *t, const char *format, const char *id)
{
    char claims[1024];
    const char *hole = strstr(format, "%lld");
    assert_non_null(hole);
    snprintf(claims, sizeof claims, "%.*s%lld,\"jti\":\"%s\"%s", (int)(hole - format), format,
             (long long)auth_in(100), id, hole + 4);
    return auth_sign(t, "JWT", claims);
}

#define EHR "{\"iss\":\"ehr\",\"sub\":\"ehr\",\"aud\":\"https://here/token\",\"exp\":%lld"

static void an_assertion_is_good_for_one_token(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    struct mf_principal who;
    struct auth_subject t;
    auth_start(&t);
    auth_open(&t);
    MF_AUTO(mf_mem) char *text = assertion(&t, EHR "}", "1");
    MF_AUTO(mf_json)
    json_t *answer =
        mf_auth_exchange(t.auth, text, "  admin jobs.read  system/*.rs nonsense", &err);
    assert_no_error(&err);
    assert_string_equal(mf_json_get_string(answer, "scope", ""), "jobs.read");
    assert_string_equal(mf_json_get_string(answer, "token_type", ""), "bearer");
    assert_true(
        mf_auth_identify(t.auth, mf_json_get_string(answer, "access_token", ""), &who, &err));
    assert_string_equal(who.name, "client:ehr");
    assert_string_equal(who.tenant, "south");
    assert_true(mf_grant_allows(&who.grant, MF_ACCESS_JOBS_READ, NULL));
    assert_false(mf_grant_allows(&who.grant, MF_ACCESS_FHIR_READ, "Observation"));
    assert_null(mf_auth_exchange(t.auth, text, "jobs.read", &err));
    assert_int_equal(err.code, MF_ERR_UNAUTHORIZED); /* used before */
    auth_end(&t);
}

static void an_assertion_is_refused_for_what_is_wrong_with_it(void **state)
{
    (void)state;
    char long_id[300];
    memset(long_id, 'i', sizeof long_id);
    long_id[sizeof long_id - 1] = '\0';
    const struct {
        const char *claims, *id, *scopes, *said;
    } cases[] = {
        {"{\"iss\":\"us\",\"sub\":\"us\",\"exp\":%lld}", "a", "jobs.read",
         "the token is of a client that is not known (iss, sub)"},
        {"{\"iss\":\"ehr\",\"sub\":\"us\",\"exp\":%lld}", "a", "jobs.read",
         "the token is of a client that is not known (iss, sub)"},
        {"{\"iss\":\"ehr\",\"sub\":\"ehr\",\"exp\":%lld}", "a", "jobs.read",
         "the token is for somebody else (aud)"},
        {EHR ",\"nbf\":99999999999}", "a", "jobs.read", "the token is not valid yet"},
        {EHR "}", "", "jobs.read", "the token has no id (jti)"},
        {EHR "}", long_id, "jobs.read", "the token has no id (jti)"},
        {EHR "}", "b", "admin", "none of the scopes is the client's"},
        {EHR "}", "c", "", "none of the scopes is the client's"},
    };
    struct auth_subject t;
    auth_start(&t);
    auth_open(&t);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct mf_error err = MF_ERROR_INIT;
        MF_AUTO(mf_mem) char *text = assertion(&t, cases[i].claims, cases[i].id);
        assert_null(mf_auth_exchange(t.auth, text, cases[i].scopes, &err));
        assert_string_equal(err.msg, cases[i].said);
    }
    struct mf_error err = MF_ERROR_INIT;
    assert_null(mf_auth_exchange(t.auth, "nonsense", "jobs.read", &err));
    assert_error(&err, MF_ERR_UNAUTHORIZED, "the token is malformed");
    mf_error_clear(&err);
    MF_AUTO(mf_mem) char *forged = assertion(&t, EHR "}", "d");
    forged[strlen(forged) - 2] ^= 1;
    assert_null(mf_auth_exchange(t.auth, forged, "jobs.read", &err));
    assert_error(&err, MF_ERR_UNAUTHORIZED, "the token has a wrong signature");
    auth_end(&t);
}

/* A client that asks for the same again and again gets as much as a token holds. */
static void a_token_holds_so_many_scopes(void **state)
{
    (void)state;
    char scopes[4096] = "";
    struct mf_error err = MF_ERROR_INIT;
    struct auth_subject t;
    auth_start(&t);
    auth_open(&t);
    for (size_t used = 0; used + 32 < sizeof scopes;)
        used += (size_t)snprintf(scopes + used, sizeof scopes - used, "system/Observation.rs ");
    MF_AUTO(mf_mem) char *text = assertion(&t, EHR "}", "1");
    MF_AUTO(mf_json) json_t *answer = mf_auth_exchange(t.auth, text, scopes, &err);
    assert_no_error(&err);
    const char *given = mf_json_get_string(answer, "scope", "");
    assert_true(strlen(given) > 900 && strlen(given) < 1024);
    assert_int_equal((strlen(given) + 1) % strlen("system/Observation.rs "), 0);
    auth_end(&t);
}

static void without_memory_there_is_no_token(void **state)
{
    (void)state;
    struct auth_subject t;
    long at = 0;
    auth_start(&t);
    auth_open(&t);
    json_set_alloc_funcs(__wrap_malloc, free);
    for (bool reached = true; reached; at++) {
        char id[24];
        struct mf_error err = MF_ERROR_INIT;
        snprintf(id, sizeof id, "n%ld", at);
        MF_AUTO(mf_mem) char *text = assertion(&t, EHR "}", id);
        scarce_after(at, false);
        MF_AUTO(mf_json) json_t *answer = mf_auth_exchange(t.auth, text, "jobs.read", &err);
        reached = scarce_end();
        assert_int_equal(answer == NULL, err.code != MF_OK);
        assert_true(reached || answer);
    }
    json_set_alloc_funcs(malloc, free);
    assert_true(at > 20);
    auth_end(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_assertion_is_good_for_one_token),
        cmocka_unit_test(an_assertion_is_refused_for_what_is_wrong_with_it),
        cmocka_unit_test(a_token_holds_so_many_scopes),
        cmocka_unit_test(without_memory_there_is_no_token),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
