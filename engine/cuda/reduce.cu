/* Kernels that add up over positions: a thread an output, neighbours in a row reading neighbours in
 * memory. */
#include "engine/cuda/kernel.cuh"
#include "engine/cuda/kernels.h"

/* y[j][i] = w[j] · x[i] */
__global__ void dot_rows_kernel(const float *x, size_t m, size_t k, const float *w, size_t count,
                                float *y)
{
    MF_EACH(t, count)
    {
        const float *row = x + t % m * k, *weights = w + t / m * k;
        float sum = 0;
        for (size_t d = 0; d < k; d++)
            sum += row[d] * weights[d];
        y[t] = sum;
    }
}

extern "C" int mf_launch_dot_rows(void *stream, const float *x, size_t m, size_t k, const float *w,
                                  size_t n, float *y)
{
    return MF_LAUNCH(dot_rows_kernel, mf_blocks(n * m), MF_BLOCK, 0, stream, x, m, k, w, n * m, y);
}

__global__ void region_pool_kernel(const float *x, size_t rows, size_t cols, size_t width, size_t r,
                                   float *y)
{
    MF_EACH(t, r * r * width)
    {
        size_t d = t % width, i = t / width / r, j = t / width % r;
        size_t y0 = i * rows / r, y1 = ((i + 1) * rows + r - 1) / r;
        size_t x0 = j * cols / r, x1 = ((j + 1) * cols + r - 1) / r;
        float sum = 0;
        for (size_t a = y0; a < y1; a++)
            for (size_t b = x0; b < x1; b++)
                sum += x[(a * cols + b) * width + d];
        y[t] = sum / (float)((y1 - y0) * (x1 - x0));
    }
}

extern "C" int mf_launch_region_pool(void *stream, const float *x, size_t rows, size_t cols,
                                     size_t width, size_t r, float *y)
{
    return MF_LAUNCH(region_pool_kernel, mf_blocks(r * r * width), MF_BLOCK, 0, stream, x, rows,
                     cols, width, r, y);
}

__global__ void row_mean_kernel(const float *x, size_t rows, size_t width, float *y)
{
    MF_EACH(i, width)
    {
        float sum = 0;
        for (size_t r = 0; r < rows; r++)
            sum += x[r * width + i];
        y[i] = sum / (float)rows;
    }
}

extern "C" int mf_launch_row_mean(void *stream, const float *x, size_t rows, size_t width, float *y)
{
    return MF_LAUNCH(row_mean_kernel, mf_blocks(width), MF_BLOCK, 0, stream, x, rows, width, y);
}

__global__ void depthwise_kernel(const float *x, size_t h, size_t w, size_t c, const float *weight,
                                 const float *bias, size_t k, float *y)
{
    size_t pad = k / 2;
    MF_EACH(t, h * w * c)
    {
        size_t i = t % c, ox = t / c % w, oy = t / c / w;
        float sum = bias[i];
        for (size_t ky = 0; ky < k; ky++)
            for (size_t kx = 0; kx < k; kx++) {
                size_t iy = oy + ky, ix = ox + kx; /* `pad` too large */
                if (iy >= pad && iy - pad < h && ix >= pad && ix - pad < w)
                    sum += x[((iy - pad) * w + ix - pad) * c + i] * weight[(ky * k + kx) * c + i];
            }
        y[t] = sum;
    }
}

extern "C" int mf_launch_depthwise(void *stream, const float *x, size_t h, size_t w, size_t c,
                                   const float *weight, const float *bias, size_t k, float *y)
{
    return MF_LAUNCH(depthwise_kernel, mf_blocks(h * w * c), MF_BLOCK, 0, stream, x, h, w, c,
                     weight, bias, k, y);
}
