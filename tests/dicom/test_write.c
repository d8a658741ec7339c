/* Objects of a result: masks stretched and outlined, what is refused, and what the parts have to
 * say to each other. What the objects hold is checked with other readers, in tests/integration. */
#include "tests/expect.h"

#include "dicom/write_seg.h"

/* --- masks --- */

static void equal_sizes_give_the_mask_itself(void **state)
{
    (void)state;
    static const uint8_t pixels[6] = {1, 0, 1, 0, 1, 1};
    const struct mf_mask mask = {0, MF_STRUCTURE_IMAGE_LEFT, 2, 3, pixels};
    uint8_t out[6];
    mf_mask_stretch(&mask, 2, 3, out);
    assert_memory_equal(out, pixels, 6);
}

static void a_stretched_edge_lies_halfway(void **state)
{
    (void)state;
    static const uint8_t pixels[2] = {0, 1};
    static const uint8_t expected[8] = {0, 0, 0, 0, 1, 1, 1, 1};
    const struct mf_mask mask = {0, MF_STRUCTURE_IMAGE_LEFT, 1, 2, pixels};
    uint8_t out[16];
    mf_mask_stretch(&mask, 2, 8, out);
    assert_memory_equal(out, expected, 8);
    assert_memory_equal(out + 8, expected, 8);
}

static void check_outline(const uint8_t *pixels, uint32_t rows, uint32_t columns, uint32_t scale,
                          const double *expected, size_t count)
{
    struct mf_error err = MF_ERROR_INIT;
    struct mf_arena *arena = mf_arena_new(0);
    const struct mf_mask mask = {0, MF_STRUCTURE_IMAGE_LEFT, rows, columns, pixels};
    double *points = NULL;
    size_t n = 0;
    assert_true(mf_mask_outline(&mask, rows * scale, columns * scale, arena, &points, &n, &err));
    assert_int_equal(n, count);
    for (size_t i = 0; i < 2 * n; i++)
        assert_true(points[i] == expected[i]);
    mf_arena_free(arena);
}

static void outlines_run_along_pixel_edges(void **state)
{
    (void)state;
    static const uint8_t dot[9] = {0, 0, 0, 0, 1, 0, 0, 0, 0};
    static const double square[] = {2, 2, 4, 2, 4, 4, 2, 4, 2, 2};
    check_outline(dot, 3, 3, 2, square, 5);
    static const uint8_t angle[4] = {1, 1, 1, 0};
    static const double six[] = {0, 0, 2, 0, 2, 1, 1, 1, 1, 2, 0, 2, 0, 0};
    check_outline(angle, 2, 2, 1, six, 7);
    static const uint8_t diagonal[4] = {1, 0, 0, 1}; /* neighbours at a corner are one */
    static const double eight[] = {0, 0, 1, 0, 1, 1, 2, 1, 2, 2, 1, 2, 1, 1, 0, 1, 0, 0};
    check_outline(diagonal, 2, 2, 1, eight, 9);
    static const uint8_t nothing[4] = {0};
    check_outline(nothing, 2, 2, 1, NULL, 0);
}

/* --- sets --- */

static struct mf_index_object image(const char *uid)
{
    return (struct mf_index_object){.sop_class_uid = "1.2.840.10008.5.1.4.1.1.1.1",
                                    .sop_instance_uid = uid,
                                    .series_instance_uid = "1.2.3",
                                    .study_instance_uid = "1.2",
                                    .photometric = "MONOCHROME2",
                                    .modality = "DX",
                                    .rows = 4,
                                    .columns = 4,
                                    .frames = 1};
}

#define FRAME(uid, index, role, status, box)                                                       \
    "{\"sop_instance_uid\":\"" uid "\",\"index\":" index ",\"role\":\"" role                       \
    "\",\"segmentation\":{\"status\":\"" status "\",\"box\":" box "}}"
#define RESULT(frames)                                                                             \
    "{\"schema\":\"medfusion.result/"                                                              \
    "1\",\"model\":{\"digest\":\"d\"},\"study\":{\"frames\":[" frames "]},\"predictions\":[]}"
#define GOOD FRAME("1.1", "0", "current", "ok", "[0,0,4,4]")

static void what_does_not_belong_together_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *result, *masks, *message;
        enum mf_code code;
    } cases[] = {
        {"{}", NULL, "result: the schema is not medfusion.result/1", MF_ERR_MALFORMED},
        {RESULT(""), NULL, "result: no frame", MF_ERR_MALFORMED},
        {RESULT(FRAME("9.9", "0", "current", "ok", "[0,0,4,4]")), NULL,
         "result: frame 0: its image is not in the index", MF_ERR_MALFORMED},
        {RESULT(FRAME("1.1", "1", "current", "ok", "[0,0,4,4]")), NULL,
         "result: frame 0: its image has no such frame", MF_ERR_MALFORMED},
        {RESULT(FRAME("1.1", "0", "current", "ok", "[0,0,5,4]")), NULL,
         "result: frame 0: its box does not fit the image", MF_ERR_MALFORMED},
        {RESULT(FRAME("1.1", "0", "current", "ok", "[0,0]")), NULL,
         "result: frame 0: its box does not fit the image", MF_ERR_MALFORMED},
        {RESULT(FRAME("1.1", "0", "prior", "ok", "[0,0,4,4]")), NULL,
         "result: no frame of its own study", MF_ERR_MALFORMED},
        {RESULT(FRAME("2.2", "0", "current", "ok", "[0,0,4,4]")), NULL,
         "result: frame 0: its image has no study, series or SOP class UID: no DICOM object can "
         "refer to it",
         MF_ERR_UNUSABLE},
        {RESULT(GOOD), "{}", "masks: the schema is not medfusion.masks/1", MF_ERR_MALFORMED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct mf_index_object objects[] = {image("1.1"), image("2.2")};
        objects[1].series_instance_uid = NULL;
        const struct mf_index index = {.objects = objects, .object_count = 2};
        struct mf_error err = MF_ERROR_INIT;
        json_t *result = json_of(cases[i].result);
        json_t *masks = cases[i].masks ? json_of(cases[i].masks) : NULL;
        const struct mf_write_source source = {.index = &index, .result = result, .masks = masks};
        assert_null(mf_write_set_new(&source, &err));
        assert_error(&err, cases[i].code, cases[i].message);
        json_decref(result);
        json_decref(masks);
    }
}

static void images_without_a_frame_of_reference_have_a_segmentation_each(void **state)
{
    (void)state;
    struct mf_index_object objects[] = {image("1.1"), image("1.2")};
    const struct mf_index index = {.objects = objects, .object_count = 2};
    struct mf_error err = MF_ERROR_INIT;
    json_t *result = json_of(RESULT(GOOD "," FRAME("1.2", "0", "current", "ok", "[0,0,4,4]")));
    json_t *masks = json_of("{\"schema\":\"medfusion.masks/1\",\"masks\":["
                            "{\"frame\":0,\"structure\":\"image_left\",\"rows\":2,\"columns\":2,"
                            "\"runs\":[0,4]},"
                            "{\"frame\":1,\"structure\":\"image_left\",\"rows\":2,\"columns\":2,"
                            "\"runs\":[0,4]}]}");
    const struct mf_write_source source = {.index = &index, .result = result, .masks = masks};
    struct mf_write_set *set = mf_write_set_new(&source, &err);
    assert_no_error(&err);
    size_t n = 0;
    const struct mf_write_item *items = mf_write_set_items(set, &n);
    static const char *const names[] = {"sr", "seg", "seg-2", "sc", "gsps"};
    assert_int_equal(n, 5);
    for (size_t i = 0; i < n; i++)
        assert_string_equal(items[i].name, names[i]);
    assert_string_equal(items[1].series_instance_uid, items[2].series_instance_uid);
    assert_string_not_equal(items[1].sop_instance_uid, items[2].sop_instance_uid);
    assert_null(mf_write_set_find(set, "kos"));
    struct mf_buffer out;
    mf_buffer_init(&out, 1 << 20);
    assert_false(mf_write_object(set, mf_write_set_find(set, "sc"), &out, &err));
    assert_error(&err, MF_ERR_INTERNAL, "the picture of the result is not at hand");
    mf_buffer_free(&out);
    mf_write_set_free(set);
    json_decref(masks);
    json_decref(result);
}

static void uids_follow_from_what_the_result_says(void **state)
{
    (void)state;
    struct mf_index_object objects[] = {image("1.1")};
    const struct mf_index index = {.objects = objects, .object_count = 1};
    char uids[3][65];
    static const char *const results[] = {
        RESULT(GOOD),
        "{\"schema\":\"medfusion.result/"
        "1\",\"model\":{\"digest\":\"d\"},\"study\":{\"frames\":[" GOOD
        "]},\"predictions\":[],\"timing_ms\":{\"total\":7}}",
        "{\"schema\":\"medfusion.result/"
        "1\",\"model\":{\"digest\":\"e\"},\"study\":{\"frames\":[" GOOD "]},\"predictions\":[]}"};
    for (size_t i = 0; i < 3; i++) {
        struct mf_error err = MF_ERROR_INIT;
        json_t *result = json_of(results[i]);
        const struct mf_write_source source = {.index = &index, .result = result};
        struct mf_write_set *set = mf_write_set_new(&source, &err);
        assert_no_error(&err);
        memcpy(uids[i], mf_write_set_find(set, "sr")->sop_instance_uid, 65);
        mf_write_set_free(set);
        json_decref(result);
    }
    assert_string_equal(uids[0], uids[1]); /* timing is no part of it */
    assert_string_not_equal(uids[0], uids[2]);
    assert_memory_equal(uids[0], "2.25.", 5);
}

/* --- a map of values --- */

static void fill_map(const void *context, uint32_t rows, uint32_t columns, uint8_t *out)
{
    const uint8_t *first = context;
    for (uint32_t i = 0; i < rows * columns; i++)
        out[i] = (uint8_t)(*first + i);
}

static const char *find_bytes(const struct mf_buffer *b, const void *bytes, size_t n)
{
    return memmem(b->data, b->len, bytes, n);
}

#define PREDICTED                                                                                  \
    "{\"schema\":\"medfusion.result/"                                                              \
    "1\",\"model\":{\"digest\":\"d\"},\"study\":{\"frames\":[" FRAME(                              \
        "1.1", "0", "current", "ok",                                                               \
        "[1,0,3,4]") "," FRAME("1.2", "0", "prior", "ok",                                          \
                               "[0,0,4,4]") "]},\"predictions\":[{\"label\":\"Mass\",\"display\":" \
                                            "\"A mass\"}]}"
#define SEEN                                                                                       \
    "[{\"sop_instance_uid\":\"1.1\",\"index\":0},{\"sop_instance_uid\":\"1.2\",\"index\":0}]"
#define EXPLAINED(grid, frames, label, first, second)                                              \
    "{\"grid\":" grid ",\"frames\":" frames ",\"labels\":[{\"label\":\"" label                     \
    "\",\"frames\":[{\"relevance\":" first "},{\"relevance\":" second "}]}]}"

/* The first image has two columns of two cells in a box of 2 · 4 pixels, the second is a prior. */
static void an_explanation_becomes_a_segmentation_of_fractions(void **state)
{
    (void)state;
    static const uint8_t expected[16] = {0, 0, 51, 0, 0, 13, 64, 0, 0, 38, 89, 0, 0, 51, 102, 0};
    struct mf_index_object objects[] = {image("1.1"), image("1.2")};
    const struct mf_index index = {.objects = objects, .object_count = 2};
    struct mf_error err = MF_ERROR_INIT;
    json_t *result = json_of(PREDICTED);
    json_t *why = json_of(EXPLAINED("[2,2]", SEEN, "Mass", "[0,0.1,0.1,0.2]", "[0,0,0,0.5]"));
    const struct mf_write_source source = {.index = &index, .result = result, .explanation = why};
    struct mf_write_set *set = mf_write_set_new(&source, &err);
    assert_no_error(&err);
    const struct mf_write_item *item = mf_write_set_find(set, "map");
    assert_non_null(item);
    assert_null(mf_write_set_find(set, "map-2"));
    struct mf_buffer out;
    mf_buffer_init(&out, 1 << 20);
    assert_true(mf_write_object(set, item, &out, &err));
    uint8_t pixels[12 + 16] = {0xE0, 0x7F, 0x10, 0x00, 'O', 'B', 0, 0, 16, 0, 0, 0};
    memcpy(pixels + 12, expected, 16);
    assert_non_null(find_bytes(&out, pixels, sizeof pixels));
    assert_non_null(find_bytes(&out, "A mass", 6));
    mf_buffer_free(&out);
    mf_write_set_free(set);
    json_decref(why);
    json_decref(result);
}

static void an_explanation_of_something_else_is_refused(void **state)
{
    (void)state;
    static const char frames[] = "explanation: its frames are not those of the result",
                      grid[] = "explanation: \"grid\" is out of range",
                      label[] = "explanation: a label has no map of the result's frames";
    static const struct {
        const char *explanation, *message;
    } cases[] = {
        {"{}", frames},
        {EXPLAINED("[1,1]", "[{\"sop_instance_uid\":\"1.1\",\"index\":0}]", "Mass", "[1]", "[1]"),
         frames},
        {EXPLAINED("[1,1]", "[{\"sop_instance_uid\":\"1.2\",\"index\":0}," SEEN "]", "Mass", "[1]",
                   "[1]"),
         frames},
        {EXPLAINED("[0,1]", SEEN, "Mass", "[]", "[]"), grid},
        {EXPLAINED("[1]", SEEN, "Mass", "[1]", "[1]"), grid},
        {EXPLAINED("[1,2000]", SEEN, "Mass", "[1]", "[1]"), grid},
        {EXPLAINED("[1,1]", SEEN, "Nodule", "[1]", "[1]"), label},
        {EXPLAINED("[1,1]", SEEN, "Mass", "[1,1]", "[1]"), label},
        {EXPLAINED("[1,1]", SEEN, "Mass", "[1]", "[]"), label},
        {EXPLAINED("[1,1]", SEEN, "Mass", "[-1]", "[1]"), label},
        {EXPLAINED("[1,1]", SEEN, "Mass", "[\"1\"]", "[1]"), label},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct mf_index_object objects[] = {image("1.1"), image("1.2")};
        const struct mf_index index = {.objects = objects, .object_count = 2};
        struct mf_error err = MF_ERROR_INIT;
        json_t *result = json_of(PREDICTED), *why = json_of(cases[i].explanation);
        const struct mf_write_source source = {
            .index = &index, .result = result, .explanation = why};
        assert_null(mf_write_set_new(&source, &err));
        assert_error(&err, MF_ERR_MALFORMED, cases[i].message);
        json_decref(result);
        json_decref(why);
    }
}

static void a_map_of_values_is_a_fractional_segmentation(void **state)
{
    (void)state;
    struct mf_index_object objects[] = {image("1.1")};
    const struct mf_index index = {.objects = objects, .object_count = 1};
    struct mf_error err = MF_ERROR_INIT;
    json_t *result = json_of(RESULT(GOOD));
    const struct mf_write_source source = {.index = &index, .result = result};
    struct mf_write_set *set = mf_write_set_new(&source, &err);
    struct mf_arena *arena = mf_arena_new(0);
    struct mf_writer *w = mf_writer_new(&err);
    static const uint8_t first = 100;
    const struct mf_seg_segment segment = {.label = "Relevance",
                                           .category = {"C94970", "NCIt", "Reference Region"},
                                           .type = {"39607008", "SCT", "Lung"},
                                           .tracking_uid = "2.25.1"};
    const struct mf_seg_plane plane = {.fill = fill_map, .context = &first};
    const struct mf_seg_content content = {.label = "RELEVANCE",
                                           .description = "What mattered",
                                           .map = true,
                                           .segments = &segment,
                                           .segment_count = 1,
                                           .planes = &plane,
                                           .plane_count = 1};
    const struct mf_write_item *item = mf_write_set_find(set, "sr");
    mf_put_common(w, set, item, "SEG", "AI relevance");
    assert_true(mf_put_segmentation(w, set, item, &content, arena, &err));
    struct mf_buffer out;
    mf_buffer_init(&out, 1 << 20);
    assert_true(mf_writer_encode(w, &out, &err));
    assert_no_error(&err);
    assert_memory_equal(out.data + 128, "DICM", 4);
    assert_non_null(find_bytes(&out, "FRACTIONAL", 10));
    assert_non_null(find_bytes(&out, "PROBABILITY", 11));
    uint8_t pixels[12 + 16] = {0xE0, 0x7F, 0x10, 0x00, 'O', 'B', 0, 0, 16, 0, 0, 0};
    for (uint8_t i = 0; i < 16; i++)
        pixels[12 + i] = (uint8_t)(first + i);
    assert_non_null(find_bytes(&out, pixels, sizeof pixels));
    mf_buffer_free(&out);
    mf_writer_free(w);
    mf_arena_free(arena);
    mf_write_set_free(set);
    json_decref(result);
}

static void a_report_names_the_one_it_replaces(void **state)
{
    (void)state;
    struct mf_index_object objects[] = {image("1.1")};
    const struct mf_index index = {.objects = objects, .object_count = 1};
    struct mf_error err = MF_ERROR_INIT;
    json_t *result = json_of(RESULT(GOOD));
    const struct mf_write_source source = {.index = &index,
                                           .result = result,
                                           .replaced_series_uid = "2.25.77",
                                           .replaced_instance_uid = "2.25.78"};
    struct mf_write_set *set = mf_write_set_new(&source, &err);
    struct mf_buffer out;
    mf_buffer_init(&out, 1 << 20);
    assert_true(mf_write_object(set, mf_write_set_find(set, "sr"), &out, &err));
    assert_no_error(&err);
    static const uint8_t predecessor[] = {0x40, 0x00, 0x60, 0xA3, 'S', 'Q'};
    const char *at = find_bytes(&out, predecessor, sizeof predecessor);
    assert_non_null(at);
    assert_true(find_bytes(&out, "2.25.77", 7) > at && find_bytes(&out, "2.25.78", 7) > at);
    mf_buffer_free(&out);
    mf_write_set_free(set);
    json_decref(result);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_sizes_give_the_mask_itself),
        cmocka_unit_test(a_stretched_edge_lies_halfway),
        cmocka_unit_test(outlines_run_along_pixel_edges),
        cmocka_unit_test(what_does_not_belong_together_is_refused),
        cmocka_unit_test(images_without_a_frame_of_reference_have_a_segmentation_each),
        cmocka_unit_test(uids_follow_from_what_the_result_says),
        cmocka_unit_test(an_explanation_becomes_a_segmentation_of_fractions),
        cmocka_unit_test(an_explanation_of_something_else_is_refused),
        cmocka_unit_test(a_map_of_values_is_a_fractional_segmentation),
        cmocka_unit_test(a_report_names_the_one_it_replaces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
