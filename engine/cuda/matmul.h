/*
 * Products of matrices, planned per shape: y (m, out) = x (m, in) · weightᵀ + bias. The fence
 * around cuBLASLt (matmul.c); tests put plain loops in its place.
 */
#ifndef MF_ENGINE_CUDA_MATMUL_H
#define MF_ENGINE_CUDA_MATMUL_H

#include "engine/cuda/device.h"

#include <stdint.h>

struct mf_matmuls; /* the library's state on one GPU, and its work memory */
struct mf_matmul;  /* one shape */

struct mf_matmul_shape {
    size_t m, out, in;
    size_t x_row, weight_row; /* rows of x and of weight (out, in) are so many elements apart */
    bool half;                /* x and weight are bfloat16; else float, multiplied as float */
    bool half_out;            /* y is bfloat16; only with `half` */
    bool bias;                /* float, or bfloat16 with `half_out` */
    bool relu;
    bool add; /* y += …; y is float */
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
