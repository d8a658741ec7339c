/*
 * SAM 2's memory (Hugging Face's Sam2VideoModel): its networks on the device, and the small tables
 * that the host adds to what it keeps between slices. sam2_stack.c decides what is remembered.
 */
#ifndef MF_ENGINE_NET_SAM2_MEMORY_H
#define MF_ENGINE_NET_SAM2_MEMORY_H

#include "engine/net/net.h"

enum { MF_SAM2_MEMORIES = 32, MF_SAM2_POINTERS = 64 };

struct mf_sam2_memory;

/* config.json's rules of what is remembered and asked for. */
struct mf_sam2_memory_rules {
    size_t memories; /* slices remembered, the prompted one included */
    size_t pointers; /* object pointers read at most */
    float mask_scale, mask_bias;
    bool multimask, multimask_tracking; /* three masks, of which the best counts … */
    size_t least_points, most_points;   /* … with this many points in the prompt */
};

/* Host tables. g is the grid of the coarsest map, c the channels of a memory, C those of an image
 * embedding. */
struct mf_sam2_memory_host {
    const float *position; /* (g·g, c) */
    const float *temporal; /* (memories, c): row k − 1 for k slices away, the last for the prompted
                              slice */
    const float *occlusion;                     /* (c), or NULL */
    const float *no_object_pointer;             /* (C) */
    const float *pointer_weight, *pointer_bias; /* (c, C), (c), or NULL */
    const float *mask_weight, *mask_bias;       /* mask prompts: (4, 4), (1) */
};

/* Under the current path; `width` and `grid` are those of the image path. */
struct mf_sam2_memory *mf_sam2_memory_load(struct mf_loader *ld, size_t width, size_t grid);
size_t mf_sam2_memory_channels(const struct mf_sam2_memory *m); /* c */
const struct mf_sam2_memory_rules *mf_sam2_memory_rules(const struct mf_sam2_memory *m);
const struct mf_sam2_memory_host *mf_sam2_memory_host(const struct mf_sam2_memory *m);

/* What is read: `count` rows of c floats, the last `pointers` of them object pointers' (they have
 * no place in the image). keys = values + positions. */
struct mf_sam2_memories {
    const float *keys, *values; /* device */
    size_t count, pointers;
};

/* features (g·g, C), without no_memory_embedding → out (g·g, C) that has read the memories */
void mf_sam2_memory_attend(struct mf_exec *x, const struct mf_sam2_memory *m, const float *features,
                           const struct mf_sam2_memories *in, float *out);
/* features (g·g, C) and a mask (16g, 16g) of scaled probabilities → a memory (g·g, c) */
void mf_sam2_memory_encode(struct mf_exec *x, const struct mf_sam2_memory *m, const float *features,
                           const float *mask, float *out);
/* The decoder's mask token (C) → an object pointer (C) */
void mf_sam2_memory_pointer(struct mf_exec *x, const struct mf_sam2_memory *m, const float *token,
                            float *out);

#endif
