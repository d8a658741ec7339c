/* The way back of every operation of the tape against central differences, and what a tape says
 * when it grows too large. */
#include "engine/explain/tape.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { ROOM = 512 };

/* An operation under test: in (inputs) → out (outputs), in the workspace. */
struct operation {
    const char *name;
    size_t inputs, outputs;
    void (*body)(struct mf_exec *x, const float *in, float *out);
};

/* Numbers that are the same every time, within ±scale. */
static float number(size_t i, float scale)
{
    return scale * sinf(1.7f * (float)i + 0.3f * (float)(i % 7));
}

static float weights[ROOM];
static struct mf_linear *layer; /* 6 → 8 */

static void linear_gelu(struct mf_exec *x, const float *in, float *out)
{
    mf_linear(x, layer, in, 3, out, MF_EPILOGUE_GELU);
}

static void linear_relu(struct mf_exec *x, const float *in, float *out)
{
    mf_linear(x, layer, in, 3, out, MF_EPILOGUE_RELU);
}

/* Rows further apart, added to what is there, which depends on the input too. */
static void linear_add(struct mf_exec *x, const float *in, float *out)
{
    MF_DO(x, copy, in, 16, out);
    mf_linear_strided(x, layer, in, 2, 9, out, MF_EPILOGUE_ADD);
}

/* In place, as networks do it. */
static void layer_norm(struct mf_exec *x, const float *in, float *out)
{
    MF_DO(x, copy, in, 24, out);
    MF_DO(x, layer_norm, out, 3, 8, weights, weights + 8, 1e-5f, out);
}

static void rms_norm(struct mf_exec *x, const float *in, float *out)
{
    MF_DO(x, rms_norm, in, 3, 8, weights, 1e-5f, out);
}

static void activations(struct mf_exec *x, const float *in, float *out)
{
    static const enum mf_unary OPS[] = {MF_UNARY_GELU, MF_UNARY_SILU, MF_UNARY_SIGMOID,
                                        MF_UNARY_TANH, MF_UNARY_RELU};
    for (size_t i = 0; i < 5; i++)
        MF_DO(x, unary, OPS[i], in + 4 * i, 4, out + 4 * i);
}

static void gated(struct mf_exec *x, const float *in, float *out)
{
    MF_DO(x, glu, MF_GLU_RELU, in, 2, 5, out);
    MF_DO(x, glu, MF_GLU_SILU, in, 2, 5, out + 10);
}

/* q, k and v side by side in one buffer, two items, two heads of 3. */
static void attention(struct mf_exec *x, const float *in, float *out)
{
    const struct mf_attention at = {2, 2, 3, 4, 4, 18, 18, 18, 6, 72, 72, 72, 24, 0.6f};
    mf_attend(x, &at, in, in + 6, in + 12, out);
}

/* 5 steps, 4 channels, 2 states: u, dt, z, then b and c side by side. */
static void scan(struct mf_exec *x, const float *in, float *out)
{
    static float a[8], d[4];
    for (size_t i = 0; i < 8; i++)
        a[i] = -0.3f - 0.2f * (float)i;
    for (size_t i = 0; i < 4; i++)
        d[i] = number(i, 1);
    const struct mf_scan s = {.length = 5,
                              .channels = 4,
                              .states = 2,
                              .u = in,
                              .dt = in + 20,
                              .z = in + 40,
                              .z_row = 4,
                              .b = in + 60,
                              .c = in + 62,
                              .bc_row = 4,
                              .a = a,
                              .d = d};
    MF_DO(x, selective_scan, &s, out);
}

static void convolution(struct mf_exec *x, const float *in, float *out)
{
    MF_DO(x, causal_conv, in, 6, 3, 5, weights, weights + 40, 4, out);
}

static void patches(struct mf_exec *x, const float *in, float *out)
{
    const struct mf_unfold u = {1, 2, 5, 4, 3, 2, 2, 2, 1, 0, false};
    MF_DO(x, unfold, &u, in, out);
}

static void moves(struct mf_exec *x, const float *in, float *out)
{
    MF_DO(x, reverse_rows, in, 4, 3, out);
    MF_DO(x, add, in + 3, 2, 4, 3, -0.7f, out);
    MF_DO(x, scale, 1.3f, 12, out);
    MF_DO(x, region_pool, in, 5, 2, 1, 2, out + 12);
    MF_DO(x, row_mean, in, 4, 3, out + 16);
}

static const struct operation OPERATIONS[] = {
    {"linear and GELU", 18, 24, linear_gelu},
    {"linear and ReLU", 18, 24, linear_relu},
    {"linear, added", 16, 16, linear_add},
    {"LayerNorm", 24, 24, layer_norm},
    {"RMSNorm", 24, 24, rms_norm},
    {"activations", 20, 20, activations},
    {"gated units", 20, 20, gated},
    {"attention", 144, 48, attention},
    {"scan", 80, 20, scan},
    {"convolution", 30, 18, convolution},
    {"patches of an image", 40, 72, patches},
    {"moving numbers", 12, 19, moves},
};

/* What the visitor and the body share. */
struct trial {
    const struct operation *op;
    float in[ROOM], out[ROOM], gradient[ROOM];
};

static void run_trial(struct mf_exec *x, void *arg)
{
    struct trial *t = arg;
    float *in = mf_exec_floats(x, t->op->inputs), *out = mf_exec_floats(x, t->op->outputs);
    MF_DO(x, upload, in, t->in, t->op->inputs);
    t->op->body(x, in, out);
    MF_DO(x, download, t->out, out, t->op->outputs);
}

static float seed(size_t i)
{
    return number(3 * i + 1, 1);
}

static void visit(void *arg, const float *host, bool upload, float *gradient, size_t n)
{
    struct trial *t = arg;
    if (upload && host == t->in)
        memcpy(t->gradient, gradient, n * sizeof *gradient);
    for (size_t i = 0; !upload && i < n; i++)
        gradient[i] += seed(i);
}

static double loss(struct mf_exec *x, struct trial *t)
{
    double sum = 0;
    assert_true(mf_exec_replay(x, run_trial, t, NULL));
    for (size_t i = 0; i < t->op->outputs; i++)
        sum += (double)t->out[i] * seed(i);
    return sum;
}

static void start(struct mf_exec *x)
{
    float bias[8];
    assert_true(mf_tape_exec_init(x, 1, NULL));
    for (size_t i = 0; i < ROOM; i++)
        weights[i] = number(i, 0.8f);
    for (size_t i = 0; i < 8; i++)
        bias[i] = number(i + 5, 0.2f);
    const struct mf_linear_source source = mf_linear_matrix(weights, bias, 8, 6);
    layer = mf_exec_keep_linear(x, &source, NULL);
    assert_non_null(layer);
}

static void every_operation_has_the_gradient_of_its_differences(void **state)
{
    const float step = 1.0f / 128;
    (void)state;
    for (size_t k = 0; k < sizeof OPERATIONS / sizeof *OPERATIONS; k++) {
        struct mf_exec x;
        struct trial t = {.op = &OPERATIONS[k]};
        const struct mf_tape_visitor v = {.host = visit, .arg = &t};
        start(&x);
        for (size_t i = 0; i < t.op->inputs; i++)
            t.in[i] = number(2 * i + 1, 1);
        assert_true(mf_exec_run(&x, run_trial, &t, true, NULL));
        assert_true(mf_tape_record(&x, 1 << 24, run_trial, &t, NULL));
        assert_true(mf_tape_backward(mf_tape_of(&x), &v, true, NULL));
        double most = 0, scale = 0;
        for (size_t i = 0; i < t.op->inputs; i++) {
            float was = t.in[i];
            t.in[i] = was + step;
            double above = loss(&x, &t);
            t.in[i] = was - step;
            double difference = (above - loss(&x, &t)) / (2 * step);
            t.in[i] = was;
            most = fmax(most, fabs(difference - t.gradient[i]));
            scale = fmax(scale, fabs(difference));
        }
        printf("%-20s %.1e\n", t.op->name, most / scale);
        assert_true(scale > 0.1);
        assert_true(most < 1e-4 * scale);
        mf_exec_free(&x);
    }
}

static void gradients_come_out_the_same_again(void **state)
{
    struct mf_exec x;
    struct trial t = {.op = &OPERATIONS[7]};
    const struct mf_tape_visitor v = {.host = visit, .arg = &t};
    float first[ROOM];
    (void)state;
    start(&x);
    for (size_t i = 0; i < t.op->inputs; i++)
        t.in[i] = number(i, 1);
    assert_true(mf_exec_run(&x, run_trial, &t, true, NULL));
    assert_true(mf_tape_record(&x, 1 << 24, run_trial, &t, NULL));
    assert_true(mf_tape_backward(mf_tape_of(&x), &v, true, NULL));
    memcpy(first, t.gradient, sizeof first);
    assert_true(mf_tape_backward(mf_tape_of(&x), &v, true, NULL));
    assert_memory_equal(first, t.gradient, sizeof first);
    mf_exec_free(&x);
}

static void a_tape_that_grows_too_large_is_an_error(void **state)
{
    struct mf_exec x;
    struct mf_error err = MF_ERROR_INIT;
    struct trial t = {.op = &OPERATIONS[0]};
    (void)state;
    start(&x);
    assert_true(mf_exec_run(&x, run_trial, &t, true, NULL));
    assert_false(mf_tape_record(&x, 64, run_trial, &t, &err));
    assert_int_equal(err.code, MF_ERR_TOO_LARGE);
    assert_string_equal(err.msg, "the explanation needs more than 0 MiB of memory");
    mf_exec_free(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_operation_has_the_gradient_of_its_differences),
        cmocka_unit_test(gradients_come_out_the_same_again),
        cmocka_unit_test(a_tape_that_grows_too_large_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
