/*
 * Own kernels, as functions that start them on a stream. Shapes and meanings are those of the
 * operation of the same name in engine/exec.h; arrays are device memory. The value is 0, or a CUDA
 * error's number. `half` = outputs are bfloat16 (as uint16_t), else float.
 */
#ifndef MF_ENGINE_CUDA_KERNELS_H
#define MF_ENGINE_CUDA_KERNELS_H

#include "engine/exec.h"

#ifdef __cplusplus
extern "C" {
#endif

/* elementwise.cu */
int mf_launch_unary(void *stream, enum mf_unary op, const float *x, size_t n, float *y);
/* GELU in place */
int mf_launch_gelu(void *stream, void *y, size_t n, bool half);
int mf_launch_glu(void *stream, enum mf_glu op, const float *x, size_t rows, size_t half, float *y);
int mf_launch_add(void *stream, const float *x, size_t x_rows, size_t rows, size_t width,
                  float scale, float *y);
int mf_launch_scale(void *stream, float factor, size_t n, float *y);
/* x (rows, width; rows x_row apart) → bfloat16 (rows, y_row), zeros from `width` on */
int mf_launch_halve(void *stream, const float *x, size_t rows, size_t width, size_t x_row,
                    uint16_t *y, size_t y_row);

/* convert.cu: x, `groups` images or filters that lie `group` elements apart, each of `cells` cells
 * of `channels` numbers (channel by channel unless `last`) → y (groups, cells, padded), zeros from
 * `channels` on. Both are floats unless `from_half` or `half` (which `from_half` implies). */
struct mf_channels {
    size_t groups, group, cells, channels, padded;
    bool last, from_half, half;
};
int mf_launch_pack_channels(void *stream, const struct mf_channels *channels, const void *x,
                            void *y);
/* bfloat16 (rows, width) → floats, rows y_row apart */
int mf_launch_widen(void *stream, const uint16_t *x, size_t rows, size_t width, float *y,
                    size_t y_row);

/* bfloat16 · factor → E4M3 (e4m3.h) */
int mf_launch_quantise(void *stream, const uint16_t *x, size_t n, float factor, uint8_t *y);

/* norm.cu; bias NULL: RMSNorm. y (rows, y_row), of bfloat16 zeros from `width` on. */
int mf_launch_norm(void *stream, const float *x, size_t rows, const struct mf_norm *norm, void *y,
                   size_t y_row, bool half);

/* layout.cu */
int mf_launch_unfold(void *stream, const struct mf_unfold *u, const float *x, float *y);
int mf_launch_max_pool(void *stream, const float *x, size_t batch, size_t h, size_t w, size_t c,
                       size_t row, size_t sh, size_t sw, float *y);
int mf_launch_upsample2_add(void *stream, const float *x, size_t h, size_t w, size_t c, float *y);
int mf_launch_pixel_shuffle_add(void *stream, const float *x, size_t h, size_t w, size_t c,
                                const float *add, float *y);
int mf_launch_reverse_rows(void *stream, const float *x, size_t rows, size_t width, float *y);
int mf_launch_rotate(void *stream, const float *table, size_t period, size_t rows, size_t row,
                     size_t heads, size_t size, float *y);

/* reduce.cu */
int mf_launch_dot_rows(void *stream, const float *x, size_t m, size_t k, const float *w, size_t n,
                       float *y);
int mf_launch_region_pool(void *stream, const float *x, size_t rows, size_t cols, size_t width,
                          size_t r, float *y);
int mf_launch_row_mean(void *stream, const float *x, size_t rows, size_t width, float *y);
int mf_launch_depthwise(void *stream, const float *x, size_t h, size_t w, size_t c,
                        const float *weight, const float *bias, size_t k, float *y);

/* sequence.cu */
int mf_launch_causal_conv(void *stream, const float *x, size_t t, size_t c, size_t x_row,
                          const float *weight, const float *bias, size_t k, float *y);
int mf_launch_selective_scan(void *stream, const struct mf_scan *scan, float *y);

/* attention.cu: in floats, head sizes up to MF_ATTENTION_MOST. `windows`: NULL, or where the rows
 * of `at`'s items lie (mf_ops.window_attention). */
enum { MF_ATTENTION_MOST = 256 };
int mf_launch_attention(void *stream, const struct mf_attention *at,
                        const struct mf_windows *windows, const float *q, const float *k,
                        const float *v, float *o);
/* attention_mma.cu: products in bfloat16 on tensor cores, softmax and sums in floats; and the same
 * of bfloat16, with strides counted in elements. */
int mf_launch_attention_mma(void *stream, const struct mf_attention *at,
                            const struct mf_windows *windows, const float *q, const float *k,
                            const float *v, float *o);
int mf_launch_attention_halves(void *stream, const struct mf_attention *at, const uint16_t *q,
                               const uint16_t *k, const uint16_t *v, uint16_t *o);

#ifdef __cplusplus
}
#endif

#endif
