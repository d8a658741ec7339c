/* The inside of an engine: the networks of one bundle on one device, and host buffers that are made
 * once. */
#ifndef MF_ENGINE_ENGINE_PRIVATE_H
#define MF_ENGINE_ENGINE_PRIVATE_H

#include "engine/engine.h"
#include "engine/net/sam2_stack.h"
#include "engine/preprocess.h"

enum { MF_ENGINE_FRAMES = 32 };

struct mf_frames; /* engine/frames.h */

struct mf_engine {
    const struct mf_bundle *bundle;
    struct mf_exec exec;
    struct mf_weight_store *store; /* NULL: weights are this engine's own */
    struct mf_arena *arena;        /* the networks' structs and the fixed buffers below */
    struct mf_sam2 *segmenter;     /* NULL: none */
    struct mf_sam2_stack *stack;   /* NULL: every frame is segmented on its own */
    size_t key;                    /* the slice that is prompted */
    bool prompted;                 /* boxes were found */
    struct mf_vit *vision;
    struct mf_temporal *temporal;
    struct mf_ft *ehr; /* NULL: none */
    struct mf_fusion *fusion;
    size_t tokens;                      /* of a frame */
    bool planned[MF_ENGINE_FRAMES + 1]; /* by number of frames */
    size_t batch;                       /* frames that the vision module computes together */

    struct mf_frames *frames; /* NULL: frames are worked on by the host */

    /* Host buffers. Of a frame, growing: */
    float *image;
    uint8_t *levels;
    size_t frame_room;
    struct mf_resampler resampler;
    /* Fixed: */
    float *grey, *pixels; /* network inputs */
    float *prompt_tokens, *heat;
    float *region_tokens; /* of a frame, without CLS */
    float *all_masks, *all_iou, *mask_logits;
    size_t mask_cells; /* of one low-resolution mask */
    float iou[2], object[2];
    uint8_t *masks; /* (2, size, size) */
    struct mf_region_scratch region;
    float *x_cont;
    size_t *x_cat;
    unsigned char *missing;
};

/* One run, or the planning of one. */
struct run {
    struct mf_engine *engine;
    size_t frames;
    const struct mf_engine_input *input; /* NULL while planning */
    struct mf_engine_output *output;
};

/* Values as the EHR module takes them; anything that is not MF_FEATURE_USED is missing. */
void mf_engine_features(const struct mf_feature_set *set, const struct mf_feature_value *values,
                        float *x_cont, size_t *x_cat, unsigned char *missing);

/* Studies that run together. */
struct batch {
    struct run *runs;
    size_t count;
};

/* The whole network as a body for mf_exec_run(); arg is a struct batch. */
void mf_pipeline_body(struct mf_exec *x, void *arg);
/* Everything that is recorded, once, on whatever lies in memory, so that it is when it is needed.
 * arg is a struct batch of one run without input. */
void mf_pipeline_rehearsal(struct mf_exec *x, void *arg);

#endif
