/*
 * fhir/extract.c, candidates.c, value.c, demographics.c, times.c: one rule a table. Real patients
 * are compared with an independent computation in test_real_files.py.
 */
#include "fhir/extract.h"

#include "tests/expect.h"

/* One numeric feature "x" in mmol/L, one categorical "k", asked through code "c" of system "s". */
#define NUMERIC(extra)                                                                             \
    "{\"id\":\"x\",\"kind\":\"numeric\",\"unit\":\"mmol/L\",\"conversions\":{\"mg/dL\":0.5,"       \
    "\"K\":[1,-273]},\"sources\":[{\"fhir\":[{\"system\":\"s\",\"code\":\"c\"}]}],"                \
    "\"range\":[1,100],\"mean\":0,\"std\":1" extra "}"
#define CATEGORICAL                                                                                \
    "{\"id\":\"k\",\"kind\":\"categorical\",\"sources\":[{\"fhir\":[{\"system\":\"s\",\"code\":"   \
    "\"c\"}]}],\"categories\":[\"no\",\"yes\"],\"map\":{\"N\":\"no\",\"true\":\"yes\"}}"
#define AGE(unit, conversions, sources)                                                            \
    "{\"id\":\"age\",\"kind\":\"numeric\",\"unit\":\"" unit "\",\"conversions\":" conversions      \
    ",\"sources\":[" sources "],\"range\":[0,120],\"mean\":0,\"std\":1}"
#define SEX                                                                                        \
    "{\"id\":\"sex\",\"kind\":\"categorical\",\"sources\":[\"fhir:Patient.gender\","               \
    "\"dicom:PatientSex\"],\"categories\":[\"female\",\"male\"],\"map\":{\"F\":\"female\","        \
    "\"M\":\"male\"}}"
#define VIEW                                                                                       \
    "{\"id\":\"view\",\"kind\":\"categorical\",\"sources\":[\"dicom:ViewPosition\"],"              \
    "\"categories\":[\"PA\",\"AP\"]}"

/* An Observation "Observation/<id>" with the code, at a time, with more members. */
#define O(id, time, rest)                                                                          \
    "{\"resourceType\":\"Observation\",\"id\":\"" id                                               \
    "\",\"status\":\"final\",\"code\":{\"coding\":"                                                \
    "[{\"system\":\"other\",\"code\":\"c\"},{\"system\":\"s\",\"code\":\"c\"}]},"                  \
    "\"effectiveDateTime\":\"" time "\"," rest "}\n"
#define Q(value) "\"valueQuantity\":{\"value\":" value ",\"unit\":\"mmol/L\"}"
#define PATIENT                                                                                    \
    "{\"resourceType\":\"Patient\",\"id\":\"1\",\"birthDate\":\"1980-06-15\",\"gender\":\"male\"}" \
    "\n"

/* "value unit status source" of the only feature; demographics may be NULL, `fhir` "" for none. */
static char *extract(const char *feature, const char *fhir, const struct mf_demographics *d,
                     const char *at)
{
    struct mf_error err = MF_ERROR_INIT;
    char definition[2048], number[40];
    struct mf_time time = {.precision = MF_TIME_UNKNOWN};
    struct mf_feature_value v;
    snprintf(definition, sizeof definition,
             "{\"schema\":\"medfusion.features/1\",\"features\":[%s]}", feature);
    MF_AUTO(mf_json) json_t *json = json_of(definition);
    MF_AUTO(mf_feature_set) struct mf_feature_set *set = mf_feature_set_parse(json, "f", &err);
    MF_AUTO(mf_fhir_document)
    struct mf_fhir_document *doc =
        *fhir ? mf_fhir_document_parse(fhir, strlen(fhir), NULL, "ehr", &err) : NULL;
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(0);
    assert_no_error(&err);
    if (*at)
        assert_true(mf_time_parse_fhir(at, &time, &err));
    assert_true(
        mf_fhir_extract(set, doc ? mf_fhir_patient(doc, 0) : NULL, d, &time, arena, &v, &err));
    snprintf(number, sizeof number, "%.7g", v.number);
    char *text = malloc(256);
    snprintf(text, 256, "%s %s %s %s",
             v.has_number     ? number
             : v.has_category ? set->features[0].categories[v.category]
             : v.text         ? v.text
                              : "-",
             v.unit ? v.unit : "-", mf_feature_status_name(v.status), v.source ? v.source : "-");
    return text;
}

struct row {
    const char *feature, *fhir, *at, *expected;
};

static void check_rows(const struct row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        MF_AUTO(mf_mem) char *got = extract(rows[i].feature, rows[i].fhir, NULL, rows[i].at);
        if (strcmp(got, rows[i].expected) != 0)
            fail_msg("row %zu: \"%s\" instead of \"%s\"", i, got, rows[i].expected);
    }
}
#define CHECK(rows) check_rows(rows, sizeof(rows) / sizeof *(rows))

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
#define USED "5 mmol/L used Observation/1"
#define STALE "5 mmol/L stale Observation/1"
#define NOTHING "- - missing -"
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

static void sources_in_order(void **state)
{
    (void)state;
    static const char AT[] = "2020-01-15";
#define TWO                                                                                        \
    "{\"id\":\"x\",\"kind\":\"numeric\",\"unit\":\"mmol/L\",\"sources\":[{\"fhir\":[{\"system\":"  \
    "\"s\",\"code\":\"b\"}]},{\"fhir\":[{\"system\":\"s\",\"code\":\"c\"}]}],\"window\":\"P7D\","  \
    "\"range\":[1,100],\"mean\":0,\"std\":1}"
#define B(time, rest)                                                                              \
    "{\"resourceType\":\"Observation\",\"id\":\"b\",\"code\":{\"coding\":[{\"system\":\"s\","      \
    "\"code\":\"b\"}]},\"effectiveDateTime\":\"" time "\"," rest "}"
    const struct row rows[] = {
        {TWO, PATIENT O("1", "2020-01-14", Q("5")) B("2020-01-10", Q("7")), AT,
         "7 mmol/L used Observation/b"},
        {TWO, PATIENT O("1", "2020-01-14", Q("5")) B("2019-01-10", Q("7")), AT, USED},
        {TWO, PATIENT O("1", "2018-01-14", Q("5")) B("2019-01-10", Q("7")), AT,
         "7 mmol/L stale Observation/b"},
        {TWO, PATIENT O("1", "2020-01-14", Q("5")) B("2020-01-10", Q("700")), AT,
         "700 mmol/L implausible Observation/b"},
    };
    CHECK(rows);
}

static void patient_demographics(void **state)
{
    (void)state;
#define YEARS AGE("a", "{}", "\"fhir:Patient.birthDate\"")
    const struct row rows[] = {
        {YEARS, PATIENT, "2020-06-14", "39 a used Patient/1"},
        {YEARS, PATIENT, "2020-06-15", "40 a used Patient/1"},
        {YEARS, PATIENT, "1980-06-15", "0 a used Patient/1"},
        {YEARS, PATIENT, "1980-06-14", "-1 a implausible Patient/1"}, /* born after the study */
        {YEARS, PATIENT, "1970-01-01", "-11 a implausible Patient/1"},
        {YEARS, PATIENT, "2120-01-01", "139 a implausible Patient/1"},
        {YEARS, PATIENT, "", NOTHING},
        {YEARS, "{\"resourceType\":\"Patient\",\"id\":\"1\"}", "2020", NOTHING},
        {YEARS, "{\"resourceType\":\"Patient\",\"id\":\"1\",\"birthDate\":\"1980\"}", "2020-01-01",
         "39 a used Patient/1"},
        {AGE("mo", "{\"a\":12}", "\"fhir:Patient.birthDate\""), PATIENT, "1982-06-15",
         "24 mo used Patient/1"},
        {AGE("d", "{}", "\"fhir:Patient.birthDate\""), PATIENT, "1982-06-15",
         "730.5 d implausible Patient/1"},
        {SEX, PATIENT, "", "male - used Patient/1"},
        {SEX, "{\"resourceType\":\"Patient\",\"id\":\"1\",\"gender\":\"unknown\"}", "", NOTHING},
        {SEX, "{\"resourceType\":\"Patient\",\"id\":\"1\",\"gender\":\"other\"}", "",
         "other - implausible Patient/1"},
        {SEX, "{\"resourceType\":\"Patient\",\"id\":\"1\"}", "", NOTHING},
        /* a patient who is named but not there */
        {SEX,
         "{\"resourceType\":\"Observation\",\"code\":{},\"subject\":{\"reference\":"
         "\"Patient/1\"}}",
         "", NOTHING},
    };
    CHECK(rows);
}

static void dicom_demographics(void **state)
{
    (void)state;
#define AS AGE("a", "{}", "\"dicom:PatientAge\"")
#define DA AGE("a", "{}", "\"dicom:PatientBirthDate\"")
    static const struct {
        const char *feature;
        struct mf_demographics d;
        const char *at, *expected;
    } ROWS[] = {
        {AS, {.patient_age = "045Y"}, "", "45 a used dicom:PatientAge"},
        {AS, {.patient_age = "018M"}, "", "1.5 a used dicom:PatientAge"},
        {AS, {.patient_age = "002W"}, "", "0.03832991 a used dicom:PatientAge"},
        {AS, {.patient_age = "010D "}, "", "0.02737851 a used dicom:PatientAge"},
        {AS, {.patient_age = "5Y"}, "", "5 a used dicom:PatientAge"},
        {AS, {.patient_age = "130Y"}, "", "130 a implausible dicom:PatientAge"},
        {AS, {.patient_age = "45"}, "", "- - implausible dicom:PatientAge"},
        {AS, {.patient_age = "0045Y"}, "", "- - implausible dicom:PatientAge"},
        {AS, {.patient_age = "045y"}, "", "- - implausible dicom:PatientAge"},
        {AS, {.patient_age = "Y"}, "", "- - implausible dicom:PatientAge"},
        {AS, {.patient_age = "-45Y"}, "", "- - implausible dicom:PatientAge"},
        {AS, {.patient_age = ""}, "", NOTHING},
        {AS, {.patient_age = "   "}, "", NOTHING},
        {AS, {0}, "", NOTHING},
        {AGE("a", "{\"mo\":0.0833333}", "\"dicom:PatientAge\""),
         {.patient_age = "012M"},
         "",
         "0.9999996 a used dicom:PatientAge"},
        {AGE("d", "{\"wk\":7,\"a\":365}", "\"dicom:PatientAge\""),
         {.patient_age = "003W"},
         "",
         "21 d used dicom:PatientAge"},
        {AGE("d", "{\"a\":365.25}", "\"dicom:PatientAge\""),
         {.patient_age = "002M"},
         "",
         "60.875 d used dicom:PatientAge"},
        {DA, {.patient_birth_date = "19800615"}, "2020-06-14", "39 a used dicom:PatientBirthDate"},
        {DA, {.patient_birth_date = "19800615"}, "", NOTHING},
        {DA, {.patient_birth_date = "19801315"}, "2020", "- - implausible dicom:PatientBirthDate"},
        {DA,
         {.patient_birth_date = "20300101"},
         "2020-01-01",
         "-10 a implausible dicom:PatientBirthDate"},
        {AGE("a", "{}", "\"dicom:PatientBirthDate\",\"dicom:PatientAge\""),
         {.patient_age = "045Y"},
         "2020",
         "45 a used dicom:PatientAge"},
        {SEX, {.patient_sex = "F"}, "", "female - used dicom:PatientSex"},
        {SEX, {.patient_sex = "M "}, "", "male - used dicom:PatientSex"},
        {SEX, {.patient_sex = "O"}, "", "O - implausible dicom:PatientSex"},
        {SEX, {.patient_sex = ""}, "", NOTHING},
        {VIEW, {.view_position = "AP"}, "", "AP - used dicom:ViewPosition"},
        {VIEW, {.view_position = "LL"}, "", "LL - implausible dicom:ViewPosition"},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        MF_AUTO(mf_mem) char *got = extract(ROWS[i].feature, "", &ROWS[i].d, ROWS[i].at);
        if (strcmp(got, ROWS[i].expected) != 0)
            fail_msg("row %zu: \"%s\" instead of \"%s\"", i, got, ROWS[i].expected);
    }
}

static void fhir_goes_before_dicom(void **state)
{
    (void)state;
    const struct mf_demographics d = {.patient_age = "045Y", .patient_sex = "F"};
#define BOTH AGE("a", "{}", "\"fhir:Patient.birthDate\",\"dicom:PatientAge\"")
    static const char NOBODY[] =
        "{\"resourceType\":\"Patient\",\"id\":\"1\",\"gender\":\"unknown\"}";
    static const struct {
        const char *feature, *fhir, *expected;
    } ROWS[] = {
        {BOTH, PATIENT, "39 a used Patient/1"},
        {BOTH, NOBODY, "45 a used dicom:PatientAge"},
        {BOTH, "", "45 a used dicom:PatientAge"},
        {BOTH, "{\"resourceType\":\"Patient\",\"id\":\"1\",\"birthDate\":\"2030\"}",
         "-11 a implausible Patient/1"},
        {SEX, PATIENT, "male - used Patient/1"},
        {SEX, NOBODY, "female - used dicom:PatientSex"},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        MF_AUTO(mf_mem) char *got = extract(ROWS[i].feature, ROWS[i].fhir, &d, "2020-01-01");
        if (strcmp(got, ROWS[i].expected) != 0)
            fail_msg("row %zu: \"%s\" instead of \"%s\"", i, got, ROWS[i].expected);
    }
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
        cmocka_unit_test(sources_in_order),
        cmocka_unit_test(patient_demographics),
        cmocka_unit_test(dicom_demographics),
        cmocka_unit_test(fhir_goes_before_dicom),
        cmocka_unit_test(long_texts_are_not_shown),
        cmocka_unit_test(a_full_arena_is_an_error),
        cmocka_unit_test(a_hundred_thousand_values),
    };
    return cmocka_run_group_tests_name("fhir/extract", tests, NULL, NULL);
}
