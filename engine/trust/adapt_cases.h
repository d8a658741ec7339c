/* The calibration cases behind an adaptation: adaptation.json (adapter.h). Inside of the trust
 * layer. */
#ifndef MF_TRUST_ADAPT_CASES_H
#define MF_TRUST_ADAPT_CASES_H

#include "core/arena.h"
#include "engine/trust/adapt_site.h"
#include "engine/trust/trust.h"

enum { MF_ADAPT_CASES = 20000 };

struct mf_adapt_cases {
    struct mf_arena *arena;
    size_t count, width, labels;
    double *activations;             /* count × width */
    int8_t *truth;                   /* count × labels */
    const char **patients, **groups; /* count; a group may be NULL */
    enum mf_strata_kind strata;
    double *mean, *deviation; /* labels: of p under the source state */
    double entropy;
};

/* What `calibrate` keeps of its cases; NULL without an error when there are none to keep (no
 * readouts, too many cases, a bundle without weights). */
json_t *mf_adapt_cases_to_json(const struct mf_bundle *bundle, const struct mf_trust_cases *cases,
                               const uint32_t *patient, struct mf_error *err);

/* Reads adaptation.json of the bundle; NULL without an error when there is none, or when it is
 * bound to another model. */
struct mf_adapt_cases *mf_adapt_cases_load(const struct mf_bundle *bundle,
                                           const struct mf_adapt_head *head, struct mf_error *err);
void mf_adapt_cases_free(struct mf_adapt_cases *cases);

#endif
