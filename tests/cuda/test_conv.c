/*
 * Convolutions of the CUDA backend against the CPU backend, by own kernels and by cuDNN where it is
 * there: numbers, and items in batches in the bits that they have alone. The same program runs on a
 * GPU and without one. MF_TEST_LARGE=1 adds the shapes of real networks; with MF_TEST_NEEDS_GPU=1
 * no GPU is a failure.
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

static uint32_t seed;
static bool large;

static float *floats(size_t n, float factor)
{
    float *p = malloc((n + 1) * sizeof *p);
    assert_non_null(p);
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525 + 1013904223;
        p[i] = factor * ((float)(seed >> 8) / (float)(1 << 23) - 1);
    }
    return p;
}

struct work {
    struct mf_unfold u;
    size_t out;
    enum mf_epilogue epilogue;
    struct mf_linear *linear;
    const float *x; /* host */
    float *y;       /* host */
};

static size_t image_floats(const struct mf_unfold *u)
{
    return u->batch * u->channels * u->height * u->width;
}

static size_t output_floats(const struct work *w)
{
    return mf_unfold_rows(&w->u) * w->out;
}

static void body(struct mf_exec *x, void *arg)
{
    const struct work *w = arg;
    float *in = mf_exec_floats(x, image_floats(&w->u)), *out = mf_exec_floats(x, output_floats(w));
    MF_DO(x, upload, in, w->x, image_floats(&w->u));
    mf_conv(x, w->linear, &w->u, in, out, w->epilogue);
    MF_DO(x, download, w->y, out, output_floats(w));
}

/* False: there is no such kernel on this machine. */
static bool open_on(struct mf_exec *x, const char *device, const char *dtype, const char *kernels)
{
    struct mf_error err = MF_ERROR_INIT;
    if (!mf_exec_init(x, device, dtype, 1, &err))
        fail_msg("%s", err.msg);
    if (mf_exec_kernels(x, kernels, &err))
        return true;
    printf("skipped: %s\n", err.msg);
    mf_exec_free(x);
    return false;
}

static void run(struct mf_exec *x, struct work *w, const float *weight, const float *bias)
{
    struct mf_error err = MF_ERROR_INIT;
    size_t in = w->u.channels * w->u.kernel_h * w->u.kernel_w;
    const struct mf_linear_source source = mf_linear_matrix(weight, bias, w->out, in);
    w->linear = mf_exec_keep_linear(x, &source, &err);
    if (!w->linear || !mf_exec_run(x, body, w, false, &err))
        fail_msg("%s", err.msg);
}

static void compare(const struct work *w, const char *what, const float *a, const float *b,
                    double limit)
{
    double most = 0, scale = 0;
    for (size_t i = 0; i < output_floats(w); i++) {
        double d = fabs((double)a[i] - b[i]);
        most = isfinite(d) ? fmax(most, d) : INFINITY;
        scale = fmax(scale, fabs((double)b[i]));
    }
    if (!(most <= limit * scale))
        fail_msg("%s, %zu x %zu channels of %zu x %zu: off by %.3g of %.3g", what, w->u.batch,
                 w->u.channels, w->u.height, w->u.width, most, scale);
}

/* batch, channels, height, width, kernel (two), stride, pad, out, channels last */
static const size_t SHAPES[][10] = {
    {1, 3, 28, 42, 14, 14, 14, 0, 24, 0}, {1, 3, 33, 37, 7, 7, 4, 3, 8, 0},
    {2, 16, 9, 8, 3, 3, 1, 1, 32, 1},     {3, 1, 8, 10, 2, 2, 2, 0, 4, 1},
    {1, 64, 12, 10, 3, 3, 2, 1, 160, 1},  {2, 5, 7, 6, 3, 3, 1, 1, 12, 0},
    {1, 8, 6, 7, 3, 2, 1, 1, 1100, 1}};
static const size_t LARGE[][10] = {{1, 3, 518, 518, 14, 14, 14, 0, 768, 0},
                                   {1, 3, 1024, 1024, 7, 7, 4, 3, 96, 0},
                                   {1, 256, 64, 64, 3, 3, 1, 1, 256, 1},
                                   {1, 64, 128, 128, 3, 3, 2, 1, 256, 1}};

static void check(const size_t s[10], const char *dtype, const char *kernels, size_t turn,
                  double limit)
{
    struct work w = {.u = {s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[6], s[7], s[7], s[9]},
                     .out = s[8],
                     .epilogue = turn % 2 ? MF_EPILOGUE_RELU : MF_EPILOGUE_NONE};
    size_t in = s[1] * s[4] * s[5], n = output_floats(&w);
    float *x = floats(image_floats(&w.u), 1), *weight = floats(in * w.out, 0.3f),
          *bias = floats(w.out, 1), *got = floats(n, NAN), *want = floats(n, NAN);
    struct mf_exec gpu, cpu;
    char what[32];
    snprintf(what, sizeof what, "%s, %s", kernels, dtype);
    w.x = x;
    if (open_on(&gpu, "cuda:0", dtype, kernels)) {
        w.y = got;
        run(&gpu, &w, weight, turn % 3 ? bias : NULL);
        mf_exec_free(&gpu);
        assert_true(open_on(&cpu, "cpu", "f32", "own"));
        w.y = want;
        run(&cpu, &w, weight, turn % 3 ? bias : NULL);
        mf_exec_free(&cpu);
        compare(&w, what, got, want, limit);
    }
    free(x);
    free(weight);
    free(bias);
    free(got);
    free(want);
}

static void check_all(const char *kernels)
{
    for (size_t i = 0; i < sizeof SHAPES / sizeof *SHAPES; i++)
        for (size_t turn = i; turn < i + 2; turn++) {
            check(SHAPES[i], "f32", kernels, turn, 1e-5);
            check(SHAPES[i], "bf16", kernels, turn, 2e-2);
        }
    for (size_t i = 0; large && i < sizeof LARGE / sizeof *LARGE; i++) {
        check(LARGE[i], "f32", kernels, i, 1e-5);
        check(LARGE[i], "bf16", kernels, i, 2e-2);
    }
}

static void convolutions_are_those_of_patches(void **state)
{
    (void)state;
    check_all("own");
}

static void convolutions_by_cudnn_are_the_same(void **state)
{
    (void)state;
    check_all("cudnn");
}

static void items_have_the_bits_they_have_alone(void **state)
{
    enum { ITEMS = 32, CHANNELS = 16, SIDE = 6, OUT = 512 };
    size_t item = CHANNELS * SIDE * SIDE, item_out = SIDE * SIDE * OUT;
    float *x = floats(ITEMS * item, 1), *all = floats(ITEMS * item_out, NAN),
          *one = floats(item_out, NAN), *weight = floats(9 * CHANNELS * OUT, 0.3f);
    (void)state;
    for (size_t dtype = 0; dtype < 2; dtype++) {
        struct work w = {.u = {1, CHANNELS, SIDE, SIDE, 3, 3, 1, 1, 1, 1, true}, .out = OUT};
        struct mf_exec e;
        if (!open_on(&e, "cuda:0", dtype ? "bf16" : "f32", "cudnn"))
            break;
        for (size_t batch = 2; batch <= ITEMS; batch *= 4) {
            w.u.batch = batch;
            w.x = x;
            w.y = all;
            run(&e, &w, weight, weight);
            w.u.batch = 1;
            w.x = x + (batch - 1) * item;
            w.y = one;
            run(&e, &w, weight, weight);
            assert_memory_equal(one, all + (batch - 1) * item_out, item_out * sizeof *one);
        }
        mf_exec_free(&e);
    }
    free(x);
    free(all);
    free(one);
    free(weight);
}

int main(void)
{
    const char *text = getenv("MF_TEST_SEED");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(convolutions_are_those_of_patches),
        cmocka_unit_test(convolutions_by_cudnn_are_the_same),
        cmocka_unit_test(items_have_the_bits_they_have_alone),
    };
    seed = text ? (uint32_t)strtoul(text, NULL, 10) : 1;
    large = getenv("MF_TEST_LARGE") != NULL;
    if (mf_cuda_count() == 0) {
        bool needed = getenv("MF_TEST_NEEDS_GPU") != NULL;
        printf("%s: no GPU\n", needed ? "failed" : "skipped");
        return needed;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
