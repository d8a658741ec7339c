/* A GPU that fails: the run says so, and so does the engine from then on; one that is full: fewer
 * frames together, then an error. And what a GPU must not do while it works: take memory. With the
 * emulated backend only: a real GPU is not broken for a test. */
#include "core/frame.h"
#include "engine/cuda/backend.h"
#include "engine/engine.h"
#include "engine/engine_private.h"
#include "tests/cuda/fake_cuda.h"
#include "tests/engine/bundle_copy.h"
#include "tests/engine/plain_frame.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { SIDE = 64, LABELS = 5 };

static bool run(struct mf_engine *engine, struct mf_error *err)
{
    static uint8_t pixels[SIDE * SIDE];
    const struct mf_frame frame = plain_frame(pixels, SIDE, SIDE);
    const struct mf_frame *const frames[] = {&frame};
    float logits[LABELS];
    struct mf_segmentation segmentation[1];
    const struct mf_engine_input input = {.frames = frames, .frame_count = 1};
    struct mf_engine_output output = {.logits = logits, .segmentation = segmentation};
    return mf_engine_run(engine, &input, NULL, &output, err);
}

static void a_failed_gpu_stays_failed(void **state)
{
    (void)state;
    char dir[64];
    struct mf_error err = MF_ERROR_INIT;
    const struct mf_engine_options options = {.device = "cuda:0", .threads = 1};
    assert_true(bundle_copy("full", dir));
    MF_AUTO(mf_bundle) struct mf_bundle *bundle = mf_bundle_open(dir, MF_BUNDLE_FULL, &err);
    MF_AUTO(mf_engine) struct mf_engine *engine = mf_engine_new(bundle, &options, &err);
    assert_non_null(engine);
    assert_true(run(engine, &err));
    assert_true(mf_engine_works(engine, &err));

    mf_gpu_note(engine->exec.backend->gpu, 700, "computing"); /* cudaErrorIllegalAddress */
    assert_false(run(engine, &err));
    assert_int_equal(err.code, MF_ERR_INTERNAL);
    assert_non_null(strstr(err.msg, "GPU 0 failed while computing"));
    for (int i = 0; i < 2; i++) {
        mf_error_clear(&err);
        assert_false(mf_engine_works(engine, &err));
        assert_int_equal(err.code, MF_ERR_UNAVAILABLE);
        assert_non_null(strstr(err.msg, "GPU 0 failed while computing"));
    }
    bundle_remove(dir);
}

/* A small bundle on the GPU, two frames together. */
static struct mf_engine *open_engine(const char *dir, struct mf_bundle **bundle,
                                     struct mf_error *err)
{
    const struct mf_engine_options options = {.device = "cuda:0", .threads = 1, .batch = 4};
    *bundle = mf_bundle_open(dir, MF_BUNDLE_FULL, err);
    return *bundle ? mf_engine_new(*bundle, &options, err) : NULL;
}

static void nothing_is_taken_once_all_was_rehearsed(void **state)
{
    (void)state;
    char dir[64];
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_bundle) struct mf_bundle *bundle = NULL;
    fake_cuda_reset();
    assert_true(bundle_copy("temporal-none", dir));
    MF_AUTO(mf_engine) struct mf_engine *engine = open_engine(dir, &bundle, &err);
    if (!engine || !mf_engine_rehearse(engine, &err))
        fail_msg("%s", err.msg);
    struct fake_cuda before = fake_cuda;
    assert_true(before.graphs > 0);
    for (int i = 0; i < 2; i++)
        assert_true(run(engine, &err));
    assert_int_equal(fake_cuda.allocations, before.allocations);
    assert_int_equal(fake_cuda.pinned, before.pinned);
    assert_int_equal(fake_cuda.graphs, before.graphs);
    assert_true(fake_cuda.graph_launches > before.graph_launches);
    size_t total, available, taken;
    assert_true(mf_engine_device_memory(engine, &total, &available, &taken));
    assert_int_equal(taken, fake_cuda.used);
    bundle_remove(dir);
}

static void what_cannot_be_recorded_runs_as_it_is(void **state)
{
    (void)state;
    char dir[64];
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_bundle) struct mf_bundle *bundle = NULL;
    fake_cuda_reset();
    fake_cuda.refuse_capture = true;
    assert_true(bundle_copy("no-segmenter", dir));
    MF_AUTO(mf_engine) struct mf_engine *engine = open_engine(dir, &bundle, &err);
    assert_true(engine && run(engine, &err));
    assert_int_equal(fake_cuda.graphs, 0);
    fake_cuda_reset();
    bundle_remove(dir);
}

static void a_full_gpu_computes_fewer_frames_together(void **state)
{
    (void)state;
    char dir[64];
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_bundle) struct mf_bundle *bundle = NULL;
    fake_cuda_reset();
    assert_true(bundle_copy("no-segmenter", dir));
    fake_cuda.memory = fake_cuda.used + ((size_t)63 << 20); /* so little that all is counted out */
    MF_AUTO(mf_engine) struct mf_engine *first = open_engine(dir, &bundle, &err);
    assert_true(first != NULL && mf_engine_batch(first) == 4);
    size_t needs = fake_cuda.used;
    mf_engine_free(MF_STEAL(first));
    mf_bundle_free(MF_STEAL(bundle));

    fake_cuda.memory = needs - 4096; /* not all four frames' workspace */
    MF_AUTO(mf_engine) struct mf_engine *engine = open_engine(dir, &bundle, &err);
    if (!engine)
        fail_msg("%s", err.msg);
    assert_true(mf_engine_batch(engine) < 4);
    assert_true(run(engine, &err));

    /* and where it runs out later, under a job */
    fake_cuda.fail_after = 5;
    fake_cuda.fail_with = 2;
    assert_false(run(engine, &err));
    assert_int_equal(err.code, MF_ERR_NO_MEMORY);
    assert_non_null(strstr(err.msg, "out of memory"));
    assert_true(mf_engine_works(engine, NULL));
    while (mf_engine_shrink(engine))
        assert_true(run(engine, NULL));
    assert_int_equal(mf_engine_batch(engine), 1);
    fake_cuda_reset();
    bundle_remove(dir);
}

static void a_model_that_does_not_fit_is_refused(void **state)
{
    (void)state;
    char dir[64];
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_bundle) struct mf_bundle *bundle = NULL;
    fake_cuda_reset();
    fake_cuda.memory = fake_cuda.used + ((size_t)33 << 20); /* a plan's work memory */
    assert_true(bundle_copy("no-segmenter", dir));
    assert_null(open_engine(dir, &bundle, &err));
    assert_int_equal(err.code, MF_ERR_NO_MEMORY);
    assert_non_null(strstr(err.msg, "GPU 0 has no "));
    fake_cuda_reset();
    bundle_remove(dir);
}

static void two_models_live_beside_each_other(void **state)
{
    (void)state;
    char dirs[2][64];
    struct mf_error err = MF_ERROR_INIT;
    struct mf_bundle *bundles[2];
    struct mf_engine *engines[2];
    fake_cuda_reset();
    for (int i = 0; i < 2; i++) { /* the second one loads between runs of the first */
        assert_true(bundle_copy(i ? "transformer" : "no-segmenter", dirs[i]));
        engines[i] = open_engine(dirs[i], &bundles[i], &err);
        if (!engines[i] || !run(engines[0], &err))
            fail_msg("%s", err.msg);
    }
    mf_engine_free(engines[0]); /* the old one goes while the new one works */
    mf_bundle_free(bundles[0]);
    assert_true(run(engines[1], &err));
    mf_engine_free(engines[1]);
    mf_bundle_free(bundles[1]);
    assert_int_equal(fake_cuda.used, 0);
    for (int i = 0; i < 2; i++)
        bundle_remove(dirs[i]);
}

static void a_cpu_always_works(void **state)
{
    (void)state;
    char dir[64];
    const struct mf_engine_options options = {.device = "cpu", .threads = 1};
    assert_true(bundle_copy("full", dir));
    MF_AUTO(mf_bundle) struct mf_bundle *bundle = mf_bundle_open(dir, MF_BUNDLE_FULL, NULL);
    MF_AUTO(mf_engine) struct mf_engine *engine = mf_engine_new(bundle, &options, NULL);
    assert_true(run(engine, NULL) && mf_engine_works(engine, NULL));
    bundle_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failed_gpu_stays_failed),
        cmocka_unit_test(nothing_is_taken_once_all_was_rehearsed),
        cmocka_unit_test(what_cannot_be_recorded_runs_as_it_is),
        cmocka_unit_test(a_full_gpu_computes_fewer_frames_together),
        cmocka_unit_test(a_model_that_does_not_fit_is_refused),
        cmocka_unit_test(two_models_live_beside_each_other),
        cmocka_unit_test(a_cpu_always_works),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
