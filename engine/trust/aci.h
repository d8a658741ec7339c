/*
 * Adaptive conformal inference (Gibbs and Candès 2021) from feedback: whoever learns the truth
 * about a study says so, and the level at which that label and class are judged moves,
 * α ← α + γ·(target − err), err = 1 when the set that was issued missed the truth. The long-run
 * share of misses tends to the target whatever the shift; nothing is promised about one study.
 *
 * Steps add up, so a step that turns out to be wrong can be taken back: whoever corrects a truth
 * leaves the levels as if it had been right from the start. A level stays within one step of [0,
 * 1], also when feedback on many old studies comes at once.
 *
 * A state belongs to one site and one model and is never changed: feedback makes a new one, whose
 * `parent` is the id of the old. The id is the SHA-256 of the content, so equal histories have
 * equal ids. JSON, `medfusion.aci/1`: {"schema", "id", "parent": id|null, "version", "site",
 * "model_hash", "target", "gamma", "labels": [{"id", "present": {"alpha", "feedbacks", "misses"},
 * "absent": {…}}]}
 */
#ifndef MF_TRUST_ACI_H
#define MF_TRUST_ACI_H

#include "core/auto.h"
#include "core/error.h"
#include "core/json.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mf_aci;

/* The first state: every level at `target` (0 … 0.5). γ lies in (0, 0.5]; 0.005 is usual. Strings
 * are copied. */
struct mf_aci *mf_aci_new(const char *site, const char *model_hash, const char *const *labels,
                          size_t label_count, double target, double gamma,
                          struct mf_error *err) MF_CHECK_RESULT;
void mf_aci_free(struct mf_aci *aci);

/* Truth and issued set of one label of one study. */
struct mf_aci_feedback {
    int8_t truth; /* 1 present, 0 absent, −1 not known: no feedback on this label */
    bool present_in_set, absent_in_set;
};

/* The state after `feedback` (one a label, in their order). */
struct mf_aci *mf_aci_learn(const struct mf_aci *aci, const struct mf_aci_feedback *feedback,
                            struct mf_error *err) MF_CHECK_RESULT;
/* The same where `before` (one a label) had been learnt of this study, and is taken back first. */
struct mf_aci *mf_aci_correct(const struct mf_aci *aci, const int8_t *before,
                              const struct mf_aci_feedback *feedback,
                              struct mf_error *err) MF_CHECK_RESULT;

/* Levels to judge by, present and absent of every label in turn (2 × labels; borrowed). A level ≤ 0
 * means: always in the set; ≥ 1: never. */
const double *mf_aci_levels(const struct mf_aci *aci);
size_t mf_aci_labels(const struct mf_aci *aci);
double mf_aci_target(const struct mf_aci *aci);
uint64_t mf_aci_version(const struct mf_aci *aci); /* studies learnt from or corrected so far */
const char *mf_aci_id(const struct mf_aci *aci);
const char *mf_aci_site(const struct mf_aci *aci);
const char *mf_aci_model_hash(const struct mf_aci *aci);

json_t *mf_aci_to_json(const struct mf_aci *aci);
/* MF_ERR_MALFORMED when it is not a valid state, the id included. */
struct mf_aci *mf_aci_from_json(const json_t *json, struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_aci, struct mf_aci *, mf_aci_free(*p))

#endif
