/* fhir/reduce.c: what is kept gives the same features; nothing else is kept. */
#include "fhir/extract.h"
#include "fhir/record.h"

#include <math.h>
#include <unistd.h>

#include "tests/expect.h"

static json_t *features_of(const struct mf_feature_set *set, const struct mf_fhir_document *doc,
                           size_t number)
{
    const struct mf_fhir_patient *patient = mf_fhir_patient(doc, number);
    struct mf_time at = mf_fhir_latest_time(doc, patient);
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(0);
    struct mf_feature_value *values = calloc(set->count, sizeof *values);
    assert_true(mf_fhir_extract(set, patient, NULL, &at, arena, values, NULL));
    json_t *json = mf_fhir_features_to_json(set, values, patient->reference, &at);
    free(values);
    assert_non_null(json);
    return json;
}

/* Numbers may differ in the ninth digit, which is how many mf_json_text() writes; nothing else may.
 */
static void assert_same_features(const struct mf_feature_set *set,
                                 const struct mf_fhir_document *want_doc, size_t want_number,
                                 const struct mf_fhir_document *got_doc, size_t got_number)
{
    MF_AUTO(mf_json) json_t *want = features_of(set, want_doc, want_number);
    MF_AUTO(mf_json) json_t *got = features_of(set, got_doc, got_number);
    for (size_t i = 0; i < set->count; i++) {
        json_t *w = json_array_get(json_object_get(want, "features"), i);
        json_t *g = json_array_get(json_object_get(got, "features"), i);
        double value = mf_json_get_number(w, "value", 0);
        assert_float_equal(mf_json_get_number(g, "value", 0), value, 1e-8 * (1 + fabs(value)));
        if (json_is_number(json_object_get(g, "value")))
            json_object_set(g, "value", json_object_get(w, "value"));
    }
    MF_AUTO(mf_mem) char *expected = mf_json_text(want, 0);
    assert_json(got, expected);
}

static struct mf_fhir_document *parse_json(const json_t *json, struct mf_error *err)
{
    MF_AUTO(mf_mem) char *text = mf_json_text(json, 0);
    assert_non_null(text);
    return mf_fhir_document_parse(text, strlen(text), NULL, "reduced", err);
}

/* Reduces every patient, alone and all in one Bundle; the features must stay what they are. */
static void check_document(const struct mf_feature_set *set, const char *path)
{
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_fhir_document)
    struct mf_fhir_document *doc = mf_fhir_document_load(path, NULL, &err);
    assert_no_error(&err);
    MF_AUTO(mf_json) json_t *entries = json_array();
    for (size_t i = 0; i < mf_fhir_patient_count(doc); i++) {
        json_t *bundle = mf_fhir_reduce(doc, mf_fhir_patient(doc, i));
        assert_non_null(bundle);
        MF_AUTO(mf_fhir_document) struct mf_fhir_document *alone = parse_json(bundle, &err);
        assert_no_error(&err);
        assert_same_features(set, doc, i, alone, 0);
        json_array_append_new(entries, json_pack("{s:o}", "resource", bundle));
    }
    MF_AUTO(mf_json)
    json_t *all = json_pack("{s:s, s:O}", "resourceType", "Bundle", "entry", entries);
    MF_AUTO(mf_fhir_document) struct mf_fhir_document *together = parse_json(all, &err);
    assert_no_error(&err);
    assert_int_equal(mf_fhir_patient_count(together), mf_fhir_patient_count(doc));
    for (size_t i = 0; i < mf_fhir_patient_count(doc); i++)
        assert_same_features(set, doc, i, together, i);
}

static struct mf_feature_set *vitals(void)
{
    struct mf_error err = MF_ERROR_INIT;
    struct mf_feature_set *set =
        mf_feature_set_load(MF_SOURCE_DIR "/tests/fhir/vitals/ehr/features.json", &err);
    assert_no_error(&err);
    return set;
}

static void features_stay_the_same(void **state)
{
    (void)state;
    MF_AUTO(mf_feature_set) struct mf_feature_set *set = vitals();
    check_document(set, MF_SOURCE_DIR "/tests/fhir/excerpt/patients.ndjson");
}

static void features_of_whole_records_stay_the_same(void **state)
{
    (void)state;
    if (access(MF_SHARED_DATA, R_OK) != 0) {
        puts("skipped: no ../shared/data");
        return;
    }
    MF_AUTO(mf_feature_set) struct mf_feature_set *set = vitals();
    for (int i = 0; i < 12; i++) {
        char path[512];
        snprintf(path, sizeof path, MF_SHARED_DATA "/fhir/synthea/patient_%02d.json", i);
        check_document(set, path);
    }
}

static void only_what_is_read_is_kept(void **state)
{
    (void)state;
    static const char TEXT[] =
        "{\"resourceType\":\"Patient\",\"id\":\"1\",\"name\":[{\"family\":\"Canary\"}],"
        "\"address\":[{\"city\":\"Canary\"}],\"identifier\":[{\"system\":\"s\",\"value\":\"v\","
        "\"period\":{\"start\":\"2000\"},\"assigner\":{\"display\":\"A\",\"reference\":\"Canary\"}}"
        ","
        "{\"use\":\"old\",\"value\":\"Canary\"}],\"birthDate\":\"1980\",\"gender\":\"male\","
        "\"text\":{\"div\":\"Canary\"}}\n"
        "{\"resourceType\":\"Observation\",\"id\":\"2\",\"status\":\"final\",\"code\":{\"text\":"
        "\"c\"},\"subject\":{\"reference\":\"Patient/1\",\"display\":\"Canary\"},"
        "\"effectiveDateTime\":\"2019\",\"valueInteger\":5,\"note\":[{\"text\":\"Canary\"}],"
        "\"performer\":[{\"display\":\"Canary\"}],\"meta\":{\"source\":\"Canary\"}}\n"
        "{\"resourceType\":\"Condition\",\"subject\":{\"reference\":\"Patient/1\"},\"code\":"
        "{\"text\":\"Canary\"}}";
    MF_AUTO(mf_fhir_document)
    struct mf_fhir_document *doc = mf_fhir_document_parse(TEXT, strlen(TEXT), NULL, "ehr", NULL);
    MF_AUTO(mf_json) json_t *bundle = mf_fhir_reduce(doc, mf_fhir_patient(doc, 0));
    assert_json(bundle,
                "{\"resourceType\":\"Bundle\",\"type\":\"collection\",\"entry\":["
                "{\"fullUrl\":\"urn:medfusion:1\",\"resource\":{\"resourceType\":\"Patient\","
                "\"id\":\"1\",\"identifier\":[{\"system\":\"s\",\"value\":\"v\",\"assigner\":"
                "{\"display\":\"A\"}}],\"birthDate\":\"1980\",\"gender\":\"male\"}},"
                "{\"fullUrl\":\"urn:medfusion:1:1\",\"resource\":{\"resourceType\":\"Observation\","
                "\"status\":\"final\",\"code\":{},\"effectiveDateTime\":\"2019\","
                "\"valueInteger\":5,\"subject\":{\"reference\":\"urn:medfusion:1\"},\"id\":\"2\"}},"
                "{\"fullUrl\":\"urn:medfusion:1:2\",\"resource\":{\"resourceType\":\"Condition\","
                "\"subject\":{\"reference\":\"urn:medfusion:1\"}}}]}");
}

/* Names that are no "Type/id": by fullUrl, contained, outside the document, none at all. */
static void unusual_names_survive(void **state)
{
    (void)state;
    static const struct {
        const char *text, *patient, *observation;
    } ROWS[] = {
        {"{\"resourceType\":\"Bundle\",\"entry\":[{\"fullUrl\":\"urn:uuid:a\",\"resource\":"
         "{\"resourceType\":\"Patient\"}},{\"fullUrl\":\"urn:uuid:b\",\"resource\":"
         "{\"resourceType\":\"Observation\",\"code\":{},\"subject\":{\"reference\":\"urn:uuid:a\"}}"
         "}]}",
         "urn:uuid:a", "urn:uuid:b"},
        {"{\"resourceType\":\"Observation\",\"id\":\"2\",\"code\":{},\"subject\":{\"reference\":"
         "\"Patient/9\"}}",
         "Patient/9", "Observation/2"},
        {"{\"resourceType\":\"DiagnosticReport\",\"id\":\"7\",\"contained\":[{\"resourceType\":"
         "\"Patient\",\"id\":\"p\"},{\"resourceType\":\"Observation\",\"id\":\"o\",\"code\":{},"
         "\"subject\":{\"reference\":\"#p\"}}]}",
         "urn:medfusion:1", "urn:medfusion:1:2"},
        {"{\"resourceType\":\"Patient\"}\n{\"resourceType\":\"Observation\",\"code\":{}}",
         "urn:medfusion:1", "urn:medfusion:1:1"},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        struct mf_error err = MF_ERROR_INIT;
        MF_AUTO(mf_fhir_document)
        struct mf_fhir_document *doc =
            mf_fhir_document_parse(ROWS[i].text, strlen(ROWS[i].text), NULL, "ehr", &err);
        assert_no_error(&err);
        MF_AUTO(mf_json) json_t *bundle = mf_fhir_reduce(doc, mf_fhir_patient(doc, 0));
        MF_AUTO(mf_fhir_document) struct mf_fhir_document *reduced = parse_json(bundle, &err);
        assert_no_error(&err);
        assert_string_equal(mf_fhir_patient(reduced, 0)->reference, ROWS[i].patient);
        size_t count = mf_fhir_patient(reduced, 0)->record_count;
        assert_int_equal(count, mf_fhir_patient(doc, 0)->record_count);
        assert_string_equal(mf_fhir_patient(reduced, 0)->records[count - 1]->reference,
                            ROWS[i].observation);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(features_stay_the_same),
        cmocka_unit_test(features_of_whole_records_stay_the_same),
        cmocka_unit_test(only_what_is_read_is_kept),
        cmocka_unit_test(unusual_names_survive),
    };
    return cmocka_run_group_tests_name("fhir/reduce", tests, NULL, NULL);
}
