/* The CPU backend: choice of kernels, threads, memory, and the operation table. */
#include "engine/cpu/amx.h"
#include "engine/host.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#ifdef _OPENMP
#include <omp.h>
#endif

enum { SERIAL = 1 << 13, CHUNK = 1 << 12, MAX_THREADS = 256 };

#ifdef MF_CPU_X86
/* Whether ONEDNN_MAX_CPU_ISA allows a set; it caps oneDNN and the kernels here alike. */
static bool allowed(dnnl_cpu_isa_t isa)
{
    return ((unsigned)dnnl_get_effective_cpu_isa() & (unsigned)isa) == (unsigned)isa;
}
#endif

const struct cpu_kernels *mf_cpu_kernels_choose(const char *isa)
{
#ifdef MF_CPU_X86
    __builtin_cpu_init();
    bool avx512 = (isa || allowed(dnnl_cpu_isa_avx512_core)) && __builtin_cpu_supports("avx512f") &&
                  __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512dq");
    bool avx2 = (isa || allowed(dnnl_cpu_isa_avx2)) && __builtin_cpu_supports("avx2") &&
                __builtin_cpu_supports("fma");
    if (avx512 && (!isa || strcmp(isa, "avx512") == 0))
        return &mf_cpu_kernels_avx512;
    if (avx2 && (!isa || strcmp(isa, "avx2") == 0))
        return &mf_cpu_kernels_avx2;
#endif
    return !isa || strcmp(isa, "base") == 0 ? &mf_cpu_kernels_base : NULL;
}

void mf_cpu_parallel(const struct mf_backend *be, size_t n,
                     void (*body)(void *arg, size_t i, int thread), void *arg)
{
    if (be->threads == 1 || n < 2) {
        for (size_t i = 0; i < n; i++)
            body(arg, i, 0);
        return;
    }
#ifdef _OPENMP
#pragma omp parallel for schedule(dynamic) num_threads(be->threads)
    for (size_t i = 0; i < n; i++)
        body(arg, i, omp_get_thread_num());
#else
    for (size_t i = 0; i < n; i++)
        body(arg, i, 0);
#endif
}

static void backend_free(struct mf_backend *be)
{
    if (!be)
        return;
    if (be->stream)
        dnnl_stream_destroy(be->stream);
    if (be->engine)
        dnnl_engine_destroy(be->engine);
    free(be);
}

static bool choose_format(struct mf_backend *be, const char *dtype, struct mf_error *err)
{
    static const struct {
        const char *name;
        enum amx_format format;
    } FORMATS[] = {{"f32", AMX_BF16X3}, {"bf16", AMX_BF16}, {"int8", AMX_INT8}};
    for (size_t i = 0; i < sizeof FORMATS / sizeof *FORMATS; i++) {
        if (dtype && strcmp(dtype, FORMATS[i].name) != 0)
            continue;
        be->format = FORMATS[i].format;
#ifdef MF_CPU_AMX
        be->tiles = mf_amx_available();
#endif
        be->dtype = be->tiles ? FORMATS[i].name : "f32";
        return true;
    }
    return mf_error_set(err, MF_ERR_UNAVAILABLE,
                        "dtype \"%.16s\" is not available on cpu: f32, bf16 and int8 are", dtype);
}

static struct mf_backend *backend_new(const char *dtype, int threads, struct mf_error *err)
{
    struct mf_backend *be = calloc(1, sizeof *be);
    if (!be) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
        return NULL;
    }
    be->threads = threads > 0 ? threads : mf_host_cores();
    if (be->threads > MAX_THREADS)
        be->threads = MAX_THREADS;
    be->kernels = mf_cpu_kernels_choose(NULL);
    if (!choose_format(be, dtype, err)) {
        backend_free(be);
        return NULL;
    }
    if (dnnl_engine_create(&be->engine, dnnl_cpu, 0) != dnnl_success ||
        dnnl_stream_create(&be->stream, be->engine, dnnl_stream_default_flags) != dnnl_success) {
        mf_error_set(err, MF_ERR_INTERNAL, "oneDNN cannot be started");
        backend_free(be);
        return NULL;
    }
    return be;
}

static const char *dtype_of(const struct mf_backend *be)
{
    return be->dtype;
}

static void precision(struct mf_backend *be, enum mf_precision least)
{
    be->precision = least;
}

static void share(struct mf_backend *be, struct mf_weight_store *store)
{
    be->store = store;
}

/* oneDNN asks OpenMP for its number of threads, which is a setting of the calling thread. */
static void enter(const struct mf_backend *be)
{
#ifdef _OPENMP
    omp_set_num_threads(be->threads);
#else
    (void)be;
#endif
}

static int host_threads(const struct mf_backend *be)
{
    return be->threads;
}

void *mf_cpu_memory(size_t bytes)
{
    enum {
        HUGE_PAGE = 2 << 20,
        LARGE = 8 * HUGE_PAGE
    }; /* below, a rest costs more than it brings */
    size_t unit = bytes >= LARGE ? HUGE_PAGE : 64, size = (bytes + unit - 1) / unit * unit;
    void *p = aligned_alloc(unit, size);
    if (p && unit == HUGE_PAGE)
        madvise(p, size, MADV_HUGEPAGE);
    return p;
}

static void *memory_new(struct mf_backend *be, size_t bytes, struct mf_error *err)
{
    (void)be;
    void *p = mf_cpu_memory(bytes);
    if (!p)
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for %zu bytes", bytes);
    return p;
}

static void memory_free(struct mf_backend *be, void *memory)
{
    (void)be;
    free(memory);
}

static void upload(struct mf_backend *be, float *device, const float *host, size_t n)
{
    (void)be;
    if (n)
        memcpy(device, host, n * sizeof *device);
}

static void download(struct mf_backend *be, float *host, const float *device, size_t n)
{
    upload(be, host, device, n);
}

static void copy(struct mf_backend *be, const float *x, size_t n, float *y)
{
    upload(be, y, x, n);
}

static void scale(struct mf_backend *be, float factor, size_t n, float *y)
{
    (void)be;
    for (size_t i = 0; i < n; i++)
        y[i] *= factor;
}

/* A row-wise or element-wise kernel cut into chunks for the threads. */
struct chunked {
    const struct cpu_kernels *kernels;
    const float *x, *weight, *bias;
    float *y;
    size_t n, width, step;
    float eps;
    int op;
    size_t x_row, k;
};

static size_t chunk_end(const struct chunked *job, size_t i)
{
    return (i + 1) * job->step < job->n ? (i + 1) * job->step : job->n;
}

/* Cuts n units of `floats` each into chunks worth a thread's while. */
static size_t chunks(const struct mf_backend *be, struct chunked *job, size_t n, size_t floats)
{
    job->n = n;
    job->step = n;
    if (be->threads > 1 && n * floats >= SERIAL) {
        job->step = (n + (size_t)be->threads - 1) / (size_t)be->threads;
        size_t least = (CHUNK + floats - 1) / floats;
        job->step = (job->step > least ? job->step : least);
    }
    return n ? (n + job->step - 1) / job->step : 0;
}

static void layer_norm_chunk(void *arg, size_t i, int thread)
{
    (void)thread;
    const struct chunked *j = arg;
    size_t at = i * j->step;
    j->kernels->layer_norm(j->x + at * j->width, chunk_end(j, i) - at, j->width, j->weight, j->bias,
                           j->eps, j->y + at * j->width);
}

static void layer_norm(struct mf_backend *be, const float *x, size_t rows, size_t width,
                       const float *weight, const float *bias, float eps, float *y)
{
    struct chunked job = {.kernels = be->kernels,
                          .x = x,
                          .weight = weight,
                          .bias = bias,
                          .y = y,
                          .width = width,
                          .eps = eps};
    mf_cpu_parallel(be, chunks(be, &job, rows, width), layer_norm_chunk, &job);
}

static void rms_norm_chunk(void *arg, size_t i, int thread)
{
    (void)thread;
    const struct chunked *j = arg;
    size_t at = i * j->step;
    j->kernels->rms_norm(j->x + at * j->width, chunk_end(j, i) - at, j->width, j->weight, j->eps,
                         j->y + at * j->width);
}

static void rms_norm(struct mf_backend *be, const float *x, size_t rows, size_t width,
                     const float *weight, float eps, float *y)
{
    struct chunked job = {
        .kernels = be->kernels, .x = x, .weight = weight, .y = y, .width = width, .eps = eps};
    mf_cpu_parallel(be, chunks(be, &job, rows, width), rms_norm_chunk, &job);
}

static void unary_chunk(void *arg, size_t i, int thread)
{
    (void)thread;
    const struct chunked *j = arg;
    size_t at = i * j->step;
    j->kernels->unary((enum mf_unary)j->op, j->x + at, chunk_end(j, i) - at, j->y + at);
}

static void unary(struct mf_backend *be, enum mf_unary op, const float *x, size_t n, float *y)
{
    struct chunked job = {.kernels = be->kernels, .x = x, .y = y, .op = (int)op};
    mf_cpu_parallel(be, chunks(be, &job, n, 1), unary_chunk, &job);
}

static void glu_chunk(void *arg, size_t i, int thread)
{
    (void)thread;
    const struct chunked *j = arg;
    size_t at = i * j->step;
    j->kernels->glu((enum mf_glu)j->op, j->x + at * 2 * j->width, chunk_end(j, i) - at, j->width,
                    j->y + at * j->width);
}

static void glu(struct mf_backend *be, enum mf_glu op, const float *x, size_t rows, size_t half,
                float *y)
{
    struct chunked job = {.kernels = be->kernels, .x = x, .y = y, .width = half, .op = (int)op};
    mf_cpu_parallel(be, chunks(be, &job, rows, half), glu_chunk, &job);
}

static void causal_conv_chunk(void *arg, size_t i, int thread)
{
    (void)thread;
    const struct chunked *j = arg;
    j->kernels->causal_conv(j->x, i * j->step, chunk_end(j, i), j->width, j->x_row, j->weight,
                            j->bias, j->k, j->y);
}

static void causal_conv(struct mf_backend *be, const float *x, size_t t, size_t c, size_t x_row,
                        const float *weight, const float *bias, size_t k, float *y)
{
    struct chunked job = {.kernels = be->kernels,
                          .x = x,
                          .weight = weight,
                          .bias = bias,
                          .y = y,
                          .width = c,
                          .x_row = x_row,
                          .k = k};
    mf_cpu_parallel(be, chunks(be, &job, t, c), causal_conv_chunk, &job);
}

struct scan_job {
    const struct mf_backend *be;
    const struct mf_scan *scan;
    float *y;
};

static void scan_block(void *arg, size_t i, int thread)
{
    (void)thread;
    const struct scan_job *job = arg;
    size_t width = job->be->kernels->width, begin = i * width, end = begin + width;
    job->be->kernels->selective_scan(job->scan, begin,
                                     end < job->scan->channels ? end : job->scan->channels, job->y);
}

static void selective_scan(struct mf_backend *be, const struct mf_scan *scan, float *y)
{
    struct scan_job job = {be, scan, y};
    size_t width = be->kernels->width;
    mf_cpu_parallel(be, (scan->channels + width - 1) / width, scan_block, &job);
}

const struct mf_ops mf_cpu_ops = {
    .device = "cpu",
    .dtype = dtype_of,
    .precision = precision,
    .share = share,
    .backend_new = backend_new,
    .backend_free = backend_free,
    .enter = enter,
    .host_threads = host_threads,
    .memory_new = memory_new,
    .memory_free = memory_free,
    .upload = upload,
    .download = download,
    .linear_new = mf_cpu_linear_new,
    .linear_free = mf_cpu_linear_free,
    .linear_bytes = mf_cpu_linear_bytes,
    .linear_plan = mf_cpu_linear_plan,
    .linear = mf_cpu_linear_run,
    .norm_linear_scratch = mf_cpu_norm_linear_scratch,
    .norm_linear = mf_cpu_norm_linear,
    .mlp_scratch = mf_cpu_mlp_scratch,
    .mlp = mf_cpu_mlp,
    .layer_norm = layer_norm,
    .rms_norm = rms_norm,
    .attention_scratch = mf_cpu_attention_scratch,
    .attention = mf_cpu_attend,
    .window_tokens = 2048,
    .window_attention_scratch = mf_cpu_attention_scratch,
    .window_attention = mf_cpu_attend_windows,
    .unary = unary,
    .glu = glu,
    .copy = copy,
    .add = mf_cpu_add,
    .scale = scale,
    .reverse_rows = mf_cpu_reverse_rows,
    .unfold = mf_cpu_unfold,
    .max_pool = mf_cpu_max_pool,
    .windows = mf_cpu_windows,
    .unwindows_add = mf_cpu_unwindows_add,
    .upsample2_add = mf_cpu_upsample2_add,
    .pixel_shuffle_add = mf_cpu_pixel_shuffle_add,
    .dot_rows = mf_cpu_dot_rows,
    .region_pool = mf_cpu_region_pool,
    .row_mean = mf_cpu_row_mean,
    .causal_conv = causal_conv,
    .selective_scan = selective_scan,
    .depthwise = mf_cpu_depthwise,
    .rotate = mf_cpu_rotate,
};
