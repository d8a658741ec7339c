/*
 * fhir/report.c, narrative.c: results → Bundles equal the files in tests/fhir/report/, which
 * test_reports.py validates against the official schema and fhir.resources.
 */
#include "core/result.h"
#include "fhir/oru.h"

#include "tests/expect.h"

#define RESULTS MF_SOURCE_DIR "/tests/core/result/"
#define REPORTS MF_SOURCE_DIR "/tests/fhir/report/"

static const struct mf_fhir_report_context CONTEXT = {
    .patient_id = "007",
    .patient_issuer = "1.2.840.1",
    .order = {.accession = "A-17"},
    .issued = "2026-11-22T13:24:00.123Z",
};
static const struct mf_fhir_report_context BY_REFERENCE = {
    .patient_reference = "Patient/1",
    .patient_id = "007",
};
static const struct mf_fhir_report_context NOBODY = {.issued = "2026-11-22T13:24:00.123Z",
                                                     .foreign = true};

static const struct {
    const char *result;
    const struct mf_fhir_report_context *context;
    enum mf_fhir_bundle_type type;
    const char *report;
} REPORT_ROWS[] = {
    {"full.json", &CONTEXT, MF_FHIR_BUNDLE_COLLECTION, "full_collection.json"},
    {"full.json", &BY_REFERENCE, MF_FHIR_BUNDLE_TRANSACTION, "full_transaction.json"},
    {"bare.json", NULL, MF_FHIR_BUNDLE_COLLECTION, "bare_collection.json"},
    {"full.json", &CONTEXT, MF_FHIR_BUNDLE_TRANSACTION, "risk_transaction.json"},
    {"full.json", &NOBODY, MF_FHIR_BUNDLE_STORED, "risk_stored.json"},
};

/* Turns the second label of a result into an outcome. */
static void make_outcome(json_t *result)
{
    json_t *prediction = json_array_get(json_object_get(result, "predictions"), 1);
    json_object_set_new(prediction, "kind", json_string("outcome"));
    json_object_set_new(prediction, "horizon", json_string("within 30 days"));
}

static json_t *load(const char *folder, const char *name)
{
    char path[512];
    struct mf_error err = MF_ERROR_INIT;
    snprintf(path, sizeof path, "%s%s", folder, name);
    json_t *json = mf_json_read_file(path, NULL, &err);
    assert_no_error(&err);
    return json;
}

/* The versions of the software in a golden report are not checked. */
static void forget_version(json_t *bundle)
{
    json_t *entries = json_object_get(bundle, "entry");
    json_t *device =
        json_object_get(json_array_get(entries, json_array_size(entries) - 1), "resource");
    assert_string_equal(json_string_value(json_object_get(device, "resourceType")), "Device");
    json_t *version = json_array_get(json_object_get(device, "version"), 0);
    assert_true(json_is_string(json_object_get(version, "value")));
    json_object_set_new(version, "value", json_string("any"));
}

static void reports_equal_their_files(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof REPORT_ROWS / sizeof *REPORT_ROWS; i++) {
        struct mf_error err = MF_ERROR_INIT;
        MF_AUTO(mf_json) json_t *result = load(RESULTS, REPORT_ROWS[i].result);
        if (strncmp(REPORT_ROWS[i].report, "risk", 4) == 0)
            make_outcome(result);
        MF_AUTO(mf_json) json_t *expected = load(REPORTS, REPORT_ROWS[i].report);
        MF_AUTO(mf_json)
        json_t *bundle = mf_fhir_report(result, REPORT_ROWS[i].context, REPORT_ROWS[i].type, &err);
        assert_no_error(&err);
        forget_version(bundle);
        forget_version(expected);
        MF_AUTO(mf_mem) char *text = mf_json_text(expected, 0);
        assert_json(bundle, text);
    }
}

/* The same result gives the same identifiers; another study, model, job or label gives others. */
static void identifiers_follow_the_result(void **state)
{
    (void)state;
    static const struct {
        const char *object, *member;
    } CHANGES[] = {{NULL, "job"}, {"study", "study_instance_uid"}, {"model", "digest"}};
    MF_AUTO(mf_json) json_t *result = load(RESULTS, "full.json");
    MF_AUTO(mf_json) json_t *a = mf_fhir_report(result, &CONTEXT, MF_FHIR_BUNDLE_COLLECTION, NULL);
    MF_AUTO(mf_json) json_t *b = mf_fhir_report(result, &CONTEXT, MF_FHIR_BUNDLE_TRANSACTION, NULL);
    size_t count = json_array_size(json_object_get(a, "entry"));
    assert_int_equal(count, 1 + 4 + 2);
    MF_AUTO(mf_json) json_t *seen = json_object();
    for (size_t i = 0; i < count; i++) {
        const char *url =
            mf_json_get_string(json_array_get(json_object_get(a, "entry"), i), "fullUrl", "");
        assert_string_equal(url, mf_json_get_string(json_array_get(json_object_get(b, "entry"), i),
                                                    "fullUrl", "-"));
        assert_int_equal(strlen(url), strlen("urn:uuid:") + 36);
        assert_int_equal(url[9 + 14], '8');              /* version */
        assert_non_null(memchr("89ab", url[9 + 19], 4)); /* variant */
        assert_null(json_object_get(seen, url));
        json_object_set_new(seen, url, json_true());
    }
    for (size_t c = 0; c < sizeof CHANGES / sizeof *CHANGES; c++) {
        MF_AUTO(mf_json) json_t *other = json_deep_copy(result);
        json_t *owner = CHANGES[c].object ? json_object_get(other, CHANGES[c].object) : other;
        json_object_set_new(owner, CHANGES[c].member, json_string("9.9"));
        MF_AUTO(mf_json)
        json_t *d = mf_fhir_report(other, &CONTEXT, MF_FHIR_BUNDLE_COLLECTION, NULL);
        for (size_t i = 0; i < count; i++)
            assert_null(json_object_get(
                seen,
                mf_json_get_string(json_array_get(json_object_get(d, "entry"), i), "fullUrl", "")));
    }
}

static const json_t *first_observation(const json_t *bundle)
{
    return json_object_get(json_array_get(json_object_get(bundle, "entry"), 1), "resource");
}

/* FHIR wants a zone with a time; DICOM often has none, then only the day is known to be right. */
static void times_without_zone_become_days(void **state)
{
    (void)state;
    static const struct {
        const char *acquired, *effective;
    } ROWS[] = {
        {"2019-03-07T10:20:00Z", "2019-03-07T10:20:00Z"},
        {"2019-03-07T10:20:00+01:00", "2019-03-07T10:20:00+01:00"},
        {"2019-03-07T10:20:00", "2019-03-07"},
        {"2019-03", "2019-03"},
        {NULL, NULL},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        MF_AUTO(mf_json) json_t *result = load(RESULTS, "full.json");
        json_t *frames = json_object_get(json_object_get(result, "study"), "frames");
        json_object_set_new(json_array_get(frames, 1), "acquired",
                            mf_json_string(ROWS[i].acquired));
        MF_AUTO(mf_json) json_t *b = mf_fhir_report(result, NULL, MF_FHIR_BUNDLE_COLLECTION, NULL);
        const char *got = mf_json_get_string(first_observation(b), "effectiveDateTime", NULL);
        if (ROWS[i].effective)
            assert_string_equal(got, ROWS[i].effective);
        else
            assert_null(got);
    }
}

static void subjects(void **state)
{
    (void)state;
    static const struct {
        struct mf_fhir_report_context context;
        const char *subject;
    } ROWS[] = {
        {{.patient_reference = "Patient/2"}, "{\"reference\":\"Patient/2\",\"type\":\"Patient\"}"},
        {{.patient_reference = "Patient/2", .patient_id = "007"},
         "{\"reference\":\"Patient/2\",\"type\":\"Patient\",\"identifier\":{\"value\":\"007\"}}"},
        {{.patient_id = "007", .patient_issuer = "1.2.3"},
         "{\"type\":\"Patient\",\"identifier\":{\"system\":\"urn:oid:1.2.3\",\"value\":\"007\"}}"},
        {{.patient_id = "007", .patient_issuer = "http://a/mrn"},
         "{\"type\":\"Patient\",\"identifier\":{\"system\":\"http://a/mrn\",\"value\":\"007\"}}"},
        {{.patient_id = "007", .patient_issuer = "St. Elsewhere"},
         "{\"type\":\"Patient\",\"identifier\":{\"value\":\"007\",\"assigner\":{\"display\":\"St. "
         "Elsewhere\"}}}"},
        {{.patient_id = ""}, NULL},
    };
    MF_AUTO(mf_json) json_t *result = load(RESULTS, "full.json");
    MF_AUTO(mf_json)
    json_t *by_features = mf_fhir_report(result, NULL, MF_FHIR_BUNDLE_COLLECTION, NULL);
    assert_json(json_object_get(first_observation(by_features), "subject"),
                "{\"reference\":\"Patient/1\",\"type\":\"Patient\"}");
    json_object_set_new(json_object_get(result, "ehr"), "features", json_array());
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        MF_AUTO(mf_json)
        json_t *b = mf_fhir_report(result, &ROWS[i].context, MF_FHIR_BUNDLE_COLLECTION, NULL);
        const json_t *subject = json_object_get(first_observation(b), "subject");
        if (ROWS[i].subject)
            assert_json(subject, ROWS[i].subject);
        else
            assert_null(subject);
    }
}

/* Used Observations are named once; refused values and other sources are not. */
static void observations_used_are_named(void **state)
{
    (void)state;
    MF_AUTO(mf_json) json_t *result = load(RESULTS, "full.json");
    json_object_set_new(
        json_object_get(result, "ehr"), "features",
        json_of(
            "[{\"status\":\"used\",\"source\":\"Observation/1\"},{\"status\":\"stale\",\"source\":"
            "\"Observation/2\"},{\"status\":\"used\",\"source\":\"Observation/"
            "3\"},{\"status\":\"used\","
            "\"source\":\"Observation/1\"},{\"status\":\"used\",\"source\":\"dicom:PatientAge\"},"
            "{\"status\":\"missing\",\"source\":null}]"));
    MF_AUTO(mf_json) json_t *b = mf_fhir_report(result, NULL, MF_FHIR_BUNDLE_COLLECTION, NULL);
    assert_json(
        json_object_get(first_observation(b), "derivedFrom"),
        "[{\"type\":\"ImagingStudy\",\"identifier\":{\"system\":\"urn:dicom:uid\",\"value\":"
        "\"urn:oid:1.2.4\"}},{\"reference\":\"Observation/1\"},{\"reference\":\"Observation/3\"}]");
    json_object_del(json_object_get(result, "study"), "study_instance_uid");
    MF_AUTO(mf_json) json_t *c = mf_fhir_report(result, NULL, MF_FHIR_BUNDLE_COLLECTION, NULL);
    assert_int_equal(json_array_size(json_object_get(first_observation(c), "derivedFrom")), 2);
}

static void other_documents_are_refused(void **state)
{
    (void)state;
    static const char *const TEXTS[] = {
        "null",
        "{}",
        "{\"schema\":\"medfusion.result/2\",\"study\":{},\"model\":{},\"predictions\":[]}",
        "{\"schema\":\"medfusion.result/1\",\"model\":{},\"predictions\":[]}",
        "{\"schema\":\"medfusion.result/1\",\"study\":{},\"model\":{},\"predictions\":{}}",
        "{\"schema\":\"medfusion.result/1\",\"study\":{},\"model\":{},\"predictions\":[{}]}",
        "{\"schema\":\"medfusion.result/1\",\"study\":{},\"model\":{},\"predictions\":"
        "[{\"state\":\"perhaps\"}]}",
    };
    for (size_t i = 0; i < sizeof TEXTS / sizeof *TEXTS; i++) {
        struct mf_error err = MF_ERROR_INIT;
        MF_AUTO(mf_json) json_t *json = json_of(TEXTS[i]);
        assert_null(mf_fhir_report(json, NULL, MF_FHIR_BUNDLE_COLLECTION, &err));
        assert_error(&err, MF_ERR_MALFORMED, "not a result (medfusion.result/1)");
    }
}

static void markup_in_names_is_escaped(void **state)
{
    (void)state;
    MF_AUTO(mf_json) json_t *result = load(RESULTS, "full.json");
    json_t *p = json_array_get(json_object_get(result, "predictions"), 0);
    json_object_set_new(p, "display", json_string("<script>&\"'"));
    MF_AUTO(mf_json) json_t *b = mf_fhir_report(result, NULL, MF_FHIR_BUNDLE_COLLECTION, NULL);
    const json_t *report =
        json_object_get(json_array_get(json_object_get(b, "entry"), 0), "resource");
    const char *div = mf_json_get_string(json_object_get(report, "text"), "div", "");
    assert_non_null(strstr(div, "<td>&lt;script&gt;&amp;&quot;'</td>"));
    assert_null(strstr(div, "<script>"));
}

static void outcomes(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    mf_error_set(&err, MF_ERR_UNUSABLE, "no usable image");
    MF_AUTO(mf_json) json_t *direct = mf_fhir_operation_outcome(&err);
    MF_AUTO(mf_json) json_t *problem = load(RESULTS, "problem.json");
    MF_AUTO(mf_json) json_t *stored = mf_fhir_operation_outcome_from_problem(problem);
    MF_AUTO(mf_json) json_t *expected = load(REPORTS, "outcome.json");
    MF_AUTO(mf_mem) char *text = mf_json_text(expected, 0);
    assert_json(direct, text);
    assert_json(stored, text);
}

static void every_problem_has_an_outcome(void **state)
{
    (void)state;
    for (int code = MF_OK + 1; code < MF_CODE_COUNT; code++) {
        struct mf_error err = {.code = (enum mf_code)code};
        MF_AUTO(mf_json) json_t *problem = mf_problem_to_json(&err, NULL, NULL);
        MF_AUTO(mf_json) json_t *outcome = mf_fhir_operation_outcome_from_problem(problem);
        const json_t *issue = json_array_get(json_object_get(outcome, "issue"), 0);
        assert_string_equal(mf_json_get_string(issue, "code", ""), mf_code_fhir_issue(err.code));
        assert_string_equal(mf_json_get_string(issue, "diagnostics", ""), mf_code_title(err.code));
    }
    MF_AUTO(mf_json) json_t *foreign = json_of("{\"type\":\"about:blank\"}");
    MF_AUTO(mf_json) json_t *outcome = mf_fhir_operation_outcome_from_problem(foreign);
    assert_string_equal(
        mf_json_get_string(json_array_get(json_object_get(outcome, "issue"), 0), "code", ""),
        "exception");
}

/* The element that a message names becomes the expression of the outcome. */
static void offending_elements(void **state)
{
    (void)state;
    static const struct {
        const char *message, *path;
    } ROWS[] = {
        {"ehr: Bundle.entry[1].resource.code.coding[0].code must be a string",
         "Bundle.entry[1].resource.code.coding[0].code"},
        {"ehr: Observation.valueQuantity.value must be a number",
         "Observation.valueQuantity.value"},
        {"ehr: Bundle.entry[0].resource is not a FHIR resource (an object with \"resourceType\")",
         "Bundle.entry[0].resource"},
        {"ehr: line 3: Patient.contained[2] has an id that is no string", "Patient.contained[2]"},
        {"part \"options\": must be a JSON object", NULL},
        {"ehr: not valid JSON (line 1, column 4)", NULL},
        {"the FHIR data is of another patient", NULL},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        struct mf_error error = MF_ERROR_INIT;
        mf_error_set(&error, MF_ERR_MALFORMED, "%s", ROWS[i].message);
        MF_AUTO(mf_json) json_t *outcome = mf_fhir_operation_outcome(&error);
        const json_t *issue = json_array_get(json_object_get(outcome, "issue"), 0);
        const char *path =
            json_string_value(json_array_get(json_object_get(issue, "expression"), 0));
        if (ROWS[i].path)
            assert_string_equal(path, ROWS[i].path);
        else
            assert_null(path);
    }
}

/* Every field of an HL7 v2 message by its place. */
static void hl7_messages(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_json) json_t *result = load(RESULTS, "full.json");
    json_t *first = json_array_get(json_object_get(result, "predictions"), 0);
    json_object_set_new(first, "display", json_string("A|B^C&D~E\\F\nG"));
    MF_AUTO(mf_mem) char *text = mf_fhir_oru(result, &CONTEXT, &err);
    assert_no_error(&err);
    assert_ptr_equal(strstr(text, "MSH|^~\\&|MEDFUSION||||20261122132400.123+0000||ORU^R01^ORU_R01|"
                                  "0123456789abcdef0123456789abcdef|P|2.5.1|"),
                     text);
    assert_non_null(strstr(text, "\rPID|1||007^^^1.2.840.1\r"));
    assert_non_null(strstr(text, "\rOBR|1|A-17|1.2.4|18748-4^Diagnostic imaging study^LN|||"));
    assert_non_null(strstr(text, "|||||||||||A-17||||"));
    assert_non_null(strstr(text, "^A\\F\\B\\S\\C\\T\\D\\R\\E\\E\\F\\.br\\G^"));
    assert_non_null(strstr(text, "|NM|"));
    assert_null(strchr(text, '\n'));
    size_t segments = 0, observations = 0;
    for (const char *p = text; (p = strchr(p, '\r')); p++) {
        segments++;
        observations += strncmp(p + 1, "OBX|", 4) == 0;
    }
    assert_int_equal(text[strlen(text) - 1], '\r');
    assert_true(segments > 4 && observations >= 4);
    MF_AUTO(mf_json) json_t *bare = load(RESULTS, "bare.json");
    MF_AUTO(mf_mem) char *short_text = mf_fhir_oru(bare, NULL, &err);
    assert_no_error(&err);
    assert_non_null(strstr(short_text, "\rPID|1||^^^\r"));
    MF_AUTO(mf_json) json_t *nothing = json_object();
    assert_null(mf_fhir_oru(nothing, NULL, &err));
    assert_error(&err, MF_ERR_MALFORMED, "not a result (medfusion.result/1)");
}

/* Orders by their own numbers, corrections, and times of every form. */
static void hl7_orders_and_times(void **state)
{
    (void)state;
    static const struct {
        const char *issued, *written;
    } TIMES[] = {
        {"2026-11-22T13:24:00.5-05:00", "20261122132400.5-0500"},
        {"2026-11-22T13:24:00+01:30", "20261122132400+0130"},
        {"2026-11-22", "20261122"},
        {NULL, ""},
        {"2026-11-22T13:24:00.12345678901234567890123456789", "20261122132400.12345678901"}};
    MF_AUTO(mf_json) json_t *result = load(RESULTS, "full.json");
    MF_AUTO(mf_json) json_t *earlier = load(RESULTS, "bare.json");
    for (size_t i = 0; i < sizeof TIMES / sizeof *TIMES; i++) {
        struct mf_error err = MF_ERROR_INIT;
        char head[200];
        const struct mf_fhir_report_context context = {
            .issued = TIMES[i].issued,
            .order = {.accession = "A-17", .placer = "P-1", .filler = "F-1"},
            .superseded = earlier};
        MF_AUTO(mf_mem) char *text = mf_fhir_oru(result, &context, &err);
        assert_no_error(&err);
        snprintf(head, sizeof head, "MSH|^~\\&|MEDFUSION||||%s||ORU", TIMES[i].written);
        assert_ptr_equal(strstr(text, head), text);
        assert_non_null(strstr(text, "\rOBR|1|P-1|F-1|"));
        assert_non_null(strstr(text, "|RAD|C\r"));        /* a correction */
        assert_non_null(strstr(text, "|20190307102000")); /* of the current study */
        assert_null(strstr(text, "|P||"));
    }
}

static void hl7_of_odd_results(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_json) json_t *result = load(RESULTS, "full.json");
    json_t *predictions = json_object_get(result, "predictions");
    json_t *first = json_array_get(predictions, 0), *study = json_object_get(result, "study");
    json_array_remove(json_object_get(study, "frames"), 1); /* the prior alone is left */
    json_object_set_new(first, "display", json_string("A\x01\x02Z"));
    json_object_set_new(first, "probability", json_null());
    MF_AUTO(mf_mem) char *text = mf_fhir_oru(result, &CONTEXT, &err);
    assert_no_error(&err);
    assert_non_null(strstr(text, "^AZ^"));
    assert_null(strstr(text, "|1.1|")); /* no probability of the first label */
    assert_non_null(strstr(text, "|2.1|"));
    assert_null(strstr(text, "20190201"));
    json_object_set_new(first, "state", json_string("wish"));
    assert_null(mf_fhir_oru(result, NULL, &err));
    assert_error(&err, MF_ERR_MALFORMED, "not a result (medfusion.result/1)");
    json_object_set_new(first, "state", json_string("absent"));
    json_object_set_new(result, "study", json_string("x"));
    mf_error_clear(&err);
    assert_null(mf_fhir_oru(result, NULL, &err));
    assert_error(&err, MF_ERR_MALFORMED, "not a result (medfusion.result/1)");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reports_equal_their_files),
        cmocka_unit_test(identifiers_follow_the_result),
        cmocka_unit_test(times_without_zone_become_days),
        cmocka_unit_test(subjects),
        cmocka_unit_test(observations_used_are_named),
        cmocka_unit_test(offending_elements),
        cmocka_unit_test(hl7_messages),
        cmocka_unit_test(hl7_orders_and_times),
        cmocka_unit_test(hl7_of_odd_results),
        cmocka_unit_test(other_documents_are_refused),
        cmocka_unit_test(markup_in_names_is_escaped),
        cmocka_unit_test(outcomes),
        cmocka_unit_test(every_problem_has_an_outcome),
    };
    return cmocka_run_group_tests_name("fhir/report", tests, NULL, NULL);
}
