/*
 * Adaptation at work for one bundle, mode and site: it turns readouts into adapted logits, keeps
 * the conformal sets bound to them, and learns from studies in mode `site`.
 *
 * Binding: thresholds are promises about logits of the network as it is. So the calibration cases'
 * activations ship with the bundle (adaptation.json), and whenever the map from activation to
 * logits changes (episodic: once; site: with every state) the trust layer is fitted anew on the
 * calibration cases under the same map. A bundle without them (or weighted towards a target site,
 * which names no activations) can still adapt, but every guarantee is then `void`.
 *
 * adaptation.json, `medfusion.adaptation/1`: {"schema", "model_hash", "width", "strata",
 * "activations": [cases × width], "truth": ["10-…" a case: 1, 0, − = not labelled], "patients":
 * [small integers], "groups": [key|null]}. It is written for at most 20,000 cases.
 */
#ifndef MF_TRUST_ADAPTER_H
#define MF_TRUST_ADAPTER_H

#include "engine/trust/adapt_site.h"
#include "engine/trust/trust.h"

#ifdef __cplusplus
extern "C" {
#endif

struct mf_adapter;

/* `bundle` (opened with MF_BUNDLE_FULL) must outlive it. `state` is that of the site and of this
 * model, or NULL for the source state; it is taken, also on failure. Not thread-safe. */
struct mf_adapter *mf_adapter_new(const struct mf_bundle *bundle, enum mf_adapt_mode mode,
                                  const char *site, struct mf_adapt_state *state,
                                  struct mf_error *err) MF_CHECK_RESULT;
/* The same with gradients computed on a device (copied; what it points to outlives the adapter);
 * NULL: on the host. Calibration cases and studies take the same way, so that what is promised
 * stays bound to what is computed. */
struct mf_adapter *mf_adapter_new_on(const struct mf_adapt_device *device,
                                     const struct mf_bundle *bundle, enum mf_adapt_mode mode,
                                     const char *site, struct mf_adapt_state *state,
                                     struct mf_error *err) MF_CHECK_RESULT;
void mf_adapter_free(struct mf_adapter *adapter);

/* The head, for reading a state. */
const struct mf_adapt_head *mf_adapter_head(const struct mf_adapter *adapter);
/* Of mode `site`: the state that is used now, NULL before the first step. Borrowed. */
const struct mf_adapt_state *mf_adapter_state(const struct mf_adapter *adapter);
/* Puts another state of the same site in its place (rollback, another worker's step); takes it. */
bool mf_adapter_replace(struct mf_adapter *adapter, struct mf_adapt_state *state,
                        struct mf_error *err);

/* Logits (labels) of the network in, those to judge by out: the same in modes off and shadow. The
 * report tells what one step does to the study (shadow, episodic), or what the site's state does to
 * it (site); NaN in mode off. */
bool mf_adapter_apply(struct mf_adapter *adapter, const float *readout, float *logits,
                      struct mf_adapt_episode *ret, struct mf_error *err);
/* Tells the case how it is to be judged: which trust layer, or that there is no promise. */
void mf_adapter_bind(const struct mf_adapter *adapter, struct mf_trust_case *c);

/* Mode `site`: one more study, of that patient (any string), `outlier` when it is out of
 * distribution. When enough have come together, one guarded step is made of them: *ret_stepped and
 * *ret_decision say so. Without a calibration to compare with nothing is learnt. */
bool mf_adapter_learn(struct mf_adapter *adapter, const float *readout, const char *patient,
                      bool outlier, bool *ret_stepped, enum mf_adapt_decision *ret_decision,
                      struct mf_error *err);

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_adapter, struct mf_adapter *, mf_adapter_free(*p))

#endif
