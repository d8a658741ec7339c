/* dnn.h where cuDNN's headers were not there when the program was built. */
#include "engine/cuda/dnn.h"

struct mf_dnn *mf_dnn_new(struct mf_gpu *gpu, struct mf_error *err)
{
    (void)gpu;
    mf_error_set(err, MF_ERR_UNAVAILABLE, "this program was built without cuDNN");
    return NULL;
}

void mf_dnn_free(struct mf_dnn *dnn)
{
    (void)dnn;
}

size_t mf_dnn_version(const struct mf_dnn *dnn)
{
    (void)dnn;
    return 0;
}

size_t mf_dnn_shapes(const struct mf_dnn *dnn, size_t *ret_refused)
{
    (void)dnn;
    *ret_refused = 0;
    return 0;
}

const struct mf_dnn_plan *mf_dnn_plan_conv(struct mf_dnn *dnn, const struct mf_dnn_conv *shape)
{
    (void)dnn, (void)shape;
    return NULL;
}

const struct mf_dnn_plan *mf_dnn_plan_attention(struct mf_dnn *dnn, const struct mf_attention *at)
{
    (void)dnn, (void)at;
    return NULL;
}

size_t mf_dnn_plan_work(const struct mf_dnn_plan *plan)
{
    (void)plan;
    return 0;
}

void mf_dnn_convolve(struct mf_dnn *dnn, const struct mf_dnn_plan *plan, const void *x,
                     const void *filters, const float *bias, void *y, void *work)
{
    (void)dnn, (void)plan, (void)x, (void)filters, (void)bias, (void)y, (void)work;
}

void mf_dnn_attend(struct mf_dnn *dnn, const struct mf_dnn_plan *plan, const void *q, const void *k,
                   const void *v, void *o, void *work)
{
    (void)dnn, (void)plan, (void)q, (void)k, (void)v, (void)o, (void)work;
}
