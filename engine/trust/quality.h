/*
 * Technical quality of a frame, from its display values: what makes an image unfit whatever it
 * shows. Looked at on a grid of at most 256 × 256 points, so that the cost does not grow with the
 * frame. Thresholds lie outside everything that 416 NIH ChestX-ray14 radiographs show (beside them:
 * the most extreme of those).
 *
 *   blank      the values of the middle (without a margin of one eighth) deviate by less than 0.02
 *              (0.081)
 *   saturated  more than a fifth of the middle is white (none)
 *   noisy      noise, by Immerkær's 3 × 3 mask, above 0.03 (0.0037)
 *   inverted   the mediastinum is darker than the lungs beside it and the upper corners: their
 *              differences, the second counting half, below −0.05 (−0.009)
 *   cut off    a lung lies on the edge of the frame along more than a tenth of a side
 */
#ifndef MF_TRUST_QUALITY_H
#define MF_TRUST_QUALITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum mf_quality {
    MF_QUALITY_BLANK = 1,
    MF_QUALITY_SATURATED = 2,
    MF_QUALITY_NOISY = 4,
    MF_QUALITY_INVERTED = 8,
    MF_QUALITY_CUT_OFF = 16
};

enum { MF_QUALITY_COUNT = 5 };

/* "blank", "saturated", "noisy", "inverted", "lungs_cut_off" for bit 0 … 4. */
const char *mf_quality_name(unsigned bit);

/* Bits of enum mf_quality for an image (rows × cols) of display values in [0, 1]; `chest` tells
 * whether it is a frontal chest radiograph, for which inversion can be told. An image of less than
 * 16 × 16 pixels has none. */
uint32_t mf_quality_of(const float *image, size_t rows, size_t cols, bool chest);

/* MF_QUALITY_CUT_OFF or 0 for a mask (size × size; ≠ 0 = lung). */
uint32_t mf_quality_of_mask(const uint8_t *mask, size_t size);

#ifdef __cplusplus
}
#endif

#endif
