/*
 * Out of distribution: how unusual is a vector among those of the calibration patients? The trust
 * layer asks it of what the vision module sees (struct mf_engine_output, `features`): behind fusion
 * a hand is as usual as a chest, as the network learnt to tell findings only.
 * The larger of two distances, each in units of its median over the fitted cases: the squared
 * Mahalanobis distance in the space of the leading principal components plus the scaled residual (a
 * shrunk covariance), and the mean squared distance to the five nearest fitted cases in the
 * whitened components. It becomes a conformal p-value: (1 + #{calibration distances ≥ this one}) /
 * (n + 1). Mean, components and neighbours come from one half of the patients, the calibration
 * distances from the other, so that the p-value is exact for exchangeable cases.
 *
 * ood.json, `medfusion.ood/1`: {"schema", "method": "mahalanobis|mahalanobis_neighbours",
 * "model_hash", "size", "mean": […], "components": [[…]], "variances": […], "residual_variance",
 * "distances": [ascending], and with neighbours "references": [cases × components], "scales": [2]}
 */
#ifndef MF_TRUST_OOD_H
#define MF_TRUST_OOD_H

#include "core/auto.h"
#include "core/error.h"
#include "core/json.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mf_ood;

/* vectors (count × size), one row a case; `group` keeps a patient's rows in one half. NULL without
 * an error when there are fewer than 40 cases. */
struct mf_ood *mf_ood_fit(const float *vectors, size_t count, size_t size, const uint32_t *group,
                          struct mf_error *err);
void mf_ood_free(struct mf_ood *ood);

double mf_ood_p_value(const struct mf_ood *ood, const float *vector);
size_t mf_ood_size(const struct mf_ood *ood);

json_t *mf_ood_to_json(const struct mf_ood *ood, const char *model_hash);
struct mf_ood *mf_ood_from_json(const json_t *json, struct mf_error *err);

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_ood, struct mf_ood *, mf_ood_free(*p))

#endif
