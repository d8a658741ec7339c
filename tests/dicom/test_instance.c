/* dicom/instance.c, dicom/part10.c, dicom/dcmtk_metadata.cpp: what is kept of an object. */
#include "dicom/instance.h"

#include "builder.h"
#include "core/json.h"
#include "dicom/dicom.h"
#include "dicom/metadata.h"
#include "dicom/part10.h"
#include "tests/expect.h"

#include <inttypes.h>
#include <math.h>

static const struct build_object OBJECT = {.modality = "DX",
                                           .view = "PA",
                                           .patient = "P1",
                                           .date = "20200131",
                                           .study = 1,
                                           .series = 2,
                                           .instance = 3,
                                           .sop_class = "1.2.840.10008.5.1.4.1.1.1.1"};

static void an_object_is_described(void **state)
{
    struct builder b;
    struct mf_instance in, back;
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(0);
    (void)state;
    build_simple(&b, &OBJECT);
    if (!mf_instance_read(b.bytes.data, b.bytes.len, arena, &in, &err))
        fail_msg("%s", err.msg);
    assert_string_equal(in.values[MF_PATIENT_ID], "P1");
    assert_string_equal(in.values[MF_MODALITY], "DX");
    assert_string_equal(in.values[MF_STUDY_DATE], "20200131");
    assert_string_equal(in.values[MF_ROWS], "4");
    assert_string_equal(in.transfer_syntax, EXPLICIT_LE);
    assert_int_equal(in.data_set, b.data_set);
    assert_null(in.values[MF_STUDY_DESCRIPTION]);
    MF_AUTO(mf_json) json_t *json = mf_instance_to_json(&in);
    assert_true(mf_instance_from_json(json, arena, &back, &err));
    for (int i = 0; i < MF_ATTRIBUTE_COUNT; i++) {
        assert_int_equal(in.values[i] == NULL, back.values[i] == NULL);
        if (in.values[i])
            assert_string_equal(in.values[i], back.values[i]);
    }
    build_free(&b);
}

static void text_is_utf8_in_every_encoding(void **state)
{
    static const char *const syntaxes[] = {EXPLICIT_LE, IMPLICIT_LE, EXPLICIT_BE, DEFLATED_LE};
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(0);
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        struct builder b;
        struct mf_instance in;
        struct mf_error err = MF_ERROR_INIT;
        build_start(&b, syntaxes[i]);
        build_string(&b, TAG(0x0008, 0x0005), "CS", "ISO_IR 100");
        build_string(&b, TAG(0x0008, 0x0016), "UI", "1.2");
        build_string(&b, TAG(0x0008, 0x0018), "UI", "1.3");
        build_string(&b, TAG(0x0010, 0x0010), "PN", "M\xFCller^A");
        build_string(&b, TAG(0x0020, 0x000D), "UI", "1.4");
        build_string(&b, TAG(0x0020, 0x000E), "UI", "1.5");
        build_u16(&b, TAG(0x0028, 0x0010), 513);
        build_finish(&b);
        if (!mf_instance_read(b.bytes.data, b.bytes.len, arena, &in, &err))
            fail_msg("%s: %s", syntaxes[i], err.msg);
        assert_string_equal(in.values[MF_PATIENT_NAME], "M\xC3\xBCller^A");
        assert_string_equal(in.values[MF_ROWS], "513");
        build_free(&b);
    }
}

static void objects_without_their_uids_are_refused(void **state)
{
    static const struct {
        uint32_t left_out;
        const char *value, *detail;
    } cases[] = {
        {TAG(0x0008, 0x0016), NULL, "the object has no SOPClassUID"},
        {TAG(0x0008, 0x0018), NULL, "the object has no SOPInstanceUID"},
        {TAG(0x0020, 0x000D), NULL, "the object has no StudyInstanceUID"},
        {TAG(0x0020, 0x000E), "../1", "SeriesInstanceUID is not a UID"},
    };
    static const uint32_t uids[] = {TAG(0x0008, 0x0016), TAG(0x0008, 0x0018), TAG(0x0020, 0x000D),
                                    TAG(0x0020, 0x000E)};
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(0);
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        struct builder b;
        struct mf_instance in;
        struct mf_error err = MF_ERROR_INIT;
        build_start(&b, EXPLICIT_LE);
        for (size_t k = 0; k < 4; k++)
            if (uids[k] != cases[i].left_out || cases[i].value)
                build_string(&b, uids[k], "UI",
                             uids[k] == cases[i].left_out ? cases[i].value : "1.2");
        build_finish(&b);
        assert_false(mf_instance_read(b.bytes.data, b.bytes.len, arena, &in, &err));
        assert_error(&err, MF_ERR_MALFORMED, cases[i].detail);
        build_free(&b);
    }
}

static void images_in_a_syntax_that_is_not_decoded_are_refused(void **state)
{
    static const struct {
        const char *uid, *name;
    } cases[] = {{"1.2.840.10008.1.2.4.100", "MPEG2 Main Profile / Main Level"},
                 {"1.2.840.10008.1.2.4.110", "JPEG XL Lossless"},
                 {"1.2.840.10008.1.2.4.111", "JPEG XL JPEG Recompression"},
                 {"1.2.840.10008.1.2.4.112", "JPEG XL"}};
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(0);
    (void)state;
    for (size_t i = 0; i < 2 * sizeof cases / sizeof *cases; i++) {
        struct builder b;
        struct mf_instance in;
        struct mf_error err = MF_ERROR_INIT;
        char detail[128];
        build_start(&b, cases[i / 2].uid);
        build_identity(&b, &OBJECT);
        if (i % 2) { /* without an image there is nothing to decode */
            build_header(&b, TAG(0x7FE0, 0x0010), "OB", UNDEFINED_LENGTH);
            build_item(&b, TAG(0xFFFE, 0xE000), 0);
            build_item(&b, TAG(0xFFFE, 0xE000), 4);
            build_bytes(&b, "\xFF\x0A\0\0", 4);
            build_item(&b, TAG(0xFFFE, 0xE0DD), 0);
        }
        build_finish(&b);
        assert_int_equal(mf_instance_read(b.bytes.data, b.bytes.len, arena, &in, &err), i % 2 == 0);
        snprintf(detail, sizeof detail, "images in the transfer syntax %s are not read",
                 cases[i / 2].name);
        if (i % 2)
            assert_error(&err, MF_ERR_UNSUPPORTED, detail);
        build_free(&b);
    }
}

static void attributes_are_found_by_tag_and_keyword(void **state)
{
    (void)state;
    assert_int_equal(mf_attribute_find("0020000D"), MF_STUDY_UID);
    assert_int_equal(mf_attribute_find("0020000d"), MF_STUDY_UID);
    assert_int_equal(mf_attribute_find("PatientName"), MF_PATIENT_NAME);
    assert_int_equal(mf_attribute_find("patientname"), -1);
    assert_int_equal(mf_attribute_find("00200099"), -1);
    assert_int_equal(mf_attribute_find(""), -1);
}

/* A header of ours before a data set makes a file that our own reader and DCMTK read. */
static void a_data_set_from_the_network_becomes_a_file(void **state)
{
    const struct mf_part10 meta = {"1.2.840.10008.5.1.4.1.1.1.1", "1.3", EXPLICIT_LE, "SENDER"};
    struct builder b;
    struct mf_instance in;
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(0);
    MF_AUTO(mf_buffer) struct mf_buffer file, json;
    (void)state;
    mf_buffer_init(&file, 100000);
    mf_buffer_init(&json, 100000);
    build_simple(&b, &OBJECT);
    assert_true(mf_part10_header(&meta, &file, &err));
    size_t header = file.len;
    assert_int_equal(header % 2, 0);
    static const char nothing[128];
    assert_memory_equal(file.data, nothing, sizeof nothing);
    assert_memory_equal(file.data + 128, "DICM", 4);
    assert_true(mf_buffer_append(&file, b.bytes.data + b.data_set, b.bytes.len - b.data_set, &err));
    if (!mf_instance_read(file.data, file.len, arena, &in, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(in.data_set, header);
    assert_true(mf_metadata_json(file.data, file.len, &json, &err));
    build_free(&b);
}

static void metadata_is_dicom_json_without_pixels(void **state)
{
    struct builder b;
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_buffer) struct mf_buffer text;
    (void)state;
    mf_buffer_init(&text, 100000);
    build_simple(&b, &OBJECT);
    if (!mf_metadata_json(b.bytes.data, b.bytes.len, &text, &err))
        fail_msg("%s", err.msg);
    MF_AUTO(mf_json) json_t *json = mf_json_parse(text.data, text.len, NULL, "metadata", &err);
    assert_non_null(json);
    assert_json(json_object_get(json, "00100020"), "{\"vr\":\"LO\",\"Value\":[\"P1\"]}");
    assert_json(json_object_get(json, "00280010"), "{\"vr\":\"US\",\"Value\":[4]}");
    assert_null(json_object_get(json, "7FE00010"));
    assert_null(json_object_get(json, "00020010"));
    assert_false(mf_metadata_json(b.bytes.data, b.bytes.len - 3, &text, &err));
    assert_int_equal(err.code, MF_ERR_MALFORMED);
    build_free(&b);
}

/* (0018,605A) Table of Parameter Values, FL, any number of values. */
static void metadata_has_null_for_what_is_no_finite_number(void **state)
{
    static const float VALUES[] = {1.5F, NAN, INFINITY, -INFINITY, -NAN, -2.0F};
    struct builder b;
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_buffer) struct mf_buffer text;
    (void)state;
    mf_buffer_init(&text, 100000);
    build_start(&b, EXPLICIT_LE);
    build_string(&b, TAG(0x0010, 0x0020), "LO", "inf nan \"nan, -inf");
    build_header(&b, TAG(0x0018, 0x605A), "FL", sizeof VALUES);
    build_bytes(&b, VALUES, sizeof VALUES);
    if (!mf_metadata_json(b.bytes.data, b.bytes.len, &text, &err))
        fail_msg("%s", err.msg);
    MF_AUTO(mf_json) json_t *json = mf_json_parse(text.data, text.len, NULL, "metadata", &err);
    assert_non_null(json);
    assert_json(json_object_get(json, "00100020"),
                "{\"vr\":\"LO\",\"Value\":[\"inf nan \\\"nan, -inf\"]}");
    assert_json(json_object_get(json, "0018605A"),
                "{\"vr\":\"FL\",\"Value\":[1.5,null,null,null,null,-2]}");
    build_free(&b);
}

/* The text of a number is not JSON's in DICOM: what the metadata of one element then is. */
static void metadata_of_numbers_in_text_is_json(void **state)
{
    static const struct {
        uint32_t tag;
        const char *vr, *value, *expected;
    } cases[] = {
        {TAG(0x0018, 0x0050), "DS", "+5\\-+5\\.5\\-.5", "[5,\"-+5\",0.5,-0.5]"},
        {TAG(0x0018, 0x0050), "DS", "01\\-00.5\\00\\-0", "[1,-0.5,0,0]"},
        {TAG(0x0018, 0x0050), "DS", "1.\\-1.\\5.e3\\5.E+3", "[1.0,-1.0,5000.0,5000.0]"},
        {TAG(0x0018, 0x0050), "DS", "1e999\\-1e999\\1e-999", "[\"1e999\",\"-1e999\",0.0]"},
        {TAG(0x0018, 0x0050), "DS", "0e999\\-0E5\\00.e1", "[0.0,-0.0,0.0]"},
        {TAG(0x0018, 0x0050), "DS", "nan\\inf\\-inf\\.\\-",
         "[\"nan\",\"inf\",\"-inf\",\".\",\"-\"]"},
        {TAG(0x0018, 0x0050), "DS", "0x10\\1,5\\1\"2\\a]", "[\"0x10\",\"1,5\",\"1\\\"2\",\"a]\"]"},
        {TAG(0x0018, 0x0050), "DS", "99999999999999999999", "[\"99999999999999999999\"]"},
        {TAG(0x0020, 0x0013), "IS", "+5\\01\\\\1.\\.5", "[5,1,null,\"1.\",\".5\"]"},
        {TAG(0x0020, 0x0013), "IS", "99999999999999999999\\1e5",
         "[\"99999999999999999999\",\"1e5\"]"},
        {TAG(0x0008, 0x1030), "LO", "1.\\nan\\a\"b", "[\"1.\",\"nan\",\"a\\\"b\"]"},
        {TAG(0x0008, 0x040C), "UV", "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
         "[\"18446744073709551615\"]"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct builder b;
        struct mf_error err = MF_ERROR_INIT;
        MF_AUTO(mf_buffer) struct mf_buffer text;
        mf_buffer_init(&text, 100000);
        build_start(&b, EXPLICIT_LE);
        build_string(&b, cases[i].tag, cases[i].vr, cases[i].value);
        if (!mf_metadata_json(b.bytes.data, b.bytes.len, &text, &err))
            fail_msg("%s: %s", cases[i].value, err.msg);
        MF_AUTO(mf_json) json_t *json = mf_json_parse(text.data, text.len, NULL, "metadata", &err);
        if (!json)
            fail_msg("%s: %s", cases[i].value, text.data);
        char key[9];
        snprintf(key, sizeof key, "%08" PRIX32, cases[i].tag);
        assert_json(json_object_get(json_object_get(json, key), "Value"), cases[i].expected);
        build_free(&b);
    }
}

/* All texts of 1 to 4 characters that look like numbers, as the values of one element. */
static void metadata_of_everything_like_a_number_is_json(void **state)
{
    static const char LETTERS[] = "0-+.e1", *const VRS[] = {"DS", "IS"};
    (void)state;
    for (size_t v = 0; v < 2; v++) {
        struct builder b;
        char values[8000];
        size_t len = 0, count = 0;
        struct mf_error err = MF_ERROR_INIT;
        MF_AUTO(mf_buffer) struct mf_buffer text;
        for (size_t digits = 1, all = 6; digits <= 4; digits++, all *= 6)
            for (size_t k = 0; k < all; k++, count++) {
                for (size_t i = 0, rest = k; i < digits; i++, rest /= 6)
                    values[len++] = LETTERS[rest % 6];
                values[len++] = '\\';
            }
        values[--len] = '\0';
        mf_buffer_init(&text, 100000);
        build_start(&b, EXPLICIT_LE);
        build_string(&b, TAG(0x0018, 0x0050), VRS[v], values);
        if (!mf_metadata_json(b.bytes.data, b.bytes.len, &text, &err))
            fail_msg("%s", err.msg);
        MF_AUTO(mf_json) json_t *json = mf_json_parse(text.data, text.len, NULL, "metadata", &err);
        assert_no_error(&err);
        const json_t *element = json_object_get(json, "00180050");
        assert_int_equal(json_array_size(json_object_get(element, "Value")), count);
        build_free(&b);
    }
}

/* Found by fuzzing: what the pre-scanner passes over, DCMTK takes for an element of 4 GB. */
static void metadata_of_elements_without_vr_is_refused(void **state)
{
    static const char data[] = "\x08\x00\x05\x00\x43\x53\x0a\x00\x49\x53\x4f\x5f\x49\x52\x20\x31"
                               "\x32\x37\x6e\x74\x00\xe0\x0a\x00\x00\x00\x08\x00\x00\x01\x55\x4e"
                               "\x02\x00\x41\x20\xf0\xff\x10\x00\x50\x4e\x0e\x00\x4d\xc3\xd8\x6c"
                               "\x6c\x65\x72\x5e\x26\x84\x6e\x6e\x65\x20\x10\x00\x20\x00\x4c\x4f"
                               "\x04\x00\x46\x2d\x32\x20\x20\x00\x0d\x00\x55\x49\x06\x00\x31\x2e"
                               "\x32\x2e\x33\x00\x20\x00\x08\x12\x49\x53\x02\x00\x33\x20";
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_buffer) struct mf_buffer file, json;
    const struct mf_part10 meta = {"1.2.840.10008.5.1.4.1.1.2", "2.25.1", EXPLICIT_LE, NULL};
    (void)state;
    mf_buffer_init(&file, 100000);
    mf_buffer_init(&json, 100000);
    assert_true(mf_part10_header(&meta, &file, NULL) &&
                mf_buffer_append(&file, data, sizeof data - 1, NULL));
    assert_false(mf_metadata_json(file.data, file.len, &json, &err));
    assert_error(&err, MF_ERR_MALFORMED,
                 "elements have no value representation: DCMTK would misread it");
}

/* Values padded with NUL, and bytes that are no UTF-8 under ISO_IR 192: peers' answers have both.
 */
static void metadata_of_broken_text_can_be_read(void **state)
{
    static const unsigned char data_set[] = "\x08\x00\x05\x00"
                                            "CS\x0A\x00"
                                            "ISO_IR 192"
                                            "\x08\x00\x20\x00"
                                            "DA\x0A\x00"
                                            "20240501\x00\x00"
                                            "\x08\x00\x30\x10"
                                            "LO\x08\x00"
                                            "a\xCE\\u0000"
                                            "\x20\x00\x08\x12"
                                            "IS\x02\x00\x00\x00";
    const struct mf_part10 meta = {"1.2.840.10008.5.1.4.1.2.2.1", "1.3", EXPLICIT_LE, NULL};
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_buffer) struct mf_buffer file, text;
    (void)state;
    mf_buffer_init(&file, 100000);
    mf_buffer_init(&text, 100000);
    assert_true(mf_part10_header(&meta, &file, &err) &&
                mf_buffer_append(&file, data_set, sizeof data_set - 1, &err));
    if (!mf_metadata_json(file.data, file.len, &text, &err))
        fail_msg("%s", err.msg);
    MF_AUTO(mf_json) json_t *json = mf_json_parse(text.data, text.len, NULL, "metadata", &err);
    assert_no_error(&err);
    assert_json(json_object_get(json, "00080020"), "{\"vr\":\"DA\",\"Value\":[\"20240501\"]}");
    assert_json(json_object_get(json, "00081030"),
                "{\"vr\":\"LO\",\"Value\":[\"a\xEF\xBF\xBD\",\"u0000\"]}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_object_is_described),
        cmocka_unit_test(text_is_utf8_in_every_encoding),
        cmocka_unit_test(objects_without_their_uids_are_refused),
        cmocka_unit_test(images_in_a_syntax_that_is_not_decoded_are_refused),
        cmocka_unit_test(attributes_are_found_by_tag_and_keyword),
        cmocka_unit_test(a_data_set_from_the_network_becomes_a_file),
        cmocka_unit_test(metadata_is_dicom_json_without_pixels),
        cmocka_unit_test(metadata_has_null_for_what_is_no_finite_number),
        cmocka_unit_test(metadata_of_numbers_in_text_is_json),
        cmocka_unit_test(metadata_of_everything_like_a_number_is_json),
        cmocka_unit_test(metadata_of_elements_without_vr_is_refused),
        cmocka_unit_test(metadata_of_broken_text_can_be_read),
    };
    return mf_dicom_init(NULL) ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
}
