/* Volumes: order along the normal, what is left out and told, which planes are chosen. */
#include "dicom/study.h"
#include "tests/expect.h"

#include <math.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { MOST = 48 };

static const double AXIAL[6] = {1, 0, 0, 0, 1, 0};
static const double CORONAL[6] = {1, 0, 0, 0, 0, -1};

/* A series in memory: one object a slice. */
struct series {
    struct mf_index_object objects[MOST];
    struct mf_study_frame frames[MOST];
    enum mf_volume_fate fates[MOST];
    size_t count;
    struct mf_arena *arena;
};

static int setup(void **state)
{
    struct series *s = calloc(1, sizeof *s);
    *state = s;
    return s && (s->arena = mf_arena_new(0)) ? 0 : -1;
}

static int teardown(void **state)
{
    struct series *s = *state;
    mf_arena_free(s->arena);
    free(s);
    return 0;
}

static struct mf_index_object *add(struct series *s, double x, double y, double z,
                                   const double orientation[6])
{
    size_t i = s->count++;
    struct mf_index_object *o = &s->objects[i];
    *o = (struct mf_index_object){.rows = 20,
                                  .columns = 30,
                                  .frames = 1,
                                  .pixel_spacing = {0.5, 0.8},
                                  .position = {x, y, z},
                                  .has_position = true,
                                  .has_orientation = true,
                                  .instance_number = (int64_t)i + 1};
    memcpy(o->orientation, orientation, sizeof o->orientation);
    s->frames[i] = (struct mf_study_frame){.object = o, .object_index = (uint32_t)i};
    return o;
}

static void add_stack(struct series *s, size_t n, double spacing)
{
    for (size_t i = 0; i < n; i++)
        add(s, 3, -4, (double)i * spacing, AXIAL);
}

static const struct mf_volume *make(struct series *s, const struct mf_volume_rules *rules)
{
    static const struct mf_volume_rules ONE = {.voxel = {1, 1, 1}, .max_slices = 32};
    struct mf_error err = MF_ERROR_INIT;
    const struct mf_volume *v =
        mf_volume_make(s->arena, s->frames, s->count, rules ? rules : &ONE, s->fates, &err);
    if (!v)
        fail_msg("%s", err.msg);
    return v;
}

static void refuse(struct series *s, const struct mf_volume_rules *rules, const char *reason)
{
    static const struct mf_volume_rules ONE = {.voxel = {1, 1, 1}, .max_slices = 32};
    struct mf_error err = MF_ERROR_INIT;
    assert_null(
        mf_volume_make(s->arena, s->frames, s->count, rules ? rules : &ONE, s->fates, &err));
    assert_error(&err, MF_ERR_UNUSABLE, reason);
}

static void slices_are_ordered_and_measured(void **state)
{
    struct series *s = *state;
    static const double WHERE[5] = {7.5, -2.5, 5, 2.5, 0};
    for (int i = 0; i < 5; i++)
        add(s, 1, 2, WHERE[i], AXIAL);
    const struct mf_volume *v = make(s, NULL);
    assert_int_equal(v->slice_count, 5);
    for (size_t i = 0; i < 5; i++) {
        assert_true(fabs(v->positions[i] - (-2.5 + 2.5 * (double)i)) < 1e-12);
        assert_true(v->slices[i].slice_position == v->positions[i]);
    }
    assert_ptr_equal(v->slices[0].object, &s->objects[1]);
    assert_ptr_equal(v->slices[4].object, &s->objects[0]);
    /* 5 · 2.5 = 12.5 mm → 13 planes (halves away from zero), 20 · 0.5 → 10 rows, 30 · 0.8 → 24 */
    assert_int_equal(v->size[0], 13);
    assert_int_equal(v->size[1], 10);
    assert_int_equal(v->size[2], 24);
    assert_true(fabs(v->voxel[0] - 12.5 / 13) < 1e-12);
    assert_true(v->gaps == 0 && !v->uneven && v->duplicates == 0 && v->other_geometry == 0);
    assert_true(v->tilt_degrees < 1e-6);
    /* edge to edge: half a slice before the first */
    assert_true(fabs(mf_volume_plane_position(v, 0) - (-2.5 - 1.25 + 12.5 / 26)) < 1e-12);
    assert_true(fabs(mf_volume_plane_index(v, 6) - 2) < 1e-12);
    assert_true(mf_volume_plane_index(v, 0) < 0 && mf_volume_plane_slice(v, 0) == 0);
    assert_int_equal(mf_volume_plane_slice(v, 12), 4);
}

static void the_normal_counts_not_an_axis(void **state)
{
    struct series *s = *state;
    add(s, 0, 30, 0, CORONAL); /* its normal is +y: (1,0,0) × (0,0,−1) = (0,1,0) */
    add(s, 0, 10, 0, CORONAL);
    add(s, 0, 20, 0, CORONAL);
    const struct mf_volume *v = make(s, NULL);
    assert_ptr_equal(v->slices[0].object, &s->objects[1]);
    assert_ptr_equal(v->slices[2].object, &s->objects[0]);
    assert_true(fabs(v->spacing[0] - 10) < 1e-12);
}

static void gaps_and_uneven_distances_are_told(void **state)
{
    struct series *s = *state;
    static const double WHERE[6] = {0, 2, 4, 10, 12, 14.1};
    for (int i = 0; i < 6; i++)
        add(s, 0, 0, WHERE[i], AXIAL);
    const struct mf_volume *v = make(s, NULL);
    assert_int_equal(v->gaps, 1);
    assert_true(v->uneven);
    assert_true(fabs(v->largest_distance - 6) < 1e-9 && fabs(v->spacing[0] - 2) < 1e-9);
    /* inside the gap positions are linear: 7 mm is half-way between the slices at 4 and at 10 */
    for (size_t k = 0; k < v->size[0]; k++)
        if (fabs(mf_volume_plane_position(v, k) - 7) < 0.6)
            assert_true(fabs(mf_volume_plane_index(v, k) -
                             (2 + (mf_volume_plane_position(v, k) - 4) / 6)) < 1e-9);
}

static void of_slices_at_one_place_the_first_is_used(void **state)
{
    struct series *s = *state;
    add_stack(s, 4, 2);
    add(s, 3, -4, 2.004, AXIAL);
    add(s, 3, -4, 4, AXIAL)->instance_number = 0;
    const struct mf_volume *v = make(s, NULL);
    assert_int_equal(v->slice_count, 4);
    assert_int_equal(v->duplicates, 2);
    assert_int_equal(s->fates[4], MF_VOLUME_DUPLICATE);
    assert_int_equal(s->fates[2], MF_VOLUME_DUPLICATE); /* its twin has the lower number */
    assert_int_equal(s->fates[5], MF_VOLUME_USED);
}

static void most_frames_decide_the_geometry(void **state)
{
    struct series *s = *state;
    add(s, 0, 1, 0, CORONAL);
    add(s, 0, 2, 0, CORONAL);
    add_stack(s, 3, 1);
    add(s, 3, -4, 9, AXIAL)->rows = 21;
    add(s, 3, -4, 10, AXIAL)->pixel_spacing[0] = 0.6;
    add(s, 3, -4, 11, AXIAL)->frame_of_reference_uid = "1.2";
    add(s, 3, -4, 12, AXIAL)->has_position = false;
    const struct mf_volume *v = make(s, NULL);
    assert_int_equal(v->slice_count, 3);
    assert_int_equal(v->other_geometry, 6);
    assert_int_equal(s->fates[0], MF_VOLUME_OTHER);
    assert_int_equal(s->fates[2], MF_VOLUME_USED);
    assert_int_equal(s->fates[5], MF_VOLUME_OTHER);
    assert_int_equal(s->fates[8], MF_VOLUME_NOWHERE);
}

static void a_tilted_gantry_is_told(void **state)
{
    struct series *s = *state;
    for (int i = 0; i < 5; i++)
        add(s, 0, i * tan(15 / 57.29577951308232), i, AXIAL);
    assert_true(fabs(make(s, NULL)->tilt_degrees - 15) < 1e-6);
}

static void frames_of_an_enhanced_object_have_their_own_places(void **state)
{
    struct series *s = *state;
    struct mf_index_frame groups[3] = {{.has_position = true, .position = {0, 0, 4}},
                                       {.has_position = true, .position = {0, 0, 0}},
                                       {.has_position = true, .position = {0, 0, 2}}};
    struct mf_index_object *o = add(s, 0, 0, 0, AXIAL);
    o->frames = 3;
    o->frame_groups = groups;
    for (uint32_t f = 1; f < 3; f++)
        s->frames[s->count++] = (struct mf_study_frame){.object = o, .frame = f};
    const struct mf_volume *v = make(s, NULL);
    assert_int_equal(v->slices[0].frame, 1);
    assert_int_equal(v->slices[1].frame, 2);
    assert_int_equal(v->slices[2].frame, 0);
}

static void expect_chosen(struct series *s, const struct mf_volume_rules *rules,
                          const size_t *expected, size_t count)
{
    const struct mf_volume *v = make(s, rules);
    assert_int_equal(v->chosen_count, count);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(v->chosen[i], expected[i]);
}

static void planes_are_chosen_by_the_rule(void **state)
{
    struct series *s = *state;
    add_stack(s, 20, 1);
    struct mf_volume_rules r = {.voxel = {1, 1, 1}, .max_slices = 5};
    expect_chosen(s, &r, (const size_t[]){0, 5, 10, 14, 19}, 5); /* round(k · 19/4) */
    r.choice = MF_VOLUME_CENTRAL;
    expect_chosen(s, &r, (const size_t[]){7, 8, 9, 10, 11}, 5);
    r.choice = MF_VOLUME_RANGE; /* planes 5 … 9 have their middle in 0.25 … 0.5 */
    r.range[0] = 0.25;
    r.range[1] = 0.5;
    expect_chosen(s, &r, (const size_t[]){5, 6, 7, 8, 9}, 5);
    r.max_slices = 3;
    expect_chosen(s, &r, (const size_t[]){5, 7, 9}, 3);
    r.range[0] = 0.51; /* between the middles of two planes: the one it is in */
    r.range[1] = 0.52;
    expect_chosen(s, &r, (const size_t[]){10}, 1);
    r.range[0] = 0;
    r.range[1] = 1;
    r.max_slices = 1;
    expect_chosen(s, &r, (const size_t[]){9}, 1);
}

static void what_is_no_volume_says_why(void **state)
{
    struct series *s = *state;
    add(s, 0, 0, 0, AXIAL)->has_position = false;
    add(s, 1e9, 0, 0, AXIAL);
    refuse(s, NULL,
           "the series is no volume: none of its frames has a position and an orientation");
    static const double FLAT[6] = {1, 0, 0, 1, 0, 0};
    s->count = 0;
    add(s, 0, 0, 0, FLAT);
    add(s, 0, 0, 1, FLAT);
    refuse(s, NULL,
           "the series is no volume: none of its frames has a position and an orientation");
    s->count = 0;
    add_stack(s, 2, 0.001);
    refuse(s, NULL, "the series is no volume: it has one slice");
    s->count = 0;
    add_stack(s, 2, 1);
    s->objects[0].pixel_spacing[0] = s->objects[1].pixel_spacing[0] = 0;
    refuse(s, NULL, "the series is no volume: its pixel spacing is not known");
    s->count = 0;
    add(s, 0, 0, 0, AXIAL);
    add(s, 0, 0, 9000, AXIAL);
    const struct mf_volume_rules fine = {.voxel = {0.5, 1, 1}, .max_slices = 32};
    refuse(s, &fine,
           "the series is no volume: 36000 slices of 0.5 mm in 18000 mm, at most 20000 can be "
           "made");
    const struct mf_volume_rules wide = {.voxel = {1, 0.002, 1}, .max_slices = 32};
    s->count = 0;
    add_stack(s, 2, 1);
    refuse(s, &wide,
           "the series is no volume: 5000 pixels of 0.002 mm in 10 mm, at most 4096 can be made");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(slices_are_ordered_and_measured, setup, teardown),
        cmocka_unit_test_setup_teardown(the_normal_counts_not_an_axis, setup, teardown),
        cmocka_unit_test_setup_teardown(gaps_and_uneven_distances_are_told, setup, teardown),
        cmocka_unit_test_setup_teardown(of_slices_at_one_place_the_first_is_used, setup, teardown),
        cmocka_unit_test_setup_teardown(most_frames_decide_the_geometry, setup, teardown),
        cmocka_unit_test_setup_teardown(a_tilted_gantry_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(frames_of_an_enhanced_object_have_their_own_places, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(planes_are_chosen_by_the_rule, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_no_volume_says_why, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
