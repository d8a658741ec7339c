/*
 * Explanations as documents, `medfusion.explanation/1` (schemas/explanation.schema.json): the maps
 * and shares of engine/explain/ for the labels that matter, and what they say of lungs and
 * quadrants. It is made with the result, when the request asks for it, and kept beside it; pictures
 * are drawn from it when they are fetched (heatmap.h).
 */
#ifndef MF_SERVER_EXPLANATION_H
#define MF_SERVER_EXPLANATION_H

#include "core/result.h"
#include "engine/engine.h"
#include "engine/explain/explain.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a run leaves for its explanation: the vision module's inputs, by a tap. Zero-initialise. */
struct mf_explanation_inputs {
    float *pixels[32];
    bool failed; /* out of memory */
};
struct mf_tap mf_explanation_tap(struct mf_explanation_inputs *inputs);
void mf_explanation_inputs_free(struct mf_explanation_inputs *inputs);

enum { MF_EXPLAINED_LABELS = 4 };

/* A result to explain: the labels that are present, most probable first, at most
 * MF_EXPLAINED_LABELS, or the most probable one when none is. */
struct mf_explained {
    const struct mf_bundle *bundle;
    const struct mf_explanation_inputs *inputs;
    const struct mf_result_frame *frames;
    const uint32_t (*sizes)[2]; /* rows and columns of each frame */
    size_t frame_count;
    const double *positions;
    const struct mf_feature_value *features;
    const struct mf_prediction *predictions;
    const json_t *masks; /* medfusion.masks/1, or NULL */
};

/* The caller owns it; NULL on failure. */
json_t *mf_explanation_make(struct mf_explainer *explainer, const struct mf_explained *explained,
                            struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_explanation_inputs, struct mf_explanation_inputs, mf_explanation_inputs_free(p))

#endif
