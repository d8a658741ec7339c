/* Calibration maps against scikit-learn (data/calibration.json, made by
 * data/make_reference.py), and the choice among them. */
#include "core/json.h"
#include "engine/trust/calibrate.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static json_t *reference;

static int setup(void **state)
{
    (void)state;
    reference = mf_json_read_file(MF_SOURCE_DIR "/tests/engine/data/calibration.json", NULL, NULL);
    return reference ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    json_decref(reference);
    return 0;
}

static double number(const char *key, size_t i)
{
    const json_t *v = json_array_get(json_object_get(reference, key), i);
    assert_true(json_is_number(v));
    return json_number_value(v);
}

static size_t cases(double *z, uint8_t *truth, const char *which)
{
    size_t n = json_array_size(json_object_get(reference, "z"));
    for (size_t i = 0; i < n; i++) {
        z[i] = number("z", i);
        truth[i] = (uint8_t)number(which, i);
    }
    return n;
}

static void assert_close(double a, double b, double limit)
{
    if (!(fabs(a - b) <= limit * (1 + fabs(b))))
        fail_msg("%.12g should be %.12g", a, b);
}

static void temperature_equals_the_reference(void **state)
{
    double z[512];
    uint8_t truth[512];
    struct mf_calibration c;
    (void)state;
    size_t n = cases(z, truth, "truth");
    assert_true(mf_calibration_fit(MF_CALIBRATION_TEMPERATURE, z, truth, n, &c, NULL));
    assert_close(c.a, number("temperature", 0), 1e-6);
    for (size_t i = 0; i < 9; i++)
        assert_close(mf_calibration_apply(&c, number("at", i)), number("temperature_at", i), 1e-6);
}

static void platt_equals_the_reference(void **state)
{
    double z[512];
    uint8_t truth[512];
    struct mf_calibration c;
    (void)state;
    size_t n = cases(z, truth, "truth");
    assert_true(mf_calibration_fit(MF_CALIBRATION_PLATT, z, truth, n, &c, NULL));
    assert_close(c.a, number("platt", 0), 1e-6);
    assert_close(c.b, number("platt", 1), 1e-6);
    for (size_t i = 0; i < 9; i++)
        assert_close(mf_calibration_apply(&c, number("at", i)), number("platt_at", i), 1e-6);
}

static void beta_equals_the_reference(void **state)
{
    double z[512];
    uint8_t truth[512];
    struct mf_calibration c;
    (void)state;
    size_t n = cases(z, truth, "truth");
    assert_true(mf_calibration_fit(MF_CALIBRATION_BETA, z, truth, n, &c, NULL));
    assert_close(c.a, number("beta", 0), 1e-6);
    assert_close(c.b, number("beta", 1), 1e-6);
    assert_close(c.c, number("beta", 2), 1e-6);
    for (size_t i = 0; i < 9; i++)
        assert_close(mf_calibration_apply(&c, number("at", i)), number("beta_at", i), 1e-6);
}

static void beta_drops_a_negative_coefficient(void **state)
{
    double z[512];
    uint8_t truth[512];
    struct mf_calibration c;
    (void)state;
    size_t n = cases(z, truth, "one_sided_truth");
    assert_true(mf_calibration_fit(MF_CALIBRATION_BETA, z, truth, n, &c, NULL));
    assert_close(c.a, number("beta_one_sided", 0), 1e-6);
    assert_close(c.b, number("beta_one_sided", 1), 1e-6);
    assert_close(c.c, number("beta_one_sided", 2), 1e-6);
}

static void isotonic_equals_the_reference(void **state)
{
    double z[512];
    uint8_t truth[512];
    struct mf_calibration c;
    (void)state;
    size_t n = cases(z, truth, "truth");
    assert_true(mf_calibration_fit(MF_CALIBRATION_ISOTONIC, z, truth, n, &c, NULL));
    for (size_t i = 0; i < 9; i++)
        assert_close(mf_calibration_apply(&c, number("at", i)), number("isotonic_at", i), 1e-9);
    for (size_t i = 1; i < c.knots; i++)
        assert_true(c.x[i] > c.x[i - 1] && c.y[i] >= c.y[i - 1]);
    mf_calibration_clear(&c);
}

static void newton_survives_separable_and_extreme_data(void **state)
{
    double z[40];
    uint8_t truth[40];
    struct mf_calibration c;
    (void)state;
    for (int i = 0; i < 40; i++) {
        z[i] = i < 20 ? -30.0 - i : 30.0 + i;
        truth[i] = i >= 20;
    }
    for (int m = MF_CALIBRATION_TEMPERATURE; m < MF_CALIBRATION_METHODS; m++) {
        assert_true(mf_calibration_fit((enum mf_calibration_method)m, z, truth, 40, &c, NULL));
        double low = mf_calibration_apply(&c, -45), high = mf_calibration_apply(&c, 60);
        if (!(low < 0.1 && high > 0.9))
            fail_msg("%s: %g at −45, %g at 60",
                     mf_calibration_method_name((enum mf_calibration_method)m), low, high);
        mf_calibration_clear(&c);
    }
}

static void one_class_alone_is_refused(void **state)
{
    const double z[3] = {1, 2, 3};
    const uint8_t truth[3] = {1, 1, 1};
    struct mf_calibration c;
    struct mf_error err = MF_ERROR_INIT;
    (void)state;
    assert_false(mf_calibration_fit(MF_CALIBRATION_PLATT, z, truth, 3, &c, &err));
    assert_string_equal(err.msg, "a calibration needs cases of both classes");
    assert_true(mf_calibration_fit(MF_CALIBRATION_IDENTITY, z, truth, 3, &c, NULL));
    assert_close(mf_calibration_apply(&c, 0), 0.5, 1e-15);
}

static uint64_t seed = 3;

static double uniform(void)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (double)(seed >> 11) / (double)(UINT64_C(1) << 53);
}

/* n cases of which the network says z where the truth follows σ(a·z + b). */
static void draw(size_t n, double a, double b, double *z, uint8_t *truth, uint32_t *group)
{
    for (size_t i = 0; i < n; i++) {
        z[i] = 6 * uniform() - 4;
        truth[i] = uniform() < 1 / (1 + exp(-a * z[i] - b));
        group[i] = (uint32_t)(i / 2);
    }
}

static void the_choice_follows_the_data(void **state)
{
    enum { N = 1200 };
    static double z[N];
    static uint8_t truth[N];
    static uint32_t group[N];
    struct mf_calibration c;
    (void)state;
    draw(N, 0.5, -0.7, z, truth, group); /* twice too sure and biased */
    assert_true(mf_calibration_choose(z, truth, group, N, 5, &c, NULL));
    assert_true(c.method == MF_CALIBRATION_PLATT || c.method == MF_CALIBRATION_BETA);
    assert_true(c.nll[MF_CALIBRATION_PLATT] < c.nll[MF_CALIBRATION_IDENTITY]);
    assert_true(isnan(c.nll[MF_CALIBRATION_ISOTONIC])); /* fewer than 1000 positives */
    assert_true(fabs(mf_calibration_apply(&c, 0) - 1 / (1 + exp(0.7))) < 0.05);
    mf_calibration_clear(&c);
}

static void rare_labels_keep_the_identity(void **state)
{
    enum { N = 200 };
    double z[N];
    uint8_t truth[N] = {0};
    uint32_t group[N];
    struct mf_calibration c;
    (void)state;
    draw(N, 1, -1, z, truth, group);
    memset(truth, 0, sizeof truth);
    for (int i = 0; i < 9; i++)
        truth[i] = 1;
    assert_true(mf_calibration_choose(z, truth, group, N, 5, &c, NULL));
    assert_int_equal(c.method, MF_CALIBRATION_IDENTITY);
    assert_true(isnan(c.nll[MF_CALIBRATION_TEMPERATURE]) && isnan(c.nll[MF_CALIBRATION_PLATT]));
    assert_int_equal(c.n_pos, 9);
    mf_calibration_clear(&c);
}

static void a_reversed_score_is_not_turned_around(void **state)
{
    enum { N = 400 };
    double z[N];
    uint8_t truth[N];
    uint32_t group[N];
    struct mf_calibration c;
    (void)state;
    draw(N, -1, 0, z, truth, group);
    assert_true(mf_calibration_choose(z, truth, group, N, 5, &c, NULL));
    assert_true(isnan(c.nll[MF_CALIBRATION_TEMPERATURE]) && isnan(c.nll[MF_CALIBRATION_PLATT]));
    assert_true(mf_calibration_apply(&c, 2) >= mf_calibration_apply(&c, -2));
    mf_calibration_clear(&c);
}

static void a_pure_temperature_is_found(void **state)
{
    enum { N = 4000 };
    static double z[N];
    static uint8_t truth[N];
    static uint32_t group[N];
    struct mf_calibration c;
    (void)state;
    draw(N, 0.4, 0, z, truth, group);
    assert_true(mf_calibration_choose(z, truth, group, N, 5, &c, NULL));
    assert_true(c.nll[MF_CALIBRATION_TEMPERATURE] < c.nll[MF_CALIBRATION_IDENTITY]);
    assert_true(fabs(mf_calibration_apply(&c, 3) - 1 / (1 + exp(-1.2))) < 0.05);
    mf_calibration_clear(&c);
}

static void one_patient_and_one_value_are_no_accident(void **state)
{
    enum { N = 60 };
    double z[N];
    uint8_t truth[N];
    uint32_t group[N] = {0};
    struct mf_calibration c;
    (void)state;
    for (int i = 0; i < N; i++) {
        z[i] = 0.25; /* all tied: no slope can be told */
        truth[i] = i % 2;
    }
    assert_true(mf_calibration_choose(z, truth, group, N, 5, &c, NULL)); /* one fold has it all */
    double p = mf_calibration_apply(&c, 0.25);
    assert_true(p > 0.3 && p < 0.7);
    mf_calibration_clear(&c);
    for (int i = 0; i < N; i++)
        group[i] = (uint32_t)i;
    assert_true(mf_calibration_choose(z, truth, group, N, 5, &c, NULL));
    p = mf_calibration_apply(&c, 0.25);
    assert_true(p > 0.3 && p < 0.7);
    mf_calibration_clear(&c);
}

static void the_prevalence_moves_the_odds(void **state)
{
    (void)state;
    /* Odds 1 at a prevalence of one half are odds 1/9 at one tenth. */
    assert_close(mf_calibration_with_prevalence(0.5, 0.5, 0.1), 0.1, 1e-12);
    assert_close(mf_calibration_with_prevalence(0.2, 0.1, 0.3),
                 0.25 * (0.3 / 0.7) * 9 / (1 + 0.25 * (0.3 / 0.7) * 9), 1e-12);
    assert_true(mf_calibration_with_prevalence(0.3, 0.2, 0.2) == 0.3);
    assert_true(mf_calibration_with_prevalence(0.3, 0.2, 0) == 0.3); /* nothing to go by */
    assert_true(mf_calibration_with_prevalence(1, 0.2, 0.4) == 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(temperature_equals_the_reference),
        cmocka_unit_test(platt_equals_the_reference),
        cmocka_unit_test(beta_equals_the_reference),
        cmocka_unit_test(beta_drops_a_negative_coefficient),
        cmocka_unit_test(isotonic_equals_the_reference),
        cmocka_unit_test(newton_survives_separable_and_extreme_data),
        cmocka_unit_test(one_class_alone_is_refused),
        cmocka_unit_test(the_choice_follows_the_data),
        cmocka_unit_test(rare_labels_keep_the_identity),
        cmocka_unit_test(a_reversed_score_is_not_turned_around),
        cmocka_unit_test(a_pure_temperature_is_found),
        cmocka_unit_test(one_patient_and_one_value_are_no_accident),
        cmocka_unit_test(the_prevalence_moves_the_odds),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
