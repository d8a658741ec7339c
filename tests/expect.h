/* What the tests share: cmocka with its headers, and assertions on struct mf_error and JSON. */
#ifndef MF_TESTS_EXPECT_H
#define MF_TESTS_EXPECT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/error.h"

#include <jansson.h>

/* The error has this code and exactly this message. */
#define assert_error(err, expected_code, expected_msg)                                             \
    do {                                                                                           \
        assert_string_equal((err)->msg, (expected_msg));                                           \
        assert_string_equal(mf_code_name((err)->code), mf_code_name(expected_code));               \
    } while (0)

/* No error; the message is shown when there is one. */
#define assert_no_error(err)                                                                       \
    do {                                                                                           \
        assert_string_equal((err)->msg, "");                                                       \
        assert_int_equal((err)->code, MF_OK);                                                      \
    } while (0)

/* Two JSON values are equal, whatever the order of members; the expected one is text. */
static inline void assert_json(const json_t *actual, const char *expected)
{
    json_t *want = json_loads(expected, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(want);
    const size_t flags = JSON_ENCODE_ANY | JSON_SORT_KEYS | JSON_COMPACT | JSON_REAL_PRECISION(9);
    char *a = json_dumps(actual, flags);
    char *w = json_dumps(want, flags);
    assert_non_null(a);
    assert_string_equal(a, w);
    free(a);
    free(w);
    json_decref(want);
}

/* Parses text that the test itself wrote. */
static inline json_t *json_of(const char *text)
{
    json_error_t detail;
    json_t *value = json_loads(text, JSON_DECODE_ANY, &detail);
    if (!value)
        fail_msg("the test's own JSON: %s at %d:%d", detail.text, detail.line, detail.column);
    return value;
}

#endif
