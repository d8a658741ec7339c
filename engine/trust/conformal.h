/*
 * Split conformal prediction per label and class (Vovk's Mondrian taxonomy), and conformal risk
 * control of the false-negative rate of a finding list (Angelopoulos et al. 2022). Both keep the
 * calibration logits, so that any alpha can be asked for later. Membership is decided by counting,
 * never by comparing thresholds that were rounded.
 */
#ifndef MF_TRUST_CONFORMAL_H
#define MF_TRUST_CONFORMAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* k = n + 1 − ⌊alpha·(n + 1) + 1e-9⌋: the rank of the threshold among n calibration scores. k > n
 * means that the class is always included (too few cases for this alpha). */
size_t mf_conformal_rank(size_t n, double alpha);

struct mf_conformal_class {
    double p;      /* (1 + #{sᵢ ≥ s}) / (n + 1) */
    double q;      /* the k-th smallest score; INFINITY when k > n */
    bool included; /* s ≤ q, by counting */
    bool enough;   /* k ≤ n, or alpha ≤ 0 */
};

/* `logits`: n calibration logits of the class, ascending. Scores are −z for the class "present" and
 * z for "absent"; `present` says which class this is. An alpha ≤ 0 always includes the class, one ≥
 * 1 never. */
struct mf_conformal_class mf_conformal_judge(const float *logits, size_t n, bool present, float z,
                                             double alpha);

/* Risk control: `logits` are the logits of all present labels of `cases` cases that have at least
 * one, ascending, and `weights` the number of present labels in each one's case (its miss costs
 * 1/weight). Returns the largest threshold t with (ΣLᵢ(t) + 1) / (cases + 1) ≤ alpha, where a label
 * is found when its logit ≥ t: −INFINITY when no threshold satisfies it (everything is flagged). */
float mf_conformal_risk_threshold(const float *logits, const uint32_t *weights, size_t n,
                                  size_t cases, double alpha);

#ifdef __cplusplus
}
#endif

#endif
