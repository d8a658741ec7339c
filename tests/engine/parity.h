/* Comparing with the reference: max|a − b| / max|reference| per tensor, reported as a table
 * (tests/golden/README.md). */
#ifndef MF_TESTS_ENGINE_PARITY_H
#define MF_TESTS_ENGINE_PARITY_H

#include "engine/safetensors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const double MF_PARITY_LIMIT = 1e-4;

struct parity {
    size_t compared, failed;
    double worst;
};

/* max|a − b| / max|b| over n values; infinite when one is not finite or the reference is all zero
 * and a is not. */
static inline double parity_distance(const float *a, const float *b, size_t n)
{
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
    bool ok = distance <= MF_PARITY_LIMIT;
    printf("%-44s %-22s %9zu %10.2e%s\n", where, name, t->count, distance, ok ? "" : "  TOO FAR");
    p->compared++;
    p->failed += !ok;
    p->worst = fmax(p->worst, distance);
}

#endif
