/* The CUDA backend's work on frames, masks and the head: engine/frame_ops.h, every operation a
 * launch on the backend's stream. */
#include "engine/cuda/backend.h"
#include "engine/cuda/frame_kernels.h"

/* Starts a kernel on `n` things: nothing to do where there are none. Indices come up from the host:
 * after a failure, which may be got over (no memory), they are not there. */
#define START(be, n, name, ...)                                                                    \
    do {                                                                                           \
        if ((n) > 0 && !mf_gpu_failed((be)->gpu))                                                  \
            mf_gpu_note((be)->gpu, mf_launch_##name((be)->stream, __VA_ARGS__),                    \
                        "starting " #name);                                                        \
    } while (0)

static void put(struct mf_backend *be, void *device, const void *host, size_t bytes)
{
    mf_gpu_upload(be->gpu, device, host, bytes);
}

static void get(struct mf_backend *be, void *host, const void *device, size_t bytes)
{
    mf_gpu_download(be->gpu, host, device, bytes);
}

static void fill(struct mf_backend *be, int slot, void *device, const void *host, size_t bytes)
{
    mf_gpu_fill(be->gpu, slot, device, host, bytes);
}

static void count(struct mf_backend *be, const void *samples, size_t bytes, size_t n,
                  uint32_t *counts)
{
    START(be, n, count, samples, bytes, n, counts);
}

static void display(struct mf_backend *be, const void *samples, size_t bytes, size_t n,
                    const float *table, float *image)
{
    START(be, n, display, samples, bytes, n, table, image);
}

static void equalise(struct mf_backend *be, enum mf_equalisation kind, float *image, size_t rows,
                     size_t cols, float *room)
{
    START(be, kind == MF_EQUALISE_NONE ? 0 : rows * cols, equalise, kind, image, rows, cols, room);
}

static void resample(struct mf_backend *be, const struct mf_device_resample *r)
{
    START(be, r->rows.out * r->cols.out, resample, r);
}

static void weight(struct mf_backend *be, const struct mf_device_weighting *w)
{
    START(be, w->cols.out, weight, w);
}

static void mask_counts(struct mf_backend *be, const float *logits, size_t cells, size_t apart,
                        size_t masks, float delta, uint32_t *counts)
{
    START(be, cells * masks, mask_counts, logits, cells, apart, masks, delta, counts);
}

static void component(struct mf_backend *be, const float *soft, size_t size, uint8_t *mask,
                      uint32_t *labels, uint32_t *sizes, uint64_t *best)
{
    START(be, size, component, soft, size, mask, labels, sizes, best);
}

static void facts(struct mf_backend *be, const uint8_t *masks, size_t size, uint32_t *to)
{
    START(be, size, facts, masks, size, to);
}

static void region(struct mf_backend *be, const struct mf_device_region *r)
{
    START(be, r->size, region, r);
}

static void cells(struct mf_backend *be, const float *image, size_t image_cols, size_t rows,
                  size_t cols, size_t step, size_t stride, float *to)
{
    START(be, rows * cols, cells, image, image_cols, rows, cols, step, stride, to);
}

static void sums(struct mf_backend *be, const float *image, size_t cols,
                 const struct mf_device_part *parts, size_t n, size_t rows, size_t step,
                 size_t noise, double *to)
{
    START(be, n * rows, sums, image, cols, parts, n, rows, step, noise, to);
}

static void head_gradient(struct mf_backend *be, const struct mf_device_head *head, const double *u,
                          size_t n, double scale, double *dgamma, double *dbeta, double *loss)
{
    START(be, n, head_gradient, head, u, n, scale, dgamma, dbeta, loss);
}

static void head_step(struct mf_backend *be, const struct mf_device_head *head, const double *u,
                      size_t n, double rate, double bound, const double *dgamma,
                      const double *dbeta, double *z)
{
    START(be, n, head_step, head, u, n, rate, bound, dgamma, dbeta, z);
}

static void head_sum(struct mf_backend *be, const double *x, size_t n, size_t width, double *y)
{
    START(be, width, head_sum, x, n, width, y);
}

const struct mf_frame_ops mf_cuda_frame_ops = {
    .put = put,
    .get = get,
    .fill = fill,
    .count = count,
    .display = display,
    .equalise = equalise,
    .resample = resample,
    .weight = weight,
    .mask_counts = mask_counts,
    .component = component,
    .facts = facts,
    .region = region,
    .cells = cells,
    .sums = sums,
    .head_gradient = head_gradient,
    .head_step = head_step,
    .head_sum = head_sum,
};
