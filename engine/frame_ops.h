/*
 * Work on frames and masks where the network runs: what preprocess.h, resample.h and the quality
 * figures do on the host, as operations of a backend (mf_ops.frames; the CPU has none, and the
 * host's functions are what it uses). The results are the host's: bit by bit, except where a sum is
 * made in another order (sums below), and resampling within what fused multiply-adds change.
 *
 * Every array is device memory unless a name says host. Nothing is waited for but by `get`.
 */
#ifndef MF_ENGINE_FRAME_OPS_H
#define MF_ENGINE_FRAME_OPS_H

#include "engine/bundle_private.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mf_backend;

/* The taps of one axis of a resampler (resample.h). */
struct mf_device_axis {
    const uint32_t *index; /* (out, taps) source positions */
    const float *weight;   /* (out, taps) */
    size_t out, taps;
};

/* in (in_rows, in_cols; rows in_row apart) → out (rows.out, cols.out), and, where `planes` is
 * there, three planes of (out − mean) / std. `out` may be NULL then. */
struct mf_device_resample {
    struct mf_device_axis rows, cols;
    const float *in;
    size_t in_rows, in_cols, in_row;
    float *between; /* scratch: mf_device_between() floats */
    float *out, *planes;
    float mean[3], std[3];
};

/* image (·, cols) ·= base + rest · m inside the box (x0 y0 x1 y1); m is `soft` (size, size)
 * resampled by the axes, which are those of the whole frame. */
struct mf_device_weighting {
    struct mf_device_axis rows, cols;
    const float *soft;
    size_t size;
    float *between; /* scratch: size · cols.out floats */
    float *image;
    uint32_t box[4];
    float base, rest;
};

/* Runs of a convex region dilated by a disc and blurred: mf_dilate() and mf_blur(). */
struct mf_device_region {
    const int32_t *runs; /* (size, 2): begin, end */
    const uint32_t *disc;
    const float *weights; /* 2 · blur + 1 */
    size_t size, reach, blur;
    float *soft, *between; /* (size, size) each; the result is in `soft` */
};

/* What is known of masks without looking at them: facts[…] of uint32_t. */
enum {
    MF_FACT_SET = 0,  /* set pixels of each of both masks */
    MF_FACT_EDGE = 2, /* of their union: in the top and bottom row, the left and right column */
    MF_FACT_FIRST = 8 /* of their union, by column: first set row (size: none), then last */
};

/* Points of a part of an image: every step-th of rows [r0, r1) and columns [c0, c1). */
struct mf_device_part {
    uint32_t r0, r1, c0, c1;
};

/* One map from activations to logits, in double (engine/trust/adapt.h): the head's vectors. */
struct mf_device_head {
    const double *w2, *b2; /* (labels, width), (labels) */
    const double *gamma, *beta, *mean, *variance;
    size_t width, labels;
    double epsilon;
};

struct mf_frame_ops {
    /* Copies of bytes; `get` waits for what was asked for before, and gives zeros when the device
     * has failed. `fill` goes beside the work in hand (mf_ops.await and .used belong to it). */
    void (*put)(struct mf_backend *be, void *device, const void *host, size_t bytes);
    void (*get)(struct mf_backend *be, void *host, const void *device, size_t bytes);
    void (*fill)(struct mf_backend *be, int slot, void *device, const void *host, size_t bytes);

    /* Samples of `bytes` (1 or 2) bytes. counts (256 or 65536): how often each occurs. */
    void (*count)(struct mf_backend *be, const void *samples, size_t bytes, size_t n,
                  uint32_t *counts);
    /* image[i] = table[samples[i]] */
    void (*display)(struct mf_backend *be, const void *samples, size_t bytes, size_t n,
                    const float *table, float *image);
    /* mf_equalise(); room: MF_EQUALISE_ROOM floats of scratch */
    void (*equalise)(struct mf_backend *be, enum mf_equalisation kind, float *image, size_t rows,
                     size_t cols, float *room);
    void (*resample)(struct mf_backend *be, const struct mf_device_resample *r);
    void (*weight)(struct mf_backend *be, const struct mf_device_weighting *w);

    /* counts[2 · m], [2 · m + 1]: cells of each of `masks` logits above delta and above −delta;
     * masks `apart` floats apart. */
    void (*mask_counts)(struct mf_backend *be, const float *logits, size_t cells, size_t apart,
                        size_t masks, float delta, uint32_t *counts);
    /* mask of 0 and 1: the largest 8-connected component of soft > 0 (size, size), as
     * mf_keep_largest(); labels and sizes: scratch of size · size each. */
    void (*component)(struct mf_backend *be, const float *soft, size_t size, uint8_t *mask,
                      uint32_t *labels, uint32_t *sizes, uint64_t *best);
    /* facts (MF_FACT_FIRST + 2 · size) of both masks (2, size, size) */
    void (*facts)(struct mf_backend *be, const uint8_t *masks, size_t size, uint32_t *facts);
    void (*region)(struct mf_backend *be, const struct mf_device_region *r);

    /* Means as sharpness.h wants them: cells (rows, cols) */
    void (*cells)(struct mf_backend *be, const float *image, size_t image_cols, size_t rows,
                  size_t cols, size_t step, size_t stride, float *cells);
    /* Sums as quality.h wants them: of every row of every part sum, squares and white, sums (parts,
     * rows, 3). `noise` is the part whose sum is of Immerkær's mask. */
    void (*sums)(struct mf_backend *be, const float *image, size_t cols,
                 const struct mf_device_part *parts, size_t count, size_t rows, size_t step,
                 size_t noise, double *sums);

    /* Gradients of the mean entropy over `count` activations u (count, width), each scaled by
     * `scale`: of study b dgamma, dbeta (count, width), loss (count). */
    void (*head_gradient)(struct mf_backend *be, const struct mf_device_head *head, const double *u,
                          size_t count, double scale, double *dgamma, double *dbeta, double *loss);
    /* Each study's own step: logits z (count, labels) after γ and β have moved against its gradient
     * at `rate`, by `bound` · |γ| at most. */
    void (*head_step)(struct mf_backend *be, const struct mf_device_head *head, const double *u,
                      size_t count, double rate, double bound, const double *dgamma,
                      const double *dbeta, double *z);
    /* y (width) = sum of `count` rows, in their order */
    void (*head_sum)(struct mf_backend *be, const double *x, size_t count, size_t width, double *y);
};

/* Floats of scratch that resampling wants: rows first where they become fewer. */
static inline size_t mf_device_between(size_t in_rows, size_t in_cols, size_t out_rows,
                                       size_t out_cols)
{
    return in_rows < out_rows ? in_rows * out_cols : out_rows * in_cols;
}

enum { MF_EQUALISE_LEVELS = 256, MF_EQUALISE_TILES = 8 };
enum { MF_EQUALISE_ROOM = 2 * MF_EQUALISE_TILES * MF_EQUALISE_TILES * MF_EQUALISE_LEVELS };

#ifdef __cplusplus
}
#endif

#endif
