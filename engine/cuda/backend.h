/* The CUDA backend's inside: a GPU, its products, and how numbers are held. */
#ifndef MF_ENGINE_CUDA_BACKEND_H
#define MF_ENGINE_CUDA_BACKEND_H

#include "engine/cuda/device.h"
#include "engine/cuda/dnn.h"
#include "engine/cuda/kernels.h"
#include "engine/cuda/matmul.h"
#include "engine/frame_ops.h"

/* Who computes convolutions and attention, where both can. */
enum mf_cuda_kernels {
    MF_CUDA_AUTO, /* whichever is faster, as a rule that depends on the card and the shape alone */
    MF_CUDA_OWN,
    MF_CUDA_DNN
};

struct mf_backend {
    struct mf_gpu *gpu;
    struct mf_matmuls *matmuls;
    enum mf_cuda_kernels kernels;
    struct mf_dnn *dnn; /* NULL: not wanted yet, or not there */
    bool no_dnn;        /* it was looked for in vain */
    void *stream;
    int threads;                 /* of the host */
    bool half;                   /* products of large matrices are bfloat16 */
    bool eight;                  /* or E4M3, where inputs were observed */
    size_t eight_layers;         /* that are */
    enum mf_precision precision; /* of new linear layers */
};

extern const struct mf_frame_ops mf_cuda_frame_ops; /* frames.c */

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

/* Convolutions as unfolded patches and a product, or by cuDNN (conv.c); engine/exec.h. */
size_t mf_cuda_conv_scratch(struct mf_linear *linear, const struct mf_unfold *u,
                            enum mf_epilogue epilogue);
void mf_cuda_conv(struct mf_linear *linear, const struct mf_unfold *u, const float *x, float *y,
                  enum mf_epilogue epilogue, float *scratch);

/* Attention by own kernels or by cuDNN (attend.c); engine/exec.h. */
size_t mf_cuda_attention_scratch(struct mf_backend *be, const struct mf_attention *at);
void mf_cuda_attention(struct mf_backend *be, const struct mf_attention *at, const float *q,
                       const float *k, const float *v, float *o, float *scratch);
size_t mf_cuda_window_attention_scratch(struct mf_backend *be, const struct mf_attention *at);
void mf_cuda_window_attention(struct mf_backend *be, const struct mf_attention *at,
                              const struct mf_windows *windows, const float *q, const float *k,
                              const float *v, float *o, float *scratch);
/* The same of bfloat16, in strides of bfloat16. */
size_t mf_cuda_attend_halves_scratch(struct mf_backend *be, const struct mf_attention *at);
void mf_cuda_attend_halves(struct mf_backend *be, const struct mf_attention *at, const uint16_t *q,
                           const uint16_t *k, const uint16_t *v, uint16_t *o, float *scratch);

/* cuDNN, looked for when it is first wanted; NULL: it is not there, or own kernels were asked for.
 */
struct mf_dnn *mf_cuda_dnn(struct mf_backend *be);
/* Floats that `bytes` take in scratch memory, with room for an address that is a multiple of 256,
 * and that address. */
size_t mf_cuda_room(size_t bytes);
void *mf_cuda_aligned(float *scratch);

#endif
