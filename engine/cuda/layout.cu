/* Kernels that move data, or move and add it: an output element a thread, or an input element where
 * that is what there is one of. */
#include "engine/cuda/kernel.cuh"
#include "engine/cuda/kernels.h"

__global__ void unfold_kernel(struct mf_unfold u, size_t oh, size_t ow, size_t n, const float *x,
                              float *y)
{
    size_t taps = u.kernel_h * u.kernel_w, columns = taps * u.channels;
    MF_EACH(i, n)
    {
        size_t column = i % columns, row = i / columns;
        size_t c = u.channels_last ? column % u.channels : column / taps;
        size_t tap = u.channels_last ? column / u.channels : column % taps;
        size_t iy = row / ow % oh * u.stride_h + tap / u.kernel_w;
        size_t ix = row % ow * u.stride_w + tap % u.kernel_w, b = row / ow / oh;
        bool inside =
            iy >= u.pad_h && iy - u.pad_h < u.height && ix >= u.pad_w && ix - u.pad_w < u.width;
        size_t at = 0;
        if (inside && u.channels_last)
            at = ((b * u.height + iy - u.pad_h) * u.width + ix - u.pad_w) * u.channels + c;
        else if (inside)
            at = ((b * u.channels + c) * u.height + iy - u.pad_h) * u.width + ix - u.pad_w;
        y[i] = inside ? x[at] : 0;
    }
}

extern "C" int mf_launch_unfold(void *stream, const struct mf_unfold *u, const float *x, float *y)
{
    size_t oh = (u->height + 2 * u->pad_h - u->kernel_h) / u->stride_h + 1;
    size_t ow = (u->width + 2 * u->pad_w - u->kernel_w) / u->stride_w + 1;
    size_t n = u->batch * oh * ow * u->kernel_h * u->kernel_w * u->channels;
    return MF_LAUNCH(unfold_kernel, mf_blocks(n), MF_BLOCK, 0, stream, *u, oh, ow, n, x, y);
}

__global__ void max_pool_kernel(const float *x, size_t n, size_t h, size_t w, size_t c, size_t row,
                                size_t sh, size_t sw, float *y)
{
    size_t oh = h / sh, ow = w / sw;
    MF_EACH(i, n)
    {
        size_t cell = i / c, oy = cell / ow % oh * sh, ox = cell % ow * sw, b = cell / ow / oh;
        float most = -INFINITY;
        for (size_t k = 0; k < sh * sw; k++) {
            float v = x[((b * h + oy + k / sw) * w + ox + k % sw) * row + i % c];
            most = v > most ? v : most;
        }
        y[i] = most;
    }
}

extern "C" int mf_launch_max_pool(void *stream, const float *x, size_t batch, size_t h, size_t w,
                                  size_t c, size_t row, size_t sh, size_t sw, float *y)
{
    size_t n = batch * (h / sh) * (w / sw) * c;
    return MF_LAUNCH(max_pool_kernel, mf_blocks(n), MF_BLOCK, 0, stream, x, n, h, w, c, row, sh, sw,
                     y);
}

__global__ void upsample2_add_kernel(const float *x, size_t n, size_t w, size_t c, float *y)
{
    MF_EACH(i, n)
    {
        size_t cell = i / c, r = cell / (2 * w), col = cell % (2 * w);
        y[i] += x[(r / 2 * w + col / 2) * c + i % c];
    }
}

extern "C" int mf_launch_upsample2_add(void *stream, const float *x, size_t h, size_t w, size_t c,
                                       float *y)
{
    size_t n = 4 * h * w * c;
    return MF_LAUNCH(upsample2_add_kernel, mf_blocks(n), MF_BLOCK, 0, stream, x, n, w, c, y);
}

__global__ void pixel_shuffle_add_kernel(const float *x, size_t n, size_t w, size_t c,
                                         const float *add, float *y)
{
    MF_EACH(i, n)
    {
        size_t cell = i / c, r = cell / (2 * w), col = cell % (2 * w);
        size_t k = r % 2 * 2 + col % 2;
        y[i] = x[((r / 2 * w + col / 2) * 4 + k) * c + i % c] + add[i];
    }
}

extern "C" int mf_launch_pixel_shuffle_add(void *stream, const float *x, size_t h, size_t w,
                                           size_t c, const float *add, float *y)
{
    size_t n = 4 * h * w * c;
    return MF_LAUNCH(pixel_shuffle_add_kernel, mf_blocks(n), MF_BLOCK, 0, stream, x, n, w, c, add,
                     y);
}

__global__ void reverse_rows_kernel(const float *x, size_t n, size_t rows, size_t width, float *y)
{
    MF_EACH(i, n)
    y[i] = x[(rows - 1 - i / width) * width + i % width];
}

extern "C" int mf_launch_reverse_rows(void *stream, const float *x, size_t rows, size_t width,
                                      float *y)
{
    return MF_LAUNCH(reverse_rows_kernel, mf_blocks(rows * width), MF_BLOCK, 0, stream, x,
                     rows * width, rows, width, y);
}

/* A pair a thread. */
__global__ void rotate_kernel(const float *table, size_t period, size_t n, size_t row, size_t heads,
                              size_t size, float *y)
{
    size_t half = size / 2;
    MF_EACH(i, n)
    {
        size_t r = i / (heads * half), pair = i % half;
        const float *t = table + r % period * size + 2 * pair;
        float *p = y + r * row + i / half % heads * size + 2 * pair, a = p[0], b = p[1];
        p[0] = a * t[0] - b * t[1];
        p[1] = b * t[0] + a * t[1];
    }
}

extern "C" int mf_launch_rotate(void *stream, const float *table, size_t period, size_t rows,
                                size_t row, size_t heads, size_t size, float *y)
{
    size_t n = rows * heads * (size / 2);
    return MF_LAUNCH(rotate_kernel, mf_blocks(n), MF_BLOCK, 0, stream, table, period, n, row, heads,
                     size, y);
}
