/* What the tests of extraction share: a feature, FHIR data and a moment, and what comes of them. */
#ifndef MF_TESTS_FHIR_EXTRACT_EXPECT_H
#define MF_TESTS_FHIR_EXTRACT_EXPECT_H

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
static inline char *extract(const char *feature, const char *fhir, const struct mf_demographics *d,
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

static inline void check_rows(const struct row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        MF_AUTO(mf_mem) char *got = extract(rows[i].feature, rows[i].fhir, NULL, rows[i].at);
        if (strcmp(got, rows[i].expected) != 0)
            fail_msg("row %zu: \"%s\" instead of \"%s\"", i, got, rows[i].expected);
    }
}
#define CHECK(rows) check_rows(rows, sizeof(rows) / sizeof *(rows))

/* What became of an observation; what there is of none. */
#define USED "5 mmol/L used Observation/1"
#define NOTHING "- - missing -"

#endif
