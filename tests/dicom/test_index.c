/* dicom/index.c, index_read.c: the index survives JSON unchanged, and a changed one is refused. */
#include "dicom/index.h"

#include "dicom/decode.h"
#include "dicom/dicom.h"
#include "tests/dicom/builder.h"
#include "tests/expect.h"

static const struct build_object CHEST = {
    "DX", "PA", "P\xC3\xA4tient", "20190307", "102000", "CHEST", NULL, 1, 1, 1};

/* JSON text of an index with a native, an encapsulated and a pixel-free object. */
static json_t *sample_json(void)
{
    struct builder b[3];
    build_start(&b[0], EXPLICIT_LE);
    build_string(&b[0], TAG(0x0008, 0x0005), "CS", "ISO_IR 192");
    build_identity(&b[0], &CHEST);
    build_string(&b[0], TAG(0x0020, 0x0032), "DS", "1.25\\2\\3");
    build_image(&b[0], 4, 4, 8);
    build_u16(&b[0], TAG(0x0028, 0x0120), 255);
    build_string(&b[0], TAG(0x0028, 0x1050), "DS", "40");
    build_string(&b[0], TAG(0x0028, 0x1051), "DS", "400");
    build_pixels(&b[0], 16);
    build_start(&b[1], RLE_LOSSLESS);
    build_string(&b[1], TAG(0x0028, 0x0008), "IS", "2");
    build_image(&b[1], 4, 4, 8);
    build_header(&b[1], TAG(0x7FE0, 0x0010), "OB", UNDEFINED_LENGTH);
    for (int i = 0; i < 3; i++)
        build_item(&b[1], TAG(0xFFFE, 0xE000), 0);
    build_item(&b[1], TAG(0xFFFE, 0xE0DD), 0);
    build_start(&b[2], DEFLATED_LE);
    build_identity(&b[2], &CHEST);
    build_finish(&b[2]);
    struct mf_scan_input inputs[3];
    for (int i = 0; i < 3; i++)
        inputs[i] = (struct mf_scan_input){.fd = build_fd(b[i].bytes.data, b[i].bytes.len),
                                           .length = b[i].bytes.len};
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_index) struct mf_index *index = mf_scan(inputs, 3, NULL, &err);
    assert_no_error(&err);
    for (int i = 0; i < 3; i++) {
        close(inputs[i].fd);
        build_free(&b[i]);
    }
    json_t *json = mf_index_to_json(index);
    assert_non_null(json);
    return json;
}

static void json_gives_the_same_index_back(void **state)
{
    (void)state;
    MF_AUTO(mf_json) json_t *json = sample_json();
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_index) struct mf_index *index = mf_index_from_json(json, &err);
    assert_no_error(&err);
    assert_int_equal(index->object_count, 3);
    const struct mf_index_object *o = &index->objects[0];
    assert_string_equal(o->patient_id, "P\xC3\xA4tient");
    assert_true(o->has_position && o->position[0] == 1.25);
    assert_true(o->has_window && o->window_width == 400);
    assert_true(o->has_padding && o->padding == 255);
    assert_int_equal(index->objects[1].fragment_count, 2);
    assert_int_equal(index->objects[2].layer_count, 2);
    MF_AUTO(mf_json) json_t *again = mf_index_to_json(index);
    assert_true(json_equal(json, again));
}

/* An enhanced image with tables, frame geometry and everything optional. */
static void build_enhanced(struct builder *b)
{
    build_start(b, EXPLICIT_LE);
    build_identity(b, &CHEST);
    build_string(b, TAG(0x0018, 0x1164), "DS", "0.2\\0.2");
    build_string(b, TAG(0x0020, 0x0037), "DS", "1\\0\\0\\0\\1\\0");
    build_string(b, TAG(0x0028, 0x0008), "IS", "2");
    build_image(b, 4, 4, 8);
    build_u16(b, TAG(0x0028, 0x0120), 250);
    build_u16(b, TAG(0x0028, 0x0121), 255);
    build_string(b, TAG(0x0028, 0x1052), "DS", "-5");
    build_string(b, TAG(0x0028, 0x1053), "DS", "0.5");
    build_header(b, TAG(0x0028, 0x3000), "SQ", 8 + 8 + 6 + 12 + 4);
    build_item(b, TAG(0xFFFE, 0xE000), 8 + 6 + 12 + 4);
    build_header(b, TAG(0x0028, 0x3002), "SS", 6);
    build_bytes(b, "\2\0\xFE\xFF\20\0", 6);
    build_header(b, TAG(0x0028, 0x3006), "OW", 4);
    build_bytes(b, "\1\0\2\0", 4);
    build_header(b, TAG(0x5200, 0x9230), "SQ", UNDEFINED_LENGTH);
    for (int i = 0; i < 2; i++) {
        static const struct {
            uint32_t sequence, tag;
            const char *value;
        } groups[] = {
            {TAG(0x0020, 0x9113), TAG(0x0020, 0x0032), "1\\2\\3"},
            {TAG(0x0020, 0x9116), TAG(0x0020, 0x0037), "1\\0\\0\\0\\1\\0"},
            {TAG(0x0028, 0x9110), TAG(0x0028, 0x0030), "0.5\\0.5"},
            {TAG(0x0028, 0x9145), TAG(0x0028, 0x1053), "2"},
            {TAG(0x0028, 0x9132), TAG(0x0028, 0x1051), "400"},
        };
        build_item(b, TAG(0xFFFE, 0xE000), UNDEFINED_LENGTH);
        for (size_t k = 0; k < sizeof groups / sizeof *groups; k++) {
            build_header(b, groups[k].sequence, "SQ", UNDEFINED_LENGTH);
            build_item(b, TAG(0xFFFE, 0xE000), UNDEFINED_LENGTH);
            build_string(b, groups[k].tag, "DS", groups[k].value);
            build_item(b, TAG(0xFFFE, 0xE00D), 0);
            build_item(b, TAG(0xFFFE, 0xE0DD), 0);
        }
        build_item(b, TAG(0xFFFE, 0xE00D), 0);
    }
    build_item(b, TAG(0xFFFE, 0xE0DD), 0);
    build_pixels(b, 32);
}

static void everything_optional_survives_too(void **state)
{
    (void)state;
    struct builder b;
    MF_AUTO(mf_buffer) struct mf_buffer zip;
    struct mf_error err = MF_ERROR_INIT;
    build_enhanced(&b);
    const struct build_member members[] = {{"a.dcm", b.bytes.data, b.bytes.len, true, 0, -1},
                                           {"b.txt", "not DICOM at all", 16, false, 0, -1}};
    build_zip(&zip, members, 2);
    MF_AUTO(mf_index) struct mf_index *index = build_scan(zip.data, zip.len, NULL, &err);
    assert_no_error(&err);
    MF_AUTO(mf_json) json_t *json = mf_index_to_json(index);
    MF_AUTO(mf_index) struct mf_index *read = mf_index_from_json(json, &err);
    assert_no_error(&err);
    MF_AUTO(mf_json) json_t *again = mf_index_to_json(read);
    assert_true(json_equal(json, again));
    const struct mf_index_object *o = &read->objects[0];
    assert_int_equal(o->modality_lut.count, 2);
    assert_int_equal(o->modality_lut.first, -2);
    assert_int_equal(o->padding_limit, 255);
    assert_true(o->imager_pixel_spacing[1] == 0.2 && o->slope == 0.5 && o->intercept == -5);
    assert_true(o->frame_groups[1].has_spacing && o->frame_groups[1].spacing[0] == 0.5);
    assert_true(o->frame_groups[1].has_rescale && o->frame_groups[1].slope == 2);
    assert_true(o->frame_groups[1].has_window && o->frame_groups[1].width == 400);
    assert_true(o->frame_groups[1].has_orientation && o->frame_groups[0].position[2] == 3);
    assert_int_equal(read->skipped_count, 1);
    assert_string_equal(read->skipped[0].reason, "not a DICOM file");

    MF_AUTO(mf_fd) int fd = build_fd(zip.data, zip.len); /* and its frames decode from the zip */
    MF_AUTO(mf_frame) struct mf_frame f = {.owned = NULL};
    assert_true(mf_decode_frame(fd, o, 1, &f, &err));
    assert_int_equal(((const uint8_t *)f.samples)[0], 16);
    assert_int_equal(f.modality_lut.data[1], 2);
    assert_true(f.rescale_slope == 2 && f.window_width == 400 && f.position[0] == 1);
    assert_true(f.has_padding && f.padding_low == 250 && f.padding_high == 255);
    build_free(&b);
}

/* Deflated bytes that are not those of the index: refused, never more than the index says. */
static void changed_payloads_are_noticed(void **state)
{
    (void)state;
    struct builder b;
    MF_AUTO(mf_buffer) struct mf_buffer zip;
    struct mf_error err = MF_ERROR_INIT;
    struct mf_frame f;
    build_simple(&b, &CHEST);
    const struct build_member member = {"a.dcm", b.bytes.data, b.bytes.len, true, 0, -1};
    build_zip(&zip, &member, 1);
    MF_AUTO(mf_index) struct mf_index *index = build_scan(zip.data, zip.len, NULL, &err);
    MF_AUTO(mf_fd) int fd = build_fd(zip.data, zip.len);
    struct mf_index_object o = index->objects[0];
    o.layers[0].size += 100;
    assert_false(mf_decode_frame(fd, &o, 0, &f, &err));
    assert_error(&err, MF_ERR_MALFORMED, "compressed data differs from its index");
    mf_error_clear(&err);
    o.layers[0].size -= 200;
    assert_false(mf_decode_frame(fd, &o, 0, &f, &err));
    assert_int_equal(err.code, MF_ERR_TOO_LARGE);
    mf_error_clear(&err);
    o = index->objects[0];
    o.pixels.offset = 1 << 20;
    assert_false(mf_decode_frame(fd, &o, 0, &f, &err));
    assert_error(&err, MF_ERR_MALFORMED, "frame 0: a range of the index lies outside its object");
    build_free(&b);
}

/* Replaces the value at "objects[i].key" and reads the document. */
static void expect_refused_with(int object, const char *key, json_t *value, const char *message)
{
    MF_AUTO(mf_json) json_t *json = sample_json();
    struct mf_error err = MF_ERROR_INIT;
    json_t *o = json_array_get(json_object_get(json, "objects"), (size_t)object);
    if (value)
        json_object_set_new(o, key, value);
    else
        json_object_del(o, key);
    assert_null(mf_index_from_json(json, &err));
    assert_error(&err, MF_ERR_MALFORMED, message);
}

static void changed_values_are_refused(void **state)
{
    (void)state;
    expect_refused_with(0, "pixels", json_of("[0, 99999999]"),
                        "index: objects[0]: \"pixels\" is missing or wrong");
    expect_refused_with(0, "pixels", json_of("[-1, 16]"),
                        "index: objects[0]: \"pixels\" is missing or wrong");
    expect_refused_with(0, "pixels", json_of("[0, 15]"),
                        "index: objects[0]: truncated: the pixel data has 15 bytes, 4 x 4 x 1 "
                        "samples in 1 frame of 8 bits need 16");
    expect_refused_with(0, "rows", json_of("0"),
                        "index: objects[0]: the object has pixel data but no Rows");
    expect_refused_with(0, "rows", json_of("70000"),
                        "index: objects[0]: \"rows\" must be a whole number from 0 to 65535");
    expect_refused_with(0, "rows", json_of("\"4\""),
                        "index: objects[0]: \"rows\" must be a whole number from 0 to 65535");
    expect_refused_with(0, "transfer_syntax", json_of("\"1.2.3\""),
                        "index: objects[0]: \"transfer_syntax\" is missing or wrong");
    expect_refused_with(0, "sop_instance_uid", json_of("\"1.2/3\""),
                        "index: objects[0]: \"sop_instance_uid\" is missing or wrong");
    expect_refused_with(0, "patient_id", json_stringn("a\0b", 3),
                        "index: objects[0]: \"patient_id\" is missing or wrong");
    expect_refused_with(0, "modality", json_of("\"D\\nX\""),
                        "index: objects[0]: \"modality\" is missing or wrong");
    expect_refused_with(0, "position", json_of("[1, 2]"),
                        "index: objects[0]: \"position\" is missing or wrong");
    expect_refused_with(0, "layers", json_of("[]"),
                        "index: objects[0]: \"layers\" is missing or wrong");
    expect_refused_with(0, "voi_lut",
                        json_of("{\"count\":65536,\"first\":0,\"bits\":16,\"entry_bytes\":2,"
                                "\"segmented\":false,\"range\":[0,100]}"),
                        "index: objects[0]: \"voi_lut\" is missing or wrong");
    expect_refused_with(0, "frame_groups", json_of("[{},{}]"),
                        "index: objects[0]: \"frame_groups\" is missing or wrong");
    expect_refused_with(0, "photometric", NULL,
                        "index: objects[0]: \"photometric\" is missing or wrong");
    expect_refused_with(0, "big_endian", NULL,
                        "index: objects[0]: \"big_endian\" is missing or wrong");
    expect_refused_with(1, "fragments", json_of("[[0,10],[0,999999]]"),
                        "index: objects[1]: \"fragments\" is missing or wrong");
    expect_refused_with(1, "frame_fragments", json_of("[0,2,1]"),
                        "index: objects[1]: \"frame_fragments\" is missing or wrong");
    expect_refused_with(1, "frame_fragments", json_of("[1,2,2]"),
                        "index: objects[1]: \"frame_fragments\" is missing or wrong");
    expect_refused_with(1, "frames", json_of("100001"),
                        "index: objects[1]: \"frames\" must be a whole number from 1 to 100000");
}

static void numbers_and_texts_are_bounded(void **state)
{
    (void)state;
    char text[300];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    static const struct {
        int object;
        const char *key, *value;
    } cases[] = {
        {0, "pixels", "[0, 2199023255552]"},
        {0, "pixels", "[2199023255552, 0]"},
        {0, "pixels", "[0, 16, 1]"},
        {0, "pixels", "[1.5, 16]"},
        {0, "pixels", "[0, 1.5]"},
        {0, "position", "[1, \"2\", 3]"},
        {0, "position", "3"},
        {0, "modality", "\"D\\u007fX\""},
        {0, "modality", "3"},
        {0, "layers", "[{\"deflated\":0,\"range\":[0,9],\"size\":9}]"},
        {0, "layers", "[{\"deflated\":false,\"range\":[0],\"size\":9}]"},
        {0, "layers", "[{\"deflated\":false,\"range\":[0,9],\"size\":-9}]"},
        {0, "layers", "[{\"deflated\":false,\"range\":[0,9],\"size\":10}]"},
        {2, "layers",
         "[{\"deflated\":true,\"range\":[0,9],\"size\":10},"
         "{\"deflated\":false,\"range\":[0,9],\"size\":9}]"},
        {2, "layers",
         "[{\"deflated\":true,\"range\":[0,9],\"size\":10},"
         "{\"deflated\":true,\"range\":[0,11],\"size\":9}]"},
        {0, "layers", "[{},{},{}]"},
        {1, "fragments", "[[0,0],[0]]"},
        {1, "frame_fragments", "[0,1,3]"},
        {1, "frame_fragments", "[0,3,4]"},
        {1, "frame_fragments", "[0,1.0,2]"},
        {0, "frame_groups", "[{\"frame\":1}]"},
        {0, "frame_groups", "{}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char message[100];
        snprintf(message, sizeof message, "index: objects[%d]: \"%s\" is missing or wrong",
                 cases[i].object, cases[i].key);
        expect_refused_with(cases[i].object, cases[i].key, json_of(cases[i].value), message);
    }
    expect_refused_with(0, "patient_id", json_string(text),
                        "index: objects[0]: \"patient_id\" is missing or wrong");
    expect_refused_with(0, "name", json_string(text), "index: objects[0]: \"name\" is too long");
}

/* A table of the index must lie in its object, with entries that it can have. */
static void tables_are_bounded(void **state)
{
    (void)state;
    static const struct {
        const char *key, *value;
    } cases[] = {{"count", "0"},        {"count", "65537"},     {"first", "65537"},
                 {"first", "-65537"},   {"bits", "0"},          {"bits", "17"},
                 {"entry_bytes", "3"},  {"range", "[0,99999]"}, {"range", "[0,7]"},
                 {"segmented", "null"}, {"segmented", "1"}};
    static const char *const keys[] = {"modality_lut", "voi_lut", "palette_red", "palette_green",
                                       "palette_blue"};
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++)
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            char message[100];
            json_t *lut = json_of("{\"count\":4,\"first\":0,\"bits\":16,\"entry_bytes\":2,"
                                  "\"segmented\":false,\"range\":[0,8]}");
            json_object_set_new(lut, cases[i].key, json_of(cases[i].value));
            snprintf(message, sizeof message, "index: objects[0]: \"%s\" is missing or wrong",
                     keys[k]);
            expect_refused_with(0, keys[k], lut, message);
        }
}

/* Segments need fewer bytes than the entries they stand for. */
static void segmented_tables_may_be_short(void **state)
{
    (void)state;
    MF_AUTO(mf_json) json_t *json = sample_json();
    struct mf_error err = MF_ERROR_INIT;
    json_object_set_new(json_array_get(json_object_get(json, "objects"), 0), "palette_red",
                        json_of("{\"count\":400,\"first\":-3,\"bits\":8,\"entry_bytes\":1,"
                                "\"segmented\":true,\"range\":[5,8]}"));
    MF_AUTO(mf_index) struct mf_index *index = mf_index_from_json(json, &err);
    assert_no_error(&err);
    const struct mf_index_lut *lut = &index->objects[0].palette[0];
    assert_true(lut->segmented && lut->count == 400 && lut->first == -3 && lut->entry_bytes == 1);
    assert_int_equal(lut->range.offset, 5);
}

/* Of several faults the first is told, and what follows is not looked at any more. */
static void the_first_fault_is_told(void **state)
{
    (void)state;
    MF_AUTO(mf_json) json_t *json = sample_json();
    struct mf_error err = MF_ERROR_INIT;
    json_t *o = json_array_get(json_object_get(json, "objects"), 0);
    json_object_set_new(o, "position", json_of("[1]"));
    json_object_set_new(o, "voi_lut", json_of("{}"));
    json_object_set_new(o, "frame_groups", json_of("[]"));
    assert_null(mf_index_from_json(json, &err));
    assert_error(&err, MF_ERR_MALFORMED, "index: objects[0]: \"position\" is missing or wrong");
    json_object_del(o, "pixel_words");
    json_object_del(o, "encapsulated");
    mf_error_clear(&err);
    assert_null(mf_index_from_json(json, &err));
    assert_error(&err, MF_ERR_MALFORMED, "index: objects[0]: \"pixel_words\" is missing or wrong");
    MF_AUTO(mf_json) json_t *groups = sample_json();
    o = json_array_get(json_object_get(groups, "objects"), 1);
    json_object_set_new(o, "frame_groups", json_of("[{\"frame\":0,\"window\":[1]},{\"frame\":9}]"));
    mf_error_clear(&err);
    assert_null(mf_index_from_json(groups, &err));
    assert_error(&err, MF_ERR_MALFORMED, "index: objects[1]: \"window\" is missing or wrong");
}

static void crowds_are_refused(void **state)
{
    (void)state;
    static const char *const lists[] = {"objects", "skipped"};
    struct mf_error err = MF_ERROR_INIT;
    for (size_t k = 0; k < 2; k++) {
        MF_AUTO(mf_json)
        json_t *json = json_of("{\"schema\":\"medfusion.index/1\",\"objects\":[],\"skipped\":[]}");
        MF_AUTO(mf_json) json_t *one = json_of("{}");
        for (int i = 0; i < 100001; i++)
            json_array_append(json_object_get(json, lists[k]), one);
        mf_error_clear(&err);
        assert_null(mf_index_from_json(json, &err));
        assert_error(&err, MF_ERR_MALFORMED, "index: more than 100000 objects");
    }
    json_t *fragments = json_array(), *range = json_of("[0,0]");
    for (int i = 0; i < 1000001; i++)
        json_array_append(fragments, range);
    json_decref(range);
    expect_refused_with(1, "fragments", fragments,
                        "index: objects[1]: \"fragments\" is missing or wrong");
}

/* An image that no decoder would have accepted is refused as a wrong index, not as a large one. */
static void impossible_images_are_malformed(void **state)
{
    (void)state;
    MF_AUTO(mf_json) json_t *json = sample_json();
    struct mf_error err = MF_ERROR_INIT;
    json_t *o = json_array_get(json_object_get(json, "objects"), 0);
    json_object_set_new(o, "rows", json_integer(65535));
    json_object_set_new(o, "columns", json_integer(65535));
    assert_null(mf_index_from_json(json, &err));
    assert_error(&err, MF_ERR_MALFORMED,
                 "index: objects[0]: a frame of 65535 x 65535 x 1 samples, at most 2147483648 "
                 "samples are accepted");
    assert_null(mf_index_from_json(json, NULL));
}

static void skipped_parts_have_a_name_and_a_reason(void **state)
{
    (void)state;
    static const struct {
        const char *skipped, *message;
    } cases[] = {
        {"[{\"reason\":\"r\"}]", "index: \"name\" must be a string"},
        {"[{\"name\":\"n\"}]", "index: \"reason\" must be a string"},
        {"3", "index: \"skipped\" must be an array"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        MF_AUTO(mf_json)
        json_t *json = json_of("{\"schema\":\"medfusion.index/1\",\"objects\":[]}");
        struct mf_error err = MF_ERROR_INIT;
        json_object_set_new(json, "skipped", json_of(cases[i].skipped));
        assert_null(mf_index_from_json(json, &err));
        assert_error(&err, MF_ERR_MALFORMED, cases[i].message);
        json_object_set_new(json, "objects", json_of("{}"));
        mf_error_clear(&err);
        assert_null(mf_index_from_json(json, &err));
        assert_error(&err, MF_ERR_MALFORMED, "index: \"objects\" must be an array");
    }
}

static void other_documents_are_refused(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_json)
    json_t *other = json_of("{\"schema\":\"x\",\"objects\":[],\"skipped\":[]}");
    assert_null(mf_index_from_json(other, &err));
    assert_error(&err, MF_ERR_MALFORMED, "index: not a medfusion.index/1 document");
    MF_AUTO(mf_json) json_t *array = json_of("[]");
    mf_error_clear(&err);
    assert_null(mf_index_from_json(array, &err));
    assert_error(&err, MF_ERR_MALFORMED, "index: \"schema\" must be a string");
}

/* Every member replaced by values of every type: no crash, and an error or a readable index. */
static void no_type_confuses_the_reader(void **state)
{
    (void)state;
    static const char *const VALUES[] = {
        "null", "true", "-1", "1e300", "\"\"", "[]", "{}", "[[],[]]", "9223372036854775807"};
    for (int object = 0; object < 3; object++) {
        MF_AUTO(mf_json) json_t *sample = sample_json();
        const char *key;
        json_t *unused;
        json_object_foreach(json_array_get(json_object_get(sample, "objects"), (size_t)object), key,
                            unused)
        {
            for (size_t v = 0; v < sizeof VALUES / sizeof *VALUES; v++) {
                MF_AUTO(mf_json) json_t *json = json_deep_copy(sample);
                json_object_set_new(
                    json_array_get(json_object_get(json, "objects"), (size_t)object), key,
                    json_of(VALUES[v]));
                struct mf_error err = MF_ERROR_INIT;
                MF_AUTO(mf_index) struct mf_index *index = mf_index_from_json(json, &err);
                assert_true(index || err.code == MF_ERR_MALFORMED);
            }
        }
    }
}

static int start(void **state)
{
    (void)state;
    return mf_dicom_init(NULL) ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_gives_the_same_index_back),
        cmocka_unit_test(everything_optional_survives_too),
        cmocka_unit_test(changed_payloads_are_noticed),
        cmocka_unit_test(changed_values_are_refused),
        cmocka_unit_test(numbers_and_texts_are_bounded),
        cmocka_unit_test(tables_are_bounded),
        cmocka_unit_test(segmented_tables_may_be_short),
        cmocka_unit_test(the_first_fault_is_told),
        cmocka_unit_test(crowds_are_refused),
        cmocka_unit_test(impossible_images_are_malformed),
        cmocka_unit_test(skipped_parts_have_a_name_and_a_reason),
        cmocka_unit_test(other_documents_are_refused),
        cmocka_unit_test(no_type_confuses_the_reader),
    };
    return cmocka_run_group_tests_name("dicom/index", tests, start, NULL);
}
