/* The inside of the pipeline, for the files behind pipeline_run.h. */
#ifndef MF_SERVER_PIPELINE_PRIVATE_H
#define MF_SERVER_PIPELINE_PRIVATE_H

#include "core/mask.h"
#include "engine/engine.h"
#include "engine/trust/quality.h"
#include "engine/trust/trust.h"
#include "server/adaptation.h"
#include "server/explanation.h"
#include "server/frame_selection.h"
#include "server/pipeline_run.h"
#include "server/volume_frames.h"

enum {
    MF_RUN_FRAMES = MF_SELECTION_FRAMES,
    MF_RUN_FLAGS = 5 + MF_QUALITY_COUNT + MF_VOLUME_FLAGS + MF_IRREGULAR_COUNT
};

struct mf_pipeline {
    struct mf_registry *registry;
    struct mf_decoder *decoder;
    struct mf_adaptation *adaptation;
    struct mf_explainer *explainer; /* of the model that was explained last; NULL: none was */
    size_t explained_model;
};

/* Everything of one run; `arena` owns all but the frames. */
struct mf_run_state {
    const struct mf_run *run;
    const struct mf_bundle *bundle;
    struct mf_engine *engine;
    struct mf_arena *arena;
    struct mf_frame_set frames;
    const struct mf_frame *list[MF_RUN_FRAMES];
    struct mf_feature_value *features; /* NULL without an EHR module */
    struct mf_engine_input input;
    struct mf_engine_output output;
    struct mf_error problem;    /* why it cannot go on */
    struct mf_adapter *adapter; /* NULL: raw logits are wanted */
    struct mf_adapt_episode episode;
    const struct mf_aci *levels; /* learnt from feedback; NULL: none */
    struct mf_trust_statement statement;
    const char *flags[MF_RUN_FLAGS];
    size_t flag_count;
    uint64_t start_ns;
    uint32_t quality; /* bits of enum mf_quality of the reported study */
    double sharpness, decode_ms;
    double positions[MF_RUN_FRAMES];
    struct mf_explanation_inputs inputs; /* when the run asks for an explanation */
    json_t *masks;     /* medfusion.masks/1, when the run or its explanation asks for it */
    bool masks_failed; /* out of memory for one */
};

/* Tells how far the run is; false when it must stop. */
bool mf_run_go_on(const struct mf_run *run, double done, struct mf_error *err);
/* Makes the engine's input and room for its output. */
bool mf_run_prepare(struct mf_run_state *s, struct mf_error *err);

#endif
