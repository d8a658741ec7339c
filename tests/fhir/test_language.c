/*
 * The feature language as it is extracted: resource kinds, value sets, units, windows, aggregation,
 * derived features, policies; statuses and references of the resources. One rule a row.
 */
#include "fhir/extract.h"

#include "tests/expect.h"

#define SC "{\"system\":\"s\",\"code\":\"c\"}"
#define CODED(code) "{\"coding\":[{\"system\":\"s\",\"code\":\"" code "\"}]}"
/* A numeric feature "x" with sources and more members; a resource of Patient/1. */
#define NUM(unit, sources, extra)                                                                  \
    "{\"id\":\"x\",\"kind\":\"numeric\",\"unit\":\"" unit "\",\"sources\":[" sources               \
    "],\"mean\":0,\"std\":1" extra "}"
#define FHIR(extra) "{\"fhir\":[" SC "]" extra "}"
#define R(type, id, rest)                                                                          \
    "{\"resourceType\":\"" type "\",\"id\":\"" id                                                  \
    "\",\"subject\":{\"reference\":\"Patient/1\"}," rest "}\n"
#define OBS(id, code, time, rest)                                                                  \
    R("Observation", id, "\"code\":" CODED(code) ",\"effectiveDateTime\":\"" time "\"," rest)
#define Q(value, unit)                                                                             \
    "\"valueQuantity\":{\"value\":" value ",\"unit\":\"u\",\"system\":\"http://"                   \
    "unitsofmeasure.org\",\"code\":\"" unit "\"}"
#define PATIENT "{\"resourceType\":\"Patient\",\"id\":\"1\",\"birthDate\":\"1950-01-01\"}\n"
#define NOTHING "- missing - -"

struct row {
    const char *before, *feature, *fhir, *at, *expected;
};

/* "value status source policy" of the last feature, or the error. `before`: helpers, value sets. */
static void extract(const struct row *row, char out[512])
{
    struct mf_error err = MF_ERROR_INIT;
    char definition[4096], number[40];
    struct mf_time at;
    struct mf_feature_value values[8];
    snprintf(definition, sizeof definition,
             "{\"schema\":\"medfusion.features/1\"%s,\"features\":[%s]}", row->before,
             row->feature);
    MF_AUTO(mf_json) json_t *json = json_of(definition);
    MF_AUTO(mf_feature_set) struct mf_feature_set *set = mf_feature_set_parse(json, "f", &err);
    assert_no_error(&err);
    MF_AUTO(mf_fhir_document)
    struct mf_fhir_document *doc =
        *row->fhir ? mf_fhir_document_parse(row->fhir, strlen(row->fhir), NULL, "ehr", &err) : NULL;
    assert_no_error(&err);
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(0);
    assert_true(mf_time_parse_fhir(row->at, &at, NULL));
    if (!mf_fhir_extract(set, doc ? mf_fhir_patient(doc, 0) : NULL, NULL, &at, arena, values,
                         &err)) {
        snprintf(out, 512, "%s", err.msg);
        return;
    }
    const struct mf_feature *f = &set->features[set->count - 1];
    const struct mf_feature_value *v = &values[set->count - 1];
    snprintf(number, sizeof number, "%.6g", v->number);
    snprintf(out, 512, "%s %s %s %s",
             v->has_number     ? number
             : v->has_category ? f->categories[v->category]
                               : "-",
             mf_feature_status_name(v->status), v->source ? v->source : "-",
             v->policy ? v->policy : "-");
}

static void check_rows(const struct row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char got[512];
        extract(&rows[i], got);
        if (strcmp(got, rows[i].expected) != 0)
            fail_msg("row %zu: \"%s\" instead of \"%s\"", i, got, rows[i].expected);
    }
}
#define CHECK(rows) check_rows(rows, sizeof(rows) / sizeof *(rows))

static void units(void **state)
{
    (void)state;
    static const char AT[] = "2020-01-02";
    const struct row rows[] = {
        {"", NUM("mg/L", FHIR(""), ""), PATIENT OBS("1", "c", "2020", Q("1.5", "mg/dL")),
         "2020-12-31", "15 used Observation/1 -"},
        {"", NUM("Cel", FHIR(""), ""), PATIENT OBS("1", "c", "2020-01-01", Q("98.6", "[degF]")), AT,
         "37 used Observation/1 -"},
        {"", NUM("%", FHIR(""), ""), PATIENT OBS("1", "c", "2020-01-01", Q("0.97", "1")), AT,
         "97 used Observation/1 -"},
        {"", NUM("mmol/L", FHIR(""), ",\"molar_mass\":180.156"),
         PATIENT OBS("1", "c", "2020-01-01", Q("90", "mg/dL")), AT, "4.99567 used Observation/1 -"},
        {"", NUM("mmol/L", FHIR(""), ""), PATIENT OBS("1", "c", "2020-01-01", Q("90", "mg/dL")), AT,
         "90 implausible Observation/1 -"},
        /* a rule of the definition reaches units that UCUM takes to its own */
        {"", NUM("mmol/L", FHIR(""), ",\"conversions\":{\"meq/L\":0.5}"),
         PATIENT OBS("1", "c", "2020-01-01", Q("4000", "ueq/L")), AT, "2 used Observation/1 -"},
        {"", NUM("mg/L", FHIR(""), ""),
         PATIENT OBS("1", "c", "2020-01-01",
                     "\"valueRatio\":{\"numerator\":{\"value\":6,\"unit\":\"mg\"},"
                     "\"denominator\":{\"value\":2,\"unit\":\"L\"}}"),
         AT, "3 used Observation/1 -"},
        {"", NUM("1", FHIR(",\"read\":\"upper_limits\""), ""),
         PATIENT OBS("1", "c", "2020-01-01",
                     Q("90", "U/L") ",\"referenceRange\":[{\"appliesTo\":[{\"text\":\"men\"}],"
                                    "\"high\":{\"value\":1}},{\"high\":{\"value\":45,\"unit\":"
                                    "\"U/L\"}}]"),
         AT, "2 used Observation/1 -"},
        {"", NUM("1", FHIR(",\"read\":\"upper_limits\""), ""),
         PATIENT OBS("1", "c", "2020-01-01", Q("90", "U/L")), AT, NOTHING},
    };
    CHECK(rows);
}

static void existence(void **state)
{
    (void)state;
    static const char AT[] = "2020-06-01T12:00:00Z";
#define ICD "{\"system\":\"icd\",\"prefix\":\"J18\"}"
#define PNEUMONIA "{\"resource\":\"Condition\",\"fhir\":[{\"value_set\":\"pneumonia\"}]}"
#define SETS ",\"value_sets\":{\"pneumonia\":[" ICD ",{\"system\":\"s\",\"code\":\"p\"}]}"
#define CONDITION(id, code, rest)                                                                  \
    R("Condition", id, "\"code\":{\"coding\":[{\"system\":\"icd\",\"code\":\"" code "\"}]}" rest)
#define PRESENT NUM("1", PNEUMONIA, ",\"pick\":\"present\",\"window\":\"P30D\"")
#define COUNT(source) NUM("1", source, ",\"pick\":\"count\"")
#define SINCE(source) NUM("d", source, ",\"pick\":\"days_since\"")
    const struct row rows[] = {
        {SETS, PRESENT, PATIENT CONDITION("1", "J18.9", ",\"onsetDateTime\":\"2020-05-20\""), AT,
         "1 used Condition/1 -"},
        {SETS, PRESENT, PATIENT CONDITION("1", "J20.9", ",\"onsetDateTime\":\"2020-05-20\""), AT,
         "0 used - -"},
        {SETS, PRESENT, PATIENT, AT, "0 used - -"},
        {SETS, PRESENT, "", AT, NOTHING}, /* nothing is known of nobody */
        /* something that lasts counts while it lasts */
        {SETS, PRESENT, PATIENT CONDITION("1", "J18", ",\"onsetDateTime\":\"2010\""), AT,
         "1 used Condition/1 -"},
        {SETS, PRESENT,
         PATIENT CONDITION("1", "J18",
                           ",\"onsetDateTime\":\"2010\",\"abatementDateTime\":\"2011\""),
         AT, "0 used - -"},
        {SETS, PRESENT,
         PATIENT CONDITION("1", "J18",
                           ",\"onsetDateTime\":\"2010\",\"abatementDateTime\":\"2020-05-30\""),
         AT, "1 used Condition/1 -"},
        {SETS, PRESENT,
         PATIENT CONDITION("1", "J18",
                           ",\"onsetDateTime\":\"2010\",\"clinicalStatus\":{\"coding\":[{\"code\":"
                           "\"resolved\"}]}"),
         AT, "0 used - -"},
        {SETS, PRESENT, PATIENT CONDITION("1", "J18", ",\"recordedDate\":\"2020-05-30\""), AT,
         "1 used Condition/1 -"},
        {SETS, PRESENT, PATIENT CONDITION("1", "J18", ",\"onsetDateTime\":\"2021\""), AT,
         "0 used - -"},
        {SETS, PRESENT,
         PATIENT CONDITION("1", "J18",
                           ",\"onsetDateTime\":\"2020-05-20\",\"verificationStatus\":{\"coding\":"
                           "[{\"code\":\"refuted\"}]}"),
         AT, "0 used - -"},
        /* of two categories */
        {SETS,
         "{\"id\":\"k\",\"kind\":\"categorical\",\"sources\":[" PNEUMONIA
         "],\"pick\":\"present\",\"categories\":[\"no\",\"yes\"]}",
         PATIENT CONDITION("1", "J18", ",\"onsetDateTime\":\"2020-05-20\""), AT,
         "yes used Condition/1 -"},
        {SETS,
         "{\"id\":\"k\",\"kind\":\"categorical\",\"sources\":[" PNEUMONIA
         "],\"pick\":\"present\",\"categories\":[\"no\",\"yes\"]}",
         PATIENT, AT, "no used - -"},
        /* counting: sources together, the same thing once */
        {SETS, COUNT(PNEUMONIA "," FHIR("")),
         PATIENT CONDITION("1", "J18", ",\"onsetDateTime\":\"2010\"")
             CONDITION("2", "J18", ",\"onsetDateTime\":\"2010\"") CONDITION(
                 "3", "J18.0", ",\"onsetDateTime\":\"2010\"") OBS("4", "c", "2019", Q("1", "1"))
                 OBS("5", "c", "2019", "\"issued\":\"2019\""),
         AT, "3 used Observation/4 -"},
        {"", SINCE(FHIR("")), PATIENT OBS("1", "c", "2020-05-01T12:00:00Z", Q("1", "1")), AT,
         "31 used Observation/1 -"},
        {"", SINCE(FHIR("")), PATIENT, AT, NOTHING},
        {"", NUM("wk", FHIR(""), ",\"pick\":\"days_since\""),
         PATIENT OBS("1", "c", "2020-05-18T12:00:00Z", Q("1", "1")), AT, "2 used Observation/1 -"},
    };
    CHECK(rows);
}

static void resource_kinds(void **state)
{
    (void)state;
    static const char AT[] = "2020-06-01";
#define KIND(type)                                                                                 \
    NUM("1", FHIR(",\"resource\":\"" type "\""), ",\"pick\":\"present\",\"window\":\"P90D\"")
    const struct row rows[] = {
        {"", KIND("Procedure"),
         PATIENT R("Procedure", "1",
                   "\"status\":\"completed\",\"code\":" CODED(
                       "c") ",\"performedPeriod\":{"
                            "\"start\":\"2020-05-01\",\"end\":\"2020-05-02\"}"),
         AT, "1 used Procedure/1 -"},
        {"", KIND("Procedure"),
         PATIENT R("Procedure", "1",
                   "\"status\":\"not-done\",\"code\":" CODED("c") ",\"performedDateTime\":"
                                                                  "\"2020-05-01\""),
         AT, "0 used - -"},
        {"", KIND("MedicationRequest"),
         PATIENT R(
             "MedicationRequest", "1",
             "\"status\":\"active\",\"intent\":\"order\",\"medicationCodeableConcept\":" CODED(
                 "c") ",\"authoredOn\":\"2019-05-01\""),
         AT, "1 used MedicationRequest/1 -"},
        {"", KIND("MedicationRequest"),
         PATIENT R("MedicationRequest", "1",
                   "\"status\":\"completed\",\"medicationCodeableConcept\":" CODED(
                       "c") ",\"authoredOn\":\"2019-05-01\""),
         AT, "0 used - -"},
        {"", KIND("MedicationRequest"),
         PATIENT R(
             "MedicationRequest", "1",
             "\"status\":\"active\",\"doNotPerform\":true,\"medicationCodeableConcept\":" CODED(
                 "c") ",\"authoredOn\":\"2020-05-01\""),
         AT, "0 used - -"},
        /* by reference: to an entry, and contained */
        {"", KIND("MedicationAdministration"),
         PATIENT "{\"resourceType\":\"Medication\",\"id\":\"m\",\"code\":" CODED("c") "}\n" R(
             "MedicationAdministration", "1",
             "\"status\":\"completed\",\"medicationReference\":{\"reference\":\"Medication/m\"},"
             "\"effectiveDateTime\":\"2020-05-01\""),
         AT, "1 used MedicationAdministration/1 -"},
        {"", KIND("MedicationStatement"),
         PATIENT R("MedicationStatement", "1",
                   "\"status\":\"active\",\"contained\":[{\"resourceType\":\"Medication\",\"id\":"
                   "\"m\",\"code\":" CODED("c") "}],\"medicationReference\":{\"reference\":\"#m\"},"
                                                "\"effectivePeriod\":{\"start\":\"2015\"}"),
         AT, "1 used MedicationStatement/1 -"},
        {"", KIND("AllergyIntolerance"),
         PATIENT "{\"resourceType\":\"AllergyIntolerance\",\"id\":\"1\",\"patient\":{\"reference\":"
                 "\"Patient/1\"},\"code\":" CODED("c") ",\"recordedDate\":\"2015\"}",
         AT, "1 used AllergyIntolerance/1 -"},
        {"", KIND("ServiceRequest"),
         PATIENT R("ServiceRequest", "1",
                   "\"status\":\"active\",\"intent\":\"order\",\"code\":" CODED(
                       "c") ",\"authoredOn\":\"2020-05-31\""),
         AT, "1 used ServiceRequest/1 -"},
        {"", KIND("ImagingStudy"),
         PATIENT R("ImagingStudy", "1",
                   "\"status\":\"available\",\"modality\":[{\"system\":\"s\",\"code\":\"c\"}],"
                   "\"started\":\"2020-05-30\""),
         AT, "1 used ImagingStudy/1 -"},
        {"", KIND("DiagnosticReport"),
         PATIENT R("DiagnosticReport", "1",
                   "\"status\":\"final\",\"code\":{},\"conclusionCode\":[" CODED(
                       "c") "],\"effectiveDateTime\":\"2020-05-30\""),
         AT, "1 used DiagnosticReport/1 -"},
        {"", KIND("Encounter"),
         PATIENT R("Encounter", "1",
                   "\"status\":\"in-progress\",\"class\":{\"system\":\"s\",\"code\":\"c\"},"
                   "\"period\":{\"start\":\"2019-01-01\"}"),
         AT, "1 used Encounter/1 -"},
        {"", KIND("Encounter"),
         PATIENT R("Encounter", "1",
                   "\"status\":\"finished\",\"class\":{\"system\":\"s\",\"code\":\"c\"},"
                   "\"period\":{\"start\":\"2019-01-01\",\"end\":\"2019-01-09\"}"),
         AT, "0 used - -"},
        {"", KIND("Encounter"),
         PATIENT R("Encounter", "1",
                   "\"status\":\"planned\",\"class\":{\"system\":\"s\",\"code\":\"c\"},"
                   "\"period\":{\"start\":\"2020-05-30\"}"),
         AT, "0 used - -"},
    };
    CHECK(rows);
}

static void aggregation_and_windows(void **state)
{
    (void)state;
    static const char AT[] = "2020-01-10";
#define PICK(pick) NUM("1", FHIR(""), ",\"pick\":\"" pick "\"")
#define FOUR                                                                                       \
    PATIENT OBS("1", "c", "2020-01-01", Q("4", "1")) OBS("2", "c", "2020-01-03", Q("9", "1"))      \
        OBS("3", "c", "2020-01-05", Q("1", "1")) OBS("4", "c", "2020-01-08", Q("6", "1"))
    const struct row rows[] = {
        {"", PICK("median"), FOUR, AT, "5 used Observation/4 -"},
        {"", PICK("sum"), FOUR, AT, "20 used Observation/4 -"},
        {"", PICK("delta"), FOUR, AT, "2 used Observation/4 -"},
        {"", PICK("count"), FOUR, AT, "4 used Observation/4 -"},
        {"", PICK("median"), FOUR OBS("5", "c", "2020-01-09", Q("6", "1")), AT,
         "6 used Observation/5 -"},
        /* a window that ends before the study */
        {"", NUM("1", FHIR(""), ",\"window\":{\"from\":\"P7D\",\"to\":\"P3D\"}"), FOUR, AT,
         "1 used Observation/3 -"},
        {"", NUM("1", FHIR(""), ",\"window\":{\"to\":\"P6D\"}"), FOUR, AT,
         "9 used Observation/2 -"},
        {"", NUM("1", FHIR(""), ",\"window\":{\"from\":\"P1D\"}"), FOUR, AT,
         "6 stale Observation/4 -"},
        /* statuses: preliminary gives way at its moment, corrected comes before final */
        {"", PICK("last"),
         PATIENT OBS("1", "c", "2020-01-01", "\"status\":\"final\"," Q("4", "1"))
             OBS("2", "c", "2020-01-01", "\"status\":\"preliminary\"," Q("5", "1")),
         AT, "4 used Observation/1 -"},
        {"", PICK("max"),
         PATIENT OBS("1", "c", "2020-01-01", "\"status\":\"final\"," Q("4", "1"))
             OBS("2", "c", "2020-01-01", "\"status\":\"preliminary\"," Q("5", "1")),
         AT, "4 used Observation/1 -"},
        {"", PICK("max"),
         PATIENT OBS("1", "c", "2020-01-01", "\"status\":\"final\"," Q("4", "1"))
             OBS("2", "c", "2020-01-02", "\"status\":\"preliminary\"," Q("5", "1")),
         AT, "5 used Observation/2 -"},
        {"", PICK("mean"),
         PATIENT OBS("1", "c", "2020-01-01", "\"status\":\"corrected\"," Q("4", "1"))
             OBS("2", "c", "2020-01-01", "\"status\":\"final\"," Q("8", "1")),
         AT, "4 used Observation/1 -"},
        /* members of a panel that say no time, contained ones that say no subject */
        {"", PICK("last"),
         PATIENT R("Observation", "2", "\"code\":" CODED("c") "," Q("7", "1"))
             OBS("1", "panel", "2020-01-04", "\"hasMember\":[{\"reference\":\"Observation/2\"}]"),
         AT, "7 used Observation/2 -"},
        {"", PICK("last"),
         PATIENT "{\"resourceType\":\"Patient\",\"id\":\"9\"}\n" R(
             "DiagnosticReport", "d",
             "\"code\":{},\"effectiveDateTime\":\"2020-01-04\",\"result\":[{\"reference\":\"#o\"}],"
             "\"contained\":[{\"resourceType\":\"Observation\",\"id\":\"o\",\"code\":" CODED(
                 "c") "," Q("7", "1") "}]"),
         AT, "7 used DiagnosticReport/d#o -"},
        /* interpretation as a category */
        {"",
         "{\"id\":\"k\",\"kind\":\"categorical\",\"sources\":[" FHIR(
             ",\"read\":\"interpretation\"") "],\"categories\":[\"normal\",\"high\"],\"map\":{"
                                             "\"H\":"
                                             "\"high\",\"HH\":\"high\",\"N\":\"normal\"}}",
         PATIENT OBS("1", "c", "2020-01-01",
                     "\"interpretation\":[{\"coding\":[{\"code\":\"HH\"}]}]"),
         AT, "high used Observation/1 -"},
    };
    CHECK(rows);
}

#define HELPERS                                                                                    \
    ",\"helpers\":[{\"id\":\"weight\",\"unit\":\"kg\",\"sources\":[{\"fhir\":[{\"system\":\"s\","  \
    "\"code\":\"w\"}]}],\"range\":[1,400]},{\"id\":\"height\",\"unit\":\"m\",\"sources\":[{"       \
    "\"fhir\":[{\"system\":\"s\",\"code\":\"h\"}]}],\"window\":\"P1Y\"},{\"id\":\"years\","        \
    "\"unit\":\"a\",\"sources\":[\"fhir:Patient.birthDate\"]}]"
#define BMI(more)                                                                                  \
    NUM("kg/m2", FHIR("") ",{\"derive\":\"weight / height^2\"" more "}", ",\"range\":[10,80]")

static void derived(void **state)
{
    (void)state;
    static const char AT[] = "2020-01-10";
#define W(value, time) OBS("w", "w", time, Q(value, "kg"))
#define H(value, time) OBS("h", "h", time, Q(value, "cm"))
    const struct row rows[] = {
        {HELPERS, BMI(""), PATIENT W("80", "2020-01-01") H("200", "2019-06-01"), AT,
         "20 used Observation/w, Observation/h -"},
        /* measured goes before derived */
        {HELPERS, BMI(""),
         PATIENT W("80", "2020-01-01") H("200", "2019-06-01")
             OBS("b", "c", "2020-01-02", Q("21", "kg/m2")),
         AT, "21 used Observation/b -"},
        {HELPERS, BMI(""), PATIENT W("80", "2020-01-01"), AT, NOTHING},
        {HELPERS, BMI(""), PATIENT W("80", "2020-01-01") H("200", "2010"), AT, "- stale - -"},
        {HELPERS, BMI(""), PATIENT W("800", "2020-01-01") H("200", "2020-01-01"), AT,
         "- implausible - -"},
        {HELPERS, BMI(""), PATIENT W("80", "2020-01-01") H("0", "2020-01-01"), AT,
         "- implausible Observation/w, Observation/h -"},
        {HELPERS, BMI(""), PATIENT W("80", "2020-01-01") H("50", "2020-01-01"), AT,
         "320 implausible Observation/w, Observation/h -"},
        {HELPERS, BMI(",\"within\":\"P7D\""), PATIENT W("80", "2020-01-01") H("200", "2019-06-01"),
         AT, NOTHING},
        {HELPERS, BMI(",\"within\":\"P7D\""), PATIENT W("80", "2020-01-01") H("200", "2019-12-30"),
         AT, "20 used Observation/w, Observation/h -"},
        /* of features that come before, of demographics */
        {HELPERS,
         "{\"id\":\"age\",\"kind\":\"numeric\",\"unit\":\"a\",\"sources\":[\"fhir:Patient."
         "birthDate\"],\"mean\":0,\"std\":1}," NUM("1", "{\"derive\":\"(age + years) / 2\"}", ""),
         PATIENT, AT, "70 used Patient/1 -"},
    };
    CHECK(rows);
}

static void policies(void **state)
{
    (void)state;
    static const char AT[] = "2020-01-10";
#define POLICY(policy)                                                                             \
    NUM("1", FHIR(""), ",\"range\":[1,10],\"window\":\"P7D\",\"policy\":{" policy "}")
    const struct row rows[] = {
        {"", POLICY("\"missing\":5"), PATIENT, AT, "5 used - missing"},
        {"", POLICY("\"missing\":\"token\""), PATIENT, AT, NOTHING},
        {"", POLICY("\"missing\":\"refuse\""), PATIENT, AT,
         "the model needs the feature \"x\", which is missing"},
        {"", POLICY("\"missing\":5"), PATIENT OBS("1", "c", "2020-01-09", Q("50", "1")), AT,
         "5 used - implausible"},
        {"", POLICY("\"missing\":5"), PATIENT OBS("1", "c", "2019-01-09", Q("9", "1")), AT,
         "5 used - stale"},
        {"", POLICY("\"stale\":\"use\""), PATIENT OBS("1", "c", "2019-01-09", Q("9", "1")), AT,
         "9 used Observation/1 stale"},
        {"", POLICY("\"stale\":\"use\""), PATIENT OBS("1", "c", "2019-01-09", Q("90", "1")), AT,
         "90 stale Observation/1 -"},
        {"", POLICY("\"stale\":\"refuse\""), PATIENT OBS("1", "c", "2019-01-09", Q("9", "1")), AT,
         "the model needs the feature \"x\", which is stale"},
        {"", POLICY("\"implausible\":\"clamp\""), PATIENT OBS("1", "c", "2020-01-09", Q("50", "1")),
         AT, "10 used Observation/1 implausible"},
        {"", POLICY("\"implausible\":\"clamp\""), PATIENT OBS("1", "c", "2020-01-09", Q("5", "kg")),
         AT, "5 implausible Observation/1 -"},
        {"", POLICY("\"implausible\":\"refuse\""), PATIENT OBS("1", "c", "2020-01-09", Q("0", "1")),
         AT, "the model needs the feature \"x\", which is implausible"},
        {"",
         "{\"id\":\"k\",\"kind\":\"categorical\",\"sources\":[" FHIR(
             "") "],\"categories\":[\"a\",\"b\"],\"policy\":{\"missing\":\"b\"}}",
         PATIENT, AT, "b used - missing"},
    };
    CHECK(rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(units),          cmocka_unit_test(existence),
        cmocka_unit_test(resource_kinds), cmocka_unit_test(aggregation_and_windows),
        cmocka_unit_test(derived),        cmocka_unit_test(policies),
    };
    return cmocka_run_group_tests_name("fhir/language", tests, NULL, NULL);
}
