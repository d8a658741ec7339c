/*
 * What the quality figures of a frame are made of (engine/trust/quality.h, sharpness.h): means of a
 * coarse grid, the host's bit by bit, and sums over sampled points, a warp a row, added by lanes
 * and then by one of them, so that they are the same in every run.
 */
#include "engine/cuda/frame_kernels.h"
#include "engine/cuda/kernel.cuh"
#include "engine/trust/quality.h"

enum { MOST_PARTS = MF_QUALITY_PARTS };

struct parts {
    mf_device_part list[MOST_PARTS];
};

__global__ void cells_kernel(const float *__restrict__ image, size_t image_cols, size_t rows,
                             size_t cols, size_t step, size_t stride, float *cells)
{
    MF_EACH(i, rows * cols)
    {
        const float *cell = image + i / cols * step * image_cols + i % cols * step;
        float sum = 0, n = 0;
        for (size_t y = 0; y < step; y += stride)
            for (size_t x = 0; x < step; x += stride, n++)
                sum += cell[y * image_cols + x];
        cells[i] = sum / n;
    }
}

extern "C" int mf_launch_cells(void *stream, const float *image, size_t image_cols, size_t rows,
                               size_t cols, size_t step, size_t stride, float *cells)
{
    return MF_LAUNCH(cells_kernel, mf_blocks(rows * cols), MF_BLOCK, 0, stream, image, image_cols,
                     rows, cols, step, stride, cells);
}

/* Immerkær's mask at a pixel. */
static __device__ __forceinline__ double noise_at(const float *here, size_t cols)
{
    const float *above = here - cols, *below = here + cols;
    return fabs(4.0 * here[0] - 2.0 * (above[0] + below[0] + here[-1] + here[1]) + above[-1] +
                above[1] + below[-1] + below[1]);
}

/* A block of one warp: row blockIdx.x of part blockIdx.y. */
__global__ void sums_kernel(const float *__restrict__ image, size_t cols, parts all, size_t step,
                            size_t noise, double *sums)
{
    MF_SHARED(double, lanes);
    const mf_device_part part = all.list[blockIdx.y];
    size_t row = part.r0 + blockIdx.x * step;
    double sum = 0, squares = 0, white = 0;
    for (size_t c = part.c0 + threadIdx.x * step; row < part.r1 && c < part.c1; c += 32 * step) {
        const float *here = image + row * cols + c;
        double x = *here;
        sum += blockIdx.y == noise ? noise_at(here, cols) : x;
        squares += x * x;
        white += x >= MF_QUALITY_WHITE;
    }
    lanes[3 * threadIdx.x] = sum;
    lanes[3 * threadIdx.x + 1] = squares;
    lanes[3 * threadIdx.x + 2] = white;
    __syncthreads();
    if (threadIdx.x >= 3)
        return;
    double total = 0;
    for (int lane = 0; lane < 32; lane++)
        total += lanes[3 * lane + threadIdx.x];
    sums[((size_t)blockIdx.y * gridDim.x + blockIdx.x) * 3 + threadIdx.x] = total;
}

extern "C" int mf_launch_sums(void *stream, const float *image, size_t cols,
                              const struct mf_device_part *list, size_t count, size_t rows,
                              size_t step, size_t noise, double *sums)
{
    struct parts all = {};
    if (count > MOST_PARTS)
        return 1; /* cudaErrorInvalidValue */
    for (size_t i = 0; i < count; i++)
        all.list[i] = list[i];
    return MF_LAUNCH_TOGETHER(sums_kernel, dim3((unsigned)rows, (unsigned)count), 32,
                              32 * 3 * sizeof(double), stream, image, cols, all, step, noise, sums);
}
