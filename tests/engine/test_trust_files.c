/* engine/trust/trust_io.c, exclusive.c, ood.c: the files of a calibration, read by hand, and every
 * value that they refuse. */
#include "engine/trust/trust_private.h"
#include "tests/expect.h"
#include "tests/json_patch.h"

#include <math.h>

#define HASH "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static const struct mf_label LABELS[3] = {{.id = "L0"}, {.id = "L1"}, {.id = "L2"}};

static const char *const FILES[MF_TRUST_FILES] = {
    "{\"schema\":\"medfusion.calibration/1\",\"id\":\"cal-1\",\"model_hash\":\"" HASH "\","
    "\"patients\":10,\"created\":\"now\",\"source\":\"hand\",\"softmax\":{\"temperature\":1.5},"
    "\"labels\":[{\"id\":\"L0\",\"method\":\"platt\",\"parameters\":[2,-1],\"prevalence\":0.25,"
    "\"groups\":{\"PA\":{\"method\":\"beta\",\"parameters\":[1,2,3]}}},"
    "{\"id\":\"L1\",\"method\":\"temperature\",\"parameters\":[0.5]},"
    "{\"id\":\"L2\",\"method\":\"isotonic\",\"parameters\":[-1,0.25,0,0.25,2,0.75],"
    "\"n_pos\":4,\"n_neg\":6}]}",
    "{\"schema\":\"medfusion.conformal/1\",\"id\":\"cal-1\",\"model_hash\":\"" HASH "\","
    "\"patients\":10,\"taxonomy\":\"label_class_view\","
    "\"density_ratio\":{\"intercept\":0.5,\"coefficients\":[1,2,3],\"mean\":[0,0,0],"
    "\"scale\":[1,1,2]},"
    "\"labels\":[{\"id\":\"L0\",\"positive\":[1,2],\"negative\":[-3],\"positive_weights\":[1,2],"
    "\"negative_weights\":[0.5],\"groups\":{\"PA\":{\"positive\":[1],\"negative\":[]},"
    "\"AP\":{\"positive\":[2],\"negative\":[-3]}}},"
    "{\"id\":\"L1\",\"positive\":[],\"negative\":[0,0]},"
    "{\"id\":\"L2\",\"positive\":[4],\"negative\":[]}],"
    "\"risk_control\":{\"risk\":\"fnr\",\"logits\":[1,2],\"positives_in_case\":[1,3],\"cases\":2},"
    "\"raps\":{\"temperature\":1,\"lambda\":0.5,\"k_reg\":1,\"tuning_cases\":4,"
    "\"scores\":[0.25,0.5]}}",
    "{\"schema\":\"medfusion.ood/1\",\"model_hash\":\"" HASH "\",\"of\":\"regions\",\"size\":2,"
    "\"mean\":[0,0],\"components\":[[1,0]],\"variances\":[4],\"residual_variance\":1,"
    "\"distances\":[1,2,3],\"references\":[0.5,-0.5],\"scales\":[1,2],\"sharpness\":[1,1,2]}"};

static void load(json_t *files[MF_TRUST_FILES])
{
    for (size_t i = 0; i < MF_TRUST_FILES; i++)
        files[i] = json_of(FILES[i]);
}

static void unload(json_t *files[MF_TRUST_FILES])
{
    for (size_t i = 0; i < MF_TRUST_FILES; i++)
        json_decref(files[i]);
}

static void files_written_by_hand_are_read(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    json_t *files[MF_TRUST_FILES];
    load(files);
    MF_AUTO(mf_trust) struct mf_trust *t = mf_trust_from_json(files, LABELS, 3, &err);
    unload(files);
    assert_no_error(&err);
    assert_string_equal(mf_trust_id(t), "cal-1");
    assert_int_equal(mf_trust_patients(t), 10);
    assert_true(t->calibrations[0].a == 2 && t->calibrations[0].b == -1);
    assert_true(t->calibrations[1].a == 0.5);
    assert_int_equal(t->calibrations[2].knots, 3);
    assert_true(t->calibrations[2].x[2] == 2 && t->calibrations[2].y[2] == 0.75);
    assert_int_equal(t->calibrations[2].n_neg, 6);
    assert_true(t->prevalence[0] == 0.25 && isnan(t->prevalence[1]));
    assert_int_equal(t->strata, MF_STRATA_VIEW);
    assert_int_equal(t->group_count, 2);
    assert_string_equal(t->groups[0].name, "PA");
    assert_true(t->groups[0].own[0] && !t->groups[0].own[1] && !t->groups[1].own[0]);
    assert_true(t->groups[0].calibrations[0].c == 3);
    assert_true(t->groups[1].classes[0].negative[0] == -3);
    assert_true(t->classes[0].positive_weights[1] == 2 &&
                t->classes[0].negative_weights[0] == 0.5F);
    assert_null(t->classes[1].positive_weights);
    assert_true(t->has_ratio && t->ratio.scale[2] == 2 && t->ratio.intercept == 0.5);
    assert_true(t->has_risk && t->risk_weights[1] == 3 && t->risk_cases == 2);
    assert_true(t->exclusive.temperature == 1.5 && t->exclusive.scores[1] == 0.5);
    assert_true(t->ood && t->ood_of_regions && t->sharpness[2] == 2);
    assert_true(mf_trust_sharpness_p_value(t, 1.5) == 0.75);
}

/* Each file may be missing; ood.json counts only beside the calibration that it was made with. */
static void files_may_be_missing(void **state)
{
    (void)state;
    for (int missing = 0; missing < 8; missing++) {
        struct mf_error err = MF_ERROR_INIT;
        json_t *files[MF_TRUST_FILES];
        load(files);
        for (int i = 0; i < MF_TRUST_FILES; i++)
            if (missing >> i & 1) {
                json_decref(files[i]);
                files[i] = json_null();
            }
        MF_AUTO(mf_trust) struct mf_trust *t = mf_trust_from_json(files, LABELS, 3, &err);
        unload(files);
        if (missing == 3) {
            assert_null(t);
            assert_error(&err, MF_ERR_MODEL,
                         "ood.json: its model_hash is not that of calibration.json");
            continue;
        }
        assert_no_error(&err);
        assert_int_equal(t->calibrations != NULL, !(missing & 1));
        assert_int_equal(t->classes != NULL, !(missing & 2));
        assert_int_equal(t->ood != NULL, !(missing & 4));
    }
}

static void every_value_is_checked(void **state)
{
    (void)state;
    static const struct {
        int file;
        const char *path, *value, *reason; /* value NULL: removed */
    } cases[] = {
        {0, "schema", "\"x\"", "calibration.json: not a medfusion.calibration/1"},
        {0, "id", NULL,
         "calibration.json: \"id\", \"model_hash\" or \"patients\" is missing or wrong"},
        {0, "model_hash", NULL,
         "calibration.json: \"id\", \"model_hash\" or \"patients\" is missing or wrong"},
        {0, "model_hash", "\"abc\"",
         "calibration.json: \"id\", \"model_hash\" or \"patients\" is missing or wrong"},
        {0, "patients", NULL,
         "calibration.json: \"id\", \"model_hash\" or \"patients\" is missing or wrong"},
        {0, "patients", "-1",
         "calibration.json: \"id\", \"model_hash\" or \"patients\" is missing or wrong"},
        {0, "patients", "10000001",
         "calibration.json: \"id\", \"model_hash\" or \"patients\" is missing or wrong"},
        {0, "labels", "[]",
         "calibration.json: label L0: its labels are not those of bundle.json, in order"},
        {0, "labels/0/id", NULL,
         "calibration.json: label L0: its labels are not those of bundle.json, in order"},
        {0, "labels/1/id", "\"L2\"",
         "calibration.json: label L1: its labels are not those of bundle.json, in order"},
        {0, "labels/0/method", "\"magic\"",
         "calibration.json: label L0: \"method\" or \"parameters\" is wrong"},
        {0, "labels/0/method", NULL,
         "calibration.json: label L0: \"method\" or \"parameters\" is wrong"},
        {0, "labels/0/parameters", "{}",
         "calibration.json: label L0: \"method\" or \"parameters\" is wrong"},
        {0, "labels/0/parameters", "[1]",
         "calibration.json: label L0: \"method\" or \"parameters\" is wrong"},
        {0, "labels/0/parameters", "[1, \"0\"]",
         "calibration.json: label L0: \"parameters\" must be numbers"},
        {0, "labels/0/parameters", "[0, 1]",
         "calibration.json: label L0: the slope must be positive"},
        {0, "labels/1/parameters", "[-1]",
         "calibration.json: label L1: the slope must be positive"},
        {0, "labels/2/parameters", "[]", "calibration.json: label L2: isotonic knots are missing"},
        {0, "labels/2/parameters", "[0, 0.5, 0, 0.6]",
         "calibration.json: label L2: isotonic knots must rise"},
        {0, "labels/2/parameters", "[0, 0.5, 1, 0.4]",
         "calibration.json: label L2: isotonic knots must rise"},
        {0, "labels/2/parameters", "[0, 0]",
         "calibration.json: label L2: isotonic knots must rise"},
        {0, "labels/2/parameters", "[0, 1]",
         "calibration.json: label L2: isotonic knots must rise"},
        {0, "labels/2/parameters", "[\"0\", 0.5]",
         "calibration.json: label L2: \"parameters\" must be numbers"},
        {0, "labels/0/prevalence", "0",
         "calibration.json: label L0: \"prevalence\" must lie between 0 and 1"},
        {0, "labels/0/prevalence", "1",
         "calibration.json: label L0: \"prevalence\" must lie between 0 and 1"},
        {0, "labels/0/prevalence", "\"0.5\"",
         "calibration.json: label L0: \"prevalence\" must lie between 0 and 1"},
        {0, "labels/0/groups", "{\"PA\": {\"method\": \"platt\", \"parameters\": []}}",
         "calibration.json: label L0: group PA: \"method\" or \"parameters\" is wrong"},
        {0, "labels/0/groups", "{\"\": {\"method\": \"identity\", \"parameters\": []}}",
         "calibration.json: label L0: group : there are too many groups, or one has no proper "
         "name"},
        {0, "labels/0/groups",
         "{\"yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\": {\"method\": "
         "\"identity\", \"parameters\": []}}",
         "calibration.json: label L0: group "
         "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy: there are too many "
         "groups, or one has no proper name"},
        {0, "softmax", "{\"temperature\": 1e9}", "calibration.json: softmax.temperature is wrong"},
        {0, "softmax", "{}", "calibration.json: softmax.temperature is wrong"},
        {1, "schema", "\"medfusion.calibration/1\"", "conformal.json: not a medfusion.conformal/1"},
        {1, "id", "\"other\"",
         "conformal.json: its id or model_hash is not that of calibration.json"},
        {1, "model_hash", "\"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\"",
         "conformal.json: its id or model_hash is not that of calibration.json"},
        {1, "taxonomy", "\"label_class_moon\"", "conformal.json: \"taxonomy\" is unknown"},
        {1, "labels/2", NULL,
         "conformal.json: label L0: its labels are not those of bundle.json, in order"},
        {1, "labels/0/positive", "3", "conformal.json: label L0: logits must be an array"},
        {1, "labels/0/positive", "[1, \"2\"]",
         "conformal.json: label L0: logits must be numbers in ascending order"},
        {1, "labels/0/positive", "[2, 1]",
         "conformal.json: label L0: logits must be numbers in ascending order"},
        {1, "labels/0/negative", "[1e300]",
         "conformal.json: label L0: logits must be numbers in ascending order"},
        {1, "labels/0/negative", NULL, "conformal.json: label L0: logits must be an array"},
        {1, "labels/0/positive_weights", NULL,
         "conformal.json: label L0: weights need both classes and a density_ratio"},
        {1, "labels/0/negative_weights", NULL,
         "conformal.json: label L0: weights need both classes and a density_ratio"},
        {1, "labels/0/positive_weights", "[1]",
         "conformal.json: label L0: there must be one weight a logit"},
        {1, "labels/0/positive_weights", "[1, -1]",
         "conformal.json: label L0: weights must be numbers, not negative"},
        {1, "labels/0/positive_weights", "[1, 1e300]",
         "conformal.json: label L0: weights must be numbers, not negative"},
        {1, "labels/0/positive_weights", "[1, null]",
         "conformal.json: label L0: weights must be numbers, not negative"},
        {1, "labels/0/negative_weights", "[1, 2, 3]",
         "conformal.json: label L0: there must be one weight a logit"},
        {1, "labels/0/groups/PA", "{\"positive\": [], \"negative\": 1}",
         "conformal.json: label L0: group PA: logits must be an array"},
        {1, "labels/0/groups", "{\"\": {\"positive\": [], \"negative\": []}}",
         "conformal.json: label L0: group : there are too many groups, or one has no proper name"},
        {1, "density_ratio", NULL,
         "conformal.json: label L0: weights need both classes and a density_ratio"},
        {1, "density_ratio/intercept", "null", "conformal.json: density_ratio is wrong"},
        {1, "density_ratio/coefficients", "[1, 2]", "conformal.json: density_ratio is wrong"},
        {1, "density_ratio/mean", "[1, 2, \"3\"]", "conformal.json: density_ratio is wrong"},
        {1, "density_ratio/scale", "3", "conformal.json: density_ratio is wrong"},
        {1, "density_ratio/scale", "[1, 1, 0]", "conformal.json: density_ratio is wrong"},
        {1, "risk_control/logits", "[2, 1]",
         "conformal.json: logits must be numbers in ascending order"},
        {1, "risk_control/positives_in_case", "[1]", "conformal.json: risk_control is wrong"},
        {1, "risk_control/positives_in_case", "[0, 1]",
         "conformal.json: risk_control.positives_in_case is wrong"},
        {1, "risk_control/positives_in_case", "[1, 4]",
         "conformal.json: risk_control.positives_in_case is wrong"},
        {1, "risk_control/cases", NULL, "conformal.json: risk_control is wrong"},
        {1, "risk_control/cases", "3", "conformal.json: risk_control is wrong"},
        {1, "risk_control/risk", "\"fdr\"", "conformal.json: risk_control is wrong"},
        {1, "raps/temperature", "0", "conformal.json: raps is wrong"},
        {1, "raps/lambda", "-1", "conformal.json: raps is wrong"},
        {1, "raps/lambda", NULL, "conformal.json: raps is wrong"},
        {1, "raps/k_reg", "-1", "conformal.json: raps is wrong"},
        {1, "raps/tuning_cases", NULL, "conformal.json: raps is wrong"},
        {1, "raps/scores", "{}", "conformal.json: raps is wrong"},
        {1, "raps/scores", "[0.5, 0.25]", "conformal.json: raps.scores must rise"},
        {1, "raps/scores", "[-0.5, 0.25]", "conformal.json: raps.scores must rise"},
        {1, "raps/scores", "[\"x\"]", "conformal.json: raps.scores must rise"},
        {1, "raps/scores", "[1e300]", "conformal.json: raps.scores must rise"},
        {2, "model_hash", "\"x\"", "ood.json: its model_hash is not that of calibration.json"},
        {2, "of", "\"pixels\"", "ood.json: \"of\" must be regions or readout"},
        {2, "schema", "\"x\"", "ood.json: not a valid medfusion.ood/1"},
        {2, "size", "0", "ood.json: not a valid medfusion.ood/1"},
        {2, "size", "1000000000", "ood.json: not a valid medfusion.ood/1"},
        {2, "mean", "[1]", "ood.json: not a valid medfusion.ood/1"},
        {2, "variances", "[1, 2]", "ood.json: not a valid medfusion.ood/1"},
        {2, "variances", "[-1]", "ood.json: not a valid medfusion.ood/1"},
        {2, "components", "[[1]]", "ood.json: not a valid medfusion.ood/1"},
        {2, "components", "[[1, \"0\"]]", "ood.json: not a valid medfusion.ood/1"},
        {2, "distances", "[2, 1]", "ood.json: not a valid medfusion.ood/1"},
        {2, "residual_variance", "0", "ood.json: not a valid medfusion.ood/1"},
        {2, "references", "[]", "ood.json: not a valid medfusion.ood/1"},
        {2, "references", "[1, \"2\"]", "ood.json: not a valid medfusion.ood/1"},
        {2, "scales", "[1]", "ood.json: not a valid medfusion.ood/1"},
        {2, "scales", "[0, 1]", "ood.json: not a valid medfusion.ood/1"},
        {2, "scales", "[1, 0]", "ood.json: not a valid medfusion.ood/1"},
        {2, "components", "[]", "ood.json: not a valid medfusion.ood/1"},
        {2, "sharpness", "[2, 1]", "ood.json: \"sharpness\" must be numbers in ascending order"},
        {2, "sharpness", "3", "ood.json: \"sharpness\" must be numbers in ascending order"},
        {2, "sharpness", "[1, \"2\"]",
         "ood.json: \"sharpness\" must be numbers in ascending order"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct mf_error err = MF_ERROR_INIT;
        json_t *files[MF_TRUST_FILES];
        load(files);
        if (!json_patch(files[cases[i].file], cases[i].path, cases[i].value))
            fail_msg("there is no %s", cases[i].path);
        struct mf_trust *t = mf_trust_from_json(files, LABELS, 3, &err);
        unload(files);
        assert_null(t);
        assert_error(&err, MF_ERR_MODEL, cases[i].reason);
    }
}

static void groups_are_counted(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    json_t *files[MF_TRUST_FILES];
    load(files);
    json_t *groups =
        json_object_get(json_array_get(json_object_get(files[1], "labels"), 1), "groups");
    assert_null(groups);
    groups = json_object();
    for (int i = 0; i < MF_TRUST_GROUPS; i++) {
        char name[16];
        snprintf(name, sizeof name, "G%d", i);
        json_object_set_new(groups, name, json_of("{\"positive\":[],\"negative\":[]}"));
    }
    json_object_set_new(json_array_get(json_object_get(files[1], "labels"), 1), "groups", groups);
    assert_null(mf_trust_from_json(files, LABELS, 3, &err));
    assert_error(&err, MF_ERR_MODEL,
                 "conformal.json: label L1: group G62: there are too many groups, or one has no "
                 "proper name");
    unload(files);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_written_by_hand_are_read),
        cmocka_unit_test(files_may_be_missing),
        cmocka_unit_test(every_value_is_checked),
        cmocka_unit_test(groups_are_counted),
    };
    return cmocka_run_group_tests_name("engine/trust_files", tests, NULL, NULL);
}
