/*
 * Probability calibration of one label: the map from a raw logit to a probability, chosen among
 * five by patient-grouped cross-validated negative log-likelihood.
 *
 *   identity     σ(z)
 *   temperature  σ(a·z), a > 0 (a = 1/T); from 10 positives on
 *   platt        σ(a·z + b), a > 0; fitted to the smoothed targets (N₊+1)/(N₊+2) and 1/(N₋+2);
 *                from 20 positives on
 *   beta         σ(a·ln p − b·ln(1−p) + c), p = σ(z), a, b ≥ 0 (Kull et al. 2017); from 100 on
 *   isotonic     a non-decreasing function fitted by pooling adjacent violators, linear between
 *                its knots, kept inside [1/(n+2), (n+1)/(n+2)]; from 1000 on
 *
 * The logistic fits are Newton's method with backtracking.
 */
#ifndef MF_TRUST_CALIBRATE_H
#define MF_TRUST_CALIBRATE_H

#include "core/auto.h"
#include "core/error.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum mf_calibration_method {
    MF_CALIBRATION_IDENTITY,
    MF_CALIBRATION_TEMPERATURE,
    MF_CALIBRATION_PLATT,
    MF_CALIBRATION_BETA,
    MF_CALIBRATION_ISOTONIC,
    MF_CALIBRATION_METHODS
};

struct mf_calibration {
    enum mf_calibration_method method;
    double a, b, c; /* temperature: a; platt: a, b; beta: a, b, c */
    size_t knots;   /* isotonic */
    double *x, *y;  /* knots each, x strictly increasing, y non-decreasing; owned */
    uint32_t n_pos, n_neg;
    double nll[MF_CALIBRATION_METHODS]; /* cross-validated; NaN = not eligible */
};

/* Fits one method on all `n` pairs (truth 0 or 1). False when memory runs out or the data has one
 * class only. */
bool mf_calibration_fit(enum mf_calibration_method method, const double *z, const uint8_t *truth,
                        size_t n, struct mf_calibration *ret, struct mf_error *err);
/* Chooses among the eligible methods by `folds`-fold cross-validation and fits the chosen one on
 * everything. `group` gives each pair's patient as a small integer; a patient's pairs share a fold.
 * With one class only: identity. */
bool mf_calibration_choose(const double *z, const uint8_t *truth, const uint32_t *group, size_t n,
                           unsigned folds, struct mf_calibration *ret, struct mf_error *err);
void mf_calibration_clear(struct mf_calibration *calibration);

double mf_calibration_apply(const struct mf_calibration *calibration, double z);
/* The probability where the prevalence is `to` instead of the `from` of the calibration cases, if
 * nothing but the prevalence differs (label shift): logit p + logit to − logit from. All three lie
 * between 0 and 1; with `from` = `to`, or one of them outside (0, 1), p itself. */
double mf_calibration_with_prevalence(double p, double from, double to);
/* Mean negative log-likelihood in nats, probabilities kept 1e-12 away from 0 and 1. */
double mf_calibration_nll(const struct mf_calibration *calibration, const double *z,
                          const uint8_t *truth, size_t n);
const char *mf_calibration_method_name(enum mf_calibration_method method);
size_t mf_calibration_parameters(enum mf_calibration_method method); /* 0 … 3 of a, b, c */

#ifdef __cplusplus
}
#endif

#endif
