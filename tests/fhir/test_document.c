/*
 * fhir/document.c, tree.c, check.c, patients.c, match.c: what is accepted, what is refused with
 * which sentence, whose each Observation is, which patient answers to a PatientID.
 */
#include "fhir/record.h"

#include "tests/expect.h"

#define PATIENT(id) "{\"resourceType\":\"Patient\",\"id\":\"" id "\"}"
#define OBSERVATION(id, subject)                                                                   \
    "{\"resourceType\":\"Observation\",\"id\":\"" id "\",\"status\":\"final\",\"code\":{},"        \
    "\"subject\":" subject "}"
#define REF(reference) "{\"reference\":\"" reference "\"}"
#define BUNDLE(entries)                                                                            \
    "{\"resourceType\":\"Bundle\",\"type\":\"collection\",\"entry\":[" entries "]}"
#define ENTRY(url, resource) "{\"fullUrl\":\"" url "\",\"resource\":" resource "}"

static struct mf_fhir_document *parse(const char *text, struct mf_error *err)
{
    return mf_fhir_document_parse(text, strlen(text), NULL, "ehr", err);
}

/* "Patient/1: Observation/2 Observation/3; Patient/4:" */
static char *summary(const struct mf_fhir_document *doc)
{
    char *text = calloc(1, 4096);
    size_t n = 0;
    for (size_t i = 0; i < mf_fhir_patient_count(doc); i++) {
        const struct mf_fhir_patient *p = mf_fhir_patient(doc, i);
        n += (size_t)snprintf(text + n, 4096 - n, "%s%s:", i ? "; " : "", p->reference);
        for (size_t k = 0; k < p->record_count; k++)
            n += (size_t)snprintf(text + n, 4096 - n, " %s", p->records[k]->reference);
    }
    return text;
}

static void who_owns_what(void **state)
{
    (void)state;
    static const struct {
        const char *text, *summary;
    } ROWS[] = {
        /* a single resource, a Bundle without entries' URLs, NDJSON */
        {PATIENT("1"), "Patient/1:"},
        {"\xEF\xBB\xBF \n" PATIENT("1") "\n\n", "Patient/1:"},
        {BUNDLE("{\"resource\":" PATIENT("1") "},{\"resource\":" OBSERVATION("2",
                                                                             REF("Patient/1")) "}"),
         "Patient/1: Observation/2"},
        {OBSERVATION("2", REF("Patient/1")) "\n" PATIENT("1") "\n\r\n" OBSERVATION(
             "3", REF("Patient/1")),
         "Patient/1: Observation/2 Observation/3"},
        /* nobody else's, other subjects, no subject */
        {PATIENT("1") "\n" OBSERVATION("2", REF("Patient/9")),
         "Patient/1:; Patient/9: Observation/2"},
        {PATIENT("1") "\n" OBSERVATION("2", REF("Device/1")), "Patient/1:"},
        {PATIENT("1") "\n" OBSERVATION("2", REF("Group/1")), "Patient/1:"},
        {PATIENT("1") "\n" OBSERVATION("2", "{\"display\":\"somebody\"}"), "Patient/1:"},
        {PATIENT("1") "\n{\"resourceType\":\"Observation\",\"id\":\"2\",\"code\":{}}",
         "Patient/1: Observation/2"},
        {PATIENT("1") "\n" PATIENT(
             "7") "\n{\"resourceType\":\"Observation\",\"id\":\"2\",\"code\":{}}",
         "Patient/1:; Patient/7:"},
        {OBSERVATION("2", REF("Patient/1")), "Patient/1: Observation/2"},
        /* versions of references and absolute ones */
        {PATIENT("1") "\n" OBSERVATION("2", REF("Patient/1/_history/3")),
         "Patient/1: Observation/2"},
        {PATIENT("1") "\n" OBSERVATION("2", REF("https://a.example/fhir/Patient/1")),
         "Patient/1: Observation/2"},
        {BUNDLE(ENTRY("urn:uuid:aa", PATIENT("1")) "," ENTRY("urn:uuid:bb",
                                                             OBSERVATION("2", REF("urn:uuid:aa")))),
         "Patient/1: Observation/2"},
        {BUNDLE(ENTRY("urn:uuid:aa", "{\"resourceType\":\"Patient\"}") "," ENTRY(
             "urn:uuid:bb",
             "{\"resourceType\":\"Observation\",\"code\":{},\"subject\":" REF("urn:uuid:aa") "}")),
         "urn:uuid:aa: urn:uuid:bb"},
        {PATIENT("1") "\n" OBSERVATION("2", REF("urn:uuid:of-a-device")), "Patient/1:"},
        /* two servers use the same id: the base of the Observation's fullUrl decides */
        {BUNDLE(ENTRY("https://a/Patient/1", PATIENT("1")) "," ENTRY(
             "https://b/Patient/1",
             PATIENT("1")) "," ENTRY("https://b/Observation/2",
                                     OBSERVATION(
                                         "2",
                                         REF("Patient/1"))) "," ENTRY("https://c/Observation/3",
                                                                      OBSERVATION(
                                                                          "3", REF("Patient/1")))),
         "Patient/1:; Patient/1: Observation/2"},
        {BUNDLE(ENTRY("https://a/Patient/1", PATIENT("1")) "," ENTRY(
             "https://b/Observation/2", OBSERVATION("2", REF("https://b/Patient/1")))),
         "Patient/1:; https://b/Patient/1: Observation/2"},
        /* contained */
        {"{\"resourceType\":\"DiagnosticReport\",\"id\":\"7\",\"contained\":[" PATIENT(
             "p") "," OBSERVATION("o", REF("#p")) "]}",
         "DiagnosticReport/7#p: DiagnosticReport/7 DiagnosticReport/7#o"},
        {PATIENT("1") "\n{\"resourceType\":\"Observation\",\"id\":\"2\",\"code\":{},"
                      "\"subject\":" REF("#x") "}",
         "Patient/1:"},
        /* by identifier */
        {"{\"resourceType\":\"Patient\",\"id\":\"1\",\"identifier\":[{\"system\":\"s\","
         "\"value\":\"v\"}]}\n" OBSERVATION(
             "2", "{\"identifier\":{\"system\":\"s\",\"value\":"
                  "\"v\"}}") "\n" OBSERVATION("3", REF("Patient?identifier=s|v")),
         "Patient/1: Observation/2 Observation/3"},
        {OBSERVATION("2", "{\"identifier\":{\"system\":\"s\",\"value\":\"v\"}}"),
         "Patient: Observation/2"},
        /* superseded versions, by lastUpdated, else by place */
        {PATIENT("1") "\n{\"resourceType\":\"Observation\",\"id\":\"2\",\"code\":{},\"meta\":{"
                      "\"lastUpdated\":"
                      "\"2020-01-02T00:00:00Z\"}}\n{\"resourceType\":\"Observation\",\"id\":\"2\","
                      "\"code\":{},"
                      "\"meta\":{\"lastUpdated\":\"2020-01-01T00:00:00Z\"}}",
         "Patient/1: Observation/2"},
        {PATIENT("1") "\n" PATIENT("1") "\n" OBSERVATION("2", REF("Patient/1")),
         "Patient/1: Observation/2"},
        {BUNDLE(ENTRY("https://a/Patient/1/_history/1",
                      PATIENT("1")) "," ENTRY("https://a/Patient/1/_history/2", PATIENT("1"))),
         "Patient/1:"},
        /* Bundles in Bundles, entries without resources, other resources */
        {BUNDLE("{\"resource\":" BUNDLE(
             "{\"resource\":" PATIENT("1") "}") "},{\"request\":{\"method\":\"DELETE\"}},"
                                                "{\"resource\":{\"resourceType\":\"Medication\"}}"),
         "Patient/1:"},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        struct mf_error err = MF_ERROR_INIT;
        MF_AUTO(mf_fhir_document) struct mf_fhir_document *doc = parse(ROWS[i].text, &err);
        assert_no_error(&err);
        MF_AUTO(mf_mem) char *got = summary(doc);
        assert_string_equal(got, ROWS[i].summary);
    }
}

static void bad_documents_are_refused_with_a_reason(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum mf_code code;
        const char *msg;
    } ROWS[] = {
        {"", MF_ERR_MALFORMED, "ehr: empty, no FHIR in it"},
        {"\xEF\xBB\xBF \n", MF_ERR_MALFORMED, "ehr: empty, no FHIR in it"},
        {"\x1F\x8B\x08", MF_ERR_UNSUPPORTED, "ehr: FHIR in gzip is not supported, send JSON"},
        {"\xFE\xFF\0{", MF_ERR_UNSUPPORTED, "ehr: FHIR in UTF-16 is not supported, send JSON"},
        {"{\"resourceType\":", MF_ERR_MALFORMED, "ehr: not valid JSON (line 1, column 16)"},
        {"# Title\n\nText {with} {braces}", MF_ERR_MALFORMED,
         "ehr: not valid JSON (line 1, column 1)"},
        {"hello", MF_ERR_MALFORMED, "ehr: not valid JSON (line 1, column 5)"},
        {PATIENT("1") "\n{\"resourceType\":\n", MF_ERR_MALFORMED,
         "ehr: not valid JSON (line 3, column 0)"},
        {PATIENT("1") PATIENT("2"), MF_ERR_MALFORMED, "ehr: not valid JSON (line 1, column 36)"},
        {"<Bundle xmlns=\"http://hl7.org/fhir\"/>", MF_ERR_UNSUPPORTED,
         "ehr: FHIR in XML is not supported, send JSON"},
        {"{}", MF_ERR_MALFORMED,
         "ehr: the document is not a FHIR resource (an object with \"resourceType\")"},
        {"[]", MF_ERR_MALFORMED,
         "ehr: the document is not a FHIR resource (an object with \"resourceType\")"},
        {"{\"resourceType\":\"Patient\",\"id\":1}", MF_ERR_MALFORMED,
         "ehr: Patient.id must be a string"},
        {"{\"resourceType\":\"Patient\",\"resourceType\":\"Patient\"}", MF_ERR_MALFORMED,
         "ehr: a JSON object has the same key twice (line 1)"},
        {"{\"resourceType\":\"Bundle\",\"entry\":{}}", MF_ERR_MALFORMED,
         "ehr: Bundle.entry must be a list"},
        {"{\"resourceType\":\"Bundle\",\"entry\":[1]}", MF_ERR_MALFORMED,
         "ehr: Bundle.entry must be a list of objects"},
        {"{\"resourceType\":\"Bundle\",\"entry\":[{\"fullUrl\":1}]}", MF_ERR_MALFORMED,
         "ehr: Bundle.entry[0].fullUrl must be a string"},
        {BUNDLE("{\"resource\":7}"), MF_ERR_MALFORMED,
         "ehr: Bundle.entry[0].resource is not a FHIR resource (an object with \"resourceType\")"},
        {"{\"resourceType\":\"Patient\",\"contained\":{}}", MF_ERR_MALFORMED,
         "ehr: Patient.contained must be a list"},
        {"{\"resourceType\":\"Bundle\"}", MF_ERR_UNUSABLE, "ehr: no Patient in the FHIR data"},
        {"{\"resourceType\":\"Medication\"}", MF_ERR_UNUSABLE, "ehr: no Patient in the FHIR data"},
        {"{\"resourceType\":\"Observation\",\"code\":{}}", MF_ERR_UNUSABLE,
         "ehr: no Patient in the FHIR data"},
        /* elements that are read, with wrong types; content is never quoted */
        {"{\"resourceType\":\"Patient\",\"birthDate\":\"7 March 1980\"}", MF_ERR_MALFORMED,
         "ehr: Patient.birthDate must be a FHIR date "
         "(YYYY[-MM[-DD[Thh:mm:ss+zz:zz]]])"},
        {"{\"resourceType\":\"Patient\",\"birthDate\":1980}", MF_ERR_MALFORMED,
         "ehr: Patient.birthDate must be a FHIR date "
         "(YYYY[-MM[-DD[Thh:mm:ss+zz:zz]]])"},
        {"{\"resourceType\":\"Patient\",\"identifier\":[\"Miller\"]}", MF_ERR_MALFORMED,
         "ehr: Patient.identifier must be a list of objects"},
        {"{\"resourceType\":\"Patient\",\"identifier\":[{\"value\":7}]}", MF_ERR_MALFORMED,
         "ehr: Patient.identifier[0].value must be a string"},
        {"{\"resourceType\":\"Observation\"}", MF_ERR_MALFORMED,
         "ehr: Observation.code must be an object"},
        {"{\"resourceType\":\"Observation\",\"code\":{\"coding\":[{\"code\":5}]}}",
         MF_ERR_MALFORMED, "ehr: Observation.code.coding[0].code must be a string"},
        {"{\"resourceType\":\"Observation\",\"code\":{},\"valueQuantity\":{\"value\":\"5\"}}",
         MF_ERR_MALFORMED, "ehr: Observation.valueQuantity.value must be a number"},
        {"{\"resourceType\":\"Observation\",\"code\":{},\"valueInteger\":5.5}", MF_ERR_MALFORMED,
         "ehr: Observation.valueInteger must be a whole number"},
        {"{\"resourceType\":\"Observation\",\"code\":{},\"valueBoolean\":\"true\"}",
         MF_ERR_MALFORMED, "ehr: Observation.valueBoolean must be true or false"},
        {"{\"resourceType\":\"Observation\",\"code\":{},\"effectiveDateTime\":\"2019-02-30\"}",
         MF_ERR_MALFORMED,
         "ehr: Observation.effectiveDateTime must be a FHIR date "
         "(YYYY[-MM[-DD[Thh:mm:ss+zz:zz]]])"},
        {"{\"resourceType\":\"Observation\",\"code\":{},\"component\":[{\"valueInteger\":1}]}",
         MF_ERR_MALFORMED, "ehr: Observation.component[0].code must be an object"},
        {"{\"resourceType\":\"Observation\",\"code\":{},\"subject\":\"Patient/1\"}",
         MF_ERR_MALFORMED, "ehr: Observation.subject must be an object"},
        {BUNDLE("{\"resource\":" PATIENT("1") "},{\"resource\":{\"resourceType\":\"Observation\","
                                              "\"code\":{},\"issued\":\"now\"}}"),
         MF_ERR_MALFORMED,
         "ehr: Bundle.entry[1].resource.issued must be a FHIR date "
         "(YYYY[-MM[-DD[Thh:mm:ss+zz:zz]]])"},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        struct mf_error err = MF_ERROR_INIT;
        if (parse(ROWS[i].text, &err))
            fail_msg("accepted %s", ROWS[i].text);
        assert_error(&err, ROWS[i].code, ROWS[i].msg);
    }
}

static void limits(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    static const char THREE[] =
        BUNDLE("{\"resource\":" PATIENT("1") "},{\"resource\":" PATIENT("2") "}");
    const struct mf_fhir_limits three = {.max_resources = 3}, two = {.max_resources = 2};
    const struct mf_fhir_limits bytes = {.max_bytes = sizeof THREE - 2};
    MF_AUTO(mf_fhir_document)
    struct mf_fhir_document *doc =
        mf_fhir_document_parse(THREE, sizeof THREE - 1, &three, "ehr", &err);
    assert_int_equal(mf_fhir_document_resource_count(doc), 3);
    assert_null(mf_fhir_patient(doc, 2));
    assert_null(mf_fhir_document_parse(THREE, sizeof THREE - 1, &two, "ehr", &err));
    assert_error(&err, MF_ERR_TOO_LARGE, "ehr: more than 2 resources");
    mf_error_clear(&err);
    char expected[100];
    assert_null(mf_fhir_document_parse(THREE, sizeof THREE - 1, &bytes, "ehr", &err));
    snprintf(expected, sizeof expected, "ehr: %zu bytes of FHIR, at most %zu are accepted",
             sizeof THREE - 1, sizeof THREE - 2);
    assert_error(&err, MF_ERR_TOO_LARGE, expected);
}

/* Ten thousand levels, as JSON arrays, as nested Bundles, as extensions of a Patient in NDJSON. */
static void depth(void **state)
{
    (void)state;
    enum { LEVELS = 10000 };
    static const struct {
        const char *before, *open, *close, *after, *msg;
    } ROWS[] = {
        {"", "[", "]", "", "ehr: JSON is nested deeper than 64 levels"},
        {"", "{\"resourceType\":\"Bundle\",\"entry\":[{\"resource\":", "}]}", "",
         "ehr: JSON is nested deeper than 64 levels"},
        {PATIENT("1") "\n", "{\"resourceType\":\"Patient\",\"extension\":[", "]}", "",
         "ehr: line 2: JSON is nested deeper than 64 levels"},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        size_t open = strlen(ROWS[i].open), close = strlen(ROWS[i].close);
        size_t before = strlen(ROWS[i].before), n = before;
        MF_AUTO(mf_mem) char *text = malloc(before + LEVELS * (open + close) + 1);
        memcpy(text, ROWS[i].before, before);
        for (int k = 0; k < LEVELS; k++, n += open)
            memcpy(text + n, ROWS[i].open, open);
        for (int k = 0; k < LEVELS; k++, n += close)
            memcpy(text + n, ROWS[i].close, close);
        struct mf_error err = MF_ERROR_INIT;
        assert_null(mf_fhir_document_parse(text, n, NULL, "ehr", &err));
        assert_error(&err, MF_ERR_MALFORMED, ROWS[i].msg);
    }
}

/* Cut anywhere, a Bundle is refused; nothing is read behind its end (the copy ends where the text
 * does). */
static void truncation(void **state)
{
    (void)state;
    static const char WHOLE[] = BUNDLE(ENTRY("urn:uuid:aa", PATIENT("1")));
    for (size_t len = 0; len < sizeof WHOLE - 1; len++) {
        struct mf_error err = MF_ERROR_INIT;
        MF_AUTO(mf_mem) char *cut = malloc(len ? len : 1);
        memcpy(cut, WHOLE, len);
        assert_null(mf_fhir_document_parse(cut, len, NULL, "ehr", &err));
        assert_int_equal(err.code, MF_ERR_MALFORMED);
    }
}

#define PEOPLE                                                                                     \
    "{\"resourceType\":\"Patient\",\"id\":\"a\",\"identifier\":[{\"system\":\"urn:oid:1.2.3\","    \
    "\"value\":\"007\"},{\"use\":\"old\",\"value\":\"OLD\"}]}\n"                                   \
    "{\"resourceType\":\"Patient\",\"id\":\"b\",\"identifier\":[{\"system\":\"urn:oid:1.2.4\","    \
    "\"value\":\"007\"},{\"value\":\"B-1\",\"assigner\":{\"display\":\"St. Elsewhere\"}}]}\n"      \
    "{\"resourceType\":\"Patient\",\"id\":\"c\",\"identifier\":[{\"value\":\"B-1\"},"              \
    "{\"system\":\"http://c.example/mrn\",\"value\":\"C\"},{\"system\":\"s\"}]}"

static void matching_a_patient_id(void **state)
{
    (void)state;
    static const char NONE[] =
        "the FHIR data is of another patient: no identifier in it equals the "
        "study's PatientID";
    static const char TWO[] =
        "2 patients of the FHIR data have the study's PatientID as an identifier";
    static const char EMPTY[] =
        "the study has no PatientID, so no patient of the FHIR data can be matched";
    static const struct {
        const char *id, *issuer, *found, *msg;
    } ROWS[] = {
        {"C", NULL, "Patient/c", NULL},
        {" C ", "", "Patient/c", NULL},
        {"c", NULL, NULL, NONE}, /* the resource's id is no identifier, and case counts */
        {"C", "Some Hospital", "Patient/c", NULL}, /* a name and a URI cannot be compared */
        {"C", "http://d.example/mrn", NULL, NONE}, /* two URIs can */
        {"C", "1.2.3", "Patient/c", NULL},
        {"007", NULL, NULL, TWO},
        {"007", "1.2.3", "Patient/a", NULL},
        {"007", "urn:oid:1.2.4", "Patient/b", NULL},
        {"007", "1.2.5", NULL, NONE},
        {"007", "St. Elsewhere", NULL, TWO},
        {"B-1", NULL, NULL, TWO},
        {"B-1", "St. Elsewhere", "Patient/b", NULL},
        {"OLD", NULL, NULL, NONE},
        {"", NULL, NULL, EMPTY},
        {NULL, NULL, NULL, EMPTY},
        {"   ", NULL, NULL, EMPTY},
        {"7", NULL, NULL, NONE},
    };
    MF_AUTO(mf_fhir_document) struct mf_fhir_document *doc = parse(PEOPLE, NULL);
    assert_non_null(doc);
    assert_int_equal(mf_fhir_patient(doc, 0)->identifier_count, 1);
    assert_string_equal(mf_fhir_patient(doc, 1)->identifiers[1].assigner, "St. Elsewhere");
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        struct mf_error err = MF_ERROR_INIT;
        const struct mf_fhir_patient *p =
            mf_fhir_find_patient(doc, ROWS[i].id, ROWS[i].issuer, &err);
        if (ROWS[i].found) {
            assert_no_error(&err);
            assert_string_equal(p->reference, ROWS[i].found);
        } else {
            assert_null(p);
            assert_error(&err, MF_ERR_UNUSABLE, ROWS[i].msg);
        }
    }
}

static void latest_time(void **state)
{
    (void)state;
    MF_AUTO(mf_fhir_document)
    struct mf_fhir_document *doc = parse(
        PATIENT("1") "\n" PATIENT(
            "2") "\n"
                 "{\"resourceType\":\"Observation\",\"code\":{},\"subject\":" REF(
                     "Patient/1") ","
                                  "\"effectiveDateTime\":\"2019-03-07T23:30:00-02:00\"}\n"
                                  "{\"resourceType\":\"Observation\",\"code\":{},\"subject\":" REF(
                                      "Patient/1") ","
                                                   "\"effectiveDateTime\":\"2019-03-07\"}\n"
                                                   "{\"resourceType\":\"Observation\",\"code\":{},"
                                                   "\"subject\":" REF(
                                                       "Patient/1") ","
                                                                    "\"status\":\"entered-in-"
                                                                    "error\",\"effectiveDateTime\":"
                                                                    "\"2022\"}\n"
                                                                    "{\"resourceType\":"
                                                                    "\"Observation\",\"code\":{},"
                                                                    "\"subject\":" REF(
                                                                        "Patient/3") ","
                                                                                     "\"effectivePe"
                                                                                     "riod\":{"
                                                                                     "\"start\":"
                                                                                     "\"2020\","
                                                                                     "\"end\":"
                                                                                     "\"2021-02\"}"
                                                                                     "}",
        NULL);
    char text[MF_TIME_TEXT];
    struct mf_time t = mf_fhir_latest_time(doc, mf_fhir_patient(doc, 0));
    assert_string_equal(mf_time_format(&t, text), "2019-03-08T01:30:00Z");
    t = mf_fhir_latest_time(doc, mf_fhir_patient(doc, 1));
    assert_int_equal(t.precision, MF_TIME_UNKNOWN);
    t = mf_fhir_latest_time(doc, NULL);
    assert_int_equal(t.end - t.begin, INT64_C(86400000) * (366 + 31 + 28));
}

static void files(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_fhir_document)
    struct mf_fhir_document *doc =
        mf_fhir_document_load(MF_SOURCE_DIR "/tests/fhir/excerpt/patients.ndjson", NULL, &err);
    assert_no_error(&err);
    assert_int_equal(mf_fhir_patient_count(doc), 6);
    assert_null(mf_fhir_document_load("/nonexistent.json", NULL, &err));
    assert_error(&err, MF_ERR_NOT_FOUND, "/nonexistent.json: No such file or directory");
    mf_fhir_document_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_owns_what), cmocka_unit_test(bad_documents_are_refused_with_a_reason),
        cmocka_unit_test(limits),        cmocka_unit_test(depth),
        cmocka_unit_test(truncation),    cmocka_unit_test(matching_a_patient_id),
        cmocka_unit_test(latest_time),   cmocka_unit_test(files),
    };
    return cmocka_run_group_tests_name("fhir/document", tests, NULL, NULL);
}
