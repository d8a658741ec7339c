/*
 * How sharp an image is in its least sharp direction: motion blurs along one, a lack of focus along
 * all. Looked at on a grid of at most 256 × 256 means (of at most 4 × 4 pixels each, so that the
 * cost does not grow with the frame), without a margin of one eighth: for each of twelve directions
 * the mean |second difference| over the mean |first difference|; the least of them. Brightness and
 * contrast cancel out.
 *
 * What is sharp depends on detectors and processing, so nothing is said by a fixed threshold:
 * `medfusion calibrate` keeps the calibration cases' values in ood.json (trust.h), and an image is
 * `blurred` when its value lies below theirs, by a conformal p-value under 0.01 (which takes 100
 * cases or more).
 */
#ifndef MF_TRUST_SHARPNESS_H
#define MF_TRUST_SHARPNESS_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Of an image (rows × cols) of display values; NaN when it is smaller than 32 × 32 pixels or
 * without any change in one direction. */
double mf_sharpness_of(const float *image, size_t rows, size_t cols);

/* The same in two steps, for a device that makes the means itself: cell (r, c) is the mean of the
 * pixels of every `stride`-th row and column from (r · step, c · step) to `step` further, their sum
 * in the order of the rows. False: too small. */
struct mf_sharpness_grid {
    size_t rows, cols, step, stride;
};
bool mf_sharpness_plan(size_t rows, size_t cols, struct mf_sharpness_grid *ret);
/* cells (rows, cols) of that grid */
double mf_sharpness_of_cells(const float *cells, size_t rows, size_t cols);

/* (1 + #{values ≤ sharpness}) / (count + 1): whether so blurred an image is usual among the
 * ascending `values`; NaN without values or for NaN. */
double mf_sharpness_p_value(const double *values, size_t count, double sharpness);

#ifdef __cplusplus
}
#endif

#endif
