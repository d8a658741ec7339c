/* dicom/image.c, fragments.c: image attributes against pixel data, and frames among fragments. */
#include "tests/dicom/scan_expect.h"

static void dimensions_and_length_must_agree(void **state)
{
    (void)state;
    struct builder b;
    build_start(&b, EXPLICIT_LE);
    build_image(&b, 4, 4, 16);
    build_pixels(&b, 30);
    expect_file_refused(&b, MF_ERR_MALFORMED,
                        "part 1: truncated: the pixel data has 30 bytes, 4 x 4 x 1 samples in 1 "
                        "frame of 16 bits need 32");
    build_start(&b, EXPLICIT_LE);
    build_image(&b, 65535, 65535, 16);
    build_pixels(&b, 30);
    expect_file_refused(&b, MF_ERR_TOO_LARGE,
                        "part 1: a frame of 65535 x 65535 x 1 samples, at most 134217728 samples "
                        "are accepted");
    build_start(&b, EXPLICIT_LE);
    build_image(&b, 0, 4, 8);
    build_pixels(&b, 4);
    expect_file_refused(&b, MF_ERR_MALFORMED, "part 1: the object has pixel data but no Rows");
    build_start(&b, EXPLICIT_LE);
    build_string(&b, TAG(0x0028, 0x0008), "IS", "2000000000");
    build_image(&b, 4, 4, 8);
    build_pixels(&b, 16);
    expect_file_refused(&b, MF_ERR_TOO_LARGE, "part 1: 100001 frames, at most 100000 are accepted");
}

/* Sound but not shown: the object stays, with the reason. */
static void odd_images_have_a_problem(void **state)
{
    (void)state;
    static const struct {
        uint32_t tag;
        uint16_t value;
        const char *problem;
    } cases[] = {
        {TAG(0x0028, 0x0100), 12, "its bits allocated are not 1, 8, 16 or 32"},
        {TAG(0x0028, 0x0002), 4, "it has neither 1 nor 3 samples per pixel"},
        {TAG(0x0028, 0x0002), 3,
         "its photometric interpretation does not fit its samples per pixel or is not shown"},
        {TAG(0x0028, 0x0101), 9, "its bits stored and high bit do not fit the bits allocated"},
        {TAG(0x0028, 0x0102), 3, "its bits stored and high bit do not fit the bits allocated"},
        {TAG(0x0028, 0x0006), 2,
         "its pixel representation or planar configuration is neither 0 nor 1"},
        {TAG(0x0028, 0x0103), 2,
         "its pixel representation or planar configuration is neither 0 nor 1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct builder b;
        build_start(&b, EXPLICIT_LE);
        build_image(&b, 4, 4, 8);
        build_u16(&b, cases[i].tag, cases[i].value); /* the later one counts */
        build_pixels(&b, 64);
        MF_AUTO(mf_index) struct mf_index *index = scan_file(&b);
        assert_string_equal(index->objects[0].problem, cases[i].problem);
    }
}

static void video_is_an_unsupported_transfer_syntax(void **state)
{
    (void)state;
    struct builder b;
    build_start(&b, "1.2.840.10008.1.2.4.102");
    build_image(&b, 4, 4, 8);
    build_header(&b, TAG(0x7FE0, 0x0010), "OB", UNDEFINED_LENGTH);
    build_item(&b, TAG(0xFFFE, 0xE000), 0);
    build_item(&b, TAG(0xFFFE, 0xE000), 4);
    build_bytes(&b, "mpeg", 4);
    build_item(&b, TAG(0xFFFE, 0xE0DD), 0);
    expect_file_refused(&b, MF_ERR_UNSUPPORTED,
                        "part 1: images in the transfer syntax MPEG-4 AVC/H.264 High Profile are "
                        "not read");
}

static void objects_without_pixels_are_objects(void **state)
{
    (void)state;
    struct builder b;
    struct build_object sr = CHEST;
    sr.sop_class = "1.2.840.10008.5.1.4.1.1.88.33";
    build_start(&b, EXPLICIT_LE);
    build_identity(&b, &sr);
    MF_AUTO(mf_index) struct mf_index *index = scan_file(&b);
    assert_int_equal(index->objects[0].pixel_data, MF_PIXEL_DATA_NONE);
    assert_int_equal(index->objects[0].rows, 0);
}

/* An image of float or double samples that says to be something else. */
static void float_pixels_have_their_own_width(void **state)
{
    (void)state;
    static const struct {
        uint32_t tag;
        const char *vr;
        uint16_t bits, samples;
        size_t bytes;
        const char *problem;
    } cases[] = {
        {TAG(0x7FE0, 0x0008), "OF", 32, 1, 64, NULL},
        {TAG(0x7FE0, 0x0008), "OF", 16, 1, 64, "its float pixels are not 32 bits"},
        {TAG(0x7FE0, 0x0008), "OF", 32, 3, 192, "its float pixels are not 32 bits"},
        {TAG(0x7FE0, 0x0009), "OD", 64, 1, 128, NULL},
        {TAG(0x7FE0, 0x0009), "OD", 32, 1, 128, "its double pixels are not 64 bits"},
        {TAG(0x7FE0, 0x0009), "OD", 64, 3, 384, "its double pixels are not 64 bits"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct builder b;
        uint8_t zeros[384] = {0};
        build_start(&b, EXPLICIT_LE);
        build_image(&b, 4, 4, cases[i].bits);
        build_u16(&b, TAG(0x0028, 0x0002), cases[i].samples);
        build_string(&b, TAG(0x0028, 0x0004), "CS", cases[i].samples == 3 ? "RGB" : "MONOCHROME2");
        build_header(&b, cases[i].tag, cases[i].vr, (int64_t)cases[i].bytes);
        build_bytes(&b, zeros, cases[i].bytes);
        MF_AUTO(mf_index) struct mf_index *index = scan_file(&b);
        const char *problem = index->objects[0].problem;
        assert_string_equal(problem ? problem : "none",
                            cases[i].problem ? cases[i].problem : "none");
    }
}

static void colour_images_that_are_not(void **state)
{
    (void)state;
    static const struct {
        uint16_t bits, representation;
        const char *photometric, *problem;
    } cases[] = {
        {8, 0, "RGB", "none"},
        {8, 0, NULL, "none"},
        {8, 1, "RGB", "it has signed colour samples"},
        {1, 0, "RGB", "it has colour pixels of 1 bit"},
        {8, 0, "PALETTE COLOR",
         "its photometric interpretation does not fit its samples per pixel or is not shown"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct builder b;
        build_start(&b, EXPLICIT_LE);
        build_u16(&b, TAG(0x0028, 0x0002), 3);
        build_string(&b, TAG(0x0028, 0x0004), "CS", cases[i].photometric);
        build_u16(&b, TAG(0x0028, 0x0010), 4);
        build_u16(&b, TAG(0x0028, 0x0011), 4);
        build_u16(&b, TAG(0x0028, 0x0100), cases[i].bits);
        build_u16(&b, TAG(0x0028, 0x0103), cases[i].representation);
        build_pixels(&b, 48);
        MF_AUTO(mf_index) struct mf_index *index = scan_file(&b);
        const struct mf_index_object *o = &index->objects[0];
        assert_string_equal(o->problem ? o->problem : "none", cases[i].problem);
        if (!cases[i].photometric)
            assert_string_equal(o->photometric, "RGB");
    }
}

static void wide_palettes_and_missing_columns(void **state)
{
    (void)state;
    struct builder b;
    build_start(&b, EXPLICIT_LE);
    build_image(&b, 4, 4, 32);
    build_string(&b, TAG(0x0028, 0x0004), "CS", "PALETTE COLOR");
    build_pixels(&b, 64);
    MF_AUTO(mf_index) struct mf_index *index = scan_file(&b);
    assert_string_equal(index->objects[0].problem, "its palette has indices of more than 16 bits");
    build_start(&b, EXPLICIT_LE);
    build_image(&b, 4, 0, 8);
    build_pixels(&b, 4);
    expect_file_refused(&b, MF_ERR_MALFORMED, "part 1: the object has pixel data but no Columns");
    build_start(&b, EXPLICIT_LE);
    build_string(&b, TAG(0x0028, 0x0008), "IS", "2");
    build_image(&b, 4, 4, 8);
    build_pixels(&b, 30);
    expect_file_refused(&b, MF_ERR_MALFORMED,
                        "part 1: truncated: the pixel data has 30 bytes, 4 x 4 x 1 samples in 2 "
                        "frames of 8 bits need 32");
}

/* An encapsulated object of `frames` frames in `fragments` fragments of 4 bytes each. */
static void build_encapsulated(struct builder *b, const char *frames, int fragments,
                               const uint32_t *table, size_t entries, const char *content)
{
    build_start(b, JPEG_BASELINE);
    build_string(b, TAG(0x0028, 0x0008), "IS", frames);
    build_image(b, 4, 4, 8);
    build_header(b, TAG(0x7FE0, 0x0010), "OB", UNDEFINED_LENGTH);
    build_item(b, TAG(0xFFFE, 0xE000), (int64_t)entries * 4);
    build_bytes(b, table, entries * 4);
    for (int i = 0; i < fragments; i++) {
        build_item(b, TAG(0xFFFE, 0xE000), 4);
        build_bytes(b, content + (strlen(content) > 4 ? 4 * i : 0), 4);
    }
    build_item(b, TAG(0xFFFE, 0xE0DD), 0);
}

static void expect_frames(struct builder *b, const uint32_t *first, size_t count)
{
    MF_AUTO(mf_index) struct mf_index *index = scan_file(b);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(index->objects[0].frame_fragments[i], first[i]);
}

static void fragments_are_assigned_to_frames(void **state)
{
    (void)state;
    struct builder b;
    const uint32_t table[2] = {0, 24}, wrong[2] = {0, 20};
    build_encapsulated(&b, "2", 4, table, 2, "....");
    expect_frames(&b, (uint32_t[]){0, 2, 4}, 3);
    build_encapsulated(&b, "2", 2, NULL, 0, "....");
    expect_frames(&b, (uint32_t[]){0, 1, 2}, 3);
    build_encapsulated(&b, "1", 3, NULL, 0, "....");
    expect_frames(&b, (uint32_t[]){0, 3}, 2);
    /* No usable table: the start markers tell. */
    build_encapsulated(&b, "2", 3, wrong, 2, "\xFF\xD8\xFF\x01....\xFF\xD8\xFF\x02");
    expect_frames(&b, (uint32_t[]){0, 2, 3}, 3);
    build_encapsulated(&b, "2", 3, NULL, 0, "............");
    expect_file_refused(&b, MF_ERR_MALFORMED,
                        "part 1: 3 fragments cannot be assigned to 2 frames: the offset table is "
                        "missing");
    build_encapsulated(&b, "3", 2, NULL, 0, "....");
    expect_file_refused(&b, MF_ERR_MALFORMED, "part 1: truncated: 3 frames in 2 fragments");
}

/* An encapsulated object of two frames with this extended offset table (PS3.3 C.7.6.3.1.8) over
 * fragments of 4 bytes, in `syntax`. */
static void build_extended(struct builder *b, const uint64_t *table, size_t entries, int fragments,
                           const char *content)
{
    build_start(b, JPEG_BASELINE);
    build_string(b, TAG(0x0028, 0x0008), "IS", "2");
    build_image(b, 4, 4, 8);
    build_header(b, TAG(0x7FE0, 0x0001), "OV", (int64_t)entries * 8);
    build_bytes(b, table, entries * 8);
    build_header(b, TAG(0x7FE0, 0x0010), "OB", UNDEFINED_LENGTH);
    build_item(b, TAG(0xFFFE, 0xE000), 0);
    for (int i = 0; i < fragments; i++) {
        build_item(b, TAG(0xFFFE, 0xE000), 8);
        build_bytes(b, content + 8 * i, 8);
    }
    build_item(b, TAG(0xFFFE, 0xE0DD), 0);
}

/* Extended offsets are believed where they meet fragments and ascend; else start markers of the
 * codestreams are looked for, of each kind. */
static void extended_offsets_and_markers(void **state)
{
    (void)state;
    static const char NOTHING[] = "........................";
    static const char J2K[] = "\xFF\x4F\xFF\x51....--------\xFF\x4F\xFF\x51....";
    static const char JP2[] = "\0\0\0\14jP  --------\0\0\0\14jP  ";
    struct builder b;
    build_extended(&b, (uint64_t[]){0, 32}, 2, 3, NOTHING);
    expect_frames(&b, (uint32_t[]){0, 2, 3}, 3);
    static const struct {
        uint64_t table[3];
        size_t entries;
    } wrong[] = {{{0, 0}, 2}, {{0, 33}, 2}, {{16, 32}, 2}, {{0, 320}, 2}, {{0, 16, 32}, 3}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        build_extended(&b, wrong[i].table, wrong[i].entries, 3, J2K);
        expect_frames(&b, (uint32_t[]){0, 2, 3}, 3);
        build_extended(&b, wrong[i].table, wrong[i].entries, 3, NOTHING);
        expect_file_refused(&b, MF_ERR_MALFORMED,
                            "part 1: 3 fragments cannot be assigned to 2 frames: the offset table "
                            "is missing");
    }
    build_extended(&b, wrong[0].table, 2, 3, JP2);
    expect_frames(&b, (uint32_t[]){0, 2, 3}, 3);
    static const char *const refused[] = {
        "........\xFF\xD8\xFF.....\xFF\xD8\xFF.....",          /* not from the first on */
        "\xFF\xD8\xFF.....\xFF\xD8\xFF.....\xFF\xD8\xFF.....", /* more than frames */
        "\xFF\xD8\xFF.....................",                   /* fewer */
    };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        build_extended(&b, wrong[0].table, 2, 3, refused[i]);
        expect_file_refused(&b, MF_ERR_MALFORMED,
                            "part 1: 3 fragments cannot be assigned to 2 frames: the offset table "
                            "is missing");
    }
    build_start(&b, JPEG_BASELINE); /* fragments too short for any marker */
    build_string(&b, TAG(0x0028, 0x0008), "IS", "2");
    build_image(&b, 4, 4, 8);
    build_header(&b, TAG(0x7FE0, 0x0010), "OB", UNDEFINED_LENGTH);
    for (int i = 0; i < 4; i++) {
        build_item(&b, TAG(0xFFFE, 0xE000), i ? 2 : 0);
        build_bytes(&b, "..", i ? 2 : 0);
    }
    build_item(&b, TAG(0xFFFE, 0xE0DD), 0);
    expect_file_refused(&b, MF_ERR_MALFORMED,
                        "part 1: 3 fragments cannot be assigned to 2 frames: the offset table is "
                        "missing");
    build_extended(&b, NULL, 0, 0, NOTHING);
    expect_file_refused(&b, MF_ERR_MALFORMED, "part 1: the pixel data has no fragments");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dimensions_and_length_must_agree),
        cmocka_unit_test(odd_images_have_a_problem),
        cmocka_unit_test(video_is_an_unsupported_transfer_syntax),
        cmocka_unit_test(objects_without_pixels_are_objects),
        cmocka_unit_test(float_pixels_have_their_own_width),
        cmocka_unit_test(colour_images_that_are_not),
        cmocka_unit_test(wide_palettes_and_missing_columns),
        cmocka_unit_test(fragments_are_assigned_to_frames),
        cmocka_unit_test(extended_offsets_and_markers),
    };
    return cmocka_run_group_tests_name("dicom/image", tests, start, NULL);
}
