/*
 * The greyscale pipeline of PS3.3 C.11.1–C.11.2 and PS3.4 N.2: stored values → modality values →
 * display.
 *
 * One implementation serves the command line (`dicom frame`), the network's preprocessing and the
 * pictures, so that what is shown is what was analysed.
 */
#ifndef MF_CORE_GRAYSCALE_H
#define MF_CORE_GRAYSCALE_H

#include "core/frame.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Modality values: bits above HighBit masked (sign-extended where signed), modality LUT or rescale
 * applied. Colour becomes luma first (ITU-R BT.601 of the RGB it stands for), palettes are looked
 * up. `out` holds rows · columns floats. */
bool mf_grayscale_modality(const struct mf_frame *frame, float *out, struct mf_error *err);

/* The same with `*padding` in place of padding values; NULL = they stay what they are. */
bool mf_grayscale_filled(const struct mf_frame *frame, const float *padding, float *out,
                         struct mf_error *err);

/* Display values in [0,1], 1 = white: VOI LUT, else the window by its function, else the 0.5–99.5
 * percentile of the modality values that are not padding (linear; equal percentiles give 0),
 * clipped; MONOCHROME1 inverted; padding is shown black. 8-bit colour and palettes are shown as
 * they are, without percentile stretch. `out` holds rows · columns floats. Never fails on constant
 * or all-padding images. This is the rule of DESIGN.md, "The network", step 1; models/ applies the
 * same rule. */
bool mf_grayscale_display(const struct mf_frame *frame, float *out, struct mf_error *err);

/* The same in two steps, for a device that looks values up itself: greyscale and palette samples of
 * at most 16 bits have a display value that follows from the raw sample alone, out[i] =
 * table[samples[i]]. Entries of the table: 256 or 65536; 0: not such a frame. */
size_t mf_grayscale_table_size(const struct mf_frame *frame);
/* Whether the table depends on how often each raw sample occurs (there is no VOI to go by). */
bool mf_grayscale_needs_counts(const struct mf_frame *frame);
/* `counts` (as many as `table`): how often each raw sample occurs; NULL = they are counted here
 * where they are needed. */
bool mf_grayscale_table(const struct mf_frame *frame, const uint32_t *counts, float *table,
                        struct mf_error *err);

/* The modality values that a greyscale frame without VOI LUT and window is shown between: ret[0] is
 * black, ret[1] white (the other way round for MONOCHROME1). */
bool mf_grayscale_range(const struct mf_frame *frame, double ret[2], struct mf_error *err);
/* Whether the frame has a VOI LUT or window that can be used. */
bool mf_grayscale_has_voi(const struct mf_frame *frame);

/* The 8-bit picture of a viewer: rows · columns bytes, round(255 · display); or RGB triples for
 * colour frames (mf_grayscale_channels() = 3). */
uint32_t mf_grayscale_channels(const struct mf_frame *frame);
bool mf_grayscale_display8(const struct mf_frame *frame, uint8_t *out, struct mf_error *err);

#ifdef __cplusplus
}
#endif

#endif
