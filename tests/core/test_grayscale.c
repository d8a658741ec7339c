/* core/grayscale.c: PS3.3 C.11 by its own formulas, step by step. */
#include "core/grayscale.h"

#include "tests/expect.h"

#include <math.h>

static struct mf_frame u16_frame(const uint16_t *samples, uint32_t columns)
{
    return (struct mf_frame){.rows = 1,
                             .columns = columns,
                             .samples_per_pixel = 1,
                             .type = MF_SAMPLE_U16,
                             .photometric = MF_PHOTOMETRIC_MONOCHROME2,
                             .bits_stored = 16,
                             .high_bit = 15,
                             .samples = samples,
                             .rescale_slope = 1};
}

static void expect_floats(const float *got, const double *want, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (fabs(got[i] - want[i]) > 1e-6 * fmax(1, fabs(want[i])))
            fail_msg("value %zu is %.8g, not %.8g", i, got[i], want[i]);
}

static void expect_display(const struct mf_frame *f, const double *want)
{
    float out[64];
    struct mf_error err = MF_ERROR_INIT;
    assert_true(mf_grayscale_display(f, out, &err));
    assert_no_error(&err);
    expect_floats(out, want, (size_t)f->rows * f->columns);
}

static void expect_modality(const struct mf_frame *f, const double *want)
{
    float out[64];
    struct mf_error err = MF_ERROR_INIT;
    assert_true(mf_grayscale_modality(f, out, &err));
    assert_no_error(&err);
    expect_floats(out, want, (size_t)f->rows * f->columns);
}

static void rescale_and_sign_of_12_bits(void **state)
{
    (void)state;
    /* 0xF... are overlay bits; 0x800 is the sign bit of 12 stored bits. */
    const uint16_t samples[4] = {0x0001, 0x0FFF, 0xF800, 0x07FF};
    struct mf_frame f = u16_frame(samples, 4);
    f.type = MF_SAMPLE_I16;
    f.bits_stored = 12;
    f.high_bit = 11;
    f.rescale_slope = 2;
    f.rescale_intercept = -10;
    expect_modality(&f, (double[]){-8, -12, -4106, 4084});
}

static void high_bit_above_the_stored_bits_shifts(void **state)
{
    (void)state;
    const uint16_t samples[2] = {0x0010, 0xFFFF};
    struct mf_frame f = u16_frame(samples, 2);
    f.bits_stored = 12; /* bits 4 to 15 */
    expect_modality(&f, (double[]){1, 4095});
}

static void modality_lut_clamps_at_both_ends(void **state)
{
    (void)state;
    const uint16_t samples[4] = {0, 10, 12, 500}, table[3] = {7, 70, 700};
    struct mf_frame f = u16_frame(samples, 4);
    f.modality_lut = (struct mf_lut){.count = 3, .first = 10, .bits = 16, .data = table};
    f.rescale_slope = 99; /* unused with a table */
    expect_modality(&f, (double[]){7, 7, 700, 700});
}

/* C.11.2.1.2.1 with c 128, w 101: x ≤ 77.5 → 0, x > 177.5 → 1. */
static void linear_window(void **state)
{
    (void)state;
    const uint16_t samples[5] = {77, 78, 128, 177, 178};
    struct mf_frame f = u16_frame(samples, 5);
    f.has_window = true;
    f.window_center = 128;
    f.window_width = 101;
    expect_display(&f, (double[]){0, 0.5 / 100, 0.505, 0.995, 1});
}

static void window_of_width_one_is_a_threshold(void **state)
{
    (void)state;
    const uint16_t samples[3] = {99, 100, 101};
    struct mf_frame f = u16_frame(samples, 3);
    f.has_window = true;
    f.window_center = 100;
    f.window_width = 1;
    expect_display(&f, (double[]){0, 1, 1}); /* x ≤ c − 0.5 is dark */
}

static void linear_exact_and_sigmoid_windows(void **state)
{
    (void)state;
    const uint16_t samples[3] = {50, 100, 150};
    struct mf_frame f = u16_frame(samples, 3);
    f.has_window = true;
    f.window_center = 100;
    f.window_width = 100;
    f.voi_function = MF_VOI_LINEAR_EXACT;
    expect_display(&f, (double[]){0, 0.5, 1});
    f.voi_function = MF_VOI_SIGMOID;
    expect_display(&f, (double[]){1 / (1 + exp(2)), 0.5, 1 / (1 + exp(-2))});
}

static void voi_lut_wins_over_the_window(void **state)
{
    (void)state;
    const uint16_t samples[3] = {0, 1, 9}, table[2] = {0, 1023};
    struct mf_frame f = u16_frame(samples, 3);
    f.has_window = true;
    f.window_center = 5;
    f.window_width = 10;
    f.voi_lut = (struct mf_lut){.count = 2, .first = 0, .bits = 10, .data = table};
    expect_display(&f, (double[]){0, 1, 1});
}

static void monochrome1_is_inverted_and_padding_is_black(void **state)
{
    (void)state;
    const uint16_t samples[4] = {0, 100, 65535, 65500};
    struct mf_frame f = u16_frame(samples, 4);
    f.photometric = MF_PHOTOMETRIC_MONOCHROME1;
    f.has_window = true;
    f.voi_function = MF_VOI_LINEAR_EXACT;
    f.window_center = 50;
    f.window_width = 100;
    f.has_padding = true;
    f.padding_low = 65500;
    f.padding_high = 65535;
    expect_display(&f, (double[]){1, 0, 0, 0});
}

/* NumPy: np.percentile(np.arange(11)*10, [0.5, 99.5]) = 0.5, 99.5; padding does not count. */
static void percentiles_leave_padding_out(void **state)
{
    (void)state;
    uint16_t samples[12] = {0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 60000};
    double want[12];
    for (int i = 0; i < 11; i++)
        want[i] = fmin(1, fmax(0, (samples[i] - 0.5) / 99));
    want[11] = 0;
    struct mf_frame f = u16_frame(samples, 12);
    f.has_padding = true;
    f.padding_low = f.padding_high = 60000;
    expect_display(&f, want);
    f.rescale_slope = -2; /* falling: the picture is inverted */
    for (int i = 0; i < 11; i++)
        want[i] = 1 - want[i];
    expect_display(&f, want);
}

static void constant_and_all_padding_images_work(void **state)
{
    (void)state;
    const uint16_t samples[3] = {7, 7, 7};
    struct mf_frame f = u16_frame(samples, 3);
    expect_display(&f, (double[]){0, 0, 0});
    f.has_padding = true;
    f.padding_low = f.padding_high = 7;
    expect_display(&f, (double[]){0, 0, 0});
}

/* The same values as 32-bit integers and as floats give the same picture as 16 bits. */
static void wide_samples_agree_with_narrow_ones(void **state)
{
    (void)state;
    enum { N = 50 };
    uint16_t narrow[N];
    int32_t wide[N];
    double doubles[N];
    for (int i = 0; i < N; i++)
        doubles[i] = wide[i] = narrow[i] = (uint16_t)(i * 7919 % 1000);
    struct mf_frame f = u16_frame(narrow, N);
    f.rescale_slope = 0.5;
    f.rescale_intercept = -100;
    f.has_padding = true;
    f.padding_low = f.padding_high = narrow[3];
    float a[N], b[N], c[N];
    assert_true(mf_grayscale_display(&f, a, NULL));
    f.type = MF_SAMPLE_I32;
    f.bits_stored = 32;
    f.high_bit = 31;
    f.samples = wide;
    assert_true(mf_grayscale_display(&f, b, NULL));
    f.type = MF_SAMPLE_F64;
    f.samples = doubles;
    assert_true(mf_grayscale_display(&f, c, NULL));
    for (int i = 0; i < N; i++) {
        assert_true(fabsf(a[i] - b[i]) < 1e-6f);
        assert_true(fabsf(a[i] - c[i]) < 1e-6f);
    }
}

static void floats_that_are_not_finite_are_black(void **state)
{
    (void)state;
    const float samples[4] = {NAN, 0, 1, INFINITY};
    struct mf_frame f = u16_frame(NULL, 4);
    f.type = MF_SAMPLE_F32;
    f.bits_stored = 32;
    f.high_bit = 31;
    f.samples = samples;
    f.has_window = true;
    f.voi_function = MF_VOI_LINEAR_EXACT;
    f.window_center = 0.5;
    f.window_width = 1;
    expect_display(&f, (double[]){0, 0, 1, 1});
    f.has_window = false;
    expect_display(&f, (double[]){0, 0, 1, 1});
}

static void colour_becomes_luma(void **state)
{
    (void)state;
    const uint8_t rgb[9] = {255, 0, 0, 0, 255, 0, 0, 0, 255};
    struct mf_frame f = u16_frame(NULL, 3);
    f.type = MF_SAMPLE_U8;
    f.bits_stored = 8;
    f.high_bit = 7;
    f.samples = rgb;
    f.samples_per_pixel = 3;
    f.photometric = MF_PHOTOMETRIC_RGB;
    expect_display(&f, (double[]){0.299, 0.587, 0.114});
    expect_modality(&f, (double[]){0.299 * 255, 0.587 * 255, 0.114 * 255});
    f.photometric = MF_PHOTOMETRIC_YBR_FULL; /* the first sample is the luma */
    expect_display(&f, (double[]){1, 0, 0});
    assert_int_equal(mf_grayscale_channels(&f), 3);
}

static void ybr_becomes_rgb_for_viewers(void **state)
{
    (void)state;
    /* PS3.3 C.7.6.3.1.2: red, white, black. */
    const uint8_t ybr[9] = {76, 85, 255, 255, 128, 128, 0, 128, 128};
    uint8_t out[9];
    struct mf_frame f = u16_frame(NULL, 3);
    f.type = MF_SAMPLE_U8;
    f.bits_stored = 8;
    f.high_bit = 7;
    f.samples = ybr;
    f.samples_per_pixel = 3;
    f.photometric = MF_PHOTOMETRIC_YBR_FULL;
    assert_true(mf_grayscale_display8(&f, out, NULL));
    const uint8_t want[9] = {254, 0, 0, 255, 255, 255, 0, 0, 0};
    for (int i = 0; i < 9; i++)
        assert_in_range(out[i], want[i] > 1 ? want[i] - 1 : 0, want[i] + 1);
}

static void palette_is_looked_up(void **state)
{
    (void)state;
    const uint8_t samples[3] = {0, 1, 9};
    const uint16_t red[2] = {0, 65535}, green[2] = {65535, 0}, blue[2] = {0, 0};
    struct mf_frame f = u16_frame(NULL, 3);
    f.type = MF_SAMPLE_U8;
    f.bits_stored = 8;
    f.high_bit = 7;
    f.samples = samples;
    f.photometric = MF_PHOTOMETRIC_PALETTE;
    f.palette[0] = (struct mf_lut){.count = 2, .bits = 16, .data = red};
    f.palette[1] = (struct mf_lut){.count = 2, .bits = 16, .data = green};
    f.palette[2] = (struct mf_lut){.count = 2, .bits = 16, .data = blue};
    expect_display(&f, (double[]){0.587, 0.299, 0.299});
    uint8_t out[9];
    assert_true(mf_grayscale_display8(&f, out, NULL));
    assert_memory_equal(out, ((uint8_t[]){0, 255, 0, 255, 0, 0, 255, 0, 0}), 9);
}

static void bytes_round_the_display_values(void **state)
{
    (void)state;
    enum { N = 300 };
    uint16_t samples[N];
    float values[N];
    uint8_t bytes[N];
    for (int i = 0; i < N; i++)
        samples[i] = (uint16_t)(i * 37);
    struct mf_frame f = u16_frame(samples, N);
    assert_true(mf_grayscale_display(&f, values, NULL));
    assert_true(mf_grayscale_display8(&f, bytes, NULL));
    assert_int_equal(mf_grayscale_channels(&f), 1);
    for (int i = 0; i < N; i++)
        assert_int_equal(bytes[i], (int)floorf(values[i] * 255 + 0.5f));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rescale_and_sign_of_12_bits),
        cmocka_unit_test(high_bit_above_the_stored_bits_shifts),
        cmocka_unit_test(modality_lut_clamps_at_both_ends),
        cmocka_unit_test(linear_window),
        cmocka_unit_test(window_of_width_one_is_a_threshold),
        cmocka_unit_test(linear_exact_and_sigmoid_windows),
        cmocka_unit_test(voi_lut_wins_over_the_window),
        cmocka_unit_test(monochrome1_is_inverted_and_padding_is_black),
        cmocka_unit_test(percentiles_leave_padding_out),
        cmocka_unit_test(constant_and_all_padding_images_work),
        cmocka_unit_test(wide_samples_agree_with_narrow_ones),
        cmocka_unit_test(floats_that_are_not_finite_are_black),
        cmocka_unit_test(colour_becomes_luma),
        cmocka_unit_test(ybr_becomes_rgb_for_viewers),
        cmocka_unit_test(palette_is_looked_up),
        cmocka_unit_test(bytes_round_the_display_values),
    };
    return cmocka_run_group_tests_name("core/grayscale", tests, NULL, NULL);
}
