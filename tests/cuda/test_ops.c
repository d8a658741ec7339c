/*
 * Every operation of the CUDA backend against the CPU backend, over many shapes, with random inputs
 * and poisoned outputs. The same program runs on a GPU and, with the kernels compiled for the host
 * (emulate.hpp), without one. MF_TEST_SEED draws other numbers; MF_TEST_LARGE=1 adds the shapes of
 * real networks, which want a GPU; with MF_TEST_NEEDS_GPU=1 none is a failure.
 */
#include "engine/exec.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MAX_ARRAYS = 16 };

static uint64_t seed;
static bool large;

/* One array on both devices. */
struct array {
    size_t n;
    float *gpu, *cpu, *host;
};

static struct {
    struct mf_backend *gpu, *cpu;
    struct array arrays[MAX_ARRAYS];
    size_t count;
} t;

/* Uniform in [−1, 1). */
static float noise(void)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (float)(seed >> 40) / (float)(1 << 23) - 1;
}

static struct array *array(size_t n)
{
    assert_true(t.count < MAX_ARRAYS);
    struct array *a = &t.arrays[t.count++];
    a->n = n;
    a->gpu = mf_cuda_ops.memory_new(t.gpu, (n + 1) * sizeof(float), NULL);
    a->cpu = mf_cpu_ops.memory_new(t.cpu, (n + 16) * sizeof(float), NULL);
    a->host = malloc((n + 1) * sizeof(float));
    assert_true(a->gpu && a->cpu && a->host);
    return a;
}

/* Random numbers, the same on both. */
static struct array *noisy(size_t n)
{
    struct array *a = array(n);
    for (size_t i = 0; i < n; i++)
        a->host[i] = a->cpu[i] = noise();
    mf_cuda_ops.upload(t.gpu, a->gpu, a->host, n);
    return a;
}

/* An output: NaN on both until it is written. */
static struct array *poisoned(size_t n)
{
    struct array *a = array(n);
    for (size_t i = 0; i < n; i++)
        a->host[i] = a->cpu[i] = NAN;
    mf_cuda_ops.upload(t.gpu, a->gpu, a->host, n);
    return a;
}

static void forget(void)
{
    for (size_t i = 0; i < t.count; i++) {
        mf_cuda_ops.memory_free(t.gpu, t.arrays[i].gpu);
        mf_cpu_ops.memory_free(t.cpu, t.arrays[i].cpu);
        free(t.arrays[i].host);
    }
    t.count = 0;
}

/* max|gpu − cpu| / max|cpu|; the arrays of this check are freed. */
static void check(struct array *a, double limit, const char *what)
{
    struct mf_error err = MF_ERROR_INIT;
    double most = 0, scale = 0;
    mf_cuda_ops.download(t.gpu, a->host, a->gpu, a->n);
    if (!mf_cuda_ops.finish(t.gpu, &err))
        fail_msg("%s: %s", what, err.msg);
    for (size_t i = 0; i < a->n; i++) {
        double d = fabs((double)a->host[i] - a->cpu[i]);
        if (!isfinite(d))
            fail_msg("%s: element %zu is %g, should be %g", what, i, (double)a->host[i],
                     (double)a->cpu[i]);
        most = fmax(most, d);
        scale = fmax(scale, fabs((double)a->cpu[i]));
    }
    if (!(most <= limit * fmax(scale, 1e-3)))
        fail_msg("%s: off by %.3g of %.3g", what, most, scale);
    forget();
}

/* One operation on both: BOTH(unary, OP, DEV(x), n, DEV(y)) with DEV standing for each memory. */
#define BOTH(op, gpu_args, cpu_args)                                                               \
    do {                                                                                           \
        mf_cuda_ops.op gpu_args;                                                                   \
        mf_cpu_ops.op cpu_args;                                                                    \
    } while (0)

static void start(const char *dtype)
{
    struct mf_error err = MF_ERROR_INIT;
    t.cpu = mf_cpu_ops.backend_new("f32", 0, &err);
    t.gpu = mf_cuda_ops.backend_new(dtype, 1, &err);
    if (!t.cpu || !t.gpu)
        fail_msg("%s", err.msg);
    mf_cpu_ops.enter(t.cpu);
    mf_cuda_ops.enter(t.gpu);
}

static void stop(void)
{
    mf_cuda_ops.backend_free(t.gpu);
    mf_cpu_ops.backend_free(t.cpu);
    t.gpu = t.cpu = NULL;
}

static void elements_are_computed_one_by_one(void **state)
{
    static const size_t SIZES[] = {1, 31, 1000, 70001};
    (void)state;
    start("f32");
    for (size_t i = 0; i < 4; i++) {
        size_t n = SIZES[i];
        for (int op = MF_UNARY_GELU; op <= MF_UNARY_TANH; op++) {
            struct array *x = noisy(n), *y = poisoned(n);
            BOTH(scale, (t.gpu, 7, n, x->gpu), (t.cpu, 7, n, x->cpu));
            BOTH(unary, (t.gpu, (enum mf_unary)op, x->gpu, n, y->gpu),
                 (t.cpu, (enum mf_unary)op, x->cpu, n, y->cpu));
            check(y, 2e-6, "unary");
        }
        for (int op = MF_GLU_RELU; op <= MF_GLU_SILU; op++) {
            struct array *x = noisy(2 * n * 3), *y = poisoned(n * 3);
            BOTH(glu, (t.gpu, (enum mf_glu)op, x->gpu, 3, n, y->gpu),
                 (t.cpu, (enum mf_glu)op, x->cpu, 3, n, y->cpu));
            check(y, 2e-6, "glu");
        }
        struct array *x = noisy(n), *y = poisoned(n);
        BOTH(copy, (t.gpu, x->gpu, n, y->gpu), (t.cpu, x->cpu, n, y->cpu));
        check(y, 0, "copy");
    }
    stop();
}

static void rows_are_added_and_reversed(void **state)
{
    static const size_t SHAPES[][3] = {{1, 1, 1}, {1, 7, 5}, {4, 12, 33}, {257, 257, 96}};
    (void)state;
    start("f32");
    for (size_t i = 0; i < 4; i++) {
        size_t x_rows = SHAPES[i][0], rows = SHAPES[i][1], width = SHAPES[i][2];
        struct array *x = noisy(x_rows * width), *y = noisy(rows * width);
        BOTH(add, (t.gpu, x->gpu, x_rows, rows, width, 0.5f, y->gpu),
             (t.cpu, x->cpu, x_rows, rows, width, 0.5f, y->cpu));
        check(y, 1e-6, "add");
        x = noisy(rows * width);
        y = poisoned(rows * width);
        BOTH(reverse_rows, (t.gpu, x->gpu, rows, width, y->gpu),
             (t.cpu, x->cpu, rows, width, y->cpu));
        check(y, 0, "reverse_rows");
        x = noisy(rows * width);
        y = poisoned(width);
        BOTH(row_mean, (t.gpu, x->gpu, rows, width, y->gpu), (t.cpu, x->cpu, rows, width, y->cpu));
        check(y, 1e-5, "row_mean");
    }
    stop();
}

static void norms_have_the_right_mean_and_scale(void **state)
{
    static const size_t SHAPES[][2] = {{1, 1}, {3, 31}, {17, 32}, {9, 100}, {70, 768}, {5, 4096}};
    (void)state;
    start("f32");
    for (size_t i = 0; i < 6; i++) {
        size_t rows = SHAPES[i][0], width = SHAPES[i][1];
        struct array *x = noisy(rows * width), *w = noisy(width), *b = noisy(width),
                     *y = poisoned(rows * width);
        BOTH(layer_norm, (t.gpu, x->gpu, rows, width, w->gpu, b->gpu, 1e-6f, y->gpu),
             (t.cpu, x->cpu, rows, width, w->cpu, b->cpu, 1e-6f, y->cpu));
        check(y, 3e-6, "layer_norm");
        x = noisy(rows * width);
        w = noisy(width);
        BOTH(rms_norm, (t.gpu, x->gpu, rows, width, w->gpu, 1e-5f, x->gpu),
             (t.cpu, x->cpu, rows, width, w->cpu, 1e-5f, x->cpu));
        check(x, 3e-6, "rms_norm in place");
    }
    stop();
}

static void patches_are_cut_and_padded(void **state)
{
    /* batch, channels, height, width, kernel, stride, pad */
    static const size_t SHAPES[][7] = {{1, 3, 28, 42, 14, 14, 0}, {1, 3, 33, 64, 7, 4, 3},
                                       {2, 1, 16, 8, 2, 2, 0},    {1, 5, 9, 7, 3, 1, 1},
                                       {3, 4, 8, 10, 3, 2, 1},    {1, 1, 5, 5, 1, 1, 0}};
    (void)state;
    start("f32");
    for (size_t i = 0; i < 12; i++) {
        const size_t *s = SHAPES[i / 2];
        struct mf_unfold u = {s[0], s[1], s[2], s[3], s[4], s[4], s[5], s[5], s[6], s[6], i % 2};
        struct array *x = noisy(s[0] * s[1] * s[2] * s[3]),
                     *y = poisoned(mf_unfold_rows(&u) * s[4] * s[4] * s[1]);
        BOTH(unfold, (t.gpu, &u, x->gpu, y->gpu), (t.cpu, &u, x->cpu, y->cpu));
        check(y, 0, "unfold");
    }
    stop();
}

static void maps_are_pooled_and_cut(void **state)
{
    static const size_t SHAPES[][4] = {
        {4, 6, 3, 2}, {5, 7, 3, 4}, {16, 16, 96, 8}, {14, 20, 33, 7}};
    (void)state;
    start("f32");
    for (size_t i = 0; i < 4; i++) {
        size_t h = SHAPES[i][0], w = SHAPES[i][1], c = SHAPES[i][2], s = SHAPES[i][3];
        struct array *x = noisy(2 * h * w * (c + 2)), *y = poisoned(2 * (h / 2) * (w / 2) * c);
        BOTH(max_pool, (t.gpu, x->gpu, 2, h, w, c, c + 2, 2, 2, y->gpu),
             (t.cpu, x->cpu, 2, h, w, c, c + 2, 2, 2, y->cpu));
        if (h % 2 == 0 && w % 2 == 0)
            check(y, 0, "max_pool");
        forget();
        x = noisy(h * w * c);
        y = noisy(4 * h * w * c);
        BOTH(upsample2_add, (t.gpu, x->gpu, h, w, c, y->gpu), (t.cpu, x->cpu, h, w, c, y->cpu));
        check(y, 1e-6, "upsample2_add");
        x = noisy(4 * h * w * c);
        struct array *more = noisy(4 * h * w * c);
        y = poisoned(4 * h * w * c);
        BOTH(pixel_shuffle_add, (t.gpu, x->gpu, h, w, c, more->gpu, y->gpu),
             (t.cpu, x->cpu, h, w, c, more->cpu, y->cpu));
        check(y, 1e-6, "pixel_shuffle_add");
        x = noisy(h * w * c);
        y = poisoned(9 * c);
        BOTH(region_pool, (t.gpu, x->gpu, h, w, c, 3, y->gpu), (t.cpu, x->cpu, h, w, c, 3, y->cpu));
        check(y, 1e-5, "region_pool");
        x = noisy(h * w * c);
        more = noisy(s * c);
        y = poisoned(s * h * w);
        BOTH(dot_rows, (t.gpu, x->gpu, h * w, c, more->gpu, s, y->gpu),
             (t.cpu, x->cpu, h * w, c, more->cpu, s, y->cpu));
        check(y, 1e-5, "dot_rows");
    }
    stop();
}

static void depthwise_convolutions_and_rotations(void **state)
{
    static const size_t SHAPES[][4] = {{1, 1, 1, 1}, {5, 7, 3, 3}, {8, 8, 32, 7}, {4, 9, 65, 5}};
    (void)state;
    start("f32");
    for (size_t i = 0; i < 4; i++) {
        size_t h = SHAPES[i][0], w = SHAPES[i][1], c = SHAPES[i][2], k = SHAPES[i][3];
        struct array *x = noisy(h * w * c), *f = noisy(k * k * c), *b = noisy(c),
                     *y = poisoned(h * w * c);
        BOTH(depthwise, (t.gpu, x->gpu, h, w, c, f->gpu, b->gpu, k, y->gpu),
             (t.cpu, x->cpu, h, w, c, f->cpu, b->cpu, k, y->cpu));
        check(y, 1e-5, "depthwise");
        size_t rows = 3 * h * w, size = 2 * c, row = 3 * size + 5;
        struct array *table = noisy(h * w * size);
        y = noisy(rows * row);
        BOTH(rotate, (t.gpu, table->gpu, h * w, rows, row, 3, size, y->gpu),
             (t.cpu, table->cpu, h * w, rows, row, 3, size, y->cpu));
        check(y, 1e-6, "rotate");
    }
    stop();
}

static void check_scan(size_t length, size_t channels, size_t states)
{
    size_t bc = 2 * states + 3, zr = 2 * channels;
    struct array *u = noisy(length * channels), *dt = noisy(length * channels),
                 *b = noisy(length * bc), *a = noisy(states * channels), *d = noisy(channels),
                 *z = noisy(length * zr), *y = poisoned(length * channels);
    for (size_t i = 0; i < a->n; i++)
        a->host[i] = a->cpu[i] = -4 * fabsf(a->cpu[i]) - 0.1f;
    mf_cuda_ops.upload(t.gpu, a->gpu, a->host, a->n);
    struct mf_scan gpu = {length,          channels, states, u->gpu, dt->gpu, b->gpu + 3,
                          b->gpu + states, bc,       a->gpu, d->gpu, z->gpu,  zr};
    struct mf_scan cpu = {length,          channels, states, u->cpu, dt->cpu, b->cpu + 3,
                          b->cpu + states, bc,       a->cpu, d->cpu, z->cpu,  zr};
    BOTH(selective_scan, (t.gpu, &gpu, y->gpu), (t.cpu, &cpu, y->cpu));
    check(y, 1e-5, "selective_scan");
}

static void sequences_run_through_time(void **state)
{
    static const size_t SHAPES[][3] = {{1, 1, 1},    {5, 33, 4},  {40, 64, 8},
                                       {17, 31, 16}, {9, 65, 64}, {6, 20, 100}};
    (void)state;
    start("f32");
    for (size_t i = 0; i < 6; i++) {
        size_t length = SHAPES[i][0], c = SHAPES[i][1], k = 1 + i;
        check_scan(length, c, SHAPES[i][2]);
        struct array *x = noisy(length * (c + 3)), *w = noisy(k * c), *b = noisy(c),
                     *y = poisoned(length * c);
        BOTH(causal_conv, (t.gpu, x->gpu, length, c, c + 3, w->gpu, b->gpu, k, y->gpu),
             (t.cpu, x->cpu, length, c, c + 3, w->cpu, b->cpu, k, y->cpu));
        check(y, 5e-6, "causal_conv");
    }
    if (large) {
        check_scan(544, 1536, 16);
        check_scan(4096, 768, 16);
    }
    stop();
}

/* q, k and v lie in one array side by side, `extra` floats apart from the next row. */
static void check_attention(const size_t *p, size_t extra, double limit)
{
    size_t d = p[1] * p[2], row = 3 * d + extra, rows = p[3] > p[4] ? p[3] : p[4];
    struct mf_attention at = {p[0],
                              p[1],
                              p[2],
                              p[3],
                              p[4],
                              row,
                              row,
                              row,
                              d + extra,
                              rows * row,
                              rows * row,
                              rows * row,
                              p[3] * (d + extra),
                              1.3f / sqrtf((float)p[2])};
    struct array *x = noisy(p[0] * rows * row), *y = noisy(p[0] * p[3] * (d + extra));
    size_t wanted = mf_cuda_ops.attention_scratch(t.gpu, &at);
    struct array *room = poisoned(wanted);
    float *scratch = malloc((mf_cpu_ops.attention_scratch(t.cpu, &at) + 64) * sizeof *scratch);
    float *aligned = (float *)(((uintptr_t)scratch + 63) / 64 * 64);
    for (size_t i = 0; i < x->n; i++) /* sharp enough that softmax matters */
        x->host[i] = x->cpu[i] *= 3;
    mf_cuda_ops.upload(t.gpu, x->gpu, x->host, x->n);
    BOTH(attention, (t.gpu, &at, x->gpu, x->gpu + d, x->gpu + 2 * d, y->gpu, room->gpu),
         (t.cpu, &at, x->cpu, x->cpu + d, x->cpu + 2 * d, y->cpu, aligned));
    free(scratch);
    char what[96];
    snprintf(what, sizeof what, "attention %zu x %zu heads of %zu, %zu queries, %zu keys", p[0],
             p[1], p[2], p[3], p[4]);
    check(y, limit, what);
}

/* batch, heads, head size, queries, keys */
static const size_t ATTENTIONS[][5] = {
    {1, 1, 1, 1, 1},     {1, 3, 16, 5, 17},    {2, 2, 24, 31, 33}, {3, 2, 8, 64, 64},
    {1, 2, 64, 65, 70},  {1, 2, 96, 7, 100},   {2, 1, 56, 4, 16},  {1, 1, 64, 49, 1},
    {1, 1, 128, 20, 65}, {1, 1, 256, 66, 130}, {1, 3, 10, 9, 129}};
static const size_t LARGE_ATTENTIONS[][5] = {
    {1, 12, 64, 1370, 1370}, {8, 16, 64, 1370, 1370}, {64, 1, 96, 64, 64}, {25, 4, 96, 196, 196},
    {1, 8, 96, 4096, 4096},  {1, 1, 256, 1024, 7232}, {2, 8, 16, 8, 4096}, {2, 8, 16, 4096, 8}};

/* Keys and values lie in a grid of `p`: side, height, width, pool. */
static void check_window_attention(size_t heads, size_t size, const size_t *p, double limit)
{
    size_t d = heads * size, side = p[0], h = p[1], w = p[2], pool = p[3];
    struct mf_attention at = {.batch = ((h + side - 1) / side) * ((w + side - 1) / side),
                              .heads = heads,
                              .head_size = size,
                              .queries = side * side / pool / pool,
                              .keys = side * side,
                              .q_row = d,
                              .k_row = 3 * d,
                              .v_row = 3 * d,
                              .o_row = d,
                              .scale = 2.1f / sqrtf((float)size)};
    struct array *x = noisy(h * w * 3 * d), *q = noisy(h / pool * (w / pool) * d),
                 *pad = noisy(2 * d), *y = poisoned(q->n);
    struct mf_windows gpu = {side, h, w, pool, pad->gpu, pad->gpu + d},
                      cpu = {side, h, w, pool, pad->cpu, pad->cpu + d};
    float *scratch =
        malloc((mf_cpu_ops.window_attention_scratch(t.cpu, &at) + 64) * sizeof *scratch);
    float *aligned = (float *)(((uintptr_t)scratch + 63) / 64 * 64);
    BOTH(window_attention, (t.gpu, &at, &gpu, q->gpu, x->gpu + d, x->gpu + 2 * d, y->gpu, NULL),
         (t.cpu, &at, &cpu, q->cpu, x->cpu + d, x->cpu + 2 * d, y->cpu, aligned));
    free(scratch);
    char what[96];
    snprintf(what, sizeof what, "windows of %zu in %zu x %zu, pool %zu, %zu heads of %zu", side, h,
             w, pool, heads, size);
    check(y, limit, what);
}

static void attend_in_windows(const char *dtype, double limit)
{
    /* every remainder of a side of 7 and of a pooled side of 4 */
    static const size_t FIXED[][4] = {
        {8, 16, 24, 1}, {14, 16, 5, 1}, {14, 14, 28, 2}, {1, 2, 3, 1}};
    static const size_t PUBLISHED[][4] = {{8, 256, 256, 1}, {8, 256, 256, 2}, {14, 64, 64, 1}};
    start(dtype);
    for (size_t i = 0; i < sizeof FIXED / sizeof *FIXED; i++) {
        check_window_attention(2, 24, FIXED[i], limit);
        check_window_attention(1, 10, FIXED[i], limit);
    }
    for (size_t h = 1; h <= 8; h++)
        for (size_t w = 1; w <= 8; w++)
            check_window_attention(1, 16, (const size_t[]){7, h, w, 1}, limit);
    for (size_t h = 2; h <= 10; h += 2)
        for (size_t w = 2; w <= 10; w += 2)
            check_window_attention(3, 8, (const size_t[]){4, h, w, 2}, limit);
    for (size_t i = 0; large && i < sizeof PUBLISHED / sizeof *PUBLISHED; i++)
        check_window_attention(i == 2 ? 4 : 1, 96, PUBLISHED[i], limit);
    stop();
}

static void windows_attend_where_they_lie(void **state)
{
    (void)state;
    attend_in_windows("f32", 1e-5);
    attend_in_windows("bf16", 2e-2);
}

static void attend_in(const char *dtype, const char *kernels, double limit)
{
    struct mf_error err = MF_ERROR_INIT;
    start(dtype);
    if (!mf_cuda_ops.kernels(t.gpu, kernels, &err)) {
        printf("skipped: %s\n", err.msg); /* a machine without the library */
        stop();
        return;
    }
    for (size_t i = 0; i < sizeof ATTENTIONS / sizeof *ATTENTIONS; i++) {
        check_attention(ATTENTIONS[i], 0, limit);
        check_attention(ATTENTIONS[i], 3, limit);
    }
    for (size_t i = 0; large && i < sizeof LARGE_ATTENTIONS / sizeof *LARGE_ATTENTIONS; i++)
        check_attention(LARGE_ATTENTIONS[i], 0, limit);
    stop();
}

static void attention_equals_softmax_in_floats(void **state)
{
    (void)state;
    attend_in("f32", "own", 1e-5);
}

static void attention_equals_softmax_on_tensor_cores(void **state)
{
    (void)state;
    attend_in("bf16", "own", 2e-2);
}

static void attention_equals_softmax_by_cudnn(void **state)
{
    (void)state;
    attend_in("bf16", "cudnn", 2e-2);
}

/* What the context makes of layers, fused or not. */
struct layers {
    struct mf_norm norm;
    struct mf_linear *fc1, *fc2;
    size_t m, in, hidden, row;
    enum mf_epilogue epilogue;
    const float *x, *residual;                     /* host */
    float *plain, *strided, *added, *normed, *mlp; /* host */
};

static void layers_body(struct mf_exec *x, void *arg)
{
    const struct layers *l = arg;
    size_t m = l->m, in = l->in, hidden = l->hidden;
    float *h = mf_exec_floats(x, m * in), *wide = mf_exec_floats(x, m * hidden),
          *rows = mf_exec_floats(x, m * l->row);
    MF_DO(x, upload, h, l->x, m * in);
    MF_DO(x, upload, rows, l->x, m * l->row);
    mf_linear(x, l->fc1, h, m, wide, l->epilogue);
    MF_DO(x, download, l->plain, wide, m * hidden);
    mf_linear_strided(x, l->fc1, rows, m, l->row, wide, l->epilogue);
    MF_DO(x, download, l->strided, wide, m * hidden);
    MF_DO(x, upload, wide, l->residual, m * hidden);
    mf_linear(x, l->fc1, h, m, wide, MF_EPILOGUE_ADD);
    MF_DO(x, download, l->added, wide, m * hidden);
    mf_norm_linear(x, &l->norm, l->fc1, h, m, wide, l->epilogue);
    MF_DO(x, download, l->normed, wide, m * hidden);
    mf_mlp(x, &l->norm, l->fc1, l->fc2, hidden,
           l->epilogue == MF_EPILOGUE_NONE ? MF_EPILOGUE_GELU : l->epilogue, h, m);
    MF_DO(x, download, l->mlp, h, m * in);
}

static void run_layers(const char *device, const char *dtype, struct layers *l, const float *w,
                       const float *b, bool bias)
{
    struct mf_error err = MF_ERROR_INIT;
    struct mf_exec x;
    struct mf_linear_source s1 = mf_linear_matrix(w, bias ? b : NULL, l->hidden, l->in);
    struct mf_linear_source s2 = mf_linear_matrix(w, bias ? b : NULL, l->in, l->hidden);
    if (!mf_exec_init(&x, device, dtype, 0, &err))
        fail_msg("%s", err.msg);
    l->fc1 = mf_exec_keep_linear(&x, &s1, &err);
    l->fc2 = mf_exec_keep_linear(&x, &s2, &err);
    l->norm = (struct mf_norm){mf_exec_keep(&x, w, l->in, &err), mf_exec_keep(&x, b, l->in, &err),
                               l->in, 1e-5f};
    if (!l->fc1 || !l->fc2 || !mf_exec_run(&x, layers_body, l, false, &err))
        fail_msg("%s: %s", device, err.msg);
    mf_exec_free(&x);
}

static void compare(const char *what, const struct layers *l, const float *a, const float *b,
                    size_t n, double limit)
{
    double most = 0, scale = 0;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - b[i]);
        most = isfinite(d) ? fmax(most, d) : INFINITY;
        scale = fmax(scale, fabs((double)b[i]));
    }
    if (!(most <= limit * scale))
        fail_msg("%s of %zu x %zu x %zu: off by %.3g of %.3g", what, l->m, l->in, l->hidden, most,
                 scale);
}

static float *floats(size_t n, float factor)
{
    float *p = malloc((n + 1) * sizeof *p);
    assert_non_null(p);
    for (size_t i = 0; i < n; i++)
        p[i] = factor * noise();
    return p;
}

static void check_layers(const char *dtype, const size_t *shape, enum mf_epilogue epilogue,
                         bool bias, double limit)
{
    size_t m = shape[0], in = shape[1], hidden = shape[2], row = in + 5, out = m * hidden;
    float *x = floats(m * row, 1), *w = floats(in * hidden, 0.2f), *b = floats(in + hidden, 1),
          *residual = floats(out, 1), *room = floats(2 * (4 * out + m * in), 1);
    struct layers l[2];
    for (size_t i = 0; i < 2; i++) {
        float *to = room + i * (4 * out + m * in);
        l[i] = (struct layers){.m = m,
                               .in = in,
                               .hidden = hidden,
                               .row = row,
                               .epilogue = epilogue,
                               .x = x,
                               .residual = residual,
                               .plain = to,
                               .strided = to + out,
                               .added = to + 2 * out,
                               .normed = to + 3 * out,
                               .mlp = to + 4 * out};
        run_layers(i ? "cpu" : "cuda:0", i ? "f32" : dtype, &l[i], w, b, bias);
    }
    compare("a product", &l[0], l[0].plain, l[1].plain, out, limit);
    compare("a product of strided rows", &l[0], l[0].strided, l[1].strided, out, limit);
    compare("a product that is added", &l[0], l[0].added, l[1].added, out, limit);
    compare("a norm and a product", &l[0], l[0].normed, l[1].normed, out, limit);
    compare("two layers", &l[0], l[0].mlp, l[1].mlp, m * in, limit);
    free(x);
    free(w);
    free(b);
    free(residual);
    free(room);
}

static void layers_in(const char *dtype, double limit)
{
    /* rows, numbers of a row, hidden: the last ones are large enough for bfloat16 */
    static const size_t SHAPES[][3] = {{1, 1, 1},     {1, 48, 5},     {17, 64, 48}, {33, 147, 16},
                                       {3, 257, 300}, {20, 256, 264}, {5, 128, 520}};
    static const size_t LARGE[][3] = {
        {1370, 768, 3072}, {10960, 1024, 4096}, {1, 768, 2304}, {544, 588, 768}};
    for (size_t i = 0; i < sizeof SHAPES / sizeof *SHAPES; i++)
        for (int e = MF_EPILOGUE_NONE; e <= MF_EPILOGUE_GELU; e++)
            check_layers(dtype, SHAPES[i], (enum mf_epilogue)e, (i + (size_t)e) % 3 != 0, limit);
    for (size_t i = 0; large && i < sizeof LARGE / sizeof *LARGE; i++)
        check_layers(dtype, LARGE[i], MF_EPILOGUE_GELU, true, limit);
}

static void layers_multiply_in_floats(void **state)
{
    (void)state;
    layers_in("f32", 1e-5);
}

static void layers_multiply_in_bfloat16(void **state)
{
    (void)state;
    layers_in("bf16", 2e-2);
}

struct attending {
    struct mf_norm norm;
    struct mf_linear *qkv, *output;
    size_t heads, batch, tokens;
    const float *x; /* host */
    float *y;       /* host */
};

static void attending_body(struct mf_exec *x, void *arg)
{
    const struct attending *a = arg;
    size_t n = a->batch * a->tokens * a->norm.width;
    float *h = mf_exec_floats(x, n);
    MF_DO(x, upload, h, a->x, n);
    mf_self_attention(x, &a->norm, a->qkv, a->output, a->heads, h, a->batch, a->tokens);
    MF_DO(x, download, a->y, h, n);
}

static void check_self_attention(const char *dtype, size_t heads, size_t size, size_t batch,
                                 size_t tokens, double limit)
{
    size_t d = heads * size, n = batch * tokens * d;
    float *x = floats(n, 1), *w = floats(3 * d * d, 0.2f), *b = floats(3 * d, 1),
          *room = floats(2 * n, 1);
    for (size_t i = 0; i < 2; i++) {
        struct mf_error err = MF_ERROR_INIT;
        struct mf_exec e;
        struct attending a = {.heads = heads, .batch = batch, .tokens = tokens, .x = x};
        struct mf_linear_source qkv = mf_linear_matrix(w, b, 3 * d, d);
        struct mf_linear_source output = mf_linear_matrix(w + d * d, b + d, d, d);
        a.y = room + i * n;
        if (!mf_exec_init(&e, i ? "cpu" : "cuda:0", i ? "f32" : dtype, 0, &err))
            fail_msg("%s", err.msg);
        a.qkv = mf_exec_keep_linear(&e, &qkv, &err);
        a.output = mf_exec_keep_linear(&e, &output, &err);
        a.norm =
            (struct mf_norm){mf_exec_keep(&e, w, d, &err), mf_exec_keep(&e, b, d, &err), d, 1e-5f};
        if (!a.qkv || !a.output || !mf_exec_run(&e, attending_body, &a, false, &err))
            fail_msg("%s", err.msg);
        mf_exec_free(&e);
    }
    const struct layers shape = {.m = batch * tokens, .in = d, .hidden = d};
    compare("self-attention", &shape, room, room + n, n, limit);
    free(x);
    free(w);
    free(b);
    free(room);
}

static void tokens_attend_to_each_other(void **state)
{
    (void)state;
    check_self_attention("f32", 3, 24, 2, 37, 1e-5);
    check_self_attention("f32", 4, 64, 1, 70, 1e-5);
    check_self_attention("bf16", 3, 24, 2, 37, 2e-2);  /* layers that stay floats */
    check_self_attention("bf16", 4, 64, 2, 70, 2e-2);  /* fused */
    check_self_attention("bf16", 3, 100, 1, 65, 2e-2); /* rows that are padded */
    if (large) {
        check_self_attention("bf16", 12, 64, 2, 1370, 2e-2);
        check_self_attention("f32", 12, 64, 1, 1370, 1e-5);
    }
}

/* A block of a transformer on several items. */
struct neighbours {
    struct mf_norm norm;
    struct mf_linear *fc1, *fc2, *qkv, *output;
    size_t in, hidden, tokens, items;
    const float *x; /* host, of all items */
    float *y;       /* host */
};

static void neighbours_body(struct mf_exec *x, void *arg)
{
    const struct neighbours *p = arg;
    size_t m = p->items * p->tokens, n = m * p->in;
    float *h = mf_exec_floats(x, n);
    MF_DO(x, upload, h, p->x, n);
    mf_self_attention(x, &p->norm, p->qkv, p->output, 4, h, p->items, p->tokens);
    mf_mlp(x, &p->norm, p->fc1, p->fc2, p->hidden, MF_EPILOGUE_GELU, h, m);
    MF_DO(x, download, p->y, h, n);
}

/* Two layers and attention: items alone and in batches of several sizes, in the same bits. */
static void check_neighbours(const char *dtype, size_t in, size_t hidden, size_t tokens,
                             size_t items)
{
    struct mf_error err = MF_ERROR_INIT;
    struct mf_exec x;
    size_t item = tokens * in;
    float *w = floats(3 * in * in + in * hidden, 0.1f), *b = floats(3 * in + hidden, 1),
          *rows = floats(items * item, 1), *all = floats(items * item, 1), *one = floats(item, 1);
    struct mf_linear_source sources[] = {
        mf_linear_matrix(w, b, hidden, in), mf_linear_matrix(w, b, in, hidden),
        mf_linear_matrix(w, b, 3 * in, in), mf_linear_matrix(w, b, in, in)};
    struct neighbours p = {.in = in, .hidden = hidden, .tokens = tokens, .x = rows, .y = all};
    struct mf_linear **layers[] = {&p.fc1, &p.fc2, &p.qkv, &p.output};
    if (!mf_exec_init(&x, "cuda:0", dtype, 0, &err))
        fail_msg("%s", err.msg);
    for (int i = 0; i < 4; i++)
        if (!(*layers[i] = mf_exec_keep_linear(&x, &sources[i], &err)))
            fail_msg("%s", err.msg);
    p.norm =
        (struct mf_norm){mf_exec_keep(&x, w, in, &err), mf_exec_keep(&x, b, in, &err), in, 1e-5f};
    for (p.items = items; p.items > 1; p.items /= 2) {
        p.x = rows;
        p.y = all;
        if (!mf_exec_run(&x, neighbours_body, &p, false, &err))
            fail_msg("%s", err.msg);
        for (size_t i = 0; i < p.items; i += p.items - 1) {
            struct neighbours alone = p;
            alone.items = 1;
            alone.x = rows + i * item;
            alone.y = one;
            if (!mf_exec_run(&x, neighbours_body, &alone, false, &err))
                fail_msg("%s", err.msg);
            if (memcmp(one, all + i * item, item * sizeof *one) != 0)
                fail_msg("%s, item %zu of %zu: other bits than alone", dtype, i, p.items);
        }
    }
    mf_exec_free(&x);
    free(w);
    free(b);
    free(rows);
    free(all);
    free(one);
}

static void rows_do_not_depend_on_their_neighbours(void **state)
{
    (void)state;
    check_neighbours("f32", 64, 100, 7, 4);
    check_neighbours("f32", 36, 50, 5, 2); /* rows that are not aligned */
    check_neighbours("bf16", 256, 264, 9, 4);
    check_neighbours("bf16", 256, 264, 64, 2); /* attention by cuDNN, where it is there */
    if (large) {
        check_neighbours("bf16", 768, 3072, 1370, 32);
        check_neighbours("bf16", 1024, 4096, 1370, 8);
        check_neighbours("f32", 384, 1536, 1370, 4);
    }
}

static void gelu_is_the_exact_one(void **state)
{
    /* where the approximation by tanh is farthest off: 4.7e-4 */
    float x[] = {2.695f, -2.695f, 0.75f}, y[3];
    (void)state;
    start("f32");
    struct array *a = array(3);
    mf_cuda_ops.upload(t.gpu, a->gpu, x, 3);
    mf_cuda_ops.unary(t.gpu, MF_UNARY_GELU, a->gpu, 3, a->gpu);
    mf_cuda_ops.download(t.gpu, y, a->gpu, 3);
    for (int i = 0; i < 3; i++)
        assert_true(fabs(y[i] - 0.5 * x[i] * (1 + erf(x[i] / sqrt(2)))) < 2e-6);
    forget();
    stop();
}

static void what_is_not_there_is_refused(void **state)
{
    struct mf_error err = MF_ERROR_INIT;
    struct mf_exec x;
    (void)state;
    assert_false(mf_exec_init(&x, "cuda:x", "f32", 1, &err));
    assert_string_equal(err.msg, "device \"cuda:x\" is not available: cpu and cuda:N are");
    mf_error_clear(&err);
    assert_false(mf_exec_init(&x, "cuda:0", "int8", 1, &err));
    assert_string_equal(err.msg, "dtype \"int8\" is not available on cuda: f32, bf16 and fp8 are");
    mf_error_clear(&err);
    assert_false(mf_exec_init(&x, "cuda:99", "f32", 1, &err));
    assert_non_null(strstr(err.msg, "device \"cuda:99\" is not available: this machine shows "));
}

int main(void)
{
    const char *text = getenv("MF_TEST_SEED");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(elements_are_computed_one_by_one),
        cmocka_unit_test(rows_are_added_and_reversed),
        cmocka_unit_test(norms_have_the_right_mean_and_scale),
        cmocka_unit_test(patches_are_cut_and_padded),
        cmocka_unit_test(maps_are_pooled_and_cut),
        cmocka_unit_test(depthwise_convolutions_and_rotations),
        cmocka_unit_test(sequences_run_through_time),
        cmocka_unit_test(attention_equals_softmax_in_floats),
        cmocka_unit_test(attention_equals_softmax_on_tensor_cores),
        cmocka_unit_test(attention_equals_softmax_by_cudnn),
        cmocka_unit_test(windows_attend_where_they_lie),
        cmocka_unit_test(layers_multiply_in_floats),
        cmocka_unit_test(layers_multiply_in_bfloat16),
        cmocka_unit_test(tokens_attend_to_each_other),
        cmocka_unit_test(rows_do_not_depend_on_their_neighbours),
        cmocka_unit_test(gelu_is_the_exact_one),
        cmocka_unit_test(what_is_not_there_is_refused),
    };
    seed = text ? strtoull(text, NULL, 10) : 1;
    large = getenv("MF_TEST_LARGE") != NULL;
    if (mf_cuda_count() == 0) {
        bool needed = getenv("MF_TEST_NEEDS_GPU") != NULL;
        printf("%s: no GPU\n", needed ? "failed" : "skipped");
        return needed;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
