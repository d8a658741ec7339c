/* Comparing with the reference: max|a − b| / max|reference| per tensor, reported as a table
 * (tests/golden/README.md). MF_TEST_DEVICE and MF_TEST_DTYPE choose what computes, cpu and f32
 * unless they are set; in bf16 what is compared is 1 − cosine. */
#ifndef MF_TESTS_ENGINE_PARITY_H
#define MF_TESTS_ENGINE_PARITY_H

#include "engine/safetensors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static inline const char *parity_device(void)
{
    const char *device = getenv("MF_TEST_DEVICE");
    return device ? device : "cpu";
}

static inline const char *parity_dtype(void)
{
    const char *dtype = getenv("MF_TEST_DTYPE");
    return dtype ? dtype : "f32";
}

static inline bool parity_by_angle(void)
{
    return strcmp(parity_dtype(), "bf16") == 0;
}

static inline double parity_limit(void)
{
    return parity_by_angle() ? 1e-3 : 1e-4;
}

struct parity {
    size_t compared, failed;
    double worst;
};

/* 1 − cosine of two vectors; infinite when one is not finite or has no direction. */
static inline double parity_angle(const float *a, const float *b, size_t n)
{
    double ab = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < n; i++) {
        ab += (double)a[i] * b[i];
        aa += (double)a[i] * a[i];
        bb += (double)b[i] * b[i];
    }
    double angle = 1 - ab / sqrt(aa * bb);
    return isfinite(angle) ? fmax(angle, 0) : INFINITY;
}

/* max|a − b| / max|b| over n values; infinite when one is not finite or the reference is all zero
 * and a is not. */
static inline double parity_distance(const float *a, const float *b, size_t n)
{
    if (parity_by_angle() && n > 1)
        return parity_angle(a, b, n);
    double most = 0, scale = 0;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - b[i]);
        most = isfinite(d) ? fmax(most, d) : INFINITY;
        scale = fmax(scale, fabs((double)b[i]));
    }
    return most == 0 ? 0 : scale == 0 ? INFINITY : most / scale;
}

/* Compares `data` with the tensor `name` of `expected`; what is not expected is not compared. */
static inline void parity_compare(struct parity *p, const char *where,
                                  const struct mf_safetensors *expected, const char *name,
                                  const float *data, size_t count)
{
    const struct mf_tensor *t = mf_safetensors_find(expected, name);
    if (!t)
        return;
    double distance = INFINITY;
    float *reference = (float *)malloc((t->count + 1) * sizeof *reference);
    if (t->count == count && mf_tensor_to_floats(t, reference))
        distance = parity_distance(data, reference, count);
    free(reference);
    bool ok = distance <= parity_limit();
    printf("%-44s %-22s %9zu %10.2e%s\n", where, name, t->count, distance, ok ? "" : "  TOO FAR");
    p->compared++;
    p->failed += !ok;
    p->worst = fmax(p->worst, distance);
}

#endif
