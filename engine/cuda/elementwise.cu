/* Kernels of one element each: activations, gates, sums, conversion. */
#include "engine/cuda/kernel.cuh"
#include "engine/cuda/kernels.h"

static __device__ __forceinline__ float gelu_of(float x)
{
    return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f));
}

static __device__ __forceinline__ float sigmoid_of(float x)
{
    return 1.0f / (1.0f + expf(-x));
}

template <int OP>
static __device__ __forceinline__ float apply(float x)
{
    switch (OP) {
    case MF_UNARY_GELU:
        return gelu_of(x);
    case MF_UNARY_RELU:
        return x > 0 ? x : 0;
    case MF_UNARY_SILU:
        return x * sigmoid_of(x);
    case MF_UNARY_SIGMOID:
        return sigmoid_of(x);
    default:
        return tanhf(x);
    }
}

template <int OP>
__global__ void unary_kernel(const float *x, size_t n, float *y)
{
    MF_EACH(i, n)
    y[i] = apply<OP>(x[i]);
}

template <int OP>
static int start_unary(void *stream, const float *x, size_t n, float *y)
{
    auto kernel = unary_kernel<OP>;
    return MF_LAUNCH(kernel, mf_blocks(n), MF_BLOCK, 0, stream, x, n, y);
}

extern "C" int mf_launch_unary(void *stream, enum mf_unary op, const float *x, size_t n, float *y)
{
    switch (op) {
    case MF_UNARY_GELU:
        return start_unary<MF_UNARY_GELU>(stream, x, n, y);
    case MF_UNARY_RELU:
        return start_unary<MF_UNARY_RELU>(stream, x, n, y);
    case MF_UNARY_SILU:
        return start_unary<MF_UNARY_SILU>(stream, x, n, y);
    case MF_UNARY_SIGMOID:
        return start_unary<MF_UNARY_SIGMOID>(stream, x, n, y);
    default:
        return start_unary<MF_UNARY_TANH>(stream, x, n, y);
    }
}

/* Two at a time: n is even, or the last one is alone. */
__global__ void gelu_half_kernel(mf_bf16 *y, size_t n)
{
    MF_EACH(i, (n + 1) / 2)
    {
        mf_store(y + 2 * i, gelu_of(mf_to_float(y[2 * i])));
        if (2 * i + 1 < n)
            mf_store(y + 2 * i + 1, gelu_of(mf_to_float(y[2 * i + 1])));
    }
}

extern "C" int mf_launch_gelu(void *stream, void *y, size_t n, bool half)
{
    if (!half)
        return start_unary<MF_UNARY_GELU>(stream, (const float *)y, n, (float *)y);
    return MF_LAUNCH(gelu_half_kernel, mf_blocks((n + 1) / 2), MF_BLOCK, 0, stream, (mf_bf16 *)y,
                     n);
}

__global__ void glu_kernel(bool silu, const float *x, size_t n, size_t half, float *y)
{
    MF_EACH(i, n)
    {
        const float *row = x + i / half * 2 * half + i % half;
        float a = row[0], b = row[half];
        y[i] = silu ? a * sigmoid_of(a) * b : a * (b > 0 ? b : 0);
    }
}

extern "C" int mf_launch_glu(void *stream, enum mf_glu op, const float *x, size_t rows, size_t half,
                             float *y)
{
    return MF_LAUNCH(glu_kernel, mf_blocks(rows * half), MF_BLOCK, 0, stream, op == MF_GLU_SILU, x,
                     rows * half, half, y);
}

__global__ void add_kernel(const float *x, size_t x_count, size_t n, float scale, float *y)
{
    MF_EACH(i, n)
    y[i] += scale * x[i % x_count];
}

__global__ void add_all_kernel(const float *x, size_t n, float scale, float *y)
{
    MF_EACH(i, n)
    y[i] += scale * x[i];
}

extern "C" int mf_launch_add(void *stream, const float *x, size_t x_rows, size_t rows, size_t width,
                             float scale, float *y)
{
    size_t n = rows * width;
    if (x_rows == rows)
        return MF_LAUNCH(add_all_kernel, mf_blocks(n), MF_BLOCK, 0, stream, x, n, scale, y);
    return MF_LAUNCH(add_kernel, mf_blocks(n), MF_BLOCK, 0, stream, x, x_rows * width, n, scale, y);
}

__global__ void scale_kernel(float factor, size_t n, float *y)
{
    MF_EACH(i, n)
    y[i] *= factor;
}

extern "C" int mf_launch_scale(void *stream, float factor, size_t n, float *y)
{
    return MF_LAUNCH(scale_kernel, mf_blocks(n), MF_BLOCK, 0, stream, factor, n, y);
}

/* Two columns at a time; y_row is even. */
__global__ void halve_kernel(const float *x, size_t n, size_t width, size_t x_row, uint32_t *y,
                             size_t pairs)
{
    MF_EACH(i, n)
    {
        size_t column = i % pairs * 2;
        const float *row = x + i / pairs * x_row;
        y[i] = mf_pack(column < width ? row[column] : 0, column + 1 < width ? row[column + 1] : 0);
    }
}

extern "C" int mf_launch_halve(void *stream, const float *x, size_t rows, size_t width,
                               size_t x_row, uint16_t *y, size_t y_row)
{
    size_t n = rows * (y_row / 2);
    return MF_LAUNCH(halve_kernel, mf_blocks(n), MF_BLOCK, 0, stream, x, n, width, x_row,
                     (uint32_t *)y, y_row / 2);
}
