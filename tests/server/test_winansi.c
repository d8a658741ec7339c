/* Text for PDF's standard fonts: letters of Western Europe, what is left out, malformed UTF-8. */
#include "server/winansi.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void expect(const char *utf8, const char *want, bool whole)
{
    char text[64];
    assert_int_equal(mf_winansi(utf8, text, sizeof text), whole);
    assert_string_equal(text, want);
}

static void western_letters_and_signs_are_written(void **state)
{
    (void)state;
    expect("Doe, Jane", "Doe, Jane", true);
    expect("Müller–Žan € “x”",
           "M\xfcller\x96\x8e"
           "an \x80 \x93x\x94",
           true);
    expect("α ≥ 5 µg − 1", "alpha >= 5 \xb5g - 1", true);
    expect("", "", true);
}

static void others_are_questions(void **state)
{
    (void)state;
    expect("山田", "??", false);
    expect("a\x01"
           "b\x7f",
           "a?b?", false);
    expect("😀", "?", false);
}

static void malformed_text_ends_nowhere_else(void **state)
{
    (void)state;
    expect("\xff\xfe", "??", false);
    expect("a\xc3", "a?", false);
    expect("\xe5\xb1", "?", false);
    expect("\xe5z", "?z", false);
    expect("\x80", "?", false);
}

static void what_does_not_fit_is_cut(void **state)
{
    char text[4];
    (void)state;
    assert_false(mf_winansi("abcd", text, sizeof text));
    assert_string_equal(text, "abc");
    assert_false(mf_winansi("ab≥", text, sizeof text)); /* ">=" does not fit */
    assert_string_equal(text, "ab");
    assert_true(mf_winansi("äöü", text, sizeof text));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(western_letters_and_signs_are_written),
        cmocka_unit_test(others_are_questions),
        cmocka_unit_test(malformed_text_ends_nowhere_else),
        cmocka_unit_test(what_does_not_fit_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
