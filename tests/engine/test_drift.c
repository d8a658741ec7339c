/* PSI, Kolmogorov–Smirnov and intervals of shares: figures of SciPy 1.x, and what is degenerate. */
#include "engine/trust/drift.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define NEAR(a, b) assert_true(fabs((a) - (b)) < 1e-9)

static void intervals_are_those_of_scipy(void **state)
{
    static const struct {
        size_t k, n;
        double error, exact_low, exact_high, low, high;
    } CASES[] = {
        {0, 10, 0.05, 0, 0.30849710781876294, 0, 0.27753279986288926},
        {3, 10, 0.05, 0.06673951117773447, 0.652452850060008, 0.10779126740630102,
         0.6032218525388546},
        {10, 10, 0.05, 0.6915028921812371, 1, 0.7224672001371109, 1},
        {87, 100, 0.05, 0.7879593229125502, 0.9289269538145403, 0.7901964855992357,
         0.9224283257275948},
        {873, 1000, 0.01, 0.843584773532988, 0.8987863274510839, 0.8433971905924644,
         0.897685800389594},
        {1, 100000, 0.05, 2.5317842743932826e-07, 5.571516034432556e-05, 1.765247730378316e-06,
         5.664709659040965e-05},
    };
    (void)state;
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        struct mf_interval exact = mf_clopper_pearson(CASES[i].k, CASES[i].n, CASES[i].error);
        struct mf_interval wilson = mf_wilson(CASES[i].k, CASES[i].n, CASES[i].error);
        NEAR(exact.low, CASES[i].exact_low);
        NEAR(exact.high, CASES[i].exact_high);
        NEAR(wilson.low, CASES[i].low);
        NEAR(wilson.high, CASES[i].high);
    }
    struct mf_interval none = mf_clopper_pearson(0, 0, 0.05);
    assert_true(none.low == 0 && none.high == 1);
    none = mf_wilson(0, 0, 0.05);
    assert_true(none.low == 0 && none.high == 1);
}

static void drift_is_that_of_scipy(void **state)
{
    float a[100], b[80], u[50];
    (void)state;
    for (int i = 0; i < 100; i++)
        a[i] = (float)(i / 100.);
    for (int i = 0; i < 80; i++)
        b[i] = (float)pow(i / 100. + .1, 1.2);
    for (int i = 0; i < 50; i++)
        u[i] = (float)pow((i + .5) / 50, 2);
    struct mf_drift d = mf_drift_of(a, 100, 100, b, 80);
    NEAR(d.ks, 0.13);
    NEAR(d.p, 0.4146097693913035);
    NEAR(d.psi, 0.2980956287432299);
    NEAR(d.psi_noise, 0.2025);
    d = mf_drift_from_uniform(u, 50);
    assert_true(fabs(d.ks - 0.2599000036716461) < 1e-7);
    assert_true(fabs(d.p - 0.001794330779442692) < 1e-7);
}

static void nothing_moved_is_no_drift(void **state)
{
    float a[200];
    const size_t counts[3] = {50, 30, 0};
    (void)state;
    for (int i = 0; i < 200; i++)
        a[i] = (float)(i / 2); /* ties */
    struct mf_drift d = mf_drift_of(a, 200, 200, a, 200);
    assert_true(d.psi == 0 && d.ks == 0 && d.p == 1);
    d = mf_drift_of_counts(counts, counts, 3);
    NEAR(d.psi, 0);
    assert_true(isnan(d.ks));
}

static void everything_moved_is_drift_in_every_direction(void **state)
{
    float a[300], up[300], down[300];
    const size_t before[2] = {290, 10}, after[2] = {10, 290};
    (void)state;
    for (int i = 0; i < 300; i++) {
        a[i] = (float)i;
        up[i] = (float)(i + 1000);
        down[i] = (float)(i - 1000);
    }
    struct mf_drift d = mf_drift_of(a, 300, 300, up, 300), e = mf_drift_of(a, 300, 300, down, 300);
    assert_true(d.psi > 4 && e.psi > 4 && d.ks == 1 && e.ks == 1 && d.p < 1e-30 && e.p < 1e-30);
    assert_true(mf_drift_of_counts(before, after, 2).psi > 4);
}

static void degenerate_sides_are_not_a_number(void **state)
{
    const float one[3] = {2, 2, 2}, other[2] = {1, 3};
    const size_t counts[2] = {0, 0};
    (void)state;
    struct mf_drift d = mf_drift_of(one, 0, 0, other, 2);
    assert_true(isnan(d.psi) && isnan(d.ks) && isnan(d.p));
    d = mf_drift_of(one, 3, 3, other, 2); /* a reference of one value has no bins */
    assert_true(isnan(d.psi) && d.ks == 0.5);
    d = mf_drift_from_uniform(one, 0);
    assert_true(isnan(d.ks));
    d = mf_drift_of_counts(counts, counts, 2);
    assert_true(isnan(d.psi));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(intervals_are_those_of_scipy),
        cmocka_unit_test(drift_is_that_of_scipy),
        cmocka_unit_test(nothing_moved_is_no_drift),
        cmocka_unit_test(everything_moved_is_drift_in_every_direction),
        cmocka_unit_test(degenerate_sides_are_not_a_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
