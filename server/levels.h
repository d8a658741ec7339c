/*
 * Levels of adaptive conformal inference at work (engine/trust/aci.h): which state of the store
 * belongs to a result, and the newest of each in memory.
 *
 * A state belongs to a tenant, a model (its hash), a site and the alpha that was asked for. Where
 * nothing has been learnt yet the first state is made on the spot: every level at alpha.
 */
#ifndef MF_SERVER_LEVELS_H
#define MF_SERVER_LEVELS_H

#include "engine/bundle.h"
#include "engine/trust/aci.h"
#include "server/store_feedback.h"

#ifdef __cplusplus
extern "C" {
#endif

struct mf_levels_key {
    const char *tenant, *model_hash, *site; /* site "" = unknown */
    double alpha;
    const char *const *labels;
    size_t label_count;
};

/* The name of the state in the store. */
void mf_levels_name(const struct mf_levels_key *key, char ret[MF_STATE_KEY]);
/* The newest state, or the first one; NULL on failure. The caller frees it. */
struct mf_aci *mf_levels_load(struct mf_store *store, const struct mf_levels_key *key,
                              struct mf_error *err) MF_CHECK_RESULT;

/* States that one thread works with. */
struct mf_levels;
struct mf_levels *mf_levels_new(struct mf_error *err) MF_CHECK_RESULT;
void mf_levels_free(struct mf_levels *levels);
/* The levels to judge a study of this bundle by: asks the store whether there is a newer state.
 * Borrowed until the next call. */
const struct mf_aci *mf_levels_get(struct mf_levels *levels, struct mf_store *store,
                                   const char *tenant, const struct mf_bundle *bundle,
                                   const char *site, double alpha,
                                   struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_levels, struct mf_levels *, mf_levels_free(*p))

#endif
