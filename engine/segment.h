/* The segmenter at work inside an engine: prompts, masks of both lungs, gate, region of interest.
 * Frames stand alone, or form a stack that is followed from its middle slice through SAM 2's
 * memory. */
#ifndef MF_ENGINE_SEGMENT_H
#define MF_ENGINE_SEGMENT_H

#include "engine/engine_private.h"

enum { MF_STRUCTURES = 2 };

/* Shows host data of one frame to the tap, if any. */
void mf_engine_tap(struct mf_exec *x, const float *data, const char *stage, size_t frame, int rank,
                   const size_t *shape);

/* A new study; what was remembered of the last one is forgotten. */
void mf_segment_begin(struct mf_engine *e, size_t frames);
/* The frame that is segmented i-th. */
size_t mf_segment_order(const struct mf_engine *e, size_t i);
/* The segmenter on the frame in e->image (not looked at while planning): mask logits of both
 * structures on the host. */
void mf_segment(struct mf_exec *x, struct mf_engine *e, const struct run *r, size_t f);
/* From mask logits to the region; fills the frame's segmentation and, when it holds,
 * e->region.soft. */
void mf_segment_region(struct mf_exec *x, struct mf_engine *e, const struct run *r, size_t f,
                       struct mf_segmentation *s);

#endif
