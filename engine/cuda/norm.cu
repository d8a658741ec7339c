/* LayerNorm and RMSNorm: a warp a row, mean and variance in two passes over registers or memory. */
#include "engine/cuda/kernel.cuh"
#include "engine/cuda/kernels.h"

enum { ROWS = 8 }; /* warps of a block */

template <typename T>
__global__ void norm_kernel(const float *x, size_t rows, size_t width, const float *weight,
                            const float *bias, float eps, T *y, size_t y_row)
{
    size_t row = (size_t)blockIdx.x * ROWS + threadIdx.y, lane = threadIdx.x;
    if (row >= rows)
        return;
    x += row * width;
    y += row * y_row;
    float sum = 0, squares = 0;
    for (size_t i = lane; bias && i < width; i += 32)
        sum += x[i];
    float mean = mf_warp_sum(sum) / (float)width;
    for (size_t i = lane; i < width; i += 32)
        squares += (x[i] - mean) * (x[i] - mean);
    float factor = 1.0f / sqrtf(mf_warp_sum(squares) / (float)width + eps);
    for (size_t i = lane; i < y_row; i += 32)
        mf_store(y + i,
                 i < width ? (x[i] - mean) * factor * weight[i] + (bias ? bias[i] : 0.0f) : 0.0f);
}

extern "C" int mf_launch_norm(void *stream, const float *x, size_t rows, const struct mf_norm *norm,
                              void *y, size_t y_row, bool half)
{
    auto floats = norm_kernel<float>;
    auto halves = norm_kernel<mf_bf16>;
    dim3 block(32, ROWS);
    unsigned grid = (unsigned)((rows + ROWS - 1) / ROWS);
    if (half)
        return MF_LAUNCH_TOGETHER(halves, grid, block, 0, stream, x, rows, norm->width,
                                  norm->weight, norm->bias, norm->eps, (mf_bf16 *)y, y_row);
    return MF_LAUNCH_TOGETHER(floats, grid, block, 0, stream, x, rows, norm->width, norm->weight,
                              norm->bias, norm->eps, (float *)y, y_row);
}
