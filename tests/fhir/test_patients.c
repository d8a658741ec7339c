/* fhir/patients.c, match.c: whose each record is, and which patient answers to a PatientID. */
#include "tests/fhir/document_expect.h"

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

#define BY_IDENTIFIER(id, identifier) OBSERVATION(id, "{\"identifier\":{" identifier "}}") "\n"
#define KNOWN(id, identifiers)                                                                     \
    "{\"resourceType\":\"Patient\",\"id\":\"" id "\",\"identifier\":[" identifiers "]}\n"

static void expect_owners(const char *text, const char *want)
{
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_fhir_document) struct mf_fhir_document *doc = parse(text, &err);
    assert_no_error(&err);
    MF_AUTO(mf_mem) char *got = summary(doc);
    assert_string_equal(got, want);
}

/* Of two versions the one that was updated later counts; at a tie, or without times, the later one
 * of the document. */
static void the_newest_version_counts(void **state)
{
    (void)state;
    static const char *const TIMES[] = {"2020-01-01T00:00:00Z", "2020-01-02T00:00:00Z"};
    for (int first = 0; first < 3; first++)
        for (int second = 0; second < 3; second++) {
            char text[1024];
            const char *a = first < 2 ? TIMES[first] : NULL, *b = second < 2 ? TIMES[second] : NULL;
            snprintf(
                text, sizeof text,
                PATIENT("1") "\n" PATIENT(
                    "4") "\n"
                         "{\"resourceType\":\"Observation\",\"id\":\"2\",\"code\":{},"
                         "\"subject\":" REF("Patient/1") "%s%s%s}\n"
                                                         "{\"resourceType\":\"Observation\",\"id\":"
                                                         "\"2\",\"code\":{},\"subject\":" REF(
                                                             "Patient/4") "%s%s%s}\n",
                a ? ",\"meta\":{\"lastUpdated\":\"" : "", a ? a : "", a ? "\"}" : "",
                b ? ",\"meta\":{\"lastUpdated\":\"" : "", b ? b : "", b ? "\"}" : "");
            expect_owners(text, first == 1 && second == 0 ? "Patient/1: Observation/2; Patient/4:"
                                                          : "Patient/1:; Patient/4: Observation/2");
        }
}

static void references_that_lead_nowhere_or_far(void **state)
{
    (void)state;
    static const struct {
        const char *text, *owners;
    } ROWS[] = {
        /* of three servers' patients with one id none is meant by the id alone */
        {BUNDLE(ENTRY("https://a/Patient/1", PATIENT("1")) "," ENTRY(
             "https://b/Patient/1",
             PATIENT("1")) "," ENTRY("https://c/Patient/1",
                                     PATIENT("1")) "," ENTRY("https://d/Observation/2",
                                                             OBSERVATION("2", REF("Patient/1")))),
         "Patient/1:; Patient/1:; Patient/1:"},
        /* a copy without a URL is another version of it */
        {BUNDLE(ENTRY("https://a/Patient/1", PATIENT("1")) ",{\"resource\":" PATIENT("1") "}"),
         "Patient/1:"},
        /* what is referred to is no Patient */
        {PATIENT("1") "\n" OBSERVATION("2", REF("Observation/2")), "Patient/1:"},
        /* URLs that are no base of their resource */
        {BUNDLE(ENTRY("urn:uuid:aa",
                      OBSERVATION("2", REF("Patient/1"))) ",{\"resource\":" PATIENT("1") "}"),
         "Patient/1: Observation/2"},
        {BUNDLE(ENTRY("http://x",
                      OBSERVATION("2", REF("Patient/1"))) ",{\"resource\":" PATIENT("1") "}"),
         "Patient/1: Observation/2"},
        {BUNDLE(ENTRY("https://a.example/Things/2",
                      OBSERVATION("2", REF("Patient/1"))) ",{\"resource\":" PATIENT("1") "}"),
         "Patient/1: Observation/2"},
        {BUNDLE(ENTRY("https://a.example/Xbservation/2",
                      OBSERVATION("2", REF("Patient/1"))) ",{\"resource\":" PATIENT("1") "}"),
         "Patient/1: Observation/2"},
        /* an absolute reference to somebody who is not there */
        {PATIENT("1") "\n" OBSERVATION("2", REF("https://z/Patient/99")),
         "Patient/1:; https://z/Patient/99: Observation/2"},
        /* contained and without an id: its container's, and nobody can refer to it */
        {PATIENT("1") "\n{\"resourceType\":\"DiagnosticReport\",\"id\":\"7\",\"subject\":" REF(
             "Patient/1") ",\"contained\":[{\"resourceType\":\"Observation\",\"code\":{}}]}",
         "Patient/1: DiagnosticReport/7 DiagnosticReport/7#"},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++)
        expect_owners(ROWS[i].text, ROWS[i].owners);
}

static void subjects_by_identifier(void **state)
{
    (void)state;
    static const struct {
        const char *text, *owners;
    } ROWS[] = {
        {KNOWN("1", "{\"value\":\"v\"}") BY_IDENTIFIER("2", "\"value\":\"v\""),
         "Patient/1: Observation/2"},
        {KNOWN("1", "{\"value\":\"v\"}") OBSERVATION("2", REF("Patient?identifier=v")),
         "Patient/1: Observation/2"},
        {KNOWN("1", "{\"value\":\"v\"}") OBSERVATION("2", REF("Patient?identifier=w")),
         "Patient/1:"},
        {KNOWN("1", "{\"value\":\"v\"}") OBSERVATION("2", REF("Patient?name=v")), "Patient/1:"},
        {KNOWN("1", "{\"value\":\"v\"}") BY_IDENTIFIER("2", "\"value\":\"\""), "Patient/1:"},
        {KNOWN("1", "{\"value\":\"v\"}") BY_IDENTIFIER("2", "\"system\":\"s\",\"value\":\"v\""),
         "Patient/1:; Patient: Observation/2"},
        {KNOWN("1", "{\"value\":\"v\"}")
             OBSERVATION("2", "{\"type\":\"Group\",\"identifier\":{\"value\":\"v\"}}"),
         "Patient/1:"},
        {PATIENT("1") "\n" OBSERVATION("2", "{\"type\":\"Patient\",\"reference\":\"urn:uuid:x\"}"),
         "Patient/1:; urn:uuid:x: Observation/2"},
        {PATIENT("1") "\n" OBSERVATION("2", "{\"type\":\"Device\",\"reference\":\"urn:uuid:x\"}"),
         "Patient/1:"},
        /* an identifier of two patients is nobody's */
        {KNOWN("1", "{\"value\":\"v\"}") KNOWN("4", "{\"value\":\"v\"}")
             BY_IDENTIFIER("2", "\"value\":\"v\""),
         "Patient/1:; Patient/4:"},
        /* and one that a patient has twice is theirs */
        {KNOWN("1", "{\"value\":\"v\"},{\"value\":\"v\"}") BY_IDENTIFIER("2", "\"value\":\"v\""),
         "Patient/1: Observation/2"},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++)
        expect_owners(ROWS[i].text, ROWS[i].owners);
}

static void many_patients_are_kept_apart(void **state)
{
    (void)state;
    enum { MANY = 40 };
    struct mf_error err = MF_ERROR_INIT;
    char *text = calloc(1, MANY * 200);
    size_t n = 0;
    for (int i = 0; i < MANY; i++)
        n += (size_t)snprintf(text + n, 200,
                              "{\"resourceType\":\"Patient\",\"id\":\"p%d\"}\n"
                              "{\"resourceType\":\"Observation\",\"id\":\"o%d\",\"code\":{},"
                              "\"subject\":{\"reference\":\"Patient/p%d\"}}\n",
                              i, i, i);
    MF_AUTO(mf_fhir_document) struct mf_fhir_document *doc = parse(text, &err);
    free(text);
    assert_no_error(&err);
    assert_int_equal(mf_fhir_patient_count(doc), MANY);
    for (size_t i = 0; i < MANY; i++) {
        char want[32];
        const struct mf_fhir_patient *p = mf_fhir_patient(doc, i);
        snprintf(want, sizeof want, "Observation/o%zu", i);
        assert_int_equal(p->record_count, 1);
        assert_string_equal(p->records[0]->reference, want);
    }
}

/* Members of a panel that say no time are of the panel's; those that say one keep it. */
static void panels_give_their_time(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_fhir_document)
    struct mf_fhir_document *doc = parse(
        PATIENT(
            "1") "\n"
                 "{\"resourceType\":\"Observation\",\"id\":\"panel\",\"code\":{},"
                 "\"effectiveDateTime\":"
                 "\"2020-01-01\",\"hasMember\":[" REF("Observation/a") "," REF(
                     "Observation/"
                     "b") "," REF("Observation/c") "," REF("Observation/none") "," REF("Observa"
                                                                                       "tion/a/"
                                                                                       "_histor"
                                                                                       "y/2") "]}\n"
                                                                                              "{\"r"
                                                                                              "esou"
                                                                                              "rceT"
                                                                                              "ype"
                                                                                              "\":"
                                                                                              "\"Ob"
                                                                                              "serv"
                                                                                              "atio"
                                                                                              "n\","
                                                                                              "\"id"
                                                                                              "\":"
                                                                                              "\"a"
                                                                                              "\","
                                                                                              "\"co"
                                                                                              "de\""
                                                                                              ":{}}"
                                                                                              "\n"
                                                                                              "{\"r"
                                                                                              "esou"
                                                                                              "rceT"
                                                                                              "ype"
                                                                                              "\":"
                                                                                              "\"Ob"
                                                                                              "serv"
                                                                                              "atio"
                                                                                              "n\","
                                                                                              "\"id"
                                                                                              "\":"
                                                                                              "\"b"
                                                                                              "\","
                                                                                              "\"co"
                                                                                              "de\""
                                                                                              ":{},"
                                                                                              "\"is"
                                                                                              "sued"
                                                                                              "\":"
                                                                                              "\"20"
                                                                                              "19-"
                                                                                              "01-"
                                                                                              "01T0"
                                                                                              "0:"
                                                                                              "00:"
                                                                                              "00Z"
                                                                                              "\"}"
                                                                                              "\n"
                                                                                              "{\"r"
                                                                                              "esou"
                                                                                              "rceT"
                                                                                              "ype"
                                                                                              "\":"
                                                                                              "\"Ob"
                                                                                              "serv"
                                                                                              "atio"
                                                                                              "n\","
                                                                                              "\"id"
                                                                                              "\":"
                                                                                              "\"c"
                                                                                              "\","
                                                                                              "\"co"
                                                                                              "de\""
                                                                                              ":{},"
                                                                                              "\"ef"
                                                                                              "fect"
                                                                                              "iveP"
                                                                                              "erio"
                                                                                              "d\":"
                                                                                              "{\"e"
                                                                                              "nd\""
                                                                                              ":"
                                                                                              "\"20"
                                                                                              "18-"
                                                                                              "01-"
                                                                                              "01\""
                                                                                              "}}"
                                                                                              "\n",
        &err);
    assert_no_error(&err);
    const struct mf_fhir_patient *p = mf_fhir_patient(doc, 0);
    assert_int_equal(p->record_count, 4);
    assert_string_equal(p->records[1]->start, "2020-01-01");
    assert_null(p->records[2]->start);
    assert_string_equal(p->records[2]->issued, "2019-01-01T00:00:00Z");
    assert_null(p->records[3]->start);
    assert_string_equal(p->records[3]->end, "2018-01-01");
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_owns_what),
        cmocka_unit_test(the_newest_version_counts),
        cmocka_unit_test(references_that_lead_nowhere_or_far),
        cmocka_unit_test(subjects_by_identifier),
        cmocka_unit_test(many_patients_are_kept_apart),
        cmocka_unit_test(panels_give_their_time),
        cmocka_unit_test(matching_a_patient_id),
    };
    return cmocka_run_group_tests_name("fhir/patients", tests, NULL, NULL);
}
