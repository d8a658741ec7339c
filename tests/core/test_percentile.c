/* core/percentile.c: NumPy's definition, over histograms and over floats. */
#include "core/percentile.h"

#include "tests/expect.h"

#include <math.h>

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The definition itself, by sorting. */
static double slow_percentile(const double *values, size_t n, double p)
{
    double sorted[1000];
    memcpy(sorted, values, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, by_value);
    double rank = p * (double)(n - 1);
    size_t k = (size_t)rank, next = k + 1 < n ? k + 1 : k;
    return sorted[k] + (sorted[next] - sorted[k]) * (rank - (double)k);
}

static void floats_agree_with_sorting(void **state)
{
    (void)state;
    enum { N = 777 };
    const double p[2] = {0.005, 0.995};
    float values[N + 3];
    double doubles[N];
    uint32_t seed = 1;
    for (int i = 0; i < N; i++) {
        seed = seed * 1664525u + 1013904223u;
        values[i] = ((float)(seed >> 8) / 65536.0f - 100.0f) * (i % 7 ? 1.0f : -1e-3f);
        doubles[i] = values[i];
    }
    values[N] = NAN;
    values[N + 1] = INFINITY;
    values[N + 2] = -INFINITY;
    double got[2];
    assert_true(mf_percentiles_f32(values, N + 3, p, got, NULL));
    for (int k = 0; k < 2; k++)
        assert_true(fabs(got[k] - slow_percentile(doubles, N, p[k])) < 1e-9);
}

static void histograms_agree_with_sorting(void **state)
{
    (void)state;
    enum { N = 500 };
    const double p[2] = {0.005, 0.995};
    uint16_t samples[N];
    double doubles[N], got[2];
    uint32_t *counts = calloc(65536, sizeof *counts);
    struct mf_weighted bins[1000];
    for (int i = 0; i < N; i++)
        doubles[i] = samples[i] = (uint16_t)(i * i * 31 % 997);
    mf_histogram_u16(samples, N, counts);
    for (int order = 0; order < 3; order++) { /* ascending, descending, shuffled */
        for (uint32_t v = 0; v < 1000; v++) {
            uint32_t at = order == 0 ? v : order == 1 ? 999 - v : v * 7 % 1000;
            bins[at] = (struct mf_weighted){.value = v, .count = counts[v]};
        }
        mf_percentiles_weighted(bins, 1000, p, got);
        for (int k = 0; k < 2; k++)
            assert_true(fabs(got[k] - slow_percentile(doubles, N, p[k])) < 1e-9);
    }
    free(counts);
}

static void byte_histogram_counts_everything(void **state)
{
    (void)state;
    uint8_t samples[1021];
    uint32_t counts[256] = {0}, want[256] = {0};
    for (int i = 0; i < 1021; i++) {
        samples[i] = (uint8_t)(i * 13);
        want[samples[i]]++;
    }
    mf_histogram_u8(samples, sizeof samples, counts);
    assert_memory_equal(counts, want, sizeof want);
}

static void nothing_gives_zero(void **state)
{
    (void)state;
    const double p[2] = {0.1, 0.9};
    double got[2] = {7, 7};
    struct mf_weighted bin = {.value = 5, .count = 0};
    mf_percentiles_weighted(&bin, 1, p, got);
    assert_true(got[0] == 0 && got[1] == 0);
    const float nan[1] = {NAN};
    got[0] = got[1] = 7;
    assert_true(mf_percentiles_f32(nan, 1, p, got, NULL));
    assert_true(got[0] == 0 && got[1] == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(floats_agree_with_sorting),
        cmocka_unit_test(histograms_agree_with_sorting),
        cmocka_unit_test(byte_histogram_counts_everything),
        cmocka_unit_test(nothing_gives_zero),
    };
    return cmocka_run_group_tests_name("core/percentile", tests, NULL, NULL);
}
