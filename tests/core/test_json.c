/* core/json.c: limits on untrusted text, exact numbers, typed members. */
#include "core/json.h"

#include <math.h>
#include <unistd.h>

#include "tests/expect.h"

static json_t *parse(const char *text, const struct mf_json_limits *limits, struct mf_error *err)
{
    return mf_json_parse(text, strlen(text), limits, "input", err);
}

static void values_of_every_type(void **state)
{
    (void)state;
    static const char *const TEXTS[] = {
        "{\"a\":[1,2.5,true,null,\"x\"]}", "[]", "{}", "\"s\"", "-0.5", "true", "null",
        "{\"b\":{\"a\":1},\"a\":2}"};
    for (size_t i = 0; i < sizeof TEXTS / sizeof *TEXTS; i++) {
        MF_AUTO(mf_json) json_t *v = parse(TEXTS[i], NULL, NULL);
        assert_non_null(v);
        MF_AUTO(mf_mem) char *text = mf_json_text(v, 0);
        assert_string_equal(text, TEXTS[i]);
    }
}

static void malformed_text_names_the_place_only(void **state)
{
    (void)state;
    static const struct {
        const char *text, *msg;
    } ROWS[] = {
        {"", "input: not valid JSON (line 1, column 0)"},
        {"{", "input: not valid JSON (line 1, column 1)"},
        {"{\"Miller\": secret}", "input: not valid JSON (line 1, column 17)"},
        {"[1,\n 2,]", "input: not valid JSON (line 2, column 4)"},
        {"{} {}", "input: not valid JSON (line 1, column 4)"},
        {"[1e999]", "input: not valid JSON (line 1, column 6)"},
        {"\"\\u0000\"", "input: not valid JSON (line 1, column 8)"},
        {"'a'", "input: not valid JSON (line 1, column 1)"},
        {"{\"name\": 1, \"name\": 2}",
         "input: a JSON object has the same key twice (line 1, column 18)"},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        struct mf_error err = MF_ERROR_INIT;
        assert_null(parse(ROWS[i].text, NULL, &err));
        assert_error(&err, MF_ERR_MALFORMED, ROWS[i].msg);
    }
}

static void invalid_utf8_and_nul_bytes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t len;
    } BAD[] = {{"\"\xff\"", 3}, {"\"\xC3\"", 3}, {"\"\xED\xA0\x80\"", 5}, {"[1]\0", 4}, {"\0", 1}};
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        struct mf_error err = MF_ERROR_INIT;
        assert_null(mf_json_parse(BAD[i].text, BAD[i].len, NULL, "input", &err));
        assert_int_equal(err.code, MF_ERR_MALFORMED);
    }
}

static void size_limit(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    const struct mf_json_limits limits = {.max_bytes = 4};
    MF_AUTO(mf_json) json_t *v = parse("[11]", &limits, &err);
    assert_non_null(v);
    assert_null(parse("[111]", &limits, &err));
    assert_error(&err, MF_ERR_TOO_LARGE, "input: 5 bytes of JSON, at most 4 are accepted");
}

/* `depth` arrays inside each other, with brackets in strings that do not count. */
static char *nested(int depth)
{
    char *text = malloc((size_t)depth * 2 + 32);
    memset(text, '[', (size_t)depth);
    size_t n = (size_t)depth;
    n += (size_t)snprintf(text + n, 32, "%s", "\"[[[{\\\"[\"");
    memset(text + n, ']', (size_t)depth);
    text[n + (size_t)depth] = '\0';
    return text;
}

static void depth_limit(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_mem) char *fits = nested(64);
    MF_AUTO(mf_mem) char *deeper = nested(65);
    MF_AUTO(mf_mem) char *absurd = nested(1000000);
    MF_AUTO(mf_json) json_t *v = parse(fits, NULL, &err);
    assert_non_null(v);
    assert_null(parse(deeper, NULL, &err));
    assert_error(&err, MF_ERR_MALFORMED, "input: JSON is nested deeper than 64 levels");
    mf_error_clear(&err);
    assert_null(parse(absurd, NULL, &err));
    assert_error(&err, MF_ERR_MALFORMED, "input: JSON is nested deeper than 64 levels");
    mf_error_clear(&err);
    const struct mf_json_limits limits = {.max_depth = 2};
    assert_null(parse("[[[]]]", &limits, &err));
    assert_error(&err, MF_ERR_MALFORMED, "input: JSON is nested deeper than 2 levels");
}

static void files(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    char path[] = "/tmp/mf_test_XXXXXX";
    MF_AUTO(mf_fd) int fd = mkstemp(path);
    assert_int_equal(write(fd, "{\"a\": 1}", 8), 8);
    MF_AUTO(mf_json) json_t *v = mf_json_read_file(path, NULL, &err);
    assert_int_equal(mf_json_get_int(v, "a", 0), 1);
    unlink(path);
    assert_null(mf_json_read_file(path, NULL, &err));
    assert_int_equal(err.code, MF_ERR_NOT_FOUND);
}

static void numbers_keep_float32(void **state)
{
    (void)state;
    static const float VALUES[] = {0.1f, 1.0f / 3, 3.4028235e38f, 1.17549435e-38f, 16777217.0f};
    for (size_t i = 0; i < sizeof VALUES / sizeof *VALUES; i++) {
        MF_AUTO(mf_json) json_t *v = json_real(VALUES[i]);
        MF_AUTO(mf_mem) char *text = mf_json_text(v, 0);
        MF_AUTO(mf_json) json_t *back = parse(text, NULL, NULL);
        assert_true((float)json_number_value(back) == VALUES[i]);
    }
    MF_AUTO(mf_json) json_t *tenth = json_real(0.1);
    MF_AUTO(mf_mem) char *text = mf_json_text(tenth, 0);
    assert_string_equal(text, "0.1");
}

/* What jansson itself writes for a value. */
static void assert_as_jansson(const json_t *value)
{
    MF_AUTO(mf_mem) char *ours = mf_json_text(value, 0);
    MF_AUTO(mf_mem)
    char *theirs = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(9));
    assert_string_equal(ours, theirs);
}

static void assert_real_as_jansson(double number)
{
    MF_AUTO(mf_json) json_t *value = json_real(number);
    assert_as_jansson(value);
}

static void text_is_the_text_of_jansson(void **state)
{
    (void)state;
    static const double edges[] = {0.0,           -0.0,
                                   1.0,           0.1,
                                   1e-4,          9.9999999949e-5,
                                   9.99999999e-5, 0.000999999999949,
                                   0.9999999995,  9.999999995,
                                   99999999.95,   999999999.4,
                                   999999999.5,   1e9,
                                   1e15,          1e16,
                                   1e22,          1e300,
                                   5e-324,        1.7976931348623157e308,
                                   2.5,           0.5,
                                   12345678.5,    1234567.885};
    for (size_t i = 0; i < sizeof edges / sizeof *edges; i++) {
        assert_real_as_jansson(edges[i]);
        assert_real_as_jansson(-edges[i]);
    }
    uint64_t random = 88172645463325252U;
    for (int i = 0; i < 200000; i++) {
        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        double size = pow(10.0, (double)(random >> 40) / (1 << 24) * 18 - 8);
        assert_real_as_jansson(i % 2 ? size : -size);
        assert_real_as_jansson((double)(float)size);
        assert_real_as_jansson((double)(random >> 44) / 1000.0); /* ties of decimals */
    }
    static const json_int_t whole[] = {0, 1, -1, 10, INT64_MAX, INT64_MIN};
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++) {
        MF_AUTO(mf_json) json_t *value = json_integer(whole[i]);
        assert_as_jansson(value);
    }
    static const char odd[] =
        "\"quoted\" \\ / \b\f\n\r\t\x01\x1f\x7f \xc3\xa9 \xf0\x9f\xab\x81 \0 end";
    MF_AUTO(mf_json) json_t *string = json_stringn(odd, sizeof odd - 1);
    assert_as_jansson(string);
    MF_AUTO(mf_json)
    json_t *all = json_pack("{s:[], s:{}, s:[i, f, b, n], s:{s:O}}", "none", "\x02key\"", "mixed",
                            -7, 0.25, 1, "in", "string", string);
    assert_as_jansson(all);
    assert_null(mf_json_text(NULL, 0));
}

static void non_numbers_become_null(void **state)
{
    (void)state;
    MF_AUTO(mf_json)
    json_t *v = json_pack("[o,o,o,o,o]", mf_json_real(NAN), mf_json_real(INFINITY),
                          mf_json_real(-INFINITY), mf_json_string(NULL), mf_json_string("x"));
    assert_json(v, "[null,null,null,null,\"x\"]");
}

static void optional_members(void **state)
{
    (void)state;
    MF_AUTO(mf_json)
    json_t *v = json_of("{\"s\":\"x\",\"i\":7,\"r\":1.5,\"b\":true,\"n\":null}");
    assert_string_equal(mf_json_get_string(v, "s", "-"), "x");
    assert_string_equal(mf_json_get_string(v, "i", "-"), "-");
    assert_string_equal(mf_json_get_string(v, "n", "-"), "-");
    assert_string_equal(mf_json_get_string(NULL, "s", "-"), "-");
    assert_float_equal(mf_json_get_number(v, "i", 0), 7, 0);
    assert_float_equal(mf_json_get_number(v, "r", 0), 1.5, 0);
    assert_float_equal(mf_json_get_number(v, "s", -1), -1, 0);
    assert_int_equal(mf_json_get_int(v, "i", 0), 7);
    assert_int_equal(mf_json_get_int(v, "r", -1), -1);
    assert_true(mf_json_get_bool(v, "b", false));
    assert_true(mf_json_get_bool(v, "absent", true));
    assert_false(mf_json_get_bool(v, "i", false));
}

static void needed_members(void **state)
{
    (void)state;
    MF_AUTO(mf_json) json_t *v = json_of("{\"s\":\"x\",\"i\":7,\"r\":1.5,\"o\":{},\"a\":[]}");
    struct mf_error err = MF_ERROR_INIT;
    double number;
    json_int_t integer;
    assert_string_equal(mf_json_need_string(v, "s", &err), "x");
    assert_true(mf_json_need_number(v, "r", &number, &err));
    assert_true(mf_json_need_int(v, "i", 7, 7, &integer, &err));
    assert_non_null(mf_json_need_object(v, "o", &err));
    assert_non_null(mf_json_need_array(v, "a", &err));
    assert_no_error(&err);
    assert_null(mf_json_need_string(v, "i", &err));
    assert_error(&err, MF_ERR_MALFORMED, "\"i\" must be a string");
    mf_error_clear(&err);
    assert_false(mf_json_need_number(v, "s", &number, &err));
    assert_error(&err, MF_ERR_MALFORMED, "\"s\" must be a number");
    mf_error_clear(&err);
    assert_false(mf_json_need_int(v, "i", 8, 9, &integer, &err));
    assert_error(&err, MF_ERR_MALFORMED, "\"i\" must be a whole number from 8 to 9");
    mf_error_clear(&err);
    assert_false(mf_json_need_int(v, "r", 0, 9, &integer, &err));
    assert_error(&err, MF_ERR_MALFORMED, "\"r\" must be a whole number from 0 to 9");
    mf_error_clear(&err);
    assert_null(mf_json_need_object(v, "a", &err));
    assert_error(&err, MF_ERR_MALFORMED, "\"a\" must be an object");
    mf_error_clear(&err);
    assert_null(mf_json_need_array(v, "nothing", &err));
    assert_error(&err, MF_ERR_MALFORMED, "\"nothing\" must be an array");
}

static void unknown_keys_are_named(void **state)
{
    (void)state;
    static const char *const KEYS[] = {"a", "b", NULL};
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_json) json_t *good = json_of("{\"b\":1}");
    MF_AUTO(mf_json) json_t *bad = json_of("{\"a\":1,\"modell\":2}");
    assert_true(mf_json_only_keys(good, KEYS, "options", MF_ERR_UNUSABLE, &err));
    assert_false(mf_json_only_keys(bad, KEYS, "options", MF_ERR_UNUSABLE, &err));
    assert_error(&err, MF_ERR_UNUSABLE, "options: unknown key \"modell\"");
}

static void arrays_of_numbers_are_whole(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool whole;
    } cases[] = {{"[1, 2.5, -3e2]", true},
                 {"[1, 2]", false},
                 {"[1, 2, 3, 4]", false},
                 {"[1, \"2\", 3]", false},
                 {"[1, null, 3]", false},
                 {"{}", false},
                 {"3", false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double got[3];
        MF_AUTO(mf_json) json_t *json = json_of(cases[i].text);
        assert_int_equal(mf_json_numbers(json, 3, got), cases[i].whole);
        if (cases[i].whole)
            assert_true(got[0] == 1 && got[1] == 2.5 && got[2] == -300);
    }
    assert_false(mf_json_numbers(NULL, 0, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_of_every_type),
        cmocka_unit_test(malformed_text_names_the_place_only),
        cmocka_unit_test(invalid_utf8_and_nul_bytes),
        cmocka_unit_test(size_limit),
        cmocka_unit_test(depth_limit),
        cmocka_unit_test(files),
        cmocka_unit_test(numbers_keep_float32),
        cmocka_unit_test(text_is_the_text_of_jansson),
        cmocka_unit_test(non_numbers_become_null),
        cmocka_unit_test(optional_members),
        cmocka_unit_test(needed_members),
        cmocka_unit_test(unknown_keys_are_named),
        cmocka_unit_test(arrays_of_numbers_are_whole),
    };
    return cmocka_run_group_tests_name("core/json", tests, NULL, NULL);
}
