/* Sharpness on simulated texture: blur of any kind lowers it, brightness, contrast and size do not;
 * its p-value; images that have none. */
#include "engine/trust/sharpness.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

enum { SIDE = 200 };

static uint64_t seed;

static double uniform(void)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (double)(seed >> 11) / (double)(UINT64_C(1) << 53);
}

/* Waves of all directions, the fine ones weaker, as in a radiograph. */
static float *texture(size_t rows, size_t cols)
{
    float *image = calloc(rows * cols, sizeof *image);
    assert_non_null(image);
    seed = 3;
    for (int wave = 1; wave <= 40; wave++) {
        double angle = 6.283185307179586 * uniform(), phase = 6.283185307179586 * uniform();
        double turns = 2.0 * wave / (double)(rows > cols ? rows : cols);
        for (size_t r = 0; r < rows; r++)
            for (size_t c = 0; c < cols; c++)
                image[r * cols + c] +=
                    (float)(0.2 / wave *
                            sin(6.283185307179586 * turns *
                                    (cos(angle) * (double)c + sin(angle) * (double)r) +
                                phase));
    }
    return image;
}

/* Means of `length` pixels along (dx, dy), the edge repeated. */
static float *moved(const float *image, size_t side, int dx, int dy, int length)
{
    float *out = calloc(side * side, sizeof *out);
    int last = (int)side - 1;
    assert_non_null(out);
    for (int r = 0; r <= last; r++)
        for (int c = 0; c <= last; c++)
            for (int k = 0; k < length; k++) {
                int y = r + k * dy < 0 ? 0 : r + k * dy > last ? last : r + k * dy;
                int x = c + k * dx < 0 ? 0 : c + k * dx > last ? last : c + k * dx;
                out[(size_t)r * side + (size_t)c] += image[y * (int)side + x] / (float)length;
            }
    return out;
}

static void motion_in_any_direction_lowers_it(void **state)
{
    static const int WAYS[][2] = {{1, 0}, {0, 1}, {1, 1}, {1, -1}, {2, 1}};
    float *image = texture(SIDE, SIDE);
    double sharp = mf_sharpness_of(image, SIDE, SIDE);
    (void)state;
    for (size_t i = 0; i < sizeof WAYS / sizeof *WAYS; i++) {
        double last = sharp;
        for (int length = 5; length <= 20; length += 5) {
            float *blurred = moved(image, SIDE, WAYS[i][0], WAYS[i][1], length);
            double value = mf_sharpness_of(blurred, SIDE, SIDE);
            free(blurred);
            if (!(value < 0.85 * sharp && (length > 5 || value < last)))
                fail_msg("way %zu, length %d: %g of %g", i, length, value, sharp);
            last = value;
        }
    }
    free(image);
}

static void brightness_and_contrast_cancel_out(void **state)
{
    float *image = texture(SIDE, SIDE);
    double sharp = mf_sharpness_of(image, SIDE, SIDE);
    (void)state;
    for (size_t i = 0; i < SIDE * SIDE; i++)
        image[i] = 0.3f * image[i] + 0.6f;
    assert_true(fabs(mf_sharpness_of(image, SIDE, SIDE) / sharp - 1) < 1e-3);
    free(image);
}

/* The same scene in pixels of another size: on the grid it is the same. */
static void the_size_in_pixels_matters_little(void **state)
{
    static const size_t SIZES[][2] = {{512, 512}, {1024, 1024}, {1500, 1280}};
    (void)state;
    float *image = texture(256, 256);
    double sharp = mf_sharpness_of(image, 256, 256);
    free(image);
    for (size_t i = 0; i < 3; i++) {
        image = texture(SIZES[i][0], SIZES[i][1]);
        double value = mf_sharpness_of(image, SIZES[i][0], SIZES[i][1]);
        free(image);
        if (fabs(value / sharp - 1) > 0.15)
            fail_msg("%zu x %zu: %g, 256 x 256: %g", SIZES[i][0], SIZES[i][1], value, sharp);
    }
}

static void some_images_have_none(void **state)
{
    float *image = texture(SIDE, SIDE);
    (void)state;
    assert_true(isnan(mf_sharpness_of(image, 31, 200)));
    assert_true(isnan(mf_sharpness_of(image, 32, 1200))); /* a strip: six rows of the grid */
    for (size_t i = 0; i < SIDE * SIDE; i++)
        image[i] = 0.5f;
    assert_true(isnan(mf_sharpness_of(image, SIDE, SIDE)));
    for (size_t i = 0; i < SIDE * SIDE; i++)
        image[i] = (float)(i % SIDE % 7); /* stripes: nothing changes along them */
    assert_true(isnan(mf_sharpness_of(image, SIDE, SIDE)));
    free(image);
}

static void the_p_value_counts_what_is_as_blurred(void **state)
{
    const double values[] = {0.9, 1.0, 1.0, 1.2};
    (void)state;
    assert_true(mf_sharpness_p_value(values, 4, 0.5) == 1.0 / 5);
    assert_true(mf_sharpness_p_value(values, 4, 0.9) == 2.0 / 5);
    assert_true(mf_sharpness_p_value(values, 4, 1.0) == 4.0 / 5);
    assert_true(mf_sharpness_p_value(values, 4, 7) == 1);
    assert_true(isnan(mf_sharpness_p_value(values, 4, NAN)));
    assert_true(isnan(mf_sharpness_p_value(NULL, 0, 1)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(motion_in_any_direction_lowers_it),
        cmocka_unit_test(brightness_and_contrast_cancel_out),
        cmocka_unit_test(the_size_in_pixels_matters_little),
        cmocka_unit_test(some_images_have_none),
        cmocka_unit_test(the_p_value_counts_what_is_as_blurred),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
