/* Percentiles by histogram and by radix selection: linear in the number of samples. */
#include "core/percentile.h"

#include "core/auto.h"

#include <math.h>
#include <string.h>

void mf_histogram_u8(const uint8_t *samples, size_t n, uint32_t *counts)
{
    uint32_t lanes[4][256]; /* runs of equal pixels would wait for their own store otherwise */
    memset(lanes, 0, sizeof lanes);
    size_t i = 0;
    for (; i + 4 <= n; i += 4)
        for (int k = 0; k < 4; k++)
            lanes[k][samples[i + (size_t)k]]++;
    for (; i < n; i++)
        lanes[0][samples[i]]++;
    for (int v = 0; v < 256; v++)
        counts[v] += lanes[0][v] + lanes[1][v] + lanes[2][v] + lanes[3][v];
}

void mf_histogram_u16(const uint16_t *samples, size_t n, uint32_t *counts)
{
    size_t i = 0;
    while (i < n) { /* a run of equal pixels is added at once */
        uint16_t v = samples[i];
        size_t start = i;
        while (++i < n && samples[i] == v)
            ;
        counts[v] += (uint32_t)(i - start);
    }
}

static int by_value(const void *a, const void *b)
{
    double x = ((const struct mf_weighted *)a)->value, y = ((const struct mf_weighted *)b)->value;
    return (x > y) - (x < y);
}

static void reverse(struct mf_weighted *bins, size_t n)
{
    for (size_t i = 0; i < n / 2; i++) {
        struct mf_weighted t = bins[i];
        bins[i] = bins[n - 1 - i];
        bins[n - 1 - i] = t;
    }
}

static void sort_bins(struct mf_weighted *bins, size_t n)
{
    bool ascending = true, descending = true;
    for (size_t i = 1; i < n; i++) {
        ascending = ascending && bins[i - 1].value <= bins[i].value;
        descending = descending && bins[i - 1].value >= bins[i].value;
    }
    if (!ascending && descending)
        reverse(bins, n);
    else if (!ascending)
        qsort(bins, n, sizeof *bins, by_value);
}

static double interpolate(double below, double above, double fraction)
{
    return below + (above - below) * fraction;
}

/* The value at 0-based rank k of sorted bins. */
static double at_rank(const struct mf_weighted *bins, size_t n, uint64_t k)
{
    uint64_t seen = 0;
    for (size_t i = 0; i < n; i++) {
        seen += bins[i].count;
        if (seen > k)
            return bins[i].value;
    }
    return 0;
}

void mf_percentiles_weighted(struct mf_weighted *bins, size_t n, const double p[2], double ret[2])
{
    uint64_t total = 0;
    for (size_t i = 0; i < n; i++)
        total += bins[i].count;
    sort_bins(bins, n);
    for (int k = 0; k < 2; k++) {
        double rank = total ? p[k] * (double)(total - 1) : 0;
        uint64_t below = (uint64_t)rank;
        uint64_t above = below + 1 < total ? below + 1 : below;
        ret[k] = total ? interpolate(at_rank(bins, n, below), at_rank(bins, n, above),
                                     rank - (double)below)
                       : 0;
    }
}

/* Keys order as the floats do: the sign bit flipped, negative numbers inverted. */
static uint32_t key_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

static double value_of(uint32_t key)
{
    uint32_t bits = key & 0x80000000u ? key & 0x7fffffffu : ~key;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Finds the bin that holds rank *k and makes *k the rank inside it. */
static uint32_t find_bin(const uint32_t *counts, uint64_t *k)
{
    uint32_t bin = 0;
    while (bin < 65535 && *k >= counts[bin])
        *k -= counts[bin++];
    return bin;
}

/* Order statistic k: by the upper 16 bits of the keys, then by the lower 16 of those that share
 * them. */
static double select_rank(const float *values, size_t n, const uint32_t *upper, uint64_t k,
                          uint32_t *lower)
{
    uint32_t high = find_bin(upper, &k);
    memset(lower, 0, 65536 * sizeof *lower);
    for (size_t i = 0; i < n; i++) {
        uint32_t key = key_of(values[i]);
        if (key >> 16 == high && isfinite(values[i]))
            lower[key & 0xffff]++;
    }
    return value_of(high << 16 | find_bin(lower, &k));
}

bool mf_percentiles_f32(const float *values, size_t n, const double p[2], double ret[2],
                        struct mf_error *err)
{
    MF_AUTO(mf_mem) uint32_t *upper = calloc(65536, sizeof *upper);
    MF_AUTO(mf_mem) uint32_t *lower = calloc(65536, sizeof *lower);
    if (!upper || !lower)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a histogram");
    uint64_t total = 0;
    for (size_t i = 0; i < n; i++)
        if (isfinite(values[i])) {
            upper[key_of(values[i]) >> 16]++;
            total++;
        }
    for (int k = 0; k < 2; k++) {
        double rank = total ? p[k] * (double)(total - 1) : 0;
        uint64_t below = (uint64_t)rank;
        uint64_t above = below + 1 < total ? below + 1 : below;
        ret[k] = 0;
        if (total)
            ret[k] = interpolate(select_rank(values, n, upper, below, lower),
                                 select_rank(values, n, upper, above, lower), rank - (double)below);
    }
    return true;
}
