/*
 * core/result.c and result_text.c: what is written equals the files in tests/core/result/, which
 * tests/schemas/ validates against schemas/.
 */
#include "core/result.h"

#include <math.h>

#include "tests/expect.h"

#define FOLDER MF_SOURCE_DIR "/tests/core/result/"

static const struct mf_coding EFFUSION[] = {
    {"http://snomed.info/sct", "60046008", "Pleural effusion"},
    {"http://www.radlex.org", "RID34539", NULL},
};

static const struct mf_prediction PREDICTIONS[] = {
    {.label = "Effusion",
     .display = "Pleural effusion",
     .codings = EFFUSION,
     .coding_count = 2,
     .logit = 1.625,
     .probability = 0.71,
     .state = MF_LABEL_PRESENT,
     .p_present = 0.75,
     .p_absent = 0.04,
     .q_present = 1.25,
     .q_absent = 0.5,
     .n_cal_pos = 40,
     .n_cal_neg = 260,
     .guarantee = MF_GUARANTEE_VALID},
    {.label = "Hernia",
     .logit = -4,
     .probability = 0.01,
     .state = MF_LABEL_UNCERTAIN,
     .p_present = 0.5,
     .p_absent = 0.6,
     .q_present = INFINITY,
     .q_absent = 0.25,
     .n_cal_pos = 2,
     .n_cal_neg = 298,
     .guarantee = MF_GUARANTEE_INSUFFICIENT},
    {.label = "Mass",
     .display = "Raumforderung <\xC3\xBC>",
     .logit = -1,
     .probability = 0.125,
     .state = MF_LABEL_ABSENT,
     .p_present = 0.05,
     .p_absent = 0.4,
     .q_present = 2,
     .q_absent = 2,
     .n_cal_pos = 30,
     .n_cal_neg = 270,
     .guarantee = MF_GUARANTEE_SHIFTED},
    {.label = "Nodule",
     .logit = 0.25,
     .probability = NAN,
     .state = MF_LABEL_EMPTY,
     .p_present = NAN,
     .p_absent = NAN,
     .q_present = NAN,
     .q_absent = -INFINITY,
     .guarantee = MF_GUARANTEE_VOID},
};

static const struct mf_result_frame FRAMES[] = {
    {.study_instance_uid = "1.2.3",
     .sop_instance_uid = "1.2.3.1",
     .prior = true,
     .acquired = "2019-02-01",
     .segmentation = {.status = MF_SEGMENTATION_FALLBACK,
                      .iou = 0.31,
                      .box = {0, 0, 512, 400},
                      .reason = "ratio"}},
    {.study_instance_uid = "1.2.4",
     .sop_instance_uid = "1.2.4.1",
     .index = 2,
     .acquired = "2019-03-07T10:20:00",
     .segmentation = {.status = MF_SEGMENTATION_OK, .iou = 0.9375, .box = {10, 20, 500, 390}}},
};

static const struct mf_result *full(void)
{
    static const uint32_t labels[] = {0, 2};
    static const double levels[] = {0.0955, 0.125, -0.005, 0.1, 0.1, 0.1, 0.1, 0.0625};
    static const char *const flags[] = {"segmentation_fallback", "out_of_distribution"};
    static const struct mf_skipped skipped[] = {
        {"1.2.4.9", "a lateral view, the model wants PA or AP"},
        {NULL, "not DICOM"},
    };
    static const char *const sexes[] = {"female", "male"};
    static struct mf_feature features[] = {
        {.id = "age", .kind = MF_FEATURE_NUMERIC, .unit = "a"},
        {.id = "crp", .kind = MF_FEATURE_NUMERIC, .unit = "mg/L"},
        {.id = "sex", .kind = MF_FEATURE_CATEGORICAL, .categories = sexes, .category_count = 2},
    };
    static const struct mf_feature_set set = {.features = features, .count = 3, .numeric_count = 2};
    static const struct mf_feature_value values[] = {
        {.status = MF_FEATURE_USED, .has_number = true, .number = 45, .source = "dicom:PatientAge"},
        {.status = MF_FEATURE_IMPLAUSIBLE,
         .has_number = true,
         .number = 12,
         .unit = "furlong",
         .source = "Observation/9",
         .time = "2019-03-06"},
        {.status = MF_FEATURE_USED, .has_category = true, .category = 1, .source = "Patient/1"},
    };
    static const struct mf_result result = {
        .job = "0123456789abcdef0123456789abcdef",
        .study_instance_uid = "1.2.4",
        .modality = "DX",
        .order = {"A-1", "P-1", "F-1", NULL, "S-1"},
        .frames = FRAMES,
        .frame_count = 2,
        .model = {"thorax", "1.0.0", "d1", "h1", "cpu", "f32"},
        .alpha = 0.1,
        .predictions = PREDICTIONS,
        .prediction_count = 4,
        .findings = {.available = true, .labels = labels, .label_count = 2},
        .calibration = {.id = "c1",
                        .created = "2026-11-22T13:24:00.123Z",
                        .model_hash = "h1",
                        .patients = 300},
        .adaptation = {"episodic",
                       "a7",
                       0.25,
                       0.24,
                       0.01,
                       {"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff", 12,
                        levels}},
        .feature_set = &set,
        .feature_values = values,
        .ood_p_value = 0.02,
        .flags = flags,
        .flag_count = 2,
        .skipped = skipped,
        .skipped_count = 2,
        .timing = {1.5, 20, 30.25, 2, 0.5, NAN, 60},
    };
    return &result;
}

/* Nothing is known: an uncalibrated bundle without EHR, nothing timed. */
static const struct mf_result *bare(void)
{
    static const struct mf_result result = {
        .alpha = NAN,
        .ood_p_value = NAN,
        .timing = {NAN, NAN, NAN, NAN, NAN, NAN, NAN},
    };
    return &result;
}

static char *file(const char *name)
{
    char path[512];
    snprintf(path, sizeof path, FOLDER "%s", name);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    char *text = calloc(1, 65536);
    assert_true(fread(text, 1, 65535, f) > 0);
    fclose(f);
    return text;
}

static void written_documents_equal_their_files(void **state)
{
    (void)state;
    const struct {
        const struct mf_result *result;
        const char *json, *text;
    } ROWS[] = {{full(), "full.json", "full.txt"}, {bare(), "bare.json", "bare.txt"}};
    for (size_t i = 0; i < 2; i++) {
        MF_AUTO(mf_json) json_t *json = mf_result_to_json(ROWS[i].result);
        MF_AUTO(mf_mem) char *expected = file(ROWS[i].json);
        assert_non_null(json);
        assert_json(json, expected);
        MF_AUTO(mf_mem) char *text = mf_result_to_text(json);
        MF_AUTO(mf_mem) char *expected_text = file(ROWS[i].text);
        assert_string_equal(text, expected_text);
    }
}

static void text_of_a_foreign_document_is_a_table_too(void **state)
{
    (void)state;
    static const char *const TEXTS[] = {
        "{}", "{\"predictions\":[{}, 7, null]}", "{\"study\":{\"frames\":[{},1]}}",
        "{\"ehr\":{\"features\":[{}, {\"value\":true}]},\"quality\":{\"flags\":[1],"
        "\"skipped\":[2]}}"};
    for (size_t i = 0; i < sizeof TEXTS / sizeof *TEXTS; i++) {
        MF_AUTO(mf_json) json_t *json = json_of(TEXTS[i]);
        MF_AUTO(mf_mem) char *text = mf_result_to_text(json);
        assert_non_null(strstr(text, "Finding"));
    }
}

static void states_are_the_subsets_of_two_classes(void **state)
{
    (void)state;
    static const struct {
        enum mf_label_state state;
        const char *json;
    } ROWS[] = {
        {MF_LABEL_PRESENT,
         "{\"prediction_set\":[\"present\"],\"set_size\":1,\"state\":\"present\"}"},
        {MF_LABEL_ABSENT, "{\"prediction_set\":[\"absent\"],\"set_size\":1,\"state\":\"absent\"}"},
        {MF_LABEL_UNCERTAIN, "{\"prediction_set\":[\"present\",\"absent\"],\"set_size\":2,"
                             "\"state\":\"uncertain\"}"},
        {MF_LABEL_EMPTY, "{\"prediction_set\":[],\"set_size\":0,\"state\":\"empty\"}"},
    };
    for (size_t i = 0; i < 4; i++) {
        const struct mf_prediction p = {.label = "x", .state = ROWS[i].state};
        const struct mf_result r = {.predictions = &p, .prediction_count = 1};
        MF_AUTO(mf_json) json_t *json = mf_result_to_json(&r);
        json_t *written = json_array_get(json_object_get(json, "predictions"), 0);
        MF_AUTO(mf_json)
        json_t *part =
            json_pack("{s:O,s:O,s:O}", "prediction_set", json_object_get(written, "prediction_set"),
                      "set_size", json_object_get(written, "set_size"), "state",
                      json_object_get(written, "state"));
        assert_json(part, ROWS[i].json);
    }
}

static void outcomes_say_so_and_findings_do_not(void **state)
{
    (void)state;
    static const struct mf_prediction p[] = {
        {.label = "Effusion"},
        {.label = "Death", .outcome = true, .horizon = "within 30 days"},
        {.label = "Stay", .outcome = true}};
    const struct mf_result r = {.predictions = p, .prediction_count = 3};
    MF_AUTO(mf_json) json_t *json = mf_result_to_json(&r);
    const json_t *list = json_object_get(json, "predictions");
    assert_null(json_object_get(json_array_get(list, 0), "kind"));
    assert_string_equal(json_string_value(json_object_get(json_array_get(list, 1), "kind")),
                        "outcome");
    assert_string_equal(json_string_value(json_object_get(json_array_get(list, 1), "horizon")),
                        "within 30 days");
    assert_non_null(json_object_get(json_array_get(list, 2), "kind"));
    assert_null(json_object_get(json_array_get(list, 2), "horizon"));
}

static void strings_that_are_not_utf8_make_no_document(void **state)
{
    (void)state;
    const struct mf_result r = {.modality = "\xff"};
    assert_null(mf_result_to_json(&r));
}

static void problems(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    mf_error_set(&err, MF_ERR_UNUSABLE, "no usable image");
    MF_AUTO(mf_json) json_t *plain = mf_problem_to_json(&err, NULL, NULL);
    MF_AUTO(mf_json) json_t *whole = mf_problem_to_json(&err, "1.2.3", "j1");
    MF_AUTO(mf_mem) char *expected = file("problem.json");
    assert_json(whole, expected);
    assert_json(plain, "{\"schema\":\"medfusion.problem/1\",\"type\":\"urn:medfusion:problem:"
                       "unusable\",\"title\":\"Readable but not usable\",\"status\":422,"
                       "\"detail\":\"no usable image\"}");
}

static void names(void **state)
{
    (void)state;
    assert_string_equal(mf_label_state_name(MF_LABEL_UNCERTAIN), "uncertain");
    assert_string_equal(mf_label_state_name((enum mf_label_state)9), "uncertain");
    assert_string_equal(mf_guarantee_name(MF_GUARANTEE_INSUFFICIENT), "insufficient_calibration");
    assert_string_equal(mf_guarantee_name((enum mf_guarantee)9), "void");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(written_documents_equal_their_files),
        cmocka_unit_test(text_of_a_foreign_document_is_a_table_too),
        cmocka_unit_test(states_are_the_subsets_of_two_classes),
        cmocka_unit_test(outcomes_say_so_and_findings_do_not),
        cmocka_unit_test(strings_that_are_not_utf8_make_no_document),
        cmocka_unit_test(problems),
        cmocka_unit_test(names),
    };
    return cmocka_run_group_tests_name("core/result", tests, NULL, NULL);
}
