/*
 * Why the network said what it said, for one study. Nothing of this exists, or costs anything,
 * until it is asked for: an explainer has the networks of a bundle a second time, in fp32 on the
 * CPU, on a backend that remembers (tape.h), whatever device and dtype the engine runs on.
 *
 *   attribution  integrated gradients (Sundararajan et al. 2017) along the straight line from the
 *                blurred image to the image: how much of the logit's change each patch made, with
 *                its sign; the patches sum to the change
 *   relevance    gradient-weighted attention through vision, sequence and fusion (relevance.h):
 *                which patches the positive evidence was gathered from; shares of 1
 *   rollout      attention alone, one map for all labels; shares of 1
 *   frames       what the logit loses without a frame
 *   features     Shapley values of the EHR features, with the missing token for absent ones
 *
 * models/medfusion/explain.py is the same in PyTorch.
 */
#ifndef MF_ENGINE_EXPLAIN_EXPLAIN_H
#define MF_ENGINE_EXPLAIN_EXPLAIN_H

#include "core/arena.h"
#include "core/feature.h"
#include "engine/bundle.h"

#ifdef __cplusplus
extern "C" {
#endif

struct mf_explainer;

/* `bundle` as for mf_engine_new(). threads 0: one for each core. */
struct mf_explainer *mf_explainer_new(const struct mf_bundle *bundle, int threads,
                                      struct mf_error *err) MF_CHECK_RESULT;
void mf_explainer_free(struct mf_explainer *explainer);

enum { MF_EXPLAIN_STEPS = 16, MF_EXPLAIN_MAX_STEPS = 1024 };

struct mf_explain_input {
    /* What the vision module sees of each frame, (3, rows, cols): "pixel_values.{f}" of a tap. */
    const float *const *pixels;
    size_t frame_count;
    const double *positions;                 /* as in struct mf_engine_input */
    const struct mf_feature_value *features; /* likewise */
    const size_t *labels;                    /* which logits are explained */
    size_t label_count;
    size_t steps; /* of the line; 0 = MF_EXPLAIN_STEPS */
};

/* Shares sum to 1 over all frames' patches and the EHR; where the network gathers no positive
 * evidence for a label they are 0. */
struct mf_explanation {
    size_t frame_count, label_count, feature_count, group_count, steps;
    size_t rows, cols;        /* patches of a frame, of its region of interest */
    float *attribution;       /* (labels, frames, rows · cols), logits */
    float *relevance;         /* (labels, frames, rows · cols), shares */
    float *rollout;           /* (frames, rows · cols), shares */
    double *relevance_of_ehr; /* (labels), shares */
    double rollout_of_ehr;
    double *logit;   /* (labels) */
    double *blurred; /* (labels): with every frame blurred; logit − blurred = Σ attribution, up to
                        the steps of the line */
    double *frame; /* (labels, frames): logit − the logit without that frame; NaN for the only */
    double *shapley;           /* (labels, groups): sums to logit − unknown */
    double *unknown;           /* (labels): the logit with every feature missing */
    const size_t *group_of;    /* (features): which group a feature is in */
    const char *const *groups; /* names: that of the group, or of its only feature */
};

/* All memory of `ret` is the arena's. MF_ERR_TOO_LARGE when the tape of one frame passes 4 GiB. */
bool mf_explain(struct mf_explainer *explainer, const struct mf_explain_input *input,
                struct mf_arena *arena, struct mf_explanation *ret,
                struct mf_error *err) MF_CHECK_RESULT;

/* Bytes of weights, workspace and gradients. */
size_t mf_explainer_memory(const struct mf_explainer *explainer);

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_explainer, struct mf_explainer *, mf_explainer_free(*p))

#endif
