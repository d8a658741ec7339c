/*
 * What goes to cuDNN (engine/cuda/dnn.h), on the made-up library: attention's numbers, one engine
 * for all batches, plans kept, memory planned, and what is done where the library is not there,
 * refuses, or fails. test_ops.c and test_conv.c do the numbers on a card too.
 */
#include "engine/exec.h"
#include "tests/cuda/fake_cuda.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint32_t seed = 7;

static float noise(void)
{
    seed = seed * 1664525 + 1013904223;
    return (float)(seed >> 8) / (float)(1 << 23) - 1;
}

static float *floats(size_t n, float factor)
{
    float *p = malloc((n + 1) * sizeof *p);
    assert_non_null(p);
    for (size_t i = 0; i < n; i++)
        p[i] = factor * noise();
    return p;
}

/* A convolution of `u.batch` items, and of its output attention of rows to each other. */
struct work {
    struct mf_unfold u;
    size_t out;
    enum mf_epilogue epilogue;
    struct mf_linear *linear;
    struct mf_attention at; /* heads 0: none */
    const float *x;         /* host */
    float *y;               /* host */
};

static size_t image_floats(const struct mf_unfold *u)
{
    return u->batch * u->channels * u->height * u->width;
}

static void conv_body(struct mf_exec *x, void *arg)
{
    const struct work *w = arg;
    size_t n = mf_unfold_rows(&w->u) * w->out;
    float *in = mf_exec_floats(x, image_floats(&w->u)), *out = mf_exec_floats(x, n);
    MF_DO(x, upload, in, w->x, image_floats(&w->u));
    mf_conv(x, w->linear, &w->u, in, out, w->epilogue);
    MF_DO(x, download, w->y, out, n);
}

static void attention_body(struct mf_exec *x, void *arg)
{
    const struct work *w = arg;
    size_t d = w->at.heads * w->at.head_size, n = w->at.batch * w->at.queries * w->at.o_row,
           rows = w->at.queries > w->at.keys ? w->at.queries : w->at.keys;
    float *in = mf_exec_floats(x, w->at.batch * rows * w->at.q_row), *out = mf_exec_floats(x, n);
    MF_DO(x, upload, in, w->x, w->at.batch * rows * w->at.q_row);
    mf_attend(x, &w->at, in, in + d, in + 2 * d, out);
    MF_DO(x, download, w->y, out, n);
}

static void open_on(struct mf_exec *x, const char *device, const char *dtype, const char *kernels)
{
    struct mf_error err = MF_ERROR_INIT;
    if (!mf_exec_init(x, device, dtype, 1, &err) || !mf_exec_kernels(x, kernels, &err))
        fail_msg("%s", err.msg);
}

static void run_on(struct mf_exec *x, void (*body)(struct mf_exec *, void *), struct work *w)
{
    struct mf_error err = MF_ERROR_INIT;
    if (!mf_exec_run(x, body, w, false, &err))
        fail_msg("%s", err.msg);
}

static void layer(struct mf_exec *x, struct work *w, const float *weight, const float *bias)
{
    struct mf_error err = MF_ERROR_INIT;
    size_t in = w->u.channels * w->u.kernel_h * w->u.kernel_w;
    const struct mf_linear_source source = mf_linear_matrix(weight, bias, w->out, in);
    w->linear = mf_exec_keep_linear(x, &source, &err);
    if (!w->linear)
        fail_msg("%s", err.msg);
}

static void compare(const char *what, const float *a, const float *b, size_t n, double limit)
{
    double most = 0, scale = 0;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - b[i]);
        most = isfinite(d) ? fmax(most, d) : INFINITY;
        scale = fmax(scale, fabs((double)b[i]));
    }
    if (!(most <= limit * scale))
        fail_msg("%s: off by %.3g of %.3g", what, most, scale);
}

/* heads, head size, queries, keys, batch */
static struct work attention_work(size_t heads, size_t size, size_t queries, size_t keys,
                                  size_t batch)
{
    size_t d = heads * size, row = 3 * d, rows = queries > keys ? queries : keys;
    return (struct work){.at = {.batch = batch,
                                .heads = heads,
                                .head_size = size,
                                .queries = queries,
                                .keys = keys,
                                .q_row = row,
                                .k_row = row,
                                .v_row = row,
                                .o_row = d,
                                .q_batch = rows * row,
                                .k_batch = rows * row,
                                .v_batch = rows * row,
                                .o_batch = queries * d,
                                .scale = 1.7f / sqrtf((float)size)}};
}

static size_t attended(const struct work *w)
{
    return w->at.batch * w->at.queries * w->at.o_row;
}

static float *attention_input(const struct work *w)
{
    return floats(w->at.batch * w->at.q_batch, 3);
}

static void attention_is_that_of_floats(void **state)
{
    static const size_t SHAPES[][5] = {
        {2, 16, 70, 70, 2}, {1, 64, 64, 64, 1}, {3, 8, 65, 65, 3}, {1, 24, 67, 100, 1}};
    (void)state;
    for (size_t i = 0; i < sizeof SHAPES / sizeof *SHAPES; i++) {
        const size_t *s = SHAPES[i];
        struct work w = attention_work(s[0], s[1], s[2], s[3], s[4]);
        float *x = attention_input(&w), *got = floats(attended(&w), NAN),
              *want = floats(attended(&w), NAN);
        struct mf_exec gpu, cpu;
        fake_cuda_reset();
        open_on(&gpu, "cuda:0", "bf16", "cudnn");
        open_on(&cpu, "cpu", "f32", "own");
        w.x = x;
        w.y = got;
        run_on(&gpu, attention_body, &w);
        assert_int_equal(fake_cudnn.runs, 1);
        w.y = want;
        run_on(&cpu, attention_body, &w);
        compare("attention by the library", got, want, attended(&w), 2e-2);
        mf_exec_free(&gpu);
        mf_exec_free(&cpu);
        free(x);
        free(got);
        free(want);
    }
}

/* Items 0 and last of batches of several sizes in the bits that they have alone. */
static void check_neighbours(void (*body)(struct mf_exec *, void *), struct work *w, size_t item_in,
                             size_t item_out, size_t *batch)
{
    static const size_t BATCHES[] = {2, 3, 32};
    float *x = floats(32 * item_in, 1), *all = floats(32 * item_out, NAN),
          *one = floats(item_out, NAN), *weight = floats(w->out * item_in + 1, 0.3f);
    struct mf_exec e;
    open_on(&e, "cuda:0", "bf16", "cudnn");
    if (w->out)
        layer(&e, w, weight, weight);
    for (size_t i = 0; i < 3; i++) {
        *batch = BATCHES[i];
        w->x = x;
        w->y = all;
        run_on(&e, body, w);
        for (size_t k = 0; k < BATCHES[i]; k += BATCHES[i] - 1) {
            *batch = 1;
            w->x = x + k * item_in;
            w->y = one;
            run_on(&e, body, w);
            assert_memory_equal(one, all + k * item_out, item_out * sizeof *one);
        }
    }
    mf_exec_free(&e);
    free(x);
    free(all);
    free(one);
    free(weight);
}

static void items_do_not_depend_on_their_neighbours(void **state)
{
    (void)state;
    for (size_t refused = 0; refused <= 3; refused += 3) {
        fake_cuda_reset();
        fake_cudnn.refused_batch = refused; /* not so many together: then one by one */
        struct work conv = {.u = {1, 16, 6, 5, 3, 3, 1, 1, 1, 1, true}, .out = 512};
        check_neighbours(conv_body, &conv, 16 * 30, 512 * 30, &conv.u.batch);
        struct work attention = attention_work(2, 8, 64, 64, 1);
        check_neighbours(attention_body, &attention, attention.at.q_batch, attention.at.o_batch,
                         &attention.at.batch);
        assert_true(fake_cudnn.runs > 0);
    }
}

static void plans_are_made_once(void **state)
{
    struct work w = attention_work(1, 16, 64, 64, 4);
    float *x = attention_input(&w), *y = floats(attended(&w), NAN);
    struct mf_exec e;
    (void)state;
    fake_cuda_reset();
    open_on(&e, "cuda:0", "bf16", "cudnn");
    w.x = x;
    w.y = y;
    run_on(&e, attention_body, &w);
    size_t plans = fake_cudnn.plans, allocations = fake_cuda.allocations;
    assert_int_equal(plans, 2); /* of 1 and 4 items */
    for (int i = 0; i < 3; i++)
        assert_true(mf_exec_replay(&e, attention_body, &w, NULL));
    assert_int_equal(fake_cudnn.plans, plans);
    assert_int_equal(fake_cuda.allocations, allocations);
    assert_int_equal(fake_cudnn.runs, 4);
    mf_exec_free(&e);
    free(x);
    free(y);
}

/* How often the library runs where it is asked with `kernels`. */
static size_t runs_of(struct work *w, void (*body)(struct mf_exec *, void *), const char *dtype,
                      const char *kernels)
{
    float *x = floats(w->out ? image_floats(&w->u) : w->at.batch * w->at.q_batch, 1),
          *y = floats(w->out ? mf_unfold_rows(&w->u) * w->out : attended(w), NAN),
          *weight = floats(w->out * w->u.channels * w->u.kernel_h * w->u.kernel_w + 1, 0.3f);
    struct mf_exec e;
    size_t before = fake_cudnn.runs;
    open_on(&e, "cuda:0", dtype, kernels);
    if (w->out)
        layer(&e, w, weight, weight);
    w->x = x;
    w->y = y;
    run_on(&e, body, w);
    for (size_t i = 0; i < (w->out ? mf_unfold_rows(&w->u) * w->out : attended(w)); i++)
        assert_true(isfinite(y[i]));
    mf_exec_free(&e);
    free(x);
    free(y);
    free(weight);
    return fake_cudnn.runs - before;
}

static void what_is_faster_as_a_rule_is_taken(void **state)
{
    struct work attention = attention_work(1, 16, 64, 64, 1),
                small = attention_work(1, 16, 63, 64, 1), odd = attention_work(1, 12, 64, 64, 1),
                shared = attention_work(1, 16, 64, 64, 2),
                patch = {.u = {1, 3, 28, 28, 14, 14, 14, 14, 0, 0, false}, .out = 128},
                conv = {.u = {1, 64, 8, 8, 3, 3, 1, 1, 1, 1, true}, .out = 128};
    (void)state;
    shared.at.k_batch = shared.at.v_batch = 0;
    fake_cuda_reset();
    assert_int_equal(runs_of(&attention, attention_body, "bf16", NULL), 1);
    assert_int_equal(runs_of(&attention, attention_body, "bf16", "own"), 0);
    assert_int_equal(runs_of(&attention, attention_body, "f32", "cudnn"), 0);
    assert_int_equal(runs_of(&small, attention_body, "bf16", "cudnn"), 0);
    assert_int_equal(runs_of(&odd, attention_body, "bf16", "cudnn"), 0);
    assert_int_equal(runs_of(&shared, attention_body, "bf16", "cudnn"), 0);
    assert_int_equal(runs_of(&patch, conv_body, "bf16", NULL), 0);
    assert_int_equal(runs_of(&patch, conv_body, "bf16", "cudnn"), 1);
    assert_int_equal(runs_of(&conv, conv_body, "bf16", "auto"), 1);
    assert_int_equal(runs_of(&conv, conv_body, "f32", "auto"), 0);
    assert_int_equal(runs_of(&conv, conv_body, "f32", "cudnn"), 1);
    fake_cuda.capability = 80; /* own kernels use all of this card's instructions */
    assert_int_equal(runs_of(&attention, attention_body, "bf16", NULL), 0);
    assert_int_equal(runs_of(&attention, attention_body, "bf16", "cudnn"), 1);
}

static void cards_without_products_of_8_bits_say_so(void **state)
{
    struct mf_error err = MF_ERROR_INIT;
    struct mf_exec x;
    (void)state;
    fake_cuda_reset();
    fake_cuda.capability = 86;
    assert_false(mf_exec_init(&x, "cuda:0", "fp8", 1, &err));
    assert_string_equal(err.msg, "dtype \"fp8\" needs compute capability 8.9, this GPU has 8.6");
    assert_int_equal(err.code, MF_ERR_UNAVAILABLE);
    fake_cuda.capability = 89;
    assert_true(mf_exec_init(&x, "cuda:0", "fp8", 1, NULL));
    assert_string_equal(x.ops->dtype(x.backend), "bf16"); /* until a layer is */
    mf_exec_free(&x);
}

/* A decision is made of it: bfloat16 is not enough. */
static void what_must_be_exact_is_in_floats(void **state)
{
    struct work w = attention_work(2, 16, 70, 70, 1);
    float *x = attention_input(&w), *got = floats(attended(&w), NAN),
          *want = floats(attended(&w), NAN);
    struct mf_exec gpu, cpu;
    (void)state;
    fake_cuda_reset();
    open_on(&gpu, "cuda:0", "bf16", "cudnn");
    mf_exec_precision(&gpu, MF_PRECISION_16_BITS);
    open_on(&cpu, "cpu", "f32", "own");
    w.x = x;
    w.y = got;
    run_on(&gpu, attention_body, &w);
    assert_int_equal(fake_cudnn.runs, 0);
    w.y = want;
    run_on(&cpu, attention_body, &w);
    compare("attention of 16 bits", got, want, attended(&w), 1e-5);
    mf_exec_free(&gpu);
    mf_exec_free(&cpu);
    free(x);
    free(got);
    free(want);
}

static void own_kernels_take_over(void **state)
{
    struct work attention = attention_work(1, 16, 64, 64, 1),
                conv = {.u = {1, 64, 8, 8, 3, 3, 1, 1, 1, 1, true}, .out = 128};
    (void)state;
    fake_cuda_reset();
    fake_cudnn.nothing = true; /* no engine for anything */
    assert_int_equal(runs_of(&attention, attention_body, "bf16", "cudnn"), 0);
    assert_int_equal(runs_of(&conv, conv_body, "bf16", "cudnn"), 0);
    fake_cuda_reset();
    fake_cudnn.refused_batch = 1; /* an engine that cannot do one item is none */
    assert_int_equal(runs_of(&attention, attention_body, "bf16", "cudnn"), 0);
    fake_cuda_reset();
    fake_cudnn.missing = true;
    assert_int_equal(runs_of(&attention, attention_body, "bf16", "auto"), 0);
    fake_cuda_reset();
    fake_cudnn.late = true; /* the other heuristics know one */
    assert_int_equal(runs_of(&conv, conv_body, "bf16", "cudnn"), 1);
    fake_cuda_reset();
    fake_cudnn.more = 500; /* than anybody looks at */
    assert_int_equal(runs_of(&conv, conv_body, "bf16", "cudnn"), 1);
}

static void kernels_that_are_not_there_are_refused(void **state)
{
    struct mf_error err = MF_ERROR_INIT;
    struct mf_exec x;
    char about[96];
    (void)state;
    fake_cuda_reset();
    fake_cudnn.missing = true;
    assert_true(mf_exec_init(&x, "cuda:0", "bf16", 1, &err));
    assert_false(mf_exec_kernels(&x, "cudnn", &err));
    assert_string_equal(err.msg, "cuDNN 9 cannot be loaded: it is not there");
    mf_error_clear(&err);
    fake_cudnn.missing = false;
    fake_cudnn.start_status = 1001;
    assert_false(mf_exec_kernels(&x, "cudnn", &err));
    assert_string_equal(err.msg, "cuDNN failed with status 1001 in its start");
    assert_int_equal(err.code, MF_ERR_UNAVAILABLE);
    mf_error_clear(&err);
    assert_false(mf_exec_kernels(&x, "fast", &err));
    assert_string_equal(err.msg, "kernels \"fast\" are not known: auto, own and cudnn are");
    assert_int_equal(err.code, MF_ERR_USAGE);
    mf_error_clear(&err);
    assert_true(mf_exec_kernels(&x, "own", &err));
    x.ops->about(x.backend, about, sizeof about);
    assert_string_equal(about, "own kernels");
    mf_exec_free(&x);
    assert_true(mf_exec_init(&x, "cpu", "f32", 1, &err));
    assert_true(mf_exec_kernels(&x, "auto", &err));
    assert_false(mf_exec_kernels(&x, "cudnn", &err));
    assert_string_equal(err.msg, "kernels \"cudnn\" need a GPU, this is device cpu");
    mf_exec_free(&x);
}

static void failures_are_told(void **state)
{
    static const struct {
        int status;
        enum mf_code code;
        const char *message;
    } CASES[] = {{5000, MF_ERR_INTERNAL, "GPU 0 failed while attending by cuDNN: a made-up error"},
                 {4004, MF_ERR_NO_MEMORY, "GPU 0 failed while attending by cuDNN: out of memory"}};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct work w = attention_work(1, 16, 64, 64, 1);
        float *x = attention_input(&w), *y = floats(attended(&w), NAN);
        struct mf_error err = MF_ERROR_INIT;
        struct mf_exec e;
        fake_cuda_reset();
        open_on(&e, "cuda:0", "bf16", "cudnn");
        w.x = x;
        w.y = y;
        run_on(&e, attention_body, &w);
        fake_cudnn.execute_status = CASES[i].status;
        assert_false(mf_exec_replay(&e, attention_body, &w, &err));
        assert_string_equal(err.msg, CASES[i].message);
        assert_int_equal(err.code, CASES[i].code);
        fake_cudnn.execute_status = 0; /* a lack of memory can be got over */
        assert_int_equal(mf_exec_replay(&e, attention_body, &w, NULL), i == 1);
        mf_exec_free(&e);
        free(x);
        free(y);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attention_is_that_of_floats),
        cmocka_unit_test(items_do_not_depend_on_their_neighbours),
        cmocka_unit_test(plans_are_made_once),
        cmocka_unit_test(what_is_faster_as_a_rule_is_taken),
        cmocka_unit_test(cards_without_products_of_8_bits_say_so),
        cmocka_unit_test(what_must_be_exact_is_in_floats),
        cmocka_unit_test(own_kernels_take_over),
        cmocka_unit_test(kernels_that_are_not_there_are_refused),
        cmocka_unit_test(failures_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
