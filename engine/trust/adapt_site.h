/*
 * A site's adaptation state: the head's BatchNorm parameters and statistics after some batches of
 * that site's studies. A state is never changed: a step, a reset or a rollback makes a new version
 * whose `parent` is the id of the old one; ids are SHA-256 of the content.
 *
 * Guards of a step (shared/reference: every one of them is needed, unguarded the loss collapses):
 *   batch       ≥ 32 studies of ≥ 16 patients, those in distribution only; else nothing changes
 *   statistics  μ = (N·μ_source + n·μ_batch)/(N + n), variance likewise
 *   rate        one plain gradient step, 1e-4
 *   pull        θ ← 0.99·θ + 0.01·θ_source
 *   bound       |θ − θ_source| ≤ 0.05·|γ_source|
 *   prevalence  every label's mean p stays within what the calibration cases allow a batch of this
 *               size (four standard errors); else back to the source state
 *   entropy     its moving average stays above half of the calibration cases' entropy; else back
 *   finite      every logit; else back
 *
 * JSON of a state, `medfusion.adaptation_state/1`: {"schema", "id", "parent": id|null, "version",
 * "model_hash", "site", "decision", "studies", "entropy_average": nats|null, "gamma": […],
 * "beta": […], "mean": […], "variance": […], "rate", "entropy_before", "entropy_after",
 * "largest_change"}: the state and the audit of the step that made it.
 */
#ifndef MF_TRUST_ADAPT_SITE_H
#define MF_TRUST_ADAPT_SITE_H

#include "core/json.h"
#include "engine/trust/adapt_device.h"

#ifdef __cplusplus
extern "C" {
#endif

struct mf_adapt_options {
    double rate, pull, bound; /* 1e-4, 0.01, 0.05 */
    double source_cases;      /* N of the statistics: 512 */
    double entropy_floor;     /* share of the calibration's entropy: 0.5 */
    double entropy_memory;    /* share that the moving average keeps: 0.9 */
    double prevalence_errors; /* standard errors: 4 */
    size_t studies, patients; /* 32, 16 */
    /* Where the gradient is computed; NULL: here. */
    const struct mf_adapt_device *device;
};

#define MF_ADAPT_OPTIONS_INIT                                                                      \
    {                                                                                              \
        1e-4, 0.01, 0.05, 512, 0.5, 0.9, 4, 32, 16, NULL                                           \
    }

/* What the calibration cases say under the source state: the yardstick of the guards. */
struct mf_adapt_yardstick {
    size_t cases;
    double entropy;
    const double *mean, *deviation; /* of p, a label */
};

/* What happened to a batch. */
enum mf_adapt_decision {
    MF_ADAPT_FRESH,           /* the source state */
    MF_ADAPT_STEPPED,         /* moved */
    MF_ADAPT_TOO_FEW_STUDIES, /* unchanged */
    MF_ADAPT_TOO_FEW_PATIENTS,
    MF_ADAPT_RESET_FINITE, /* back to the source state */
    MF_ADAPT_RESET_PREVALENCE,
    MF_ADAPT_RESET_ENTROPY,
    MF_ADAPT_ROLLED_BACK /* to the content of an earlier one */
};

const char *mf_adapt_decision_name(enum mf_adapt_decision decision);

struct mf_adapt_batch {
    const double *u; /* count × width */
    size_t count;
    const uint32_t *patient; /* a small integer a study */
    const bool *outlier;     /* out of distribution: left out; NULL: none is */
};

struct mf_adapt_state;

/* The source state for a site. Strings are copied. */
struct mf_adapt_state *mf_adapt_state_new(const struct mf_adapt_head *head, const char *site,
                                          const char *model_hash,
                                          struct mf_error *err) MF_CHECK_RESULT;
void mf_adapt_state_free(struct mf_adapt_state *state);

/* The state after `batch`, under all guards. Too small a batch gives *ret_next NULL (nothing has
 * changed) and the decision. False only when memory runs out, the batch does not fit the head, or
 * the device fails. */
bool mf_adapt_step(const struct mf_adapt_head *head, const struct mf_adapt_state *state,
                   const struct mf_adapt_yardstick *yardstick,
                   const struct mf_adapt_options *options, const struct mf_adapt_batch *batch,
                   struct mf_adapt_state **ret_next, enum mf_adapt_decision *ret_decision,
                   struct mf_error *err);
/* A new version after `now` with the content of the earlier `to` of the same site and model. */
struct mf_adapt_state *mf_adapt_rollback(const struct mf_adapt_state *now,
                                         const struct mf_adapt_state *to,
                                         struct mf_error *err) MF_CHECK_RESULT;

struct mf_adapt_norm mf_adapt_state_norm(const struct mf_adapt_state *state);
const char *mf_adapt_state_id(const struct mf_adapt_state *state);
const char *mf_adapt_state_site(const struct mf_adapt_state *state);
const char *mf_adapt_state_model_hash(const struct mf_adapt_state *state);
uint64_t mf_adapt_state_version(const struct mf_adapt_state *state);
enum mf_adapt_decision mf_adapt_state_decision(const struct mf_adapt_state *state);

json_t *mf_adapt_state_to_json(const struct mf_adapt_state *state);
/* MF_ERR_MALFORMED when it is not a state of `head`'s width, the id included. */
struct mf_adapt_state *mf_adapt_state_from_json(const struct mf_adapt_head *head,
                                                const json_t *json,
                                                struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_adapt_state, struct mf_adapt_state *, mf_adapt_state_free(*p))

#endif
