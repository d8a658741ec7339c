/* The CUDA backend: one GPU, and the operation table. */
#include "engine/cuda/backend.h"

#include "engine/host.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 256 }; /* of arrays that cuDNN reads and writes */

static void backend_free(struct mf_backend *be)
{
    if (!be)
        return;
    mf_dnn_free(be->dnn);
    mf_matmuls_free(be->matmuls);
    mf_gpu_close(be->gpu);
    free(be);
}

/* Tensor cores multiply E4M3 from Ada on. */
static bool can_eight(const struct mf_backend *be, struct mf_error *err)
{
    enum { ADA = 89 };
    int capability = mf_gpu_capability(be->gpu);
    return !be->eight || capability >= ADA ||
           mf_error_set(err, MF_ERR_UNAVAILABLE,
                        "dtype \"fp8\" needs compute capability 8.9, this GPU has %d.%d",
                        capability / 10, capability % 10);
}

struct mf_backend *mf_cuda_backend_new(int number, const char *dtype, int threads,
                                       struct mf_error *err)
{
    bool eight = dtype && strcmp(dtype, "fp8") == 0;
    bool half = eight || (dtype && strcmp(dtype, "bf16") == 0);
    if (dtype && !half && strcmp(dtype, "f32") != 0) {
        mf_error_set(err, MF_ERR_UNAVAILABLE,
                     "dtype \"%.16s\" is not available on cuda: f32, bf16 and fp8 are", dtype);
        return NULL;
    }
    struct mf_backend *be = calloc(1, sizeof *be);
    if (!be) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
        return NULL;
    }
    be->half = half;
    be->eight = eight;
    be->threads = threads > 0 ? threads : mf_host_cores();
    be->gpu = mf_gpu_open(number, err);
    be->matmuls = be->gpu && can_eight(be, err) ? mf_matmuls_new(be->gpu, err) : NULL;
    if (!be->matmuls) {
        backend_free(be);
        return NULL;
    }
    be->stream = mf_gpu_stream(be->gpu);
    return be;
}

int mf_cuda_count(void)
{
    return mf_gpu_count();
}

static struct mf_backend *backend_new(const char *dtype, int threads, struct mf_error *err)
{
    return mf_cuda_backend_new(0, dtype, threads, err);
}

static const char *dtype_of(const struct mf_backend *be)
{
    return be->eight_layers ? "fp8" : be->half ? "bf16" : "f32";
}

static void enter(const struct mf_backend *be)
{
    mf_gpu_enter(be->gpu);
}

static bool finish(struct mf_backend *be, struct mf_error *err)
{
    return mf_gpu_finish(be->gpu, err);
}

static int host_threads(const struct mf_backend *be)
{
    return be->threads;
}

static void precision(struct mf_backend *be, enum mf_precision least)
{
    be->precision = least;
}

struct mf_dnn *mf_cuda_dnn(struct mf_backend *be)
{
    if (!be->dnn && !be->no_dnn && be->kernels != MF_CUDA_OWN) {
        be->dnn = mf_dnn_new(be->gpu, NULL);
        be->no_dnn = !be->dnn;
    }
    return be->kernels == MF_CUDA_OWN ? NULL : be->dnn;
}

static bool kernels(struct mf_backend *be, const char *choice, struct mf_error *err)
{
    be->kernels = strcmp(choice, "own") == 0     ? MF_CUDA_OWN
                  : strcmp(choice, "cudnn") == 0 ? MF_CUDA_DNN
                                                 : MF_CUDA_AUTO;
    if (be->kernels == MF_CUDA_DNN && !be->dnn)
        be->dnn = mf_dnn_new(be->gpu, err);
    return be->kernels != MF_CUDA_DNN || be->dnn;
}

static void about(const struct mf_backend *be, char *ret, size_t room)
{
    size_t refused = 0, shapes = be->dnn ? mf_dnn_shapes(be->dnn, &refused) : 0,
           version = be->dnn ? mf_dnn_version(be->dnn) : 0;
    if (be->dnn)
        snprintf(ret, room, "cuDNN %zu.%zu.%zu computes %zu shapes, refused %zu", version / 10000,
                 version / 100 % 100, version % 100, shapes, refused);
    else
        snprintf(ret, room, "own kernels%s", be->no_dnn ? ", there is no cuDNN" : "");
}

size_t mf_cuda_room(size_t bytes)
{
    return ((bytes + ALIGNMENT - 1) / ALIGNMENT + 1) * (ALIGNMENT / sizeof(float));
}

void *mf_cuda_aligned(float *scratch)
{
    return (void *)(((uintptr_t)scratch + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
}

static void *memory_new(struct mf_backend *be, size_t bytes, struct mf_error *err)
{
    return mf_gpu_alloc(be->gpu, bytes, err);
}

static void memory_free(struct mf_backend *be, void *memory)
{
    mf_gpu_release(be->gpu, memory);
}

static void upload(struct mf_backend *be, float *device, const float *host, size_t n)
{
    mf_gpu_upload(be->gpu, device, host, n * sizeof *device);
}

static void download(struct mf_backend *be, float *host, const float *device, size_t n)
{
    mf_gpu_download(be->gpu, host, device, n * sizeof *host);
}

static void copy(struct mf_backend *be, const float *x, size_t n, float *y)
{
    mf_gpu_copy(be->gpu, y, x, n * sizeof *y);
}

static void fill(struct mf_backend *be, int slot, float *device, const float *host, size_t n)
{
    mf_gpu_fill(be->gpu, slot, device, host, n * sizeof *device);
}

static void await(struct mf_backend *be, int slot)
{
    mf_gpu_await(be->gpu, slot);
}

static void used(struct mf_backend *be, int slot)
{
    mf_gpu_used(be->gpu, slot);
}

static bool record(struct mf_backend *be)
{
    return mf_gpu_record(be->gpu);
}

static struct mf_recording *recorded(struct mf_backend *be)
{
    return (struct mf_recording *)mf_gpu_recorded(be->gpu);
}

static void replay(struct mf_backend *be, struct mf_recording *recording)
{
    mf_gpu_replay(be->gpu, (struct mf_gpu_graph *)recording);
}

static void recording_free(struct mf_recording *recording)
{
    mf_gpu_graph_free((struct mf_gpu_graph *)recording);
}

static bool memory(struct mf_backend *be, size_t *ret_total, size_t *ret_available,
                   size_t *ret_taken)
{
    struct mf_gpu_memory m;
    if (!mf_gpu_memory(be->gpu, &m))
        return false;
    *ret_total = m.total;
    *ret_available = m.available;
    *ret_taken = m.reserved;
    return true;
}

/* Starts a kernel on `n` numbers: nothing to do where there are none. */
#define START(be, n, name, ...)                                                                    \
    do {                                                                                           \
        if ((n) > 0)                                                                               \
            mf_gpu_note((be)->gpu, mf_launch_##name((be)->stream, __VA_ARGS__),                    \
                        "starting " #name);                                                        \
    } while (0)

static void layer_norm(struct mf_backend *be, const float *x, size_t rows, size_t width,
                       const float *weight, const float *bias, float eps, float *y)
{
    const struct mf_norm norm = {weight, bias, width, eps};
    START(be, rows, norm, x, rows, &norm, y, width, false);
}

static void rms_norm(struct mf_backend *be, const float *x, size_t rows, size_t width,
                     const float *weight, float eps, float *y)
{
    layer_norm(be, x, rows, width, weight, NULL, eps, y);
}

static void unary(struct mf_backend *be, enum mf_unary op, const float *x, size_t n, float *y)
{
    START(be, n, unary, op, x, n, y);
}

static void glu(struct mf_backend *be, enum mf_glu op, const float *x, size_t rows, size_t half,
                float *y)
{
    START(be, rows * half, glu, op, x, rows, half, y);
}

static void add(struct mf_backend *be, const float *x, size_t x_rows, size_t rows, size_t width,
                float factor, float *y)
{
    START(be, rows * width, add, x, x_rows, rows, width, factor, y);
}

static void scale(struct mf_backend *be, float factor, size_t n, float *y)
{
    START(be, n, scale, factor, n, y);
}

static void reverse_rows(struct mf_backend *be, const float *x, size_t rows, size_t width, float *y)
{
    START(be, rows * width, reverse_rows, x, rows, width, y);
}

static void unfold(struct mf_backend *be, const struct mf_unfold *u, const float *x, float *y)
{
    START(be, mf_unfold_rows(u), unfold, u, x, y);
}

static void max_pool(struct mf_backend *be, const float *x, size_t batch, size_t h, size_t w,
                     size_t c, size_t row, size_t sh, size_t sw, float *y)
{
    START(be, batch * (h / sh) * (w / sw), max_pool, x, batch, h, w, c, row, sh, sw, y);
}

static void upsample2_add(struct mf_backend *be, const float *x, size_t h, size_t w, size_t c,
                          float *y)
{
    START(be, h * w, upsample2_add, x, h, w, c, y);
}

static void pixel_shuffle_add(struct mf_backend *be, const float *x, size_t h, size_t w, size_t c,
                              const float *more, float *y)
{
    START(be, h * w, pixel_shuffle_add, x, h, w, c, more, y);
}

static void dot_rows(struct mf_backend *be, const float *x, size_t m, size_t k, const float *w,
                     size_t n, float *y)
{
    START(be, m * n, dot_rows, x, m, k, w, n, y);
}

static void region_pool(struct mf_backend *be, const float *x, size_t rows, size_t cols,
                        size_t width, size_t r, float *y)
{
    START(be, r * width, region_pool, x, rows, cols, width, r, y);
}

static void row_mean(struct mf_backend *be, const float *x, size_t rows, size_t width, float *y)
{
    START(be, width, row_mean, x, rows, width, y);
}

static void causal_conv(struct mf_backend *be, const float *x, size_t t, size_t c, size_t x_row,
                        const float *weight, const float *bias, size_t k, float *y)
{
    START(be, t * c, causal_conv, x, t, c, x_row, weight, bias, k, y);
}

static void selective_scan(struct mf_backend *be, const struct mf_scan *scan, float *y)
{
    START(be, scan->length, selective_scan, scan, y);
}

static void depthwise(struct mf_backend *be, const float *x, size_t h, size_t w, size_t c,
                      const float *weight, const float *bias, size_t k, float *y)
{
    START(be, h * w, depthwise, x, h, w, c, weight, bias, k, y);
}

static void rotate(struct mf_backend *be, const float *table, size_t period, size_t rows,
                   size_t row, size_t heads, size_t size, float *y)
{
    START(be, rows, rotate, table, period, rows, row, heads, size, y);
}

const struct mf_ops mf_cuda_ops = {
    .device = "cuda",
    .dtype = dtype_of,
    .precision = precision,
    .backend_new = backend_new,
    .backend_free = backend_free,
    .enter = enter,
    .finish = finish,
    .host_threads = host_threads,
    .memory_new = memory_new,
    .memory_free = memory_free,
    .upload = upload,
    .download = download,
    .fill = fill,
    .await = await,
    .used = used,
    .record = record,
    .recorded = recorded,
    .replay = replay,
    .recording_free = recording_free,
    .batch = 32,
    .frames = &mf_cuda_frame_ops,
    .memory = memory,
    .linear_new = mf_cuda_linear_new,
    .linear_free = mf_cuda_linear_free,
    .linear_bytes = mf_cuda_linear_bytes,
    .linear_plan = mf_cuda_linear_plan,
    .linear = mf_cuda_linear_run,
    .norm_linear_scratch = mf_cuda_norm_linear_scratch,
    .norm_linear = mf_cuda_norm_linear,
    .mlp_scratch = mf_cuda_mlp_scratch,
    .mlp = mf_cuda_mlp,
    .self_attention_scratch = mf_cuda_self_attention_scratch,
    .self_attention = mf_cuda_self_attention,
    .layer_norm = layer_norm,
    .rms_norm = rms_norm,
    .attention_scratch = mf_cuda_attention_scratch,
    .attention = mf_cuda_attention,
    .window_attention_scratch = mf_cuda_window_attention_scratch,
    .window_attention = mf_cuda_window_attention,
    .conv_scratch = mf_cuda_conv_scratch,
    .conv = mf_cuda_conv,
    .kernels = kernels,
    .about = about,
    .unary = unary,
    .glu = glu,
    .copy = copy,
    .add = add,
    .scale = scale,
    .reverse_rows = reverse_rows,
    .unfold = unfold,
    .max_pool = max_pool,
    .upsample2_add = upsample2_add,
    .pixel_shuffle_add = pixel_shuffle_add,
    .dot_rows = dot_rows,
    .region_pool = region_pool,
    .row_mean = row_mean,
    .causal_conv = causal_conv,
    .selective_scan = selective_scan,
    .depthwise = depthwise,
    .rotate = rotate,
};
