/*
 * Labels that exclude each other (bundle.json, "exclusive": true): of every study exactly one
 * holds, and the logits are those of a softmax. Inside of the trust layer.
 *
 * - A softmax's logits mean something only beside each other. So what is said about one label alone
 *   (its class-conditional set, its drift) is said of its log-odds against all others,
 *   z_i − log Σ_{j≠i} exp z_j, whose sigmoid is the softmax's probability.
 * - Probabilities are softmax(z / T). T is fitted to all calibration cases, or stays 1 where that
 *   is better by patient-grouped cross-validation.
 * - The finding set is a RAPS set (engine/trust/raps.h, u = 1): it holds the true label with
 *   probability at least 1 − alpha. Its own temperature, lambda and k_reg are chosen on a fifth of
 *   the patients, whose cases then calibrate nothing, so that the others stay exchangeable with a
 *   new study: k_reg is the rank that the true label keeps to in all but a tenth of them (after the
 *   paper's appendix E), lambda the one of the paper's that makes the smallest sets. Below 100
 *   cases all of them calibrate, with temperature 1 and lambda 0.
 *
 * calibration.json  "softmax": {"temperature", "cross_validated_nll": {"identity", "temperature"}}
 * conformal.json    "raps": {"temperature", "lambda", "k_reg", "tuning_cases",
 *                            "scores": [of the true labels, ascending]}
 */
#ifndef MF_TRUST_EXCLUSIVE_H
#define MF_TRUST_EXCLUSIVE_H

#include "core/error.h"
#include "core/json.h"
#include "engine/trust/raps.h"
#include "engine/trust/trust.h"

#include <stddef.h>
#include <stdint.h>

struct mf_exclusive {
    double temperature; /* of the probabilities */
    double nll[2];      /* cross-validated: with 1, with a fitted one; NaN = not eligible */
    struct mf_raps raps;
    double set_temperature;
    size_t tuning_cases, cases;
    double *scores; /* cases, ascending; owned */
};

/* `n` logits as log-odds of each label against all others; n ≥ 2. */
void mf_exclusive_log_odds(const float *logits, size_t n, float *ret);
/* The same of all cases; the caller frees them. NULL when out of memory. */
float *mf_exclusive_odds_of(const struct mf_trust_cases *cases, struct mf_error *err);

/* Fits both parts on the cases whose label is known (raw logits; `patient` is a small integer a
 * case). MF_ERR_UNUSABLE when a fully labelled case has not exactly one label, or when prevalences
 * or a target site are asked for: neither is defined here. */
bool mf_exclusive_fit(const struct mf_trust_cases *cases, const uint32_t *patient,
                      struct mf_exclusive *ret, struct mf_error *err);
void mf_exclusive_clear(struct mf_exclusive *exclusive);

/* The set at level alpha for raw logits; `work` and `include` have room for n. Every label is in it
 * where the cases are too few for alpha, and the most probable one always. */
void mf_exclusive_set(const struct mf_exclusive *exclusive, const float *logits, size_t n,
                      double alpha, double *work, bool *include);

/* The two members above; NULL when out of memory. Reading fills one part, MF_ERR_MODEL when it is
 * wrong. */
json_t *mf_exclusive_softmax_to_json(const struct mf_exclusive *exclusive);
json_t *mf_exclusive_raps_to_json(const struct mf_exclusive *exclusive);
bool mf_exclusive_read_softmax(const json_t *json, struct mf_exclusive *ret, struct mf_error *err);
bool mf_exclusive_read_raps(const json_t *json, struct mf_exclusive *ret, struct mf_error *err);

#endif
