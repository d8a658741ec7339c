/*
 * Products of matrices, planned per shape: y (m, out) = x (m, in) · weightᵀ + bias. The fence
 * around cuBLASLt (matmul.c); tests put a made-up library in its place.
 *
 * Whatever m is, a layer's products are computed in the same way, tile by tile in the same order:
 * a row of y depends on its row of x alone, bit by bit, and not on the rows beside it.
 */
#ifndef MF_ENGINE_CUDA_MATMUL_H
#define MF_ENGINE_CUDA_MATMUL_H

#include "engine/cuda/device.h"

#include <stdint.h>

struct mf_matmuls; /* the library's state on one GPU, and its work memory */
struct mf_matmul;  /* one shape */

enum mf_number {
    MF_NUMBER_F32,  /* multiplied as floats, no TF32 */
    MF_NUMBER_BF16, /* bfloat16 */
    MF_NUMBER_E4M3  /* 8 bits: 1 sign, 4 exponent, 3 mantissa; sm_89 and later */
};

struct mf_matmul_shape {
    size_t m, out, in;
    size_t x_row, weight_row; /* rows of x and of weight (out, in) are so many elements apart */
    enum mf_number type;      /* of x and weight; sums are floats */
    bool half_out;            /* y is bfloat16, not float; not with MF_NUMBER_F32 */
    bool bias;                /* of y's type; bfloat16 with MF_NUMBER_E4M3 */
    bool relu;
    bool add;      /* y += …; y is float */
    bool few_rows; /* m is a handful as a rule */
    /* What x and weight were divided by, on the device; with MF_NUMBER_E4M3 only. */
    const float *x_scale, *weight_scale;
};

struct mf_matmuls *mf_matmuls_new(struct mf_gpu *gpu, struct mf_error *err) MF_CHECK_RESULT;
void mf_matmuls_free(struct mf_matmuls *all);
/* MF_ERR_UNAVAILABLE when the library cannot do it. */
struct mf_matmul *mf_matmul_new(struct mf_matmuls *all, const struct mf_matmul_shape *shape,
                                struct mf_error *err) MF_CHECK_RESULT;
void mf_matmul_free(struct mf_matmul *plan);
void mf_matmul_run(struct mf_matmul *plan, const void *x, const void *weight, const void *bias,
                   void *y);

#endif
