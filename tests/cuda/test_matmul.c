/* The fence around cuBLASLt (engine/cuda/matmul.h) on a made-up library: which of its proposals is
 * taken, and what is said where none will do. The numbers are test_layers.c's. */
#include "engine/cuda/matmul.h"
#include "tests/cuda/fake_cuda.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { IN = 96, OUT = 5, MOST = 300 };

struct made {
    struct mf_gpu *gpu;
    struct mf_matmuls *all;
};

static struct made begin(void)
{
    struct mf_error err = MF_ERROR_INIT;
    struct made m = {.gpu = mf_gpu_open(0, &err)};
    m.all = m.gpu ? mf_matmuls_new(m.gpu, &err) : NULL;
    if (!m.all)
        fail_msg("%s", err.msg);
    return m;
}

static void end(const struct made *m)
{
    mf_matmuls_free(m->all);
    mf_gpu_close(m->gpu);
}

/* Row 0 of `m` rows of x, all of them alike, in y. */
static void first_row(const struct made *made, size_t m, const float *host, float *y)
{
    struct mf_error err = MF_ERROR_INIT;
    const struct mf_matmul_shape shape = {
        .m = m, .out = OUT, .in = IN, .x_row = IN, .weight_row = IN, .few_rows = true};
    float *x = mf_gpu_alloc(made->gpu, m * IN * sizeof *x, NULL),
          *weight = mf_gpu_alloc(made->gpu, OUT * IN * sizeof *weight, NULL),
          *result = mf_gpu_alloc(made->gpu, m * OUT * sizeof *result, NULL);
    struct mf_matmul *plan = mf_matmul_new(made->all, &shape, &err);
    if (!plan)
        fail_msg("%s", err.msg);
    for (size_t i = 0; i < m; i++)
        mf_gpu_upload(made->gpu, x + i * IN, host, IN * sizeof *x);
    mf_gpu_upload(made->gpu, weight, host + IN, OUT * IN * sizeof *weight);
    mf_matmul_run(plan, x, weight, NULL, result);
    mf_gpu_download(made->gpu, y, result, OUT * sizeof *y);
    if (!mf_gpu_finish(made->gpu, &err))
        fail_msg("%s", err.msg);
    mf_matmul_free(plan);
    mf_gpu_release(made->gpu, x);
    mf_gpu_release(made->gpu, weight);
    mf_gpu_release(made->gpu, result);
}

/* Few and many rows in the same bits, and the bits. */
static void check_rows(float *y)
{
    float host[(OUT + 1) * IN], other[OUT];
    for (size_t i = 0; i < sizeof host / sizeof *host; i++)
        host[i] = (float)(i * 7919 % 1009) / 333 - 1.5f;
    const struct made m = begin();
    first_row(&m, 1, host, y);
    for (size_t rows = 7; rows <= MOST; rows *= 6) {
        first_row(&m, rows, host, other);
        assert_memory_equal(y, other, sizeof other);
    }
    end(&m);
}

static void one_algorithm_does_every_number_of_rows(void **state)
{
    float usual[OUT], many[OUT];
    (void)state;
    fake_cuda_reset();
    check_rows(usual);
    fake_cuda.narrow_minded = true; /* what is proposed for the usual rows does no others */
    check_rows(many);
    assert_memory_not_equal(usual, many, sizeof many); /* another algorithm's */
}

static void a_layer_that_nothing_can_do_is_refused(void **state)
{
    struct mf_error err = MF_ERROR_INIT;
    const struct mf_matmul_shape shape = {
        .m = 4, .out = OUT, .in = 20, .x_row = 20, .weight_row = 20, .type = MF_NUMBER_BF16};
    (void)state;
    fake_cuda_reset();
    const struct made m = begin();
    assert_null(mf_matmul_new(m.all, &shape, &err)); /* rows of 40 bytes */
    assert_int_equal(err.code, MF_ERR_UNAVAILABLE);
    assert_string_equal(err.msg, "cuBLASLt has no way to multiply rows of 20 by 20 × 5");
    end(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_algorithm_does_every_number_of_rows),
        cmocka_unit_test(a_layer_that_nothing_can_do_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
