/* dicom/decode_rle.c, jpeg_header.c, decode_j2k.c: codestreams made by hand, and such as contradict
 * their object. Real ones are compared with pydicom in test_expected.c. */
#include "dicom/codec.h"
#include "tests/dicom/decode_expect.h"

static void build_rle(struct builder *b, const struct layout *l, const uint32_t header[16],
                      const void *data, size_t length)
{
    build_layout(b, RLE_LOSSLESS, l);
    build_header(b, TAG(0x7FE0, 0x0010), "OB", UNDEFINED_LENGTH);
    build_item(b, TAG(0xFFFE, 0xE000), 0);
    build_item(b, TAG(0xFFFE, 0xE000), (int64_t)(64 + length));
    build_bytes(b, header, 64);
    build_bytes(b, data, length);
    build_item(b, TAG(0xFFFE, 0xE0DD), 0);
}

static void rle_unpacks_runs_and_literals(void **state)
{
    (void)state;
    const struct layout l = {"MONOCHROME2", "1", 1, 0, 16, 16, 0};
    struct builder b;
    /* High bytes: 4 × 0x01 (run); low bytes: no-op, 2 literals, run of 2. */
    build_rle(&b, &l, (uint32_t[16]){2, 64, 66}, "\xFD\x01\x80\x01\x0A\x0B\xFF\x0C", 8);
    expect_samples(&b, 0, MF_SAMPLE_U16, (uint16_t[]){0x010A, 0x010B, 0x010C, 0x010C}, 8);
}

static void broken_rle_is_refused(void **state)
{
    (void)state;
    const struct layout l = {"MONOCHROME2", "1", 1, 0, 8, 8, 0};
    struct builder b;
    build_rle(&b, &l, (uint32_t[16]){3, 64}, "\xFD\x01", 2);
    expect_refused(&b, 0, MF_ERR_MALFORMED, "frame 0: the RLE header has 3 segments, 1 are needed");
    build_rle(&b, &l, (uint32_t[16]){1, 640}, "\xFD\x01", 2);
    expect_refused(&b, 0, MF_ERR_MALFORMED,
                   "frame 0: the RLE header places segment 0 outside the frame");
    build_rle(&b, &l, (uint32_t[16]){1, 64}, "\xFE\x01", 2);
    expect_refused(&b, 0, MF_ERR_MALFORMED, "frame 0: truncated: an RLE segment ends early");
    build_rle(&b, &l, (uint32_t[16]){1, 64}, "\x05\x01", 2);
    expect_refused(&b, 0, MF_ERR_MALFORMED, "frame 0: truncated: an RLE segment ends early");
}

/* One pixel a bit: eight of them in a byte, also in RLE. */
static void rle_of_single_bits(void **state)
{
    (void)state;
    const struct layout l = {"MONOCHROME2", "1", 1, 0, 1, 1, 0};
    struct builder b;
    build_rle(&b, &l, (uint32_t[16]){1, 64}, "\0\x0D", 2);
    expect_samples(&b, 0, MF_SAMPLE_U8, "\1\0\1\1", 4);
    build_rle(&b, &l, (uint32_t[16]){1, 64}, "\0", 1);
    expect_refused(&b, 0, MF_ERR_MALFORMED, "frame 0: truncated: an RLE segment ends early");
}

/* RLE frames decoded alone: their header, and runs that go beyond the last pixel. */
static void rle_headers_and_padded_runs(void **state)
{
    (void)state;
    uint8_t data[80] = {1, 0, 0, 0, 64}, out[64];
    struct mf_codec_image image = {
        .rows = 1, .columns = 3, .samples_per_pixel = 1, .sample_bytes = 1};
    struct mf_error err = MF_ERROR_INIT;
    data[64] = 0xF0; /* 17 times */
    data[65] = 'x';
    assert_true(mf_rle_decode(data, 66, &image, out, &err));
    assert_memory_equal(out, "xxx", 3);
    memcpy(data + 64, "\4abcde", 6); /* five literals */
    assert_true(mf_rle_decode(data, 70, &image, out, &err));
    assert_memory_equal(out, "abc", 3);
    assert_false(mf_rle_decode(data, 63, &image, out, &err));
    assert_error(&err, MF_ERR_MALFORMED, "truncated: the RLE header has 63 of 64 bytes");
    static const struct {
        uint8_t begin, end;
        const char *message;
    } cases[] = {{63, 66, "the RLE header places segment 0 outside the frame"},
                 {68, 66, "the RLE header places segment 0 outside the frame"},
                 {64, 81, "the RLE header places segment 0 outside the frame"}};
    image.sample_bytes = 2;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        data[0] = 2;
        data[4] = cases[i].begin;
        data[8] = cases[i].end;
        mf_error_clear(&err);
        assert_false(mf_rle_decode(data, sizeof data, &image, out, &err));
        assert_error(&err, MF_ERR_MALFORMED, cases[i].message);
    }
    data[0] = 16; /* no header has room for more than 15 */
    image.samples_per_pixel = 8;
    mf_error_clear(&err);
    assert_false(mf_rle_decode(data, sizeof data, &image, out, &err));
    assert_error(&err, MF_ERR_MALFORMED, "the RLE header has 16 segments, 16 are needed");
}

static void build_compressed(struct builder *b, const char *syntax, const void *data, size_t length)
{
    const struct layout l = {"MONOCHROME2", "1", 1, 0, 8, 8, 0};
    build_fragment(b, syntax, &l, data, length);
}

static void jpeg_headers_must_fit_the_object(void **state)
{
    (void)state;
    struct builder b;
    build_compressed(&b, JPEG_BASELINE,
                     "\xFF\xD8\xFF\xC0\x00\x0B\x08\xFF\xFF\xFF\xFF\x01\x01\x11\x00\xFF\xD9", 17);
    expect_refused(
        &b, 0, MF_ERR_MALFORMED,
        "frame 0: the JPEG codestream has 65535 x 65535 x 1 samples, the object 2 x 2 x 1");
    build_compressed(&b, JPEG_BASELINE,
                     "\xFF\xD8\xFF\xC0\x00\x0B\x0C\x00\x02\x00\x02\x01\x01\x11\x00\xFF\xD9", 17);
    expect_refused(&b, 0, MF_ERR_MALFORMED,
                   "frame 0: the JPEG codestream has samples of 12 bits, the object allocates 8");
    build_compressed(&b, JPEG_BASELINE, "not a JPEG", 10);
    expect_refused(&b, 0, MF_ERR_MALFORMED, "frame 0: the frame is not a JPEG codestream");
    build_compressed(&b, JPEG_BASELINE, "\xFF\xD8\xFF\xE0\xFF\xFF", 6);
    expect_refused(&b, 0, MF_ERR_MALFORMED, "frame 0: the JPEG codestream has no frame header");
    build_compressed(&b, JPEG_2000, "not a JPEG 2000 codestream", 26);
    expect_refused(&b, 0, MF_ERR_MALFORMED, "frame 0: the JPEG 2000 header is damaged");
}

static void jpeg_frame_headers_are_found(void **state)
{
    (void)state;
#define SOF "\0\13\10\0\2\0\3\1\1\21\0"
    static const struct {
        const char *bytes;
        size_t length;
        uint8_t marker;      /* 0: none */
        const char *message; /* why not */
    } cases[] = {
        {"\xFF\xD8\xFF\xC0" SOF, 15, 0xC0, NULL},
        {"\xFF\xD8\xFF\xCF" SOF, 15, 0xCF, NULL},
        {"\xFF\xD8\xFF\xF7" SOF, 15, 0xF7, NULL},
        {"\xFF\xD8\xFF\xFF\xFF\xC3" SOF, 17, 0xC3, NULL},                 /* fill bytes */
        {"\xFF\xD8\xFF\x01\xFF\xD0\xFF\xD8\xFF\xC1" SOF, 21, 0xC1, NULL}, /* without segments */
        {"\xFF\xD8\xFF\xC4\0\2\xFF\xC8\0\2\xFF\xCC\0\2\xFF\xC1" SOF, 27, 0xC1, NULL},
        {"\xFF\xD8\xFF\xC0\0\7\0\0\0\0\0\xFF\xC1" SOF, 24, 0xC1, NULL}, /* too short a one */
        {"\xFF\xD8\xFF\xBF\0\2\xFF\xE0\0\2\xFF\xC1" SOF, 23, 0xC1, NULL},
        {"\xFF\xD8\xFF", 3, 0, "the frame is not a JPEG codestream"},
        {"\xFF\xD9\xFF\xC0" SOF, 15, 0, "the frame is not a JPEG codestream"},
        {"\xFE\xD8\xFF\xC0" SOF, 15, 0, "the frame is not a JPEG codestream"},
        {"\xFF\xD8\xFF\xDA\0\2\xFF\xC0" SOF, 19, 0, "the JPEG codestream has no frame header"},
        {"\xFF\xD8\xFF\xD9\0\2\xFF\xC0" SOF, 19, 0, "the JPEG codestream has no frame header"},
        {"\xFF\xD8\0\xC0" SOF, 15, 0, "the JPEG codestream has no frame header"},
        {"\xFF\xD8\xFF\xE0\0\1\xFF\xC0" SOF, 19, 0, "the JPEG codestream has no frame header"},
        {"\xFF\xD8\xFF\xC0" SOF, 14, 0, "the JPEG codestream has no frame header"},
        {"\xFF\xD8\xFF\xE0\0\2\xFF", 7, 0, "the JPEG codestream has no frame header"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct mf_jpeg_header h;
        struct mf_error err = MF_ERROR_INIT;
        bool found =
            mf_jpeg_header_read((const uint8_t *)cases[i].bytes, cases[i].length, &h, &err);
        assert_int_equal(found, cases[i].marker != 0);
        if (!found) {
            assert_error(&err, MF_ERR_MALFORMED, cases[i].message);
            continue;
        }
        assert_int_equal(h.marker, cases[i].marker);
        assert_int_equal(h.precision, 8);
        assert_int_equal(h.rows, 2);
        assert_int_equal(h.columns, 3);
        assert_int_equal(h.components, 1);
    }
}

static void codestreams_are_compared_with_the_object(void **state)
{
    (void)state;
    const struct mf_codec_image image = {
        .rows = 2, .columns = 3, .samples_per_pixel = 1, .sample_bytes = 2};
    static const struct {
        uint32_t rows, columns, components, precision;
        const char *message; /* NULL: fits */
    } cases[] = {
        {2, 3, 1, 1, NULL},
        {2, 3, 1, 16, NULL},
        {3, 3, 1, 8, "the X codestream has 3 x 3 x 1 samples, the object 2 x 3 x 1"},
        {2, 2, 1, 8, "the X codestream has 2 x 2 x 1 samples, the object 2 x 3 x 1"},
        {2, 3, 3, 8, "the X codestream has 2 x 3 x 3 samples, the object 2 x 3 x 1"},
        {2, 3, 1, 0, "the X codestream has samples of 0 bits, the object allocates 16"},
        {2, 3, 1, 17, "the X codestream has samples of 17 bits, the object allocates 16"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct mf_error err = MF_ERROR_INIT;
        assert_int_equal(mf_codec_check(&image, "X", cases[i].rows, cases[i].columns,
                                        cases[i].components, cases[i].precision, &err),
                         !cases[i].message);
        if (cases[i].message)
            assert_error(&err, MF_ERR_MALFORMED, cases[i].message);
    }
}

/* ---- JPEG 2000, by hand: one tile of one empty packet, so that every sample is the middle ---- */

struct j2k {
    uint8_t size[2], step[2]; /* of the grid; between samples of the component */
    uint8_t precision;        /* minus 1; 0x80: signed */
};

static size_t build_j2k(uint8_t *out, const struct j2k *h)
{
    const uint8_t bytes[] = {
        0xFF,       0x4F,       0xFF,       0x51,       0,    41,         0,
        0, /* SOC, SIZ */
        0,          0,          0,          h->size[0], 0,    0,          0,
        h->size[1], 0,          0,          0,          0,    0,          0,
        0,          0,          0,          0,          0,    h->size[0], 0,
        0,          0,          h->size[1], 0,          0,    0,          0,
        0,          0,          0,          0,          0,    1,          h->precision,
        h->step[0], h->step[1], 0xFF,       0x52,       0,    12,         0,
        0,          0,          1,          0,          0,    4,          4,
        0,          1,                                              /* COD: no levels, 5-3 */
        0xFF,       0x5C,       0,          4,          0x40, 0x40, /* QCD */
        0xFF,       0x90,       0,          10,         0,    0,          0,
        0,          0,          15,         0,          1, /* SOT */
        0xFF,       0x93,       0,                         /* SOD, the packet */
        0xFF,       0xD9};
    memcpy(out, bytes, sizeof bytes);
    return sizeof bytes;
}

static void jpeg_2000_of_every_width(void **state)
{
    (void)state;
    static const struct {
        uint16_t allocated, stored, representation;
        uint8_t precision;
        enum mf_sample_type type;
        int32_t middle;
    } cases[] = {
        {8, 8, 0, 7, MF_SAMPLE_U8, 128},       {16, 12, 0, 11, MF_SAMPLE_U16, 2048},
        {16, 12, 1, 0x8B, MF_SAMPLE_I16, 0},   {32, 20, 0, 19, MF_SAMPLE_U32, 1 << 19},
        {16, 12, 1, 11, MF_SAMPLE_I16, -2048}, /* says to be unsigned: the attribute counts */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct layout l = {
            "MONOCHROME2", "1", 1, 0, cases[i].allocated, cases[i].stored, cases[i].representation};
        const struct j2k h = {{2, 2}, {1, 1}, cases[i].precision};
        uint8_t stream[128], want[16];
        size_t width = cases[i].allocated / 8u;
        for (size_t k = 0; k < 4; k++)
            memcpy(want + k * width, &cases[i].middle, width);
        struct builder b;
        build_fragment(&b, JPEG_2000, &l, stream, build_j2k(stream, &h));
        expect_samples(&b, 0, cases[i].type, want, 4 * width);
    }
}

/* In a JP2 file, after a box of more than OpenJPEG reads ahead. */
static void jpeg_2000_in_boxes(void **state)
{
    (void)state;
    static const uint8_t head[] = {0,   0,   0,   12,  'j', 'P', ' ', ' ', 13,  10,  0x87, 10,  0,
                                   0,   0,   20,  'f', 't', 'y', 'p', 'j', 'p', '2', ' ',  0,   0,
                                   0,   0,   'j', 'p', '2', ' ', 0,   0,   0,   45,  'j',  'p', '2',
                                   'h', 0,   0,   0,   22,  'i', 'h', 'd', 'r', 0,   0,    0,   2,
                                   0,   0,   0,   2,   0,   1,   7,   7,   0,   0,   0,    0,   0,
                                   15,  'c', 'o', 'l', 'r', 1,   0,   0,   0,   0,   0,    17};
    const struct layout l = {"MONOCHROME2", "1", 1, 0, 8, 8, 0};
    const struct j2k h = {{2, 2}, {1, 1}, 7};
    for (int beyond = 0; beyond < 2; beyond++) {
        const uint32_t padding = 3 << 20, claim = padding + (uint32_t)beyond * (8 << 20);
        const uint8_t free_box[8] = {(uint8_t)(claim >> 24),
                                     (uint8_t)(claim >> 16),
                                     (uint8_t)(claim >> 8),
                                     (uint8_t)claim,
                                     'f',
                                     'r',
                                     'e',
                                     'e'};
        uint8_t *file = calloc(1, sizeof head + padding + 200);
        memcpy(file, head, sizeof head);
        memcpy(file + sizeof head, free_box, sizeof free_box);
        uint8_t *code = file + sizeof head + padding;
        memcpy(code, "\0\0\0\0jp2c", 8); /* to the end */
        size_t length = sizeof head + padding + 8 + build_j2k(code + 8, &h);
        struct builder b;
        build_fragment(&b, JPEG_2000, &l, file, length + length % 2);
        free(file);
        if (beyond)
            expect_refused(&b, 0, MF_ERR_MALFORMED, "frame 0: the JPEG 2000 header is damaged");
        else
            expect_samples(&b, 0, MF_SAMPLE_U8, "\x80\x80\x80\x80", 4);
    }
}

static void jpeg_2000_that_contradicts_its_object(void **state)
{
    (void)state;
    static const struct {
        struct j2k header;
        size_t cut;
        const char *message;
    } cases[] = {
        {{{3, 2}, {1, 1}, 7},
         0,
         "frame 0: the JPEG 2000 codestream has 2 x 3 x 1 samples, the object 2 x 2 x 1"},
        {{{2, 2}, {1, 1}, 11},
         0,
         "frame 0: the JPEG 2000 codestream has samples of 12 bits, the object allocates 8"},
        {{{4, 2}, {2, 1}, 7}, 0, "frame 0: JPEG 2000 with subsampled components is not decoded"},
        {{{2, 4}, {1, 2}, 7}, 0, "frame 0: JPEG 2000 with subsampled components is not decoded"},
        {{{2, 2}, {1, 1}, 7}, 30, "frame 0: the JPEG 2000 header is damaged"},
    };
    const struct layout l = {"MONOCHROME2", "1", 1, 0, 8, 8, 0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t stream[128];
        struct builder b;
        size_t length = build_j2k(stream, &cases[i].header);
        build_fragment(&b, JPEG_2000, &l, stream, length - cases[i].cut);
        bool subsampled = cases[i].header.step[0] * cases[i].header.step[1] > 1;
        expect_refused(&b, 0, subsampled ? MF_ERR_UNSUPPORTED : MF_ERR_MALFORMED, cases[i].message);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rle_unpacks_runs_and_literals),
        cmocka_unit_test(broken_rle_is_refused),
        cmocka_unit_test(rle_of_single_bits),
        cmocka_unit_test(rle_headers_and_padded_runs),
        cmocka_unit_test(jpeg_headers_must_fit_the_object),
        cmocka_unit_test(jpeg_frame_headers_are_found),
        cmocka_unit_test(codestreams_are_compared_with_the_object),
        cmocka_unit_test(jpeg_2000_of_every_width),
        cmocka_unit_test(jpeg_2000_in_boxes),
        cmocka_unit_test(jpeg_2000_that_contradicts_its_object),
    };
    return cmocka_run_group_tests_name("dicom/codestreams", tests, start, NULL);
}
