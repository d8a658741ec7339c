/*
 * The head's gradient and steps on a device, for many studies at once: what adapt.h computes on the
 * host, within the rounding of sums in another order. mf_engine_adapt_device() gives an engine's.
 */
#ifndef MF_TRUST_ADAPT_DEVICE_H
#define MF_TRUST_ADAPT_DEVICE_H

#include "engine/trust/adapt.h"

#ifdef __cplusplus
extern "C" {
#endif

struct mf_adapt_device {
    /* mf_adapt_gradient(); the loss in *ret_loss. */
    bool (*gradient)(void *arg, const struct mf_adapt_head *head, const struct mf_adapt_norm *norm,
                     const double *u, size_t count, double *dgamma, double *dbeta, double *ret_loss,
                     struct mf_error *err);
    /* Every study's own step from the source state, as mf_adapt_episodic(): logits before and after
     * it, (count, labels) each. What a study gets does not depend on the others. */
    bool (*episodic)(void *arg, const struct mf_adapt_head *head, const double *u, size_t count,
                     double rate, double bound, double *before, double *z, struct mf_error *err);
    void *arg;
};

#ifdef __cplusplus
}
#endif

#endif
