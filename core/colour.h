/* The colour part of the greyscale pipeline: RGB, YBR_FULL and PALETTE COLOR frames (PS3.3
 * C.7.6.3.1.2, C.7.6.3.1.5), as luma (ITU-R BT.601) or as RGB bytes. */
#ifndef MEDFUSION_CORE_COLOUR_H
#define MEDFUSION_CORE_COLOUR_H

#include "core/error.h"
#include "core/frame.h"

/* The largest stored value of `frame`. */
float mf_colour_full_scale(const struct mf_frame *frame);

/* Luma of every pixel of a frame with three samples a pixel, in stored units times `scale`. */
bool mf_colour_luma(const struct mf_frame *frame, float scale, float *out, struct mf_error *err);

/* Luma of one entry of the palette as a share of its full scale. */
float mf_colour_palette_luma(const struct mf_frame *frame, int64_t stored);

/* RGB, three bytes a pixel: of a frame with three samples a pixel, and of one with a palette. */
bool mf_colour_bytes(const struct mf_frame *frame, uint8_t *out, struct mf_error *err);
bool mf_colour_palette_bytes(const struct mf_frame *frame, uint8_t *out, struct mf_error *err);

#endif
