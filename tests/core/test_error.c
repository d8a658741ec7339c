/* core/error.c: the first error wins, messages are cut at UTF-8 boundaries, one table of codes. */
#include "tests/expect.h"

static void first_error_wins(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    assert_false(mf_error_set(&err, MF_ERR_MALFORMED, "part %d is bad", 3));
    assert_false(mf_error_set(&err, MF_ERR_IO, "cleaning up failed too"));
    assert_error(&err, MF_ERR_MALFORMED, "part 3 is bad");
}

static void null_error_is_accepted(void **state)
{
    (void)state;
    assert_false(mf_error_set(NULL, MF_ERR_IO, "nobody listens"));
    assert_false(mf_error_prefix(NULL, "x"));
    mf_error_clear(NULL);
}

static void ok_as_a_failure_becomes_internal(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    mf_error_set(&err, MF_OK, "a caller's mistake");
    assert_error(&err, MF_ERR_INTERNAL, "a caller's mistake");
}

static void prefix_names_the_input(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    assert_false(mf_error_prefix(&err, "unused"));
    assert_no_error(&err);
    mf_error_set(&err, MF_ERR_MALFORMED, "truncated");
    assert_false(mf_error_prefix(&err, "part %d", 2));
    assert_false(mf_error_prefix(&err, "upload"));
    assert_error(&err, MF_ERR_MALFORMED, "upload: part 2: truncated");
}

static void clear_makes_room_for_the_next(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    mf_error_set(&err, MF_ERR_IO, "one");
    mf_error_clear(&err);
    assert_no_error(&err);
    mf_error_set(&err, MF_ERR_BUSY, "two");
    assert_error(&err, MF_ERR_BUSY, "two");
}

/* A message of `n` ASCII bytes and then 2-, 3- and 4-byte characters is valid UTF-8 wherever it is
 * cut. */
static void cut_messages_stay_utf8(void **state)
{
    (void)state;
    static const char *const CHARACTERS[] = {"\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\xA9\xBB"};
    for (size_t c = 0; c < 3; c++)
        for (int n = 240; n < 260; n++) {
            char text[600];
            int len = snprintf(text, sizeof text, "%*s", n, "");
            for (int i = 0; i < 20; i++)
                len += snprintf(text + len, sizeof text - (size_t)len, "%s", CHARACTERS[c]);
            struct mf_error err = MF_ERROR_INIT;
            mf_error_set(&err, MF_ERR_IO, "%s", text);
            json_t *valid = json_string(err.msg); /* refuses what is not UTF-8 */
            assert_non_null(valid);
            json_decref(valid);
            assert_true(strlen(err.msg) >= sizeof err.msg - 5);
            mf_error_prefix(&err, "%s", "input");
            valid = json_string(err.msg);
            assert_non_null(valid);
            json_decref(valid);
            assert_memory_equal(err.msg, "input: ", 7);
        }
}

static void prefix_longer_than_the_buffer(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    char longer[400];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    mf_error_set(&err, MF_ERR_IO, "reason");
    mf_error_prefix(&err, "%s", longer);
    assert_int_equal(strlen(err.msg), sizeof err.msg - 1);
    assert_int_equal(err.code, MF_ERR_IO);
}

static void every_code_has_a_complete_row(void **state)
{
    (void)state;
    for (int i = 0; i < MF_CODE_COUNT; i++) {
        enum mf_code code = (enum mf_code)i;
        assert_non_null(mf_code_name(code));
        assert_true(strlen(mf_code_title(code)) > 0);
        assert_true(strlen(mf_code_fhir_issue(code)) > 0);
        assert_in_range(mf_code_http_status(code), 200, 599);
        assert_int_equal(mf_code_from_name(mf_code_name(code)), code);
        for (int k = 0; k < i; k++)
            assert_string_not_equal(mf_code_name(code), mf_code_name((enum mf_code)k));
    }
}

static void codes_of_the_contract(void **state)
{
    (void)state;
    static const struct {
        enum mf_code code;
        int status;
        const char *issue;
    } ROWS[] = {
        {MF_ERR_MALFORMED, 400, "structure"},
        {MF_ERR_TOO_LARGE, 413, "too-costly"},
        {MF_ERR_UNSUPPORTED, 415, "not-supported"},
        {MF_ERR_UNUSABLE, 422, "business-rule"},
        {MF_ERR_CONFLICT, 409, "conflict"},
        {MF_ERR_GONE, 410, "deleted"},
        {MF_ERR_BUSY, 429, "throttled"},
        {MF_ERR_UNAVAILABLE, 503, "transient"},
        {MF_ERR_IO, 503, "no-store"},
        {MF_ERR_INTERNAL, 500, "exception"},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        assert_int_equal(mf_code_http_status(ROWS[i].code), ROWS[i].status);
        assert_string_equal(mf_code_fhir_issue(ROWS[i].code), ROWS[i].issue);
    }
}

static void unknown_codes_are_internal(void **state)
{
    (void)state;
    assert_int_equal(mf_code_http_status((enum mf_code)999), 500);
    assert_string_equal(mf_code_name((enum mf_code) - 1), "internal");
    assert_int_equal(mf_code_from_name("no such name"), MF_ERR_INTERNAL);
    assert_int_equal(mf_code_from_name(NULL), MF_ERR_INTERNAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_error_wins),
        cmocka_unit_test(null_error_is_accepted),
        cmocka_unit_test(ok_as_a_failure_becomes_internal),
        cmocka_unit_test(prefix_names_the_input),
        cmocka_unit_test(clear_makes_room_for_the_next),
        cmocka_unit_test(cut_messages_stay_utf8),
        cmocka_unit_test(prefix_longer_than_the_buffer),
        cmocka_unit_test(every_code_has_a_complete_row),
        cmocka_unit_test(codes_of_the_contract),
        cmocka_unit_test(unknown_codes_are_internal),
    };
    return cmocka_run_group_tests_name("core/error", tests, NULL, NULL);
}
