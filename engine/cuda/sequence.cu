/*
 * Mamba's causal convolution and its recurrence. The recurrence is sequential in time and parallel
 * over channels and states: LANES neighbouring threads share a channel, each holding every LANES-th
 * state in registers, and add up their parts of y after every step.
 */
#include "engine/cuda/kernel.cuh"
#include "engine/cuda/kernels.h"

static __device__ __forceinline__ float silu_of(float x)
{
    return x / (1.0f + expf(-x));
}

__global__ void causal_conv_kernel(const float *x, size_t n, size_t c, size_t x_row,
                                   const float *weight, const float *bias, size_t k, float *y)
{
    MF_EACH(i, n)
    {
        size_t t = i / c, channel = i % c;
        float sum = bias[channel];
        for (size_t j = t + 1 >= k ? 0 : k - 1 - t; j < k; j++)
            sum += x[(t + j + 1 - k) * x_row + channel] * weight[j * c + channel];
        y[i] = silu_of(sum);
    }
}

extern "C" int mf_launch_causal_conv(void *stream, const float *x, size_t t, size_t c, size_t x_row,
                                     const float *weight, const float *bias, size_t k, float *y)
{
    return MF_LAUNCH(causal_conv_kernel, mf_blocks(t * c), MF_BLOCK, 0, stream, x, t * c, c, x_row,
                     weight, bias, k, y);
}

enum { LANES = 4, CHANNELS = 32, MOST_STATES = 256 };

static __device__ __forceinline__ float softplus_of(float x)
{
    return x > 20.0f ? x : log1pf(expf(x));
}

/* Each thread holds at most EACH states. Threads past the last channel follow it without writing,
 * because every lane of a warp takes part in the sums. */
template <int EACH>
__global__ void scan_kernel(struct mf_scan s, float *__restrict__ y)
{
    size_t at = (size_t)blockIdx.x * CHANNELS + threadIdx.y, lane = threadIdx.x;
    bool real = at < s.channels;
    size_t channel = real ? at : s.channels - 1;
    float h[EACH], a[EACH];
    MF_UNROLL
    for (int j = 0; j < EACH; j++) {
        size_t state = lane + (size_t)j * LANES;
        h[j] = 0;
        a[j] = state < s.states ? s.a[state * s.channels + channel] : 0;
    }
    float skip = s.d[channel];
    for (size_t t = 0; t < s.length; t++) {
        float u = s.u[t * s.channels + channel], dt = softplus_of(s.dt[t * s.channels + channel]);
        const float *b = s.b + t * s.bc_row, *c = s.c + t * s.bc_row;
        float sum = 0;
        MF_UNROLL
        for (int j = 0; j < EACH; j++) {
            size_t state = lane + (size_t)j * LANES;
            if (state < s.states) {
                h[j] = expf(dt * a[j]) * h[j] + dt * u * b[state];
                sum += c[state] * h[j];
            }
        }
        for (unsigned away = LANES / 2; away > 0; away /= 2)
            sum += __shfl_xor_sync(0xFFFFFFFFu, sum, away);
        if (lane == 0 && real)
            y[t * s.channels + channel] = (sum + skip * u) * silu_of(s.z[t * s.z_row + channel]);
    }
}

template <int EACH>
static int start_scan(void *stream, const struct mf_scan *scan, float *y)
{
    auto kernel = scan_kernel<EACH>;
    dim3 block(LANES, CHANNELS);
    unsigned grid = (unsigned)((scan->channels + CHANNELS - 1) / CHANNELS);
    return MF_LAUNCH_TOGETHER(kernel, grid, block, 0, stream, *scan, y);
}

extern "C" int mf_launch_selective_scan(void *stream, const struct mf_scan *scan, float *y)
{
    if (scan->states <= 2 * LANES)
        return start_scan<2>(stream, scan, y);
    if (scan->states <= 4 * LANES)
        return start_scan<4>(stream, scan, y);
    if (scan->states <= 16 * LANES)
        return start_scan<16>(stream, scan, y);
    return start_scan<MOST_STATES / LANES>(stream, scan, y);
}
