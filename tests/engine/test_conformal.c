/* Conformal sets and risk control: ranks, ties, coverage by simulation, and the guarantee's limits.
 */
#include "engine/trust/conformal.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static uint64_t seed = 7;

static float uniform(void)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (float)(seed >> 40) / (float)(1 << 24);
}

static int ascending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

static void the_rank_is_a_whole_number(void **state)
{
    (void)state;
    assert_int_equal(mf_conformal_rank(9, 0.1), 9); /* 10 − ⌊1⌋ */
    assert_int_equal(mf_conformal_rank(8, 0.1), 9); /* 9 − ⌊0.9⌋ > n: too few */
    assert_int_equal(mf_conformal_rank(19, 0.05), 19);
    assert_int_equal(mf_conformal_rank(99, 0.01), 99);
    assert_int_equal(mf_conformal_rank(98, 0.01), 99);
    assert_int_equal(mf_conformal_rank(29, 0.1), 27); /* 0.1 · 30 is 3, though not in binary */
    assert_int_equal(mf_conformal_rank(0, 0.1), 1);
}

static void a_set_is_decided_by_rank(void **state)
{
    const float logits[9] = {-4, -3, -2, -1, 0, 1, 2, 3, 4};
    (void)state;
    struct mf_conformal_class c = mf_conformal_judge(logits, 9, true, -4, 0.1);
    assert_true(c.enough && c.included); /* the 9th smallest score is 4 = −(−4) */
    assert_true(c.q == 4 && fabs(c.p - 2.0 / 10) < 1e-12);
    c = mf_conformal_judge(logits, 9, true, -4.001f, 0.1);
    assert_false(c.included);
    assert_true(fabs(c.p - 1.0 / 10) < 1e-12);
    c = mf_conformal_judge(logits, 9, false, 4, 0.1);
    assert_true(c.included && c.q == 4 && fabs(c.p - 2.0 / 10) < 1e-12);
    c = mf_conformal_judge(logits, 9, false, 4.001f, 0.1);
    assert_false(c.included);
}

static void membership_is_p_above_alpha(void **state)
{
    float logits[40];
    (void)state;
    for (size_t n = 0; n <= 40; n++) {
        for (size_t i = 0; i < n; i++)
            logits[i] = floorf(10 * uniform()); /* with ties */
        qsort(logits, n, sizeof *logits, ascending);
        for (int k = 1; k < 20; k++)
            for (float z = -1; z <= 11; z += 0.5f)
                for (int present = 0; present < 2; present++) {
                    double alpha = k / 20.0;
                    struct mf_conformal_class c = mf_conformal_judge(logits, n, present, z, alpha);
                    size_t as_large = 0;
                    for (size_t i = 0; i < n; i++)
                        as_large += present ? logits[i] <= z : logits[i] >= z;
                    assert_true(fabs(c.p - (1.0 + (double)as_large) / ((double)n + 1)) < 1e-12);
                    assert_int_equal(c.included, c.p > alpha + 1e-9);
                    if (c.enough)
                        assert_int_equal(c.included, (present ? -z : z) <= c.q);
                }
    }
}

static void too_few_cases_always_include_the_class(void **state)
{
    const float logits[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    (void)state;
    struct mf_conformal_class c = mf_conformal_judge(logits, 8, true, -1e30f, 0.1);
    assert_true(c.included && !c.enough && isinf(c.q));
    c = mf_conformal_judge(NULL, 0, false, 5, 0.1);
    assert_true(c.included && !c.enough && c.p == 1);
}

/* Exchangeable cases: coverage of the true class over many draws is at least 1 − alpha and not far
 * above. */
static void coverage_is_what_alpha_says(void **state)
{
    enum { N = 49, DRAWS = 20000 };
    float logits[N];
    size_t hits = 0;
    (void)state;
    for (int d = 0; d < DRAWS; d++) {
        for (int i = 0; i < N; i++)
            logits[i] = uniform();
        qsort(logits, N, sizeof *logits, ascending);
        hits += mf_conformal_judge(logits, N, true, uniform(), 0.1).included;
    }
    double coverage = (double)hits / DRAWS;
    assert_true(coverage > 0.893 &&
                coverage < 0.907); /* exactly 45/50 in expectation; ±3.3 standard errors */
}

static void risk_control_takes_the_largest_threshold(void **state)
{
    /* Nine cases with one present label each, logits 1 … 9; alpha = 0.2: (ΣL + 1)/10 ≤ 0.2, so one
     * miss is allowed. */
    const float logits[9] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    const uint32_t weights[9] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
    (void)state;
    assert_true(mf_conformal_risk_threshold(logits, weights, 9, 9, 0.2) == 2);
    assert_true(mf_conformal_risk_threshold(logits, weights, 9, 9, 0.1) == 1); /* none */
    assert_true(mf_conformal_risk_threshold(logits, weights, 9, 9, 0.09) == -INFINITY);
    const uint32_t halves[9] = {2, 2, 2, 2, 2, 2, 2, 2, 2};
    assert_true(mf_conformal_risk_threshold(logits, halves, 9, 9, 0.2) == 3); /* two halves */
    const float tied[4] = {1, 1, 1, 2};
    assert_true(mf_conformal_risk_threshold(tied, weights, 4, 9, 0.2) == 1); /* ties go together */
}

/* The expected share of missed labels of a new case stays below alpha. */
static void the_risk_is_what_alpha_says(void **state)
{
    enum { N = 50, DRAWS = 4000 };
    double missed = 0;
    (void)state;
    for (int d = 0; d < DRAWS; d++) {
        float logits[2 * N];
        uint32_t weights[2 * N];
        for (int i = 0; i < 2 * N; i++) {
            logits[i] = uniform();
            weights[i] = 2;
        }
        qsort(logits, 2 * N, sizeof *logits, ascending);
        float t = mf_conformal_risk_threshold(logits, weights, 2 * N, N, 0.1);
        missed += 0.5 * (uniform() < t) + 0.5 * (uniform() < t);
    }
    assert_true(missed / DRAWS < 0.1 + 0.008);
    assert_true(missed / DRAWS > 0.07);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_rank_is_a_whole_number),
        cmocka_unit_test(a_set_is_decided_by_rank),
        cmocka_unit_test(membership_is_p_above_alpha),
        cmocka_unit_test(too_few_cases_always_include_the_class),
        cmocka_unit_test(coverage_is_what_alpha_says),
        cmocka_unit_test(risk_control_takes_the_largest_threshold),
        cmocka_unit_test(the_risk_is_what_alpha_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
