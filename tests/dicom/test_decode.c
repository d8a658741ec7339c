/* dicom/decode*.c: samples of every native layout and of RLE, and what is refused. The compressed
 * transfer syntaxes are compared with pydicom in test_expected.c. */
#include "dicom/decode.h"

#include "core/grayscale.h"
#include "dicom/dicom.h"
#include "dicom/palette.h"
#include "tests/dicom/builder.h"
#include "tests/expect.h"

/* Scans the file and decodes a frame of it. */
static bool decode(struct builder *b, uint32_t frame, struct mf_frame *ret, struct mf_error *err)
{
    build_finish(b);
    MF_AUTO(mf_fd) int fd = build_fd(b->bytes.data, b->bytes.len);
    struct mf_scan_input input = {.fd = fd, .length = b->bytes.len};
    MF_AUTO(mf_index) struct mf_index *index = mf_scan(&input, 1, NULL, err);
    bool ok = index && mf_decode_frame(fd, &index->objects[0], frame, ret, err);
    build_free(b);
    return ok;
}

static void expect_samples(struct builder *b, uint32_t frame, enum mf_sample_type type,
                           const void *want, size_t bytes)
{
    MF_AUTO(mf_frame) struct mf_frame f = {.owned = NULL};
    struct mf_error err = MF_ERROR_INIT;
    assert_true(decode(b, frame, &f, &err));
    assert_no_error(&err);
    assert_int_equal(f.type, type);
    assert_int_equal(mf_frame_bytes(&f), bytes);
    assert_memory_equal(f.samples, want, bytes);
}

static void expect_refused(struct builder *b, uint32_t frame, enum mf_code code,
                           const char *message)
{
    struct mf_frame f = {.owned = NULL};
    struct mf_error err = MF_ERROR_INIT;
    assert_false(decode(b, frame, &f, &err));
    assert_error(&err, code, message);
}

/* The attributes of a 2 × 2 image; then the caller writes the pixels. */
struct layout {
    const char *photometric, *frames;
    uint16_t samples, planar, allocated, stored, representation;
};

static void build_layout(struct builder *b, const char *syntax, const struct layout *l)
{
    build_start(b, syntax);
    build_u16(b, TAG(0x0028, 0x0002), l->samples);
    build_string(b, TAG(0x0028, 0x0004), "CS", l->photometric);
    build_u16(b, TAG(0x0028, 0x0006), l->planar);
    build_string(b, TAG(0x0028, 0x0008), "IS", l->frames);
    build_u16(b, TAG(0x0028, 0x0010), 2);
    build_u16(b, TAG(0x0028, 0x0011), 2);
    build_u16(b, TAG(0x0028, 0x0100), l->allocated);
    build_u16(b, TAG(0x0028, 0x0101), l->stored);
    build_u16(b, TAG(0x0028, 0x0102), (uint16_t)(l->stored - 1));
    build_u16(b, TAG(0x0028, 0x0103), l->representation);
}

static void build_value(struct builder *b, const char *vr, const void *data, size_t length)
{
    build_header(b, TAG(0x7FE0, 0x0010), vr, (int64_t)length);
    build_bytes(b, data, length);
}

static void sixteen_bits_in_both_byte_orders(void **state)
{
    (void)state;
    const struct layout l = {"MONOCHROME2", "1", 1, 0, 16, 16, 1};
    const int16_t want[4] = {1, -2, 256, -32768};
    struct builder b;
    build_layout(&b, EXPLICIT_LE, &l);
    build_value(&b, "OW", "\x01\x00\xFE\xFF\x00\x01\x00\x80", 8);
    expect_samples(&b, 0, MF_SAMPLE_I16, want, sizeof want);
    build_layout(&b, EXPLICIT_BE, &l);
    build_value(&b, "OW", "\x00\x01\xFF\xFE\x01\x00\x80\x00", 8);
    expect_samples(&b, 0, MF_SAMPLE_I16, want, sizeof want);
    build_layout(&b, DEFLATED_LE, &l);
    build_value(&b, "OW", "\x01\x00\xFE\xFF\x00\x01\x00\x80", 8);
    expect_samples(&b, 0, MF_SAMPLE_I16, want, sizeof want);
}

static void unused_bits_are_cleared_or_sign_extended(void **state)
{
    (void)state;
    struct layout l = {"MONOCHROME2", "1", 1, 0, 16, 12, 0};
    struct builder b;
    build_layout(&b, EXPLICIT_LE, &l);
    build_value(&b, "OW", "\xFF\xFF\x01\xF0\x00\x08\xFF\x07", 8);
    expect_samples(&b, 0, MF_SAMPLE_U16, (uint16_t[]){0xFFF, 1, 0x800, 0x7FF}, 8);
    l.representation = 1;
    build_layout(&b, EXPLICIT_LE, &l);
    build_value(&b, "OW", "\xFF\xFF\x01\xF0\x00\x08\xFF\x07", 8);
    expect_samples(&b, 0, MF_SAMPLE_I16, (int16_t[]){-1, 1, -2048, 2047}, 8);
}

static void bytes_in_big_endian_words_are_swapped(void **state)
{
    (void)state;
    const struct layout l = {"MONOCHROME2", "1", 1, 0, 8, 8, 0};
    struct builder b;
    build_layout(&b, EXPLICIT_BE, &l);
    build_value(&b, "OW", "\x02\x01\x04\x03", 4);
    expect_samples(&b, 0, MF_SAMPLE_U8, "\x01\x02\x03\x04", 4);
    build_layout(&b, EXPLICIT_BE, &l);
    build_value(&b, "OB", "\x01\x02\x03\x04", 4);
    expect_samples(&b, 0, MF_SAMPLE_U8, "\x01\x02\x03\x04", 4);
}

static void single_bits_of_every_frame(void **state)
{
    (void)state;
    const struct layout l = {"MONOCHROME2", "3", 1, 0, 1, 1, 0};
    const char *const want[3] = {"\1\0\1\1", "\0\1\0\0", "\1\1\1\1"};
    for (uint32_t f = 0; f < 3; f++) {
        struct builder b;
        build_layout(&b, EXPLICIT_LE, &l);
        build_value(&b, "OB", "\x2D\x0F", 2); /* 1011 0100, 1111: least significant first */
        expect_samples(&b, f, MF_SAMPLE_U8, want[f], 4);
    }
}

static void planes_become_interleaved(void **state)
{
    (void)state;
    const struct layout l = {"RGB", "2", 3, 1, 8, 8, 0};
    struct builder b;
    build_layout(&b, EXPLICIT_LE, &l);
    build_value(&b, "OB", "rrrrggggbbbbRSTUGHIJBCDE", 24);
    expect_samples(&b, 1, MF_SAMPLE_U8, "RGBSHCTIDUJE", 12);
}

static void half_chrominance_is_expanded(void **state)
{
    (void)state;
    const struct layout l = {"YBR_FULL_422", "1", 3, 0, 8, 8, 0};
    struct builder b;
    build_layout(&b, EXPLICIT_LE, &l);
    build_value(&b, "OB", "YybryYBR", 8);
    expect_samples(&b, 0, MF_SAMPLE_U8, "YbrybryBRYBR", 12);
}

static void floats_come_as_they_are(void **state)
{
    (void)state;
    const struct layout l = {"MONOCHROME2", "1", 1, 0, 32, 32, 0};
    const float want[4] = {0.5f, -1e30f, 0, 3};
    struct builder b;
    build_layout(&b, EXPLICIT_LE, &l);
    build_header(&b, TAG(0x7FE0, 0x0008), "OF", sizeof want);
    build_bytes(&b, want, sizeof want);
    expect_samples(&b, 0, MF_SAMPLE_F32, want, sizeof want);
}

/* ---- RLE ---- */

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

/* ---- codestreams that contradict their object ---- */

static void build_compressed(struct builder *b, const char *syntax, const void *data, size_t length)
{
    const struct layout l = {"MONOCHROME2", "1", 1, 0, 8, 8, 0};
    build_layout(b, syntax, &l);
    build_header(b, TAG(0x7FE0, 0x0010), "OB", UNDEFINED_LENGTH);
    build_item(b, TAG(0xFFFE, 0xE000), 0);
    build_item(b, TAG(0xFFFE, 0xE000), (int64_t)length);
    build_bytes(b, data, length);
    build_item(b, TAG(0xFFFE, 0xE0DD), 0);
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

static void impossible_requests(void **state)
{
    (void)state;
    const struct layout l = {"MONOCHROME2", "1", 1, 0, 8, 8, 0};
    struct builder b;
    build_layout(&b, EXPLICIT_LE, &l);
    build_value(&b, "OB", "abcd", 4);
    expect_refused(&b, 1, MF_ERR_NOT_FOUND, "there is no frame 1, the object has 1");
    build_layout(&b, EXPLICIT_LE, &l);
    expect_refused(&b, 0, MF_ERR_UNUSABLE, "the object has no pixel data");
    const struct layout odd = {"CMYK", "1", 4, 0, 8, 8, 0};
    build_layout(&b, EXPLICIT_LE, &odd);
    build_value(&b, "OB", "abcdabcdabcdabcd", 16);
    expect_refused(&b, 0, MF_ERR_UNUSABLE,
                   "the image cannot be used: it has neither 1 nor 3 samples per pixel");
}

static void payload_shorter_than_its_index(void **state)
{
    (void)state;
    const struct layout l = {"MONOCHROME2", "1", 1, 0, 8, 8, 0};
    struct builder b;
    struct mf_error err = MF_ERROR_INIT;
    struct mf_frame f = {.owned = NULL};
    build_layout(&b, EXPLICIT_LE, &l);
    build_value(&b, "OB", "abcd", 4);
    MF_AUTO(mf_index) struct mf_index *index = build_scan(b.bytes.data, b.bytes.len, NULL, &err);
    MF_AUTO(mf_fd) int fd = build_fd(b.bytes.data, b.bytes.len - 1);
    assert_false(mf_decode_frame(fd, &index->objects[0], 0, &f, &err));
    assert_error(&err, MF_ERR_MALFORMED, "frame 0: the payload is shorter than its index");
    build_free(&b);
}

static void tables_are_read(void **state)
{
    (void)state;
    const struct layout l = {"MONOCHROME2", "1", 1, 0, 8, 8, 0};
    struct builder b;
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_frame) struct mf_frame f = {.owned = NULL};
    build_layout(&b, EXPLICIT_LE, &l);
    build_header(&b, TAG(0x0028, 0x3010), "SQ", UNDEFINED_LENGTH);
    build_item(&b, TAG(0xFFFE, 0xE000), UNDEFINED_LENGTH);
    build_header(&b, TAG(0x0028, 0x3002), "US", 6);
    build_bytes(&b, "\x03\x00\x0A\x00\x0C\x00", 6);
    build_header(&b, TAG(0x0028, 0x3006), "OW", 6);
    build_bytes(&b, "\x00\x00\x00\x08\xFF\x0F", 6);
    build_item(&b, TAG(0xFFFE, 0xE00D), 0);
    build_item(&b, TAG(0xFFFE, 0xE0DD), 0);
    build_value(&b, "OB", "abcd", 4);
    assert_true(decode(&b, 0, &f, &err));
    assert_int_equal(f.voi_lut.count, 3);
    assert_int_equal(f.voi_lut.first, 10);
    assert_int_equal(f.voi_lut.bits, 12);
    assert_int_equal(f.voi_lut.data[1], 0x800);
    assert_int_equal(f.voi_lut.data[2], 0xFFF);
}

static void byte_tables_are_widened(void **state)
{
    (void)state;
    struct layout l = {"PALETTE COLOR", "1", 1, 0, 8, 8, 0};
    for (int big = 0; big < 2; big++) {
        struct builder b;
        struct mf_error err = MF_ERROR_INIT;
        MF_AUTO(mf_frame) struct mf_frame f = {.owned = NULL};
        build_layout(&b, big ? EXPLICIT_BE : EXPLICIT_LE, &l);
        for (uint32_t i = 0; i < 3; i++) {
            build_header(&b, TAG(0x0028, 0x1101 + i), "US", 6);
            build_bytes(&b, big ? "\0\4\0\0\0\10" : "\4\0\0\0\10\0", 6);
        }
        for (uint32_t i = 0; i < 3; i++) {
            build_header(&b, TAG(0x0028, 0x1201 + i), "OW", 4);
            build_bytes(&b, big ? "\2\1\4\3" : "\1\2\3\4", 4);
        }
        build_value(&b, "OB", "\0\1\2\3", 4);
        assert_true(decode(&b, 0, &f, &err));
        assert_no_error(&err);
        assert_int_equal(f.photometric, MF_PHOTOMETRIC_PALETTE);
        for (uint16_t i = 0; i < 4; i++)
            assert_int_equal(f.palette[2].data[i], i + 1);
        assert_int_equal(f.palette[0].bits, 8);
    }
}

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

static void encapsulated_uncompressed_frames(void **state)
{
    (void)state;
    const struct layout l = {"MONOCHROME2", "1", 1, 0, 8, 8, 0};
    struct builder b;
    build_layout(&b, "1.2.840.10008.1.2.1.98", &l);
    build_header(&b, TAG(0x7FE0, 0x0010), "OB", UNDEFINED_LENGTH);
    build_item(&b, TAG(0xFFFE, 0xE000), 0);
    build_item(&b, TAG(0xFFFE, 0xE000), 4);
    build_bytes(&b, "abcd", 4);
    build_item(&b, TAG(0xFFFE, 0xE0DD), 0);
    expect_samples(&b, 0, MF_SAMPLE_U8, "abcd", 4);
    build_layout(&b, "1.2.840.10008.1.2.1.98", &l);
    build_header(&b, TAG(0x7FE0, 0x0010), "OB", UNDEFINED_LENGTH);
    build_item(&b, TAG(0xFFFE, 0xE000), 0);
    build_item(&b, TAG(0xFFFE, 0xE000), 2);
    build_bytes(&b, "ab", 2);
    build_item(&b, TAG(0xFFFE, 0xE0DD), 0);
    expect_refused(&b, 0, MF_ERR_MALFORMED, "frame 0: truncated: a fragment ends inside the frame");
}

/* ---- every combination of image attributes ---- */

struct combination {
    const char *syntax, *photometric;
    uint16_t samples, allocated, stored, high, representation, planar;
};

static void build_combination(struct builder *b, const struct combination *c, const uint8_t *noise,
                              size_t length)
{
    build_start(b, c->syntax);
    build_u16(b, TAG(0x0028, 0x0002), c->samples);
    build_string(b, TAG(0x0028, 0x0004), "CS", c->photometric);
    build_u16(b, TAG(0x0028, 0x0006), c->planar);
    build_u16(b, TAG(0x0028, 0x0010), 2);
    build_u16(b, TAG(0x0028, 0x0011), 3);
    build_u16(b, TAG(0x0028, 0x0100), c->allocated);
    build_u16(b, TAG(0x0028, 0x0101), c->stored);
    build_u16(b, TAG(0x0028, 0x0102), c->high);
    build_u16(b, TAG(0x0028, 0x0103), c->representation);
    bool native = strcmp(c->syntax, EXPLICIT_LE) == 0 || strcmp(c->syntax, EXPLICIT_BE) == 0;
    build_header(b, TAG(0x7FE0, 0x0010), "OW", native ? (int64_t)length : UNDEFINED_LENGTH);
    if (!native) {
        build_item(b, TAG(0xFFFE, 0xE000), 0);
        build_item(b, TAG(0xFFFE, 0xE000), (int64_t)length);
    }
    build_bytes(b, noise, length);
    if (!native)
        build_item(b, TAG(0xFFFE, 0xE0DD), 0);
}

/* Decodes and shows it, or is refused with a sentence; returns whether it was shown. */
static bool try_combination(const struct combination *c, const uint8_t *noise, size_t length)
{
    struct builder b;
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_frame) struct mf_frame f = {.owned = NULL};
    uint8_t picture[18];
    build_combination(&b, c, noise, length);
    if (!decode(&b, 0, &f, &err)) {
        assert_true(err.code == MF_ERR_MALFORMED || err.code == MF_ERR_UNUSABLE ||
                    err.code == MF_ERR_UNSUPPORTED);
        assert_true(strlen(err.msg) > 10);
        return false;
    }
    assert_true(mf_frame_check(&f, &err));
    assert_true(mf_grayscale_display8(&f, picture, &err));
    return true;
}

static void combinations_are_shown_or_refused(void **state)
{
    (void)state;
    static const char *const SYNTAXES[] = {EXPLICIT_LE,   EXPLICIT_BE, RLE_LOSSLESS,
                                           JPEG_BASELINE, JPEG_2000,   "1.2.840.10008.1.2.4.80"};
    static const char *const PHOTOMETRICS[] = {"MONOCHROME1", "MONOCHROME2",  "RGB",
                                               "YBR_FULL",    "YBR_FULL_422", "PALETTE COLOR",
                                               "YBR_RCT",     "CMYK"};
    static const uint16_t SAMPLES[] = {0, 1, 2, 3, 4}, BITS[] = {0, 1, 7, 8, 12, 16, 32, 64, 65535};
    uint8_t noise[300];
    int shown = 0, tried = 0;
    for (size_t i = 0; i < sizeof noise; i++)
        noise[i] = (uint8_t)(i * 89 + 3);
    for (size_t s = 0; s < 6; s++)
        for (size_t p = 0; p < 8; p++)
            for (size_t n = 0; n < 5; n++)
                for (size_t a = 0; a < 9; a++)
                    for (size_t k = 0; k < 9; k++)
                        for (int bits = 0; bits < 4; bits++) {
                            const struct combination c = {
                                SYNTAXES[s], PHOTOMETRICS[p], SAMPLES[n],
                                BITS[a],     BITS[k],         (uint16_t)(BITS[k] - 1 + (bits == 3)),
                                bits & 1,    bits >> 1};
                            tried++;
                            shown += try_combination(&c, noise, sizeof noise);
                        }
    assert_int_equal(tried, 6 * 8 * 5 * 9 * 9 * 4);
    assert_in_range(shown, 200, 2000);
}

static void supported_syntaxes(void **state)
{
    (void)state;
    assert_true(mf_decode_supported(EXPLICIT_LE));
    assert_true(mf_decode_supported("1.2.840.10008.1.2.4.201"));
    assert_false(mf_decode_supported("1.2.840.10008.1.2.4.100"));
    assert_false(mf_decode_supported("1.2.3"));
    assert_false(mf_decode_supported(NULL));
}

static int start(void **state)
{
    (void)state;
    return mf_dicom_init(NULL) ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sixteen_bits_in_both_byte_orders),
        cmocka_unit_test(unused_bits_are_cleared_or_sign_extended),
        cmocka_unit_test(bytes_in_big_endian_words_are_swapped),
        cmocka_unit_test(single_bits_of_every_frame),
        cmocka_unit_test(planes_become_interleaved),
        cmocka_unit_test(half_chrominance_is_expanded),
        cmocka_unit_test(floats_come_as_they_are),
        cmocka_unit_test(rle_unpacks_runs_and_literals),
        cmocka_unit_test(broken_rle_is_refused),
        cmocka_unit_test(jpeg_headers_must_fit_the_object),
        cmocka_unit_test(impossible_requests),
        cmocka_unit_test(payload_shorter_than_its_index),
        cmocka_unit_test(tables_are_read),
        cmocka_unit_test(byte_tables_are_widened),
        cmocka_unit_test(segmented_palettes_are_expanded),
        cmocka_unit_test(broken_palettes_are_refused),
        cmocka_unit_test(palettes_cannot_loop),
        cmocka_unit_test(encapsulated_uncompressed_frames),
        cmocka_unit_test(combinations_are_shown_or_refused),
        cmocka_unit_test(supported_syntaxes),
    };
    return cmocka_run_group_tests_name("dicom/decode", tests, start, NULL);
}
