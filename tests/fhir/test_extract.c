/* fhir/extract.c, candidates.c, value.c, times.c: one rule a table. Real patients are compared with
 * an independent computation in test_real_files.py. */
#include "tests/fhir/extract_expect.h"

static void value_types(void **state)
{
    (void)state;
    static const char AT[] = "2020-01-02";
    const struct row rows[] = {
        {NUMERIC(""), PATIENT O("1", "2020-01-01", Q("5")), AT, "5 mmol/L used Observation/1"},
        {NUMERIC(""),
         PATIENT O("1", "2020-01-01",
                   "\"valueQuantity\":{\"value\":5,\"comparator\":"
                   "\"<\",\"unit\":\"mmol/L\"}"),
         AT, "5 mmol/L used Observation/1"},
        {NUMERIC(""), PATIENT O("1", "2020-01-01", "\"valueQuantity\":{\"unit\":\"mmol/L\"}"), AT,
         "- - missing -"},
        {NUMERIC(""), PATIENT O("1", "2020-01-01", "\"issued\":\"2020-01-01\""), AT,
         "- - missing -"},
        {NUMERIC(""), PATIENT O("1", "2020-01-01", Q("5") ",\"dataAbsentReason\":{}"), AT,
         "- - missing -"},
        {NUMERIC(""), PATIENT O("1", "2020-01-01", "\"valueInteger\":5"), AT,
         "5 1 implausible Observation/1"}, /* a number without a unit is not in mmol/L */
        {NUMERIC(",\"window\":null"), PATIENT O("1", "2020-01-01", "\"valueString\":\"5\""), AT,
         "5 1 implausible Observation/1"},
        {NUMERIC(""), PATIENT O("1", "2020-01-01", "\"valueString\":\"high\""), AT,
         "high - implausible Observation/1"},
        {NUMERIC(""), PATIENT O("1", "2020-01-01", "\"valueCodeableConcept\":{\"text\":\"high\"}"),
         AT, "high - implausible Observation/1"},
        {"{\"id\":\"n\",\"kind\":\"numeric\",\"unit\":\"{score}\",\"sources\":[{\"fhir\":[{"
         "\"system\":\"s\",\"code\":\"c\"}]}],\"mean\":0,\"std\":1}",
         PATIENT O("1", "2020-01-01", "\"valueInteger\":7"), AT, "7 {score} used Observation/1"},
        {"{\"id\":\"n\",\"kind\":\"numeric\",\"unit\":\"1\",\"sources\":[{\"fhir\":[{"
         "\"system\":\"s\",\"code\":\"c\"}]}],\"mean\":0,\"std\":1}",
         PATIENT O("1", "2020-01-01", "\"valueString\":\" 7.5 \""), AT, "7.5 1 used Observation/1"},
        {CATEGORICAL, PATIENT O("1", "2020-01-01", "\"valueBoolean\":true"), AT,
         "yes - used Observation/1"},
        {CATEGORICAL, PATIENT O("1", "2020-01-01", "\"valueBoolean\":false"), AT,
         "false - implausible Observation/1"},
        {CATEGORICAL, PATIENT O("1", "2020-01-01", "\"valueString\":\"N\""), AT,
         "no - used Observation/1"},
        {CATEGORICAL, PATIENT O("1", "2020-01-01", "\"valueString\":\"perhaps\""), AT,
         "perhaps - implausible Observation/1"},
        {CATEGORICAL,
         PATIENT O("1", "2020-01-01",
                   "\"valueCodeableConcept\":{\"coding\":[{\"code\":\"9\"},"
                   "{\"code\":\"8\",\"display\":\"yes\"}]}"),
         AT, "yes - used Observation/1"},
        {CATEGORICAL,
         PATIENT O("1", "2020-01-01",
                   "\"valueCodeableConcept\":{\"coding\":[{\"display\":\"yes\"}"
                   ",{\"code\":\"N\"}]}"), /* codes before displays */
         AT, "no - used Observation/1"},
        {CATEGORICAL, PATIENT O("1", "2020-01-01", "\"valueCodeableConcept\":{\"text\":\"no\"}"),
         AT, "no - used Observation/1"},
        {CATEGORICAL, PATIENT O("1", "2020-01-01", "\"valueInteger\":1"), AT,
         "- - implausible Observation/1"},
        {CATEGORICAL, PATIENT O("1", "2020-01-01", Q("1")), AT, "- - implausible Observation/1"},
    };
    CHECK(rows);
}

/* Strings as numbers, for a feature without unit. */
static void numbers_in_strings(void **state)
{
    (void)state;
    static const struct {
        const char *text, *expected;
    } ROWS[] = {
        {"7", "7 1 used Observation/1"},
        {" 7.5 ", "7.5 1 used Observation/1"},
        {"-0.5", "-0.5 1 used Observation/1"},
        {"007", "7 1 used Observation/1"},
        {"1e2", "100 1 used Observation/1"},
        {"1.5E-1", "0.15 1 used Observation/1"},
        {"1e+2", "100 1 used Observation/1"},
        {"5.", "5. - implausible Observation/1"},
        {".5", ".5 - implausible Observation/1"},
        {"1e", "1e - implausible Observation/1"},
        {"0x10", "0x10 - implausible Observation/1"},
        {"inf", "inf - implausible Observation/1"},
        {"nan", "nan - implausible Observation/1"},
        {"1e999", "1e999 - implausible Observation/1"},
        {"5 mg", "5 mg - implausible Observation/1"},
        {"3-4", "3-4 - implausible Observation/1"},
        {"-", "- - implausible Observation/1"},
        {" ", "  - implausible Observation/1"},
        {"", "- - missing -"},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        char fhir[512];
        snprintf(fhir, sizeof fhir, PATIENT O("1", "2020-01-01", "\"valueString\":\"%s\""),
                 ROWS[i].text);
        MF_AUTO(mf_mem)
        char *got =
            extract("{\"id\":\"n\",\"kind\":\"numeric\",\"unit\":\"1\",\"sources\":[{\"fhir\":[{"
                    "\"system\":\"s\",\"code\":\"c\"}]}],\"mean\":0,\"std\":1}",
                    fhir, NULL, "2020-01-02");
        assert_string_equal(got, ROWS[i].expected);
    }
}

static void units(void **state)
{
    (void)state;
    static const char AT[] = "2020-01-02";
#define U(quantity) PATIENT O("1", "2020-01-01", "\"valueQuantity\":{\"value\":10," quantity "}")
    const struct row rows[] = {
        {NUMERIC(""), U("\"code\":\"mmol/L\""), AT, "10 mmol/L used Observation/1"},
        {NUMERIC(""), U("\"code\":\"mg/dL\",\"system\":\"http://unitsofmeasure.org\""), AT,
         "5 mmol/L used Observation/1"},
        {NUMERIC(""), U("\"code\":\"mmol/L{blood}\""), AT, "10 mmol/L used Observation/1"},
        {NUMERIC(""),
         U("\"unit\":\"mg/dL\",\"code\":\"258797006\",\"system\":\"http://snomed.info/sct\""), AT,
         "5 mmol/L used Observation/1"},
        {NUMERIC(""), U("\"unit\":\"mmol/L\",\"code\":\"g/L\""), AT, /* the code decides */
         "500 mmol/L implausible Observation/1"},
        {NUMERIC(""), U("\"unit\":\"mg/dl\""), AT, /* UCUM has both litres */
         "5 mmol/L used Observation/1"},
        {NUMERIC(""), U("\"unit\":\"mg per dL\""), AT, "10 mg per dL implausible Observation/1"},
        {NUMERIC(""), U("\"unit\":\"\""), AT, "10 1 implausible Observation/1"},
        {NUMERIC(""), U("\"unit\":\"mmol{/L\""), AT, "10 mmol{/L implausible Observation/1"},
        {NUMERIC(""),
         PATIENT O("1", "2020-01-01", "\"valueQuantity\":{\"value\":293.5,\"unit\":\"K\"}"), AT,
         "20.5 mmol/L used Observation/1"},
        {NUMERIC(""), PATIENT O("1", "2020-01-01", Q("100.5")), AT,
         "100.5 mmol/L implausible Observation/1"},
        {NUMERIC(""), PATIENT O("1", "2020-01-01", Q("100")), AT, "100 mmol/L used Observation/1"},
        {NUMERIC(""), PATIENT O("1", "2020-01-01", Q("0.999")), AT,
         "0.999 mmol/L implausible Observation/1"},
        {NUMERIC(""), PATIENT O("1", "2020-01-01", Q("-1e300")), AT,
         "-1e+300 mmol/L implausible Observation/1"},
    };
    CHECK(rows);
#undef U
}

static void times(void **state)
{
    (void)state;
#define ONE(time) PATIENT O("1", time, Q("5"))
#define STALE "5 mmol/L stale Observation/1"
#define WEEK NUMERIC(",\"window\":\"P7D\"")
    const struct row rows[] = {
        /* after the study: not used */
        {NUMERIC(""), ONE("2020-01-02T10:00:00Z"), "2020-01-02T10:00:00Z", USED},
        {NUMERIC(""), ONE("2020-01-02T10:00:01Z"), "2020-01-02T10:00:00Z", NOTHING},
        {NUMERIC(""), ONE("2020-01-03"), "2020-01-02T10:00:00Z", NOTHING},
        {NUMERIC(""), ONE("2020-01-03"), "2020-01-02", NOTHING},
        {NUMERIC(""), ONE("2020-01-02T23:59:00Z"), "2020-01-02", USED}, /* the study is a day */
        {NUMERIC(""), ONE("2020-01-02"), "2020-01-02T10:00:00Z", USED}, /* the value is a day */
        {NUMERIC(""), ONE("2020-01"), "2020-01-02T10:00:00Z", NOTHING}, /* perhaps weeks later */
        {NUMERIC(""), ONE("2020"), "2020-06-30", NOTHING},
        {NUMERIC(""), ONE("2020-01"), "2020-01-31", USED},
        {NUMERIC(""), ONE("2019"), "2020-01-01", USED},
        {NUMERIC(""), ONE("2020-01-02"), "2020", USED},
        /* the look-back window */
        {WEEK, ONE("2020-01-08T10:00:00Z"), "2020-01-15T10:00:00Z", USED},
        {WEEK, ONE("2020-01-08T09:59:58Z"), "2020-01-15T10:00:00Z", STALE},
        {WEEK, ONE("2020-01-08"), "2020-01-15T10:00:00Z", USED},
        {WEEK, ONE("2020-01-07"), "2020-01-15T10:00:00Z", STALE},
        {WEEK, ONE("2019-12"), "2020-01-03", STALE}, /* a month that may be older than the window */
        {WEEK, ONE("2020-01-08"), "2020-01-15", USED},
        {WEEK, ONE("2020-01-07"), "2020-01-15", STALE},
        {NUMERIC(",\"window\":\"P0D\""), ONE("2020-01-15"), "2020-01-15", USED},
        {NUMERIC(",\"window\":\"P0D\""), ONE("2020-01-14"), "2020-01-15", STALE},
        {WEEK, PATIENT O("1", "2019-01-01", Q("5")) O("2", "2019-02-01", Q("6")), "2020-01-01",
         "6 mmol/L stale Observation/2"},
        {WEEK, PATIENT O("1", "2019-01-01", Q("5")) O("2", "2021-02-01", Q("6")), "2020-01-01",
         STALE},
        /* zones: local clocks when the study has none, else UTC */
        {NUMERIC(""), ONE("2020-01-02T09:00:00-05:00"), "2020-01-02T10:00:00", USED},
        {NUMERIC(""), ONE("2020-01-02T10:30:00+09:00"), "2020-01-02T10:00:00", NOTHING},
        {NUMERIC(""), ONE("2020-01-02T09:00:00-05:00"), "2020-01-02T10:00:00Z", NOTHING},
        {NUMERIC(""), ONE("2020-01-02T10:30:00+09:00"), "2020-01-02T10:00:00Z", USED},
        {NUMERIC(""), ONE("2020-01-02T09:00:00"), "2020-01-02T10:00:00Z", USED},
        /* an unknown study time */
        {NUMERIC(""), ONE("2020-01-02"), "", NOTHING},
    };
    CHECK(rows);
}

/* Like O() with an effective[x] of its own, or none. */
#define E(effective)                                                                               \
    PATIENT "{\"resourceType\":\"Observation\",\"id\":\"1\",\"code\":{\"coding\":[{\"system\":"    \
            "\"s\",\"code\":\"c\"}]}," effective Q("5") "}"

static void effective_types(void **state)
{
    (void)state;
    const struct row rows[] = {
        {NUMERIC(""), E("\"effectiveInstant\":\"2020-01-01T00:00:00Z\","), "2020-01-02", USED},
        {NUMERIC(""), E("\"effectiveInstant\":\"2020-01-03T00:00:00Z\","), "2020-01-02", NOTHING},
        {NUMERIC(""), E("\"effectivePeriod\":{\"start\":\"2020-01-01\",\"end\":\"2020-01-02\"},"),
         "2020-01-02T10:00:00Z", USED},
        {NUMERIC(""), E("\"effectivePeriod\":{\"start\":\"2020-01-01\",\"end\":\"2020-01-09\"},"),
         "2020-01-02T10:00:00Z", NOTHING},
        {NUMERIC(""), E("\"effectivePeriod\":{\"start\":\"2020-01-01\"},"), "2020-01-02", USED},
        {NUMERIC(""), E("\"effectivePeriod\":{\"end\":\"2020-01-01\"},"), "2020-01-02", USED},
        {NUMERIC(""), E("\"effectivePeriod\":{\"start\":\"2021\",\"end\":\"2020-01-01\"},"),
         "2020-01-02", USED},
        {NUMERIC(""), E("\"issued\":\"2020-01-01T00:00:00Z\","), "2020-01-02", USED},
        {NUMERIC(""), E("\"issued\":\"2020-01-05T00:00:00Z\","), "2020-01-02", NOTHING},
        {NUMERIC(""), E(""), "2020-01-02", NOTHING},
    };
    CHECK(rows);
}

static void picks(void **state)
{
    (void)state;
#define FOUR                                                                                       \
    PATIENT O("1", "2020-01-01", Q("5")) O("2", "2020-01-03", Q("9")) O("3", "2020-01-02", Q("2")) \
        O("4", "2020-01-04", Q("500"))
#define PICK(pick) NUMERIC(",\"pick\":\"" pick "\"")
    static const char AT[] = "2020-02-01";
    const struct row rows[] = {
        {PICK("last"), FOUR, AT, "9 mmol/L used Observation/2"}, /* 500 is set aside */
        {PICK("first"), FOUR, AT, "5 mmol/L used Observation/1"},
        {PICK("min"), FOUR, AT, "2 mmol/L used Observation/3"},
        {PICK("max"), FOUR, AT, "9 mmol/L used Observation/2"},
        {PICK("mean"), FOUR, AT, "5.333333 mmol/L used Observation/2"},
        /* only implausible ones: the one that would have been picked */
        {PICK("first"), PATIENT O("1", "2020-01-02", Q("500")) O("2", "2020-01-01", Q("600")), AT,
         "600 mmol/L implausible Observation/2"},
        {PICK("mean"), PATIENT O("1", "2020-01-02", Q("500")) O("2", "2020-01-01", Q("600")), AT,
         "500 mmol/L implausible Observation/1"},
        /* equal times: issued, then the place in the document */
        {PICK("last"), PATIENT O("1", "2020-01-01", Q("5")) O("2", "2020-01-01", Q("6")), AT,
         "6 mmol/L used Observation/2"},
        {PICK("last"),
         PATIENT O("1", "2020-01-01", "\"issued\":\"2020-01-09T00:00:00Z\"," Q("5"))
             O("2", "2020-01-01", "\"issued\":\"2020-01-08T00:00:00Z\"," Q("6")),
         AT, "5 mmol/L used Observation/1"},
        {PICK("last"), PATIENT O("1", "2020-01-01T18:00:00Z", Q("5")) O("2", "2020-01-01", Q("6")),
         AT, "5 mmol/L used Observation/1"}, /* the evening is later than the middle of the day */
        {PICK("min"), PATIENT O("1", "2020-01-01", Q("5")) O("2", "2020-01-02", Q("5")), AT,
         "5 mmol/L used Observation/2"},
        /* the same value twice at the same time counts once in a mean */
        {PICK("mean"),
         PATIENT O("1", "2020-01-01", Q("4")) O("2", "2020-01-02", Q("8"))
             O("3", "2020-01-01", Q("4")),
         AT, "6 mmol/L used Observation/2"},
        {PICK("mean"),
         PATIENT O("1", "2020-01-01", Q("4")) O("2", "2020-01-02", Q("8"))
             O("3", "2020-01-03", Q("4")),
         AT, "5.333333 mmol/L used Observation/3"},
        /* statuses */
        {PICK("last"),
         PATIENT O("1", "2020-01-01",
                   Q("5")) "{\"resourceType\":\"Observation\",\"id\":\"2\","
                           "\"status\":\"entered-in-error\",\"code\":{\"coding\":[{"
                           "\"system\":\"s\",\"code\":\"c\"}]},"
                           "\"effectiveDateTime\":\"2020-01-02\"," Q("6") "}",
         AT, USED},
        {PICK("last"),
         PATIENT
         "{\"resourceType\":\"Observation\",\"id\":\"2\",\"status\":\"cancelled\",\"code\":{"
         "\"coding\":[{\"system\":\"s\",\"code\":\"c\"}]},\"effectiveDateTime\":\"2020-01-02\"," Q(
             "6") "}",
         AT, NOTHING},
        /* a corrected version replaces the first */
        {PICK("mean"), PATIENT O("1", "2020-01-01", Q("4")) O("1", "2020-01-01", Q("8")), AT,
         "8 mmol/L used Observation/1"},
    };
    CHECK(rows);
}

static void codes_and_components(void **state)
{
    (void)state;
    static const char AT[] = "2020-01-02";
#define PANEL(component)                                                                           \
    PATIENT "{\"resourceType\":\"Observation\",\"id\":\"1\",\"code\":{\"text\":\"panel\"},"        \
            "\"effectiveDateTime\":\"2020-01-01\",\"component\":[" component "]}"
#define C(code, rest) "{\"code\":{\"coding\":[{\"system\":\"s\",\"code\":\"" code "\"}]}," rest "}"
    const struct row rows[] = {
        {NUMERIC(""), PANEL(C("d", Q("4")) "," C("c", Q("5"))), AT, USED},
        {NUMERIC(""), PANEL(C("c", Q("4")) "," C("c", Q("5"))), AT, USED}, /* the later of two */
        {NUMERIC(",\"pick\":\"first\""), PANEL(C("c", Q("5")) "," C("c", Q("4"))), AT, USED},
        {NUMERIC(""), PANEL(C("d", Q("4"))), AT, NOTHING},
        {NUMERIC(""), PANEL(C("c", "\"dataAbsentReason\":{\"text\":\"lost\"}")), AT, NOTHING},
        {NUMERIC(""),
         PATIENT "{\"resourceType\":\"Observation\",\"id\":\"1\",\"code\":{\"coding\":[{\"system\":"
                 "\"other\",\"code\":\"c\"}]},\"effectiveDateTime\":\"2020-01-01\"," Q("5") "}",
         AT, NOTHING},
        {NUMERIC(""),
         PATIENT "{\"resourceType\":\"Observation\",\"id\":\"1\",\"code\":{\"coding\":[{\"code\":"
                 "\"c\"}]},\"effectiveDateTime\":\"2020-01-01\"," Q("5") "}",
         AT, NOTHING},
    };
    CHECK(rows);
}

static void long_texts_are_not_shown(void **state)
{
    (void)state;
    char fhir[1024], note[200];
    memset(note, 'n', sizeof note - 1);
    note[sizeof note - 1] = '\0';
    snprintf(fhir, sizeof fhir,
             PATIENT "{\"resourceType\":\"Observation\",\"id\":\"1\",\"code\":{\"coding\":[{"
                     "\"system\":\"s\",\"code\":\"c\"}]},\"effectiveDateTime\":\"2020\","
                     "\"valueString\":\"%s\"}",
             note);
    MF_AUTO(mf_mem) char *got = extract(CATEGORICAL, fhir, NULL, "2021");
    assert_string_equal(got, "- - implausible Observation/1");
}

static void a_full_arena_is_an_error(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_json)
    json_t *json = json_of("{\"schema\":\"medfusion.features/1\",\"features\":[" SEX "]}");
    MF_AUTO(mf_feature_set) struct mf_feature_set *set = mf_feature_set_parse(json, "f", &err);
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(1);
    const struct mf_demographics d = {.patient_sex = "F"};
    const struct mf_time at = {.precision = MF_TIME_UNKNOWN};
    struct mf_feature_value v;
    assert_false(mf_fhir_extract(set, NULL, &d, &at, arena, &v, &err));
    assert_int_equal(err.code, MF_ERR_TOO_LARGE);
}

/* Many values at one moment take the time of a sort, not of all pairs. */
static void a_hundred_thousand_values(void **state)
{
    (void)state;
    enum { N = 50000 };
    char *text = malloc((size_t)N * 200 + 200);
    size_t n = (size_t)snprintf(text, 200, "%s", PATIENT);
    for (int i = 0; i < N; i++)
        n += (size_t)snprintf(text + n, 200,
                              "{\"resourceType\":\"Observation\",\"code\":{\"coding\":[{\"system\":"
                              "\"s\",\"code\":\"c\"}]},\"effectiveDateTime\":\"2020\","
                              "\"valueQuantity\":{\"value\":%d.%05d,\"code\":\"mmol/L\"}}\n",
                              1 + i % 3, i);
    uint64_t start = mf_clock_monotonic_ns();
    char *got = extract(PICK("mean"), text, NULL, "2021");
    double seconds = (double)(mf_clock_monotonic_ns() - start) / 1e9;
    assert_non_null(strstr(got, "mmol/L used Observation"));
    assert_true(seconds < 30); /* under a sanitizer, on a busy machine; all pairs take minutes */
    free(got);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(value_types),
        cmocka_unit_test(numbers_in_strings),
        cmocka_unit_test(units),
        cmocka_unit_test(times),
        cmocka_unit_test(effective_types),
        cmocka_unit_test(picks),
        cmocka_unit_test(codes_and_components),
        cmocka_unit_test(long_texts_are_not_shown),
        cmocka_unit_test(a_full_arena_is_an_error),
        cmocka_unit_test(a_hundred_thousand_values),
    };
    return cmocka_run_group_tests_name("fhir/extract", tests, NULL, NULL);
}
