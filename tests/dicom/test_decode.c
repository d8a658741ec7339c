/* dicom/decode.c, decode_native.c: samples of every native layout, and what is refused. */
#include "tests/dicom/decode_expect.h"

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

/* What the object and its functional groups say of a frame: the group goes before. */
static void frames_are_described_by_group_and_object(void **state)
{
    (void)state;
    const struct layout l = {"MONOCHROME2", "1", 1, 0, 8, 8, 0};
    struct builder b;
    struct mf_error err = MF_ERROR_INIT;
    build_layout(&b, EXPLICIT_LE, &l);
    build_value(&b, "OB", "abcd", 4);
    MF_AUTO(mf_index) struct mf_index *index = build_scan(b.bytes.data, b.bytes.len, NULL, &err);
    MF_AUTO(mf_fd) int fd = build_fd(b.bytes.data, b.bytes.len);
    build_free(&b);
    struct mf_index_object o = index->objects[0];
    struct mf_index_frame group = {.slope = 0,
                                   .intercept = 7,
                                   .has_rescale = true,
                                   .has_position = true,
                                   .position = {1, 2, 3},
                                   .has_orientation = true,
                                   .orientation = {1, 0, 0, 0, 1, 0}};
    o.slope = 2;
    o.intercept = 5;
    o.pixel_spacing[0] = 1; /* half a spacing is none */
    o.has_padding = o.has_padding_limit = true;
    o.padding = 10;
    o.padding_limit = -4;
    o.voi_function = "SIGMOID";
    MF_AUTO(mf_frame) struct mf_frame plain = {.owned = NULL}, grouped = {.owned = NULL};
    assert_true(mf_decode_frame(fd, &o, 0, &plain, &err));
    assert_true(plain.rescale_slope == 2 && plain.rescale_intercept == 5);
    assert_true(plain.pixel_spacing[0] == 0 && plain.pixel_spacing[1] == 0);
    assert_false(plain.has_position || plain.has_orientation || plain.has_window);
    assert_int_equal(plain.padding_low, -4);
    assert_int_equal(plain.padding_high, 10);
    assert_int_equal(plain.voi_function, MF_VOI_SIGMOID);
    o.frame_groups = &group;
    o.has_position = true;
    o.voi_function = "LINEAR_EXACT";
    assert_true(mf_decode_frame(fd, &o, 0, &grouped, &err));
    assert_true(grouped.rescale_slope == 2 && grouped.rescale_intercept == 7); /* 0 is no slope */
    assert_true(grouped.position[2] == 3 && grouped.orientation[4] == 1);
    assert_int_equal(grouped.voi_function, MF_VOI_LINEAR_EXACT);
    group = (struct mf_index_frame){.has_window = true, .center = 1, .width = 2};
    o.has_orientation = true;
    o.orientation[5] = 6;
    o.position[0] = 4;
    MF_AUTO(mf_frame) struct mf_frame window = {.owned = NULL};
    assert_true(mf_decode_frame(fd, &o, 0, &window, &err));
    assert_true(window.has_window && window.window_center == 1 && window.window_width == 2);
    assert_true(window.position[0] == 4 && window.orientation[5] == 6);
    assert_true(window.rescale_intercept == 5);
}

static void expect_broken(int fd, const struct mf_index_object *o, enum mf_code code,
                          const char *message)
{
    struct mf_frame f = {.owned = NULL};
    struct mf_error err = MF_ERROR_INIT;
    assert_false(mf_decode_frame(fd, o, 0, &f, &err));
    assert_error(&err, code, message);
}

/* Ranges of an index that leads out of its object. */
static void indexes_that_lead_outside(void **state)
{
    (void)state;
    const struct layout l = {"MONOCHROME2", "1", 1, 0, 8, 8, 0};
    const char *const outside = "a range of the index lies outside its object";
    struct builder b;
    struct mf_error err = MF_ERROR_INIT;
    build_layout(&b, EXPLICIT_LE, &l);
    build_value(&b, "OB", "abcd", 4);
    MF_AUTO(mf_index) struct mf_index *index = build_scan(b.bytes.data, b.bytes.len, NULL, &err);
    MF_AUTO(mf_fd) int fd = build_fd(b.bytes.data, b.bytes.len);
    build_free(&b);
    struct mf_index_object o = index->objects[0];
    o.pixels.length = 3;
    expect_broken(fd, &o, MF_ERR_MALFORMED,
                  "frame 0: truncated: the pixel data ends inside the frame");
    o = index->objects[0];
    o.bits_allocated = o.bits_stored = 1; /* not read in place */
    o.high_bit = 0;
    o.pixels.offset = 1 << 20;
    expect_broken(fd, &o, MF_ERR_MALFORMED,
                  "frame 0: a range of the index lies outside its object");
    o = index->objects[0];
    o.voi_lut = (struct mf_index_lut){
        .count = 4, .bits = 8, .entry_bytes = 1, .range = {o.layers[0].size - 3, 4}};
    expect_broken(fd, &o, MF_ERR_MALFORMED, outside);
    o.voi_lut.segmented = true;
    expect_broken(fd, &o, MF_ERR_MALFORMED, outside);
    o.voi_lut.range.length = o.layers[0].size + 1;
    expect_broken(fd, &o, MF_ERR_NO_MEMORY, "out of memory for a palette");
    o.voi_lut.range = (struct mf_range){0, 8}; /* of zeros */
    o.voi_lut.count = 400;
    expect_broken(fd, &o, MF_ERR_MALFORMED, "the segmented palette is damaged");
    o = index->objects[0];
    o.transfer_syntax = "1.2.840.10008.1.2.4.100";
    expect_broken(fd, &o, MF_ERR_UNSUPPORTED,
                  "images in the transfer syntax 1.2.840.10008.1.2.4.100 are not read");
    struct mf_range fragments[2] = {{o.layers[0].size, 4}, {0, 4}};
    uint32_t firsts[2] = {0, 2};
    o.transfer_syntax = RLE_LOSSLESS;
    o.encapsulated = true;
    o.fragments = fragments;
    o.frame_fragments = firsts;
    expect_broken(fd, &o, MF_ERR_MALFORMED,
                  "frame 0: a range of the index lies outside its object");
    fragments[0].length = o.layers[0].size;
    expect_broken(fd, &o, MF_ERR_NO_MEMORY, "frame 0: out of memory for a compressed frame");
    fragments[0] = fragments[1] = (struct mf_range){0, 0};
    expect_broken(fd, &o, MF_ERR_MALFORMED, "frame 0: truncated: the RLE header has 0 of 64 bytes");
    o = index->objects[0];
    o.pixel_spacing[0] = o.pixel_spacing[1] = 1e-300; /* and what no frame may be */
    o.slope = 1;
    o.samples_per_pixel = 3;
    o.photometric = "RGB";
    o.pixel_data = MF_PIXEL_DATA_FLOAT;
    o.bits_allocated = 32;
    o.pixels = (struct mf_range){0, 48};
    expect_broken(fd, &o, MF_ERR_MALFORMED, "a colour frame cannot have float samples");
}

/* An index of deflated layers that do not lie in each other. */
static void layers_that_lie_outside(void **state)
{
    (void)state;
    const struct layout l = {"MONOCHROME2", "1", 1, 0, 8, 8, 0};
    struct builder b;
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_buffer) struct mf_buffer zip;
    build_layout(&b, DEFLATED_LE, &l);
    build_value(&b, "OB", "abcd", 4);
    build_finish(&b);
    const struct build_member member = {"a", b.bytes.data, b.bytes.len, true, 0, -1};
    build_zip(&zip, &member, 1);
    MF_AUTO(mf_index) struct mf_index *index = build_scan(zip.data, zip.len, NULL, &err);
    MF_AUTO(mf_fd) int fd = build_fd(zip.data, zip.len);
    struct mf_index_object o = index->objects[0];
    MF_AUTO(mf_frame) struct mf_frame f = {.owned = NULL};
    assert_int_equal(o.layer_count, 2);
    assert_true(mf_decode_frame(fd, &o, 0, &f, &err)); /* inflated twice */
    assert_memory_equal(f.samples, "abcd", 4);
    o.layers[1].range.length += 1000;
    expect_broken(fd, &o, MF_ERR_MALFORMED, "a layer of the index lies outside its file");
    o.layers[1].range.offset = 1 << 20;
    expect_broken(fd, &o, MF_ERR_MALFORMED, "a layer of the index lies outside its file");
    o = index->objects[0];
    o.layers[0].range.length = 0;
    expect_broken(fd, &o, MF_ERR_MALFORMED, "compressed data is truncated");
    o = index->objects[0];
    o.layers[0].range.offset = zip.len;
    expect_broken(fd, &o, MF_ERR_MALFORMED, "the payload is shorter than its index");
    expect_broken(-1, &index->objects[0], MF_ERR_IO,
                  "the payload cannot be read (Bad file descriptor)");
    build_free(&b);
}

/* Descriptors of too few bits are a known fault of modalities: the entries are believed. */
static void tables_have_the_bits_of_their_entries(void **state)
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
    build_bytes(&b, "\2\0\0\0\10\0", 6);
    build_header(&b, TAG(0x0028, 0x3006), "OW", 4);
    build_bytes(&b, "\1\0\0\4", 4);
    build_item(&b, TAG(0xFFFE, 0xE00D), 0);
    build_item(&b, TAG(0xFFFE, 0xE0DD), 0);
    build_value(&b, "OB", "abcd", 4);
    assert_true(decode(&b, 0, &f, &err));
    assert_int_equal(f.voi_lut.data[1], 0x400);
    assert_int_equal(f.voi_lut.bits, 11);
}

/* Deflated Image Frame Compression; a stored block is deflate too: 01 LEN NLEN bytes. */
static void deflated_frames(void **state)
{
    (void)state;
    static const char SYNTAX[] = "1.2.840.10008.1.2.8.1";
    const struct layout l = {"MONOCHROME2", "1", 1, 0, 8, 8, 0};
    struct builder b;
    build_fragment(&b, SYNTAX, &l,
                   "\1\4\0\xFB\xFF"
                   "abcd",
                   9);
    expect_samples(&b, 0, MF_SAMPLE_U8, "abcd", 4);
    build_fragment(&b, SYNTAX, &l,
                   "\1\3\0\xFC\xFF"
                   "abc",
                   8);
    expect_refused(&b, 0, MF_ERR_MALFORMED, "frame 0: truncated: a fragment ends inside the frame");
    build_fragment(&b, SYNTAX, &l, "\7\7\7\7", 4);
    expect_refused(&b, 0, MF_ERR_MALFORMED, "frame 0: compressed data is damaged");
    build_fragment(&b, SYNTAX, &l,
                   "\1\10\0\xF7\xFF"
                   "abcdefgh",
                   13);
    expect_refused(&b, 0, MF_ERR_TOO_LARGE,
                   "frame 0: compressed data grows past 6 bytes, the largest object accepted");
}

/* Frames of an odd number of bytes in big-endian words: the second begins in the middle of one. */
static void odd_frames_in_big_endian_words(void **state)
{
    (void)state;
    for (uint32_t frame = 0; frame < 2; frame++) {
        struct builder b;
        build_start(&b, EXPLICIT_BE);
        build_string(&b, TAG(0x0028, 0x0008), "IS", "2");
        build_image(&b, 1, 3, 8);
        build_header(&b, TAG(0x7FE0, 0x0010), "OW", 6);
        build_bytes(&b, "badcfe", 6);
        expect_samples(&b, frame, MF_SAMPLE_U8, frame ? "def" : "abc", 3);
    }
}

/* Two pixels share their colours (PS3.3 C.7.6.3.1.2): the columns must be even. */
static void half_chrominance_of_odd_columns_is_not_shown(void **state)
{
    (void)state;
    static const char *const SYNTAXES[] = {EXPLICIT_LE, "1.2.840.10008.1.2.1.98",
                                           "1.2.840.10008.1.2.8.1"};
    for (size_t i = 0; i < 3; i++) {
        struct builder b;
        build_start(&b, SYNTAXES[i]);
        build_u16(&b, TAG(0x0028, 0x0002), 3);
        build_string(&b, TAG(0x0028, 0x0004), "CS", "YBR_FULL_422");
        build_u16(&b, TAG(0x0028, 0x0010), 1);
        build_u16(&b, TAG(0x0028, 0x0011), 3);
        build_u16(&b, TAG(0x0028, 0x0100), 8);
        if (i) {
            build_header(&b, TAG(0x7FE0, 0x0010), "OB", UNDEFINED_LENGTH);
            build_item(&b, TAG(0xFFFE, 0xE000), 0);
            build_item(&b, TAG(0xFFFE, 0xE000), 6);
            build_bytes(&b, "YYbrYY", 6);
            build_item(&b, TAG(0xFFFE, 0xE0DD), 0);
        } else {
            build_value(&b, "OB", "YYbrYY", 6);
        }
        expect_refused(&b, 0, MF_ERR_UNUSABLE,
                       "the image cannot be used: its columns are odd, but each two pixels share "
                       "their colours");
    }
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
        cmocka_unit_test(impossible_requests),
        cmocka_unit_test(payload_shorter_than_its_index),
        cmocka_unit_test(tables_are_read),
        cmocka_unit_test(byte_tables_are_widened),
        cmocka_unit_test(encapsulated_uncompressed_frames),
        cmocka_unit_test(frames_are_described_by_group_and_object),
        cmocka_unit_test(indexes_that_lead_outside),
        cmocka_unit_test(layers_that_lie_outside),
        cmocka_unit_test(tables_have_the_bits_of_their_entries),
        cmocka_unit_test(deflated_frames),
        cmocka_unit_test(odd_frames_in_big_endian_words),
        cmocka_unit_test(half_chrominance_of_odd_columns_is_not_shown),
        cmocka_unit_test(supported_syntaxes),
    };
    return cmocka_run_group_tests_name("dicom/decode", tests, start, NULL);
}
