/* The inside of a site's adaptation state, shared by adapt_state.c and adapt_site.c. */
#ifndef MF_TRUST_ADAPT_PRIVATE_H
#define MF_TRUST_ADAPT_PRIVATE_H

#include "core/arena.h"
#include "core/digest.h"
#include "engine/trust/adapt_site.h"

/* Of the step that made a state. */
struct mf_adapt_audit {
    size_t studies;
    double rate, entropy_before, entropy_after, largest_change; /* the last: of γ or β */
};

struct mf_adapt_state {
    struct mf_arena *arena;                 /* the strings */
    const char *site, *model_hash, *parent; /* parent NULL: the first */
    char id[MF_SHA256_HEX];
    uint64_t version;
    enum mf_adapt_decision decision;
    size_t width;
    double *gamma, *beta, *mean, *variance; /* one block */
    double entropy_average;                 /* NaN before the first step */
    struct mf_adapt_audit audit;
};

/* A state without content; the next version after `old` without content; then copy, then seal. */
struct mf_adapt_state *mf_adapt_state_make(size_t width, const char *site, const char *model_hash,
                                           struct mf_error *err);
struct mf_adapt_state *mf_adapt_state_after(const struct mf_adapt_state *old,
                                            enum mf_adapt_decision decision, struct mf_error *err);
void mf_adapt_state_copy(struct mf_adapt_state *state, const struct mf_adapt_norm *norm);
/* Sets the id; nothing may change afterwards. */
bool mf_adapt_state_seal(struct mf_adapt_state *state, struct mf_error *err);

#endif
