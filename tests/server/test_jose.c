/* server/jose.c: which key sets are read, and whatever is wrong with a token, without a signature.
 */
#include "tests/expect.h"
#include "tests/scarce.h"

#include "server/jose.h"

#include "core/buffer.h"

#include <cjose/cjose.h>

/* A point of P-384 and a modulus of 1,024 bits, nobody's. */
#define POINT                                                                                      \
    "\"x\":\"C-PBaLdDGLJLnA2Vdv74gIZHOblWeA5NV5pK3L2ulosPXXlYsSWFOclxetTQ7Nqj\","                  \
    "\"y\":\"dqepqLs0peLzyKmhUDaOjf1rr_b7r5e6nQDkgPUsFoUyt41Ys82csJSx4Rb00cOh\""
#define SMALL                                                                                      \
    "\"n\":\"vm3m__Sw_"                                                                            \
    "jhG0D0BTkvxUytwBFZnVGzfLKwScdKW42ooeL7gAvae0Uyoy5K5nAcpBDW0isNY3NyrbJhsxVj2oJ"                \
    "x74Da7isOC80kyO3gmH2LMJJo_O9nr76KL5LabwdcdwKpa1PGxNdTgCBYRq-Nz97TkZNBPJ5GXhwN3QhRSy4E\","     \
    "\"e\":\"AQAB\""
#define EC(members) "{\"kty\":\"EC\",\"crv\":\"P-384\"," members POINT "}"

static const char *const TYPES[] = {"JWT", "at+jwt", NULL};

static struct mf_jwk_set *parse(const char *text, struct mf_error *err)
{
    *err = (struct mf_error)MF_ERROR_INIT;
    return mf_jwk_set_parse(text, strlen(text), "trust.json", err);
}

static void only_keys_that_fit_are_kept(void **state)
{
    (void)state;
    struct mf_error err;
    MF_AUTO(mf_jwk_set)
    struct mf_jwk_set *set =
        parse("{\"keys\":[" EC("\"kid\":\"a\",") "," EC("") "," EC(
                  "\"kid\":\"b\",\"use\":"
                  "\"enc\",") "," EC("\"kid\":\"c\",\"alg\":\"ES256\",") ","
                                                                         "{\"kty\":\"EC\",\"crv\":"
                                                                         "\"P-256\",\"kid\":"
                                                                         "\"d\"},{\"kty\":\"OKP\","
                                                                         "\"kid\":\"e\"},"
                                                                         "{\"kty\":\"RSA\",\"kid\":"
                                                                         "\"small\"," SMALL "}]}",
              &err);
    assert_no_error(&err);
    assert_non_null(set);
    assert_int_equal(mf_jwk_set_count(set), 1);
    assert_true(mf_jwk_set_has(set, "a"));
    assert_false(mf_jwk_set_has(set, "small") || mf_jwk_set_has(set, "b"));
}

static void a_key_of_enough_bits_is_kept(void **state)
{
    (void)state;
    static const uint8_t exponent[] = {1, 0, 1};
    cjose_err detail;
    struct mf_error err;
    char text[2048];
    cjose_jwk_t *key = cjose_jwk_create_RSA_random(2048, exponent, sizeof exponent, &detail);
    assert_non_null(key);
    assert_true(cjose_jwk_set_kid(key, "r", 1, &detail));
    char *public = cjose_jwk_to_json(key, false, &detail);
    snprintf(text, sizeof text, "{\"keys\":[%s]}", public);
    MF_AUTO(mf_jwk_set) struct mf_jwk_set *set = parse(text, &err);
    assert_no_error(&err);
    assert_true(mf_jwk_set_has(set, "r"));
    cjose_get_dealloc()(public);
    cjose_jwk_release(key);
}

static void a_bad_set_is_refused_by_its_name(void **state)
{
    (void)state;
    static const struct {
        const char *text, *said;
    } cases[] = {
        {"[]", "trust.json is no JWK set"},
        {"{\"keys\":1}", "trust.json is no JWK set"},
        {"{", "trust.json is no JWK set"},
        {"{\"keys\":[" EC("\"kid\":\"a\",") "," EC("\"kid\":\"a\",") "]}",
         "two keys have the same kid"},
        {"{\"keys\":[" EC("\"kid\":\"a\",\"d\":\"AA\",") "]}", "holds a private or secret key"},
        {"{\"keys\":[{\"kty\":\"oct\",\"k\":\"AA\"}]}", "holds a private or secret key"},
        {"{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-384\",\"kid\":\"a\",\"x\":\"AA\",\"y\":\"AA\"}]}",
         "a key cannot be read"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct mf_error err;
        assert_null(parse(cases[i].text, &err));
        assert_int_equal(err.code, MF_ERR_USAGE);
        if (!strstr(err.msg, cases[i].said))
            fail_msg("%s: %s", cases[i].text, err.msg);
    }
}

static void a_set_has_so_many_keys(void **state)
{
    (void)state;
    struct mf_error err;
    MF_AUTO(mf_buffer) struct mf_buffer text;
    mf_buffer_init(&text, MF_JWK_SET_BYTES);
    for (int keys = MF_JWK_SET_KEYS; keys <= MF_JWK_SET_KEYS + 1; keys++) {
        text.len = 0;
        bool made = mf_buffer_printf(&text, NULL, "{\"keys\":[");
        for (int i = 0; i < keys; i++)
            made =
                made && mf_buffer_printf(&text, NULL, "%s" EC("\"kid\":\"k%d\","), i ? "," : "", i);
        assert_true(made && mf_buffer_printf(&text, NULL, "]}"));
        MF_AUTO(mf_jwk_set) struct mf_jwk_set *set = parse(text.data, &err);
        assert_int_equal(set != NULL, keys == MF_JWK_SET_KEYS);
        if (!set)
            assert_non_null(strstr(err.msg, "more than 64 keys"));
    }
}

/* A token of this header, no claims and a signature that is none. */
static const char *token(const char *header)
{
    static char text[4096];
    char *head = mf_base64url(header, strlen(header));
    assert_non_null(head);
    snprintf(text, sizeof text, "%s.e30.AAAA", head);
    free(head);
    return text;
}

static void a_token_needs_a_known_key_and_its_algorithm(void **state)
{
    (void)state;
    static const struct {
        const char *header, *said;
    } cases[] = {
        {"{\"alg\":\"ES384\",\"kid\":\"b\",\"typ\":\"JWT\"}", "a key that is not known"},
        {"{\"alg\":\"RS384\",\"kid\":\"a\",\"typ\":\"JWT\"}",
         "another algorithm than its key is for"},
        {"{\"alg\":\"ES384\",\"kid\":\"a\",\"typ\":\"jwt\"}", "a wrong signature"},
    };
    struct mf_error err;
    MF_AUTO(mf_jwk_set)
    struct mf_jwk_set *set = parse("{\"keys\":[" EC("\"kid\":\"a\",") "]}", &err);
    assert_no_error(&err);
    assert_non_null(set);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        MF_AUTO(mf_jwt) struct mf_jwt jwt;
        err = (struct mf_error)MF_ERROR_INIT;
        assert_true(mf_jwt_open(token(cases[i].header), TYPES, &jwt, &err));
        assert_false(mf_jwt_verify(&jwt, set, &err));
        assert_int_equal(err.code, MF_ERR_UNAUTHORIZED);
        if (!strstr(err.msg, cases[i].said))
            fail_msg("%s: %s", cases[i].header, err.msg);
    }
}

static void base64url_is_strict(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "A", "AAAAA", "AA=", "A+A", "A/A", "A A"};
    size_t n = 0;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_null(mf_base64url_decode(bad[i], strlen(bad[i]), &n));
    assert_null(mf_base64url_decode("AA\0A", 4, &n));
    unsigned char *bytes = mf_base64url_decode("_-8", 3, &n);
    assert_non_null(bytes);
    assert_int_equal(n, 2);
    assert_memory_equal(bytes, "\xff\xef", 2);
    free(bytes);
}

static void what_is_no_token_is_malformed(void **state)
{
    (void)state;
    char long_one[MF_JWT_BYTES + 64];
    memset(long_one, 'e', sizeof long_one);
    memcpy(long_one, "e30.e30.", 8);
    long_one[sizeof long_one - 1] = '\0';
    const char *const bad[] = {
        "",
        "e30",
        "e30.e30",
        "e30.e30.AAAA.AAAA",
        "e3.e30.AAAA",  /* no JSON */
        "W10.e30.AAAA", /* an array */
        "e30.W10.AAAA",
        "!!!.e30.AAAA",
        "e30..AAAA",
        long_one,
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        MF_AUTO(mf_jwt) struct mf_jwt jwt;
        struct mf_error err = MF_ERROR_INIT;
        assert_false(mf_jwt_open(bad[i], TYPES, &jwt, &err));
        assert_error(&err, MF_ERR_UNAUTHORIZED, "the token is malformed");
    }
}

static void a_header_says_what_we_know(void **state)
{
    (void)state;
    static const struct {
        const char *header, *said;
    } cases[] = {
        {"{}", "is not signed with RS384 or ES384"},
        {"{\"alg\":\"none\",\"kid\":\"a\",\"typ\":\"JWT\"}", "is not signed with RS384 or ES384"},
        {"{\"alg\":\"HS256\",\"kid\":\"a\",\"typ\":\"JWT\"}", "is not signed with RS384 or ES384"},
        {"{\"alg\":\"ES384\",\"typ\":\"JWT\"}", "names no key (kid)"},
        {"{\"alg\":\"RS384\",\"kid\":\"a\",\"typ\":\"JWT\",\"crit\":[\"x\"]}",
         "has an extension that is not known"},
        {"{\"alg\":\"RS384\",\"kid\":\"a\",\"typ\":\"JWT\",\"b64\":false}",
         "has an extension that is not known"},
        {"{\"alg\":\"RS384\",\"kid\":\"a\"}", "is of another type (typ)"},
        {"{\"alg\":\"RS384\",\"kid\":\"a\",\"typ\":\"secevent+jwt\"}", "is of another type (typ)"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        MF_AUTO(mf_jwt) struct mf_jwt jwt;
        char expected[128];
        struct mf_error err = MF_ERROR_INIT;
        assert_false(mf_jwt_open(token(cases[i].header), TYPES, &jwt, &err));
        snprintf(expected, sizeof expected, "the token %s", cases[i].said);
        assert_error(&err, MF_ERR_UNAUTHORIZED, expected);
    }
}

static void times_are_those_of_now(void **state)
{
    (void)state;
    static const struct {
        const char *claims, *said; /* at 1,000,000; NULL: good */
    } cases[] = {
        {"{\"exp\":1000100}", NULL},
        {"{\"exp\":999941}", NULL}, /* clocks may differ by a minute */
        {"{\"exp\":999940}", "has expired"},
        {"{\"exp\":1000360}", NULL},
        {"{\"exp\":1000361}", "is valid for too long"},
        {"{}", "has no valid times (exp)"},
        {"{\"exp\":\"soon\"}", "has no valid times (exp)"},
        {"{\"exp\":0}", "has no valid times (exp)"},
        {"{\"exp\":1e12}", "has no valid times (exp)"},
        {"{\"exp\":1000100,\"nbf\":true}", "has no valid times (exp)"},
        {"{\"exp\":1000100,\"iat\":-1}", "has no valid times (exp)"},
        {"{\"exp\":1000100,\"nbf\":1000060,\"iat\":1000060}", NULL},
        {"{\"exp\":1000100,\"nbf\":1000061}", "is not valid yet"},
        {"{\"exp\":1000100,\"nbf\":1000000,\"iat\":1000061}", "is not valid yet"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        MF_AUTO(mf_json) json_t *claims = json_of(cases[i].claims);
        const struct mf_jwt jwt = {.claims = claims};
        char expected[128] = "";
        struct mf_error err = MF_ERROR_INIT;
        if (cases[i].said)
            snprintf(expected, sizeof expected, "the token %s", cases[i].said);
        assert_int_equal(mf_jwt_in_time(&jwt, 1000000, 300, &err), cases[i].said == NULL);
        assert_string_equal(err.msg, expected);
    }
}

static void an_audience_is_one_or_several(void **state)
{
    (void)state;
    static const struct {
        const char *claims;
        bool ours;
    } cases[] = {
        {"{\"aud\":\"us\"}", true},
        {"{\"aud\":\"them\"}", false},
        {"{\"aud\":[\"them\",\"us\"]}", true},
        {"{\"aud\":[\"them\",7]}", false},
        {"{\"aud\":[]}", false},
        {"{}", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        MF_AUTO(mf_json) json_t *claims = json_of(cases[i].claims);
        const struct mf_jwt jwt = {.claims = claims};
        assert_int_equal(mf_jwt_for_audience(&jwt, "us"), cases[i].ours);
    }
}

/* --- memory --- */

/* Each allocation of ours, jansson and cjose fails in turn; returns how many there were. */
static long fail_each(bool (*attempt)(void))
{
    json_set_alloc_funcs(__wrap_malloc, free);
    cjose_set_alloc_funcs(__wrap_malloc, realloc, free);
    for (long at = 0;; at++) {
        scarce_after(at, false);
        bool done = attempt();
        if (!scarce_end()) {
            assert_true(done);
            json_set_alloc_funcs(malloc, free);
            cjose_set_alloc_funcs(NULL, NULL, NULL);
            return at;
        }
    }
}

static bool read_set(void)
{
    struct mf_error err;
    MF_AUTO(mf_jwk_set)
    struct mf_jwk_set *set =
        parse("{\"keys\":[" EC("\"kid\":\"a\",") "," EC("\"kid\":\"b\",") "]}", &err);
    assert_int_equal(set == NULL, err.code != MF_OK);
    assert_true(!set || mf_jwk_set_count(set) == 2);
    return set != NULL;
}

static bool encode(void)
{
    MF_AUTO(mf_mem) char *text = mf_base64url("abc", 3);
    assert_true(!text || strcmp(text, "YWJj") == 0);
    return text != NULL;
}

static bool decode(void)
{
    size_t n = 0;
    MF_AUTO(mf_mem) unsigned char *bytes = mf_base64url_decode("YWJj", 4, &n);
    assert_true(!bytes || (n == 3 && memcmp(bytes, "abc", 4) == 0));
    return bytes != NULL;
}

static void without_memory_there_is_no_key_and_no_text(void **state)
{
    (void)state;
    assert_true(fail_each(read_set) > 10);
    assert_true(fail_each(encode) >= 1);
    assert_true(fail_each(decode) >= 2);
    mf_jwk_set_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_keys_that_fit_are_kept),
        cmocka_unit_test(a_key_of_enough_bits_is_kept),
        cmocka_unit_test(a_bad_set_is_refused_by_its_name),
        cmocka_unit_test(a_set_has_so_many_keys),
        cmocka_unit_test(a_token_needs_a_known_key_and_its_algorithm),
        cmocka_unit_test(base64url_is_strict),
        cmocka_unit_test(what_is_no_token_is_malformed),
        cmocka_unit_test(a_header_says_what_we_know),
        cmocka_unit_test(times_are_those_of_now),
        cmocka_unit_test(an_audience_is_one_or_several),
        cmocka_unit_test(without_memory_there_is_no_key_and_no_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
