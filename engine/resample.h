/*
 * Separable resampling on the host, tap for tap as torch.nn.functional.interpolate (align_corners =
 * false) does it in float32: antialiased bilinear for images, bicubic with and without antialiasing
 * for position embeddings, plain bilinear for masks. The windowed sinc is for volumes.
 */
#ifndef MF_ENGINE_RESAMPLE_H
#define MF_ENGINE_RESAMPLE_H

#include "core/auto.h"
#include "core/error.h"

#include <stddef.h>

enum mf_filter {
    MF_FILTER_BILINEAR,           /* mode="bilinear" */
    MF_FILTER_BILINEAR_ANTIALIAS, /* mode="bilinear", antialias=True */
    MF_FILTER_BICUBIC,            /* mode="bicubic": a = −0.75, edges repeated */
    MF_FILTER_BICUBIC_ANTIALIAS,  /* mode="bicubic", antialias=True: a = −0.5 */
    MF_FILTER_SINC                /* mf_filter_sinc(), stretched when there are fewer out than in;
                                   * edges repeated */
};

/* sinc(x) · sinc(x / MF_SINC_REACH), Lanczos' window; 0 from MF_SINC_REACH on. */
enum { MF_SINC_REACH = 5 };
double mf_filter_sinc(double x);

/* Working memory that only grows: resampling in sizes seen before allocates nothing.
 * Zero-initialise. */
struct mf_resampler {
    int threads; /* 0 = 1 */
    struct mf_axis {
        size_t out, taps, room;
        size_t *index; /* (out, taps) source positions */
        float *weight; /* (out, taps); 0 = unused tap */
    } rows, cols;
    float *between; /* the image after the first axis */
    size_t between_room, between_row;
};

/* Fills r->rows and r->cols alone, for who does the sums elsewhere. */
bool mf_resample_plan(struct mf_resampler *r, enum mf_filter filter, size_t rows, size_t cols,
                      size_t out_rows, size_t out_cols, struct mf_error *err);

void mf_resampler_free(struct mf_resampler *r);
MF_AUTO_DEFINE(mf_resampler, struct mf_resampler, mf_resampler_free(p))

/* in (rows, cols, channels) with rows `in_row` floats apart → out (out_rows, out_cols, channels).
 */
bool mf_resample(struct mf_resampler *r, enum mf_filter filter, const float *in, size_t rows,
                 size_t cols, size_t channels, size_t in_row, float *out, size_t out_rows,
                 size_t out_cols, struct mf_error *err);

/* The same row by row, for an output that is used up as it is made: `begin` resamples the columns,
 * then `row` gives `n` floats of output row `y` from float `x` on. Rows may be asked for by several
 * threads. */
bool mf_resample_begin(struct mf_resampler *r, enum mf_filter filter, const float *in, size_t rows,
                       size_t cols, size_t channels, size_t in_row, size_t out_rows,
                       size_t out_cols, struct mf_error *err);
void mf_resample_row(const struct mf_resampler *r, size_t y, size_t x, size_t n, float *out);

#endif
