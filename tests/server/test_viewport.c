/* server/viewport.c, server/numbers.c: what a viewport shows of a frame, and how it is written. */
#include "server/viewport.h"

#include "server/numbers.h"

#include "tests/expect.h"

static void what_a_viewport_shows(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        struct mf_cut cut; /* of a frame of 400 columns and 200 rows */
    } cases[] = {
        {"100,100", {0, 0, 400, 200, 100, 50, false, false}},
        {"800,800", {0, 0, 400, 200, 800, 400, false, false}}, /* made larger */
        {"1,1", {0, 0, 400, 200, 1, 1, false, false}},
        {"50,50,100,20,200,100", {100, 20, 200, 100, 50, 25, false, false}},
        {"50,50,100,20,-200,-100", {100, 20, 200, 100, 50, 25, true, true}},
        {"30,30,,,,", {0, 0, 400, 200, 30, 15, false, false}},
        {"30,30,300,,,", {300, 0, 100, 200, 15, 30, false, false}},
        {"30,30,0.4,0,9.8,10", {0, 0, 10, 10, 30, 30, false, false}},
        {"400,200,0,0,-400,200", {0, 0, 400, 200, 400, 200, true, false}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct mf_error err = MF_ERROR_INIT;
        struct mf_viewport v;
        struct mf_cut cut;
        if (!mf_viewport_parse(cases[i].text, &v, &err) ||
            !mf_viewport_cut(&v, 400, 200, &cut, &err))
            fail_msg("%s: %s", cases[i].text, err.msg);
        const struct mf_cut *want = &cases[i].cut;
        assert_int_equal(cut.x, want->x);
        assert_int_equal(cut.y, want->y);
        assert_int_equal(cut.columns, want->columns);
        assert_int_equal(cut.rows, want->rows);
        assert_int_equal(cut.shown_columns, want->shown_columns);
        assert_int_equal(cut.shown_rows, want->shown_rows);
        assert_int_equal(cut.mirrored, want->mirrored);
        assert_int_equal(cut.upside_down, want->upside_down);
    }
}

static void text_that_is_no_viewport(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",         "100",          "100,",           ",100",
        "0,100",    "100,0",        "-1,100",         "8193,100",
        "100.5,10", "100,100,0,0",  "10,10,0,0,5,5,", "10,10,-1,0,5,5",
        "nan,10",   "10,10,inf,,,", "10,10,0x1,,,",   "10,10,1 ,,,",
        "a,b",      "10,10,,,,,",   "10;10",          "10,10,,,1e999,",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct mf_error err = MF_ERROR_INIT;
        struct mf_viewport v;
        if (mf_viewport_parse(bad[i], &v, &err))
            fail_msg("\"%s\" was taken", bad[i]);
        assert_int_equal(err.code, MF_ERR_MALFORMED);
    }
}

static void regions_outside_the_frame(void **state)
{
    (void)state;
    static const char *const bad[] = {"9,9,400,,,",    "9,9,,200,,",       "9,9,1,0,400,200",
                                      "9,9,0,0,401,9", "9,9,0,100,9,-101", "9,9,3.1,0,0.2,9"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct mf_error err = MF_ERROR_INIT;
        struct mf_viewport v;
        struct mf_cut cut;
        assert_true(mf_viewport_parse(bad[i], &v, &err));
        if (mf_viewport_cut(&v, 400, 200, &cut, &err))
            fail_msg("\"%s\" was cut", bad[i]);
        assert_string_equal(err.msg, "query parameter \"viewport\": its region is not within the "
                                     "image of 400 x 200 pixels");
    }
}

static void single_numbers(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "", "0", "101", "+5", "-1", " 5", "5 ", "5.0", "99999999999999999999"};
    uint32_t n = 0;
    assert_true(mf_number_parse("100", 1, 100, &n));
    assert_int_equal(n, 100);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(mf_number_parse(bad[i], 1, 100, &n));
    assert_int_equal(n, 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_viewport_shows), cmocka_unit_test(text_that_is_no_viewport),
        cmocka_unit_test(regions_outside_the_frame), cmocka_unit_test(single_numbers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
