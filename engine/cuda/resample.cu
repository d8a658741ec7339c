/*
 * Separable resampling by the taps of engine/resample.h (bilinear and bicubic, antialiased or not),
 * with the normalisation to a network's input in its last pass, and the region's weight laid on a
 * frame. Along columns a sum rounds products and sums, along rows it fuses them, which is what the
 * host's kernels do on a processor with fused multiply-adds.
 */
#include "engine/cuda/frame_kernels.h"
#include "engine/cuda/kernel.cuh"

/* Where the last pass writes: element i of n. */
struct target {
    float *out, *planes;
    size_t n;
    float mean[3], std[3];
};

static __device__ __forceinline__ void finish(const target &to, size_t i, float value)
{
    if (to.out)
        to.out[i] = value;
    for (int c = 0; to.planes && c < 3; c++)
        to.planes[(size_t)c * to.n + i] = (value - to.mean[c]) / to.std[c];
}

/* in (rows; in_row apart) → (rows, axis.out) */
__global__ void columns_kernel(mf_device_axis axis, const float *__restrict__ in, size_t in_row,
                               size_t rows, target to)
{
    MF_EACH(i, rows * axis.out)
    {
        size_t x = i % axis.out;
        const float *row = in + i / axis.out * in_row, *weight = axis.weight + x * axis.taps;
        const uint32_t *index = axis.index + x * axis.taps;
        float sum = 0;
        for (size_t j = 0; j < axis.taps; j++)
            sum += weight[j] * row[index[j]];
        finish(to, i, sum);
    }
}

static __device__ __forceinline__ float down(const mf_device_axis &axis, size_t y,
                                             const float *__restrict__ in, size_t in_row, size_t x)
{
    const float *weight = axis.weight + y * axis.taps;
    const uint32_t *index = axis.index + y * axis.taps;
    float sum = 0;
    for (size_t j = 0; j < axis.taps; j++)
        if (weight[j] != 0)
            sum = fmaf(weight[j], in[index[j] * in_row + x], sum);
    return sum;
}

/* in (·, width; in_row apart) → (axis.out, width) */
__global__ void rows_kernel(mf_device_axis axis, const float *__restrict__ in, size_t in_row,
                            size_t width, target to)
{
    MF_EACH(i, axis.out * width)
    finish(to, i, down(axis, i / width, in, in_row, i % width));
}

static int run_columns(void *stream, const mf_device_axis &axis, const float *in, size_t in_row,
                       size_t rows, const target &to)
{
    return MF_LAUNCH(columns_kernel, mf_blocks(rows * axis.out), MF_BLOCK, 0, stream, axis, in,
                     in_row, rows, to);
}

static int run_rows(void *stream, const mf_device_axis &axis, const float *in, size_t in_row,
                    size_t width, const target &to)
{
    return MF_LAUNCH(rows_kernel, mf_blocks(axis.out * width), MF_BLOCK, 0, stream, axis, in,
                     in_row, width, to);
}

extern "C" int mf_launch_resample(void *stream, const struct mf_device_resample *r)
{
    const target between = {r->between, NULL, 0, {0}, {0}};
    const target last = {r->out,
                         r->planes,
                         r->rows.out * r->cols.out,
                         {r->mean[0], r->mean[1], r->mean[2]},
                         {r->std[0], r->std[1], r->std[2]}};
    bool columns_first = r->in_rows < r->rows.out; /* fewer rows to do them in */
    int failed = columns_first ? run_columns(stream, r->cols, r->in, r->in_row, r->in_rows, between)
                               : run_rows(stream, r->rows, r->in, r->in_row, r->in_cols, between);
    if (failed)
        return failed;
    return columns_first ? run_rows(stream, r->rows, r->between, r->cols.out, r->cols.out, last)
                         : run_columns(stream, r->cols, r->between, r->in_cols, r->rows.out, last);
}

__global__ void weight_kernel(mf_device_axis rows, const float *__restrict__ between, float *image,
                              size_t cols, size_t x0, size_t y0, size_t width, size_t n, float base,
                              float rest)
{
    MF_EACH(i, n)
    {
        size_t y = y0 + i / width, x = x0 + i % width;
        image[y * cols + x] *= base + rest * down(rows, y, between, cols, x);
    }
}

extern "C" int mf_launch_weight(void *stream, const struct mf_device_weighting *w)
{
    size_t cols = w->cols.out, width = w->box[2] - w->box[0], n = width * (w->box[3] - w->box[1]);
    const target between = {w->between, NULL, 0, {0}, {0}};
    int failed = run_columns(stream, w->cols, w->soft, w->size, w->size, between);
    if (failed || n == 0)
        return failed;
    return MF_LAUNCH(weight_kernel, mf_blocks(n), MF_BLOCK, 0, stream, w->rows, w->between,
                     w->image, cols, w->box[0], w->box[1], width, n, w->base, w->rest);
}
