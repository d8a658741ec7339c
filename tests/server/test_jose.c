/* server/jose.c: which key sets are read, and whatever is wrong with a token, without a signature.
 */
#include "tests/expect.h"

#include "server/jose.h"

#include "core/buffer.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_keys_that_fit_are_kept),
        cmocka_unit_test(a_bad_set_is_refused_by_its_name),
        cmocka_unit_test(a_set_has_so_many_keys),
        cmocka_unit_test(a_token_needs_a_known_key_and_its_algorithm),
        cmocka_unit_test(base64url_is_strict),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
