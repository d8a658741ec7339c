/*
 * Attention in floats: a block takes QUERIES rows of one head and walks over the keys, KEYS at a
 * time, with a running maximum and sum, so that no row of scores is ever held as a whole. It is
 * what networks are checked with, and what runs where the tensor cores' kernel does not fit.
 */
#include "engine/cuda/kernels.h"
#include "engine/cuda/rows.cuh"

enum { QUERIES = 16, KEYS = 32 }; /* a warp has two rows, a lane a key */

/* A block for each QUERIES rows of a head, those of one head beside each other in one dimension:
 * others of a grid end at 65,535. Threads (32, QUERIES / 2). Shared: QUERIES queries, KEYS keys and
 * KEYS values of `size` floats, and QUERIES × KEYS weights. SLICES: floats of a row that a lane
 * sums up, 32 apart. */
template <int SLICES, bool WINDOWS>
__global__ void attention_kernel(struct mf_attention at, struct mf_windows w, const float *q,
                                 const float *k, const float *v, float *o)
{
    MF_SHARED(float, shared);
    size_t size = at.head_size, pad = size + 1;
    float *qs = shared, *ks = qs + QUERIES * size, *vs = ks + KEYS * pad, *ps = vs + KEYS * size;
    unsigned lane = threadIdx.x, warp = threadIdx.y, thread = warp * 32 + lane,
             threads = 16 * QUERIES;
    size_t blocks = (at.queries + QUERIES - 1) / QUERIES, head = blockIdx.x / blocks;
    size_t b = head / at.heads, column = head % at.heads * size;
    size_t first = blockIdx.x % blocks * QUERIES;
    const auto queries =
        mf_item_rows<WINDOWS, const float>(q + column, at.q_batch, at.q_row, b, w, w.pool, nullptr);
    const auto keys = mf_item_rows<WINDOWS>(k + column, at.k_batch, at.k_row, b, w, 1,
                                            WINDOWS ? w.k_pad + column : nullptr);
    const auto values = mf_item_rows<WINDOWS>(v + column, at.v_batch, at.v_row, b, w, 1,
                                              WINDOWS ? w.v_pad + column : nullptr);
    const auto out =
        mf_item_rows<WINDOWS, float>(o + column, at.o_batch, at.o_row, b, w, w.pool, nullptr);
    for (size_t i = thread; i < QUERIES * size; i += threads) {
        size_t row = first + i / size;
        const float *query = row < at.queries ? queries.at(row) : nullptr;
        qs[i] = query ? query[i % size] * at.scale : 0;
    }
    float sum[2] = {0, 0}, most[2] = {-INFINITY, -INFINITY}, mixed[2][SLICES];
    for (int r = 0; r < 2; r++)
        for (int i = 0; i < SLICES; i++)
            mixed[r][i] = 0;
    for (size_t begin = 0; begin < at.keys; begin += KEYS) {
        size_t left = at.keys - begin, count = left < KEYS ? left : (size_t)KEYS;
        __syncthreads();
        for (size_t i = thread; i < count * size; i += threads) {
            size_t row = i / size, d = i % size;
            ks[row * pad + d] = keys.at(begin + row)[d];
            vs[i] = values.at(begin + row)[d];
        }
        __syncthreads();
        for (int r = 0; r < 2; r++) {
            const float *query = qs + (2 * warp + (unsigned)r) * size, *key = ks + lane * pad;
            float *weights = ps + (2 * warp + (unsigned)r) * KEYS, score = -INFINITY;
            if (lane < count) {
                score = 0;
                for (size_t d = 0; d < size; d++)
                    score += query[d] * key[d];
            }
            float top = score;
            for (unsigned away = 16; away > 0; away /= 2)
                top = fmaxf(top, __shfl_xor_sync(0xFFFFFFFFu, top, away));
            top = fmaxf(top, most[r]);
            float shrink = expf(most[r] - top), weight = lane < count ? expf(score - top) : 0;
            sum[r] = sum[r] * shrink + mf_warp_sum(weight);
            most[r] = top;
            weights[lane] = weight;
            __syncwarp();
            MF_UNROLL
            for (int i = 0; i < SLICES; i++) {
                size_t d = lane + (size_t)i * 32;
                float value = mixed[r][i] * shrink;
                for (size_t j = 0; d < size && j < count; j++)
                    value += weights[j] * vs[j * size + d];
                mixed[r][i] = value;
            }
        }
    }
    for (int r = 0; r < 2; r++) {
        size_t row = first + 2 * warp + (unsigned)r;
        float *to = row < at.queries ? out.at(row) : nullptr;
        MF_UNROLL
        for (int i = 0; i < SLICES; i++) {
            size_t d = lane + (size_t)i * 32;
            if (to && d < size)
                to[d] = mixed[r][i] / sum[r];
        }
    }
}

template <int SLICES, bool WINDOWS>
static int start(void *stream, const struct mf_attention *at, const struct mf_windows &windows,
                 const float *q, const float *k, const float *v, float *o)
{
    auto kernel = attention_kernel<SLICES, WINDOWS>;
    size_t size = at->head_size;
    size_t shared =
        (QUERIES * size + KEYS * (size + 1) + KEYS * size + QUERIES * KEYS) * sizeof(float);
    size_t grid = (at->queries + QUERIES - 1) / QUERIES * at->batch * at->heads;
    int status = shared > 48 * 1024 ? MF_ALLOW_SHARED(kernel, shared) : 0;
    return status ? status
                  : MF_LAUNCH_TOGETHER(kernel, (unsigned)grid, dim3(32, QUERIES / 2), shared,
                                       stream, *at, windows, q, k, v, o);
}

template <bool WINDOWS>
static int start_sized(void *stream, const struct mf_attention *at,
                       const struct mf_windows &windows, const float *q, const float *k,
                       const float *v, float *o)
{
    if (at->head_size <= 32)
        return start<1, WINDOWS>(stream, at, windows, q, k, v, o);
    if (at->head_size <= 64)
        return start<2, WINDOWS>(stream, at, windows, q, k, v, o);
    if (at->head_size <= 128)
        return start<4, WINDOWS>(stream, at, windows, q, k, v, o);
    return start<8, WINDOWS>(stream, at, windows, q, k, v, o);
}

extern "C" int mf_launch_attention(void *stream, const struct mf_attention *at,
                                   const struct mf_windows *windows, const float *q, const float *k,
                                   const float *v, float *o)
{
    return windows ? start_sized<true>(stream, at, *windows, q, k, v, o)
                   : start_sized<false>(stream, at, {}, q, k, v, o);
}
