/*
 * CUDA on the host, as much of it as the kernels use (engine/cuda/kernel.cuh): blocks run one after
 * the other, the threads of a block one after the other, or, where they wait for each other, as
 * coroutines that run from one barrier to the next. Shared memory is static memory.
 */
#ifndef MF_TESTS_CUDA_EMULATE_HPP
#define MF_TESTS_CUDA_EMULATE_HPP

#include "tests/cuda/fake_cuda.h"

#include <algorithm>
#include <functional>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <tuple>

#define __global__ static
#define __device__
#define __forceinline__ inline
#define __shared__ static
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define MF_UNROLL

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_)
    {
    }
};

struct uint2 {
    uint32_t x, y;
};
struct float4 {
    float x, y, z, w;
};

extern dim3 threadIdx, blockIdx, blockDim, gridDim;

/* Runs `body` once for every thread of every block; `together`: threads may wait for each other. */
void emulate_launch(dim3 grid, dim3 block, size_t shared, bool together,
                    const std::function<void()> &body);
void *emulate_shared(void);
void __syncthreads(void);
/* Every lane of the warp gives 4 bytes; the value is that of lane `from`. */
uint32_t emulate_shuffle(uint32_t value, unsigned from);
unsigned emulate_lane(void);

template <typename T>
static inline T __shfl_sync(unsigned, T value, unsigned from)
{
    static_assert(sizeof(T) == 4, "shuffles move 4 bytes");
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    bits = emulate_shuffle(bits, from % 32);
    memcpy(&value, &bits, sizeof bits);
    return value;
}

template <typename T>
static inline T __shfl_xor_sync(unsigned mask, T value, unsigned away)
{
    return __shfl_sync(mask, value, emulate_lane() ^ away);
}

static inline void __syncwarp(void)
{
    emulate_shuffle(0, 0);
}

/* Threads run one at a time: nothing comes between. */
template <typename T>
static inline T atomicAdd(T *at, T by)
{
    T old = *at;
    *at += by;
    return old;
}

template <typename T>
static inline T atomicMin(T *at, T value)
{
    T old = *at;
    *at = std::min(old, value);
    return old;
}

template <typename T>
static inline T atomicMax(T *at, T value)
{
    T old = *at;
    *at = std::max(old, value);
    return old;
}

/* A kernel with its arguments, as they are when it is started. */
template <typename... P, typename... A>
static inline std::function<void()> emulate_bind(void (*kernel)(P...), A... arguments)
{
    static_assert((sizeof(P) + ... + 0) <= 4096, "a kernel takes so many bytes of arguments");
    std::tuple<P...> all(static_cast<P>(arguments)...);
    return [kernel, all] { std::apply(kernel, all); };
}

/* Which kernel it is, whatever its arguments. */
typedef void (*emulate_kernel)(void);
template <typename... P>
static inline emulate_kernel emulate_name(void (*kernel)(P...))
{
    return reinterpret_cast<emulate_kernel>(kernel);
}

/* What a card refuses: 0, or the runtime's error. The limits are those that all cards from compute
 * capability 8.0 on keep. */
int emulate_check(emulate_kernel kernel, dim3 grid, dim3 block, size_t shared);
int emulate_allow_shared(emulate_kernel kernel, size_t bytes);

static inline int emulate_start(emulate_kernel kernel, void *stream, dim3 grid, dim3 block,
                                size_t shared, bool together, std::function<void()> body)
{
    int refused = emulate_check(kernel, grid, block, shared);
    return refused ? refused : fake_enqueue(stream, [=] {
        emulate_launch(grid, block, shared, together, body);
    });
}

#define MF_LAUNCH(kernel, grid, block, shared, stream, ...)                                        \
    emulate_start(emulate_name(kernel), stream, grid, block, shared, false,                        \
                  emulate_bind(kernel, __VA_ARGS__))
#define MF_LAUNCH_TOGETHER(kernel, grid, block, shared, stream, ...)                               \
    emulate_start(emulate_name(kernel), stream, grid, block, shared, true,                         \
                  emulate_bind(kernel, __VA_ARGS__))
#define MF_ALLOW_SHARED(kernel, bytes) emulate_allow_shared(emulate_name(kernel), bytes)
#define MF_SHARED(type, name) type *name = (type *)emulate_shared()

/* D = A B + C of one warp, m16n8k16, bfloat16 times bfloat16 in floats; fragments as PTX lays them
 * out (ISA, "Matrix Fragments for mma.m16n8k16 with floating point type"). */
void emulate_mma(float d[4], const uint32_t a[4], const uint32_t b[2]);
/* ldmatrix.x4, and with .trans: four 8 × 8 matrices of 2-byte numbers. */
void emulate_load_matrices(bool transposed, uint32_t r[4], const void *row);

#endif
