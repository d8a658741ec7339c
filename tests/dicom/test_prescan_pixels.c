/* dicom/prescan.c: the pixel data and what follows it. */
#include "tests/dicom/prescan_expect.h"

static void fragments_are_recorded(void **state)
{
    (void)state;
    struct builder b;
    build_start(&b, RLE_LOSSLESS);
    build_header(&b, TAG(0x7FE0, 0x0010), "OB", UNDEFINED_LENGTH);
    build_item(&b, TAG(0xFFFE, 0xE000), 4);
    build_bytes(&b, "\0\0\0\0", 4);
    for (int i = 1; i <= 5; i++) {
        build_item(&b, TAG(0xFFFE, 0xE000), 2 * i);
        build_bytes(&b, "..........", (size_t)(2 * i));
    }
    build_item(&b, TAG(0xFFFE, 0xE0DD), 0);
    MF_AUTO(mf_prescan) struct mf_prescan ret = {.length = 0};
    struct mf_error err = MF_ERROR_INIT;
    assert_true(prescan(b.bytes.data, b.bytes.len, &ret, &err));
    assert_int_equal(ret.fragment_count, 5);
    assert_int_equal(ret.offset_table.length, 4);
    for (uint32_t i = 0; i < 5; i++)
        assert_int_equal(ret.fragments[i].length, 2 * (i + 1));
    build_free(&b);
}

static void broken_fragments_are_refused(void **state)
{
    (void)state;
    struct builder b;
    build_start(&b, RLE_LOSSLESS);
    build_header(&b, TAG(0x7FE0, 0x0010), "OB", UNDEFINED_LENGTH);
    build_item(&b, TAG(0xFFFE, 0xE000), 0);
    build_item(&b, TAG(0xFFFE, 0xE000), 1000);
    expect_refused(&b, MF_ERR_MALFORMED, "truncated: a fragment claims 1000 bytes, 0 are left");
    build_free(&b);
    build_start(&b, RLE_LOSSLESS);
    build_header(&b, TAG(0x7FE0, 0x0010), "OB", UNDEFINED_LENGTH);
    build_item(&b, TAG(0xFFFE, 0xE000), UNDEFINED_LENGTH);
    expect_refused(&b, MF_ERR_MALFORMED,
                   "the encapsulated pixel data holds (FFFE,E000) where a fragment belongs");
    build_free(&b);
    build_start(&b, EXPLICIT_LE);
    build_header(&b, TAG(0x7FE0, 0x0010), "OB", UNDEFINED_LENGTH);
    build_item(&b, TAG(0xFFFE, 0xE0DD), 0);
    expect_refused(&b, MF_ERR_MALFORMED, "encapsulated pixel data in a native transfer syntax");
    build_free(&b);
    build_start(&b, RLE_LOSSLESS);
    build_pixels(&b, 4);
    expect_refused(&b, MF_ERR_MALFORMED, "native pixel data in an encapsulated transfer syntax");
    build_free(&b);
    build_start(&b, EXPLICIT_LE);
    build_pixels(&b, 4);
    build_pixels(&b, 4);
    expect_refused(&b, MF_ERR_MALFORMED, "the object has pixel data twice");
    build_free(&b);
}

static void padding_after_the_pixels_is_ignored(void **state)
{
    (void)state;
    struct builder b;
    build_simple(&b, &CHEST);
    build_bytes(&b, "\0\0\0", 3);
    expect_accepted(&b);
    for (int i = 0; i < 5000; i++)
        build_bytes(&b, "\0\0\0\0\0\0\0\0", 8);
    build_bytes(&b, "x", 1);
    expect_accepted(&b);
    build_free(&b);
}

static void extended_offset_tables_are_found(void **state)
{
    (void)state;
    struct builder b;
    MF_AUTO(mf_prescan) struct mf_prescan ret = {.length = 0};
    struct mf_error err = MF_ERROR_INIT;
    build_start(&b, RLE_LOSSLESS);
    build_header(&b, TAG(0x7FE0, 0x0001), "OV", 8);
    build_bytes(&b, "\0\0\0\0\0\0\0\0", 8);
    build_header(&b, TAG(0x7FE0, 0x0002), "OV", 8);
    build_bytes(&b, "\4\0\0\0\0\0\0\0", 8);
    build_header(&b, TAG(0x7FE0, 0x0010), "OB", UNDEFINED_LENGTH);
    build_item(&b, TAG(0xFFFE, 0xE000), 0);
    build_item(&b, TAG(0xFFFE, 0xE000), 4);
    build_bytes(&b, "....", 4);
    build_item(&b, TAG(0xFFFE, 0xE0DD), 0);
    assert_true(prescan(b.bytes.data, b.bytes.len, &ret, &err));
    assert_int_equal(ret.extended_offsets.length, 8);
    assert_int_equal(ret.extended_lengths.length, 8);
    build_free(&b);
}

/* An icon's pixel data, encapsulated inside an item, is passed over and not taken for the image's.
 */
static void pixels_inside_an_item_are_not_the_images(void **state)
{
    (void)state;
    struct builder b;
    MF_AUTO(mf_prescan) struct mf_prescan ret = {.length = 0};
    struct mf_error err = MF_ERROR_INIT;
    build_start(&b, RLE_LOSSLESS);
    build_header(&b, TAG(0x0088, 0x0200), "SQ", UNDEFINED_LENGTH);
    build_item(&b, TAG(0xFFFE, 0xE000), UNDEFINED_LENGTH);
    build_header(&b, TAG(0x7FE0, 0x0010), "OB", UNDEFINED_LENGTH);
    build_item(&b, TAG(0xFFFE, 0xE000), 0);
    build_item(&b, TAG(0xFFFE, 0xE000), 2);
    build_bytes(&b, "..", 2);
    build_item(&b, TAG(0xFFFE, 0xE0DD), 0);
    build_item(&b, TAG(0xFFFE, 0xE00D), 0);
    build_item(&b, TAG(0xFFFE, 0xE0DD), 0);
    assert_true(prescan(b.bytes.data, b.bytes.len, &ret, &err));
    assert_int_equal(ret.pixel_data, MF_PIXEL_DATA_NONE);
    assert_int_equal(ret.fragment_count, 0);
    build_free(&b);
}

/* Fragments may be the value of other elements; only those of the image are recorded. */
static void fragments_of_other_elements_are_passed_over(void **state)
{
    (void)state;
    const char *const vrs[] = {"OB", "OW"};
    for (int i = 0; i < 2; i++) {
        struct builder b;
        MF_AUTO(mf_prescan) struct mf_prescan ret = {.length = 0};
        struct mf_error err = MF_ERROR_INIT;
        build_start(&b, RLE_LOSSLESS);
        build_header(&b, TAG(0x0009, 0x1010), vrs[i], UNDEFINED_LENGTH);
        build_item(&b, TAG(0xFFFE, 0xE000), 0);
        build_item(&b, TAG(0xFFFE, 0xE000), 2);
        build_bytes(&b, "..", 2);
        build_item(&b, TAG(0xFFFE, 0xE0DD), 0);
        assert_true(prescan(b.bytes.data, b.bytes.len, &ret, &err));
        assert_int_equal(ret.pixel_data, MF_PIXEL_DATA_NONE);
        assert_int_equal(ret.fragment_count, 0);
        assert_int_equal(ret.end, b.bytes.len);
        build_free(&b);
    }
}

/* Pixel data in fragments that says to be a sequence, or of unknown kind: read, and flagged. */
static void misnamed_fragments_are_irregular(void **state)
{
    (void)state;
    static const struct {
        const char *vr;
        bool irregular;
    } cases[] = {{"OB", false}, {"OW", false}, {"UN", true}, {"SQ", true}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct builder b;
        MF_AUTO(mf_prescan) struct mf_prescan ret = {.length = 0};
        struct mf_error err = MF_ERROR_INIT;
        build_start(&b, RLE_LOSSLESS);
        build_header(&b, TAG(0x7FE0, 0x0010), cases[i].vr, UNDEFINED_LENGTH);
        build_item(&b, TAG(0xFFFE, 0xE000), 0);
        build_item(&b, TAG(0xFFFE, 0xE000), 2);
        build_bytes(&b, "..", 2);
        build_item(&b, TAG(0xFFFE, 0xE0DD), 0);
        assert_true(prescan(b.bytes.data, b.bytes.len, &ret, &err));
        assert_int_equal(ret.fragment_count, 1);
        assert_int_equal(ret.irregular, cases[i].irregular ? 1u << MF_IRREGULAR_VR : 0);
        build_free(&b);
    }
}

static bool refuse_pixels(void *context, const struct mf_prescan_element *e, struct mf_error *err)
{
    (void)context;
    return e->tag != TAG(0x7FE0, 0x0010) || mf_error_set(err, MF_ERR_UNUSABLE, "no picture");
}

static void strangers_among_the_fragments(void **state)
{
    (void)state;
    struct builder b;
    struct mf_prescan ret;
    struct mf_error err = MF_ERROR_INIT;
    struct mf_inflate_budget allowed = prescan_budget();
    build_start(&b, RLE_LOSSLESS);
    build_header(&b, TAG(0x7FE0, 0x0010), "OB", UNDEFINED_LENGTH);
    build_item(&b, TAG(0x0028, 0x0010), 0);
    expect_refused(&b, MF_ERR_MALFORMED,
                   "the encapsulated pixel data holds (0028,0010) where a fragment belongs");
    assert_false(
        mf_prescan_run(b.bytes.data, b.bytes.len, &allowed, refuse_pixels, NULL, &ret, &err));
    assert_error(&err, MF_ERR_UNUSABLE, "no picture");
    build_free(&b);
    build_start(&b, RLE_LOSSLESS);
    build_pixels(&b, 4);
    build_header(&b, TAG(0x7FE0, 0x0010), "OB", UNDEFINED_LENGTH);
    expect_refused(&b, MF_ERR_MALFORMED, "the object has pixel data twice");
    build_free(&b);
}

static void counts_are_capped(void **state)
{
    (void)state;
    struct builder b;
    build_start(&b, RLE_LOSSLESS);
    build_header(&b, TAG(0x7FE0, 0x0010), "OB", UNDEFINED_LENGTH);
    for (int i = 0; i < 1000002; i++)
        build_item(&b, TAG(0xFFFE, 0xE000), 0);
    expect_refused(&b, MF_ERR_TOO_LARGE, "the pixel data has more than 1000000 fragments");
    build_free(&b);
    build_start(&b, IMPLICIT_LE);
    for (int i = 0; i < MF_PRESCAN_ELEMENTS + 1; i++)
        build_header(&b, TAG(0x0009, 0x1001), "LO", 0);
    expect_refused(&b, MF_ERR_TOO_LARGE, "the object has more than 4000000 elements");
    build_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fragments_are_recorded),
        cmocka_unit_test(broken_fragments_are_refused),
        cmocka_unit_test(padding_after_the_pixels_is_ignored),
        cmocka_unit_test(extended_offset_tables_are_found),
        cmocka_unit_test(pixels_inside_an_item_are_not_the_images),
        cmocka_unit_test(fragments_of_other_elements_are_passed_over),
        cmocka_unit_test(misnamed_fragments_are_irregular),
        cmocka_unit_test(strangers_among_the_fragments),
        cmocka_unit_test(counts_are_capped),
    };
    return cmocka_run_group_tests_name("dicom/prescan_pixels", tests, NULL, NULL);
}
