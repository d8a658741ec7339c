/* Kernels that change how numbers are held, or where the channels of an image lie. */
#include "engine/cuda/e4m3.h"
#include "engine/cuda/kernel.cuh"
#include "engine/cuda/kernels.h"

/* An output element a thread: y (groups, cells, padded). */
template <typename From, typename To>
__global__ void pack_channels_kernel(const From *x, size_t n, struct mf_channels c, To *y)
{
    MF_EACH(i, n)
    {
        size_t channel = i % c.padded, cell = i / c.padded % c.cells,
               group = i / c.padded / c.cells;
        size_t at = c.last ? cell * c.channels + channel : channel * c.cells + cell;
        mf_store(y + i, channel < c.channels ? mf_to_float(x[group * c.group + at]) : 0.0f);
    }
}

template <typename From, typename To>
static int start_pack(void *stream, const struct mf_channels *c, const void *x, void *y)
{
    auto kernel = pack_channels_kernel<From, To>;
    size_t n = c->groups * c->cells * c->padded;
    return MF_LAUNCH(kernel, mf_blocks(n), MF_BLOCK, 0, stream, (const From *)x, n, *c, (To *)y);
}

extern "C" int mf_launch_pack_channels(void *stream, const struct mf_channels *c, const void *x,
                                       void *y)
{
    if (c->from_half)
        return start_pack<mf_bf16, mf_bf16>(stream, c, x, y);
    return c->half ? start_pack<float, mf_bf16>(stream, c, x, y)
                   : start_pack<float, float>(stream, c, x, y);
}

__global__ void widen_kernel(const mf_bf16 *x, size_t n, size_t width, float *y, size_t y_row)
{
    MF_EACH(i, n)
    y[i / width * y_row + i % width] = mf_to_float(x[i]);
}

extern "C" int mf_launch_widen(void *stream, const uint16_t *x, size_t rows, size_t width, float *y,
                               size_t y_row)
{
    return MF_LAUNCH(widen_kernel, mf_blocks(rows * width), MF_BLOCK, 0, stream, (const mf_bf16 *)x,
                     rows * width, width, y, y_row);
}

__global__ void quantise_kernel(const mf_bf16 *x, size_t n, float factor, uint8_t *y)
{
    MF_EACH(i, n)
    y[i] = mf_e4m3(mf_to_float(x[i]) * factor);
}

extern "C" int mf_launch_quantise(void *stream, const uint16_t *x, size_t n, float factor,
                                  uint8_t *y)
{
    return MF_LAUNCH(quantise_kernel, mf_blocks(n), MF_BLOCK, 0, stream, (const mf_bf16 *)x, n,
                     factor, y);
}
