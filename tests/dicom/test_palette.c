/* dicom/palette.c: segmented palettes. */
#include "dicom/palette.h"

#include "tests/expect.h"

static void expect_palette(const uint8_t *segments, size_t length, uint32_t width,
                           const uint16_t *want, uint32_t count)
{
    uint16_t got[16];
    struct mf_error err = MF_ERROR_INIT;
    assert_true(mf_palette_expand(segments, length, width, false, got, count, &err));
    assert_memory_equal(got, want, count * sizeof *want);
}

/* Discrete 10 20; ramp of 4 to 60; indirect: the first segment again. */
static void segmented_palettes_are_expanded(void **state)
{
    (void)state;
    const uint8_t bytes[] = {0, 2, 10, 20, 1, 4, 60, 2, 1, 0, 0};
    const uint16_t want[8] = {10, 20, 30, 40, 50, 60, 10, 20};
    expect_palette(bytes, sizeof bytes, 1, want, 8);
    const uint8_t words[] = {0, 0, 1, 0, 0, 1, 1, 0, 2, 0, 0, 0};
    expect_palette(words, sizeof words, 2, (uint16_t[]){256, 128, 0}, 3);
}

static void broken_palettes_are_refused(void **state)
{
    (void)state;
    static const uint8_t SHORT[] = {0, 9, 1}, RAMP_FIRST[] = {1, 2, 3}, KIND[] = {7, 1, 1},
                         OUTSIDE[] = {0, 1, 5, 2, 1, 99, 0}, ENDLESS[] = {2, 255, 0, 0},
                         LITTLE[] = {0, 1, 5};
    const struct {
        const uint8_t *bytes;
        size_t length;
    } cases[] = {{SHORT, sizeof SHORT},     {RAMP_FIRST, sizeof RAMP_FIRST},
                 {KIND, sizeof KIND},       {OUTSIDE, sizeof OUTSIDE},
                 {ENDLESS, sizeof ENDLESS}, {LITTLE, sizeof LITTLE}};
    uint16_t got[16];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct mf_error err = MF_ERROR_INIT;
        assert_false(mf_palette_expand(cases[i].bytes, cases[i].length, 1, false, got, 16, &err));
        assert_error(&err, MF_ERR_MALFORMED, "the segmented palette is damaged");
    }
}

/* A megabyte of empty repetitions would otherwise run for minutes. */
static void palettes_cannot_loop(void **state)
{
    (void)state;
    size_t length = 1 << 20;
    uint8_t *bytes = calloc(1, length);
    uint16_t got[16];
    struct mf_error err = MF_ERROR_INIT;
    for (size_t i = 1024; i + 4 <= length; i += 4)
        memcpy(bytes + i, "\2\377\0\0", 4);
    assert_false(mf_palette_expand(bytes, length, 1, false, got, 16, &err));
    assert_error(&err, MF_ERR_MALFORMED, "the segmented palette is damaged");
    free(bytes);
}

/* Segments that make more than there are entries, or nothing. */
static void segments_of_any_number(void **state)
{
    (void)state;
    const uint8_t longer[] = {0, 3, 1, 2, 3}, none[] = {0, 1, 7, 1, 0, 9, 0, 1, 8},
                  again[] = {0, 2, 1, 2, 2, 9, 0, 0};
    expect_palette(longer, sizeof longer, 1, (uint16_t[]){1, 2}, 2);
    expect_palette(none, sizeof none, 1, (uint16_t[]){7, 8}, 2);
    expect_palette(again, sizeof again, 1, (uint16_t[]){1, 2, 1},
                   3); /* repeats while there is room */
}

static void segments_that_end_in_a_field(void **state)
{
    (void)state;
    static const uint8_t bytes[] = {0, 1, 5, 2, 1, 0, 0};
    for (size_t n = 0; n < sizeof bytes; n++) {
        uint16_t got[16];
        struct mf_error err = MF_ERROR_INIT;
        assert_false(mf_palette_expand(bytes, n, 1, false, got, 16, &err));
        assert_error(&err, MF_ERR_MALFORMED, "the segmented palette is damaged");
    }
    const uint8_t big[] = {0, 0, 0, 2, 1, 2, 3, 4}; /* big-endian words */
    uint16_t got[2];
    struct mf_error err = MF_ERROR_INIT;
    assert_true(mf_palette_expand(big, sizeof big, 2, true, got, 2, &err));
    assert_int_equal(got[0], 0x102);
    assert_int_equal(got[1], 0x304);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(segmented_palettes_are_expanded),
        cmocka_unit_test(broken_palettes_are_refused),
        cmocka_unit_test(palettes_cannot_loop),
        cmocka_unit_test(segments_of_any_number),
        cmocka_unit_test(segments_that_end_in_a_field),
    };
    return cmocka_run_group_tests_name("dicom/palette", tests, NULL, NULL);
}
