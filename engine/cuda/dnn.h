/*
 * Convolutions and fused attention of cuDNN (version 9), through its graph interface and planned
 * per shape. The fence around the library (dnn.c, dnn_graph.c, dnn_library.c), which is looked for
 * when it is first wanted: a program runs without it. Tests put a made-up library in its place.
 *
 * Whatever the batch is, a shape is computed by one engine in one configuration, chosen for the
 * largest batch: what an item gets does not depend on the items beside it, bit by bit. Engines
 * whose sums have no fixed order, or depend on how much there is to do, are never taken.
 */
#ifndef MF_ENGINE_CUDA_DNN_H
#define MF_ENGINE_CUDA_DNN_H

#include "engine/cuda/device.h"
#include "engine/exec.h"

struct mf_dnn; /* the library's state on one GPU, and its plans */
struct mf_dnn_plan;

/* y (batch, oh, ow, out) = x (batch, height, width, channels) convolved with filters (out,
 * kernel_h, kernel_w, channels), zeros outside. */
struct mf_dnn_conv {
    size_t batch, channels, height, width, out;
    size_t kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w;
    bool half; /* x, filters and y are bfloat16, else float (no TF32); sums are floats */
    bool bias; /* + a float for every output channel */
    bool relu;
};

/* Rows of y of one item: oh · ow. */
static inline size_t mf_dnn_conv_rows(const struct mf_dnn_conv *c)
{
    return ((c->height + 2 * c->pad_h - c->kernel_h) / c->stride_h + 1) *
           ((c->width + 2 * c->pad_w - c->kernel_w) / c->stride_w + 1);
}

/* The most items that are computed together: what engines are chosen for. */
enum { MF_DNN_BATCH = 32 };

/* MF_ERR_UNAVAILABLE when the library is not there or does not start. */
struct mf_dnn *mf_dnn_new(struct mf_gpu *gpu, struct mf_error *err) MF_CHECK_RESULT;
void mf_dnn_free(struct mf_dnn *dnn);
/* 10000 · major + 100 · minor + patch */
size_t mf_dnn_version(const struct mf_dnn *dnn);
/* Shapes that the library computes, and in *ret_refused those that it was asked for in vain. */
size_t mf_dnn_shapes(const struct mf_dnn *dnn, size_t *ret_refused);

/* The plan of a shape, made when it is asked for first; the library's own. NULL: it cannot do this
 * shape, at whatever batch. What it can do, but not so many of it together, is done one by one. Not
 * for the first time while work is recorded. */
const struct mf_dnn_plan *mf_dnn_plan_conv(struct mf_dnn *dnn, const struct mf_dnn_conv *shape);
/* `at` counts bfloat16; q, k, v and o are all of them. */
const struct mf_dnn_plan *mf_dnn_plan_attention(struct mf_dnn *dnn, const struct mf_attention *at);
/* Bytes of work memory that it wants, aligned to 256. */
size_t mf_dnn_plan_work(const struct mf_dnn_plan *plan);

/* Arrays of device memory, aligned to 16 bytes. */
void mf_dnn_convolve(struct mf_dnn *dnn, const struct mf_dnn_plan *plan, const void *x,
                     const void *filters, const float *bias, void *y, void *work);
void mf_dnn_attend(struct mf_dnn *dnn, const struct mf_dnn_plan *plan, const void *q, const void *k,
                   const void *v, void *o, void *work);

#endif
