/* dicom/collect.c: look-up tables and functional groups. */
#include "tests/dicom/scan_expect.h"

/* A sequence of look-up tables: (0028,3000) or (0028,3010) with `items` items, each the descriptor
 * `first` and the two entries. */
static void build_tables(struct builder *b, uint32_t sequence, int items, const char *vr)
{
    build_header(b, sequence, "SQ", UNDEFINED_LENGTH);
    for (int i = 0; i < items; i++) {
        build_item(b, TAG(0xFFFE, 0xE000), UNDEFINED_LENGTH);
        build_header(b, TAG(0x0028, 0x3002), vr, 6);
        build_bytes(b, i ? "\2\0\7\0\20\0" : "\2\0\xFE\xFF\20\0", 6);
        build_header(b, TAG(0x0028, 0x3006), "OW", 4);
        build_bytes(b, "\1\0\2\0", 4);
        build_item(b, TAG(0xFFFE, 0xE00D), 0);
    }
    build_item(b, TAG(0xFFFE, 0xE0DD), 0);
}

/* Whether a table's first input is signed (PS3.3 C.11.1.1.1): its VR says it, and in implicit VR
 * the stored values for the modality's table; the VOI table has them only where there is no
 * modality's. Of several items the first counts. */
static void first_inputs_of_tables_are_signed_or_not(void **state)
{
    (void)state;
    static const struct {
        const char *syntax, *vr;
        bool modality;
        uint16_t representation;
        int32_t first_modality, first_voi;
    } cases[] = {
        {EXPLICIT_LE, "SS", true, 0, -2, -2},  {EXPLICIT_LE, "US", true, 1, 65534, 65534},
        {IMPLICIT_LE, "", true, 1, -2, 65534}, {IMPLICIT_LE, "", true, 0, 65534, 65534},
        {IMPLICIT_LE, "", false, 1, 0, -2},    {IMPLICIT_LE, "", false, 0, 0, 65534},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct builder b;
        build_start(&b, cases[i].syntax);
        build_image(&b, 4, 4, 8);
        build_u16(&b, TAG(0x0028, 0x0103), cases[i].representation);
        if (cases[i].modality)
            build_tables(&b, TAG(0x0028, 0x3000), 2, cases[i].vr);
        build_tables(&b, TAG(0x0028, 0x3010), 2, cases[i].vr);
        build_pixels(&b, 16);
        MF_AUTO(mf_index) struct mf_index *index = scan_file(&b);
        const struct mf_index_object *o = &index->objects[0];
        assert_int_equal(o->modality_lut.count, cases[i].modality ? 2 : 0);
        assert_int_equal(o->modality_lut.first, cases[i].first_modality);
        assert_int_equal(o->voi_lut.count, 2);
        assert_int_equal(o->voi_lut.first, cases[i].first_voi);
    }
}

static void build_palette(struct builder *b, uint32_t colour, const char *descriptor, size_t length,
                          uint32_t data, const char *entries, size_t bytes)
{
    build_header(b, TAG(0x0028, 0x1101 + colour), "US", (int64_t)length);
    build_bytes(b, descriptor, length);
    build_header(b, data + colour, "OW", (int64_t)bytes);
    build_bytes(b, entries, bytes);
}

/* Palettes of which a part is missing or impossible make the image unusable, with the reason. */
static void palettes_must_be_whole(void **state)
{
    (void)state;
    static const struct {
        const char *descriptor;
        size_t length;
        uint32_t data;
        size_t bytes;
        bool usable;
    } cases[] = {
        {"\2\0\0\0\20\0", 6, TAG(0x0028, 0x1201), 4, true},
        {"\2\0\0\0\10\0", 6, TAG(0x0028, 0x1201), 4, true}, /* entries of 8 bits in words */
        {"\2\0\0\0\10\0", 6, TAG(0x0028, 0x1201), 2, true}, /* and in bytes */
        {"\2\0\0\0\20\0", 6, TAG(0x0028, 0x1221), 4, true}, /* segmented */
        {"\2\0\0\0\10\0", 6, TAG(0x0028, 0x1221), 4, true},
        {"\2\0\0\0\20\0", 6, TAG(0x0028, 0x1221), 0, false}, /* nothing there */
        {"\2\0\0\0\21\0", 6, TAG(0x0028, 0x1201), 4, false}, /* entries of 17 bits */
        {"\2\0\0\0\0\0", 6, TAG(0x0028, 0x1201), 4, false},  /* of none */
        {"\3\0\0\0\20\0", 6, TAG(0x0028, 0x1201), 4, false}, /* more than there are */
        {"\2\0\0\0", 4, TAG(0x0028, 0x1201), 4, false},      /* half a descriptor */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (uint32_t odd = 0; odd < 3; odd++) {
            struct builder b;
            build_start(&b, EXPLICIT_LE);
            build_image(&b, 4, 4, 8);
            build_string(&b, TAG(0x0028, 0x0004), "CS", "PALETTE COLOR");
            for (uint32_t k = 0; k < 3; k++)
                if (k == odd)
                    build_palette(&b, k, cases[i].descriptor, cases[i].length, cases[i].data,
                                  "\0\0\1\0", cases[i].bytes);
                else
                    build_palette(&b, k, "\2\0\0\0\20\0", 6, TAG(0x0028, 0x1201), "\0\0\1\0", 4);
            build_pixels(&b, 16);
            MF_AUTO(mf_index) struct mf_index *index = scan_file(&b);
            const struct mf_index_lut *lut = &index->objects[0].palette[odd];
            assert_string_equal(index->objects[0].problem ? index->objects[0].problem : "usable",
                                cases[i].usable ? "usable" : "its palette is missing");
            assert_int_equal(lut->count, cases[i].usable ? 2 : 0);
            assert_int_equal(lut->segmented,
                             cases[i].usable && cases[i].data == TAG(0x0028, 0x1221));
            if (cases[i].usable)
                assert_int_equal(lut->entry_bytes,
                                 lut->bits == 8 && (lut->segmented || cases[i].bytes == 2) ? 1 : 2);
        }
}

/* Both forms of a palette: entries that are there are preferred to segments. */
static void entries_count_before_segments(void **state)
{
    (void)state;
    struct builder b;
    build_start(&b, EXPLICIT_LE);
    build_image(&b, 4, 4, 8);
    build_palette(&b, 0, "\2\0\0\0\20\0", 6, TAG(0x0028, 0x1201), "\0\0\1\0", 4);
    build_header(&b, TAG(0x0028, 0x1221), "OW", 8);
    build_bytes(&b, "........", 8);
    build_pixels(&b, 16);
    MF_AUTO(mf_index) struct mf_index *index = scan_file(&b);
    assert_false(index->objects[0].palette[0].segmented);
    assert_int_equal(index->objects[0].palette[0].range.length, 4);
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

/* An item of `sequence` with one value; closed again. */
static void build_in_item(struct builder *b, uint32_t tag, const char *vr, const char *value)
{
    build_item(b, TAG(0xFFFE, 0xE000), UNDEFINED_LENGTH);
    build_string(b, tag, vr, value);
    build_item(b, TAG(0xFFFE, 0xE00D), 0);
}

/* One group of `groups` (shared or per frame): items of `inner` with `tag`, all closed. */
static void build_group(struct builder *b, uint32_t inner, uint32_t tag, const char *first,
                        const char *second)
{
    build_item(b, TAG(0xFFFE, 0xE000), UNDEFINED_LENGTH);
    build_header(b, inner, "SQ", UNDEFINED_LENGTH);
    build_in_item(b, tag, "DS", first);
    if (second)
        build_in_item(b, tag, "DS", second);
    build_item(b, TAG(0xFFFE, 0xE0DD), 0);
    build_item(b, TAG(0xFFFE, 0xE00D), 0);
}

static void shared_groups_fill_the_object(void **state)
{
    (void)state;
    static const struct {
        uint32_t inner, tag;
        const char *value;
    } groups[] = {
        {TAG(0x0020, 0x9113), TAG(0x0020, 0x0032), "1\\2\\3"},
        {TAG(0x0020, 0x9113), TAG(0x0020, 0x0037), "9\\9\\9\\9\\9\\9"}, /* not of this sequence */
        {TAG(0x0020, 0x9116), TAG(0x0020, 0x0032), "9\\9\\9"},
        {TAG(0x0028, 0x9110), TAG(0x0018, 0x0050), "9"},
        {TAG(0x0028, 0x9110), TAG(0x0028, 0x0030), "0.5\\0.25"},
        {TAG(0x0028, 0x9145), TAG(0x0028, 0x1052), "-1024"},
        {TAG(0x0028, 0x9145), TAG(0x0028, 0x1053), "2"},
        {TAG(0x0028, 0x9132), TAG(0x0028, 0x1050), "40"},
        {TAG(0x0028, 0x9132), TAG(0x0028, 0x1051), "400"},
    };
    struct builder b;
    build_start(&b, EXPLICIT_LE);
    build_image(&b, 4, 4, 8);
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) {
        build_header(&b, TAG(0x5200, 0x9229), "SQ", UNDEFINED_LENGTH);
        build_group(&b, groups[i].inner, groups[i].tag, groups[i].value, NULL);
        build_item(&b, TAG(0xFFFE, 0xE0DD), 0);
    }
    build_pixels(&b, 16);
    MF_AUTO(mf_index) struct mf_index *index = scan_file(&b);
    const struct mf_index_object *o = &index->objects[0];
    assert_true(o->has_position && o->position[0] == 1 && o->position[2] == 3);
    assert_false(o->has_orientation);
    assert_true(o->pixel_spacing[0] == 0.5 && o->pixel_spacing[1] == 0.25);
    assert_true(o->has_rescale && o->intercept == -1024 && o->slope == 2);
    assert_true(o->has_window && o->window_center == 40 && o->window_width == 400);
}

/* Groups of more frames than there are, and all but the first item of a macro, are passed over. */
static void groups_beyond_the_frames_are_passed_over(void **state)
{
    (void)state;
    struct builder b;
    build_start(&b, EXPLICIT_LE);
    build_string(&b, TAG(0x0028, 0x0008), "IS", "2");
    build_image(&b, 4, 4, 8);
    build_header(&b, TAG(0x5200, 0x9230), "SQ", UNDEFINED_LENGTH);
    for (int i = 0; i < 3; i++)
        build_group(&b, TAG(0x0020, 0x9113), TAG(0x0020, 0x0032), "1\\2\\3", "7\\8\\9");
    build_item(&b, TAG(0xFFFE, 0xE0DD), 0);
    build_pixels(&b, 32);
    MF_AUTO(mf_index) struct mf_index *index = scan_file(&b);
    for (int i = 0; i < 2; i++)
        assert_true(index->objects[0].frame_groups[i].position[0] == 1);
    for (int many = 0; many < 2; many++) { /* no number of frames yet, or too large a one */
        build_start(&b, EXPLICIT_LE);
        build_string(&b, TAG(0x0028, 0x0008), "IS", many ? "100001" : NULL);
        build_image(&b, 4, 4, 8);
        build_header(&b, TAG(0x5200, 0x9230), "SQ", UNDEFINED_LENGTH);
        build_group(&b, TAG(0x0020, 0x9113), TAG(0x0020, 0x0032), "1\\2\\3", NULL);
        build_item(&b, TAG(0xFFFE, 0xE0DD), 0);
        build_pixels(&b, 16);
        if (many) {
            expect_file_refused(&b, MF_ERR_TOO_LARGE,
                                "part 1: 100001 frames, at most 100000 are accepted");
            continue;
        }
        MF_AUTO(mf_index) struct mf_index *one = scan_file(&b);
        assert_null(one->objects[0].frame_groups);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_inputs_of_tables_are_signed_or_not),
        cmocka_unit_test(palettes_must_be_whole),
        cmocka_unit_test(entries_count_before_segments),
        cmocka_unit_test(functional_groups_give_frames_their_geometry),
        cmocka_unit_test(shared_groups_fill_the_object),
        cmocka_unit_test(groups_beyond_the_frames_are_passed_over),
    };
    return cmocka_run_group_tests_name("dicom/collect_nested", tests, start, NULL);
}
