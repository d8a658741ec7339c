/*
 * Every allocation fails in turn, once and from then on: each call gives the whole document or
 * none, without a leak (the sanitizer build sees to that) and with the error named. Allocations of
 * ours are wrapped by the linker (tests/scarce.h), those of the JSON library by
 * json_set_alloc_funcs().
 */
#include "core/feature.h"
#include "core/result.h"
#include "fhir/extract.h"
#include "fhir/report.h"

#include "tests/expect.h"
#include "tests/scarce.h"

/* One call that makes JSON text or fails; *ret_err tells why. */
typedef char *(*call)(struct mf_error *ret_err);

static char *text_of(json_t *json)
{
    (void)scarce_end();
    char *text = json ? mf_json_text(json, 0) : NULL;
    json_decref(json);
    return text;
}

/* Runs `make` with the n-th allocation failing, for all n until none is left to fail. */
static void starve(call make, bool has_error)
{
    struct mf_error err = MF_ERROR_INIT;
    (void)scarce_end();
    MF_AUTO(mf_mem) char *whole = make(&err);
    assert_no_error(&err);
    assert_non_null(whole);
    for (int mode = 0; mode < 2; mode++) {
        long n = 0;
        do {
            mf_error_clear(&err);
            scarce_after(n++, mode == 1);
            MF_AUTO(mf_mem) char *got = make(&err);
            (void)scarce_end();
            if (got)
                assert_string_equal(got, whole);
            else if (has_error)
                assert_string_equal(mf_code_name(err.code), "no-memory");
        } while (scarce.fired);
        assert_true(n > 3);
    }
}

static json_t *full_result(void)
{
    static json_t *result;
    if (!result)
        result = mf_json_read_file(MF_SOURCE_DIR "/tests/core/result/full.json", NULL, NULL);
    assert_non_null(result);
    return result;
}

static char *make_report(struct mf_error *err)
{
    static const struct mf_fhir_report_context context = {.patient_id = "7",
                                                          .patient_issuer = "H",
                                                          .order = {"A", "P", "F", "R", "S"},
                                                          .issued = "2020-01-01T00:00:00Z"};
    return text_of(mf_fhir_report(full_result(), &context, MF_FHIR_BUNDLE_TRANSACTION, err));
}

static char *make_stored_report(struct mf_error *err)
{
    return text_of(mf_fhir_report(full_result(), NULL, MF_FHIR_BUNDLE_STORED, err));
}

static char *make_outcome(struct mf_error *err)
{
    const struct mf_error problem = {MF_ERR_UNUSABLE, "reason"};
    (void)err;
    return text_of(mf_fhir_operation_outcome(&problem));
}

static char *make_problem(struct mf_error *err)
{
    const struct mf_error problem = {MF_ERR_UNUSABLE, "reason"};
    (void)err;
    return text_of(mf_problem_to_json(&problem, "1.2.3", "job"));
}

static char *make_result(struct mf_error *err)
{
    static const struct mf_coding coding = {"s", "c", NULL};
    static const struct mf_prediction p = {
        .label = "x", .codings = &coding, .coding_count = 1, .state = MF_LABEL_UNCERTAIN};
    static const struct mf_result_frame frame = {.study_instance_uid = "1"};
    static const uint32_t label = 0;
    static const char *const flag = "f";
    static const struct mf_skipped skipped = {"o", "r"};
    static struct mf_feature feature = {.id = "age", .unit = "a"};
    static const struct mf_feature_set set = {.features = &feature, .count = 1, .numeric_count = 1};
    static const struct mf_feature_value value = {
        .status = MF_FEATURE_USED, .has_number = true, .number = 4};
    const struct mf_result result = {.frames = &frame,
                                     .frame_count = 1,
                                     .predictions = &p,
                                     .prediction_count = 1,
                                     .findings = {true, &label, 1},
                                     .calibration = {.id = "c"},
                                     .feature_set = &set,
                                     .feature_values = &value,
                                     .flags = &flag,
                                     .flag_count = 1,
                                     .skipped = &skipped,
                                     .skipped_count = 1};
    (void)err;
    return text_of(mf_result_to_json(&result));
}

static const char DOCUMENT[] =
    "{\"resourceType\":\"Bundle\",\"entry\":[{\"fullUrl\":\"urn:uuid:a\",\"resource\":{"
    "\"resourceType\":"
    "\"Patient\",\"id\":\"1\",\"birthDate\":\"1980\",\"identifier\":[{\"system\":\"s\",\"value\":"
    "\"v\","
    "\"assigner\":{\"display\":\"H\"}}]}},{\"resource\":{\"resourceType\":\"Observation\",\"id\":"
    "\"2\","
    "\"code\":{\"coding\":[{\"system\":\"s\",\"code\":\"c\"}]},\"subject\":{\"reference\":\"urn:"
    "uuid:a\"},"
    "\"effectiveDateTime\":\"2019\",\"valueString\":\"5\"}},{\"resource\":{\"resourceType\":"
    "\"Observation\","
    "\"code\":{},\"subject\":{\"reference\":\"Patient/9\",\"identifier\":{\"value\":\"w\"}}}}]}";

static struct mf_fhir_document *document(struct mf_error *err)
{
    return mf_fhir_document_parse(DOCUMENT, sizeof DOCUMENT - 1, NULL, "ehr", err);
}

static char *make_document(struct mf_error *err)
{
    MF_AUTO(mf_fhir_document) struct mf_fhir_document *doc = document(err);
    (void)scarce_end();
    if (!doc)
        return NULL;
    assert_int_equal(mf_fhir_patient_count(doc), 2);
    assert_int_equal(mf_fhir_patient(doc, 0)->record_count, 1);
    return strdup(mf_fhir_patient(doc, 0)->reference);
}

static char *make_reduced(struct mf_error *err)
{
    long saved = scarce.countdown;
    (void)scarce_end();
    MF_AUTO(mf_fhir_document) struct mf_fhir_document *doc = document(err);
    scarce.countdown = saved;
    MF_AUTO(mf_json) json_t *a = mf_fhir_reduce(doc, mf_fhir_patient(doc, 0));
    MF_AUTO(mf_json) json_t *b = mf_fhir_reduce(doc, mf_fhir_patient(doc, 1));
    (void)scarce_end();
    return a && b ? text_of(json_pack("[O,O]", a, b)) : NULL;
}

static char *make_definition(struct mf_error *err)
{
    static json_t *definition;
    long saved = scarce.countdown;
    (void)scarce_end();
    if (!definition)
        definition =
            mf_json_read_file(MF_SOURCE_DIR "/tests/fhir/vitals/ehr/features.json", NULL, err);
    scarce.countdown = saved;
    MF_AUTO(mf_feature_set) struct mf_feature_set *set = mf_feature_set_parse(definition, "f", err);
    (void)scarce_end();
    return set ? strdup(set->features[set->count - 1].id) : NULL;
}

/* A definition with one feature of each kind, extracted from the first patient of the document. */
static char *make_features(struct mf_error *err)
{
    static const char TEXT[] =
        "{\"schema\":\"medfusion.features/"
        "1\",\"features\":[{\"id\":\"x\",\"kind\":\"numeric\",\"unit\":\"1\","
        "\"sources\":[{\"fhir\":[{\"system\":\"s\",\"code\":\"c\"}]}],\"mean\":0,\"std\":1},{"
        "\"id\":\"sex\","
        "\"kind\":\"categorical\",\"sources\":[\"dicom:PatientSex\"],\"categories\":[\"F\"]}]}";
    static const struct mf_demographics demographics = {.patient_sex = "F"};
    long saved = scarce.countdown;
    (void)scarce_end();
    MF_AUTO(mf_json) json_t *definition = json_of(TEXT);
    MF_AUTO(mf_feature_set) struct mf_feature_set *set = mf_feature_set_parse(definition, "f", err);
    MF_AUTO(mf_fhir_document) struct mf_fhir_document *doc = document(err);
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(0);
    struct mf_feature_value values[2];
    struct mf_time at;
    assert_true(mf_time_parse_fhir("2020", &at, NULL));
    scarce.countdown = saved;
    if (!mf_fhir_extract(set, mf_fhir_patient(doc, 0), &demographics, &at, arena, values, err)) {
        (void)scarce_end();
        return NULL;
    }
    char *text = text_of(mf_fhir_features_to_json(set, values, "Patient/1", &at));
    if (!text)
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    return text;
}

static char *make_table(struct mf_error *err)
{
    (void)err;
    return mf_result_to_text(full_result());
}

static void reports(void **state)
{
    (void)state;
    starve(make_report, true);
    starve(make_stored_report, true);
    starve(make_outcome, false);
}

static void results(void **state)
{
    (void)state;
    starve(make_result, false);
    starve(make_problem, false);
    starve(make_table, false);
}

static void documents(void **state)
{
    (void)state;
    starve(make_document, true);
    starve(make_reduced, false);
    starve(make_features, true);
    starve(make_definition, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reports),
        cmocka_unit_test(results),
        cmocka_unit_test(documents),
    };
    json_set_alloc_funcs(__wrap_malloc, free);
    json_t *kept = full_result();
    int failed = cmocka_run_group_tests_name("fhir/out_of_memory", tests, NULL, NULL);
    json_decref(kept);
    return failed;
}
