/*
 * How far what is seen now has moved from a reference, and how sure a share is that was counted.
 *
 *   PSI  population stability index: Σ (a − e)·ln(a/e) over at most ten bins that hold equal parts
 *        of the reference, a and e the shares of now and of the reference with half a case added to
 *        every bin. Without any drift its mean is about (bins − 1)·(1/n + 1/m), the noise.
 *   KS   two-sample Kolmogorov–Smirnov distance and its asymptotic p-value (Stephens 1970)
 *
 * Cases count as independent of each other: several studies of one patient make p-values too small.
 */
#ifndef MF_TRUST_DRIFT_H
#define MF_TRUST_DRIFT_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mf_drift {
    double psi, psi_noise; /* NaN with an empty side or a reference of one value */
    double ks, p;          /* NaN with an empty side */
};

/* `reference` (n) and `now` (m), both ascending. `weight` is how many cases stand behind the
 * reference when it is a summary of them, else n. */
struct mf_drift mf_drift_of(const float *reference, size_t n, size_t weight, const float *now,
                            size_t m);
/* The same of counts in categories (of any order, the same in both). */
struct mf_drift mf_drift_of_counts(const size_t *reference, const size_t *now, size_t categories);
/* KS distance of values in [0, 1], ascending, from the uniform distribution. */
struct mf_drift mf_drift_from_uniform(const float *now, size_t m);

struct mf_interval {
    double low, high;
};

/* Intervals of a share of which k of n were counted, two-sided, with error probability `error`
 * (0.05). Clopper–Pearson never promises too much, Wilson is nearer to `error` on average. Without
 * cases: [0, 1]. */
struct mf_interval mf_clopper_pearson(size_t k, size_t n, double error);
struct mf_interval mf_wilson(size_t k, size_t n, double error);

#ifdef __cplusplus
}
#endif

#endif
