/* dicom/prescan.c: every way in which the structure of a file can lie. */
#include "dicom/prescan.h"

#include "tests/dicom/builder.h"
#include "tests/expect.h"

#include <sys/resource.h>

static struct mf_inflate_budget budget(void)
{
    return (struct mf_inflate_budget){
        .remaining = 64 << 20, .object_bytes = 64 << 20, .ratio = 200};
}

static bool run(const void *data, size_t length, struct mf_prescan *ret, struct mf_error *err)
{
    struct mf_inflate_budget b = budget();
    return mf_prescan_run(data, length, &b, NULL, NULL, ret, err);
}

static void expect_refused(const struct builder *b, enum mf_code code, const char *message)
{
    struct mf_prescan ret;
    struct mf_error err = MF_ERROR_INIT;
    assert_false(run(b->bytes.data, b->bytes.len, &ret, &err));
    assert_error(&err, code, message);
}

static void expect_accepted(const struct builder *b)
{
    MF_AUTO(mf_prescan) struct mf_prescan ret = {.length = 0};
    struct mf_error err = MF_ERROR_INIT;
    assert_true(run(b->bytes.data, b->bytes.len, &ret, &err));
    assert_no_error(&err);
}

static const struct build_object CHEST = {"DX",    "PA", "P1", "20190307", "102000",
                                          "CHEST", NULL, 1,    1,          1};

static void every_encoding_finds_the_pixels(void **state)
{
    (void)state;
    const char *const syntaxes[] = {EXPLICIT_LE, IMPLICIT_LE, EXPLICIT_BE, DEFLATED_LE};
    for (size_t i = 0; i < 4; i++) {
        struct builder b;
        build_start(&b, syntaxes[i]);
        build_identity(&b, &CHEST);
        build_image(&b, 4, 4, 8);
        build_pixels(&b, 16);
        build_finish(&b);
        MF_AUTO(mf_prescan) struct mf_prescan ret = {.length = 0};
        struct mf_error err = MF_ERROR_INIT;
        assert_true(run(b.bytes.data, b.bytes.len, &ret, &err));
        assert_no_error(&err);
        assert_string_equal(ret.transfer_syntax, syntaxes[i]);
        assert_int_equal(ret.pixel_data, MF_PIXEL_DATA_INTEGER);
        assert_int_equal(ret.pixels.length, 16);
        for (uint8_t k = 0; k < 16; k++)
            assert_int_equal(ret.bytes[ret.pixels.offset + k], k);
        build_free(&b);
    }
}

static void data_sets_without_meta_are_recognised(void **state)
{
    (void)state;
    for (int encoding = 0; encoding < 3; encoding++) {
        struct builder b;
        build_start(&b, NULL);
        b.implicit_vr = encoding == 1;
        b.big_endian = encoding == 2;
        build_identity(&b, &CHEST);
        build_image(&b, 4, 4, 8);
        build_pixels(&b, 16);
        expect_accepted(&b);
        build_free(&b);
    }
}

static void things_that_are_not_dicom(void **state)
{
    (void)state;
    struct mf_prescan ret;
    struct mf_error err = MF_ERROR_INIT;
    const char text[] = "The quick brown fox jumps over the lazy dog, again and again.";
    assert_false(run(text, sizeof text, &ret, &err));
    assert_error(&err, MF_ERR_MALFORMED, "not a DICOM file");
    mf_error_clear(&err);
    assert_false(run("", 0, &ret, &err));
    assert_error(&err, MF_ERR_MALFORMED, "not a DICOM file");
    struct builder b;
    build_start(&b, EXPLICIT_LE); /* meta only */
    expect_refused(&b, MF_ERR_MALFORMED, "truncated: the file has no data set");
    build_free(&b);
}

/* Cutting a valid file anywhere is refused, except between elements before the pixel data, where
 * nothing tells that more was meant to come; then the pixel data is missing. */
static void truncation_is_noticed_at_every_byte(void **state)
{
    (void)state;
    struct builder b;
    build_simple(&b, &CHEST);
    size_t accepted = 0;
    for (size_t n = 0; n < b.bytes.len; n++) {
        char *copy = malloc(n ? n : 1); /* exact size, so that a sanitizer sees a read too far */
        memcpy(copy, b.bytes.data, n);
        MF_AUTO(mf_prescan) struct mf_prescan ret = {.length = 0};
        struct mf_error err = MF_ERROR_INIT;
        if (run(copy, n, &ret, &err)) {
            accepted++;
            assert_int_equal(ret.pixel_data, MF_PIXEL_DATA_NONE);
        } else {
            assert_int_equal(err.code, MF_ERR_MALFORMED);
        }
        free(copy);
    }
    assert_in_range(accepted, 10, 30); /* the element boundaries */
    build_free(&b);
}

static void lengths_beyond_the_end(void **state)
{
    (void)state;
    struct builder b;
    build_start(&b, EXPLICIT_LE);
    build_header(&b, TAG(0x0010, 0x0010), "PN", 100);
    build_bytes(&b, "short", 5);
    expect_refused(&b, MF_ERR_MALFORMED, "truncated: (0010,0010) claims 100 bytes, 5 are left");
    build_free(&b);
    build_start(&b, EXPLICIT_LE);
    build_header(&b, TAG(0x7FE0, 0x0010), "OW", 0xFFFFFFFE);
    expect_refused(&b, MF_ERR_MALFORMED,
                   "truncated: (7FE0,0010) claims 4294967294 bytes, 0 are left");
    build_free(&b);
    build_start(&b, EXPLICIT_LE); /* an item larger than its sequence */
    build_header(&b, TAG(0x0008, 0x1140), "SQ", 16);
    build_item(&b, TAG(0xFFFE, 0xE000), 32);
    build_bytes(&b, "................................", 32);
    expect_refused(&b, MF_ERR_MALFORMED,
                   "truncated: an item at byte 180 claims 32 bytes, 8 are left");
    build_free(&b);
}

static void rows_must_be_us(void **state)
{
    (void)state;
    struct builder b;
    build_start(&b, EXPLICIT_LE);
    build_header(&b, TAG(0x0028, 0x0010), "UL", 4);
    build_bytes(&b, "\0\0\1\0", 4);
    expect_refused(&b, MF_ERR_MALFORMED, "Rows has the value representation UL, not US");
    build_free(&b);
    build_start(&b, IMPLICIT_LE);
    build_header(&b, TAG(0x0028, 0x0011), "US", 4);
    build_bytes(&b, "\0\0\1\0", 4);
    expect_refused(&b, MF_ERR_MALFORMED, "Columns has 4 bytes, not 2");
    build_free(&b);
}

/* `levels` sequences inside each other, of defined or undefined length. */
static void build_nested(struct builder *b, size_t levels, bool undefined, bool close)
{
    size_t left = levels * 20;
    for (size_t i = 0; i < levels; i++, left -= 20) {
        build_header(b, TAG(0x0009, 0x1001), "SQ",
                     undefined ? UNDEFINED_LENGTH : (int64_t)left - 12);
        build_item(b, TAG(0xFFFE, 0xE000), undefined ? UNDEFINED_LENGTH : (int64_t)left - 20);
    }
    for (size_t i = 0; close && undefined && i < levels; i++) {
        build_item(b, TAG(0xFFFE, 0xE00D), 0);
        build_item(b, TAG(0xFFFE, 0xE0DD), 0);
    }
}

static void depth_64_is_accepted_and_65_is_not(void **state)
{
    (void)state;
    for (int undefined = 0; undefined < 2; undefined++) {
        struct builder b;
        build_start(&b, EXPLICIT_LE);
        build_nested(&b, 64, undefined, true);
        expect_accepted(&b);
        build_free(&b);
        build_start(&b, EXPLICIT_LE);
        build_nested(&b, 65, undefined, true);
        expect_refused(&b, MF_ERR_MALFORMED, "sequences are nested deeper than 64 levels");
        build_free(&b);
    }
}

static void a_million_levels_take_no_memory(void **state)
{
    (void)state;
    struct builder b;
    struct rusage before, after;
    build_start(&b, EXPLICIT_LE);
    build_nested(&b, 1000000, true, false);
    getrusage(RUSAGE_SELF, &before);
    expect_refused(&b, MF_ERR_MALFORMED, "sequences are nested deeper than 64 levels");
    getrusage(RUSAGE_SELF, &after);
    assert_true(after.ru_maxrss - before.ru_maxrss < 16 * 1024);
    build_free(&b);
}

static void open_ends_and_stray_delimiters(void **state)
{
    (void)state;
    struct builder b;
    build_start(&b, EXPLICIT_LE);
    build_nested(&b, 1, true, false);
    expect_refused(&b, MF_ERR_MALFORMED, "truncated: the file ends inside a sequence at byte 180");
    build_free(&b);
    build_start(&b, EXPLICIT_LE);
    build_item(&b, TAG(0xFFFE, 0xE00D), 0);
    expect_refused(&b, MF_ERR_MALFORMED, "a delimiter (FFFE,E00D) where no item ends");
    build_free(&b);
    build_start(&b, EXPLICIT_LE);
    build_header(&b, TAG(0x0008, 0x1140), "SQ", 8);
    build_u16(&b, TAG(0x0028, 0x0010), 0);
    expect_refused(&b, MF_ERR_MALFORMED, "a sequence holds (0028,0010) where an item belongs");
    build_free(&b);
    build_start(&b, EXPLICIT_LE);
    build_header(&b, TAG(0x0010, 0x0010), "UT", UNDEFINED_LENGTH);
    expect_refused(&b, MF_ERR_MALFORMED,
                   "(0010,0010) has the value representation UT and an undefined length");
    build_free(&b);
}

static void unknown_vr_sequences_are_implicit_inside(void **state)
{
    (void)state;
    struct builder b;
    build_start(&b, EXPLICIT_LE);
    build_header(&b, TAG(0x0009, 0x1001), "UN", UNDEFINED_LENGTH);
    build_item(&b, TAG(0xFFFE, 0xE000), UNDEFINED_LENGTH);
    b.implicit_vr = true;
    build_string(&b, TAG(0x0010, 0x0010), "PN", "A^B");
    b.implicit_vr = false;
    build_item(&b, TAG(0xFFFE, 0xE00D), 0);
    build_item(&b, TAG(0xFFFE, 0xE0DD), 0);
    build_string(&b, TAG(0x0010, 0x0020), "LO", "P1");
    expect_accepted(&b);
    build_free(&b);
}

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
    assert_true(run(b.bytes.data, b.bytes.len, &ret, &err));
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

/* Counts the visits of one tag at one depth. */
struct seen {
    uint32_t tag, depth;
    int count;
};

static bool count_visits(void *context, const struct mf_prescan_element *e, struct mf_error *err)
{
    struct seen *seen = context;
    (void)err;
    seen->count += e->tag == seen->tag && e->depth == seen->depth;
    return true;
}

/* Implicit VR and UN do not say what is a sequence; those with tables and geometry are entered all
 * the same. */
static void known_sequences_are_entered_without_a_vr(void **state)
{
    (void)state;
    for (int un = 0; un < 2; un++) {
        struct builder b;
        struct seen seen = {.tag = TAG(0x0028, 0x3002), .depth = 1};
        struct mf_inflate_budget allowed = budget();
        MF_AUTO(mf_prescan) struct mf_prescan ret = {.length = 0};
        struct mf_error err = MF_ERROR_INIT;
        build_start(&b, un ? EXPLICIT_LE : IMPLICIT_LE);
        build_header(&b, TAG(0x0028, 0x3010), "UN", 8 + 8 + 6);
        build_item(&b, TAG(0xFFFE, 0xE000), 8 + 6);
        b.implicit_vr = true;
        build_header(&b, TAG(0x0028, 0x3002), "US", 6);
        build_bytes(&b, "\1\0\0\0\10\0", 6);
        assert_true(
            mf_prescan_run(b.bytes.data, b.bytes.len, &allowed, count_visits, &seen, &ret, &err));
        assert_int_equal(seen.count, 1);
        build_free(&b);
    }
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
    assert_true(run(b.bytes.data, b.bytes.len, &ret, &err));
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
    assert_true(run(b.bytes.data, b.bytes.len, &ret, &err));
    assert_int_equal(ret.pixel_data, MF_PIXEL_DATA_NONE);
    assert_int_equal(ret.fragment_count, 0);
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

static bool refuse(void *context, const struct mf_prescan_element *e, struct mf_error *err)
{
    (void)context;
    (void)e;
    return mf_error_set(err, MF_ERR_UNUSABLE, "enough");
}

static void visitors_can_stop_the_scan(void **state)
{
    (void)state;
    struct builder b;
    struct mf_prescan ret;
    struct mf_error err = MF_ERROR_INIT;
    struct mf_inflate_budget allowed = budget();
    build_simple(&b, &CHEST);
    assert_false(mf_prescan_run(b.bytes.data, b.bytes.len, &allowed, refuse, NULL, &ret, &err));
    assert_error(&err, MF_ERR_UNUSABLE, "enough");
    build_free(&b);
}

static void transfer_syntaxes_that_are_not(void **state)
{
    (void)state;
    struct builder b;
    build_start(&b, "1.2.3.4");
    build_string(&b, TAG(0x0010, 0x0020), "LO", "P1");
    expect_refused(&b, MF_ERR_UNSUPPORTED, "the transfer syntax 1.2.3.4 is not known");
    build_free(&b);
    build_start(&b, "1.2/../x");
    build_string(&b, TAG(0x0010, 0x0020), "LO", "P1");
    expect_refused(&b, MF_ERR_MALFORMED, "the transfer syntax is not a UID");
    build_free(&b);
}

static void deflate_bombs_stop_at_the_cap(void **state)
{
    (void)state;
    struct builder b;
    build_start(&b, DEFLATED_LE);
    size_t length = 100 << 20;
    char *zeros = calloc(1, length);
    build_header(&b, TAG(0x7FE0, 0x0010), "OB", (int64_t)length);
    build_bytes(&b, zeros, length);
    free(zeros);
    build_finish(&b);
    assert_true(b.bytes.len < 200000);
    struct mf_prescan ret;
    struct mf_error err = MF_ERROR_INIT;
    assert_false(run(b.bytes.data, b.bytes.len, &ret, &err));
    assert_int_equal(err.code, MF_ERR_TOO_LARGE);
    assert_non_null(strstr(err.msg, "bytes, the ratio of a decompression bomb"));
    struct mf_inflate_budget small = {.remaining = 1 << 30, .object_bytes = 1 << 20, .ratio = 9000};
    mf_error_clear(&err);
    assert_false(mf_prescan_run(b.bytes.data, b.bytes.len, &small, NULL, NULL, &ret, &err));
    assert_error(&err, MF_ERR_TOO_LARGE,
                 "compressed data grows past 1048576 bytes, the largest object accepted");
    small =
        (struct mf_inflate_budget){.remaining = 1 << 19, .object_bytes = 1 << 20, .ratio = 9000};
    mf_error_clear(&err);
    assert_false(mf_prescan_run(b.bytes.data, b.bytes.len, &small, NULL, NULL, &ret, &err));
    assert_error(
        &err, MF_ERR_TOO_LARGE,
        "compressed data grows past 524288 bytes, the most that one request may expand to");
    b.bytes.len -= b.bytes.len / 2;
    mf_error_clear(&err);
    struct mf_inflate_budget wide = {
        .remaining = 1 << 30, .object_bytes = 1 << 30, .ratio = 100000};
    assert_false(mf_prescan_run(b.bytes.data, b.bytes.len, &wide, NULL, NULL, &ret, &err));
    assert_error(&err, MF_ERR_MALFORMED, "compressed data is truncated");
    build_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_encoding_finds_the_pixels),
        cmocka_unit_test(data_sets_without_meta_are_recognised),
        cmocka_unit_test(things_that_are_not_dicom),
        cmocka_unit_test(truncation_is_noticed_at_every_byte),
        cmocka_unit_test(lengths_beyond_the_end),
        cmocka_unit_test(rows_must_be_us),
        cmocka_unit_test(depth_64_is_accepted_and_65_is_not),
        cmocka_unit_test(a_million_levels_take_no_memory),
        cmocka_unit_test(open_ends_and_stray_delimiters),
        cmocka_unit_test(unknown_vr_sequences_are_implicit_inside),
        cmocka_unit_test(fragments_are_recorded),
        cmocka_unit_test(broken_fragments_are_refused),
        cmocka_unit_test(padding_after_the_pixels_is_ignored),
        cmocka_unit_test(known_sequences_are_entered_without_a_vr),
        cmocka_unit_test(extended_offset_tables_are_found),
        cmocka_unit_test(pixels_inside_an_item_are_not_the_images),
        cmocka_unit_test(counts_are_capped),
        cmocka_unit_test(visitors_can_stop_the_scan),
        cmocka_unit_test(transfer_syntaxes_that_are_not),
        cmocka_unit_test(deflate_bombs_stop_at_the_cap),
    };
    return cmocka_run_group_tests_name("dicom/prescan", tests, NULL, NULL);
}
