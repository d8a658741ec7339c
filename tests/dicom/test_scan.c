/* dicom/scan.c, zip.c, collect.c, image.c, fragments.c: uploads, good and hostile. */
#include "dicom/scan.h"

#include "dicom/dicom.h"
#include "tests/dicom/builder.h"
#include "tests/expect.h"

static const struct build_object CHEST = {"DX",    "PA", "P1", "20190307", "102000",
                                          "CHEST", NULL, 1,    1,          1};

static void expect_refused(const void *data, size_t length, enum mf_code code, const char *message)
{
    struct mf_error err = MF_ERROR_INIT;
    assert_null(build_scan(data, length, NULL, &err));
    assert_error(&err, code, message);
}

static void expect_file_refused(struct builder *b, enum mf_code code, const char *message)
{
    expect_refused(b->bytes.data, b->bytes.len, code, message);
    build_free(b);
}

static struct mf_index *scan_file(struct builder *b)
{
    struct mf_error err = MF_ERROR_INIT;
    struct mf_index *index = build_scan(b->bytes.data, b->bytes.len, NULL, &err);
    assert_no_error(&err);
    assert_int_equal(index->object_count, 1);
    build_free(b);
    return index;
}

static void attributes_are_collected(void **state)
{
    (void)state;
    struct builder b;
    build_start(&b, EXPLICIT_LE);
    build_identity(&b, &CHEST);
    build_string(&b, TAG(0x0020, 0x0032), "DS", "1.5\\-2\\3e1");
    build_string(&b, TAG(0x0020, 0x0037), "DS", "1\\0\\0\\0\\1\\0");
    build_image(&b, 4, 4, 16);
    build_string(&b, TAG(0x0028, 0x0030), "DS", "0.5\\0.25");
    build_u16(&b, TAG(0x0028, 0x0120), 65535);
    build_string(&b, TAG(0x0028, 0x1050), "DS", "40\\400");
    build_string(&b, TAG(0x0028, 0x1051), "DS", "350\\2000");
    build_string(&b, TAG(0x0028, 0x1052), "DS", "-1024");
    build_string(&b, TAG(0x0028, 0x1053), "DS", "2");
    build_string(&b, TAG(0x0028, 0x1056), "CS", "SIGMOID");
    build_pixels(&b, 32);
    MF_AUTO(mf_index) struct mf_index *index = scan_file(&b);
    const struct mf_index_object *o = &index->objects[0];
    assert_string_equal(o->name, "part 1");
    assert_string_equal(o->modality, "DX");
    assert_string_equal(o->view_position, "PA");
    assert_string_equal(o->patient_id, "P1");
    assert_string_equal(o->study_date, "20190307");
    assert_string_equal(o->sop_instance_uid, "1.9.1.1.1");
    assert_string_equal(o->voi_function, "SIGMOID");
    assert_null(o->patient_sex);
    assert_int_equal(o->instance_number, 1);
    assert_int_equal(o->frames, 1);
    assert_int_equal(o->padding, 65535);
    assert_true(o->has_window && o->window_center == 40 && o->window_width == 350);
    assert_true(o->has_rescale && o->slope == 2 && o->intercept == -1024);
    assert_true(o->pixel_spacing[0] == 0.5 && o->pixel_spacing[1] == 0.25);
    assert_true(o->has_position && o->position[1] == -2 && o->position[2] == 30);
    assert_true(o->has_orientation && o->orientation[4] == 1);
    assert_null(o->problem);
}

/* View Code Sequence instead of, or beside, View Position; implicit VR too. */
static void coded_views_become_view_positions(void **state)
{
    (void)state;
    static const struct {
        const char *position, *code, *want;
    } cases[] = {{NULL, "399348003", "AP"}, {NULL, "R-10214", "PA"}, {NULL, "272479007", "PA"},
                 {NULL, "R-10236", "LL"},   {"PA", "R-10236", "PA"}, {NULL, "1234", NULL}};
    for (size_t i = 0; i < 2 * sizeof cases / sizeof *cases; i++) {
        struct builder b;
        size_t length = strlen(cases[i / 2].code), even = length + length % 2;
        build_start(&b, i % 2 ? IMPLICIT_LE : EXPLICIT_LE);
        build_string(&b, TAG(0x0018, 0x5101), "CS", cases[i / 2].position);
        build_header(&b, TAG(0x0054, 0x0220), "SQ", (int64_t)even + 16);
        build_item(&b, TAG(0xFFFE, 0xE000), (int64_t)even + 8);
        build_string(&b, TAG(0x0008, 0x0100), "SH", cases[i / 2].code);
        MF_AUTO(mf_index) struct mf_index *index = scan_file(&b);
        const char *got = index->objects[0].view_position;
        assert_string_equal(got ? got : "none", cases[i / 2].want ? cases[i / 2].want : "none");
    }
}

static void texts_become_utf8(void **state)
{
    (void)state;
    static const struct {
        const char *charset, *raw, *utf8;
    } cases[] = {
        {NULL, "P\xE4", "P\xEF\xBF\xBD"},
        {"ISO_IR 100", "M\xFCller", "M\xC3\xBCller"},
        {"ISO_IR 192", "M\xC3\xBCller", "M\xC3\xBCller"},
        {"ISO_IR 192", "bad\xC3", "bad\xEF\xBF\xBD"},
        {"ISO_IR 144", "\xBF\xE0", "\xD0\x9F\xD1\x80"},
        {"GB18030", "\xCD\xF5", "\xE7\x8E\x8B"},
        {"\\ISO 2022 IR 87", "\x1B$B;3\x1B(B", "\xE5\xB1\xB1"},
        {"NO SUCH SET", "P\xE4", "P\xEF\xBF\xBD"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct builder b;
        build_start(&b, EXPLICIT_LE);
        build_string(&b, TAG(0x0008, 0x0005), "CS", cases[i].charset);
        build_string(&b, TAG(0x0010, 0x0020), "LO", cases[i].raw);
        MF_AUTO(mf_index) struct mf_index *index = scan_file(&b);
        assert_string_equal(index->objects[0].patient_id, cases[i].utf8);
    }
}

static void control_characters_and_overlong_values_are_cut(void **state)
{
    (void)state;
    char longest[600];
    memset(longest, 'A', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    struct builder b;
    build_start(&b, EXPLICIT_LE);
    build_string(&b, TAG(0x0008, 0x0060), "CS", "D\r\nX");
    build_string(&b, TAG(0x0010, 0x0020), "LO", longest);
    MF_AUTO(mf_index) struct mf_index *index = scan_file(&b);
    assert_string_equal(index->objects[0].modality, "DX");
    assert_int_equal(strlen(index->objects[0].patient_id), 255);
}

static void uids_are_checked(void **state)
{
    (void)state;
    struct builder b;
    build_start(&b, EXPLICIT_LE);
    build_string(&b, TAG(0x0008, 0x0018), "UI", "1.2/../../etc");
    expect_file_refused(&b, MF_ERR_MALFORMED, "part 1: sop_instance_uid is not a UID");
    build_start(&b, EXPLICIT_LE);
    build_string(&b, TAG(0x0020, 0x000D), "UI",
                 "1.2.3.4.5.6.7.8.9.10.11.12.13.14.15.16.17.18.19.20.21.22.23.24.25.26.27");
    expect_file_refused(&b, MF_ERR_MALFORMED, "part 1: study_instance_uid is not a UID");
}

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

static void functional_groups_give_frames_their_geometry(void **state)
{
    (void)state;
    struct builder b;
    build_start(&b, EXPLICIT_LE);
    build_string(&b, TAG(0x0028, 0x0008), "IS", "2");
    build_image(&b, 4, 4, 8);
    build_header(&b, TAG(0x5200, 0x9229), "SQ", UNDEFINED_LENGTH);
    build_item(&b, TAG(0xFFFE, 0xE000), UNDEFINED_LENGTH);
    build_header(&b, TAG(0x0020, 0x9116), "SQ", UNDEFINED_LENGTH);
    build_item(&b, TAG(0xFFFE, 0xE000), UNDEFINED_LENGTH);
    build_string(&b, TAG(0x0020, 0x0037), "DS", "1\\0\\0\\0\\1\\0");
    for (int i = 0; i < 2; i++) {
        build_item(&b, TAG(0xFFFE, 0xE00D), 0);
        build_item(&b, TAG(0xFFFE, 0xE0DD), 0);
    }
    build_header(&b, TAG(0x5200, 0x9230), "SQ", UNDEFINED_LENGTH);
    for (int i = 0; i < 2; i++) {
        build_item(&b, TAG(0xFFFE, 0xE000), UNDEFINED_LENGTH);
        build_header(&b, TAG(0x0020, 0x9113), "SQ", UNDEFINED_LENGTH);
        build_item(&b, TAG(0xFFFE, 0xE000), UNDEFINED_LENGTH);
        build_string(&b, TAG(0x0020, 0x0032), "DS", i ? "0\\0\\5" : "0\\0\\2");
        build_item(&b, TAG(0xFFFE, 0xE00D), 0);
        build_item(&b, TAG(0xFFFE, 0xE0DD), 0);
        build_item(&b, TAG(0xFFFE, 0xE00D), 0);
    }
    build_item(&b, TAG(0xFFFE, 0xE0DD), 0);
    build_pixels(&b, 32);
    MF_AUTO(mf_index) struct mf_index *index = scan_file(&b);
    const struct mf_index_object *o = &index->objects[0];
    assert_true(o->has_orientation && o->orientation[4] == 1);
    assert_non_null(o->frame_groups);
    assert_true(o->frame_groups[0].has_position && o->frame_groups[0].position[2] == 2);
    assert_true(o->frame_groups[1].has_position && o->frame_groups[1].position[2] == 5);
}

static void more_objects_than_allowed(void **state)
{
    (void)state;
    struct builder b;
    struct mf_error err = MF_ERROR_INIT;
    const struct mf_scan_limits one = {.objects = 1};
    build_simple(&b, &CHEST);
    MF_AUTO(mf_fd) int fd = build_fd(b.bytes.data, b.bytes.len);
    const struct mf_scan_input inputs[2] = {{fd, 0, b.bytes.len}, {fd, 0, b.bytes.len}};
    assert_null(mf_scan(inputs, 2, &one, &err));
    assert_error(&err, MF_ERR_TOO_LARGE, "part 2: more than 1 objects in one request");
    build_free(&b);
}

static void only_regular_files_are_scanned(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    const struct mf_scan_input input = {.fd = ends[0], .length = 10};
    assert_null(mf_scan(&input, 1, NULL, &err));
    assert_error(&err, MF_ERR_IO, "part 1: not a regular file");
    close(ends[0]);
    close(ends[1]);
}

static void numbers_that_are_none_count_as_absent(void **state)
{
    (void)state;
    struct builder b;
    build_start(&b, EXPLICIT_LE);
    build_identity(&b, &CHEST);
    build_string(&b, TAG(0x0020, 0x0032), "DS", "1\\x\\3");
    build_image(&b, 4, 4, 8);
    build_string(&b, TAG(0x0028, 0x0030), "DS", "0x10\\1");
    build_string(&b, TAG(0x0028, 0x1051), "DS", "inf");
    build_string(&b, TAG(0x0028, 0x1053), "DS", "0");
    build_pixels(&b, 16);
    MF_AUTO(mf_index) struct mf_index *index = scan_file(&b);
    const struct mf_index_object *o = &index->objects[0];
    assert_false(o->has_position || o->has_window);
    assert_true(o->pixel_spacing[0] == 0 && o->slope == 1);
    build_start(&b, EXPLICIT_LE);
    build_header(&b, TAG(0x0028, 0x0100), "UL", 4);
    build_bytes(&b, "\10\0\0\0", 4);
    expect_file_refused(&b, MF_ERR_MALFORMED, "part 1: bits_allocated has 4 bytes, not 2");
}

/* ---- zips ---- */

static void expect_zip_refused(const struct build_member *members, size_t count, enum mf_code code,
                               const char *message)
{
    MF_AUTO(mf_buffer) struct mf_buffer zip;
    build_zip(&zip, members, count);
    expect_refused(zip.data, zip.len, code, message);
}

static void zips_are_opened_and_strangers_skipped(void **state)
{
    (void)state;
    struct builder b;
    MF_AUTO(mf_buffer) struct mf_buffer zip, inner;
    struct mf_error err = MF_ERROR_INIT;
    build_simple(&b, &CHEST);
    const struct build_member one[] = {{"a", "x", 1, false, 0, -1}};
    build_zip(&inner, one, 1);
    const struct build_member members[] = {
        {"study/", "", 0, false, 0, -1},
        {"study/a.dcm", b.bytes.data, b.bytes.len, true, 0, -1},
        {"README", "text for people, longer than a header", 37, true, 0, -1},
        {"b.dcm", b.bytes.data, b.bytes.len, false, 0, -1},
        {"inner.zip", inner.data, inner.len, false, 0, -1},
    };
    build_zip(&zip, members, 5);
    MF_AUTO(mf_index) struct mf_index *index = build_scan(zip.data, zip.len, NULL, &err);
    assert_no_error(&err);
    assert_int_equal(index->object_count, 2);
    assert_string_equal(index->objects[0].name, "part 1, member 1");
    assert_string_equal(index->objects[1].name, "part 1, member 3");
    assert_true(index->objects[0].layers[0].deflated);
    assert_false(index->objects[1].layers[0].deflated);
    assert_int_equal(index->objects[0].layers[0].size, b.bytes.len);
    assert_int_equal(index->skipped_count, 2);
    assert_string_equal(index->skipped[0].name, "part 1, member 2");
    assert_string_equal(index->skipped[0].reason, "not a DICOM file");
    assert_string_equal(index->skipped[1].reason, "a zip inside a zip is not opened");
    build_free(&b);
}

static void hostile_zips_are_refused(void **state)
{
    (void)state;
    struct builder b;
    build_simple(&b, &CHEST);
    const struct build_member good = {"a.dcm", b.bytes.data, b.bytes.len, true, 0, -1};
    static const char *const escapes[] = {"../a.dcm", "x/../../a", "/etc/passwd",
                                          "C:\\a",    "..",        "a\\..\\b"};
    for (size_t i = 0; i < sizeof escapes / sizeof *escapes; i++) {
        struct build_member pair[2] = {good, good};
        pair[1].name = escapes[i];
        expect_zip_refused(pair, 2, MF_ERR_MALFORMED,
                           "part 1: member 2: its name leads out of the zip");
    }
    struct build_member bad = good;
    bad.flags = 1;
    expect_zip_refused(&bad, 1, MF_ERR_UNSUPPORTED,
                       "part 1: member 1: encrypted zips are not read");
    bad = good;
    bad.deflate = false;
    bad.method = 12;
    expect_zip_refused(&bad, 1, MF_ERR_UNSUPPORTED,
                       "part 1: member 1: the zip's compression method 12 is not read");
    const struct build_member text = {"a.txt", "only text in this archive", 25, true, 0, -1};
    expect_zip_refused(&text, 1, MF_ERR_MALFORMED, "part 1: the zip holds no DICOM file");
    expect_refused("PK\3\4 and nothing more", 22, MF_ERR_MALFORMED,
                   "part 1: the zip is damaged or truncated");
    build_free(&b);
}

static void damaged_members_are_refused(void **state)
{
    (void)state;
    struct builder b;
    MF_AUTO(mf_buffer) struct mf_buffer zip;
    build_simple(&b, &CHEST);
    const struct build_member stored = {"a.dcm", b.bytes.data, b.bytes.len, false, 0, -1};
    build_zip(&zip, &stored, 1);
    zip.data[35 + b.bytes.len - 1] ^= 1; /* the last pixel */
    expect_refused(zip.data, zip.len, MF_ERR_MALFORMED,
                   "part 1, member 1: damaged: its CRC-32 differs");
    build_free(&b);
}

static void zip_bombs_and_crowds_are_refused(void **state)
{
    (void)state;
    struct builder b;
    MF_AUTO(mf_buffer) struct mf_buffer zip;
    struct mf_error err = MF_ERROR_INIT;
    build_start(&b, EXPLICIT_LE);
    build_image(&b, 8192, 8192, 8);
    build_header(&b, TAG(0x7FE0, 0x0010), "OB", 8192 * 8192);
    char *zeros = calloc(8192, 8192);
    build_bytes(&b, zeros, 8192 * 8192);
    free(zeros);
    const struct build_member bomb = {"a.dcm", b.bytes.data, b.bytes.len, true, 0, -1};
    build_zip(&zip, &bomb, 1);
    assert_null(build_scan(zip.data, zip.len, NULL, &err));
    assert_int_equal(err.code, MF_ERR_TOO_LARGE);
    assert_non_null(strstr(err.msg, "part 1, member 1: compressed data grows past "));
    build_free(&b);

    build_simple(&b, &CHEST);
    const struct build_member small = {"a.dcm", b.bytes.data, b.bytes.len, false, 0, -1};
    struct build_member crowd[6] = {small, small, small, small, small, small};
    MF_AUTO(mf_buffer) struct mf_buffer many;
    build_zip(&many, crowd, 6);
    const struct mf_scan_limits five = {.objects = 5};
    mf_error_clear(&err);
    assert_null(build_scan(many.data, many.len, &five, &err));
    assert_error(&err, MF_ERR_TOO_LARGE, "part 1: the zip has 6 members, at most 5 are read");
    build_free(&b);
}

static void inputs_share_a_descriptor(void **state)
{
    (void)state;
    struct builder a, b;
    struct build_object other = CHEST;
    other.instance = 2;
    build_simple(&a, &CHEST);
    build_simple(&b, &other);
    size_t first = a.bytes.len;
    build_bytes(&a, b.bytes.data, b.bytes.len);
    MF_AUTO(mf_fd) int fd = build_fd(a.bytes.data, a.bytes.len);
    const struct mf_scan_input inputs[2] = {{fd, 0, first}, {fd, first, b.bytes.len}};
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_index) struct mf_index *index = mf_scan(inputs, 2, NULL, &err);
    assert_no_error(&err);
    assert_int_equal(index->object_count, 2);
    assert_int_equal(index->objects[1].layers[0].range.offset, first);
    assert_int_equal(index->objects[1].input, 1);
    assert_string_equal(index->objects[1].name, "part 2");
    const struct mf_scan_input beyond = {fd, first, b.bytes.len + 1};
    assert_null(mf_scan(&beyond, 1, NULL, &err));
    assert_error(&err, MF_ERR_MALFORMED, "part 1: truncated: the payload ends before this part");
    build_free(&a);
    build_free(&b);
}

static void strangers_are_refused_or_skipped(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    const struct mf_scan_limits lenient = {.lenient = true};
    expect_refused("hello, world", 12, MF_ERR_MALFORMED, "part 1: not a DICOM file");
    expect_refused("", 0, MF_ERR_MALFORMED, "part 1: empty");
    MF_AUTO(mf_index) struct mf_index *index = build_scan("hello, world", 12, &lenient, &err);
    assert_no_error(&err);
    assert_int_equal(index->object_count, 0);
    assert_int_equal(index->skipped_count, 1);
}

static int start(void **state)
{
    (void)state;
    return mf_dicom_init(NULL) ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attributes_are_collected),
        cmocka_unit_test(coded_views_become_view_positions),
        cmocka_unit_test(texts_become_utf8),
        cmocka_unit_test(control_characters_and_overlong_values_are_cut),
        cmocka_unit_test(uids_are_checked),
        cmocka_unit_test(dimensions_and_length_must_agree),
        cmocka_unit_test(odd_images_have_a_problem),
        cmocka_unit_test(video_is_an_unsupported_transfer_syntax),
        cmocka_unit_test(objects_without_pixels_are_objects),
        cmocka_unit_test(fragments_are_assigned_to_frames),
        cmocka_unit_test(functional_groups_give_frames_their_geometry),
        cmocka_unit_test(more_objects_than_allowed),
        cmocka_unit_test(only_regular_files_are_scanned),
        cmocka_unit_test(numbers_that_are_none_count_as_absent),
        cmocka_unit_test(zips_are_opened_and_strangers_skipped),
        cmocka_unit_test(hostile_zips_are_refused),
        cmocka_unit_test(damaged_members_are_refused),
        cmocka_unit_test(zip_bombs_and_crowds_are_refused),
        cmocka_unit_test(inputs_share_a_descriptor),
        cmocka_unit_test(strangers_are_refused_or_skipped),
    };
    return cmocka_run_group_tests_name("dicom/scan", tests, start, NULL);
}
