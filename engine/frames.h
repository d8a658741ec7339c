/*
 * Frames and masks of an engine where its network runs, for devices that can (mf_ops.frames): raw
 * samples go up once, through the pinned staging buffer and beside the work in hand; display values
 * (by a table that core/grayscale.h makes: one implementation of DICOM's rules), equalisation,
 * stretching, normalisation, masks and the region of interest are computed there, and only
 * decisions (prompts, the gate, the hull's corners) come back to the host. preprocess.h is the same
 * on the host and what these are compared with; samples that no table can hold (colour, 32 bits,
 * floats) get their display values there.
 *
 * Memory: fixed buffers at loading; those of a frame's size only grow. Nothing here runs while
 * planning.
 */
#ifndef MF_ENGINE_FRAMES_H
#define MF_ENGINE_FRAMES_H

#include "engine/engine_private.h"

/* NULL with an error; for engines whose device can. `e` has its networks loaded and outlives it. */
struct mf_frames *mf_frames_new(struct mf_engine *e, struct mf_error *err) MF_CHECK_RESULT;
void mf_frames_free(struct mf_frames *f);
/* Room for frames of rows × cols pixels. False: the device has not enough memory; what is there
 * serves smaller frames. */
bool mf_frames_reserve(struct mf_frames *f, size_t rows, size_t cols, struct mf_error *err);
/* Bytes of the device that it holds. */
size_t mf_frames_bytes(const struct mf_frames *f);

/* Display values of a frame on the device; what is asked for next is about this frame. */
bool mf_frames_load(struct mf_exec *x, struct mf_engine *e, const struct mf_frame *frame);
/* Bits of enum mf_quality, and sharpness, of the frame before it is equalised. */
void mf_frames_quality(struct mf_exec *x, struct mf_engine *e, uint32_t *quality,
                       double *sharpness);
void mf_frames_equalise(struct mf_exec *x, struct mf_engine *e);
/* The box (x0 y0 x1 y1) of the frame as a network's input, on the device: (3, rows, cols). */
void mf_frames_input(struct mf_exec *x, struct mf_engine *e, const uint32_t box[4],
                     const struct mf_image_input *in, float *planes);
/* The segmenter's stretched frame on the host, before it is normalised. */
void mf_frames_grey(struct mf_exec *x, struct mf_engine *e, float *grey);

/* Of a decoder's answer: masks chosen as mf_sam2_choose() does, kept on the device; their IoU and
 * object scores in e->iou and e->object. */
void mf_frames_choose(struct mf_exec *x, struct mf_engine *e, const float *masks, const float *iou,
                      const float *object);
/* Logits (2, cells) of the host in the place of a decoder's. */
void mf_frames_put_logits(struct mf_exec *x, struct mf_engine *e, const float *logits);
/* The chosen logits (2, cells), on the device. */
const float *mf_frames_logits(const struct mf_frames *f);

/* Logits → the largest component of each structure's mask, and what the gate and the hull want to
 * know of them. */
void mf_frames_masks(struct mf_exec *x, struct mf_engine *e, struct mf_gate_counts counts[2]);
/* Both masks, (2, size, size) of 0 and 1, to the host. */
void mf_frames_get_masks(struct mf_exec *x, struct mf_engine *e, uint8_t *masks);
/* MF_QUALITY_CUT_OFF or 0 for the masks' union. */
uint32_t mf_frames_cut_off(const struct mf_frames *f);
/* The masks' region in the frame (mf_region_of()); false when they are empty. */
bool mf_frames_region(struct mf_exec *x, struct mf_engine *e, uint32_t box[4]);
/* m (size, size) to the host. */
void mf_frames_get_soft(struct mf_exec *x, struct mf_engine *e, float *soft);
/* mf_region_apply() */
void mf_frames_weight(struct mf_exec *x, struct mf_engine *e, const uint32_t box[4]);

#endif
