/* core/clock.c: calendar arithmetic, FHIR and DICOM time stamps, ages, durations. */
#include "core/clock.h"

#include "tests/expect.h"

#define DAY INT64_C(86400000)

static void civil_dates_round_trip(void **state)
{
    (void)state;
    assert_int_equal(mf_days_from_civil(1970, 1, 1), 0);
    assert_int_equal(mf_days_from_civil(2000, 2, 29), 11016);
    assert_int_equal(mf_days_from_civil(1969, 12, 31), -1);
    assert_int_equal(mf_days_from_civil(1, 1, 1), -719162);
    for (int64_t days = -800000; days < 3000000; days += 37) {
        int y, m, d;
        mf_civil_from_days(days, &y, &m, &d);
        assert_int_equal(mf_days_from_civil(y, m, d), days);
    }
}

static void wall_time_as_text(void **state)
{
    (void)state;
    char text[MF_TIME_TEXT];
    assert_string_equal(mf_clock_format_ms(0, text), "1970-01-01T00:00:00.000Z");
    assert_string_equal(mf_clock_format_ms(-1, text), "1969-12-31T23:59:59.999Z");
    assert_string_equal(mf_clock_format_ms(INT64_C(1795353840123), text),
                        "2026-11-22T13:24:00.123Z");
}

static void clocks_advance(void **state)
{
    (void)state;
    uint64_t a = mf_clock_monotonic_ns(), b = mf_clock_monotonic_ns();
    assert_true(b >= a && a > 0);
    assert_true(mf_clock_wall_ms() > INT64_C(1700000000000));
}

/* A FHIR time is the interval of its precision, and prints as it was given (in UTC where it had a
 * zone). */
static void fhir_times(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum mf_time_precision precision;
        const char *begin;
        int64_t length;
        bool local;
        const char *printed;
    } ROWS[] = {
        {"2019", MF_TIME_YEAR, "2019-01-01T00:00:00.000Z", 365 * DAY, true, "2019"},
        {"2020", MF_TIME_YEAR, "2020-01-01T00:00:00.000Z", 366 * DAY, true, "2020"},
        {"2019-02", MF_TIME_MONTH, "2019-02-01T00:00:00.000Z", 28 * DAY, true, "2019-02"},
        {"2019-12", MF_TIME_MONTH, "2019-12-01T00:00:00.000Z", 31 * DAY, true, "2019-12"},
        {"2000-02-29", MF_TIME_DAY, "2000-02-29T00:00:00.000Z", DAY, true, "2000-02-29"},
        {"2019-03-07T11:20:00+01:00", MF_TIME_SECOND, "2019-03-07T10:20:00.000Z", 1000, false,
         "2019-03-07T10:20:00Z"},
        {"2019-03-07T23:20:00.25-05:30", MF_TIME_SECOND, "2019-03-08T04:50:00.250Z", 1000, false,
         "2019-03-08T04:50:00Z"},
        {"2019-03-07T11:20:00.1239999Z", MF_TIME_SECOND, "2019-03-07T11:20:00.123Z", 1000, false,
         "2019-03-07T11:20:00Z"},
        {"2019-03-07T11:20", MF_TIME_SECOND, "2019-03-07T11:20:00.000Z", 1000, true,
         "2019-03-07T11:20:00"},
        {"0001-01-01", MF_TIME_DAY, "0001-01-01T00:00:00.000Z", DAY, true, "0001-01-01"},
        {"9999-12-31", MF_TIME_DAY, "9999-12-31T00:00:00.000Z", DAY, true, "9999-12-31"},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        struct mf_time t;
        struct mf_error err = MF_ERROR_INIT;
        char text[MF_TIME_TEXT];
        assert_true(mf_time_parse_fhir(ROWS[i].text, &t, &err));
        assert_int_equal(t.precision, ROWS[i].precision);
        assert_string_equal(mf_clock_format_ms(t.begin, text), ROWS[i].begin);
        assert_int_equal(t.end - t.begin, ROWS[i].length);
        assert_int_equal(t.local, ROWS[i].local);
        assert_string_equal(mf_time_format(&t, text), ROWS[i].printed);
    }
}

static void bad_fhir_times(void **state)
{
    (void)state;
    static const char *const BAD[] = {
        "",
        "19",
        "2019-",
        "2019-1",
        "2019-13",
        "2019-00",
        "2019-02-29",
        "2019-04-31",
        "2019-03-00",
        "2019-03-7",
        "0000",
        "2019-03-07T",
        "2019-03T10:00",
        "2019T10:00",
        "2019-03-07T25:00:00Z",
        "2019-03-07T24:00:00Z",
        "2019-03-07T10:60:00Z",
        "2019-03-07T10:00:61Z",
        "2019-03-07T10:00:00+15:00",
        "2019-03-07T10:00:00+01",
        "2019-03-07T10:00:00+0100",
        "2019-03-07 10:00:00",
        "2019-03-07T10:00:00Zjunk",
        "x2019",
        " 2019",
        "-2019",
        "2019-03-07T10:00:00.Z",
        "20190307",
    };
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        struct mf_error err = MF_ERROR_INIT;
        struct mf_time t = {.begin = 42};
        if (mf_time_parse_fhir(BAD[i], &t, &err))
            fail_msg("accepted \"%s\"", BAD[i]);
        assert_error(&err, MF_ERR_MALFORMED,
                     "not a FHIR date or dateTime (YYYY[-MM[-DD[Thh:mm:ssZ]]])");
        assert_int_equal(t.begin, 42); /* not clobbered */
    }
}

static void dicom_times(void **state)
{
    (void)state;
    static const struct {
        const char *da, *tm, *offset, *begin, *printed;
    } ROWS[] = {
        {"20190307", NULL, NULL, "2019-03-07T00:00:00.000Z", "2019-03-07"},
        {"20190307", "", "+0100", "2019-03-07T00:00:00.000Z", "2019-03-07"},
        {"2019.03.07", "11:20:30", NULL, "2019-03-07T11:20:30.000Z", "2019-03-07T11:20:30"},
        {"20190307 ", "1120 ", NULL, "2019-03-07T11:20:00.000Z", "2019-03-07T11:20:00"},
        {"20190307", "11", NULL, "2019-03-07T11:00:00.000Z", "2019-03-07T11:00:00"},
        {"20190307", "112030.5", "+0100", "2019-03-07T10:20:30.500Z", "2019-03-07T10:20:30Z"},
        {"20190307", "112030.123456", "-0330", "2019-03-07T14:50:30.123Z", "2019-03-07T14:50:30Z"},
        {"20190307", "112030", "nonsense", "2019-03-07T11:20:30.000Z", "2019-03-07T11:20:30"},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        struct mf_time t;
        char text[MF_TIME_TEXT];
        assert_true(mf_time_parse_dicom(ROWS[i].da, ROWS[i].tm, ROWS[i].offset, &t, NULL));
        assert_string_equal(mf_clock_format_ms(t.begin, text), ROWS[i].begin);
        assert_string_equal(mf_time_format(&t, text), ROWS[i].printed);
    }
}

static void absent_dicom_dates_are_unknown(void **state)
{
    (void)state;
    static const char *const EMPTY[] = {NULL, "", "  "};
    for (size_t i = 0; i < sizeof EMPTY / sizeof *EMPTY; i++) {
        struct mf_time t = {.precision = MF_TIME_DAY};
        char text[MF_TIME_TEXT] = "x";
        assert_true(mf_time_parse_dicom(EMPTY[i], "1200", NULL, &t, NULL));
        assert_int_equal(t.precision, MF_TIME_UNKNOWN);
        assert_string_equal(mf_time_format(&t, text), "");
    }
}

static void bad_dicom_times(void **state)
{
    (void)state;
    static const struct {
        const char *da, *tm, *msg;
    } ROWS[] = {
        {"2019", NULL, "not a DICOM date (YYYYMMDD)"},
        {"20191301", NULL, "not a DICOM date (YYYYMMDD)"},
        {"20190230", NULL, "not a DICOM date (YYYYMMDD)"},
        {"20190300", NULL, "not a DICOM date (YYYYMMDD)"},
        {"20190307x", NULL, "not a DICOM date (YYYYMMDD)"},
        {"ABCDEFGH", NULL, "not a DICOM date (YYYYMMDD)"},
        {"20190307", "24", "not a DICOM time (HHMMSS.FFFFFF)"},
        {"20190307", "1160", "not a DICOM time (HHMMSS.FFFFFF)"},
        {"20190307", "112061", "not a DICOM time (HHMMSS.FFFFFF)"},
        {"20190307", "1", "not a DICOM time (HHMMSS.FFFFFF)"},
        {"20190307", "112030.5x", "not a DICOM time (HHMMSS.FFFFFF)"},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        struct mf_error err = MF_ERROR_INIT;
        struct mf_time t = {.begin = 42};
        assert_false(mf_time_parse_dicom(ROWS[i].da, ROWS[i].tm, NULL, &t, &err));
        assert_error(&err, MF_ERR_MALFORMED, ROWS[i].msg);
        assert_int_equal(t.begin, 42);
    }
}

static double years(const char *birth, const char *at)
{
    struct mf_time b, a;
    assert_true(mf_time_parse_fhir(birth, &b, NULL));
    assert_true(mf_time_parse_fhir(at, &a, NULL));
    return mf_time_years_between(&b, &a);
}

static void completed_years(void **state)
{
    (void)state;
    assert_float_equal(years("1980-06-15", "2020-06-14"), 39, 0);
    assert_float_equal(years("1980-06-15", "2020-06-15"), 40, 0); /* counts on its day */
    assert_float_equal(years("1980-06-15", "2020-06-15T00:00:00Z"), 40, 0);
    assert_float_equal(years("2000-02-29", "2001-02-28"), 0, 0);
    assert_float_equal(years("2000-02-29", "2001-03-01"), 1, 0);
    assert_float_equal(years("2020-01-01", "2020-01-01"), 0, 0);
    assert_float_equal(years("2020-01-02", "2020-01-01"), -1, 0);
    assert_float_equal(years("1980", "2020-06-30"), 39, 0); /* born mid-year: 1 or 2 July */
    assert_float_equal(years("1980", "2020-07-02"), 40, 0);
    assert_float_equal(years("1980-06", "2020-06-30"), 40, 0);
    struct mf_time unknown = {.precision = MF_TIME_UNKNOWN}, known;
    assert_true(mf_time_parse_fhir("2020", &known, NULL));
    assert_float_equal(mf_time_years_between(&unknown, &known), -1, 0);
    assert_float_equal(mf_time_years_between(&known, &unknown), -1, 0);
}

static void durations(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t ms;
    } ROWS[] = {
        {"P7D", 7 * DAY},
        {"PT12H", DAY / 2},
        {"P1DT1H1M1S", DAY + 3661000},
        {"P2W", 14 * DAY},
        {"P1Y", INT64_C(31557600000)},
        {"P1Y6M", INT64_C(47336400000)},
        {"P0D", 0},
        {"PT1M", 60000},
        {"P1M", INT64_C(2629800000)},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        int64_t ms;
        assert_true(mf_duration_parse(ROWS[i].text, &ms, NULL));
        assert_int_equal(ms, ROWS[i].ms);
    }
}

static void bad_durations(void **state)
{
    (void)state;
    static const char *const BAD[] = {
        "",     "P",   "7D",   "P7",   "PD",   "PT",    "P1D1Y", "P1H",          "PT1D",
        "P-1D", "p7d", "P7DT", "P1DT", "P7D ", "P1D1D", "P1.5D", "P9999999999D", "P999999999Y"};
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        struct mf_error err = MF_ERROR_INIT;
        int64_t ms = 42;
        char expected[100];
        if (mf_duration_parse(BAD[i], &ms, &err))
            fail_msg("accepted \"%s\"", BAD[i]);
        snprintf(expected, sizeof expected, "not an ISO 8601 duration: \"%s\"", BAD[i]);
        assert_error(&err, MF_ERR_MALFORMED, expected);
        assert_int_equal(ms, 42);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(civil_dates_round_trip),
        cmocka_unit_test(wall_time_as_text),
        cmocka_unit_test(clocks_advance),
        cmocka_unit_test(fhir_times),
        cmocka_unit_test(bad_fhir_times),
        cmocka_unit_test(dicom_times),
        cmocka_unit_test(absent_dicom_dates_are_unknown),
        cmocka_unit_test(bad_dicom_times),
        cmocka_unit_test(completed_years),
        cmocka_unit_test(durations),
        cmocka_unit_test(bad_durations),
    };
    return cmocka_run_group_tests_name("core/clock", tests, NULL, NULL);
}
