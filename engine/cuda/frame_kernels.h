/*
 * Own kernels for frames, masks and the head's gradient, as functions that start them on a stream:
 * the operations of engine/frame_ops.h, which says what each does. The value is 0, or a CUDA
 * error's number.
 */
#ifndef MF_ENGINE_CUDA_FRAME_KERNELS_H
#define MF_ENGINE_CUDA_FRAME_KERNELS_H

#include "engine/frame_ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* frame.cu */
int mf_launch_clear(void *stream, uint32_t *words, size_t n); /* zeros */
int mf_launch_count(void *stream, const void *samples, size_t bytes, size_t n, uint32_t *counts);
int mf_launch_display(void *stream, const void *samples, size_t bytes, size_t n, const float *table,
                      float *image);
int mf_launch_equalise(void *stream, enum mf_equalisation kind, float *image, size_t rows,
                       size_t cols, float *room);

/* resample.cu */
int mf_launch_resample(void *stream, const struct mf_device_resample *r);
int mf_launch_weight(void *stream, const struct mf_device_weighting *w);

/* mask.cu */
int mf_launch_mask_counts(void *stream, const float *logits, size_t cells, size_t apart,
                          size_t masks, float delta, uint32_t *counts);
int mf_launch_component(void *stream, const float *soft, size_t size, uint8_t *mask,
                        uint32_t *labels, uint32_t *sizes, uint64_t *best);
int mf_launch_facts(void *stream, const uint8_t *masks, size_t size, uint32_t *facts);
int mf_launch_region(void *stream, const struct mf_device_region *r);

/* look.cu */
int mf_launch_cells(void *stream, const float *image, size_t image_cols, size_t rows, size_t cols,
                    size_t step, size_t stride, float *cells);
int mf_launch_sums(void *stream, const float *image, size_t cols,
                   const struct mf_device_part *parts, size_t count, size_t rows, size_t step,
                   size_t noise, double *sums);

/* head.cu */
int mf_launch_head_gradient(void *stream, const struct mf_device_head *head, const double *u,
                            size_t count, double scale, double *dgamma, double *dbeta,
                            double *loss);
int mf_launch_head_step(void *stream, const struct mf_device_head *head, const double *u,
                        size_t count, double rate, double bound, const double *dgamma,
                        const double *dbeta, double *z);
int mf_launch_head_sum(void *stream, const double *x, size_t count, size_t width, double *y);

#ifdef __cplusplus
}
#endif

#endif
