/*
 * Attention on tensor cores: products of bfloat16, softmax and sums in floats. A block takes 64
 * query rows of one head, 16 a warp, and walks over the keys, KEYS at a time; scores stay in
 * registers, where they become the weights of the second product. Heads are padded with zeros to
 * SIZE numbers. Queries stay in registers too unless heads are large.
 */
#include "engine/cuda/kernels.h"
#include "engine/cuda/rows.cuh"
#include "engine/cuda/tensor.cuh"

enum { WARPS = 4, QUERIES = 16 * WARPS, KEYS = 64, THREADS = 32 * WARPS, GAP = 8 };
static_assert(QUERIES == KEYS, "load_rows() loads as many of each");

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

/* 64 rows of a head, from row `begin` of `count` on, into shared memory: 64 × SIZE, zeros where
 * there are no more. */
template <int SIZE, class ROWS>
static __device__ __forceinline__ void load_rows(const ROWS &rows, size_t begin, size_t count,
                                                 size_t size, bool whole, mf_bf16 *to)
{
    for (int i = (int)threadIdx.x; i < KEYS * (SIZE / 4); i += THREADS) {
        size_t r = (size_t)(i / (SIZE / 4)), d = (size_t)(i % (SIZE / 4)) * 4;
        const auto *from = begin + r < count && d < size ? rows.at(begin + r) : nullptr;
        uint2 words = {0, 0};
        if (from)
            words = load_four(from + d, whole, size - d);
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

template <int SIZE, class ROWS>
static __device__ __forceinline__ void store_rows(const struct mf_attention &at,
                                                  float o[SIZE / 8][4], float sum[2], size_t first,
                                                  const ROWS &rows)
{
    unsigned lane = threadIdx.x % 32;
    MF_UNROLL
    for (int r = 0; r < 2; r++) {
        float total = sum[r];
        total += __shfl_xor_sync(0xFFFFFFFFu, total, 1);
        total += __shfl_xor_sync(0xFFFFFFFFu, total, 2);
        size_t row = first + lane / 4 + (size_t)r * 8;
        auto *to = row < at.queries ? rows.at(row) : nullptr;
        MF_UNROLL
        for (int i = 0; i < SIZE / 4; i++) {
            size_t d = (size_t)(i / 2) * 8 + lane % 4 * 2 + (size_t)(i % 2);
            if (to && d < at.head_size)
                mf_store(to + d, o[i / 2][2 * r + i % 2] / total);
        }
    }
}

/* A block for each QUERIES rows of a head, those of one head beside each other in one dimension:
 * others of a grid end at 65,535. `whole`: rows can be read in fours. */
template <int SIZE, typename T, bool WINDOWS>
__global__ void __launch_bounds__(THREADS)
    mma_kernel(struct mf_attention at, struct mf_windows w, bool whole, const T *q, const T *k,
               const T *v, T *o_rows, const T *k_pad, const T *v_pad)
{
    MF_SHARED(mf_bf16, shared);
    constexpr bool HELD = SIZE <= 128; /* queries in registers: their memory is the keys' */
    constexpr int STEPS = SIZE / 16;
    mf_bf16 *ks = shared, *vs = ks + KEYS * (SIZE + GAP);
    mf_bf16 *qs = HELD ? ks : vs + KEYS * (SIZE + GAP);
    size_t blocks = (at.queries + QUERIES - 1) / QUERIES, head = blockIdx.x / blocks;
    size_t b = head / at.heads, column = head % at.heads * at.head_size;
    size_t first = blockIdx.x % blocks * QUERIES;
    const auto queries =
        mf_item_rows<WINDOWS, const T>(q + column, at.q_batch, at.q_row, b, w, w.pool, nullptr);
    const auto keys = mf_item_rows<WINDOWS>(k + column, at.k_batch, at.k_row, b, w, 1,
                                            WINDOWS ? k_pad + column : nullptr);
    const auto values = mf_item_rows<WINDOWS>(v + column, at.v_batch, at.v_row, b, w, 1,
                                              WINDOWS ? v_pad + column : nullptr);
    const auto out =
        mf_item_rows<WINDOWS, T>(o_rows + column, at.o_batch, at.o_row, b, w, w.pool, nullptr);
    load_rows<SIZE>(queries, first, at.queries, at.head_size, whole, qs);
    __syncthreads();
    uint32_t held[HELD ? STEPS : 1][4];
    MF_UNROLL
    for (int step = 0; HELD && step < STEPS; step++)
        load_queries<SIZE>(held[step], qs, step);
    float o[SIZE / 8][4] = {}, most[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0};
    for (size_t begin = 0; begin < at.keys; begin += KEYS) {
        float s[KEYS / 8][4] = {}, factor[2];
        __syncthreads();
        load_rows<SIZE>(keys, begin, at.keys, at.head_size, whole, ks);
        load_rows<SIZE>(values, begin, at.keys, at.head_size, whole, vs);
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

/* Where the rows lie; windows are those of floats. */
template <typename T>
struct source {
    const struct mf_attention *at;
    const struct mf_windows *windows;
    const T *q, *k, *v;
    T *o;
};

template <int SIZE, bool WINDOWS, typename T>
static int start(void *stream, const source<T> &s, bool whole)
{
    auto kernel = mma_kernel<SIZE, T, WINDOWS>;
    const struct mf_attention &at = *s.at;
    const struct mf_windows w = WINDOWS ? *s.windows : mf_windows{};
    size_t tiles = SIZE <= 128 ? 2 : 3, shared = tiles * KEYS * (SIZE + GAP) * sizeof(mf_bf16);
    size_t grid = (at.queries + QUERIES - 1) / QUERIES * at.batch * at.heads;
    int status = shared > 48 * 1024 ? MF_ALLOW_SHARED(kernel, shared) : 0;
    return status
               ? status
               : MF_LAUNCH_TOGETHER(kernel, (unsigned)grid, THREADS, shared, stream, at, w, whole,
                                    s.q, s.k, s.v, s.o, (const T *)w.k_pad, (const T *)w.v_pad);
}

template <bool WINDOWS, typename T>
static int start_sized(void *stream, const source<T> &s)
{
    const struct mf_attention *at = s.at;
    uintptr_t addresses = (uintptr_t)s.q | (uintptr_t)s.k | (uintptr_t)s.v;
    size_t steps = at->head_size | at->q_row | at->k_row | at->v_row;
    if (WINDOWS)
        addresses |= (uintptr_t)s.windows->k_pad | (uintptr_t)s.windows->v_pad;
    else
        steps |= at->q_batch | at->k_batch | at->v_batch;
    bool whole = steps % 4 == 0 && addresses % (4 * sizeof(T)) == 0;
    if (at->head_size <= 32)
        return start<32, WINDOWS>(stream, s, whole);
    if (at->head_size <= 64)
        return start<64, WINDOWS>(stream, s, whole);
    if (at->head_size <= 96)
        return start<96, WINDOWS>(stream, s, whole);
    if (at->head_size <= 128)
        return start<128, WINDOWS>(stream, s, whole);
    return start<256, WINDOWS>(stream, s, whole);
}

extern "C" int mf_launch_attention_mma(void *stream, const struct mf_attention *at,
                                       const struct mf_windows *windows, const float *q,
                                       const float *k, const float *v, float *o)
{
    const source<float> s = {at, windows, q, k, v, o};
    return windows ? start_sized<true>(stream, s) : start_sized<false>(stream, s);
}

extern "C" int mf_launch_attention_halves(void *stream, const struct mf_attention *at,
                                          const uint16_t *q, const uint16_t *k, const uint16_t *v,
                                          uint16_t *o)
{
    return start_sized<false>(stream,
                              source<mf_bf16>{at, nullptr, (const mf_bf16 *)q, (const mf_bf16 *)k,
                                              (const mf_bf16 *)v, (mf_bf16 *)o});
}
