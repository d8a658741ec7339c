/*
 * Weighted conformal prediction (Tibshirani et al. 2019) for a known kind of shift: the covariates
 * of the site where the model works are distributed otherwise than those of the calibration cases,
 * the scores given the covariates are not. Every case has the weight dP_site/dP_calibration, here
 * estimated by a logistic regression on the logits of unlabelled studies of the site.
 *
 * Weights cost sample size: with few effective cases, (Σw)²/Σw², the estimate of the threshold is
 * noise, and the result must not be called valid.
 */
#ifndef MF_TRUST_WEIGHTED_H
#define MF_TRUST_WEIGHTED_H

#include "core/auto.h"
#include "core/error.h"
#include "engine/trust/conformal.h"

#ifdef __cplusplus
extern "C" {
#endif

/* (Σw)²/Σw²; 0 without weights. */
double mf_effective_size(const float *weights, size_t n);
/* The least effective size at which a weighted set counts as valid: max(50, 10/alpha). */
double mf_effective_size_needed(double alpha);

/* Like mf_conformal_judge, calibration case i counting weights[i] (finite, ≥ 0; in the order of the
 * logits) and the new case `weight`: p = (weight + Σ{wᵢ : sᵢ ≥ s}) / (weight + Σwᵢ), included when
 * p > alpha; q is the largest score that is included. `enough` when some score is not. */
struct mf_conformal_class mf_conformal_judge_weighted(const float *logits, const float *weights,
                                                      size_t n, bool present, float z,
                                                      double weight, double alpha);

/* The density ratio of the site against the calibration cases as exp(intercept + coefficients·z),
 * z being the logits of all labels, standardised by mean and scale. */
struct mf_density_ratio {
    size_t size;
    double intercept;
    double *coefficients, *mean, *scale; /* size each; owned */
};

/* Fits it by logistic regression with a ridge of 1 on the coefficients: source (source_count ×
 * size) are the calibration cases, target (target_count × size) the site's. MF_ERR_UNUSABLE with
 * fewer than 30 on a side or with a value that is not finite. */
bool mf_density_ratio_fit(const float *source, size_t source_count, const float *target,
                          size_t target_count, size_t size, struct mf_density_ratio *ret,
                          struct mf_error *err);
void mf_density_ratio_clear(struct mf_density_ratio *ratio);
/* The weight of one case, at most 1e6. */
double mf_density_ratio_at(const struct mf_density_ratio *ratio, const float *logits);

#ifdef __cplusplus
}
#endif

#endif
