/*
 * Test-time entropy minimisation on the BatchNorm of the head (TENT, Wang et al. 2021, for many
 * labels): only gain γ and offset β of that one layer move, against the mean binary entropy of the
 * labels. The network before it is frozen, so that one vector per study, the activation u before
 * the BatchNorm, is all that is needed, and the gradient is exact and cheap:
 *
 *   x̂ = (u − μ)/√(σ² + ε),  y = γ·x̂ + β,  a = GELU(y),  z = W₂·a + b₂,  H = mean h(σ(z))
 *   ∂H/∂z = −z·p·(1 − p)/(n·labels),  δ = (W₂ᵀ ∂H/∂z) ⊙ GELU′(y),  dγ = Σ δ·x̂,  dβ = Σ δ
 *
 * The mean runs over studies and labels, so a step does not grow with the batch. All in double.
 *
 * Modes: off; shadow (an episodic step is computed and reported, nothing of it is used); episodic
 * (from the source state, running statistics, one step on the study alone, thrown away); site (a
 * state for each site, moved by many studies under guards: adapt_site.h). Memory is owned by what
 * `_new` and `_load` return; structs are immutable after that and may be shared by threads.
 */
#ifndef MF_TRUST_ADAPT_H
#define MF_TRUST_ADAPT_H

#include "core/auto.h"
#include "core/error.h"
#include "engine/bundle.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum mf_adapt_mode { MF_ADAPT_OFF, MF_ADAPT_SHADOW, MF_ADAPT_EPISODIC, MF_ADAPT_SITE };

const char *mf_adapt_mode_name(enum mf_adapt_mode mode);
bool mf_adapt_mode_parse(const char *name, enum mf_adapt_mode *ret);

/* The head's weights; rows in PyTorch's order. */
struct mf_adapt_head {
    size_t inputs, width, labels;
    double *w1, *b1;                        /* (width, inputs), (width) */
    double *w2, *b2;                        /* (labels, width), (labels) */
    double *gamma, *beta, *mean, *variance; /* (width): the source state */
    double epsilon;
};

struct mf_adapt_head *mf_adapt_head_new(size_t inputs, size_t width, size_t labels,
                                        struct mf_error *err) MF_CHECK_RESULT;
/* Whether it was opened with MF_BUNDLE_FULL. */
bool mf_bundle_has_weights(const struct mf_bundle *bundle);
/* From the fusion module of a bundle that was opened with MF_BUNDLE_FULL. */
struct mf_adapt_head *mf_adapt_head_load(const struct mf_bundle *bundle,
                                         struct mf_error *err) MF_CHECK_RESULT;
void mf_adapt_head_free(struct mf_adapt_head *head);

/* BatchNorm parameters and statistics, each (width); borrowed pointers, mostly the head's own or a
 * site state's. */
struct mf_adapt_norm {
    const double *gamma, *beta, *mean, *variance;
};

struct mf_adapt_norm mf_adapt_source(const struct mf_adapt_head *head);

/* readout (inputs) → activation before the BatchNorm, u (width). */
void mf_adapt_activation(const struct mf_adapt_head *head, const float *readout, double *u);
/* u (width) → logits z (labels). */
void mf_adapt_logits(const struct mf_adapt_head *head, const struct mf_adapt_norm *norm,
                     const double *u, double *z);
/* Mean binary entropy (nats) of σ(z) over n logits. */
double mf_adapt_entropy(const double *z, size_t n);
/* Loss and gradient over `count` activations (count × width); dgamma, dbeta (width). `work` has
 * room for 4·width + 2·labels doubles. */
double mf_adapt_gradient(const struct mf_adapt_head *head, const struct mf_adapt_norm *norm,
                         const double *u, size_t count, double *dgamma, double *dbeta,
                         double *work);
size_t mf_adapt_work(const struct mf_adapt_head *head); /* doubles */

/* What an episodic step does to one study. */
struct mf_adapt_episode {
    double entropy_before, entropy_after, max_change; /* nats; of a logit */
};

/* What there is to tell of a study whose logits were `before`, and z after its step; z that are not
 * finite are put back. */
void mf_adapt_conclude(const double *before, double *z, size_t labels,
                       struct mf_adapt_episode *ret);

/* One step at `rate` from the source state on the study alone, |Δγ|, |Δβ| ≤ bound·|γ|; z (labels)
 * are the adapted logits. Where they are not finite the source's logits are given. False only when
 * memory runs out. */
bool mf_adapt_episodic(const struct mf_adapt_head *head, const double *u, double rate, double bound,
                       double *z, struct mf_adapt_episode *ret, struct mf_error *err);

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_adapt_head, struct mf_adapt_head *, mf_adapt_head_free(*p))

#endif
