/*
 * Frames on the device: display values by look-up, the histogram behind percentiles, equalisation
 * (global and CLAHE, as engine/preprocess.c). Built without fused multiply-adds, so that every
 * number is the host's.
 */
#include "engine/cuda/frame_kernels.h"
#include "engine/cuda/kernel.cuh"

enum { RUN = 16, LEVELS = MF_EQUALISE_LEVELS, TILES = MF_EQUALISE_TILES };

template <typename T>
__global__ void display_kernel(const T *__restrict__ samples, size_t n,
                               const float *__restrict__ table, float *image)
{
    MF_EACH(i, n)
    image[i] = table[samples[i]];
}

extern "C" int mf_launch_display(void *stream, const void *samples, size_t bytes, size_t n,
                                 const float *table, float *image)
{
    auto narrow = display_kernel<uint8_t>;
    auto wide = display_kernel<uint16_t>;
    if (bytes == 1)
        return MF_LAUNCH(narrow, mf_blocks(n), MF_BLOCK, 0, stream, (const uint8_t *)samples, n,
                         table, image);
    return MF_LAUNCH(wide, mf_blocks(n), MF_BLOCK, 0, stream, (const uint16_t *)samples, n, table,
                     image);
}

__global__ void clear_kernel(uint32_t *words, size_t n)
{
    MF_EACH(i, n)
    words[i] = 0;
}

extern "C" int mf_launch_clear(void *stream, uint32_t *words, size_t n)
{
    return MF_LAUNCH(clear_kernel, mf_blocks(n), MF_BLOCK, 0, stream, words, n);
}

/* A thread counts RUN neighbours: equal ones, as there are many in the dark around a body, are
 * added once. */
template <typename T>
__global__ void count_kernel(const T *__restrict__ samples, size_t n, uint32_t *counts)
{
    MF_EACH(run, (n + RUN - 1) / RUN)
    {
        size_t end = (run + 1) * RUN < n ? (run + 1) * RUN : n;
        T value = samples[run * RUN];
        uint32_t same = 0;
        for (size_t i = run * RUN; i < end; i++, same++)
            if (samples[i] != value) {
                atomicAdd(counts + value, same);
                value = samples[i];
                same = 0;
            }
        atomicAdd(counts + value, same);
    }
}

extern "C" int mf_launch_count(void *stream, const void *samples, size_t bytes, size_t n,
                               uint32_t *counts)
{
    auto narrow = count_kernel<uint8_t>;
    auto wide = count_kernel<uint16_t>;
    unsigned blocks = mf_blocks((n + RUN - 1) / RUN);
    int failed = mf_launch_clear(stream, counts, bytes == 1 ? 256 : 65536);
    if (failed)
        return failed;
    if (bytes == 1)
        return MF_LAUNCH(narrow, blocks, MF_BLOCK, 0, stream, (const uint8_t *)samples, n, counts);
    return MF_LAUNCH(wide, blocks, MF_BLOCK, 0, stream, (const uint16_t *)samples, n, counts);
}

static __device__ __forceinline__ unsigned level_of(float x)
{
    x = x < 0 ? 0 : x > 1 ? 1 : x;
    return (unsigned)(x * 255 + 0.5f);
}

/* counts (tiles · tiles, LEVELS): blockIdx.x is the tile, blocks of one tile share its rows. */
__global__ void level_counts_kernel(const float *__restrict__ image, size_t rows, size_t cols,
                                    size_t tiles, uint32_t *counts)
{
    MF_SHARED(uint32_t, mine);
    size_t i = blockIdx.x / tiles, j = blockIdx.x % tiles, width;
    size_t y0 = i * rows / tiles, y1 = (i + 1) * rows / tiles, x0 = j * cols / tiles;
    width = (j + 1) * cols / tiles - x0;
    mine[threadIdx.x] = 0;
    __syncthreads();
    for (size_t y = y0 + blockIdx.y; y < y1; y += gridDim.y)
        for (size_t x = threadIdx.x; x < width; x += LEVELS)
            atomicAdd(mine + level_of(image[y * cols + x0 + x]), 1u);
    __syncthreads();
    if (mine[threadIdx.x])
        atomicAdd(counts + (size_t)blockIdx.x * LEVELS + threadIdx.x, mine[threadIdx.x]);
}

/* One block; NaN where an image of one level stays as it is. */
__global__ void global_map_kernel(const uint32_t *counts, size_t n, float *map)
{
    MF_SHARED(uint32_t, count);
    unsigned v = threadIdx.x;
    size_t sum = 0, lowest = 0;
    count[v] = counts[v];
    __syncthreads();
    for (unsigned u = 0; u < LEVELS && !lowest; u++)
        lowest = count[u];
    for (unsigned u = 0; u <= v; u++)
        sum += count[u];
    map[v] = lowest == n    ? nanf("")
             : sum < lowest ? 0
                            : (float)(sum - lowest) / (float)(n - lowest);
}

/* A block a tile: the histogram clipped at twice its mean bin, the excess spread evenly once,
 * cumulated in order by one thread. */
__global__ void tile_map_kernel(const uint32_t *counts, size_t rows, size_t cols, float *maps)
{
    MF_SHARED(float, count);
    size_t tile = blockIdx.x, v = threadIdx.x, i = tile / TILES, j = tile % TILES;
    float pixels = (float)(((i + 1) * rows / TILES - i * rows / TILES) *
                           ((j + 1) * cols / TILES - j * cols / TILES));
    float limit = fmaxf(1, 2.0f * pixels / LEVELS), kept = 0, sum = 0;
    count[v] = fminf((float)counts[tile * LEVELS + v], limit);
    __syncthreads();
    if (v == 0) {
        for (unsigned u = 0; u < LEVELS; u++)
            kept += count[u];
        for (unsigned u = 0; u < LEVELS; u++) {
            sum += count[u] + (pixels - kept) / LEVELS;
            count[u] = sum / fmaxf(1, pixels);
        }
    }
    __syncthreads();
    maps[tile * LEVELS + v] = count[v];
}

__global__ void apply_global_kernel(const float *__restrict__ map, size_t n, float *image)
{
    MF_EACH(i, n)
    {
        float to = map[level_of(image[i])];
        image[i] = isnan(to) ? image[i] : to;
    }
}

/* The two tiles a pixel lies between and the share of the second. */
static __device__ __forceinline__ void blend(size_t i, size_t n, size_t tile[2], float *share)
{
    float where = ((float)i + 0.5f) * TILES / (float)n - 0.5f, low = floorf(where);
    int first = (int)low;
    tile[0] = (size_t)(first < 0 ? 0 : first > TILES - 1 ? TILES - 1 : first);
    tile[1] = (size_t)(first + 1 < 0 ? 0 : first + 1 > TILES - 1 ? TILES - 1 : first + 1);
    *share = where - low;
}

__global__ void apply_tiles_kernel(const float *__restrict__ maps, size_t rows, size_t cols,
                                   float *image)
{
    MF_EACH(i, rows * cols)
    {
        size_t ty[2], tx[2], v = level_of(image[i]);
        float wy, wx;
        blend(i / cols, rows, ty, &wy);
        blend(i % cols, cols, tx, &wx);
        const float *above = maps + ty[0] * TILES * LEVELS + v;
        const float *below = maps + ty[1] * TILES * LEVELS + v;
        image[i] = (1 - wy) * ((1 - wx) * above[tx[0] * LEVELS] + wx * above[tx[1] * LEVELS]) +
                   wy * ((1 - wx) * below[tx[0] * LEVELS] + wx * below[tx[1] * LEVELS]);
    }
}

extern "C" int mf_launch_equalise(void *stream, enum mf_equalisation kind, float *image,
                                  size_t rows, size_t cols, float *room)
{
    enum { SHARES = 64 }; /* blocks of one tile: the whole image is one where it is global */
    bool global = kind == MF_EQUALISE_GLOBAL;
    size_t tiles = global ? 1 : TILES, n = rows * cols, entries = tiles * tiles * LEVELS;
    uint32_t *counts = (uint32_t *)room;
    float *maps = room + MF_EQUALISE_ROOM / 2;
    dim3 grid((unsigned)(tiles * tiles), global ? SHARES * 8 : SHARES / 8);
    int failed = mf_launch_clear(stream, counts, entries);
    if (!failed)
        failed = MF_LAUNCH_TOGETHER(level_counts_kernel, grid, LEVELS, LEVELS * sizeof(uint32_t),
                                    stream, image, rows, cols, tiles, counts);
    if (!failed && global)
        failed = MF_LAUNCH_TOGETHER(global_map_kernel, 1, LEVELS, LEVELS * sizeof(uint32_t), stream,
                                    counts, n, maps);
    else if (!failed)
        failed = MF_LAUNCH_TOGETHER(tile_map_kernel, TILES * TILES, LEVELS, LEVELS * sizeof(float),
                                    stream, counts, rows, cols, maps);
    if (failed)
        return failed;
    if (global)
        return MF_LAUNCH(apply_global_kernel, mf_blocks(n), MF_BLOCK, 0, stream, maps, n, image);
    return MF_LAUNCH(apply_tiles_kernel, mf_blocks(n), MF_BLOCK, 0, stream, maps, rows, cols,
                     image);
}
