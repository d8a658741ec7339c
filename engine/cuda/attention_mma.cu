/*
 * Attention on tensor cores: products of bfloat16, softmax and sums in floats. A block takes 64
 * query rows of one head, 16 a warp, and walks over the keys, KEYS at a time; scores stay in
 * registers, where they become the weights of the second product. Heads are padded with zeros to
 * SIZE numbers. Queries stay in registers too unless heads are large.
 */
#include "engine/cuda/kernels.h"
#include "engine/cuda/tensor.cuh"

enum { WARPS = 4, QUERIES = 16 * WARPS, KEYS = 64, THREADS = 32 * WARPS, GAP = 8 };

/* Four consecutive numbers as two words of bfloat16; `whole`: their address is aligned. */
static __device__ __forceinline__ uint2 load_four(const float *p, bool whole, size_t left)
{
    if (whole) {
        float4 v = *reinterpret_cast<const float4 *>(p);
        return {mf_pack(v.x, v.y), mf_pack(v.z, v.w)};
    }
    return {mf_pack(p[0], left > 1 ? p[1] : 0.0f),
            mf_pack(left > 2 ? p[2] : 0.0f, left > 3 ? p[3] : 0.0f)};
}

static __device__ __forceinline__ uint2 load_four(const mf_bf16 *p, bool whole, size_t left)
{
    if (whole)
        return *reinterpret_cast<const uint2 *>(p);
    return {p[0].bits | (uint32_t)(left > 1 ? p[1].bits : 0) << 16,
            (left > 2 ? p[2].bits : 0) | (uint32_t)(left > 3 ? p[3].bits : 0) << 16};
}

/* `count` rows of a head into shared memory, zeros up to `rows` × SIZE. */
template <int SIZE, typename T>
static __device__ __forceinline__ void load_rows(const T *from, size_t row, size_t count,
                                                 size_t size, bool whole, int rows, mf_bf16 *to)
{
    for (int i = (int)threadIdx.x; i < rows * (SIZE / 4); i += THREADS) {
        size_t r = (size_t)(i / (SIZE / 4)), d = (size_t)(i % (SIZE / 4)) * 4;
        uint2 words = {0, 0};
        if (r < count && d < size)
            words = load_four(from + r * row + d, whole, size - d);
        *reinterpret_cast<uint2 *>(to + r * (SIZE + GAP) + d) = words;
    }
}

/* The queries of a warp, columns [16 step, 16 step + 16). */
template <int SIZE>
static __device__ __forceinline__ void load_queries(uint32_t a[4], const mf_bf16 *qs, int step)
{
    unsigned lane = threadIdx.x % 32;
    mf_load_matrices<false>(a, qs + (threadIdx.x / 32 * 16 + lane % 16) * (SIZE + GAP) + step * 16 +
                                   (int)(lane / 16 * 8));
}

template <int SIZE>
static __device__ __forceinline__ void score(float s[KEYS / 8][4], const uint32_t a[4],
                                             const mf_bf16 *ks, int step)
{
    unsigned lane = threadIdx.x % 32;
    MF_UNROLL
    for (int n = 0; n < KEYS / 16; n++) {
        uint32_t b[4];
        unsigned key = (unsigned)n * 16 + lane / 16 * 8 + lane % 8;
        mf_load_matrices<false>(b, ks + key * (SIZE + GAP) + step * 16 + (int)(lane / 8 % 2 * 8));
        mf_mma(s[2 * n], a, b);
        mf_mma(s[2 * n + 1], a, b + 2);
    }
}

/* Scores → weights e^(s − maximum); `factor` is what sums from before shrink by. Row 0 is g, 1 is
 * g + 8. */
static __device__ __forceinline__ void soften(float s[KEYS / 8][4], float scale, size_t count,
                                              float most[2], float sum[2], float factor[2])
{
    unsigned column = threadIdx.x % 4 * 2;
    MF_UNROLL
    for (int r = 0; r < 2; r++) {
        float top = most[r], total = 0;
        MF_UNROLL
        for (int i = 0; i < KEYS / 4; i++) {
            float *p = &s[i / 2][2 * r + i % 2];
            *p = (unsigned)(i / 2 * 8 + i % 2) + column < count ? *p * scale : -INFINITY;
            top = fmaxf(top, *p);
        }
        top = fmaxf(top, __shfl_xor_sync(0xFFFFFFFFu, top, 1));
        top = fmaxf(top, __shfl_xor_sync(0xFFFFFFFFu, top, 2));
        factor[r] = exp2f(most[r] - top);
        MF_UNROLL
        for (int i = 0; i < KEYS / 4; i++) {
            float *p = &s[i / 2][2 * r + i % 2];
            *p = exp2f(*p - top);
            total += *p;
        }
        most[r] = top;
        sum[r] = sum[r] * factor[r] + total;
    }
}

/* o += weights · values */
template <int SIZE>
static __device__ __forceinline__ void mix(float o[SIZE / 8][4], const float s[KEYS / 8][4],
                                           const mf_bf16 *vs)
{
    unsigned lane = threadIdx.x % 32;
    MF_UNROLL
    for (int step = 0; step < KEYS / 16; step++) {
        const float *even = s[2 * step], *odd = s[2 * step + 1];
        const uint32_t a[4] = {mf_pack(even[0], even[1]), mf_pack(even[2], even[3]),
                               mf_pack(odd[0], odd[1]), mf_pack(odd[2], odd[3])};
        unsigned key = (unsigned)step * 16 + lane % 16;
        MF_UNROLL
        for (int n = 0; n < SIZE / 16; n++) {
            uint32_t b[4];
            mf_load_matrices<true>(b, vs + key * (SIZE + GAP) + n * 16 + (int)(lane / 16 * 8));
            mf_mma(o[2 * n], a, b);
            mf_mma(o[2 * n + 1], a, b + 2);
        }
    }
}

template <int SIZE, typename T>
static __device__ __forceinline__ void
store_rows(const struct mf_attention &at, float o[SIZE / 8][4], float sum[2], size_t first, T *out)
{
    unsigned lane = threadIdx.x % 32;
    MF_UNROLL
    for (int r = 0; r < 2; r++) {
        float total = sum[r];
        total += __shfl_xor_sync(0xFFFFFFFFu, total, 1);
        total += __shfl_xor_sync(0xFFFFFFFFu, total, 2);
        size_t row = first + lane / 4 + (size_t)r * 8;
        MF_UNROLL
        for (int i = 0; i < SIZE / 4; i++) {
            size_t d = (size_t)(i / 2) * 8 + lane % 4 * 2 + (size_t)(i % 2);
            if (row < at.queries && d < at.head_size)
                mf_store(out + row * at.o_row + d, o[i / 2][2 * r + i % 2] / total);
        }
    }
}

/* Grid (query blocks, batch · heads). `whole`: rows can be read in fours. */
template <int SIZE, typename T>
__global__ void __launch_bounds__(THREADS)
    mma_kernel(struct mf_attention at, bool whole, const T *q, const T *k, const T *v, T *out)
{
    MF_SHARED(mf_bf16, shared);
    constexpr bool HELD = SIZE <= 128; /* queries in registers: their memory is the keys' */
    constexpr int STEPS = SIZE / 16;
    mf_bf16 *ks = shared, *vs = ks + KEYS * (SIZE + GAP);
    mf_bf16 *qs = HELD ? ks : vs + KEYS * (SIZE + GAP);
    size_t b = blockIdx.y / at.heads, column = blockIdx.y % at.heads * at.head_size;
    size_t first = (size_t)blockIdx.x * QUERIES, left = at.queries - first;
    q += b * at.q_batch + column + first * at.q_row;
    k += b * at.k_batch + column;
    v += b * at.v_batch + column;
    out += b * at.o_batch + column;
    load_rows<SIZE>(q, at.q_row, left, at.head_size, whole, QUERIES, qs);
    __syncthreads();
    uint32_t held[HELD ? STEPS : 1][4];
    MF_UNROLL
    for (int step = 0; HELD && step < STEPS; step++)
        load_queries<SIZE>(held[step], qs, step);
    float o[SIZE / 8][4] = {}, most[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0};
    for (size_t begin = 0; begin < at.keys; begin += KEYS) {
        float s[KEYS / 8][4] = {}, factor[2];
        __syncthreads();
        load_rows<SIZE>(k + begin * at.k_row, at.k_row, at.keys - begin, at.head_size, whole, KEYS,
                        ks);
        load_rows<SIZE>(v + begin * at.v_row, at.v_row, at.keys - begin, at.head_size, whole, KEYS,
                        vs);
        __syncthreads();
        MF_UNROLL
        for (int step = 0; step < STEPS; step++) {
            uint32_t a[4];
            if (!HELD)
                load_queries<SIZE>(a, qs, step);
            score<SIZE>(s, HELD ? held[HELD ? step : 0] : a, ks, step);
        }
        soften(s, at.scale * 1.44269504088896341f, at.keys - begin, most, sum, factor);
        MF_UNROLL
        for (int i = 0; i < SIZE / 8; i++) {
            o[i][0] *= factor[0];
            o[i][1] *= factor[0];
            o[i][2] *= factor[1];
            o[i][3] *= factor[1];
        }
        mix<SIZE>(o, s, vs);
    }
    store_rows<SIZE>(at, o, sum, first + threadIdx.x / 32 * 16, out);
}

template <int SIZE, typename T>
static int start(void *stream, const struct mf_attention *at, bool whole, const void *q,
                 const void *k, const void *v, void *o)
{
    auto kernel = mma_kernel<SIZE, T>;
    size_t tiles = SIZE <= 128 ? 2 : 3, shared = tiles * KEYS * (SIZE + GAP) * sizeof(mf_bf16);
    dim3 grid((unsigned)((at->queries + QUERIES - 1) / QUERIES), (unsigned)(at->batch * at->heads));
    int status = shared > 48 * 1024 ? MF_ALLOW_SHARED(kernel, shared) : 0;
    return status ? status
                  : MF_LAUNCH_TOGETHER(kernel, grid, THREADS, shared, stream, *at, whole,
                                       (const T *)q, (const T *)k, (const T *)v, (T *)o);
}

template <typename T>
static int start_sized(void *stream, const struct mf_attention *at, const void *q, const void *k,
                       const void *v, void *o)
{
    uintptr_t addresses = (uintptr_t)q | (uintptr_t)k | (uintptr_t)v;
    size_t steps =
        at->head_size | at->q_row | at->k_row | at->v_row | at->q_batch | at->k_batch | at->v_batch;
    bool whole = steps % 4 == 0 && addresses % (4 * sizeof(T)) == 0;
    if (at->head_size <= 32)
        return start<32, T>(stream, at, whole, q, k, v, o);
    if (at->head_size <= 64)
        return start<64, T>(stream, at, whole, q, k, v, o);
    if (at->head_size <= 96)
        return start<96, T>(stream, at, whole, q, k, v, o);
    if (at->head_size <= 128)
        return start<128, T>(stream, at, whole, q, k, v, o);
    return start<256, T>(stream, at, whole, q, k, v, o);
}

extern "C" int mf_launch_attention_mma(void *stream, const struct mf_attention *at, const void *q,
                                       const void *k, const void *v, void *o, bool half)
{
    return half ? start_sized<mf_bf16>(stream, at, q, k, v, o)
                : start_sized<float>(stream, at, q, k, v, o);
}
