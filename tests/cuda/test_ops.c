/* The CUDA backend's operations against the CPU backend's, over many shapes (both_backends.h);
 * attention and layers have programs of their own. */
#include "tests/cuda/both_backends.h"

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
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(elements_are_computed_one_by_one),
        cmocka_unit_test(rows_are_added_and_reversed),
        cmocka_unit_test(norms_have_the_right_mean_and_scale),
        cmocka_unit_test(patches_are_cut_and_padded),
        cmocka_unit_test(maps_are_pooled_and_cut),
        cmocka_unit_test(depthwise_convolutions_and_rotations),
        cmocka_unit_test(sequences_run_through_time),
        cmocka_unit_test(gelu_is_the_exact_one),
        cmocka_unit_test(what_is_not_there_is_refused),
    };
    RUN_ON_BOTH(tests);
}
