/* server/negotiate.c and the fields of server/request.c that are lists: Accept, Content-Type,
 * Prefer. */
#include "server/negotiate.h"
#include "server/request.h"

#include "tests/expect.h"

static const char *const OFFERS[] = {"application/json", "application/fhir+json", "text/plain"};

static void accept_is_understood(void **state)
{
    (void)state;
    static const struct {
        const char *accept;
        int offer;
    } cases[] = {
        {NULL, 0},
        {"", 0},
        {"*/*", 0},
        {"application/json", 0},
        {"APPLICATION/FHIR+JSON", 1},
        {"application/fhir+json; fhirVersion=4.0", 1},
        {"text/*", 2},
        {"text/plain", 2},
        {"text/html, text/plain;q=0.9, */*;q=0.1", 2},
        {"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", 0},
        {"application/json;q=0.2, application/fhir+json;q=0.7", 1},
        {"application/json;q=0, */*", 1},
        {"application/*;q=0.5, application/json;q=0.1", 1},
        {"text/plain;q=0.001", 2},
        {"text/plain;q=2", -1},
        {"text/plain;q=0", -1},
        {"image/png", -1},
        {"application/jso", -1},
        {"json", -1},
        {"*/*;q=0", -1},
        {", ,application/json", 0},
        {"text/plain;Q=0.5", 2},
        {"text/plain ; charset=utf-8 ; q=0.5 ", 2},
        {"text/plain;qq=0", 2},
        {"text/plain;q", 2},
        {"text/plain;q=", -1},
        {"text/plain;q=0.1234", -1},
        {"text/plain;q=1x", -1},
        {"text/plain;q=0./", -1},
        {"text/plain;q=0.:", -1},
        {"text/plain;q=1.001", -1},
        {"text/plain;q=1.000", 2},
        {"text/p", -1},
        {"abcd/*", -1},
        {"a/b", -1},
        {";q=1", -1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (mf_negotiate(cases[i].accept, OFFERS, 3) != cases[i].offer)
            fail_msg("Accept: %s", cases[i].accept);
}

static void media_types_are_compared_without_parameters(void **state)
{
    (void)state;
    assert_true(mf_media_type_is("multipart/form-data; boundary=x", "multipart/form-data"));
    assert_true(mf_media_type_is(" Application/ZIP", "application/zip"));
    assert_false(mf_media_type_is("application/zip2", "application/zip"));
    assert_false(mf_media_type_is(NULL, "application/zip"));
    assert_false(mf_media_type_is("application/zap", "application/zip"));
    assert_int_equal(mf_negotiate(NULL, OFFERS, 0), -1); /* nothing is offered */
}

static void prefer_wait_is_read_and_capped(void **state)
{
    (void)state;
    static const struct {
        const char *prefer;
        int seconds;
    } cases[] = {
        {"wait=10", 10},       {"wait=60", 60},
        {"wait=61", 60},       {"wait=99999999999", 60},
        {"WAIT = 5", 5},       {"respond-async, wait=7", 7},
        {"wait=\"8\"", 8},     {"wait=0", 0},
        {"wait=-1", 0},        {"wait=x", 0},
        {"wait", 0},           {"waiting=3", 0},
        {"return=minimal", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        MF_AUTO(mf_request) struct mf_request *r = mf_request_new(NULL, NULL);
        assert_int_equal(mf_request_wait_seconds(r), 0);
        assert_true(mf_request_add_header(r, "prefer", cases[i].prefer, NULL));
        if (mf_request_wait_seconds(r) != cases[i].seconds)
            fail_msg("Prefer: %s", cases[i].prefer);
    }
}

static void targets_are_split_and_judged(void **state)
{
    (void)state;
    MF_AUTO(mf_request) struct mf_request *r = mf_request_new(NULL, NULL);
    assert_true(mf_request_set_target(r, "/v1/jobs?a=b%20c&d&e=f+g&=h", NULL));
    assert_string_equal(r->path, "/v1/jobs");
    assert_int_equal(r->query_count, 3);
    assert_string_equal(mf_request_query(r, "a"), "b c");
    assert_string_equal(mf_request_query(r, "d"), "");
    assert_string_equal(mf_request_query(r, "e"), "f g");
    static const char *const bad[] = {"",    "v1",      "/%",   "/%0",      "/%00",     "/a%1f",
                                      "/..", "/a/../b", "/./a", "/a?x=%00", "/a?%zz=1", "/\x7f"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        MF_AUTO(mf_request) struct mf_request *b = mf_request_new(NULL, NULL);
        struct mf_error err = MF_ERROR_INIT;
        if (mf_request_set_target(b, bad[i], &err) || err.code != MF_ERR_MALFORMED)
            fail_msg("target %s", bad[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accept_is_understood),
        cmocka_unit_test(media_types_are_compared_without_parameters),
        cmocka_unit_test(prefer_wait_is_read_and_capped),
        cmocka_unit_test(targets_are_split_and_judged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
