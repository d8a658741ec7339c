/* Studies that run together get what they get alone, bit by bit. Runs on the emulated backend and,
 * as gpu_batch, on a GPU. */
#include "engine/engine.h"
#include "engine/exec.h"
#include "tests/engine/bundle_copy.h"
#include "tests/engine/plain_frame.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { ROWS = 90, COLS = 70, LABELS = 5, STUDIES = 3, FRAMES = 3, MOST_READOUT = 512 };

/* A study, and what it got. */
struct study {
    uint8_t pixels[FRAMES][ROWS * COLS];
    struct mf_frame frames[FRAMES];
    const struct mf_frame *list[FRAMES];
    double positions[FRAMES];
    struct mf_engine_input input;
    float logits[LABELS], readout[MOST_READOUT];
    struct mf_segmentation segmentation[FRAMES];
    struct mf_engine_output output;
};

static struct study alone[STUDIES], together[STUDIES];

/* Study i has i + 1 frames: dark ellipses that lie elsewhere in each, and noise. */
static void make_study(struct study *s, size_t i)
{
    uint32_t seed = (uint32_t)i + 1;
    memset(s, 0, sizeof *s);
    for (size_t f = 0; f <= i; f++) {
        for (size_t p = 0; p < ROWS * COLS; p++) {
            long y = (long)(p / COLS) - 45, x = (long)(p % COLS) % 35 - 17 + (long)(f + i);
            seed = seed * 1664525 + 1013904223;
            s->pixels[f][p] = (uint8_t)((x * x * 4 + y * y < 900 ? 60 : 200) + (seed >> 28));
        }
        s->frames[f] = plain_frame(s->pixels[f], ROWS, COLS);
        s->list[f] = &s->frames[f];
        s->positions[f] = (double)(i - f);
    }
    s->input = (struct mf_engine_input){
        .frames = s->list, .frame_count = i + 1, .positions = s->positions};
    s->output = (struct mf_engine_output){
        .logits = s->logits, .segmentation = s->segmentation, .readout = s->readout};
}

static void check(const char *name, const char *dtype, size_t batch)
{
    char dir[64];
    struct mf_error err = MF_ERROR_INIT;
    const struct mf_engine_options options = {
        .device = "cuda:0", .dtype = dtype, .threads = 1, .batch = batch};
    assert_true(bundle_copy(name, dir));
    MF_AUTO(mf_bundle) struct mf_bundle *bundle = mf_bundle_open(dir, MF_BUNDLE_FULL, &err);
    MF_AUTO(mf_engine)
    struct mf_engine *engine = bundle ? mf_engine_new(bundle, &options, &err) : NULL;
    if (!engine)
        fail_msg("%s: %s", name, err.msg);
    assert_int_equal(mf_engine_batch(engine), batch);
    assert_true(mf_engine_readout_size(engine) <= MOST_READOUT);
    struct mf_engine_study studies[STUDIES];
    for (size_t i = 0; i < STUDIES; i++) {
        make_study(&alone[i], i);
        make_study(&together[i], i);
        studies[i] = (struct mf_engine_study){&together[i].input, &together[i].output};
        if (!mf_engine_run(engine, &alone[i].input, NULL, &alone[i].output, &err))
            fail_msg("%s: %s", name, err.msg);
    }
    if (!mf_engine_run_together(engine, studies, STUDIES, &err))
        fail_msg("%s: %s", name, err.msg);
    for (size_t i = 0; i < STUDIES; i++) {
        assert_memory_equal(alone[i].logits, together[i].logits, sizeof alone[i].logits);
        assert_memory_equal(alone[i].readout, together[i].readout, sizeof alone[i].readout);
        for (size_t f = 0; f <= i; f++)
            assert_memory_equal(alone[i].segmentation[f].box, together[i].segmentation[f].box,
                                sizeof alone[i].segmentation[f].box);
    }
    assert_memory_not_equal(alone[0].logits, alone[1].logits, sizeof alone[0].logits);
    bundle_remove(dir);
}

static void studies_get_together_what_they_get_alone(void **state)
{
    (void)state;
    check("full", "f32", 4);
}

static void batches_that_hold_parts_of_studies_do_too(void **state)
{
    (void)state;
    check("no-segmenter", "bf16", 2);
}

static void too_many_frames_are_refused(void **state)
{
    char dir[64];
    struct mf_error err = MF_ERROR_INIT;
    const struct mf_engine_options options = {.device = "cuda:0", .threads = 1, .batch = 2};
    struct mf_engine_study studies[33];
    (void)state;
    assert_true(bundle_copy("no-segmenter", dir));
    MF_AUTO(mf_bundle) struct mf_bundle *bundle = mf_bundle_open(dir, MF_BUNDLE_FULL, &err);
    MF_AUTO(mf_engine) struct mf_engine *engine = mf_engine_new(bundle, &options, &err);
    make_study(&alone[0], 2);
    for (size_t i = 0; i < 33; i++)
        studies[i] = (struct mf_engine_study){&alone[0].input, &alone[0].output};
    assert_true(mf_engine_run_together(engine, studies, 0, &err));
    assert_false(mf_engine_run_together(engine, studies, 11, &err));
    assert_string_equal(err.msg, "33 frames, the model takes 1 to 32");
    mf_error_clear(&err);
    assert_false(mf_engine_run_together(engine, studies, 33, &err));
    assert_string_equal(err.msg, "33 studies at once, at most 32 can be run");
    bundle_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(studies_get_together_what_they_get_alone),
        cmocka_unit_test(batches_that_hold_parts_of_studies_do_too),
        cmocka_unit_test(too_many_frames_are_refused),
    };
    if (mf_cuda_count() == 0) {
        bool needed = getenv("MF_TEST_NEEDS_GPU") != NULL;
        printf("%s: no GPU\n", needed ? "failed" : "skipped");
        return needed;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
