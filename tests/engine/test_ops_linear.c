/* Linear and fused layers of the CPU backend against products in doubles, in every format, over odd
 * shapes and on every instruction set this machine has. */
#include "tests/engine/ops_check.h"

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
    size_t scratch_floats = 0;
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear_layers_multiply_in_every_shape),
        cmocka_unit_test(short_formats_keep_the_direction),
        cmocka_unit_test(fused_layers_equal_their_parts),
        cmocka_unit_test(a_linear_layer_runs_only_what_was_planned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
