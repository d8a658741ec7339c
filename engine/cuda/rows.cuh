/*
 * Where the rows of one item of attention lie: one after the other, or, for a window of a grid
 * (struct mf_windows of engine/exec.h), where the grid has them. Nothing is gathered: kernels ask
 * for a row's address as they load it.
 */
#ifndef MF_ENGINE_CUDA_ROWS_CUH
#define MF_ENGINE_CUDA_ROWS_CUH

#include "engine/cuda/kernel.cuh"
#include "engine/exec.h"

template <typename T>
struct mf_rows {
    T *first;
    size_t step;
    __device__ __forceinline__ T *at(size_t i) const
    {
        return first + i * step;
    }
};

/* `beyond`: the row that stands for those outside the grid; NULL: there are none. */
template <typename T>
struct mf_window_rows {
    T *first, *beyond;
    size_t step, top, left, side, height, width;
    __device__ __forceinline__ T *at(size_t i) const
    {
        size_t y = top + i / side, x = left + i % side;
        return y < height && x < width ? first + (y * width + x) * step : beyond;
    }
};

/* Rows of item `b`; those of windows are `pool` times fewer each way than keys are. */
template <bool WINDOWS, typename T>
static __device__ __forceinline__ auto mf_item_rows(T *first, size_t batch, size_t step, size_t b,
                                                    const struct mf_windows &w, size_t pool,
                                                    T *beyond)
{
    if constexpr (WINDOWS) {
        size_t across = (w.width + w.side - 1) / w.side, side = w.side / pool;
        return mf_window_rows<T>{
            first, beyond,          step,          b / across * side, b % across * side,
            side,  w.height / pool, w.width / pool};
    } else {
        return mf_rows<T>{first + b * batch, step};
    }
}

#endif
