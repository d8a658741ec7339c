/* Text as a value of its VR: what is cut, replaced or left empty. */
#include "tests/expect.h"

#include "dicom/writer_text.h"

static void values_fit_their_vr(void **state)
{
    (void)state;
    static const struct {
        const char *vr, *text, *expected;
    } cases[] = {
        {"LO", "  plain  ", "plain"},
        {"LO", "a\\b\tc", "a b c"},
        {"SH", "0123456789abcdefXYZ", "0123456789abcdef"},
        {"SH",
         "\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9"
         "\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9",
         "\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9"
         "\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9"},
        {"ST", "one\r\ntwo\\three", "one\r\ntwo\\three"},
        {"PN", "Doe^Jane^^Dr.^", "Doe^Jane^^Dr."},
        {"PN", "A=B=C=D", "A=B=C"},
        {"PN", "A==", "A"},
        {"PN", "", ""},
        {"CS", "CHEST", "CHEST"},
        {"CS", "chest", ""},
        {"DA", "20260102", "20260102"},
        {"DA", "2026.01.02", "20260102"},
        {"DA", "2026", ""},
        {"DA", "202601023", ""},
        {"DA", "January", ""},
        {"TM", "09", "09"},
        {"TM", "0930", "0930"},
        {"TM", "09:30:15.5", "093015.5"},
        {"TM", "093015.", "093015"},
        {"TM", "093", ""},
        {"TM", "0930.5", ""},
        {"TM", "093015.1234567", ""},
        {"TM", "noon", ""},
        {"AS", "045Y", "045Y"},
        {"AS", "45Y", ""},
        {"AS", "045X", ""},
        {"UI", "1.2.3", "1.2.3"},
        {"UI", "1.2.x", ""},
        {"DS", "1.5e-3", "1.5e-3"},
        {"DS", "one", ""},
        {"IS", "12", "12"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char out[1024];
        mf_writer_text(cases[i].vr, cases[i].text, strlen(cases[i].text), out, sizeof out);
        if (strcmp(out, cases[i].expected) != 0)
            fail_msg("%s \"%s\": \"%s\", not \"%s\"", cases[i].vr, cases[i].text, out,
                     cases[i].expected);
    }
}

static void a_small_buffer_holds_whole_characters(void **state)
{
    (void)state;
    char out[8];
    mf_writer_text("UT", "ab\xE2\x82\xAC\xE2\x82\xAC\xE2\x82\xAC", 11, out, sizeof out);
    assert_string_equal(out, "ab\xE2\x82\xAC");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_fit_their_vr),
        cmocka_unit_test(a_small_buffer_holds_whole_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
