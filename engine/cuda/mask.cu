/*
 * Masks on the device, as engine/region.c makes them on the host: how sure a decoder is of its
 * logits, the largest component of a thresholded map, what a hull is made of, and a region's soft
 * edge. Built without fused multiply-adds, so that every number is the host's.
 *
 * Components: union-find over pixels by atomic minima, after Oliveira and Lotufo, "A study on
 * connected components labeling algorithms using GPUs", 2010: a component's root is its first
 * pixel row by row, as on the host.
 */
#include "engine/cuda/frame_kernels.h"
#include "engine/cuda/kernel.cuh"

enum { RUN = 16 };

static const uint32_t NOWHERE = 0xFFFFFFFFu;

static __device__ __forceinline__ uint32_t warp_total(uint32_t x)
{
    for (int away = 16; away > 0; away /= 2)
        x += __shfl_xor_sync(0xFFFFFFFFu, x, away);
    return x;
}

/* blockIdx.y is the mask. */
__global__ void mask_counts_kernel(const float *__restrict__ logits, size_t cells, size_t apart,
                                   float delta, uint32_t *counts)
{
    const float *mine = logits + blockIdx.y * apart;
    uint32_t inner = 0, outer = 0;
    MF_EACH(i, cells)
    {
        inner += mine[i] > delta;
        outer += mine[i] > -delta;
    }
    inner = warp_total(inner);
    outer = warp_total(outer);
    if (threadIdx.x % 32 == 0) {
        atomicAdd(counts + 2 * blockIdx.y, inner);
        atomicAdd(counts + 2 * blockIdx.y + 1, outer);
    }
}

extern "C" int mf_launch_mask_counts(void *stream, const float *logits, size_t cells, size_t apart,
                                     size_t masks, float delta, uint32_t *counts)
{
    enum { BLOCKS = 32 };
    unsigned blocks = mf_blocks(cells);
    blocks = blocks < BLOCKS ? blocks : (unsigned)BLOCKS;
    int failed = mf_launch_clear(stream, counts, 2 * masks);
    return failed ? failed
                  : MF_LAUNCH_TOGETHER(mask_counts_kernel, dim3(blocks, (unsigned)masks), MF_BLOCK,
                                       0, stream, logits, cells, apart, delta, counts);
}

/* ---- components ---- */

__global__ void label_kernel(const float *__restrict__ soft, size_t n, uint32_t *labels,
                             uint32_t *sizes, unsigned long long *best)
{
    MF_EACH(i, n)
    {
        labels[i] = soft[i] > 0 ? (uint32_t)i : NOWHERE;
        sizes[i] = 0;
        if (i == 0)
            *best = 0;
    }
}

static __device__ __forceinline__ uint32_t root_of(const uint32_t *labels, uint32_t i)
{
    while (labels[i] != i)
        i = labels[i];
    return i;
}

/* The larger root points to the smaller one; where another thread was faster, what it wrote is
 * joined instead. */
static __device__ __forceinline__ void join(uint32_t *labels, uint32_t a, uint32_t b)
{
    for (bool done = false; !done;) {
        a = root_of(labels, a);
        b = root_of(labels, b);
        uint32_t high = a < b ? b : a, low = a < b ? a : b;
        uint32_t old = high == low ? high : atomicMin(labels + high, low);
        done = old == high;
        a = old;
        b = low;
    }
}

/* Every pixel with its neighbours above and to the left. */
__global__ void join_kernel(uint32_t *labels, size_t size)
{
    MF_EACH(i, size * size)
    {
        size_t x = i % size, above = i - size;
        if (labels[i] == NOWHERE)
            continue;
        if (x > 0 && labels[i - 1] != NOWHERE)
            join(labels, (uint32_t)i, (uint32_t)i - 1);
        if (i < size)
            continue;
        if (labels[above] != NOWHERE) { /* its own neighbours are joined to it */
            join(labels, (uint32_t)i, (uint32_t)above);
            continue;
        }
        if (x > 0 && labels[above - 1] != NOWHERE)
            join(labels, (uint32_t)i, (uint32_t)above - 1);
        if (x + 1 < size && labels[above + 1] != NOWHERE)
            join(labels, (uint32_t)i, (uint32_t)above + 1);
    }
}

/* Labels become roots; a thread counts RUN neighbours, mostly of one component. */
__global__ void size_kernel(uint32_t *labels, size_t n, uint32_t *sizes)
{
    MF_EACH(run, (n + RUN - 1) / RUN)
    {
        size_t end = (run + 1) * RUN < n ? (run + 1) * RUN : n;
        uint32_t root = NOWHERE, same = 0;
        for (size_t i = run * RUN; i < end; i++) {
            uint32_t mine = labels[i] == NOWHERE ? NOWHERE : root_of(labels, (uint32_t)i);
            if (mine != root) {
                if (root != NOWHERE)
                    atomicAdd(sizes + root, same);
                root = mine;
                same = 0;
            }
            labels[i] = mine;
            same++;
        }
        if (root != NOWHERE)
            atomicAdd(sizes + root, same);
    }
}

/* The largest, of equals the first. */
__global__ void best_kernel(const uint32_t *__restrict__ sizes, size_t n, unsigned long long *best)
{
    MF_EACH(i, n)
    if (sizes[i])
        atomicMax(best, (unsigned long long)sizes[i] << 32 | (NOWHERE - (uint32_t)i));
}

__global__ void keep_kernel(const uint32_t *__restrict__ labels, size_t n,
                            const unsigned long long *best, uint8_t *mask)
{
    uint32_t root = NOWHERE - (uint32_t)*best;
    bool any = *best != 0;
    MF_EACH(i, n)
    mask[i] = any && labels[i] == root;
}

extern "C" int mf_launch_component(void *stream, const float *soft, size_t size, uint8_t *mask,
                                   uint32_t *labels, uint32_t *sizes, uint64_t *best)
{
    size_t n = size * size;
    unsigned blocks = mf_blocks(n), shares = mf_blocks((n + RUN - 1) / RUN);
    unsigned long long *top = (unsigned long long *)best;
    int failed = MF_LAUNCH(label_kernel, blocks, MF_BLOCK, 0, stream, soft, n, labels, sizes, top);
    if (!failed)
        failed = MF_LAUNCH(join_kernel, blocks, MF_BLOCK, 0, stream, labels, size);
    if (!failed)
        failed = MF_LAUNCH(size_kernel, shares, MF_BLOCK, 0, stream, labels, n, sizes);
    if (!failed)
        failed = MF_LAUNCH(best_kernel, blocks, MF_BLOCK, 0, stream, sizes, n, top);
    return failed ? failed
                  : MF_LAUNCH(keep_kernel, blocks, MF_BLOCK, 0, stream, labels, n, top, mask);
}

/* ---- what the host wants to know of both masks ---- */

__global__ void no_facts_kernel(size_t size, uint32_t *facts)
{
    MF_EACH(i, MF_FACT_FIRST + 2 * size)
    facts[i] = i >= MF_FACT_FIRST && i < MF_FACT_FIRST + size ? (uint32_t)size : 0;
}

/* A thread takes RUN rows of a column. */
__global__ void facts_kernel(const uint8_t *__restrict__ masks, size_t size, uint32_t *facts)
{
    size_t n = size * size;
    MF_EACH(i, (size + RUN - 1) / RUN * size)
    {
        size_t x = i % size, begin = i / size * RUN, end = begin + RUN < size ? begin + RUN : size;
        uint32_t set[2] = {0, 0}, first = (uint32_t)size, last = 0, side = 0;
        for (size_t y = begin; y < end; y++) {
            uint8_t a = masks[y * size + x], b = masks[n + y * size + x];
            set[0] += a;
            set[1] += b;
            if (!a && !b)
                continue;
            first = first == size ? (uint32_t)y : first;
            last = (uint32_t)y;
            side++;
            if (y == 0)
                atomicAdd(facts + MF_FACT_EDGE, 1u);
            if (y + 1 == size)
                atomicAdd(facts + MF_FACT_EDGE + 1, 1u);
        }
        if (!side)
            continue;
        for (int k = 0; k < 2; k++)
            if (set[k])
                atomicAdd(facts + MF_FACT_SET + k, set[k]);
        if (x == 0)
            atomicAdd(facts + MF_FACT_EDGE + 2, side);
        if (x + 1 == size)
            atomicAdd(facts + MF_FACT_EDGE + 3, side);
        atomicMin(facts + MF_FACT_FIRST + x, first);
        atomicMax(facts + MF_FACT_FIRST + size + x, last);
    }
}

extern "C" int mf_launch_facts(void *stream, const uint8_t *masks, size_t size, uint32_t *facts)
{
    int failed = MF_LAUNCH(no_facts_kernel, mf_blocks(MF_FACT_FIRST + 2 * size), MF_BLOCK, 0,
                           stream, size, facts);
    return failed ? failed
                  : MF_LAUNCH(facts_kernel, mf_blocks((size + RUN - 1) / RUN * size), MF_BLOCK, 0,
                              stream, masks, size, facts);
}

/* ---- the region's soft edge ---- */

__global__ void dilate_kernel(const int32_t *__restrict__ runs, const uint32_t *__restrict__ disc,
                              int size, int reach, float *soft)
{
    MF_EACH(i, (size_t)size * (size_t)size)
    {
        int x = (int)(i % (size_t)size), y = (int)(i / (size_t)size);
        bool inside = false;
        for (int dy = -reach; dy <= reach && !inside; dy++) {
            int from = y - dy, wide = (int)disc[dy < 0 ? -dy : dy];
            if (from < 0 || from >= size || runs[2 * from] >= runs[2 * from + 1])
                continue;
            inside = x >= runs[2 * from] - wide && x < runs[2 * from + 1] + wide;
        }
        soft[i] = inside;
    }
}

/* Along a row (across) or a column, edges repeated; in the order of the host's sums. */
template <bool ACROSS>
__global__ void blur_kernel(const float *__restrict__ in, const float *__restrict__ weights,
                            int size, int reach, float *out)
{
    MF_EACH(i, (size_t)size * (size_t)size)
    {
        int x = (int)(i % (size_t)size), y = (int)(i / (size_t)size);
        float sum = 0;
        for (int by = -reach; by <= reach; by++) {
            int at = (ACROSS ? x : y) + by;
            at = at < 0 ? 0 : at >= size ? size - 1 : at;
            sum += weights[by + reach] * in[ACROSS ? (size_t)y * (size_t)size + (size_t)at
                                                   : (size_t)at * (size_t)size + (size_t)x];
        }
        out[i] = sum;
    }
}

extern "C" int mf_launch_region(void *stream, const struct mf_device_region *r)
{
    auto across = blur_kernel<true>;
    auto along = blur_kernel<false>;
    unsigned blocks = mf_blocks(r->size * r->size);
    int size = (int)r->size, blur = (int)r->blur;
    int failed = MF_LAUNCH(dilate_kernel, blocks, MF_BLOCK, 0, stream, r->runs, r->disc, size,
                           (int)r->reach, r->soft);
    if (!failed && blur > 0)
        failed = MF_LAUNCH(across, blocks, MF_BLOCK, 0, stream, r->soft, r->weights, size, blur,
                           r->between);
    if (!failed && blur > 0)
        failed = MF_LAUNCH(along, blocks, MF_BLOCK, 0, stream, r->between, r->weights, size, blur,
                           r->soft);
    return failed;
}
