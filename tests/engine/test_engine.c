/* An engine's promises: the same input gives the same bits, whatever ran before; nothing is
 * allocated once warm; limits hold. */
#include "core/grayscale.h"
#include "engine/engine.h"
#include "engine/exec.h"
#include "tests/engine/bundle_copy.h"
#include "tests/engine/plain_frame.h"

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { ROWS = 90, COLS = 70, LABELS = 5 };

static bool counting;
static size_t allocations;

/* The engine's own allocations go through these (see the linker's --wrap); oneDNN's inside are its
 * own. */
void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__real_aligned_alloc(size_t alignment, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_aligned_alloc(size_t alignment, size_t n);

void *__wrap_malloc(size_t n)
{
    allocations += counting;
    return __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
    allocations += counting;
    return __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
    allocations += counting;
    return __real_realloc(p, n);
}

void *__wrap_aligned_alloc(size_t alignment, size_t n)
{
    allocations += counting;
    return __real_aligned_alloc(alignment, n);
}

struct fixture {
    char dir[64];
    struct mf_bundle *bundle;
    struct mf_engine *engine;
    uint8_t pixels[ROWS * COLS];
    struct mf_frame frame;
    const struct mf_frame *frames[33];
    float logits[LABELS];
    struct mf_segmentation segmentation[33];
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    const struct mf_engine_options options = {.device = "cpu", .threads = 2};
    *state = f;
    if (!f || !bundle_copy("full", f->dir))
        return -1;
    f->bundle = mf_bundle_open(f->dir, MF_BUNDLE_FULL, NULL);
    f->engine = f->bundle ? mf_engine_new(f->bundle, &options, NULL) : NULL;
    for (size_t i = 0; i < sizeof f->pixels; i++)
        f->pixels[i] =
            (uint8_t)(120 + 80 * sin((double)(i % COLS) / 9) * cos((double)(i / COLS) / 11));
    f->frame = plain_frame(f->pixels, ROWS, COLS);
    for (size_t i = 0; i < 33; i++)
        f->frames[i] = &f->frame;
    return f->engine ? 0 : -1;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    mf_engine_free(f->engine);
    mf_bundle_free(f->bundle);
    bundle_remove(f->dir);
    free(f);
    return 0;
}

static bool run(struct fixture *f, size_t frames, struct mf_error *err)
{
    const struct mf_engine_input input = {.frames = f->frames, .frame_count = frames};
    struct mf_engine_output output = {.logits = f->logits, .segmentation = f->segmentation};
    return mf_engine_run(f->engine, &input, NULL, &output, err);
}

static void the_same_input_gives_the_same_bits(void **state)
{
    struct fixture *f = *state;
    float first[LABELS];
    assert_true(run(f, 1, NULL));
    memcpy(first, f->logits, sizeof first);
    assert_true(run(f, 5, NULL));
    assert_memory_not_equal(first, f->logits, sizeof first);
    assert_true(run(f, 1, NULL));
    assert_memory_equal(first, f->logits, sizeof first);
}

static void a_warm_engine_allocates_nothing(void **state)
{
    struct fixture *f = *state;
    float display[ROWS * COLS];
    assert_true(run(f, 3, NULL));
    allocations = 0;
    counting = true;
    bool ok = mf_grayscale_display(&f->frame, display, NULL);
    counting = false;
    size_t tables =
        allocations; /* the greyscale pipeline's tables of one frame: not the engine's */
    allocations = 0;
    counting = true;
    ok = run(f, 3, NULL) && ok;
    counting = false;
    assert_true(ok);
    assert_int_equal(allocations, 3 * tables);
    allocations = 0;
    counting = true;
    ok = run(f, 4, NULL); /* a new shape does: the counter works */
    counting = false;
    assert_true(ok);
    assert_true(allocations > 4 * tables);
}

struct side {
    struct fixture *f;
    struct mf_engine *engine;
    float logits[10][LABELS];
    bool ok;
};

static void *run_beside(void *arg)
{
    struct side *s = arg;
    struct mf_segmentation segmentation[2];
    s->ok = true;
    for (int i = 0; i < 10 && s->ok; i++) {
        const struct mf_engine_input input = {.frames = s->f->frames, .frame_count = 2};
        struct mf_engine_output output = {.logits = s->logits[i], .segmentation = segmentation};
        s->ok = mf_engine_run(s->engine, &input, NULL, &output, NULL);
    }
    return NULL;
}

/* `calibrate` runs one engine a thread over one bundle. */
static void engines_on_one_bundle_do_not_disturb_each_other(void **state)
{
    const struct mf_engine_options options = {.device = "cpu", .threads = 1};
    struct side sides[2] = {{.f = *state}, {.f = *state}};
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) {
        sides[i].engine = mf_engine_new(sides[i].f->bundle, &options, NULL);
        assert_non_null(sides[i].engine);
        assert_int_equal(pthread_create(&threads[i], NULL, run_beside, &sides[i]), 0);
    }
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        assert_true(sides[i].ok);
        mf_engine_free(sides[i].engine);
        for (int k = 0; k < 10; k++)
            assert_memory_equal(sides[i].logits[k], sides[0].logits[0], sizeof sides[0].logits[0]);
    }
}

static void frames_are_counted(void **state)
{
    struct fixture *f = *state;
    struct mf_error err = MF_ERROR_INIT;
    assert_false(run(f, 0, &err));
    assert_string_equal(err.msg, "0 frames, the model takes 1 to 32");
    assert_int_equal(err.code, MF_ERR_UNUSABLE);
    mf_error_clear(&err);
    assert_false(run(f, 33, &err));
    assert_string_equal(err.msg, "33 frames, the model takes 1 to 32");
}

static void a_device_that_is_not_there_is_named(void **state)
{
    struct fixture *f = *state;
    struct mf_error err = MF_ERROR_INIT;
    const struct mf_engine_options options = {.device = "cuda:7", .threads = 1};
    assert_null(mf_engine_new(f->bundle, &options, &err));
    assert_string_equal(err.msg, "device \"cuda:7\" is not available: only cpu is");
    assert_int_equal(err.code, MF_ERR_UNAVAILABLE);
}

static void an_engine_needs_the_weights(void **state)
{
    struct fixture *f = *state;
    struct mf_error err = MF_ERROR_INIT;
    struct mf_bundle *b = mf_bundle_open(f->dir, MF_BUNDLE_METADATA, &err);
    assert_non_null(b);
    assert_null(mf_engine_new(b, NULL, &err));
    assert_string_equal(err.msg, "the bundle was opened without its weights");
    mf_bundle_free(b);
}

static void times_and_boxes_are_filled(void **state)
{
    struct fixture *f = *state;
    const struct mf_engine_input input = {.frames = f->frames, .frame_count = 2};
    struct mf_engine_output output = {.logits = f->logits, .segmentation = f->segmentation};
    assert_true(mf_engine_run(f->engine, &input, NULL, &output, NULL));
    assert_true(output.timing.segment > 0 && output.timing.vision > 0 &&
                output.timing.temporal > 0);
    assert_true(output.timing.ehr > 0 && output.timing.fusion > 0 && isnan(output.timing.total));
    for (size_t i = 0; i < 2; i++) {
        const struct mf_segmentation *s = &f->segmentation[i];
        assert_true(s->box[0] < s->box[2] && s->box[2] <= COLS && s->box[1] < s->box[3] &&
                    s->box[3] <= ROWS);
        assert_true(s->status == MF_SEGMENTATION_OK ? s->reason == NULL : s->reason != NULL);
        assert_true(s->iou >= 0 && s->iou <= 1);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(the_same_input_gives_the_same_bits),
        TEST(a_warm_engine_allocates_nothing),
        TEST(engines_on_one_bundle_do_not_disturb_each_other),
        TEST(frames_are_counted),
        TEST(a_device_that_is_not_there_is_named),
        TEST(an_engine_needs_the_weights),
        TEST(times_and_boxes_are_filled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
