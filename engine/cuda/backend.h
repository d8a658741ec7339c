/* The CUDA backend's inside: a GPU, its products, and how numbers are held. */
#ifndef MF_ENGINE_CUDA_BACKEND_H
#define MF_ENGINE_CUDA_BACKEND_H

#include "engine/cuda/device.h"
#include "engine/cuda/kernels.h"
#include "engine/cuda/matmul.h"

struct mf_backend {
    struct mf_gpu *gpu;
    struct mf_matmuls *matmuls;
    void *stream;
    int threads;  /* of the host */
    bool half;    /* products of large matrices are bfloat16 */
    bool precise; /* new linear layers are float */
};

/* Linear layers (linear.c); engine/exec.h says what each does. */
struct mf_linear *mf_cuda_linear_new(struct mf_backend *be, const struct mf_linear_source *source,
                                     struct mf_error *err);
void mf_cuda_linear_free(struct mf_linear *linear);
size_t mf_cuda_linear_bytes(const struct mf_linear *linear);
bool mf_cuda_linear_plan(struct mf_linear *linear, size_t m, size_t x_row,
                         enum mf_epilogue epilogue, size_t *ret_scratch, struct mf_error *err);
bool mf_cuda_linear_run(struct mf_linear *linear, const float *x, size_t m, size_t x_row, float *y,
                        enum mf_epilogue epilogue, float *scratch, struct mf_error *err);
size_t mf_cuda_norm_linear_scratch(const struct mf_linear *linear, size_t m);
void mf_cuda_norm_linear(struct mf_linear *linear, const struct mf_norm *norm, const float *x,
                         size_t m, float *y, enum mf_epilogue epilogue, float *scratch);
size_t mf_cuda_mlp_scratch(const struct mf_linear *fc1, const struct mf_linear *fc2, size_t m);
void mf_cuda_mlp(struct mf_linear *fc1, struct mf_linear *fc2, const struct mf_norm *norm,
                 enum mf_epilogue activation, float *h, size_t m, float *scratch);
size_t mf_cuda_self_attention_scratch(const struct mf_linear *qkv, const struct mf_linear *output,
                                      const struct mf_attention *at);
void mf_cuda_self_attention(struct mf_linear *qkv, struct mf_linear *output,
                            const struct mf_norm *norm, const struct mf_attention *at, float *h,
                            float *scratch);

#endif
