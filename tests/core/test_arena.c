/* core/arena.c: zeroed, aligned, bounded. */
#include "core/arena.h"

#include "tests/expect.h"

static void memory_is_zeroed_and_aligned(void **state)
{
    (void)state;
    struct mf_arena *arena = mf_arena_new(0);
    size_t total = 0;
    for (size_t size = 0; size < 20000; size = size * 3 + 1) {
        unsigned char *p = mf_arena_alloc(arena, 1, size, NULL);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 16, 0);
        for (size_t i = 0; i < size; i++)
            assert_int_equal(p[i], 0);
        memset(p, 0xAB, size); /* the next allocation must not see it */
        total += size;
    }
    assert_true(mf_arena_used(arena) >= total);
    mf_arena_free(arena);
}

static void allocations_do_not_overlap(void **state)
{
    (void)state;
    enum { N = 500 };
    struct mf_arena *arena = mf_arena_new(0);
    unsigned char *p[N];
    for (int i = 0; i < N; i++) {
        p[i] = mf_arena_alloc(arena, 1, (size_t)(i * 37 % 9000) + 1, NULL);
        memset(p[i], i & 0xFF, (size_t)(i * 37 % 9000) + 1);
    }
    for (int i = 0; i < N; i++)
        for (size_t k = 0; k < (size_t)(i * 37 % 9000) + 1; k++)
            assert_int_equal(p[i][k], i & 0xFF);
    mf_arena_free(arena);
}

static void ceiling_holds_and_leaves_the_arena_usable(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    struct mf_arena *arena = mf_arena_new(1024);
    assert_non_null(mf_arena_alloc(arena, 1, 1000, &err));
    assert_null(mf_arena_alloc(arena, 1, 100, &err));
    assert_error(&err, MF_ERR_TOO_LARGE, "the request needs more than its 1024 bytes of memory");
    assert_non_null(mf_arena_alloc(arena, 1, 16, NULL));
    assert_int_equal(mf_arena_used(arena), 1024);
    assert_null(mf_arena_alloc(arena, 1, 1, NULL));
    mf_arena_free(arena);
}

/* What is given back is zeroed when it is handed out again; what was there before stays. */
static void rewinding_gives_back(void **state)
{
    (void)state;
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(1 << 20);
    const struct mf_arena_mark empty = mf_arena_position(arena);
    char *kept = mf_arena_strdup(arena, "kept", NULL);
    const struct mf_arena_mark mark = mf_arena_position(arena);
    size_t used = mf_arena_used(arena);
    for (int round = 0; round < 5; round++) {
        for (size_t size = 1; size < 100000; size = size * 5 + 1) {
            unsigned char *p = mf_arena_alloc(arena, 1, size, NULL);
            assert_non_null(p);
            for (size_t i = 0; i < size; i++)
                assert_int_equal(p[i], 0);
            memset(p, 0xCD, size);
        }
        mf_arena_rewind(arena, &mark);
        assert_int_equal(mf_arena_used(arena), used);
        assert_string_equal(kept, "kept");
    }
    mf_arena_rewind(arena, &empty);
    assert_int_equal(mf_arena_used(arena), 0);
    assert_non_null(mf_arena_alloc(arena, 1, 1 << 20, NULL));
}

static void overflow_is_refused(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    struct mf_arena *arena = mf_arena_new(0);
    assert_null(mf_arena_alloc(arena, SIZE_MAX / 4, 8, &err));
    assert_int_equal(err.code, MF_ERR_TOO_LARGE);
    mf_error_clear(&err);
    assert_null(mf_arena_alloc(arena, SIZE_MAX / 2, 1, &err));
    assert_int_equal(err.code, MF_ERR_TOO_LARGE);
    assert_int_equal(mf_arena_used(arena), 0);
    mf_arena_free(arena);
}

static void strings(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    struct mf_arena *arena = mf_arena_new(64);
    assert_string_equal(mf_arena_strdup(arena, "hello", &err), "hello");
    assert_string_equal(mf_arena_strndup(arena, "hello", 2, &err), "he");
    assert_string_equal(mf_arena_printf(arena, &err, "%s-%d", "a", 7), "a-7");
    assert_null(mf_arena_printf(arena, &err, "%50d", 1));
    assert_int_equal(err.code, MF_ERR_TOO_LARGE);
    assert_null(mf_arena_strdup(arena, "a text that is longer than what is left", NULL));
    mf_arena_free(arena);
}

static void free_accepts_null(void **state)
{
    (void)state;
    mf_arena_free(NULL);
    MF_AUTO(mf_arena) struct mf_arena *arena = NULL;
    assert_null(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_zeroed_and_aligned),
        cmocka_unit_test(allocations_do_not_overlap),
        cmocka_unit_test(ceiling_holds_and_leaves_the_arena_usable),
        cmocka_unit_test(rewinding_gives_back),
        cmocka_unit_test(overflow_is_refused),
        cmocka_unit_test(strings),
        cmocka_unit_test(free_accepts_null),
    };
    return cmocka_run_group_tests_name("core/arena", tests, NULL, NULL);
}
