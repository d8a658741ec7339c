/*
 * Convolutions by cuDNN. What a network knows is a linear layer over unfolded patches
 * (engine/exec.h): its rows of weights are the filters. Here they are laid out once as the library
 * reads them, and an image is converted into scratch memory, channels last and padded to whole
 * words.
 */
#include "engine/cuda/linear_private.h"

#include <string.h>

enum { HALF_CHANNELS = 8, FLOAT_CHANNELS = 4, WORTH_CHANNELS = 16 };

static size_t padded_channels(const struct mf_linear *l, size_t channels)
{
    size_t unit = l->half ? HALF_CHANNELS : FLOAT_CHANNELS;
    return (channels + unit - 1) / unit * unit;
}

/* Whether the library is to be asked. Of few channels, unfolding writes little and padding computes
 * much: patch embeddings are the own kernels' unless all is wanted of the library; and so are
 * floats, which both multiply alike. */
static bool wanted(const struct mf_linear *l, const struct mf_unfold *u, enum mf_epilogue epilogue)
{
    if (l->eight || (epilogue != MF_EPILOGUE_NONE && epilogue != MF_EPILOGUE_RELU))
        return false;
    if (l->out % (l->half ? HALF_CHANNELS : FLOAT_CHANNELS) != 0 ||
        l->in != u->channels * u->kernel_h * u->kernel_w)
        return false;
    return l->be->kernels == MF_CUDA_DNN ||
           (l->be->kernels == MF_CUDA_AUTO && l->half && u->channels >= WORTH_CHANNELS &&
            u->kernel_h * u->kernel_w > 1);
}

static struct mf_dnn_conv shape_of(const struct mf_linear *l, const struct mf_unfold *u,
                                   enum mf_epilogue epilogue)
{
    return (struct mf_dnn_conv){.batch = u->batch,
                                .channels = padded_channels(l, u->channels),
                                .height = u->height,
                                .width = u->width,
                                .out = l->out,
                                .kernel_h = u->kernel_h,
                                .kernel_w = u->kernel_w,
                                .stride_h = u->stride_h,
                                .stride_w = u->stride_w,
                                .pad_h = u->pad_h,
                                .pad_w = u->pad_w,
                                .half = l->half,
                                .bias = l->bias != NULL,
                                .relu = epilogue == MF_EPILOGUE_RELU};
}

static size_t number_bytes(const struct mf_linear *l)
{
    return l->half ? sizeof(uint16_t) : sizeof(float);
}

/* Whether rows of weights are the filters as they lie. */
static bool in_place(const struct mf_linear *l, const struct mf_unfold *u)
{
    return u->channels_last && padded_channels(l, u->channels) == u->channels && l->row == l->in;
}

/* The filters in the library's order; they are made once, while the network is planned. */
static const void *filters_of(struct mf_linear *l, const struct mf_unfold *u)
{
    struct filters *f = &l->filters;
    size_t cells = u->kernel_h * u->kernel_w, channels = padded_channels(l, u->channels);
    if (in_place(l, u))
        return l->weight;
    if (f->memory)
        return f->kernel_h == u->kernel_h && f->kernel_w == u->kernel_w && f->channels == channels
                   ? f->memory
                   : NULL;
    f->memory = mf_gpu_alloc(l->be->gpu, l->out * cells * channels * number_bytes(l), NULL);
    if (!f->memory)
        return NULL;
    f->kernel_h = u->kernel_h;
    f->kernel_w = u->kernel_w;
    f->channels = channels;
    const struct mf_channels c = {.groups = l->out,
                                  .group = l->row,
                                  .cells = cells,
                                  .channels = u->channels,
                                  .padded = channels,
                                  .last = u->channels_last,
                                  .from_half = l->half,
                                  .half = l->half};
    mf_gpu_note(l->be->gpu, mf_launch_pack_channels(l->be->stream, &c, l->weight, f->memory),
                "starting to lay out filters");
    return f->memory;
}

/* Whether the image is read as it lies. */
static bool image_in_place(const struct mf_linear *l, const struct mf_unfold *u)
{
    return !l->half && u->channels_last && padded_channels(l, u->channels) == u->channels;
}

static size_t image_bytes(const struct mf_linear *l, const struct mf_unfold *u)
{
    return u->batch * u->height * u->width * padded_channels(l, u->channels) * number_bytes(l);
}

static size_t output_bytes(const struct mf_linear *l, const struct mf_unfold *u)
{
    return l->half ? mf_unfold_rows(u) * l->out * sizeof(uint16_t) : 0;
}

size_t mf_cuda_conv_scratch(struct mf_linear *l, const struct mf_unfold *u,
                            enum mf_epilogue epilogue)
{
    struct mf_dnn *dnn = wanted(l, u, epilogue) ? mf_cuda_dnn(l->be) : NULL;
    const struct mf_dnn_conv shape = shape_of(l, u, epilogue);
    const struct mf_dnn_plan *plan = dnn ? mf_dnn_plan_conv(dnn, &shape) : NULL;
    if (!plan || !filters_of(l, u))
        return 0;
    return mf_cuda_room(mf_dnn_plan_work(plan)) + mf_cuda_room(output_bytes(l, u)) +
           mf_cuda_room(image_in_place(l, u) ? 0 : image_bytes(l, u));
}

/* The image as the library reads it. */
static const void *lay_out(struct mf_linear *l, const struct mf_unfold *u, const float *x,
                           float *room)
{
    if (image_in_place(l, u))
        return x;
    const struct mf_channels c = {.groups = u->batch,
                                  .group = u->height * u->width * u->channels,
                                  .cells = u->height * u->width,
                                  .channels = u->channels,
                                  .padded = padded_channels(l, u->channels),
                                  .last = u->channels_last,
                                  .half = l->half};
    void *image = mf_cuda_aligned(room);
    mf_gpu_note(l->be->gpu, mf_launch_pack_channels(l->be->stream, &c, x, image),
                "starting to lay out an image");
    return image;
}

void mf_cuda_conv(struct mf_linear *l, const struct mf_unfold *u, const float *x, float *y,
                  enum mf_epilogue epilogue, float *scratch)
{
    const struct mf_dnn_conv shape = shape_of(l, u, epilogue);
    const struct mf_dnn_plan *plan = mf_dnn_plan_conv(l->be->dnn, &shape);
    float *outputs = scratch + mf_cuda_room(mf_dnn_plan_work(plan));
    void *halves = mf_cuda_aligned(outputs);
    const void *image = lay_out(l, u, x, outputs + mf_cuda_room(output_bytes(l, u)));
    mf_dnn_convolve(l->be->dnn, plan, image, filters_of(l, u), l->bias, l->half ? halves : y,
                    mf_cuda_aligned(scratch));
    if (l->half)
        mf_gpu_note(l->be->gpu,
                    mf_launch_widen(l->be->stream, halves, mf_unfold_rows(u), l->out, y, l->out),
                    "starting a conversion");
}
