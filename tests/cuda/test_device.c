/* The fence around the CUDA runtime on a made-up one (fake_cuda.h): memory, copies beside the work,
 * recorded work, and what is told when something fails. */
#include "engine/cuda/device.h"
#include "engine/cuda/kernels.h"
#include "tests/cuda/fake_cuda.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { N = 1000 };

static struct mf_gpu *open_gpu(void)
{
    struct mf_error err = MF_ERROR_INIT;
    fake_cuda_reset();
    struct mf_gpu *gpu = mf_gpu_open(0, &err);
    if (!gpu)
        fail_msg("%s", err.msg);
    return gpu;
}

static void what_stands_for_gpus_is_told(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    fake_cuda_reset();
    fake_cuda.no_devices = 35; /* cudaErrorInsufficientDriver */
    assert_int_equal(mf_gpu_count(), 0);
    assert_null(mf_gpu_open(0, &err));
    assert_int_equal(err.code, MF_ERR_UNAVAILABLE);
    assert_string_equal(err.msg, "device \"cuda:0\" is not available: CUDA driver version is "
                                 "insufficient for CUDA runtime version");
    fake_cuda_reset();
    mf_error_clear(&err);
    assert_null(mf_gpu_open(3, &err));
    assert_string_equal(err.msg, "device \"cuda:3\" is not available: this machine shows 1 GPUs");
}

static void small_arrays_share_pieces_that_are_used_again(void **state)
{
    (void)state;
    struct mf_gpu *gpu = open_gpu();
    void *small[100];
    for (int i = 0; i < 100; i++) {
        small[i] = mf_gpu_alloc(gpu, 1000, NULL);
        assert_int_equal((uintptr_t)small[i] % 256, 0);
    }
    assert_int_equal(fake_cuda.allocations, 1);
    void *large = mf_gpu_alloc(gpu, (size_t)40 << 20, NULL);
    assert_int_equal(fake_cuda.allocations, 2);
    mf_gpu_release(gpu, large); /* goes back: nothing else would fit there */
    assert_int_equal(fake_cuda.releases, 1);
    for (int i = 0; i < 100; i++)
        mf_gpu_release(gpu, small[i]);
    mf_gpu_release(gpu, NULL);
    assert_non_null(mf_gpu_alloc(gpu, 1 << 20, NULL));
    assert_int_equal(fake_cuda.allocations, 2);
    struct mf_gpu_memory memory;
    assert_true(mf_gpu_memory(gpu, &memory));
    assert_int_equal(memory.reserved, (size_t)32 << 20);
    mf_gpu_close(gpu);
    assert_int_equal(fake_cuda.used, 0);
}

static void a_full_gpu_says_so_and_works_on(void **state)
{
    (void)state;
    struct mf_gpu *gpu = open_gpu();
    struct mf_error err = MF_ERROR_INIT;
    fake_cuda.memory = (size_t)20 << 20; /* less than a piece */
    assert_null(mf_gpu_alloc(gpu, (size_t)30 << 20, &err));
    assert_int_equal(err.code, MF_ERR_NO_MEMORY);
    assert_string_equal(err.msg, "GPU 0 has no 31457280 bytes left");
    void *fits = mf_gpu_alloc(gpu, 1 << 20, NULL);
    assert_non_null(fits);
    float back = 1, number = 7;
    mf_gpu_upload(gpu, fits, &number, sizeof number);
    mf_gpu_download(gpu, &back, fits, sizeof back);
    assert_true(back == 7);
    mf_gpu_close(gpu);
}

/* y[i] = 2 · x[i], as a kernel would. */
static void doubled(struct mf_gpu *gpu, const float *x, float *y)
{
    mf_gpu_copy(gpu, y, x, N * sizeof *x);
    mf_gpu_note(gpu, mf_launch_scale(mf_gpu_stream(gpu), 2, N, y), "doubling");
}

/* More fillings than slots, all of them in the air at once. */
static void check_fillings(bool eager)
{
    enum { ROUNDS = 7 };
    struct mf_gpu *gpu = open_gpu();
    static float host[N], back[ROUNDS][N];
    float *slots[MF_GPU_SLOTS], *results[ROUNDS];
    fake_cuda.eager_copies = eager;
    for (int i = 0; i < MF_GPU_SLOTS; i++)
        slots[i] = mf_gpu_alloc(gpu, sizeof host, NULL);
    for (int round = 0; round < ROUNDS; round++) {
        int slot = round % MF_GPU_SLOTS;
        results[round] = mf_gpu_alloc(gpu, sizeof host, NULL);
        for (int i = 0; i < N; i++)
            host[i] = (float)(round * N + i);
        mf_gpu_fill(gpu, slot, slots[slot], host, sizeof host);
        memset(host, 0xFF, sizeof host); /* the caller's again */
        mf_gpu_await(gpu, slot);
        doubled(gpu, slots[slot], results[round]);
        mf_gpu_used(gpu, slot);
    }
    for (int round = ROUNDS; round-- > 0;) {
        mf_gpu_download(gpu, back[round], results[round], sizeof host);
        for (int i = 0; i < N; i++)
            assert_true(back[round][i] == 2 * (float)(round * N + i));
    }
    assert_true(mf_gpu_finish(gpu, NULL));
    mf_gpu_close(gpu);
}

static void fillings_arrive_before_they_are_read(void **state)
{
    (void)state;
    check_fillings(false);
}

static void fillings_wait_for_whoever_reads_the_last_one(void **state)
{
    (void)state;
    check_fillings(true);
}

static void a_filling_that_nobody_awaits_is_over_when_all_is(void **state)
{
    (void)state;
    struct mf_gpu *gpu = open_gpu();
    static float host[N], back[N];
    float *slot = mf_gpu_alloc(gpu, sizeof host, NULL);
    for (int i = 0; i < N; i++)
        host[i] = (float)i;
    mf_gpu_fill(gpu, 0, slot, host, sizeof host);
    assert_true(mf_gpu_finish(gpu, NULL)); /* what it was for has failed */
    memset(host, 0, sizeof host);
    mf_gpu_upload(gpu, slot, host, sizeof host); /* another use of its place */
    mf_gpu_download(gpu, back, slot, sizeof back);
    mf_gpu_fill(gpu, 1, slot, host, sizeof host / 2); /* copies go on */
    mf_gpu_await(gpu, 1);
    mf_gpu_download(gpu, back, slot, sizeof back);
    assert_memory_equal(back, host, sizeof back);
    mf_gpu_close(gpu);
}

static void recorded_work_is_replayed_on_what_lies_there(void **state)
{
    (void)state;
    struct mf_gpu *gpu = open_gpu();
    static float host[N];
    float *x = mf_gpu_alloc(gpu, sizeof host, NULL), *y = mf_gpu_alloc(gpu, sizeof host, NULL);
    assert_true(mf_gpu_record(gpu));
    doubled(gpu, x, y);
    struct mf_gpu_graph *graph = mf_gpu_recorded(gpu);
    assert_non_null(graph);
    for (int round = 1; round < 4; round++) {
        for (int i = 0; i < N; i++)
            host[i] = (float)(round * i);
        mf_gpu_upload(gpu, x, host, sizeof host);
        mf_gpu_replay(gpu, graph);
        mf_gpu_download(gpu, host, y, sizeof host);
        for (int i = 0; i < N; i++)
            assert_true(host[i] == (float)(2 * round * i));
    }
    assert_int_equal(fake_cuda.graph_launches, 3);
    mf_gpu_graph_free(graph);
    mf_gpu_graph_free(NULL);
    mf_gpu_close(gpu);
}

static void what_cannot_be_recorded_breaks_nothing(void **state)
{
    (void)state;
    struct mf_gpu *gpu = open_gpu();
    float number = 1, *x = mf_gpu_alloc(gpu, N * sizeof *x, NULL);
    fake_cuda.refuse_capture = true;
    assert_true(mf_gpu_record(gpu));
    assert_null(mf_gpu_recorded(gpu));
    fake_cuda.refuse_capture = false;
    assert_true(mf_gpu_record(gpu));
    mf_gpu_upload(gpu, x, &number, sizeof number); /* what a network must not do */
    assert_null(mf_gpu_recorded(gpu));
    assert_true(mf_gpu_record(gpu));
    mf_gpu_note(gpu, 900,
                "starting what cannot be recorded"); /* cudaErrorStreamCaptureUnsupported */
    assert_null(mf_gpu_recorded(gpu));
    assert_true(mf_gpu_record(gpu));
    assert_false(mf_gpu_record(gpu)); /* one in another */
    assert_null(mf_gpu_alloc(gpu, (size_t)40 << 20, NULL));
    assert_null(mf_gpu_recorded(gpu));
    assert_true(mf_gpu_finish(gpu, NULL));
    mf_gpu_close(gpu);
}

/* More of them than a grid has blocks in its second and third dimension; recorded, not run. */
static void many_heads_and_items_can_be_started(void **state)
{
    (void)state;
    const struct mf_attention at = {
        .batch = 32769, .heads = 2, .head_size = 4, .queries = 1, .keys = 1, .scale = 1};
    struct mf_gpu *gpu = open_gpu();
    float *x = mf_gpu_alloc(gpu, N * sizeof *x, NULL);
    void *stream = mf_gpu_stream(gpu);
    assert_true(mf_gpu_record(gpu));
    assert_int_equal(mf_launch_attention(stream, &at, NULL, x, x, x, x), 0);
    assert_int_equal(mf_launch_attention_mma(stream, &at, NULL, x, x, x, x), 0);
    struct mf_gpu_graph *graph = mf_gpu_recorded(gpu);
    assert_non_null(graph);
    mf_gpu_graph_free(graph);
    assert_int_equal(mf_launch_scale(stream, 1, 0, x), 9); /* no blocks: as a card says */
    mf_gpu_close(gpu);
}

static void a_lack_of_memory_is_over_once_told(void **state)
{
    (void)state;
    struct mf_gpu *gpu = open_gpu();
    struct mf_error err = MF_ERROR_INIT;
    float *x = mf_gpu_alloc(gpu, N * sizeof *x, NULL), *y = mf_gpu_alloc(gpu, N * sizeof *x, NULL);
    fake_cuda.fail_after = 1;
    fake_cuda.fail_with = 2;
    doubled(gpu, x, y);
    assert_false(mf_gpu_finish(gpu, &err));
    assert_int_equal(err.code, MF_ERR_NO_MEMORY);
    assert_string_equal(err.msg, "GPU 0 failed while doubling: out of memory");
    doubled(gpu, x, y);
    assert_true(mf_gpu_finish(gpu, NULL));
    mf_gpu_close(gpu);
}

static void any_other_error_stays(void **state)
{
    (void)state;
    struct mf_gpu *gpu = open_gpu();
    float *x = mf_gpu_alloc(gpu, N * sizeof *x, NULL), *y = mf_gpu_alloc(gpu, N * sizeof *x, NULL);
    static float back[N] = {1};
    fake_cuda.fail_after = 1;
    doubled(gpu, x, y);
    fake_cuda.sticky = 0; /* even if the runtime forgot */
    for (int i = 0; i < 3; i++) {
        struct mf_error err = MF_ERROR_INIT;
        assert_false(mf_gpu_finish(gpu, &err));
        assert_int_equal(err.code, MF_ERR_INTERNAL);
        assert_string_equal(
            err.msg, "GPU 0 failed while doubling: an illegal memory access was encountered");
    }
    mf_gpu_download(gpu, back, y, sizeof back);
    assert_true(back[0] == 0);
    mf_gpu_close(gpu);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_stands_for_gpus_is_told),
        cmocka_unit_test(small_arrays_share_pieces_that_are_used_again),
        cmocka_unit_test(a_full_gpu_says_so_and_works_on),
        cmocka_unit_test(fillings_arrive_before_they_are_read),
        cmocka_unit_test(fillings_wait_for_whoever_reads_the_last_one),
        cmocka_unit_test(a_filling_that_nobody_awaits_is_over_when_all_is),
        cmocka_unit_test(recorded_work_is_replayed_on_what_lies_there),
        cmocka_unit_test(what_cannot_be_recorded_breaks_nothing),
        cmocka_unit_test(many_heads_and_items_can_be_started),
        cmocka_unit_test(a_lack_of_memory_is_over_once_told),
        cmocka_unit_test(any_other_error_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
