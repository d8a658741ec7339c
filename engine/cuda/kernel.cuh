/*
 * What kernels are written in. Under nvcc this is CUDA; under a C++ compiler the same sources run
 * on the host, one block after the other, with tests/cuda/emulate.hpp in CUDA's place: that is how
 * their arithmetic is tested where there is no GPU.
 */
#ifndef MF_ENGINE_CUDA_KERNEL_CUH
#define MF_ENGINE_CUDA_KERNEL_CUH

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __CUDACC__

#include <cuda_bf16.h>
#include <cuda_runtime.h>

/* Starts a kernel; the value is 0, or the number of an error. */
#define MF_LAUNCH(kernel, grid, block, shared, stream, ...)                                        \
    (kernel<<<grid, block, shared, (cudaStream_t)(stream)>>>(__VA_ARGS__), (int)cudaGetLastError())
/* The same for kernels whose threads wait for each other. */
#define MF_LAUNCH_TOGETHER MF_LAUNCH
#define MF_UNROLL _Pragma("unroll")
/* More than 48 KB of shared memory must be asked for. */
#define MF_ALLOW_SHARED(kernel, bytes)                                                             \
    (int)cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)(bytes))
#define MF_SHARED(type, name)                                                                      \
    extern __shared__ __align__(16) unsigned char mf_shared_[];                                    \
    type *name = (type *)mf_shared_

#else

#include "tests/cuda/emulate.hpp"

#endif

/* A bfloat16 as it lies in memory. */
struct mf_bf16 {
    uint16_t bits;
};

static __device__ __forceinline__ float mf_to_float(float x)
{
    return x;
}

static __device__ __forceinline__ float mf_to_float(mf_bf16 x)
{
    uint32_t bits = (uint32_t)x.bits << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Two floats as bfloat16, `low` in the low half; to nearest, ties to even. */
static __device__ __forceinline__ uint32_t mf_pack(float low, float high)
{
#ifdef __CUDA_ARCH__
    __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    uint32_t bits;
    memcpy(&bits, &pair, sizeof bits);
    return bits;
#else
    uint32_t half[2];
    const float value[2] = {low, high};
    for (int i = 0; i < 2; i++) {
        uint32_t bits;
        memcpy(&bits, &value[i], sizeof bits);
        half[i] = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
    }
    return half[0] | half[1] << 16;
#endif
}

static __device__ __forceinline__ void mf_store(float *to, float x)
{
    *to = x;
}

static __device__ __forceinline__ void mf_store(mf_bf16 *to, float x)
{
    to->bits = (uint16_t)mf_pack(x, 0);
}

/* The sum of `x` over a warp, in every lane. */
static __device__ __forceinline__ float mf_warp_sum(float x)
{
    for (int away = 16; away > 0; away /= 2)
        x += __shfl_xor_sync(0xFFFFFFFFu, x, away);
    return x;
}

/* A grid for one thread an element: `n` elements, 256 threads a block, each thread taking several
 * where there are very many. */
enum { MF_BLOCK = 256 };

static inline unsigned mf_blocks(size_t n)
{
    const size_t most = 1 << 20, blocks = (n + MF_BLOCK - 1) / MF_BLOCK;
    return (unsigned)(blocks < most ? blocks : most);
}

/* Element by element: for (i = …; i < n; …) */
#define MF_EACH(i, n)                                                                              \
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < (n);                        \
         i += (size_t)gridDim.x * blockDim.x)

#endif
