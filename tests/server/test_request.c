/* server/request.c: targets, queries and framing fields, and their limits. */
#include "server/request.h"

#include "tests/expect.h"

static bool target(const char *text, struct mf_request **ret, struct mf_error *err)
{
    *err = (struct mf_error)MF_ERROR_INIT;
    *ret = mf_request_new(NULL, NULL);
    assert_non_null(*ret);
    return mf_request_set_target(*ret, text, err);
}

static void a_target_is_a_path_and_a_query(void **state)
{
    (void)state;
    struct mf_error err;
    struct mf_request *r;
    assert_true(target("/a/.../..b?x=1&&y=a+b%2B%c3%A4&=z&flag", &r, &err));
    assert_string_equal(r->path, "/a/.../..b");
    assert_int_equal(r->query_count, 3);
    assert_string_equal(mf_request_query(r, "x"), "1");
    assert_string_equal(mf_request_query(r, "y"), "a b+ä");
    assert_string_equal(mf_request_query(r, "flag"), "");
    assert_null(mf_request_query(r, "z"));
    mf_request_free(r);
}

static void a_target_that_is_none_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *target, *said;
    } cases[] = {
        {"a", "the request target must begin with '/'"},
        {"", "the request target must begin with '/'"},
        {"/a/../b", "the request target has a segment \".\" or \"..\""},
        {"/.", "the request target has a segment \".\" or \"..\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct mf_error err;
        struct mf_request *r;
        assert_false(target(cases[i].target, &r, &err));
        assert_error(&err, MF_ERR_MALFORMED, cases[i].said);
        mf_request_free(r);
    }
    static const char *const escapes[] = {"/%",     "/%4",   "/%4g",  "/%g4",    "/%00", "/%4G",
                                          "/a\x01", "/\x7f", "/?a=%", "/?%zz=1", "/%`0", "/%:0"};
    for (size_t i = 0; i < sizeof escapes / sizeof *escapes; i++) {
        struct mf_error err;
        struct mf_request *r;
        assert_false(target(escapes[i], &r, &err));
        assert_int_equal(err.code, MF_ERR_MALFORMED);
        mf_request_free(r);
    }
}

static void a_target_has_its_limits(void **state)
{
    (void)state;
    char text[MF_REQUEST_TARGET + 2] = "/?", *at = text + 2;
    struct mf_error err;
    struct mf_request *r;
    for (int i = 0; i < MF_REQUEST_FIELDS; i++, at += 4)
        memcpy(at, "&a=1", 5);
    assert_true(target(text, &r, &err));
    assert_int_equal(r->query_count, MF_REQUEST_FIELDS);
    mf_request_free(r);
    memcpy(at, "&a=1", 5);
    assert_false(target(text, &r, &err));
    assert_error(&err, MF_ERR_MALFORMED, "the query has more than 100 parameters");
    mf_request_free(r);
    memset(text, 'a', sizeof text);
    text[0] = '/';
    text[MF_REQUEST_TARGET] = '\0';
    assert_true(target(text, &r, &err));
    mf_request_free(r);
    text[MF_REQUEST_TARGET] = 'a';
    text[MF_REQUEST_TARGET + 1] = '\0';
    assert_false(target(text, &r, &err));
    assert_error(&err, MF_ERR_TOO_LARGE, "the request target is longer than 2048 bytes");
    mf_request_free(r);
}

static void framing_is_strict(void **state)
{
    (void)state;
    static const struct {
        const char *fields[4]; /* name, value, … */
        enum mf_code code;
        const char *said;
    } cases[] = {
        {{"Content-Length", "12"}, MF_OK, ""},
        {{"Content-Length", ""}, MF_ERR_MALFORMED, "Content-Length is not a number"},
        {{"Content-Length", "1x"}, MF_ERR_MALFORMED, "Content-Length is not a number"},
        {{"Content-Length", "-1"}, MF_ERR_MALFORMED, "Content-Length is not a number"},
        {{"Content-Length", "99999999999999999999"},
         MF_ERR_MALFORMED,
         "Content-Length is not a number"},
        {{"Content-Length", "1", "content-length", "1"},
         MF_ERR_MALFORMED,
         "Content-Length is given more than once"},
        {{"Content-Length", "1", "Transfer-Encoding", "chunked"},
         MF_ERR_MALFORMED,
         "Content-Length and Transfer-Encoding exclude each other"},
        {{"Transfer-Encoding", "Chunked"}, MF_OK, ""},
        {{"Transfer-Encoding", "gzip, chunked"},
         MF_ERR_MALFORMED,
         "Transfer-Encoding must be chunked"},
        {{"Content-Encoding", ""}, MF_OK, ""},
        {{"Content-Encoding", "Identity"}, MF_OK, ""},
        {{"Content-Encoding", "gzip"}, MF_ERR_UNSUPPORTED, "Content-Encoding is not supported"},
        {{"Host", "a", "Host", "b"}, MF_ERR_MALFORMED, "Host is given more than once"},
        {{"X-API-Key", NULL}, MF_OK, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct mf_error err = MF_ERROR_INIT;
        MF_AUTO(mf_request) struct mf_request *r = mf_request_new(NULL, NULL);
        for (int k = 0; k < 4 && cases[i].fields[k]; k += 2)
            assert_true(mf_request_add_header(r, cases[i].fields[k], cases[i].fields[k + 1], &err));
        assert_int_equal(mf_request_check_headers(r, &err), cases[i].code == MF_OK);
        assert_error(&err, cases[i].code, cases[i].said);
    }
}

static void so_many_fields_and_no_more(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_request) struct mf_request *r = mf_request_new(NULL, NULL);
    for (int i = 0; i < MF_REQUEST_FIELDS; i++)
        assert_true(mf_request_add_header(r, "X", "y", &err));
    assert_false(mf_request_add_header(r, "X", "y", &err));
    assert_error(&err, MF_ERR_HEADERS, "more than 100 header fields");
    assert_int_equal(mf_request_header_count(r, "x"), MF_REQUEST_FIELDS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_target_is_a_path_and_a_query),
        cmocka_unit_test(a_target_that_is_none_is_refused),
        cmocka_unit_test(a_target_has_its_limits),
        cmocka_unit_test(framing_is_strict),
        cmocka_unit_test(so_many_fields_and_no_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
