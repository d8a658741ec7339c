/*
 * Test-time adaptation in the pipeline (engine/trust/adapter.h): one adapter for each model and
 * site that comes along, and where the states of sites live.
 *
 * A state is a file DIRECTORY/<model>-<site>.<version>.json that is made once and never changed
 * (<model>, <site>: 16 hex digits of the model_hash and of the site name's SHA-256). Processes
 * compare and swap by making the next version: whoever comes second finds it there, drops its own
 * step and goes on with the other's. The files are the audit trail; removing the newest ones rolls
 * a site back, as does mf_adapt_rollback().
 */
#ifndef MF_SERVER_ADAPTATION_H
#define MF_SERVER_ADAPTATION_H

#include "engine/trust/adapter.h"

#ifdef __cplusplus
extern "C" {
#endif

struct mf_adaptation;

/* `directory` (copied; created when absent) keeps the states of mode site; NULL: in memory only. */
struct mf_adaptation *mf_adaptation_new(enum mf_adapt_mode mode, const char *directory,
                                        struct mf_error *err) MF_CHECK_RESULT;
void mf_adaptation_free(struct mf_adaptation *adaptation);
enum mf_adapt_mode mf_adaptation_mode(const struct mf_adaptation *adaptation);

/* The adapter of a bundle for a site ("" = unknown), with the site's newest state; borrowed. Its
 * gradients are computed on the bundle's `device` (mf_adapter_new_on()); NULL: on the host. */
struct mf_adapter *mf_adaptation_adapter(struct mf_adaptation *adaptation,
                                         const struct mf_bundle *bundle,
                                         const struct mf_adapt_device *device, const char *site,
                                         struct mf_error *err) MF_CHECK_RESULT;

/* Lets a site learn from a study that was judged (mf_adapter_learn) and keeps the state that came
 * of it. */
bool mf_adaptation_learn(struct mf_adaptation *adaptation, struct mf_adapter *adapter,
                         const struct mf_bundle *bundle, const char *site, const float *readout,
                         const char *patient, bool outlier, struct mf_error *err);

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_adaptation, struct mf_adaptation *, mf_adaptation_free(*p))

#endif
