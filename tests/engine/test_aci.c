/* Adaptive conformal inference: immutable states, recovery after a planted shift, bad states. */
#include "engine/trust/aci.h"
#include "engine/trust/conformal.h"
#include "tests/json_patch.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *const LABELS[] = {"Edema", "Mass"};
static const char HASH[] = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

static uint64_t seed = 9;

static double uniform(void)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (double)(seed >> 11) / (double)(UINT64_C(1) << 53);
}

static double gaussian(void)
{
    return sqrt(-2 * log(1 - uniform())) * cos(6.283185307179586 * uniform());
}

static struct mf_aci *fresh(double gamma)
{
    struct mf_error err = MF_ERROR_INIT;
    struct mf_aci *a = mf_aci_new("north", HASH, LABELS, 2, 0.1, gamma, &err);
    if (!a)
        fail_msg("%s", err.msg);
    return a;
}

static void a_miss_lowers_the_level_of_its_class_only(void **state)
{
    const struct mf_aci_feedback feedback[2] = {{1, false, true}, {0, true, true}};
    struct mf_aci *a = fresh(0.05), *b = mf_aci_learn(a, feedback, NULL);
    (void)state;
    assert_non_null(b);
    const double *l = mf_aci_levels(b);
    assert_true(fabs(l[0] - (0.1 + 0.05 * (0.1 - 1))) < 1e-15); /* Edema, present: missed */
    assert_true(l[1] == 0.1);                                   /* Edema, absent: nothing learnt */
    assert_true(l[2] == 0.1);
    assert_true(fabs(l[3] - (0.1 + 0.05 * 0.1)) < 1e-15); /* Mass, absent: covered */
    assert_true(mf_aci_levels(a)[0] == 0.1 &&
                mf_aci_version(a) == 0); /* the old one is as it was */
    assert_int_equal(mf_aci_version(b), 1);
    assert_string_not_equal(mf_aci_id(a), mf_aci_id(b));
    struct mf_aci *c = mf_aci_learn(a, feedback, NULL);
    assert_string_equal(mf_aci_id(b), mf_aci_id(c)); /* equal histories, equal ids */
    mf_aci_free(a);
    mf_aci_free(b);
    mf_aci_free(c);
}

static void a_corrected_truth_counts_as_if_it_had_been_right_at_once(void **state)
{
    struct mf_aci_feedback feedback[2] = {{1, false, true}, {0, true, true}};
    const int8_t first[2] = {1, 0};
    struct mf_aci *a = fresh(0.05), *b = mf_aci_learn(a, feedback, NULL);
    (void)state;
    feedback[0].truth = 0; /* Edema was absent after all, and Mass is not known */
    feedback[1].truth = -1;
    struct mf_aci *c = mf_aci_correct(b, first, feedback, NULL),
                  *d = mf_aci_learn(a, feedback, NULL);
    const double *l = mf_aci_levels(c), *m = mf_aci_levels(d);
    for (int i = 0; i < 4; i++)
        assert_true(fabs(l[i] - m[i]) < 1e-15);
    assert_true(fabs(l[1] - (0.1 + 0.05 * 0.1)) < 1e-15);
    assert_int_equal(mf_aci_version(c), 2);
    json_t *json = mf_aci_to_json(c);
    const json_t *edema = json_array_get(json_object_get(json, "labels"), 0);
    json_t *present = json_object_get(edema, "present"), *absent = json_object_get(edema, "absent");
    assert_int_equal(json_integer_value(json_object_get(present, "feedbacks")), 0);
    assert_int_equal(json_integer_value(json_object_get(present, "misses")), 0);
    assert_int_equal(json_integer_value(json_object_get(absent, "feedbacks")), 1);
    json_decref(json);
    mf_aci_free(a);
    mf_aci_free(b);
    mf_aci_free(c);
    mf_aci_free(d);
}

/* Hundreds of misses that were issued at the first level: the state must stay one that can be read.
 */
static void much_late_feedback_leaves_a_level_within_a_step_of_its_range(void **state)
{
    const struct mf_aci_feedback feedback[2] = {{1, false, true}, {0, true, true}};
    struct mf_aci *a = fresh(0.05);
    (void)state;
    for (int i = 0; i < 300; i++) {
        struct mf_aci *next = mf_aci_learn(a, feedback, NULL);
        mf_aci_free(a);
        a = next;
    }
    assert_true(mf_aci_levels(a)[0] == -0.05);
    assert_true(mf_aci_levels(a)[3] > 1 && mf_aci_levels(a)[3] <= 1.05);
    json_t *json = mf_aci_to_json(a);
    struct mf_aci *b = mf_aci_from_json(json, NULL);
    assert_non_null(b);
    json_decref(json);
    mf_aci_free(a);
    mf_aci_free(b);
}

static void a_state_survives_its_json(void **state)
{
    const struct mf_aci_feedback feedback[2] = {{1, false, true}, {-1, true, true}};
    struct mf_aci *a = fresh(0.005), *b = mf_aci_learn(a, feedback, NULL);
    struct mf_error err = MF_ERROR_INIT;
    (void)state;
    json_t *json = mf_aci_to_json(b);
    struct mf_aci *c = mf_aci_from_json(json, &err);
    if (!c)
        fail_msg("%s", err.msg);
    assert_string_equal(mf_aci_id(b), mf_aci_id(c));
    assert_memory_equal(mf_aci_levels(b), mf_aci_levels(c), 4 * sizeof(double));
    assert_string_equal(json_string_value(json_object_get(json, "parent")), mf_aci_id(a));
    mf_aci_free(c);
    json_object_set_new(json, "target", json_real(0.2)); /* changed by hand */
    assert_null(mf_aci_from_json(json, &err));
    assert_string_equal(err.msg, "not a valid medfusion.aci/1");
    mf_error_clear(&err);
    json_object_set_new(json, "labels", json_array());
    assert_null(mf_aci_from_json(json, &err));
    assert_string_equal(err.msg, "not a valid medfusion.aci/1");
    mf_error_clear(&err);
    assert_null(mf_aci_new("x", HASH, LABELS, 2, 0.7, 0.005, &err));
    assert_string_equal(err.msg, "adaptive conformal inference needs 0 < target ≤ 0.5, 0 < gamma "
                                 "≤ 0.5 and 1 to 4096 labels");
    json_decref(json);
    mf_aci_free(a);
    mf_aci_free(b);
}

/* What is read is what was written, or nothing: levels of a state are a promise. */
static void expect_sealed(const json_t *json, void *context)
{
    struct mf_error err = MF_ERROR_INIT;
    struct mf_aci *read = mf_aci_from_json(json, &err);
    if (read)
        assert_string_equal(mf_aci_id(read), mf_aci_id(context));
    else
        assert_string_equal(err.msg, "not a valid medfusion.aci/1");
    mf_aci_free(read);
}

static void no_changed_state_is_read(void **state)
{
    const struct mf_aci_feedback feedback[2] = {{1, false, true}, {-1, true, true}};
    struct mf_aci *a = fresh(0.005), *b = mf_aci_learn(a, feedback, NULL);
    (void)state;
    json_t *first = mf_aci_to_json(a), *second = mf_aci_to_json(b), *many = json_array();
    json_change_each(first, first, expect_sealed, a);
    json_change_each(second, second, expect_sealed, b);
    for (int i = 0; i < 4097; i++)
        json_array_append(many, json_array_get(json_object_get(second, "labels"), 0));
    json_object_set_new(second, "labels", many);
    expect_sealed(second, b);
    json_decref(first);
    json_decref(second);
    mf_aci_free(a);
    mf_aci_free(b);
}

static void states_need_sound_parameters(void **state)
{
    static const struct {
        double target, gamma;
        size_t labels;
    } cases[] = {{0, 0.1, 2},   {0.6, 0.1, 2}, {0.1, 0, 2},
                 {0.1, 0.6, 2}, {0.1, 0.1, 0}, {0.1, 0.1, 4097}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct mf_error err = MF_ERROR_INIT;
        assert_null(
            mf_aci_new("x", HASH, LABELS, cases[i].labels, cases[i].target, cases[i].gamma, &err));
        assert_string_equal(err.msg, "adaptive conformal inference needs 0 < target ≤ 0.5, 0 < "
                                     "gamma ≤ 0.5 and 1 to 4096 labels");
    }
}

static int ascending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

/* Coverage of the class "present" among `count` studies whose scores are `shift` lower than those
 * of the calibration; every one gives feedback. */
static double stream(struct mf_aci **aci, const float *calibration, size_t n, double shift,
                     int count, double prevalence)
{
    int present = 0, covered = 0;
    while (present < count) {
        struct mf_aci_feedback feedback[2] = {{-1, true, true}, {-1, true, true}};
        feedback[0].truth = uniform() < prevalence;
        float z = (float)(gaussian() + (feedback[0].truth ? 1 : -1) - shift);
        double level = mf_aci_levels(*aci)[0];
        feedback[0].present_in_set = mf_conformal_judge(calibration, n, true, z, level).included;
        feedback[0].absent_in_set = true;
        present += feedback[0].truth;
        covered += feedback[0].truth && feedback[0].present_in_set;
        struct mf_aci *next = mf_aci_learn(*aci, feedback, NULL);
        mf_aci_free(*aci);
        *aci = next;
    }
    return (double)covered / present;
}

/* Prevalence doubled and scores one standard deviation lower: coverage falls to about 0.6, and is
 * back within 0.02 of 0.9 after 300 feedbacks on positive cases (γ = 0.02). */
static void coverage_comes_back_after_a_planted_shift(void **state)
{
    enum { N = 500 };
    float calibration[N];
    struct mf_aci *a = fresh(0.02), *none = fresh(1e-9);
    (void)state;
    for (int i = 0; i < N; i++)
        calibration[i] = (float)(gaussian() + 1);
    qsort(calibration, N, sizeof *calibration, ascending);
    double before = stream(&a, calibration, N, 0, 1000, 0.2);
    double without = stream(&none, calibration, N, 1, 1000, 0.4);
    stream(&a, calibration, N, 1, 300, 0.4);
    double after = stream(&a, calibration, N, 1, 2000, 0.4);
    printf("coverage %.3f, after the shift without feedback %.3f, after 300 feedbacks %.3f\n",
           before, without, after);
    assert_true(before > 0.88 && before < 0.92);
    assert_true(without < 0.70);
    assert_true(after > 0.88 && after < 0.92);
    mf_aci_free(a);
    mf_aci_free(none);
}

/* A level at or below 0 gives the full set, one at or above 1 the empty one. */
static void levels_outside_the_open_interval_are_clear(void **state)
{
    const float logits[20] = {1,  2,  3,  4,  5,  6,  7,  8,  9,  10,
                              11, 12, 13, 14, 15, 16, 17, 18, 19, 20};
    (void)state;
    struct mf_conformal_class c = mf_conformal_judge(logits, 20, true, -1e30f, -0.01);
    assert_true(c.included && isinf(c.q) && c.q > 0);
    c = mf_conformal_judge(logits, 20, true, -1e30f, 0);
    assert_true(c.included);
    c = mf_conformal_judge(logits, 20, true, 1e30f, 1.05);
    assert_true(!c.included && isinf(c.q) && c.q < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_miss_lowers_the_level_of_its_class_only),
        cmocka_unit_test(a_corrected_truth_counts_as_if_it_had_been_right_at_once),
        cmocka_unit_test(much_late_feedback_leaves_a_level_within_a_step_of_its_range),
        cmocka_unit_test(a_state_survives_its_json),
        cmocka_unit_test(no_changed_state_is_read),
        cmocka_unit_test(states_need_sound_parameters),
        cmocka_unit_test(coverage_comes_back_after_a_planted_shift),
        cmocka_unit_test(levels_outside_the_open_interval_are_clear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
