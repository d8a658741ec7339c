/*
 * Percentiles as NumPy's default defines them: linear interpolation between the order statistics
 * around rank p·(n−1). Two forms: over a histogram, and over floats without sorting them.
 */
#ifndef MF_CORE_PERCENTILE_H
#define MF_CORE_PERCENTILE_H

#include "core/error.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mf_weighted {
    double value;
    uint32_t count;
};

/* Adds the occurrences of each value of samples[0…n) to counts[256] or counts[65536]; n < 2^32. */
void mf_histogram_u8(const uint8_t *samples, size_t n, uint32_t *counts);
void mf_histogram_u16(const uint16_t *samples, size_t n, uint32_t *counts);

/* ret[k] = percentile p[k] (a share in [0,1]) of the values, each taken `count` times; bins are
 * sorted by value in place when they are not yet. Without any count both results are 0. */
void mf_percentiles_weighted(struct mf_weighted *bins, size_t n, const double p[2], double ret[2]);

/* The same over floats, those that are not finite left out. `values` is not changed; 512 KiB of
 * scratch. */
bool mf_percentiles_f32(const float *values, size_t n, const double p[2], double ret[2],
                        struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
