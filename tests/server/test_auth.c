/* server/auth.c: who a key or an issuer's token makes somebody. */
#include "auth_subject.h"

#include "core/digest.h"
#include "tests/scarce.h"

#include <errno.h>
#include <pthread.h>
#include <sys/stat.h>
#include <time.h>

/* --- a thread that cannot be had (target_link_options: --wrap) --- */

static bool no_thread;

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*main_function)(void *), void *argument);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*main_function)(void *), void *argument);

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*main_function)(void *), void *argument)
{
    return no_thread ? EAGAIN : __real_pthread_create(thread, attributes, main_function, argument);
}

/* --- tokens of issuers --- */

#define IDP "{\"iss\":\"idp\",\"aud\":\"us\",\"exp\":%lld"

static void an_issuers_token_makes_its_tenants_principal(void **state)
{
    (void)state;
    struct auth_subject t;
    struct mf_principal who;
    struct mf_error err;
    auth_start(&t);
    auth_open(&t);
    assert_true(
        auth_identify(&t, IDP ",\"sub\":\"anna\",\"scope\":\"jobs.read admin\"}", 100, &who, &err));
    assert_string_equal(who.tenant, "north");
    assert_string_equal(who.name, "token:anna");
    assert_true(mf_grant_allows(&who.grant, MF_ACCESS_JOBS_READ, NULL));
    assert_false(mf_grant_allows(&who.grant, MF_ACCESS_ADMIN, NULL)); /* more than the issuer's */
    assert_false(mf_grant_allows(&who.grant, MF_ACCESS_JOBS_WRITE, NULL)); /* not asked for */
    /* clocks differ by less than a minute; such a token is not remembered */
    assert_true(auth_identify(&t, IDP ",\"scope\":\"jobs.read\"}", -30, &who, &err));
    assert_string_equal(who.name, "token:-");
    assert_true(
        auth_identify(&t, "{\"iss\":\"open\",\"aud\":\"us\",\"exp\":%lld,\"hospital\":\"east\"}",
                      100, &who, &err));
    assert_string_equal(who.tenant, "east");
    assert_true(mf_grant_allows(&who.grant, MF_ACCESS_FHIR_READ, NULL));
    auth_end(&t);
}

static void a_token_is_refused_for_what_is_wrong_with_it(void **state)
{
    (void)state;
    static const struct {
        const char *claims, *said;
    } cases[] = {
        {"{\"iss\":\"them\",\"aud\":\"us\",\"exp\":%lld,\"scope\":\"jobs.read\"}",
         "is of an issuer that is not trusted"},
        {"{\"iss\":\"idp\",\"aud\":\"them\",\"exp\":%lld,\"scope\":\"jobs.read\"}",
         "is for somebody else (aud)"},
        {IDP ",\"nbf\":99999999999,\"scope\":\"jobs.read\"}", "is not valid yet"},
        {IDP "}", "has no scope"},
        {IDP ",\"scope\":7}", "has no scope"},
        {"{\"iss\":\"open\",\"aud\":\"us\",\"exp\":%lld}", "names no tenant"},
        {"{\"iss\":\"open\",\"aud\":\"us\",\"exp\":%lld,\"hospital\":\"../x\"}", "names no tenant"},
        {"{\"iss\":\"open\",\"aud\":\"us\",\"exp\":%lld,\"hospital\":\"east\",\"scope\":[]}",
         "has no scope"},
    };
    struct auth_subject t;
    struct mf_principal who;
    struct mf_error err;
    auth_start(&t);
    auth_open(&t);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char expected[128];
        assert_false(auth_identify(&t, cases[i].claims, 100, &who, &err));
        snprintf(expected, sizeof expected, "the token %s", cases[i].said);
        assert_error(&err, MF_ERR_UNAUTHORIZED, expected);
    }
    assert_false(mf_auth_identify(t.auth, "e30.e30.AAAA", &who, &err));
    MF_AUTO(mf_mem) char *other = auth_sign(&t, "JWT", "{\"iss\":\"idp\"}");
    other[strlen(other) - 2] ^= 1;
    err = (struct mf_error)MF_ERROR_INIT;
    assert_false(mf_auth_identify(t.auth, other, &who, &err));
    assert_error(&err, MF_ERR_UNAUTHORIZED, "the token has a wrong signature");
    auth_end(&t);
}

/* Whether a new token of the issuer's is good. */
static bool knows_new_tokens(struct auth_subject *t)
{
    static int number;
    char claims[256];
    struct mf_principal who;
    snprintf(claims, sizeof claims, IDP ",\"scope\":\"jobs.read\",\"jti\":\"%d\"}",
             (long long)auth_in(100), number++);
    MF_AUTO(mf_mem) char *token = auth_sign(t, "JWT", claims);
    return mf_auth_identify(t->auth, token, &who, NULL);
}

static void a_key_set_that_breaks_stays_as_it_was(void **state)
{
    (void)state;
    struct timespec pause = {.tv_nsec = 20000000};
    struct auth_subject t;
    auth_start(&t);
    auth_open(&t);
    auth_write_text(t.set, "{");
    nanosleep(&(struct timespec){.tv_sec = 1, .tv_nsec = 500000000}, NULL);
    assert_true(knows_new_tokens(&t));
    auth_write_text(t.set, "{\"keys\":[]}");
    bool known = true;
    for (int i = 0; i < 500 && known; i++) {
        nanosleep(&pause, NULL);
        known = knows_new_tokens(&t);
    }
    assert_false(known);
    auth_end(&t);
}

/* What was checked is remembered in a slot by the first byte of its digest: the next token of that
 * slot must not become the one before it. */
static void tokens_that_share_a_slot_stay_apart(void **state)
{
    (void)state;
    char *by_slot[256] = {NULL}, *first = NULL, *second = NULL;
    char claims[256], expected[64];
    struct mf_principal who;
    struct mf_error err = MF_ERROR_INIT;
    struct auth_subject t;
    int number[256] = {0}, numbers[2] = {0};
    auth_start(&t);
    auth_open(&t);
    for (int i = 0; !second; i++) {
        unsigned char digest[MF_SHA256_BYTES];
        snprintf(claims, sizeof claims,
                 "{\"iss\":\"idp\",\"aud\":\"us\",\"exp\":%lld,\"scope\":\"jobs.read\","
                 "\"sub\":\"u%d\"}",
                 (long long)auth_in(100), i);
        char *token = auth_sign(&t, "JWT", claims);
        mf_sha256(token, strlen(token), digest);
        if (by_slot[digest[0]]) {
            first = by_slot[digest[0]];
            second = token;
            numbers[0] = number[digest[0]];
            numbers[1] = i;
        } else {
            by_slot[digest[0]] = token;
            number[digest[0]] = i;
        }
    }
    for (int round = 0; round < 4; round++) { /* each is remembered, recalled, and displaced */
        assert_true(mf_auth_identify(t.auth, round < 2 ? first : second, &who, &err));
        snprintf(expected, sizeof expected, "token:u%d", numbers[round / 2]);
        assert_string_equal(who.name, expected);
    }
    for (int i = 0; i < 256; i++)
        free(by_slot[i]);
    free(second);
    auth_end(&t);
}

/* --- keys --- */

static void keys_are_read_anew_when_their_file_changes(void **state)
{
    (void)state;
    char before[MF_API_KEY_TEXT];
    struct timespec pause = {.tv_nsec = 20000000};
    struct mf_principal who;
    struct mf_error err = MF_ERROR_INIT;
    struct auth_subject t;
    auth_start(&t);
    auth_open(&t);
    assert_true(mf_auth_identify(t.auth, t.text, &who, &err));
    assert_string_equal(who.tenant, "north");
    memcpy(before, t.text, sizeof before);
    auth_write_text(t.keys, "{"); /* what was read last stays in use */
    nanosleep(&(struct timespec){.tv_sec = 1, .tv_nsec = 500000000}, NULL);
    assert_true(mf_auth_identify(t.auth, before, &who, &err));
    auth_write_key(&t, "jobs.write");
    bool known = false;
    for (int i = 0; i < 500 && !known; i++) {
        nanosleep(&pause, NULL);
        known = mf_auth_identify(t.auth, t.text, &who, NULL);
    }
    assert_true(known);
    assert_true(mf_grant_allows(&who.grant, MF_ACCESS_JOBS_WRITE, NULL));
    assert_false(mf_auth_identify(t.auth, before, &who, &err));
    assert_int_equal(err.code, MF_ERR_UNAUTHORIZED);
    assert_int_equal(unlink(t.keys), 0);
    nanosleep(&(struct timespec){.tv_sec = 1, .tv_nsec = 500000000}, NULL);
    assert_true(mf_auth_identify(t.auth, t.text, &who, NULL));
    auth_end(&t);
}

static void a_credential_of_no_known_kind_is_nobodys(void **state)
{
    (void)state;
    static const char *const credentials[] = {"mfk_0123456789abcdef_x", "mft_e30.AAAA", "e30.e30.A",
                                              ""};
    struct mf_principal who;
    struct auth_subject t;
    auth_start(&t);
    for (int mode = 0; mode < 2; mode++) { /* nothing at all; clients, but no issuers */
        struct mf_error err = MF_ERROR_INIT;
        t.l.config->auth.keys = "off";
        t.l.config->auth.trust = mode ? t.trust : "off";
        if (mode)
            auth_write_text(t.trust, "{\"schema\":\"medfusion.trust/1\",\"issuers\":[]}");
        MF_AUTO(mf_auth) struct mf_auth *auth = mf_auth_new(t.l.config, &err);
        assert_non_null(auth);
        assert_null(mf_auth_token_url(auth));
        assert_true(mf_auth_start(auth, &err));
        for (size_t i = 0; i < sizeof credentials / sizeof *credentials; i++) {
            mf_error_clear(&err);
            assert_false(mf_auth_identify(auth, credentials[i], &who, &err));
            assert_error(&err, MF_ERR_UNAUTHORIZED, "the credential is of no kind that is known");
        }
    }
    auth_end(&t);
}

/* --- opening --- */

static void what_is_wrong_is_said_when_it_is_opened(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    struct auth_subject t;
    char path[160];
    auth_start(&t);
    t.l.config->auth.keys = "/nowhere/keys.json";
    assert_null(mf_auth_new(t.l.config, &err));
    assert_int_equal(strncmp(err.msg, "auth.keys: ", 11), 0);
    mf_error_clear(&err);
    t.l.config->auth.keys = "off";
    auth_write_text(t.trust, "{}");
    assert_null(mf_auth_new(t.l.config, &err));
    assert_int_equal(strncmp(err.msg, "auth.trust: ", 12), 0);
    auth_end(&t);
    mf_auth_free(NULL);

    auth_start(&t); /* what is kept in the data directory cannot be made */
    for (int i = 0; i < 3; i++) {
        static const char *const kept[] = {"token.key", "used-tokens"};
        mf_error_clear(&err);
        MF_AUTO(mf_auth) struct mf_auth *auth = mf_auth_new(t.l.config, &err);
        assert_non_null(auth);
        assert_string_equal(mf_auth_token_url(auth), "https://here/token");
        if (i < 2) {
            snprintf(path, sizeof path, "%s/%s", t.l.f.directory, kept[i]);
            assert_int_equal(mkdir(path, 0700), 0);
        }
        no_thread = i == 2;
        assert_false(mf_auth_start(auth, &err));
        no_thread = false;
        assert_int_equal(err.code, i < 2 ? MF_ERR_IO : MF_ERR_NO_MEMORY);
        if (i < 2)
            assert_int_equal(rmdir(path), 0);
    }
    mf_error_clear(&err);
    scarce_after(0, false);
    assert_null(mf_auth_new(t.l.config, &err));
    (void)scarce_end();
    assert_error(&err, MF_ERR_NO_MEMORY, "out of memory for authentication");
    auth_end(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_issuers_token_makes_its_tenants_principal),
        cmocka_unit_test(a_token_is_refused_for_what_is_wrong_with_it),
        cmocka_unit_test(a_key_set_that_breaks_stays_as_it_was),
        cmocka_unit_test(tokens_that_share_a_slot_stay_apart),
        cmocka_unit_test(keys_are_read_anew_when_their_file_changes),
        cmocka_unit_test(a_credential_of_no_known_kind_is_nobodys),
        cmocka_unit_test(what_is_wrong_is_said_when_it_is_opened),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
