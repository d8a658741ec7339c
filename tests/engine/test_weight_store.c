/* Packed weights that engines share: filled once, then read-only for all; whoever packs otherwise,
 * or dies, leaves the others in peace. */
#include "engine/engine.h"
#include "engine/weight_store.h"
#include "tests/engine/bundle_copy.h"
#include "tests/engine/plain_frame.h"

#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

enum { ROWS = 90, COLS = 70, LABELS = 5, MOST = 1 << 20 };

static int setup(void **state)
{
    int *fd = malloc(sizeof *fd);
    *fd = mf_weight_store_create();
    *state = fd;
    return *fd > 0 ? 0 : -1;
}

static int teardown(void **state)
{
    int *fd = *state;
    close(*fd);
    free(fd);
    return 0;
}

static bool is_sealed(int fd)
{
    return (fcntl(fd, F_GET_SEALS) & F_SEAL_WRITE) != 0;
}

static void the_first_fills_and_the_next_read(void **state)
{
    int fd = *(int *)*state;
    bool filled;
    struct mf_weight_store *a = mf_weight_store_open(fd, "weights", MOST);
    assert_non_null(a);
    char *one = mf_weight_store_take(a, 1000, &filled);
    assert_true(one && !filled && (uintptr_t)one % 64 == 0);
    memset(one, 7, 1000);
    int *two = mf_weight_store_take(a, sizeof *two, &filled);
    assert_true(two && !filled);
    *two = 42;
    assert_null(mf_weight_store_take(a, 2 * MOST, &filled));
    assert_false(is_sealed(fd));
    assert_true(mf_weight_store_seal(a));
    assert_true(is_sealed(fd));
    assert_true(one[0] == 7 && one[999] == 7 && *two == 42); /* where they were */
    assert_true(mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED);

    struct mf_weight_store *b = mf_weight_store_open(fd, "weights", MOST);
    assert_non_null(b);
    const char *again = mf_weight_store_take(b, 1000, &filled);
    assert_true(again && filled && again != one && again[0] == 7 && again[999] == 7);
    assert_null(mf_weight_store_take(b, 8, &filled)); /* not what was taken second */
    const int *other = mf_weight_store_take(b, sizeof *other, &filled);
    assert_true(other && filled && *other == 42);
    assert_true(mf_weight_store_seal(b));
    mf_weight_store_close(a);
    assert_int_equal(again[500], 7);
    mf_weight_store_close(b);
}

static void other_weights_are_not_shared(void **state)
{
    int fd = *(int *)*state;
    char long_key[200];
    memset(long_key, 'k', sizeof long_key - 1);
    long_key[sizeof long_key - 1] = '\0';
    assert_null(mf_weight_store_open(fd, long_key, MOST));
    struct mf_weight_store *a = mf_weight_store_open(fd, "weights in bf16", MOST);
    assert_true(a && mf_weight_store_seal(a));
    assert_null(mf_weight_store_open(fd, "weights in int8", MOST));
    assert_null(mf_weight_store_open(fd, "weights in bf", MOST));
    assert_null(mf_weight_store_open(999, "weights in bf16", MOST));
    mf_weight_store_close(a);
}

static void who_dies_while_filling_leaves_it_empty(void **state)
{
    int fd = *(int *)*state, ready[2];
    bool filled;
    char byte;
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) {
        struct mf_weight_store *s = mf_weight_store_open(fd, "weights", MOST);
        char *p = s ? mf_weight_store_take(s, 5000, &filled) : NULL;
        if (p)
            memset(p, 1, 5000);
        (void)!write(ready[1], "", 1);
        usleep(50000);
        _exit(0);
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    struct mf_weight_store *s = mf_weight_store_open(fd, "weights", MOST); /* waits for it */
    assert_true(waitpid(child, NULL, WNOHANG) == child || kill(child, 0) == 0);
    assert_non_null(s);
    const char *p = mf_weight_store_take(s, 6000, &filled);
    assert_true(p && !filled && p[0] == 0);
    assert_true(mf_weight_store_seal(s));
    mf_weight_store_close(s);
    close(ready[0]);
    close(ready[1]);
}

static void run(const struct mf_bundle *bundle, const char *dtype, int fd, float logits[LABELS],
                size_t *ret_file)
{
    struct mf_error err = MF_ERROR_INIT;
    const struct mf_engine_options options = {
        .device = "cpu", .threads = 2, .dtype = dtype, .weights_fd = fd};
    struct mf_engine *engine = mf_engine_new(bundle, &options, &err);
    if (!engine)
        fail_msg("%s", err.msg);
    static uint8_t pixels[ROWS * COLS];
    for (size_t i = 0; i < sizeof pixels; i++)
        pixels[i] =
            (uint8_t)(120 + 80 * sin((double)(i % COLS) / 9) * cos((double)(i / COLS) / 11));
    const struct mf_frame frame = plain_frame(pixels, ROWS, COLS);
    const struct mf_frame *frames[] = {&frame};
    struct mf_segmentation segmentation;
    const struct mf_engine_input input = {.frames = frames, .frame_count = 1};
    struct mf_engine_output output = {.logits = logits, .segmentation = &segmentation};
    assert_true(mf_engine_run(engine, &input, NULL, &output, &err));
    mf_engine_free(engine);
    struct stat st;
    *ret_file = fd && fstat(fd, &st) == 0 ? (size_t)st.st_size : 0;
}

static void engines_that_share_say_the_same(void **state)
{
    int fd = *(int *)*state;
    float own[LABELS], first[LABELS], second[LABELS], bf16[LABELS], bf16_own[LABELS];
    char dir[64];
    size_t none, file, after;
    assert_true(bundle_copy("full", dir));
    struct mf_bundle *bundle = mf_bundle_open(dir, MF_BUNDLE_FULL, NULL);
    assert_non_null(bundle);
    run(bundle, "f32", 0, own, &none);
    run(bundle, "f32", fd, first, &file);
    assert_true(is_sealed(fd));
    run(bundle, "f32", fd, second, &after);
    assert_int_equal(file, after);
    assert_memory_equal(own, first, sizeof own);
    assert_memory_equal(own, second, sizeof own);
    run(bundle, "bf16", fd, bf16, &after); /* packs for itself where it is another format */
    run(bundle, "bf16", 0, bf16_own, &none);
    assert_memory_equal(bf16, bf16_own, sizeof bf16);
    mf_bundle_free(bundle);
    bundle_remove(dir);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(the_first_fills_and_the_next_read),
        TEST(other_weights_are_not_shared),
        TEST(who_dies_while_filling_leaves_it_empty),
        TEST(engines_that_share_say_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
