/* A GPU that fails: the run says so, and so does the engine from then on. With the emulated backend
 * only: a real GPU is not broken for a test. */
#include "core/frame.h"
#include "engine/cuda/backend.h"
#include "engine/engine.h"
#include "engine/engine_private.h"
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
        cmocka_unit_test(a_cpu_always_works),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
