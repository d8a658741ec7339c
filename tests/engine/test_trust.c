/* The trust layer as a whole: fitted, written into a bundle, read back, applied; what binds it to a
 * model; what is refused. */
#include "tests/engine/trust_fixture.h"

static void a_calibrated_bundle_states_its_guarantees(void **state)
{
    struct fixture *f = *state;
    const struct mf_trust_cases cases = all_cases(f);
    struct mf_bundle *b = calibrated(f, &cases);
    const struct mf_trust *t = mf_bundle_trust(b);
    struct statement st;
    assert_true(strncmp(mf_trust_id(t), "cal-", 4) == 0);
    assert_string_equal(mf_trust_created(t), "2026-01-02T03:04:05.000Z");
    assert_string_equal(mf_trust_source(t), "a simulation");
    assert_int_equal(mf_trust_patients(t), CASES);
    assert_string_equal(mf_trust_model_hash(t), mf_bundle_model_hash(b));
    assert_string_equal(mf_bundle_model_hash(b), mf_bundle_model_hash(f->bundle));
    apply(b, (float[]){5, -5, 0, 5, -5}, f->features, 0.1, false, &st);
    assert_int_equal(st.predictions[0].state, MF_LABEL_PRESENT);
    assert_int_equal(st.predictions[1].state, MF_LABEL_ABSENT);
    assert_int_equal(st.predictions[0].guarantee, MF_GUARANTEE_VALID);
    assert_int_equal(st.predictions[3].n_cal_pos + st.predictions[3].n_cal_neg,
                     CASES - 1); /* the blank */
    assert_int_equal(st.predictions[4].n_cal_pos, 0);
    assert_int_equal(st.predictions[4].guarantee, MF_GUARANTEE_INSUFFICIENT);
    assert_true(isinf(st.predictions[4].q_present) &&
                st.predictions[4].state == MF_LABEL_UNCERTAIN);
    assert_true(st.predictions[0].probability > 0.9 && st.predictions[1].probability < 0.1);
    assert_true(st.s.findings.available && st.s.findings.label_count >= 2);
    assert_true(st.s.ood_p_value > 0 && st.s.ood_p_value <= 1);
    apply(b, (float[]){5, -5, 0, 5, -5}, NULL, 0.1, true, &st);
    assert_int_equal(st.predictions[0].guarantee, MF_GUARANTEE_SHIFTED);
    assert_int_equal(st.predictions[4].guarantee, MF_GUARANTEE_INSUFFICIENT);
    assert_true(isnan(st.s.ood_p_value));
    mf_bundle_free(b);
}

static void findings_come_most_probable_first(void **state)
{
    struct fixture *f = *state;
    const struct mf_trust_cases cases = all_cases(f);
    struct mf_bundle *b = calibrated(f, &cases);
    struct statement st;
    apply(b, (float[]){1, 3, 2, -9, -9}, NULL, 0.1, false, &st);
    assert_int_equal(st.s.findings.label_count, 3);
    for (size_t i = 1; i < 3; i++)
        assert_true(st.predictions[st.labels[i - 1]].probability >=
                    st.predictions[st.labels[i]].probability);
    mf_bundle_free(b);
}

static void distant_features_are_unusual(void **state)
{
    struct fixture *f = *state;
    const struct mf_trust_cases cases = all_cases(f);
    struct mf_bundle *b = calibrated(f, &cases);
    struct statement st;
    float far[FEATURES], p = 0;
    for (size_t i = 0; i < FEATURES; i++)
        far[i] = 60;
    apply(b, f->logits, far, 0.1, false, &st);
    assert_true(st.s.ood_p_value < 0.01);
    for (size_t i = 0; i < 200; i++) { /* p-values of ordinary cases are uniform */
        float usual[FEATURES];
        for (size_t k = 0; k < FEATURES; k++)
            usual[k] = (float)(gaussian() * (1 + (double)k));
        apply(b, f->logits, usual, 0.1, false, &st);
        p += (float)st.s.ood_p_value / 200;
    }
    assert_true(p > 0.42f && p < 0.58f);
    mf_bundle_free(b);
}

/* Bundles calibrated by older programs look at the readout; sizes that do not fit are not judged.
 */
static void the_check_looks_at_what_it_was_fitted_on(void **state)
{
    struct fixture *f = *state;
    const struct mf_trust_cases cases = all_cases(f);
    struct statement st;
    char path[512];
    struct mf_trust_case c = {.logits = f->logits,
                              .features = f->features,
                              .feature_size = FEATURES - 1,
                              .readout = f->features,
                              .readout_size = FEATURES,
                              .strata = MF_STRATA_UNKNOWN};
    struct mf_bundle *b = calibrated(f, &cases);
    st.s = (struct mf_trust_statement){.predictions = st.predictions, .finding_labels = st.labels};
    assert_true(mf_trust_apply(b, &c, 0.1, &st.s, NULL) && isnan(st.s.ood_p_value));
    mf_bundle_free(b);
    snprintf(path, sizeof path, "%s/ood.json", f->out);
    json_t *json = mf_json_read_file(path, NULL, NULL);
    assert_int_equal(json_object_del(json, "of"), 0);
    char *text = mf_json_text(json, 0);
    assert_true(write_text(path, text, strlen(text)) && mf_bundle_write_manifest(f->out, NULL));
    free(text);
    json_decref(json);
    b = mf_bundle_open(f->out, MF_BUNDLE_METADATA, NULL);
    assert_true(mf_trust_apply(b, &c, 0.1, &st.s, NULL) && st.s.ood_p_value > 0);
    mf_bundle_free(b);
}

static void another_model_voids_every_guarantee(void **state)
{
    struct fixture *f = *state;
    const struct mf_trust_cases cases = all_cases(f);
    struct statement st;
    char path[512];
    mf_bundle_free(calibrated(f, &cases));
    snprintf(path, sizeof path, "%s/bundle.json", f->out);
    json_t *json = mf_json_read_file(path, NULL, NULL);
    json_object_set_new(json, "version", json_string("0.0.2"));
    char *text = mf_json_text(json, 1);
    assert_true(write_text(path, text, strlen(text)) && mf_bundle_write_manifest(f->out, NULL));
    free(text);
    json_decref(json);
    struct mf_bundle *b = mf_bundle_open(f->out, MF_BUNDLE_METADATA, NULL);
    assert_non_null(b);
    apply(b, (float[]){5, -5, 0, 5, -5}, f->features, 0.1, false, &st);
    for (size_t i = 0; i < LABELS; i++)
        assert_int_equal(st.predictions[i].guarantee, MF_GUARANTEE_VOID);
    assert_false(st.s.findings.available);
    assert_true(isnan(st.s.ood_p_value));
    mf_bundle_free(b);
}

static void without_calibration_nothing_is_promised(void **state)
{
    struct fixture *f = *state;
    struct statement st;
    apply(f->bundle, (float[]){0, 1, 2, 3, 4}, NULL, 0.1, false, &st);
    assert_true(st.predictions[0].probability == 0.5);
    assert_int_equal(st.predictions[2].guarantee, MF_GUARANTEE_VOID);
    assert_int_equal(st.predictions[2].state, MF_LABEL_UNCERTAIN);
    assert_true(isnan(st.predictions[2].p_present) && isnan(st.predictions[2].q_absent));
    assert_false(st.s.findings.available);
}

static void bad_requests_are_refused(void **state)
{
    struct fixture *f = *state;
    struct statement st = {.s = {.predictions = st.predictions, .finding_labels = st.labels}};
    struct mf_error err = MF_ERROR_INIT;
    float logits[LABELS] = {0, 0, NAN, 0, 0};
    const struct mf_trust_case c = {.logits = logits};
    assert_false(mf_trust_apply(f->bundle, &c, 0.1, &st.s, &err));
    assert_string_equal(err.msg, "the network gave a logit that is not finite");
    mf_error_clear(&err);
    assert_false(mf_trust_apply(f->bundle, &c, 1, &st.s, &err));
    assert_string_equal(err.msg, "alpha must lie between 0 and 1");
    mf_error_clear(&err);
    struct mf_trust_cases cases = all_cases(f);
    cases.label_count = 4;
    assert_null(mf_trust_fit(f->bundle, &cases, NULL, &err));
    assert_string_equal(err.msg, "the calibration data has 4 labels, the model 5");
    mf_error_clear(&err);
    cases = all_cases(f);
    cases.count = 0;
    assert_null(mf_trust_fit(f->bundle, &cases, NULL, &err));
    assert_string_equal(err.msg, "the calibration data has 0 cases");
}

/* Changes one member of a trust file of the written bundle; opening must give this reason. */
static void refuse(struct fixture *f, const char *file, const char *key, json_t *value,
                   const char *reason)
{
    struct mf_error err = MF_ERROR_INIT;
    char path[512];
    snprintf(path, sizeof path, "%s/%s", f->out, file);
    json_t *json = mf_json_read_file(path, NULL, NULL), *old = json_deep_copy(json);
    json_object_set_new(json, key, value);
    for (int pass = 0; pass < 2; pass++) {
        char *text = mf_json_text(pass ? old : json, 0);
        assert_true(write_text(path, text, strlen(text)) && mf_bundle_write_manifest(f->out, NULL));
        free(text);
        if (pass == 0) {
            assert_null(mf_bundle_open(f->out, MF_BUNDLE_METADATA, &err));
            assert_string_equal(err.msg, reason);
        }
    }
    json_decref(json);
    json_decref(old);
}

/* 120 of 400 cases know their sharpness, from 1 upwards. */
static void sharpness_is_kept_and_judged(void **state)
{
    struct fixture *f = *state;
    struct mf_trust_cases cases = all_cases(f);
    double sharpness[CASES];
    for (size_t i = 0; i < CASES; i++)
        sharpness[i] = i < 120 ? 1 + (double)(i * 7 % 120) / 100 : NAN;
    struct mf_bundle *b = calibrated(f, &cases);
    assert_true(isnan(mf_trust_sharpness_p_value(mf_bundle_trust(b), 0.5)));
    mf_bundle_free(b);
    bundle_remove(f->out);
    cases.sharpness = sharpness;
    b = calibrated(f, &cases);
    const struct mf_trust *t = mf_bundle_trust(b);
    assert_true(mf_trust_sharpness_p_value(t, 0.99) == 1.0 / 121);
    assert_true(mf_trust_sharpness_p_value(t, 1.005) == 2.0 / 121);
    assert_true(mf_trust_sharpness_p_value(t, 3) == 1);
    mf_bundle_free(b);
}

static void damaged_trust_files_are_refused(void **state)
{
    struct fixture *f = *state;
    const struct mf_trust_cases cases = all_cases(f);
    mf_bundle_free(calibrated(f, &cases));
    refuse(f, "calibration.json", "schema", json_string("x"),
           "calibration.json: not a medfusion.calibration/1");
    refuse(f, "calibration.json", "labels", json_array(),
           "calibration.json: label L0: its labels are not those of bundle.json, in order");
    refuse(f, "conformal.json", "id", json_string("cal-other"),
           "conformal.json: its id or model_hash is not that of calibration.json");
    refuse(f, "conformal.json", "risk_control",
           json_pack("{s:[f, f], s:[i, i], s:i}", "logits", 2.0, 1.0, "positives_in_case", 1, 1,
                     "cases", 2),
           "conformal.json: logits must be numbers in ascending order");
    refuse(f, "conformal.json", "taxonomy", json_string("label_class_moon"),
           "conformal.json: \"taxonomy\" is unknown");
    refuse(f, "conformal.json", "density_ratio", json_pack("{s:f}", "intercept", 1.0),
           "conformal.json: density_ratio is wrong");
    refuse(f, "ood.json", "residual_variance", json_integer(0),
           "ood.json: not a valid medfusion.ood/1");
    refuse(f, "ood.json", "sharpness", json_pack("[f, f]", 2.0, 1.0),
           "ood.json: \"sharpness\" must be numbers in ascending order");
    refuse(f, "ood.json", "of", json_string("pixels"),
           "ood.json: \"of\" must be regions or readout");
    refuse(f, "ood.json", "sharpness", json_string("x"),
           "ood.json: \"sharpness\" must be numbers in ascending order");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_calibrated_bundle_states_its_guarantees),
        TEST(findings_come_most_probable_first),
        TEST(distant_features_are_unusual),
        TEST(the_check_looks_at_what_it_was_fitted_on),
        TEST(another_model_voids_every_guarantee),
        TEST(without_calibration_nothing_is_promised),
        TEST(bad_requests_are_refused),
        TEST(sharpness_is_kept_and_judged),
        TEST(damaged_trust_files_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
