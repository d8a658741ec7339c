/* Operations of the CPU backend against plain loops, over odd shapes and on every instruction set
 * this machine has. */
#include "engine/cpu/backend.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Kernels by instruction set; "amx" is avx512 with products on tiles. */
static const char *const ISAS[] = {"base", "avx2", "avx512", "amx"};
enum { ISA_COUNT = 4 };

static uint64_t seed = 1;

/* Uniform in [−1, 1). */
static float noise(void)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (float)(seed >> 40) / (float)(1 << 23) - 1;
}

static float *noisy(size_t n)
{
    float *p = malloc((n + 1) * sizeof *p);
    for (size_t i = 0; i < n; i++)
        p[i] = noise();
    return p;
}

static void assert_near(const char *what, const float *a, const double *b, size_t n, double limit)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabs(a[i] - b[i]) <= limit * (1 + fabs(b[i]))))
            fail_msg("%s: element %zu is %.9g, should be %.9g", what, i, (double)a[i], b[i]);
}

/* A backend with the kernels of one instruction set; NULL when the machine lacks it. */
static struct mf_backend *backend_of(const char *isa, int threads)
{
    bool amx = !isa || strcmp(isa, "amx") == 0;
    const struct cpu_kernels *kernels = mf_cpu_kernels_choose(amx ? NULL : isa);
    struct mf_backend *be = kernels ? mf_cpu_ops.backend_new("f32", threads, NULL) : NULL;
    if (be && isa && amx && !be->tiles) {
        mf_cpu_ops.backend_free(be);
        return NULL;
    }
    if (be) {
        be->kernels = kernels;
        be->tiles &= amx;
        mf_cpu_ops.enter(be);
    }
    return be;
}

static void check_linear(struct mf_backend *be, size_t m, size_t in, size_t out, size_t x_row,
                         bool bias, enum mf_epilogue epilogue)
{
    size_t row = x_row ? x_row : in, scratch_floats = 0;
    float *x = noisy(m * row), *w = noisy(out * in), *c = noisy(out), *y = noisy(m * out);
    double *want = malloc(m * out * sizeof *want);
    struct mf_error err = MF_ERROR_INIT;
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < out; j++) {
            double s = bias ? c[j] : 0;
            for (size_t k = 0; k < in; k++)
                s += (double)x[i * row + k] * w[j * in + k];
            if (epilogue == MF_EPILOGUE_GELU)
                s = 0.5 * s * (1 + erf(s / sqrt(2)));
            else if (epilogue == MF_EPILOGUE_RELU)
                s = s > 0 ? s : 0;
            else if (epilogue == MF_EPILOGUE_ADD)
                s += y[i * out + j];
            want[i * out + j] = s;
        }
    const struct mf_linear_source source = mf_linear_matrix(w, bias ? c : NULL, out, in);
    struct mf_linear *l = mf_cpu_ops.linear_new(be, &source, &err);
    assert_non_null(l);
    assert_true(mf_cpu_ops.linear_plan(l, m, x_row, epilogue, &scratch_floats, &err));
    float *scratch = aligned_alloc(64, (scratch_floats * 4 + 127) / 64 * 64);
    assert_true(mf_cpu_ops.linear(l, x, m, x_row, y, epilogue, scratch, &err));
    assert_near("linear", y, want, m * out, fmax(2e-5, 1e-6 * sqrt((double)in)));
    mf_cpu_ops.linear_free(l);
    free(x);
    free(w);
    free(c);
    free(y);
    free(want);
    free(scratch);
}

static void linear_layers_multiply_in_every_shape(void **state)
{
    static const size_t SHAPES[][3] = {{1, 1, 1},     {1, 48, 5},     {2, 3, 7},     {17, 64, 48},
                                       {33, 147, 16}, {257, 96, 100}, {70, 3000, 65}};
    (void)state;
    for (size_t isa = 0; isa < ISA_COUNT; isa += ISA_COUNT - 1) {
        struct mf_backend *be = backend_of(ISAS[isa], 2);
        for (size_t i = 0; be && i < sizeof SHAPES / sizeof *SHAPES; i++)
            for (int e = MF_EPILOGUE_NONE; e <= MF_EPILOGUE_ADD; e++) {
                check_linear(be, SHAPES[i][0], SHAPES[i][1], SHAPES[i][2], 0, true,
                             (enum mf_epilogue)e);
                check_linear(be, SHAPES[i][0], SHAPES[i][1], SHAPES[i][2], 0, false,
                             (enum mf_epilogue)e);
                check_linear(be, SHAPES[i][0], SHAPES[i][1], SHAPES[i][2], SHAPES[i][1] + 5, true,
                             (enum mf_epilogue)e);
            }
        mf_cpu_ops.backend_free(be);
    }
}

/* 1 − cosine of the angle between y and what doubles give, for one layer in `dtype`. */
static double linear_angle(const char *dtype, size_t m, size_t in, size_t out, bool spiky)
{
    struct mf_error err = MF_ERROR_INIT;
    struct mf_backend *be = mf_cpu_ops.backend_new(dtype, 2, &err);
    float *x = noisy(m * in), *w = noisy(out * in), *c = noisy(out), *y = noisy(m * out);
    double xy = 0, xx = 0, yy = 0;
    size_t scratch_floats;
    assert_non_null(be);
    for (size_t i = 0; spiky && i < m; i++)
        x[i * in + 3] *= 30; /* a channel that dwarfs the others */
    const struct mf_linear_source source = mf_linear_matrix(w, c, out, in);
    struct mf_linear *l = mf_cpu_ops.linear_new(be, &source, &err);
    assert_true(l && mf_cpu_ops.linear_plan(l, m, 0, MF_EPILOGUE_NONE, &scratch_floats, &err));
    float *scratch = aligned_alloc(64, (scratch_floats * 4 + 127) / 64 * 64);
    assert_true(mf_cpu_ops.linear(l, x, m, 0, y, MF_EPILOGUE_NONE, scratch, &err));
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < out; j++) {
            double s = c[j], v = y[i * out + j];
            for (size_t k = 0; k < in; k++)
                s += (double)x[i * in + k] * w[j * in + k];
            xy += s * v;
            xx += s * s;
            yy += v * v;
        }
    mf_cpu_ops.linear_free(l);
    mf_cpu_ops.backend_free(be);
    free(x);
    free(w);
    free(c);
    free(y);
    free(scratch);
    return 1 - xy / sqrt(xx * yy);
}

static void short_formats_keep_the_direction(void **state)
{
    static const size_t SHAPES[][3] = {
        {1, 300, 257}, {33, 768, 96}, {100, 65, 1100}, {37, 3072, 65}};
    (void)state;
    for (size_t i = 0; i < sizeof SHAPES / sizeof *SHAPES; i++) {
        const size_t *p = SHAPES[i];
        assert_true(linear_angle("f32", p[0], p[1], p[2], false) < 1e-9);
        assert_true(linear_angle("bf16", p[0], p[1], p[2], false) < 2e-5);
        assert_true(linear_angle("int8", p[0], p[1], p[2], false) < 2e-4);
        assert_true(linear_angle("bf16", p[0], p[1], p[2], true) < 2e-5);
    }
}

static void norm_rows(const double *x, size_t m, size_t d, const float *g, const float *b,
                      double *y)
{
    for (size_t r = 0; r < m; r++) {
        double mean = 0, var = 0;
        for (size_t i = 0; i < d; i++)
            mean += x[r * d + i] / (double)d;
        for (size_t i = 0; i < d; i++)
            var += (x[r * d + i] - mean) * (x[r * d + i] - mean) / (double)d;
        for (size_t i = 0; i < d; i++)
            y[r * d + i] = (x[r * d + i] - mean) / sqrt(var + 1e-5) * g[i] + b[i];
    }
}

static void apply_layer(const double *x, size_t m, size_t in, const float *w, const float *b,
                        size_t out, double *y)
{
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < out; j++) {
            y[i * out + j] = b[j];
            for (size_t k = 0; k < in; k++)
                y[i * out + j] += x[i * in + k] * w[j * in + k];
        }
}

/* h += fc2(gelu(fc1(norm h))) as the context runs it, fused or not, against doubles. */
struct mlp_case {
    struct mf_norm norm;
    struct mf_linear *fc1, *fc2;
    size_t m, hidden;
    float *h, *first; /* first: norm and fc1 alone */
};

static void mlp_body(struct mf_exec *x, void *arg)
{
    struct mlp_case *c = arg;
    mf_norm_linear(x, &c->norm, c->fc1, c->h, c->m, c->first, MF_EPILOGUE_NONE);
    mf_mlp(x, &c->norm, c->fc1, c->fc2, c->hidden, MF_EPILOGUE_GELU, c->h, c->m);
}

static void check_mlp(const char *dtype, size_t m, size_t d, size_t hidden, double limit)
{
    struct mf_error err = MF_ERROR_INIT;
    struct mf_exec x;
    float *g = noisy(d), *b = noisy(d), *w1 = noisy(hidden * d), *b1 = noisy(hidden),
          *w2 = noisy(hidden * d), *b2 = noisy(d);
    struct mlp_case c = {{g, b, d, 1e-5f}, NULL, NULL, m, hidden, noisy(m * d), noisy(m * hidden)};
    double *h = malloc(m * d * sizeof *h), *y = malloc(m * d * sizeof *y),
           *wide = malloc(m * hidden * sizeof *wide), most = 0, top = 0, most1 = 0, top1 = 0;
    for (size_t i = 0; i < m * d; i++)
        h[i] = c.h[i];
    norm_rows(h, m, d, g, b, y);
    apply_layer(y, m, d, w1, b1, hidden, wide);
    assert_true(mf_exec_init(&x, "cpu", dtype, 2, &err));
    const struct mf_linear_source fc1 = mf_linear_matrix(w1, b1, hidden, d);
    const struct mf_linear_source fc2 = mf_linear_matrix(w2, b2, d, hidden);
    c.fc1 = mf_exec_keep_linear(&x, &fc1, &err);
    c.fc2 = mf_exec_keep_linear(&x, &fc2, &err);
    assert_true(mf_exec_run(&x, mlp_body, &c, false, &err));
    for (size_t i = 0; i < m * hidden; i++) {
        most1 = fmax(most1, fabs(c.first[i] - wide[i]));
        top1 = fmax(top1, fabs(wide[i]));
        wide[i] = 0.5 * wide[i] * (1 + erf(wide[i] / sqrt(2)));
    }
    apply_layer(wide, m, hidden, w2, b2, d, y);
    for (size_t i = 0; i < m * d; i++) {
        most = fmax(most, fabs(c.h[i] - (h[i] + y[i])));
        top = fmax(top, fabs(h[i] + y[i]));
    }
    if (!(most <= limit * top) || !(most1 <= limit * top1))
        fail_msg("%s %zu x %zu x %zu: %.2g, first layer %.2g", dtype, m, d, hidden, most / top,
                 most1 / top1);
    mf_exec_free(&x);
    float *floats[] = {g, b, w1, b1, w2, b2, c.h, c.first};
    for (size_t i = 0; i < 8; i++)
        free(floats[i]);
    free(h);
    free(y);
    free(wide);
}

static void fused_layers_equal_their_parts(void **state)
{
    (void)state;
    check_mlp("f32", 131, 65, 70, 3e-6);
    check_mlp("f32", 257, 96, 1000, 3e-6);
    check_mlp("f32", 5, 33, 40, 3e-6);
    check_mlp("bf16", 145, 97, 1601, 1e-2);
    check_mlp("int8", 145, 97, 1601, 3e-2);
    check_mlp("int8", 300, 200, 790, 3e-2);
}

static void a_linear_layer_runs_only_what_was_planned(void **state)
{
    (void)state;
    struct mf_backend *be = backend_of(NULL, 1);
    struct mf_error err = MF_ERROR_INIT;
    float w[6] = {0}, x[3] = {0}, y[2];
    const struct mf_linear_source source = mf_linear_matrix(w, NULL, 2, 3);
    struct mf_linear *l = mf_cpu_ops.linear_new(be, &source, &err);
    assert_false(mf_cpu_ops.linear(l, x, 1, 0, y, MF_EPILOGUE_NONE, NULL, &err));
    assert_string_equal(err.msg, "a linear layer was not planned for 1 rows");
    mf_cpu_ops.linear_free(l);
    mf_cpu_ops.backend_free(be);
}

/* y (size) = softmax(scale · q kᵀ) v in doubles; keys and values are rows by pointer. */
static void reference_attention(const float *q, const float *const *keys,
                                const float *const *values, size_t n, size_t size, double scale,
                                double *y)
{
    double *s = malloc((n + 1) * sizeof *s), top = -INFINITY, sum = 0;
    for (size_t j = 0; j < n; j++) {
        s[j] = 0;
        for (size_t d = 0; d < size; d++)
            s[j] += (double)q[d] * keys[j][d];
        s[j] *= scale;
        top = fmax(top, s[j]);
    }
    for (size_t j = 0; j < n; j++)
        sum += s[j] = exp(s[j] - top);
    for (size_t d = 0; d < size; d++) {
        y[d] = 0;
        for (size_t j = 0; j < n; j++)
            y[d] += s[j] / sum * values[j][d];
    }
    free(s);
}

static float *scratch_of(struct mf_backend *be, const struct mf_attention *at)
{
    return aligned_alloc(64, (mf_cpu_ops.attention_scratch(be, at) * 4 + 63) / 64 * 64);
}

static void check_attention(struct mf_backend *be, const struct mf_attention *at)
{
    size_t qn = at->batch * at->queries * at->q_row, kn = at->batch * at->keys * at->k_row;
    size_t on = at->batch * at->queries * at->o_row;
    float *q = noisy(qn), *k = noisy(kn), *v = noisy(kn), *o = noisy(on);
    double *want = malloc(on * sizeof *want);
    const float **keys = malloc(2 * at->keys * sizeof *keys), **values = keys + at->keys;
    for (size_t i = 0; i < on; i++)
        want[i] = o[i]; /* columns of no head stay */
    for (size_t b = 0; b < at->batch; b++)
        for (size_t h = 0; h < at->heads; h++) {
            size_t c = h * at->head_size;
            for (size_t j = 0; j < at->keys; j++) {
                keys[j] = k + b * at->k_batch + j * at->k_row + c;
                values[j] = v + b * at->v_batch + j * at->v_row + c;
            }
            for (size_t i = 0; i < at->queries; i++)
                reference_attention(q + b * at->q_batch + i * at->q_row + c, keys, values, at->keys,
                                    at->head_size, at->scale,
                                    want + b * at->o_batch + i * at->o_row + c);
        }
    float *scratch = scratch_of(be, at);
    mf_cpu_ops.attention(be, at, q, k, v, o, scratch);
    assert_near("attention", o, want, on, 5e-6);
    free(q);
    free(k);
    free(v);
    free(o);
    free(want);
    free(keys);
    free(scratch);
}

/* The window of query (y, x), key by key: a row of the grid, or the one for what is outside. */
static void window_rows(const struct mf_windows *w, size_t y, size_t x, const float *grid,
                        size_t row, const float *pad, size_t column, const float **ret)
{
    size_t top = y * w->pool / w->side * w->side, left = x * w->pool / w->side * w->side;
    for (size_t i = 0; i < w->side * w->side; i++) {
        size_t r = top + i / w->side, c = left + i % w->side;
        bool inside = r < w->height && c < w->width;
        ret[i] = (inside ? grid + (r * w->width + c) * row : pad) + column;
    }
}

/* heads of `size` in a product (height · width, 3 · heads · size), as networks lay it out. */
static void check_windows(struct mf_backend *be, size_t heads, size_t size,
                          const struct mf_windows *shape)
{
    struct mf_windows w = *shape;
    size_t d = heads * size, n = w.height * w.width, oh = w.height / w.pool, ow = w.width / w.pool;
    size_t keys = w.side * w.side;
    float *qkv = noisy(n * 3 * d), *q = noisy(oh * ow * d), *o = noisy(oh * ow * d);
    float *pad = noisy(3 * d), **rows = malloc(2 * keys * sizeof *rows);
    const float **k_rows = (const float **)rows, **v_rows = k_rows + keys;
    double *want = malloc(oh * ow * d * sizeof *want);
    w.k_pad = pad + d;
    w.v_pad = pad + 2 * d;
    for (size_t i = 0; i < oh * ow * heads; i++) {
        size_t at = i / heads, c = i % heads * size;
        window_rows(&w, at / ow, at % ow, qkv + d, 3 * d, w.k_pad, c, k_rows);
        window_rows(&w, at / ow, at % ow, qkv + 2 * d, 3 * d, w.v_pad, c, v_rows);
        reference_attention(q + at * d + c, k_rows, v_rows, keys, size, 0.7, want + at * d + c);
    }
    struct mf_attention at = {.batch = ((w.height + w.side - 1) / w.side) *
                                       ((w.width + w.side - 1) / w.side),
                              .heads = heads,
                              .head_size = size,
                              .queries = keys / w.pool / w.pool,
                              .keys = keys,
                              .q_row = d,
                              .k_row = 3 * d,
                              .v_row = 3 * d,
                              .o_row = d,
                              .scale = 0.7f};
    float *scratch = scratch_of(be, &at);
    mf_cpu_ops.window_attention(be, &at, &w, q, qkv + d, qkv + 2 * d, o, scratch);
    assert_near("window_attention", o, want, oh * ow * d, 5e-6);
    free(qkv);
    free(q);
    free(o);
    free(pad);
    free(rows);
    free(want);
    free(scratch);
}

static void attention_in_windows_pads_what_is_outside(void **state)
{
    /* side, height, width, pool: every remainder of a side of 7 and of a pooled side of 4 */
    static const size_t FIXED[][4] = {
        {8, 16, 24, 1}, {14, 16, 5, 1}, {14, 14, 28, 2}, {1, 2, 3, 1}};
    (void)state;
    for (size_t i = 0; i < ISA_COUNT; i++)
        for (int threads = 1; threads <= 2; threads++) {
            struct mf_backend *be = backend_of(ISAS[i], threads);
            for (size_t n = 0; be && n < sizeof FIXED / sizeof *FIXED; n++) {
                const size_t *p = FIXED[n];
                check_windows(be, 2, 24, &(struct mf_windows){p[0], p[1], p[2], p[3], NULL, NULL});
            }
            for (size_t h = 1; be && h <= 8; h++)
                for (size_t w = 1; w <= 8; w++)
                    check_windows(be, 1, 16, &(struct mf_windows){7, h, w, 1, NULL, NULL});
            for (size_t h = 2; be && h <= 10; h += 2)
                for (size_t w = 2; w <= 10; w += 2)
                    check_windows(be, 3, 8, &(struct mf_windows){4, h, w, 2, NULL, NULL});
            mf_cpu_ops.backend_free(be);
        }
}

static void attention_equals_softmax_in_every_shape(void **state)
{
    /* batch, heads, head size, queries, keys */
    static const size_t SHAPES[][5] = {{1, 1, 1, 1, 1},   {1, 3, 16, 5, 17},    {2, 2, 24, 31, 33},
                                       {3, 4, 8, 64, 64}, {1, 6, 32, 257, 257}, {1, 2, 96, 7, 100},
                                       {9, 1, 56, 4, 16}, {1, 1, 64, 49, 1},    {1, 1, 64, 33, 288},
                                       {1, 2, 64, 5, 289}};
    (void)state;
    for (size_t i = 0; i < ISA_COUNT; i++)
        for (int threads = 1; threads <= 2; threads++) {
            struct mf_backend *be = backend_of(ISAS[i], threads);
            for (size_t n = 0; be && n < sizeof SHAPES / sizeof *SHAPES; n++) {
                const size_t *p = SHAPES[n];
                size_t d = p[1] * p[2];
                struct mf_attention at = {p[0],     p[1],     p[2],     p[3], p[4],
                                          d + 3,    d,        d,        d,    p[3] * (d + 3),
                                          p[4] * d, p[4] * d, p[3] * d, 1.3f};
                check_attention(be, &at);
            }
            mf_cpu_ops.backend_free(be);
        }
}

static double reference_unary(enum mf_unary op, double x)
{
    switch (op) {
    case MF_UNARY_GELU:
        return 0.5 * x * (1 + erf(x / sqrt(2)));
    case MF_UNARY_RELU:
        return x > 0 ? x : 0;
    case MF_UNARY_SILU:
        return x / (1 + exp(-x));
    case MF_UNARY_SIGMOID:
        return 1 / (1 + exp(-x));
    default:
        return tanh(x);
    }
}

static void activations_follow_their_formulas(void **state)
{
    enum { N = 4099 };
    (void)state;
    for (size_t i = 0; i < ISA_COUNT; i++) {
        struct mf_backend *be = backend_of(ISAS[i], 2);
        float x[N], y[N];
        double want[N];
        for (int op = MF_UNARY_GELU; be && op <= MF_UNARY_TANH; op++) {
            for (size_t k = 0; k < N; k++) {
                x[k] = k < 9 ? (float[]){0, -0.0f, 2.695f, -90, 90, -1e4f, 1e4f, 1e-8f, -20}[k]
                             : 12 * noise();
                want[k] = reference_unary((enum mf_unary)op, x[k]);
            }
            mf_cpu_ops.unary(be, (enum mf_unary)op, x, N, y);
            assert_near("activation", y, want, N, 2e-6);
        }
        mf_cpu_ops.backend_free(be);
    }
}

static void gates_multiply_the_right_half(void **state)
{
    enum { ROWS = 5, HALF = 19 };
    (void)state;
    for (size_t i = 0; i < ISA_COUNT; i++) {
        struct mf_backend *be = backend_of(ISAS[i], 1);
        float *x = noisy(ROWS * 2 * HALF), y[ROWS * HALF];
        double want[ROWS * HALF];
        for (int op = MF_GLU_RELU; be && op <= MF_GLU_SILU; op++) {
            for (size_t k = 0; k < ROWS * HALF; k++) {
                double a = x[k / HALF * 2 * HALF + k % HALF],
                       b = x[k / HALF * 2 * HALF + HALF + k % HALF];
                want[k] = op == MF_GLU_RELU ? a * (b > 0 ? b : 0) : a / (1 + exp(-a)) * b;
            }
            mf_cpu_ops.glu(be, (enum mf_glu)op, x, ROWS, HALF, y);
            assert_near("glu", y, want, ROWS * HALF, 2e-6);
        }
        free(x);
        mf_cpu_ops.backend_free(be);
    }
}

static void norms_have_the_right_mean_and_scale(void **state)
{
    static const size_t WIDTHS[] = {1, 3, 16, 31, 48, 192, 768};
    (void)state;
    for (size_t i = 0; i < ISA_COUNT; i++)
        for (size_t k = 0; k < sizeof WIDTHS / sizeof *WIDTHS; k++) {
            struct mf_backend *be = backend_of(ISAS[i], 2);
            size_t w = WIDTHS[k], rows = 67;
            float *x = noisy(rows * w), *g = noisy(w), *c = noisy(w), *y = noisy(rows * w),
                  *z = noisy(rows * w);
            double *layer = malloc(rows * w * sizeof *layer), *rms = malloc(rows * w * sizeof *rms);
            for (size_t r = 0; r < rows; r++) {
                double mean = 0, var = 0, square = 0;
                for (size_t j = 0; j < w; j++)
                    mean += x[r * w + j] / (double)w;
                for (size_t j = 0; j < w; j++) {
                    var += (x[r * w + j] - mean) * (x[r * w + j] - mean) / (double)w;
                    square += (double)x[r * w + j] * x[r * w + j] / (double)w;
                }
                for (size_t j = 0; j < w; j++) {
                    layer[r * w + j] = (x[r * w + j] - mean) / sqrt(var + 1e-3) * g[j] + c[j];
                    rms[r * w + j] = x[r * w + j] / sqrt(square + 1e-3) * g[j];
                }
            }
            if (be) {
                mf_cpu_ops.layer_norm(be, x, rows, w, g, c, 1e-3f, y);
                mf_cpu_ops.rms_norm(be, x, rows, w, g, 1e-3f, z);
                assert_near("layer_norm", y, layer, rows * w, 1e-5);
                assert_near("rms_norm", z, rms, rows * w, 1e-5);
            }
            free(x);
            free(g);
            free(c);
            free(y);
            free(z);
            free(layer);
            free(rms);
            mf_cpu_ops.backend_free(be);
        }
}

static void check_scan(struct mf_backend *be, size_t t, size_t channels, size_t states)
{
    size_t wide = 2 * states + 3, z_row = 2 * channels;
    float *u = noisy(t * channels), *dt = noisy(t * channels), *bc = noisy(t * wide),
          *z = noisy(t * z_row);
    float *a = noisy(states * channels), *d = noisy(channels), *y = noisy(t * channels);
    double *want = malloc(t * channels * sizeof *want), *h = malloc(states * sizeof *h);
    for (size_t i = 0; i < states * channels; i++)
        a[i] = -1 - a[i] * a[i];
    dt[0] = 25; /* the linear part of softplus, and the part where e^x is tiny */
    dt[t * channels - 1] = -18;
    for (size_t c = 0; c < channels; c++) {
        memset(h, 0, states * sizeof *h);
        for (size_t i = 0; i < t; i++) {
            double x = dt[i * channels + c], step = x > 20 ? x : log1p(exp(x)),
                   in = u[i * channels + c];
            double sum = (double)d[c] * in, gate = z[i * z_row + c];
            for (size_t s = 0; s < states; s++) {
                h[s] = exp(step * a[s * channels + c]) * h[s] + step * in * bc[i * wide + s];
                sum += h[s] * bc[i * wide + states + s];
            }
            want[i * channels + c] = sum * gate / (1 + exp(-gate));
        }
    }
    struct mf_scan scan = {.length = t,
                           .channels = channels,
                           .states = states,
                           .u = u,
                           .dt = dt,
                           .b = bc,
                           .c = bc + states,
                           .bc_row = wide,
                           .a = a,
                           .d = d,
                           .z = z,
                           .z_row = z_row};
    mf_cpu_ops.selective_scan(be, &scan, y);
    assert_near("selective_scan", y, want, t * channels, 1e-5);
    free(u);
    free(dt);
    free(bc);
    free(z);
    free(a);
    free(d);
    free(y);
    free(want);
    free(h);
}

static void the_scan_follows_its_recurrence(void **state)
{
    static const size_t SHAPES[][3] = {
        {1, 1, 1}, {17, 16, 16}, {34, 37, 16}, {51, 96, 8}, {5, 20, 3}};
    (void)state;
    for (size_t i = 0; i < ISA_COUNT; i++) {
        struct mf_backend *be = backend_of(ISAS[i], 2);
        for (size_t n = 0; be && n < sizeof SHAPES / sizeof *SHAPES; n++)
            check_scan(be, SHAPES[n][0], SHAPES[n][1], SHAPES[n][2]);
        mf_cpu_ops.backend_free(be);
    }
}

static void the_causal_convolution_sees_only_the_past(void **state)
{
    enum { T = 9, C = 21, K = 4, ROW = 45 };
    (void)state;
    for (size_t i = 0; i < ISA_COUNT; i++) {
        struct mf_backend *be = backend_of(ISAS[i], 2);
        float *x = noisy(T * ROW), *w = noisy(K * C), *b = noisy(C), y[T * C];
        double want[T * C];
        for (size_t t = 0; t < T; t++)
            for (size_t c = 0; c < C; c++) {
                double s = b[c];
                for (size_t k = 0; k < K; k++)
                    if (t + k + 1 >= K)
                        s += (double)w[k * C + c] * x[(t + k + 1 - K) * ROW + c];
                want[t * C + c] = s / (1 + exp(-s));
            }
        if (be) {
            mf_cpu_ops.causal_conv(be, x, T, C, ROW, w, b, K, y);
            assert_near("causal_conv", y, want, T * C, 2e-6);
        }
        free(x);
        free(w);
        free(b);
        mf_cpu_ops.backend_free(be);
    }
}

static void windows_come_back_where_they_were(void **state)
{
    enum { H = 5, WIDTH = 7, C = 3, S = 4 };
    (void)state;
    struct mf_backend *be = backend_of(NULL, 1);
    float *x = noisy(H * WIDTH * C), w[2 * 2 * S * S * C], y[H * WIDTH * C] = {0};
    mf_cpu_ops.windows(be, x, H, WIDTH, C, S, w);
    assert_true(w[(S * S + 3) * C] == 0); /* row 0, column 7 of the second window: outside */
    mf_cpu_ops.unwindows_add(be, w, H, WIDTH, C, S, y);
    assert_memory_equal(x, y, sizeof y);
    free(x);
    mf_cpu_ops.backend_free(be);
}

static void unfolding_pads_with_zeros(void **state)
{
    (void)state;
    struct mf_backend *be = backend_of(NULL, 1);
    const float image[6] = {1, 2, 3, 4, 5, 6}; /* 2 × 3, one channel */
    struct mf_unfold u = {1, 1, 2, 3, 3, 3, 2, 2, 1, 1, true};
    float y[2 * 9];
    const float want[2 * 9] = {0, 0, 0, 0, 1, 2, 0, 4, 5, 0, 0, 0, 2, 3, 0, 5, 6, 0};
    assert_int_equal(mf_unfold_rows(&u), 2);
    mf_cpu_ops.unfold(be, &u, image, y);
    assert_memory_equal(y, want, sizeof want);
    u.channels_last = false;
    mf_cpu_ops.unfold(be, &u, image, y);
    assert_memory_equal(y, want, sizeof want);
    mf_cpu_ops.backend_free(be);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear_layers_multiply_in_every_shape),
        cmocka_unit_test(short_formats_keep_the_direction),
        cmocka_unit_test(fused_layers_equal_their_parts),
        cmocka_unit_test(a_linear_layer_runs_only_what_was_planned),
        cmocka_unit_test(attention_equals_softmax_in_every_shape),
        cmocka_unit_test(attention_in_windows_pads_what_is_outside),
        cmocka_unit_test(activations_follow_their_formulas),
        cmocka_unit_test(gates_multiply_the_right_half),
        cmocka_unit_test(norms_have_the_right_mean_and_scale),
        cmocka_unit_test(the_scan_follows_its_recurrence),
        cmocka_unit_test(the_causal_convolution_sees_only_the_past),
        cmocka_unit_test(windows_come_back_where_they_were),
        cmocka_unit_test(unfolding_pads_with_zeros),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
