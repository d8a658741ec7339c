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
 *   blurred    less sharp than the bundle's calibration cases (engine/trust/sharpness.h): the one
 *              flag that these functions do not raise
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
    MF_QUALITY_CUT_OFF = 16,
    MF_QUALITY_BLURRED = 32
};

enum { MF_QUALITY_COUNT = 6 };

/* "blank", "saturated", "noisy", "inverted", "lungs_cut_off", "blurred" for bit 0 … 5. */
const char *mf_quality_name(unsigned bit);

/* Bits of enum mf_quality for an image (rows × cols) of display values in [0, 1]; `chest` tells
 * whether it is a frontal chest radiograph, for which inversion can be told. An image of less than
 * 16 × 16 pixels has none. */
uint32_t mf_quality_of(const float *image, size_t rows, size_t cols, bool chest);

/* The same in two steps, for a device that does the sums itself. What is looked at: points of every
 * `step`-th row and column of seven parts of the image, [r0, r1) × [c0, c1). */
enum mf_quality_sum {
    MF_QUALITY_MIDDLE, /* sum, squares, white: values of 0.998 and more */
    MF_QUALITY_NOISE,  /* sum of Immerkær's |mask|, which reads the eight neighbours too */
    MF_QUALITY_MEANS,  /* from here on: sum */
    MF_QUALITY_PARTS = 7
};
#define MF_QUALITY_WHITE 0.998
struct mf_quality_part {
    size_t r0, r1, c0, c1;
};
/* The value is the step; 0: the image is too small to be judged. */
size_t mf_quality_plan(size_t rows, size_t cols, struct mf_quality_part parts[MF_QUALITY_PARTS]);
struct mf_quality_sums {
    double sum, squares, white;
    size_t points;
};
uint32_t mf_quality_judge(const struct mf_quality_sums sums[MF_QUALITY_PARTS], bool chest);

/* MF_QUALITY_CUT_OFF or 0 for a mask (size × size; ≠ 0 = lung). */
uint32_t mf_quality_of_mask(const uint8_t *mask, size_t size);
/* The same from how many pixels are set in the top and bottom row, left and right column. */
uint32_t mf_quality_of_edges(const size_t edge[4], size_t size);

#ifdef __cplusplus
}
#endif

#endif
