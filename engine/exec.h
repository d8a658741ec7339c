/*
 * How networks run: one table of operations per backend, a context that plans memory and then
 * executes.
 *
 * A network is a C function that allocates from the context's workspace and calls operations. In a
 * planning pass nothing is computed: the workspace only records its peak and backends create what a
 * shape needs (oneDNN primitives). Then the same function runs for real in memory that never grows.
 * Errors are sticky: after the first one every operation is a no-op, so that networks need no
 * checks between operations.
 *
 * Pointers to `float` are device memory unless a name says host. Shapes are row-major; activations
 * are (rows, width), images channels last (h, w, c) unless said otherwise.
 */
#ifndef MF_ENGINE_EXEC_H
#define MF_ENGINE_EXEC_H

#include "core/auto.h"
#include "core/error.h"
#include "engine/engine.h"

#include <math.h>
#include <stddef.h>

struct mf_linear;       /* packed weights of one linear layer; a backend's own */
struct mf_weight_store; /* engine/weight_store.h */
struct mf_backend;
struct mf_recording;
struct mf_frame_ops; /* engine/frame_ops.h */

/* Weights of a norm over rows of `width`, on the device. */
struct mf_norm {
    const float *weight, *bias; /* bias NULL: RMSNorm */
    size_t width;
    float eps;
};

/* How much of a float products keep, whatever the dtype: more before a recurrence, which adds up
 * what rounding does, and before a decision, which makes much of it. */
enum mf_precision {
    MF_PRECISION_DTYPE,  /* what the dtype says */
    MF_PRECISION_BF16,   /* 8 bits */
    MF_PRECISION_16_BITS /* twice that */
};

/* What a linear layer is made of; all of it on the host and read while linear_new() runs. */
struct mf_linear_source {
    const char *name; /* within its module; NULL: its input is not observed */
    size_t out, in;
    /* Rows [first, first + count) of the weights (out, in): written to `room` (count · in floats),
     * or where they lie already. Called by several threads at once. */
    const float *(*rows)(const struct mf_linear_source *source, size_t first, size_t count,
                         float *room);
    const void *arg;
    const float *bias; /* (out), or NULL */
    /* (in), or NULL for ones. Products in 8 bits are those of x / smooth and weight · smooth: the
     * same numbers, with less difference between the columns of x (models/FORMAT.md). */
    const float *smooth;
    /* The largest magnitude of x that calibration studies showed; 0: not known. */
    float peak;
    bool few_rows; /* x has a handful of rows as a rule: reading the weights is what takes time */
};

enum mf_epilogue { MF_EPILOGUE_NONE, MF_EPILOGUE_RELU, MF_EPILOGUE_GELU, MF_EPILOGUE_ADD };
enum mf_unary { MF_UNARY_GELU, MF_UNARY_RELU, MF_UNARY_SILU, MF_UNARY_SIGMOID, MF_UNARY_TANH };
enum mf_glu { MF_GLU_RELU, MF_GLU_SILU }; /* a·relu(b); silu(a)·b */

/* softmax(scale · q kᵀ) v for every batch item and head. Head h of a row lies at column h ·
 * head_size. `*_row` are the strides of rows,
 * `*_batch` of batch items, in floats (0 = shared by all items). */
struct mf_attention {
    size_t batch, heads, head_size, queries, keys;
    size_t q_row, k_row, v_row, o_row;
    size_t q_batch, k_batch, v_batch, o_batch;
    float scale;
};

/* Attention within the windows of a grid: keys and values lie as (height, width) rows, queries and
 * outputs as (height / pool, width / pool) rows, all cut into windows of `side` × `side` keys from
 * the top left corner. What a window holds beyond the grid are keys and values `k_pad` and `v_pad`,
 * a row each, unmasked; no query is made there. */
struct mf_windows {
    size_t side, height, width, pool; /* side is a multiple of pool */
    const float *k_pad, *v_pad;
};

/* Patches of an image as rows: (batch · oh · ow, kh · kw · channels) for a convolution as a matrix
 * product. */
struct mf_unfold {
    size_t batch, channels, height, width;
    size_t kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w;
    bool channels_last; /* of the image and of the columns: (ky, kx, c); else (c, ky, kx) */
};

/* One Mamba recurrence over `length` steps of `channels` channels with `states` states each (struct
 * of arrays). */
struct mf_scan {
    size_t length, channels, states;
    const float *u;     /* (length, channels): after convolution and silu */
    const float *dt;    /* (length, channels): before softplus, bias added */
    const float *b, *c; /* (length, states), rows `bc_row` apart */
    size_t bc_row;
    const float *a; /* (states, channels): −exp(A_log), transposed */
    const float *d; /* (channels) */
    const float *z; /* (length, channels), rows `z_row` apart */
    size_t z_row;
};

/* The operations of a backend. Every `y` may not alias `x` unless said. */
struct mf_ops {
    const char *device;
    /* dtype: "f32", "bf16", "int8" or "fp8", what the products of large matrices are computed in;
     * NULL = f32. A device that has no faster arithmetic for it computes in f32 instead. */
    struct mf_backend *(*backend_new)(const char *dtype, int threads, struct mf_error *err);
    const char *(*dtype)(const struct mf_backend *be); /* what it computes in */
    void (*backend_free)(struct mf_backend *be);
    /* Called by a thread before it plans or runs: settings that belong to the thread (number of
     * threads, current device). */
    void (*enter)(const struct mf_backend *be);
    /* Optional. Waits for all work; what failed since the backend was made. */
    bool (*finish)(struct mf_backend *be, struct mf_error *err);
    int (*host_threads)(const struct mf_backend *be); /* for work on the host beside it */
    void *(*memory_new)(struct mf_backend *be, size_t bytes, struct mf_error *err);
    void (*memory_free)(struct mf_backend *be, void *memory);
    void (*upload)(struct mf_backend *be, float *device, const float *host, size_t n);
    void (*download)(struct mf_backend *be, float *host, const float *device, size_t n);

    /* Optional, together: uploads beside the work in hand. A slot is a place in device memory that
     * is filled again and again: fill() copies once the work that read its last filling is done;
     * await(): what is asked for from now on sees the filling; used(): what was asked for until now
     * is all that reads it. */
    void (*fill)(struct mf_backend *be, int slot, float *device, const float *host, size_t n);
    void (*await)(struct mf_backend *be, int slot);
    void (*used)(struct mf_backend *be, int slot);
    /* Optional, together: work that is asked for again and again with the same addresses. What is
     * asked for between record() and recorded() is not computed. record() false, recorded() NULL:
     * it cannot be recorded. */
    bool (*record)(struct mf_backend *be);
    struct mf_recording *(*recorded)(struct mf_backend *be);
    void (*replay)(struct mf_backend *be, struct mf_recording *recording);
    void (*recording_free)(struct mf_recording *recording);
    size_t batch; /* frames that are best computed together; 0: each on its own */
    /* Optional: frames and masks are worked on where the network runs. */
    const struct mf_frame_ops *frames;
    /* Optional. Bytes of the device: of all of it, free of it, taken by this backend. */
    bool (*memory)(struct mf_backend *be, size_t *ret_total, size_t *ret_available,
                   size_t *ret_taken);

    /* Optional, together. Who computes convolutions and attention where several can, from now on:
     * "own" kernels, "cudnn", or "auto" (as it is at first). MF_ERR_UNAVAILABLE when what is asked
     * for is not there. And a line about it, for `bench`. */
    bool (*kernels)(struct mf_backend *be, const char *choice, struct mf_error *err);
    void (*about)(const struct mf_backend *be, char *ret, size_t room);

    /* What layers made, and attention planned and run, from now on keep at least. NULL: not needed.
     */
    void (*precision)(struct mf_backend *be, enum mf_precision least);
    /* Optional: new layers' weights lie in the store where they can, which outlives them. */
    void (*share)(struct mf_backend *be, struct mf_weight_store *store);
    struct mf_linear *(*linear_new)(struct mf_backend *be, const struct mf_linear_source *source,
                                    struct mf_error *err);
    void (*linear_free)(struct mf_linear *linear);
    size_t (*linear_bytes)(const struct mf_linear *linear);
    /* Makes what (m, x_row, epilogue) needs; floats of scratch it wants in *ret_scratch. */
    bool (*linear_plan)(struct mf_linear *linear, size_t m, size_t x_row, enum mf_epilogue epilogue,
                        size_t *ret_scratch, struct mf_error *err);
    /* y (m, out) = epilogue(x (m, in; rows x_row apart) · weightᵀ + bias); MF_EPILOGUE_ADD: y += ….
     */
    bool (*linear)(struct mf_linear *linear, const float *x, size_t m, size_t x_row, float *y,
                   enum mf_epilogue epilogue, float *scratch, struct mf_error *err);

    /* Fused forms, each optional (NULL, or 0 floats of scratch: the context composes it). Scratch
     * in floats, or 0 when these layers and m are not worth fusing. y = epilogue(layer_norm(x) ·
     * weightᵀ + bias) */
    size_t (*norm_linear_scratch)(const struct mf_linear *linear, size_t m);
    void (*norm_linear)(struct mf_linear *linear, const struct mf_norm *norm, const float *x,
                        size_t m, float *y, enum mf_epilogue epilogue, float *scratch);
    /* h (m, width) += fc2(activation(fc1(layer_norm(h)))) */
    size_t (*mlp_scratch)(const struct mf_linear *fc1, const struct mf_linear *fc2, size_t m);
    void (*mlp)(struct mf_linear *fc1, struct mf_linear *fc2, const struct mf_norm *norm,
                enum mf_epilogue activation, float *h, size_t m, float *scratch);

    /* h (batch · tokens, width) += output(attention(qkv(layer_norm(h)))); `at` as of rows of qkv */
    size_t (*self_attention_scratch)(const struct mf_linear *qkv, const struct mf_linear *output,
                                     const struct mf_attention *at);
    void (*self_attention)(struct mf_linear *qkv, struct mf_linear *output,
                           const struct mf_norm *norm, const struct mf_attention *at, float *h,
                           float *scratch);

    /* y (rows of u, out) = epilogue(x cut as `u` says · weightᵀ + bias), NONE or RELU. */
    size_t (*conv_scratch)(struct mf_linear *linear, const struct mf_unfold *u,
                           enum mf_epilogue epilogue);
    void (*conv)(struct mf_linear *linear, const struct mf_unfold *u, const float *x, float *y,
                 enum mf_epilogue epilogue, float *scratch);

    void (*layer_norm)(struct mf_backend *be, const float *x, size_t rows, size_t width,
                       const float *weight, const float *bias, float eps,
                       float *y); /* y = x allowed */
    void (*rms_norm)(struct mf_backend *be, const float *x, size_t rows, size_t width,
                     const float *weight, float eps, float *y);
    size_t (*attention_scratch)(struct mf_backend *be, const struct mf_attention *at);
    void (*attention)(struct mf_backend *be, const struct mf_attention *at, const float *q,
                      const float *k, const float *v, float *o, float *scratch);
    /* Optional. `at` says one window of each item: batch windows, queries and keys of a whole one;
     * the batch strides are not used. Tokens that a block with windows is best run with at a time,
     * so that its tensors stay in caches; 0: all of them. */
    size_t window_tokens;
    size_t (*window_attention_scratch)(struct mf_backend *be, const struct mf_attention *at);
    void (*window_attention)(struct mf_backend *be, const struct mf_attention *at,
                             const struct mf_windows *windows, const float *q, const float *k,
                             const float *v, float *o, float *scratch);
    void (*unary)(struct mf_backend *be, enum mf_unary op, const float *x, size_t n,
                  float *y); /* y = x allowed */
    /* x (rows, 2·half) → y (rows, half) */
    void (*glu)(struct mf_backend *be, enum mf_glu op, const float *x, size_t rows, size_t half,
                float *y);
    void (*copy)(struct mf_backend *be, const float *x, size_t n, float *y);
    /* y[r][i] += scale · x[r % x_rows][i], rows of `width`; x_rows = rows adds a whole tensor. */
    void (*add)(struct mf_backend *be, const float *x, size_t x_rows, size_t rows, size_t width,
                float scale, float *y);
    void (*scale)(struct mf_backend *be, float factor, size_t n, float *y);
    void (*reverse_rows)(struct mf_backend *be, const float *x, size_t rows, size_t width,
                         float *y);
    void (*unfold)(struct mf_backend *be, const struct mf_unfold *u, const float *x, float *y);
    /* (batch, h, w, c; rows of c are `row` apart) → (batch, h/sh, w/sw, c) */
    void (*max_pool)(struct mf_backend *be, const float *x, size_t batch, size_t h, size_t w,
                     size_t c, size_t row, size_t sh, size_t sw, float *y);
    /* Where there is no window_attention: (h, w, c) → windows (⌈h/s⌉·⌈w/s⌉, s, s, c), zeros
     * outside; and back, adding: y (h, w, c) += windows. Only the CPU has them, for tests to
     * compare with. */
    void (*windows)(struct mf_backend *be, const float *x, size_t h, size_t w, size_t c, size_t s,
                    float *y);
    void (*unwindows_add)(struct mf_backend *be, const float *x, size_t h, size_t w, size_t c,
                          size_t s, float *y);
    /* y (2h, 2w, c) += nearest ×2 of x (h, w, c) */
    void (*upsample2_add)(struct mf_backend *be, const float *x, size_t h, size_t w, size_t c,
                          float *y);
    /* (h·w, 4·c) in the order of mf_load_upconv() → y (2h, 2w, c), plus `add` of that shape */
    void (*pixel_shuffle_add)(struct mf_backend *be, const float *x, size_t h, size_t w, size_t c,
                              const float *add, float *y);
    /* y (n, m) = w (n, k) · x (m, k)ᵀ */
    void (*dot_rows)(struct mf_backend *be, const float *x, size_t m, size_t k, const float *w,
                     size_t n, float *y);
    /* (rows, cols, width) → (r·r, width): means over adaptive bins */
    void (*region_pool)(struct mf_backend *be, const float *x, size_t rows, size_t cols,
                        size_t width, size_t r, float *y);
    /* y (width) = mean of `rows` rows */
    void (*row_mean)(struct mf_backend *be, const float *x, size_t rows, size_t width, float *y);
    /* causal depth-wise convolution over time, then silu: x (t, c; rows x_row apart), weight (k, c)
     */
    void (*causal_conv)(struct mf_backend *be, const float *x, size_t t, size_t c, size_t x_row,
                        const float *weight, const float *bias, size_t k, float *y);
    void (*selective_scan)(struct mf_backend *be, const struct mf_scan *scan,
                           float *y); /* (length, channels) */
    /* depth-wise k × k convolution, k odd, zeros outside: x (h, w, c), weight (k·k, c) */
    void (*depthwise)(struct mf_backend *be, const float *x, size_t h, size_t w, size_t c,
                      const float *weight, const float *bias, size_t k, float *y);
    /* Rotary positions, in place: pairs (a, b) of each of `heads` heads of `size` floats become
     * (a·cos − b·sin, b·cos + a·sin). Rows are `row` apart; row r takes row r % period of the
     * table (period, size/2, 2) of cos and sin. */
    void (*rotate)(struct mf_backend *be, const float *table, size_t period, size_t rows,
                   size_t row, size_t heads, size_t size, float *y);
};

extern const struct mf_ops mf_cpu_ops;
/* Only where MEDFUSION_CUDA is built: */
extern const struct mf_ops mf_cuda_ops;
int mf_cuda_count(void); /* GPUs that this process sees */
/* On the GPU of this number; backend_new() of the table takes the first. */
struct mf_backend *mf_cuda_backend_new(int number, const char *dtype, int threads,
                                       struct mf_error *err) MF_CHECK_RESULT;

struct mf_exec;

/* Looks at the inputs of linear layers: how smoothing factors are found (smoothing.h). What is
 * fused otherwise is composed for it. */
struct mf_observer {
    /* A layer was made of `source`, which is valid during the call. */
    bool (*layer)(void *arg, const struct mf_linear *linear, const struct mf_linear_source *source,
                  struct mf_error *err);
    /* A layer is about to read m rows (device memory, `in_row` apart, 0: without gaps). */
    void (*input)(void *arg, struct mf_exec *x, const struct mf_linear *linear, const float *in,
                  size_t m, size_t in_row);
    void *arg;
};

struct mf_exec {
    const struct mf_ops *ops;
    struct mf_backend *backend;
    char device[16]; /* "cpu", "cuda:0" */
    char *base;      /* workspace */
    size_t capacity, used, peak;
    bool planning;
    struct mf_error error; /* sticky */
    const struct mf_tap *tap;
    const struct mf_observer *observer; /* NULL: none; set before anything is loaded */
    size_t weight_bytes;
    struct owned *owned; /* weights and vectors, freed with the context */
    struct section *sections;
};

/* device: "cpu", "cuda:N", or NULL: the first GPU that works, else the CPU. dtype: "f32", "bf16",
 * "int8" (the CPU), "fp8" (GPUs) or NULL = f32. MF_ERR_UNAVAILABLE when a device is not there or
 * has no such dtype. */
bool mf_exec_init(struct mf_exec *x, const char *device, const char *dtype, int threads,
                  struct mf_error *err);
void mf_exec_free(struct mf_exec *x);
MF_AUTO_DEFINE(mf_exec, struct mf_exec, mf_exec_free(p))

/* Plans `body`, makes the workspace large enough, and runs it unless `plan_only`. */
bool mf_exec_run(struct mf_exec *x, void (*body)(struct mf_exec *x, void *arg), void *arg,
                 bool plan_only, struct mf_error *err);
/* Runs `body` in the workspace as it is: for shapes that were planned before. */
bool mf_exec_replay(struct mf_exec *x, void (*body)(struct mf_exec *x, void *arg), void *arg,
                    struct mf_error *err);

/* ops->kernels with "own", "cudnn" or "auto" (NULL: as it is). A backend with one kind has no
 * "cudnn": MF_ERR_UNAVAILABLE. MF_ERR_USAGE for another word. */
bool mf_exec_kernels(struct mf_exec *x, const char *choice, struct mf_error *err);

/* Gives the workspace back; everything must be planned again. */
void mf_exec_shrink(struct mf_exec *x);

/* A part of a body without the host in it: operations alone, no uploads, downloads or decisions.
 * Where the backend can, it is recorded after it first ran with an argument of these bytes (so
 * `arg` has no padding, and holds every address that the part uses) and replayed afterwards. */
void mf_exec_section(struct mf_exec *x, void (*body)(struct mf_exec *x, void *arg), void *arg,
                     size_t bytes);

/* fill, await and used of the backend, or a plain upload where it has none. */
void mf_exec_fill(struct mf_exec *x, int slot, float *device, const float *host, size_t n);
void mf_exec_await(struct mf_exec *x, int slot);
void mf_exec_used(struct mf_exec *x, int slot);

/* n floats, 64-byte aligned, until the workspace is rewound to a mark taken before. */
float *mf_exec_floats(struct mf_exec *x, size_t n);
static inline size_t mf_exec_mark(const struct mf_exec *x)
{
    return x->used;
}
static inline void mf_exec_rewind(struct mf_exec *x, size_t mark)
{
    x->used = mark;
}
/* Whether operations should compute now. */
static inline bool mf_exec_live(const struct mf_exec *x)
{
    return !x->planning && x->error.code == MF_OK;
}
/* ops->precision, where the backend has it. */
void mf_exec_precision(struct mf_exec *x, enum mf_precision least);
bool mf_exec_fail(struct mf_exec *x, enum mf_code code, const char *fmt, ...) MF_PRINTF(3, 4);
/* Keeps a device copy of host floats, or a linear layer, until the context is freed. */
const float *mf_exec_keep(struct mf_exec *x, const float *host, size_t n, struct mf_error *err);
struct mf_linear *mf_exec_keep_linear(struct mf_exec *x, const struct mf_linear_source *source,
                                      struct mf_error *err);

/* The source that a whole matrix (out, in) is. */
struct mf_linear_source mf_linear_matrix(const float *weight, const float *bias, size_t out,
                                         size_t in);
/* All rows of a source, written to `weight` (out · in floats). */
void mf_linear_read(const struct mf_linear_source *source, float *weight);

/* Shows a stage to the tap, if any. `fmt` makes the name. */
void mf_exec_tap(struct mf_exec *x, const float *data, int rank, const size_t *shape,
                 const char *fmt, ...) MF_PRINTF(5, 6);

/* The operations as networks call them. */
void mf_linear(struct mf_exec *x, struct mf_linear *linear, const float *in, size_t m, float *out,
               enum mf_epilogue epilogue);
void mf_linear_strided(struct mf_exec *x, struct mf_linear *linear, const float *in, size_t m,
                       size_t in_row, float *out, enum mf_epilogue epilogue);
/* out (m, ·) = epilogue(linear(layer_norm(in))) */
void mf_norm_linear(struct mf_exec *x, const struct mf_norm *norm, struct mf_linear *linear,
                    const float *in, size_t m, float *out, enum mf_epilogue epilogue);
/* h (m, width) += fc2(activation(fc1(layer_norm(h)))); `hidden`: outputs of fc1 */
void mf_mlp(struct mf_exec *x, const struct mf_norm *norm, struct mf_linear *fc1,
            struct mf_linear *fc2, size_t hidden, enum mf_epilogue activation, float *h, size_t m);
/* A convolution: `linear` over the patches of `in` that `u` cuts; out (mf_unfold_rows(u), ·). */
void mf_conv(struct mf_exec *x, struct mf_linear *linear, const struct mf_unfold *u,
             const float *in, float *out, enum mf_epilogue epilogue);
void mf_attend(struct mf_exec *x, const struct mf_attention *at, const float *q, const float *k,
               const float *v, float *o);
/* h (batch · tokens, width) += output(attention(qkv(layer_norm(h)))), every item among its own
 * tokens; a row of qkv is q, k and v. */
void mf_self_attention(struct mf_exec *x, const struct mf_norm *norm, struct mf_linear *qkv,
                       struct mf_linear *output, size_t heads, float *h, size_t batch,
                       size_t tokens);
/* Only where the backend has it (ops->window_attention). */
void mf_attend_windows(struct mf_exec *x, const struct mf_attention *at,
                       const struct mf_windows *windows, const float *q, const float *k,
                       const float *v, float *o);

/* Any other operation: MF_DO(x, layer_norm, in, rows, …). */
#define MF_DO(x, op, ...)                                                                          \
    do {                                                                                           \
        if (mf_exec_live(x))                                                                       \
            (x)->ops->op((x)->backend, __VA_ARGS__);                                               \
    } while (0)

/* What scores are multiplied with: 1/√head_size. */
static inline float mf_attention_scale(size_t head_size)
{
    return 1.0f / sqrtf((float)head_size);
}

static inline size_t mf_unfold_rows(const struct mf_unfold *u)
{
    return u->batch * ((u->height + 2 * u->pad_h - u->kernel_h) / u->stride_h + 1) *
           ((u->width + 2 * u->pad_w - u->kernel_w) / u->stride_w + 1);
}

#endif
