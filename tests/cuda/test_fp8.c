/*
 * Products of E4M3 (engine/cuda/e4m3.h, linear.c): the numbers against a table that is made here by
 * the format's definition, layers against the CPU's floats by angle, what stays bfloat16, what
 * saturates, and a trained network with the factors that `model smooth` gave it. The same program
 * runs on a GPU (from compute capability 8.9) and without one.
 */
#include "engine/cuda/e4m3.h"
#include "engine/exec.h"
#include "engine/module.h"
#include "engine/safetensors.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { NUMBERS = 127 }; /* from 0 to 448 */

/* What code `i` means, by definition. */
static double meaning(int i)
{
    int exponent = i >> 3, mantissa = i & 7;
    return exponent ? ldexp(1 + mantissa / 8.0, exponent - 7) : ldexp(mantissa / 8.0, -6);
}

/* The nearest number's code, by looking at all of them; of two the even one. */
static int nearest(double x)
{
    int best = 0;
    for (int i = 1; i < NUMBERS; i++) {
        double d = fabs(meaning(i) - x), least = fabs(meaning(best) - x);
        if (d < least || (d == least && i % 2 == 0))
            best = i;
    }
    return best;
}

static void check_number(float x)
{
    int got = mf_e4m3(x), want = nearest(fabs((double)x)) | (signbit(x) ? 0x80 : 0);
    if (got != want)
        fail_msg("%.9g becomes %02x, should be %02x", (double)x, (unsigned)got, (unsigned)want);
}

static void numbers_are_rounded_to_the_nearest(void **state)
{
    uint32_t seed = 5;
    (void)state;
    assert_true(meaning(0x7E) == 448 && meaning(0x01) == ldexp(1, -9) && meaning(0x38) == 1);
    for (int i = 0; i + 1 < NUMBERS; i++) {
        float a = (float)meaning(i), half = (float)((meaning(i) + meaning(i + 1)) / 2);
        const float near[] = {a, half, nextafterf(half, 0), nextafterf(half, 1000), -a, -half};
        for (size_t k = 0; k < sizeof near / sizeof *near; k++)
            check_number(near[k]);
    }
    for (int i = 0; i < 20000; i++) {
        seed = seed * 1664525 + 1013904223;
        float x = (float)seed / 4294967296.0f;
        check_number(ldexpf(x - 0.5f, (int)(seed >> 4) % 24 - 13));
    }
}

static void numbers_beyond_the_largest_become_it(void **state)
{
    (void)state;
    const float large[] = {449, 463.9f, 464, 480, 1e30f, INFINITY};
    for (size_t i = 0; i < sizeof large / sizeof *large; i++) {
        assert_int_equal(mf_e4m3(large[i]), 0x7E);
        assert_int_equal(mf_e4m3(-large[i]), 0xFE);
    }
    assert_int_equal(mf_e4m3(NAN) & 0x7F, 0x7F);
    assert_int_equal(mf_e4m3(0.0f), 0x00);
    assert_int_equal(mf_e4m3(-0.0f), 0x80);
    assert_int_equal(mf_e4m3(1e-30f), 0x00);
}

/* A transformer's block, as it is computed on a device. */
struct block {
    size_t in, hidden, tokens, items, m;
    float peak, plain_peak; /* of what layers read */
    struct mf_norm norm;
    struct mf_linear *qkv, *output, *fc1, *fc2;
    const float *x; /* host */
    float *y, *plain;
    char dtype[8];
};

static void block_body(struct mf_exec *x, void *arg)
{
    const struct block *b = arg;
    size_t n = b->m * b->in;
    float *h = mf_exec_floats(x, n), *wide = mf_exec_floats(x, b->m * b->hidden);
    MF_DO(x, upload, h, b->x, n);
    mf_linear(x, b->fc1, h, b->m, wide, MF_EPILOGUE_RELU);
    MF_DO(x, download, b->plain, wide, b->m * b->hidden);
    mf_self_attention(x, &b->norm, b->qkv, b->output, 4, h, b->items, b->tokens);
    mf_mlp(x, &b->norm, b->fc1, b->fc2, b->hidden, MF_EPILOGUE_GELU, h, b->m);
    MF_DO(x, download, b->y, h, n);
}

static struct mf_linear *layer(struct mf_exec *x, const float *w, const float *bias, size_t out,
                               size_t in, float peak)
{
    struct mf_error err = MF_ERROR_INIT;
    struct mf_linear_source source = mf_linear_matrix(w, bias, out, in);
    source.peak = peak;
    struct mf_linear *l = mf_exec_keep_linear(x, &source, &err);
    if (!l)
        fail_msg("%s", err.msg);
    return l;
}

static float *floats(size_t n, float factor)
{
    static uint32_t seed = 11;
    float *p = malloc((n + 1) * sizeof *p);
    assert_non_null(p);
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525 + 1013904223;
        p[i] = factor * ((float)(seed >> 8) / (float)(1 << 23) - 1);
    }
    return p;
}

/* What the block computes on a device in a dtype; weights are the same every time. */
static void run(struct block *b, const char *device, const char *dtype, const float *w)
{
    struct mf_error err = MF_ERROR_INIT;
    struct mf_exec x;
    size_t d = b->in;
    b->m = b->items * b->tokens;
    b->y = floats(b->m * d, NAN);
    b->plain = floats(b->m * b->hidden, NAN);
    if (!mf_exec_init(&x, device, dtype, 1, &err))
        fail_msg("%s", err.msg);
    b->norm =
        (struct mf_norm){mf_exec_keep(&x, w, d, &err), mf_exec_keep(&x, w, d, &err), d, 1e-5f};
    b->qkv = layer(&x, w, w, 3 * d, d, b->peak);
    b->output = layer(&x, w, w, d, d, b->peak);
    b->fc1 = layer(&x, w, w, b->hidden, d, b->plain_peak);
    b->fc2 = layer(&x, w, NULL, d, b->hidden, b->peak);
    snprintf(b->dtype, sizeof b->dtype, "%s", x.ops->dtype(x.backend));
    if (!mf_exec_run(&x, block_body, b, false, &err))
        fail_msg("%s", err.msg);
    mf_exec_free(&x);
}

static void forget(struct block *b)
{
    free(b->y);
    free(b->plain);
}

static double cosine(const float *a, const float *b, size_t n)
{
    double ab = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < n; i++) {
        ab += (double)a[i] * b[i];
        aa += (double)a[i] * a[i];
        bb += (double)b[i] * b[i];
    }
    return ab / sqrt(aa * bb);
}

static const struct block BLOCK = {
    .in = 256, .hidden = 512, .tokens = 9, .items = 2, .peak = 4, .plain_peak = 4};

static bool can(void)
{
    struct mf_error err = MF_ERROR_INIT;
    struct mf_exec x;
    if (!mf_exec_init(&x, "cuda:0", "fp8", 1, &err)) {
        printf("skipped: %s\n", err.msg);
        return false;
    }
    mf_exec_free(&x);
    return true;
}

static void layers_agree_with_floats_by_angle(void **state)
{
    struct block eight = BLOCK, half = BLOCK, want = BLOCK;
    float *w = floats(256 * 768, 0.2f), *x = floats(18 * 256, 1);
    (void)state;
    if (can()) {
        eight.x = half.x = want.x = x;
        run(&eight, "cuda:0", "fp8", w);
        run(&half, "cuda:0", "bf16", w);
        run(&want, "cpu", "f32", w);
        assert_string_equal(eight.dtype, "fp8");
        double all = cosine(eight.y, want.y, want.m * want.in),
               plain = cosine(eight.plain, want.plain, want.m * want.hidden);
        printf("cosine to fp32: a layer %.6f, a block %.6f\n", plain, all);
        assert_true(plain >= 0.998 && all >= 0.995);
        assert_true(cosine(half.plain, want.plain, want.m * want.hidden) > plain);
        forget(&eight);
        forget(&half);
        forget(&want);
    }
    free(w);
    free(x);
}

static void what_was_not_observed_stays_bfloat16(void **state)
{
    struct block none = BLOCK, half = BLOCK;
    float *w = floats(256 * 768, 0.2f), *x = floats(18 * 256, 1);
    (void)state;
    if (can()) {
        none.x = half.x = x;
        none.peak = none.plain_peak = 0;
        run(&none, "cuda:0", "fp8", w);
        run(&half, "cuda:0", "bf16", w);
        assert_string_equal(none.dtype, "bf16");
        assert_memory_equal(none.y, half.y, half.m * half.in * sizeof *half.y);
        forget(&none);
        forget(&half);
    }
    free(w);
    free(x);
}

static void inputs_beyond_what_was_seen_saturate(void **state)
{
    struct block low = BLOCK, want = BLOCK;
    float *w = floats(256 * 768, 0.2f), *x = floats(18 * 256, 1), *cut = floats(18 * 256, 1);
    (void)state;
    if (can()) {
        low.plain_peak = 0.5f; /* half of what comes */
        low.x = x;
        for (size_t i = 0; i < 18 * 256; i++)
            cut[i] = fmaxf(-0.5f, fminf(0.5f, x[i]));
        want.x = cut;
        run(&low, "cuda:0", "fp8", w);
        run(&want, "cpu", "f32", w);
        assert_true(cosine(low.plain, want.plain, want.m * want.hidden) >= 0.998);
        forget(&low);
        forget(&want);
    }
    free(w);
    free(x);
    free(cut);
}

static void items_do_not_depend_on_their_neighbours(void **state)
{
    struct block both = BLOCK, one = BLOCK;
    float *w = floats(256 * 768, 0.2f), *x = floats(18 * 256, 1);
    size_t item = 9 * 256;
    (void)state;
    if (can()) {
        both.x = x;
        one.x = x + item;
        one.items = 1;
        run(&both, "cuda:0", "fp8", w);
        run(&one, "cuda:0", "fp8", w);
        assert_memory_equal(both.y + item, one.y, item * sizeof *x);
        forget(&both);
        forget(&one);
    }
    free(w);
    free(x);
}

/* What the vision transformer of models/thorax-nih makes of an image, as floats to be freed. */
static float *trained(const char *image, const char *device, const char *dtype, size_t *ret_n)
{
    char output[] = "/tmp/mf-fp8-XXXXXX";
    struct mf_error err = MF_ERROR_INIT;
    const struct mf_module_options options = {.device = device, .dtype = dtype, .threads = 2};
    int fd = mkstemp(output);
    assert_true(fd >= 0 && close(fd) == 0);
    if (!mf_module_run(MF_SOURCE_DIR "/models/thorax-nih/vision", image, output, &options, &err))
        fail_msg("%s", err.msg);
    struct mf_safetensors *file = mf_safetensors_open(output, &err);
    const struct mf_tensor *t = file ? mf_safetensors_find(file, "region_tokens") : NULL;
    if (!t)
        fail_msg("no region tokens: %s", err.msg);
    float *tokens = floats(t->count, 0);
    assert_true(mf_tensor_to_floats(t, tokens));
    *ret_n = t->count;
    mf_safetensors_free(file);
    unlink(output);
    return tokens;
}

/* From pixels to what the fusion reads, in all 9 layers: the numbers that a study would get. */
static void a_trained_network_stays_near_floats(void **state)
{
    enum { SIDE = 224 };
    char image[] = "/tmp/mf-fp8-XXXXXX";
    struct mf_error err = MF_ERROR_INIT;
    float *pixels = floats((size_t)3 * SIDE * SIDE, 2);
    const struct mf_tensor input = {.name = "pixel_values",
                                    .dtype = MF_DTYPE_F32,
                                    .rank = 4,
                                    .shape = {1, 3, SIDE, SIDE},
                                    .count = (size_t)3 * SIDE * SIDE,
                                    .data = pixels};
    size_t n = 0, same = 0;
    (void)state;
    int fd = mkstemp(image);
    assert_true(fd >= 0 && close(fd) == 0 && mf_safetensors_write(image, &input, 1, &err));
    if (can()) {
        float *want = trained(image, "cpu", "f32", &n);
        float *half = trained(image, "cuda:0", "bf16", &same);
        float *eight = trained(image, "cuda:0", "fp8", &same);
        assert_true(n > 0 && same == n);
        double of_half = cosine(half, want, n), of_eight = cosine(eight, want, n);
        printf("cosine to fp32: bfloat16 %.7f, E4M3 %.7f\n", of_half, of_eight);
        assert_true(of_half >= 0.999 && of_eight >= 0.999 && of_eight < of_half);
        free(want);
        free(half);
        free(eight);
    }
    unlink(image);
    free(pixels);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_rounded_to_the_nearest),
        cmocka_unit_test(numbers_beyond_the_largest_become_it),
        cmocka_unit_test(layers_agree_with_floats_by_angle),
        cmocka_unit_test(what_was_not_observed_stays_bfloat16),
        cmocka_unit_test(inputs_beyond_what_was_seen_saturate),
        cmocka_unit_test(items_do_not_depend_on_their_neighbours),
        cmocka_unit_test(a_trained_network_stays_near_floats),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
