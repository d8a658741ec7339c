/* Reslicing: constants stay, identity stays, padding is replaced, a slice of another size refused.
 * tests/integration/test_volume.py compares whole volumes with SimpleITK. */
#include "engine/reslice.h"
#include "tests/expect.h"

#include <math.h>
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { SLICES = 12, ROWS = 6, COLUMNS = 9, PIXELS = ROWS * COLUMNS };

/* 16-bit slices with HU = stored − 1024. */
static struct mf_frame slice_of(const uint16_t *samples)
{
    return (struct mf_frame){.rows = ROWS,
                             .columns = COLUMNS,
                             .samples_per_pixel = 1,
                             .type = MF_SAMPLE_U16,
                             .photometric = MF_PHOTOMETRIC_MONOCHROME2,
                             .bits_stored = 12,
                             .high_bit = 11,
                             .samples = samples,
                             .rescale_slope = 1,
                             .rescale_intercept = -1024};
}

static struct mf_reslice_plan plan_of(const double *at, size_t planes, double stretch)
{
    return (struct mf_reslice_plan){.slices = SLICES,
                                    .rows = ROWS,
                                    .columns = COLUMNS,
                                    .planes = planes,
                                    .at = at,
                                    .stretch = stretch,
                                    .plane_rows = ROWS,
                                    .plane_columns = COLUMNS,
                                    .background = -1000,
                                    .threads = 1};
}

static float *run(const struct mf_reslice_plan *plan, const uint16_t samples[SLICES][PIXELS],
                  const struct mf_frame *like)
{
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_reslice) struct mf_reslice *r = mf_reslice_new(plan, &err);
    assert_no_error(&err);
    for (size_t k = 0; k < SLICES; k++) {
        struct mf_frame f = *like;
        f.samples = samples[k];
        if (mf_reslice_needs(r, k))
            assert_true(mf_reslice_add(r, k, &f, &err));
    }
    float *out = mf_reslice_finish(r, &err);
    assert_no_error(&err);
    return out;
}

static void a_constant_stays_one_at_any_place_and_stretch(void **state)
{
    (void)state;
    static const double AT[] = {-0.4, 3.3, 5.5, 11.4};
    static const double STRETCHES[] = {0.3, 1, 2.7, 9};
    uint16_t samples[SLICES][PIXELS];
    for (size_t i = 0; i < SLICES * PIXELS; i++)
        samples[i / PIXELS][i % PIXELS] = 1064;
    struct mf_frame like = slice_of(NULL);
    for (size_t s = 0; s < 4; s++) {
        struct mf_reslice_plan plan = plan_of(AT, 4, STRETCHES[s]);
        plan.plane_rows = 11;
        plan.plane_columns = 4;
        float *out = run(&plan, samples, &like);
        for (size_t i = 0; i < 4 * 11 * 4; i++)
            assert_true(fabsf(out[i] - 40) < 1e-3F);
        free(out);
    }
}

static void planes_on_slices_are_those_slices(void **state)
{
    (void)state;
    static const double AT[] = {2, 7};
    uint16_t samples[SLICES][PIXELS];
    for (size_t i = 0; i < SLICES * PIXELS; i++)
        samples[i / PIXELS][i % PIXELS] = (uint16_t)(i * 37 % 4096);
    struct mf_frame like = slice_of(NULL);
    struct mf_reslice_plan plan = plan_of(AT, 2, 1);
    float *out = run(&plan, samples, &like);
    for (size_t i = 0; i < PIXELS; i++) {
        assert_true(fabsf(out[i] - ((float)samples[2][i] - 1024)) < 1e-2F);
        assert_true(fabsf(out[PIXELS + i] - ((float)samples[7][i] - 1024)) < 1e-2F);
    }
    free(out);
}

static void padding_becomes_the_background(void **state)
{
    (void)state;
    static const double AT[] = {5};
    uint16_t samples[SLICES][PIXELS];
    for (size_t i = 0; i < SLICES * PIXELS; i++)
        samples[i / PIXELS][i % PIXELS] = 4095;
    struct mf_frame like = slice_of(NULL);
    like.has_padding = true;
    like.padding_low = 4000;
    like.padding_high = 4095;
    struct mf_reslice_plan plan = plan_of(AT, 1, 1);
    float *out = run(&plan, samples, &like);
    for (size_t i = 0; i < PIXELS; i++)
        assert_true(fabsf(out[i] + 1000) < 1e-3F);
    free(out);
}

static void only_slices_within_reach_are_needed(void **state)
{
    (void)state;
    static const double AT[] = {0.5};
    struct mf_reslice_plan plan = plan_of(AT, 1, 1);
    MF_AUTO(mf_reslice) struct mf_reslice *r = mf_reslice_new(&plan, NULL);
    assert_non_null(r);
    for (size_t k = 0; k < SLICES; k++)
        assert_int_equal(mf_reslice_needs(r, k), k <= 5);
}

static void a_slice_of_another_size_is_refused(void **state)
{
    (void)state;
    static const double AT[] = {0};
    static const uint16_t SAMPLES[PIXELS] = {0};
    struct mf_error err = MF_ERROR_INIT;
    struct mf_reslice_plan plan = plan_of(AT, 1, 1);
    MF_AUTO(mf_reslice) struct mf_reslice *r = mf_reslice_new(&plan, &err);
    assert_non_null(r);
    struct mf_frame f = slice_of(SAMPLES);
    f.columns = COLUMNS - 1;
    assert_false(mf_reslice_add(r, 0, &f, &err));
    assert_error(&err, MF_ERR_MALFORMED, "a slice of the volume has 6 x 8 pixels, not 6 x 9");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_constant_stays_one_at_any_place_and_stretch),
        cmocka_unit_test(planes_on_slices_are_those_slices),
        cmocka_unit_test(padding_becomes_the_background),
        cmocka_unit_test(only_slices_within_reach_are_needed),
        cmocka_unit_test(a_slice_of_another_size_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
