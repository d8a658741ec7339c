/* The inside of a linear layer on a GPU, for the files that compute with it. */
#ifndef MF_ENGINE_CUDA_LINEAR_PRIVATE_H
#define MF_ENGINE_CUDA_LINEAR_PRIVATE_H

#include "engine/cuda/backend.h"

/* What a plan is for. */
struct use {
    size_t m, x_row;
    bool relu, add, half_out;
};

struct plan {
    struct plan *next;
    struct use use;
    struct mf_matmul *matmul;
};

struct plans {
    struct plan *first;
};

/* Weights of a convolution as cuDNN reads them: (out, kernel_h, kernel_w, channels), channels
 * padded with zeros. */
struct filters {
    void *memory; /* NULL: not made */
    size_t kernel_h, kernel_w, channels;
};

struct mf_linear {
    struct mf_backend *be;
    size_t out, in, row; /* row: of a row of weights, padded */
    size_t bytes;
    bool half, few_rows;
    bool eight;    /* weights are E4M3, and x becomes it before the product; `half` too */
    float factor;  /* of x before it becomes E4M3 */
    float *scales; /* what x and weights were divided by, on the device; NULL unless `eight` */
    void *weight;
    float *bias;         /* NULL: none */
    uint16_t *half_bias; /* the same as bfloat16; NULL unless `half` */
    struct plans *plans;
    struct filters filters;
};

#endif
