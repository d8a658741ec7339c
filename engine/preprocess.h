/*
 * Frames before the network, on the host: equalisation, stretching and normalisation
 * (models/medfusion/preprocess.py is the same rule in Python), and the region of interest from two
 * lung masks (models/medfusion/segmenter.py).
 */
#ifndef MF_ENGINE_PREPROCESS_H
#define MF_ENGINE_PREPROCESS_H

#include "engine/bundle_private.h"
#include "engine/resample.h"

#include <stdint.h>

/* Equalises (rows, cols) in [0, 1] in place. `levels` is scratch of rows · cols bytes. */
void mf_equalise(enum mf_equalisation kind, float *image, size_t rows, size_t cols,
                 uint8_t *levels);

/* image (rows, cols; rows `row` apart) → (3, out->rows, out->cols), stretched (antialiased
 * bilinear) and normalised. `grey` is scratch of out->rows · out->cols floats. */
bool mf_image_input_fill(struct mf_resampler *r, const float *image, size_t rows, size_t cols,
                         size_t row, const struct mf_image_input *out, float *grey, float *pixels,
                         struct mf_error *err);

/* Clears all but the largest 8-connected component of a square mask of 0 and 1; of equals the one
 * met first row by row stays. `roots` and `counts` are scratch of size · (size + 1) each. */
void mf_keep_largest(uint8_t *mask, size_t size, uint32_t *roots, uint32_t *counts);

/* The run of set pixels of each row of a convex region: [begin, end), empty when begin = end. */
struct mf_run {
    int begin, end;
};

/* Boxes of both lungs on a square frame in [0, 1] where no box head has learnt to draw them: x0 y0
 * x1 y1 in pixels, image-left first, each MF_PROMPT_MARGIN wider on every side. False when a side
 * has no dark component of MF_PROMPT_LEAST of the frame. Scratch of size · (size + 1) each. */
#define MF_PROMPT_MARGIN 0.05f
#define MF_PROMPT_LEAST 0.01
struct mf_prompt_scratch {
    uint8_t *dark, *half;
    uint32_t *roots, *counts;
};
bool mf_prompt_lungs(const float *grey, size_t size, const struct mf_prompt_scratch *scratch,
                     float boxes[8]);

/* The convex hull of the set pixels of a square mask; false when there is none. */
bool mf_fill_hull(const uint8_t *mask, size_t size, struct mf_run *runs);
/* The same from the first and last set row of every column; first = size: none. */
bool mf_fill_hull_of(const uint32_t *first, const uint32_t *last, size_t size, struct mf_run *runs);
/* How far the disc dx² + dy² ≤ radius² reaches to the sides in row dy: widths[0 … reach], the value
 * is reach, at most MF_REACH. */
enum { MF_REACH = 4096 };
size_t mf_disc(double radius, uint32_t *widths);
/* A square of 0 and 1 from runs, dilated by the disc dx² + dy² ≤ radius². */
void mf_dilate(const struct mf_run *runs, size_t size, double radius, float *out);
/* Separable Gaussian, cut at ⌈3σ⌉, edges repeated, in place; `scratch` of rows · cols floats. */
void mf_blur(float *image, size_t rows, size_t cols, double sigma, float *scratch);
/* Its weights, 2 · reach + 1 of them; the value is reach, 0 when there is nothing to blur. */
size_t mf_blur_weights(double sigma, float *weights);

struct mf_region_scratch {
    struct mf_run *runs;   /* size */
    float *soft, *between; /* size · (size + 1) each */
};

/* Masks of both structures (size × size, joined: 0 or 1) → the region of interest in frame pixels
 * (x0 y0 x1 y1, half-open), and in scratch->soft what m is resampled from. False when the mask is
 * empty. */
bool mf_region_of(const uint8_t *mask, size_t size, size_t rows, size_t cols,
                  const struct mf_segmentation_options *o, const struct mf_region_scratch *scratch,
                  uint32_t box[4]);
/* Its box alone: that of runs dilated by a disc, and a margin. */
void mf_region_box(const struct mf_run *runs, size_t size, const uint32_t *disc, size_t reach,
                   size_t rows, size_t cols, double margin, uint32_t box[4]);
/* m at the frame's size, (rows, cols) in [0, 1]. */
bool mf_region_weight(struct mf_resampler *r, const float *soft, size_t size, size_t rows,
                      size_t cols, float *weight, struct mf_error *err);
/* image (rows, cols) ·= background + (1 − background) · m inside the box; nothing outside it. */
bool mf_region_apply(struct mf_resampler *r, const float *soft, size_t size, float *image,
                     size_t rows, size_t cols, const uint32_t box[4], double background,
                     struct mf_error *err);

/* What a gate looks at: cells of logits above 0.05 and above −0.05, and set pixels of the mask. */
#define MF_GATE_DELTA 0.05f
struct mf_gate_counts {
    size_t inner, outer, set;
};
const char *mf_gate_judge(const struct mf_gate *gate, const struct mf_gate_counts counts[2],
                          const float iou[2], const float object[2], size_t pixels);
/* The first gate that two structures fail ("iou_score", "object_score", "stability", "area",
 * "ratio"), or NULL. logits (2, cells), masks (2, pixels) of 0 and 1. */
const char *mf_gate_fails(const struct mf_gate *gate, const float *logits, size_t cells,
                          const float iou[2], const float object[2], const uint8_t *masks,
                          size_t pixels);

#endif
