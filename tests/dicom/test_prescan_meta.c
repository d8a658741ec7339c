/* dicom/prescan_meta.c: what comes before the data set, and how it is encoded. */
#include "tests/dicom/prescan_expect.h"

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
        assert_true(prescan(b.bytes.data, b.bytes.len, &ret, &err));
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
    assert_false(prescan(text, sizeof text, &ret, &err));
    assert_error(&err, MF_ERR_MALFORMED, "not a DICOM file");
    mf_error_clear(&err);
    assert_false(prescan("", 0, &ret, &err));
    assert_error(&err, MF_ERR_MALFORMED, "not a DICOM file");
    struct builder b;
    build_start(&b, EXPLICIT_LE); /* meta only */
    expect_refused(&b, MF_ERR_MALFORMED, "truncated: the file has no data set");
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

/* UIDs that are padded, empty or too long. */
static void transfer_syntaxes_with_something_around_them(void **state)
{
    (void)state;
    static const struct {
        const char *said, *read;
        uint32_t irregular;
    } cases[] = {{EXPLICIT_LE "  ", EXPLICIT_LE, 0},
                 {"", EXPLICIT_LE, 1u << MF_IRREGULAR_META},
                 {"  ", EXPLICIT_LE, 1u << MF_IRREGULAR_META}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct builder b;
        MF_AUTO(mf_prescan) struct mf_prescan ret = {.length = 0};
        struct mf_error err = MF_ERROR_INIT;
        build_start(&b, cases[i].said);
        build_string(&b, TAG(0x0010, 0x0020), "LO", "P1");
        assert_true(prescan(b.bytes.data, b.bytes.len, &ret, &err));
        assert_string_equal(ret.transfer_syntax, cases[i].read);
        assert_int_equal(ret.irregular, cases[i].irregular);
        build_free(&b);
    }
    struct builder b;
    build_start(&b, "1.2.840.10008.1.2.1.000000000000000000000000000000000000000000000");
    build_string(&b, TAG(0x0010, 0x0020), "LO", "P1");
    expect_refused(&b, MF_ERR_UNSUPPORTED,
                   "the transfer syntax "
                   "1.2.840.10008.1.2.1.00000000000000000000000000000000000000000000 is not known");
    build_free(&b);
}

static void meta_information_that_ends_in_a_header(void **state)
{
    (void)state;
    struct builder b;
    build_start(&b, EXPLICIT_LE);
    build_header(&b, TAG(0x0002, 0x0001), "OB", 2); /* 12 bytes */
    b.bytes.len -= 2;
    expect_refused(&b, MF_ERR_MALFORMED, "truncated: the file ends inside its meta information");
    build_free(&b);
}

/* Without preamble and meta information, the first element alone tells what the bytes are. */
static void first_elements_that_tell(void **state)
{
    (void)state;
    static const struct {
        uint8_t header[8];
        const char *read; /* NULL: not taken for DICOM */
    } cases[] = {
        {{8, 0, 5, 0, 'B', 0, 0, 0}, IMPLICIT_LE}, /* a length of 66, not half a VR */
        {{8, 0, 5, 0, 67, 0, 0, 0}, NULL},         /* longer than the file */
        {{8, 0, 0x01, 1, 0, 0, 0, 0}, NULL},       /* groups begin with lower elements */
        {{16, 0, 0x10, 0, 0, 0, 0, 0}, NULL},      /* data sets begin with lower groups */
        {{16, 0, 0x10, 0, 'P', 'N', 0, 0}, NULL},
        {{8, 0, 5, 0, 'C', 'S', 66, 0}, EXPLICIT_LE},
        {{0, 8, 0, 5, 'C', 'S', 0, 66}, EXPLICIT_BE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct builder b;
        uint8_t value[66] = {0};
        MF_AUTO(mf_prescan) struct mf_prescan ret = {.length = 0};
        struct mf_error err = MF_ERROR_INIT;
        build_start(&b, NULL);
        build_bytes(&b, cases[i].header, 8);
        build_bytes(&b, value, sizeof value);
        assert_int_equal(mf_prescan_plausible(b.bytes.data, b.bytes.len), cases[i].read != NULL);
        if (cases[i].read) {
            assert_true(prescan(b.bytes.data, b.bytes.len, &ret, &err));
            assert_string_equal(ret.transfer_syntax, cases[i].read);
            assert_int_equal(ret.irregular, 1u << MF_IRREGULAR_META);
        } else {
            expect_refused(&b, MF_ERR_MALFORMED, "not a DICOM file");
        }
        build_free(&b);
    }
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
    assert_false(prescan(b.bytes.data, b.bytes.len, &ret, &err));
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
        cmocka_unit_test(transfer_syntaxes_that_are_not),
        cmocka_unit_test(transfer_syntaxes_with_something_around_them),
        cmocka_unit_test(meta_information_that_ends_in_a_header),
        cmocka_unit_test(first_elements_that_tell),
        cmocka_unit_test(deflate_bombs_stop_at_the_cap),
    };
    return cmocka_run_group_tests_name("dicom/prescan_meta", tests, NULL, NULL);
}
