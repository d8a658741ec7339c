/*
 * SAM 2 over a stack of slices, as Hugging Face's Sam2VideoModel tracks objects in a video: the
 * prompted slice first, then the slices after it, then those before it, each reading what was
 * remembered of the ones near it. Everything remembered lives in host memory and belongs to one
 * stack of one study; mf_sam2_stack_begin() forgets it.
 */
#ifndef MF_ENGINE_NET_SAM2_STACK_H
#define MF_ENGINE_NET_SAM2_STACK_H

#include "engine/net/sam2_memory.h"

enum { MF_SAM2_POINTS = 64 }; /* in a prompt, at most */

struct mf_sam2_stack;

/* For stacks of at most `slices` slices; memory is taken here, not later. `net` must have a memory
 * and outlive the stack. */
struct mf_sam2_stack *mf_sam2_stack_new(struct mf_sam2 *net, size_t objects, size_t slices,
                                        int threads, struct mf_error *err) MF_CHECK_RESULT;
void mf_sam2_stack_free(struct mf_sam2_stack *stack);
MF_AUTO_DEFINE(mf_sam2_stack, struct mf_sam2_stack *, mf_sam2_stack_free(*p))

/* A new stack; slice `key` will be prompted. */
void mf_sam2_stack_begin(struct mf_sam2_stack *stack, size_t slices, size_t key);
/* The slice that comes i-th: key, key + 1 …, then key − 1 … 0. */
size_t mf_sam2_stack_order(const struct mf_sam2_stack *stack, size_t i);

/* What says where the objects are on the prompted slice, host memory: points (corners of a box have
 * labels 2 and 3) or masks. */
struct mf_sam2_stack_prompt {
    size_t points;
    const float *xy;    /* (objects, points, 2) in pixels */
    const int *labels;  /* (objects, points) */
    const float *masks; /* (objects, 16g, 16g) of 0 and 1, or NULL */
    bool refine;        /* feed the points' answer back once as a mask prompt */
};

/* Finds the objects on slice `f`, which must come in order; `maps` holds its features without
 * no_memory_embedding. `prompt` is for the key slice, NULL for the others. */
void mf_sam2_stack_step(struct mf_exec *x, struct mf_sam2_stack *stack, size_t f,
                        const struct mf_sam2_maps *maps, const struct mf_sam2_stack_prompt *prompt);

/* What the last step found, host memory: logits (objects, 4g, 4g), predicted IoU (objects), object
 * scores (objects; at most 0: not on this slice). */
const float *mf_sam2_stack_masks(const struct mf_sam2_stack *stack);
const float *mf_sam2_stack_iou(const struct mf_sam2_stack *stack);
const float *mf_sam2_stack_object(const struct mf_sam2_stack *stack);

#endif
