/* dicom/collect.c: the attributes of an object that the index keeps. */
#include "tests/dicom/scan_expect.h"

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

static void texts_lose_what_does_not_belong(void **state)
{
    (void)state;
    struct builder b;
    build_start(&b, EXPLICIT_LE);
    build_string(&b, TAG(0x0008, 0x0005), "CS", "ISO_IR 100");
    build_string(&b, TAG(0x0008, 0x0060), "CS", "  D\x7FX  ");
    build_string(&b, TAG(0x0010, 0x0020), "LO",
                 "A\x1B"
                 "B");
    build_string(&b, TAG(0x0018, 0x0015), "CS", "C\xE4");
    build_string(&b, TAG(0x0018, 0x5101), "CS", "\x1BL");
    build_string(&b, TAG(0x0020, 0x000D), "UI", "");
    MF_AUTO(mf_index) struct mf_index *index = scan_file(&b);
    const struct mf_index_object *o = &index->objects[0];
    assert_string_equal(o->modality, "DX");
    assert_string_equal(o->patient_id, "AB");
    assert_string_equal(o->body_part, "C?");
    assert_string_equal(o->view_position, "?L");
    assert_null(o->study_instance_uid);
}

/* 255 bytes are kept: of codes exactly, of texts whole characters. */
static void overlong_values_are_cut_between_characters(void **state)
{
    (void)state;
    char code[1200], text[601];
    memset(code, 'A', sizeof code - 1);
    code[sizeof code - 1] = '\0';
    for (size_t i = 0; i + 1 < sizeof text; i += 2)
        memcpy(text + i, "\xC3\xBC", 3);
    struct builder b;
    build_start(&b, EXPLICIT_LE);
    build_string(&b, TAG(0x0008, 0x0005), "CS", "ISO_IR 192");
    build_string(&b, TAG(0x0008, 0x0060), "CS", code);
    build_string(&b, TAG(0x0010, 0x0020), "LO", text);
    MF_AUTO(mf_index) struct mf_index *index = scan_file(&b);
    assert_int_equal(strlen(index->objects[0].modality), 255);
    assert_int_equal(strlen(index->objects[0].patient_id), 254);
    assert_memory_equal(index->objects[0].patient_id, text, 254);
}

static void numbers_of_every_odd_form(void **state)
{
    (void)state;
    struct builder b;
    build_start(&b, EXPLICIT_LE);
    build_string(&b, TAG(0x0020, 0x0011), "IS", "7 ");
    build_string(&b, TAG(0x0020, 0x0013), "IS", "1e300"); /* no whole number of 64 bits */
    build_header(&b, TAG(0x0028, 0x0002), "US", 0);
    build_string(&b, TAG(0x0028, 0x0008), "IS", "1e300");
    build_u16(&b, TAG(0x0028, 0x0010), 4);
    build_u16(&b, TAG(0x0028, 0x0011), 4);
    build_header(&b, TAG(0x0028, 0x0100), "US", 4); /* two values: the first counts */
    build_bytes(&b, "\10\0\20\0", 4);
    build_string(&b, TAG(0x0028, 0x1050), "DS", "e");
    build_string(&b, TAG(0x0028, 0x1051), "DS", "1e999");
    build_string(&b, TAG(0x0028, 0x1052), "DS", "-1000");
    build_pixels(&b, 16);
    MF_AUTO(mf_index) struct mf_index *index = scan_file(&b);
    const struct mf_index_object *o = &index->objects[0];
    assert_int_equal(o->series_number, 7);
    assert_int_equal(o->instance_number, 0);
    assert_int_equal(o->samples_per_pixel, 1);
    assert_int_equal(o->frames, 1);
    assert_int_equal(o->bits_allocated, 8);
    assert_false(o->has_window);
    assert_true(o->window_center == 0 && o->intercept == -1000 && o->slope == 1);
    build_start(&b, EXPLICIT_LE);
    build_header(&b, TAG(0x0028, 0x0100), "US", 3);
    build_bytes(&b, "\10\0\0", 3);
    expect_file_refused(&b, MF_ERR_MALFORMED, "part 1: bits_allocated has 3 bytes, not 2");
}

/* Pixel Padding Value of two bytes, or of four as some write it; others count as absent. */
static void padding_in_every_width(void **state)
{
    (void)state;
    static const struct {
        const char *syntax, *vr, *raw;
        uint16_t length, representation;
        int64_t want;
    } cases[] = {
        {EXPLICIT_LE, "US", "\xFE\xFF", 2, 0, 65534},
        {EXPLICIT_LE, "SS", "\xFE\xFF", 2, 1, -2},
        {EXPLICIT_LE, "SL", "\xFE\xFF\xFF\xFF", 4, 1, -2},
        {EXPLICIT_LE, "UL", "\x02\x00\x01\x80", 4, 0, 2147549186},
        {EXPLICIT_BE, "UL", "\x80\x01\x00\x02", 4, 0, 2147549186},
        {EXPLICIT_BE, "SL", "\xFF\xFF\xFF\xFE", 4, 1, -2},
        {EXPLICIT_LE, "US", "\1\1\1\1\1\1", 6, 0, -999},
        {EXPLICIT_LE, "US", "", 0, 0, -999},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (uint32_t limit = 0; limit < 2; limit++) {
            struct builder b;
            build_start(&b, cases[i].syntax);
            build_image(&b, 4, 4, 8);
            build_u16(&b, TAG(0x0028, 0x0103), cases[i].representation);
            build_header(&b, TAG(0x0028, 0x0120 + limit), cases[i].vr, cases[i].length);
            build_bytes(&b, cases[i].raw, cases[i].length);
            build_pixels(&b, 16);
            MF_AUTO(mf_index) struct mf_index *index = scan_file(&b);
            const struct mf_index_object *o = &index->objects[0];
            bool has = limit ? o->has_padding_limit : o->has_padding;
            assert_int_equal(has, cases[i].want != -999);
            assert_false(limit ? o->has_padding : o->has_padding_limit);
            if (has)
                assert_int_equal(limit ? o->padding_limit : o->padding, cases[i].want);
        }
}

/* An item of `sequence` with one value; closed again. */
static void build_in_item(struct builder *b, uint32_t tag, const char *vr, const char *value)
{
    build_item(b, TAG(0xFFFE, 0xE000), UNDEFINED_LENGTH);
    build_string(b, tag, vr, value);
    build_item(b, TAG(0xFFFE, 0xE00D), 0);
}

/* Only the first item of View Code Sequence, and of it only the code, is a view. */
static void views_come_from_the_first_code(void **state)
{
    (void)state;
    struct builder b;
    build_start(&b, EXPLICIT_LE);
    build_header(&b, TAG(0x0054, 0x0220), "SQ", UNDEFINED_LENGTH);
    build_in_item(&b, TAG(0x0008, 0x0104), "LO", "399348003");
    build_in_item(&b, TAG(0x0008, 0x0100), "SH", "399348003");
    build_item(&b, TAG(0xFFFE, 0xE0DD), 0);
    MF_AUTO(mf_index) struct mf_index *index = scan_file(&b);
    assert_null(index->objects[0].view_position);
}

/* The order comes from the first item of Request Attributes Sequence; what the image itself says of
 * the accession goes before. */
static void orders_come_from_the_first_request(void **state)
{
    (void)state;
    for (int accession = 0; accession < 2; accession++) {
        struct builder b;
        build_start(&b, EXPLICIT_LE);
        build_string(&b, TAG(0x0008, 0x0050), "SH", accession ? "own" : NULL);
        build_header(&b, TAG(0x0040, 0x0275), "SQ", UNDEFINED_LENGTH);
        build_item(&b, TAG(0xFFFE, 0xE000), UNDEFINED_LENGTH);
        build_string(&b, TAG(0x0008, 0x0050), "SH", "request's");
        build_string(&b, TAG(0x0008, 0x0060), "CS", "MR"); /* not of the order */
        build_string(&b, TAG(0x0032, 0x1060), "LO", "Chest");
        build_string(&b, TAG(0x0040, 0x0009), "SH", "step");
        build_string(&b, TAG(0x0040, 0x1001), "SH", "procedure");
        build_string(&b, TAG(0x0040, 0x2016), "LO", "placer");
        build_string(&b, TAG(0x0040, 0x2017), "LO", "filler");
        build_item(&b, TAG(0xFFFE, 0xE00D), 0);
        build_in_item(&b, TAG(0x0040, 0x1001), "SH", "another");
        build_item(&b, TAG(0xFFFE, 0xE0DD), 0);
        MF_AUTO(mf_index) struct mf_index *index = scan_file(&b);
        const struct mf_index_object *o = &index->objects[0];
        assert_string_equal(o->accession_number, accession ? "own" : "request's");
        assert_string_equal(o->requested_procedure, "Chest");
        assert_string_equal(o->scheduled_step_id, "step");
        assert_string_equal(o->requested_procedure_id, "procedure");
        assert_string_equal(o->placer_order, "placer");
        assert_string_equal(o->filler_order, "filler");
        assert_null(o->modality);
    }
}

/* An icon in fragments has no value that could be an attribute. */
static void icons_in_fragments_are_not_looked_at(void **state)
{
    (void)state;
    struct builder b;
    build_start(&b, JPEG_BASELINE);
    build_header(&b, TAG(0x0088, 0x0200), "SQ", UNDEFINED_LENGTH);
    build_item(&b, TAG(0xFFFE, 0xE000), UNDEFINED_LENGTH);
    build_u16(&b, TAG(0x0028, 0x0010), 64);
    build_header(&b, TAG(0x7FE0, 0x0010), "OB", UNDEFINED_LENGTH);
    build_item(&b, TAG(0xFFFE, 0xE000), 0);
    build_item(&b, TAG(0xFFFE, 0xE0DD), 0);
    build_item(&b, TAG(0xFFFE, 0xE00D), 0);
    build_item(&b, TAG(0xFFFE, 0xE0DD), 0);
    MF_AUTO(mf_index) struct mf_index *index = scan_file(&b);
    assert_int_equal(index->objects[0].pixel_data, MF_PIXEL_DATA_NONE);
    assert_int_equal(index->objects[0].rows, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attributes_are_collected),
        cmocka_unit_test(coded_views_become_view_positions),
        cmocka_unit_test(texts_become_utf8),
        cmocka_unit_test(control_characters_and_overlong_values_are_cut),
        cmocka_unit_test(uids_are_checked),
        cmocka_unit_test(numbers_that_are_none_count_as_absent),
        cmocka_unit_test(texts_lose_what_does_not_belong),
        cmocka_unit_test(overlong_values_are_cut_between_characters),
        cmocka_unit_test(numbers_of_every_odd_form),
        cmocka_unit_test(padding_in_every_width),
        cmocka_unit_test(views_come_from_the_first_code),
        cmocka_unit_test(orders_come_from_the_first_request),
        cmocka_unit_test(icons_in_fragments_are_not_looked_at),
    };
    return cmocka_run_group_tests_name("dicom/collect", tests, start, NULL);
}
