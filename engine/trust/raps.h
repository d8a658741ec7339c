/*
 * Regularised adaptive prediction sets (RAPS, Angelopoulos et al. 2021) for bundles whose labels
 * exclude each other. The labels are ordered by probability; the score of a label is the
 * probability of those before it, plus u times its own, plus lambda for every rank above `free`.
 * With u uniform per case coverage is exact; with u = 1 (the default of the program: nothing may be
 * drawn by lot in a report) the sets are conservative.
 */
#ifndef MF_TRUST_RAPS_H
#define MF_TRUST_RAPS_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mf_raps {
    double lambda;
    size_t free; /* ranks that cost nothing (k_reg) */
};

/* The score of `label` given the probabilities of all `n` labels (at most 4096; they need not sum
 * to 1). Of equally probable labels the first comes first. */
double mf_raps_score(const struct mf_raps *raps, const double *probabilities, size_t n,
                     size_t label, double u);

/* The set at level alpha: `scores` are those of the true labels of the calibration cases,
 * ascending. `include` (n) is filled; returns its size. `*ret_enough` is false when there are too
 * few cases for this alpha: then every label is included. The most probable label is always
 * included: an empty set would say nothing. */
size_t mf_raps_set(const struct mf_raps *raps, const double *scores, size_t cases,
                   const double *probabilities, size_t n, double u, double alpha, bool *include,
                   bool *ret_enough);

/* Probabilities of n logits divided by `temperature`. */
void mf_softmax(const float *logits, size_t n, double temperature, double *ret);

#ifdef __cplusplus
}
#endif

#endif
