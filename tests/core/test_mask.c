/* Masks as JSON: there and back, and documents that are not what they claim. */
#include "tests/expect.h"

#include "core/mask.h"

static void masks_come_back_as_they_were(void **state)
{
    (void)state;
    static const uint8_t left[6] = {1, 1, 0, 0, 1, 0}, right[4] = {0, 0, 0, 0};
    const struct mf_mask given[] = {{2, MF_STRUCTURE_IMAGE_LEFT, 2, 3, left},
                                    {0, MF_STRUCTURE_IMAGE_RIGHT, 4, 1, right}};
    json_t *json = mf_masks_new();
    assert_true(mf_masks_add(json, &given[0]) && mf_masks_add(json, &given[1]));
    assert_json(json, "{\"schema\":\"medfusion.masks/1\",\"masks\":["
                      "{\"frame\":2,\"structure\":\"image_left\",\"rows\":2,\"columns\":3,"
                      "\"runs\":[0,2,2,1,1]},"
                      "{\"frame\":0,\"structure\":\"image_right\",\"rows\":4,\"columns\":1,"
                      "\"runs\":[4]}]}");
    struct mf_error err = MF_ERROR_INIT;
    struct mf_arena *arena = mf_arena_new(0);
    struct mf_mask *masks = NULL;
    size_t n = 0;
    assert_true(mf_masks_parse(json, 3, arena, &masks, &n, &err));
    assert_int_equal(n, 2);
    assert_int_equal(masks[0].frame, 2);
    assert_int_equal(masks[1].structure, MF_STRUCTURE_IMAGE_RIGHT);
    assert_memory_equal(masks[0].pixels, left, sizeof left);
    assert_memory_equal(masks[1].pixels, right, sizeof right);
    mf_arena_free(arena);
    json_decref(json);
}

static void wrong_documents_are_refused(void **state)
{
    (void)state;
#define MASK(frame, structure, rows, columns, runs)                                                \
    "{\"schema\":\"medfusion.masks/1\",\"masks\":[{\"frame\":" frame ",\"structure\":\"" structure \
    "\",\"rows\":" rows ",\"columns\":" columns ",\"runs\":" runs "}]}"
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"{}", "masks: the schema is not medfusion.masks/1"},
        {"{\"schema\":\"medfusion.masks/1\"}", "masks: \"masks\" must be an array"},
        {MASK("3", "image_left", "2", "2", "[4]"),
         "masks[0]: \"frame\" must be a whole number from 0 to 2"},
        {MASK("0", "heart", "2", "2", "[4]"), "masks[0]: \"structure\" is not one that is known"},
        {MASK("0", "image_left", "4097", "2", "[4]"),
         "masks[0]: \"rows\" must be a whole number from 1 to 4096"},
        {MASK("0", "image_left", "2", "0", "[4]"),
         "masks[0]: \"columns\" must be a whole number from 1 to 4096"},
        {MASK("0", "image_left", "2", "2", "[3]"),
         "masks[0]: \"runs\" do not fill rows and columns"},
        {MASK("0", "image_left", "2", "2", "[3,2]"),
         "masks[0]: \"runs\" do not fit rows and columns"},
        {MASK("0", "image_left", "2", "2", "[-1,5]"),
         "masks[0]: \"runs\" do not fit rows and columns"},
        {MASK("0", "image_left", "2", "2", "[\"4\"]"),
         "masks[0]: \"runs\" do not fit rows and columns"},
        {MASK("0", "image_left", "2", "2", "7"), "masks[0]: \"runs\" must be an array"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct mf_error err = MF_ERROR_INIT;
        struct mf_arena *arena = mf_arena_new(0);
        struct mf_mask *masks = NULL;
        size_t n = 0;
        json_t *json = json_of(cases[i].text);
        assert_false(mf_masks_parse(json, 3, arena, &masks, &n, &err));
        assert_error(&err, MF_ERR_MALFORMED, cases[i].message);
        json_decref(json);
        mf_arena_free(arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(masks_come_back_as_they_were),
        cmocka_unit_test(wrong_documents_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
