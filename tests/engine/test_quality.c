/* Flags of technical quality on a simulated chest, at several sizes. */
#include "engine/trust/quality.h"
#include "tests/engine/bundle_copy.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint64_t seed = 2;

static double gaussian(void)
{
    double u[2];
    for (int i = 0; i < 2; i++) {
        seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        u[i] = (double)(seed >> 11) / (double)(UINT64_C(1) << 53);
    }
    return sqrt(-2 * log(1 - u[0])) * cos(6.283185307179586 * u[1]);
}

/* A body on a dark ground, two dark lungs, a bright mediastinum. */
static float *chest(size_t rows, size_t cols, double noise, int inverted)
{
    float *image = malloc(rows * cols * sizeof *image);
    assert_non_null(image);
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++) {
            double y = (double)r / (double)rows - 0.5, x = fabs((double)c / (double)cols - 0.5);
            double body = x < 0.45 && y > -0.4 ? 0.6 : 0.1;
            double lung = exp(-pow((x - 0.22) / 0.12, 2) - pow(y / 0.3, 2));
            double v = body - 0.35 * lung + noise * gaussian();
            image[r * cols + c] = (float)fmin(fmax(inverted ? 1 - v : v, 0), 1);
        }
    return image;
}

static uint32_t flags(size_t rows, size_t cols, double noise, int inverted, bool is_chest)
{
    float *image = chest(rows, cols, noise, inverted);
    uint32_t found = mf_quality_of(image, rows, cols, is_chest);
    free(image);
    return found;
}

static void a_chest_has_no_flags_at_any_size(void **state)
{
    static const size_t SIZES[][2] = {{16, 16}, {90, 70}, {257, 256}, {1024, 1300}};
    (void)state;
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(flags(SIZES[i][0], SIZES[i][1], 0.003, 0, true), 0);
    assert_int_equal(mf_quality_of(NULL, 15, 400, true), 0); /* too small to tell */
}

static void each_fault_has_its_flag(void **state)
{
    float image[64 * 64];
    (void)state;
    assert_int_equal(flags(512, 512, 0.06, 0, true), MF_QUALITY_NOISY);
    assert_int_equal(flags(512, 512, 0.003, 1, true), MF_QUALITY_INVERTED);
    assert_int_equal(flags(512, 512, 0.003, 1, false), 0); /* no chest: cannot be told */
    for (size_t i = 0; i < 64 * 64; i++)
        image[i] = 0.4f;
    assert_int_equal(mf_quality_of(image, 64, 64, true), MF_QUALITY_BLANK);
    for (size_t i = 0; i < 64 * 64; i++)
        image[i] = i % 64 < 40 ? 1 : 0.3f;
    assert_true(mf_quality_of(image, 64, 64, false) & MF_QUALITY_SATURATED);
}

static void a_lung_on_the_edge_is_cut_off(void **state)
{
    uint8_t mask[50 * 50] = {0};
    (void)state;
    for (int i = 10; i < 40; i++)
        mask[i * 50 + 20] = 1;
    assert_int_equal(mf_quality_of_mask(mask, 50), 0);
    for (int i = 10; i < 15; i++)
        mask[i * 50 + 49] = 1; /* a tenth of the side: just not */
    assert_int_equal(mf_quality_of_mask(mask, 50), 0);
    mask[15 * 50 + 49] = 1;
    assert_int_equal(mf_quality_of_mask(mask, 50), MF_QUALITY_CUT_OFF);
}

static void names_are_as_in_a_result(void **state)
{
    (void)state;
    assert_string_equal(mf_quality_name(0), "blank");
    assert_string_equal(mf_quality_name(4), "lungs_cut_off");
    assert_string_equal(mf_quality_name(5), "blurred");
    assert_string_equal(mf_quality_name(6), "");
}

static void a_bundle_may_refuse_some(void **state)
{
    char dir[64], path[128];
    struct mf_error err = MF_ERROR_INIT;
    (void)state;
    assert_true(bundle_copy("no-segmenter", dir));
    snprintf(path, sizeof path, "%s/bundle.json", dir);
    json_t *json = mf_json_read_file(path, NULL, NULL);
    static const char *const FLAGS[] = {"inverted", "dusty"};
    for (int i = 0; i < 2; i++) {
        json_object_set_new(json, "quality", json_pack("{s:[s]}", "refuse", FLAGS[i]));
        char *text = mf_json_text(json, 0);
        assert_true(write_text(path, text, strlen(text)) && mf_bundle_write_manifest(dir, NULL));
        free(text);
        struct mf_bundle *b = mf_bundle_open(dir, MF_BUNDLE_METADATA, &err);
        if (i == 0)
            assert_int_equal(mf_bundle_refused_quality(b), MF_QUALITY_INVERTED);
        else
            assert_non_null(strstr(err.msg, "quality.refuse: \"dusty\" is no quality flag"));
        mf_bundle_free(b);
    }
    json_decref(json);
    bundle_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_chest_has_no_flags_at_any_size),
        cmocka_unit_test(each_fault_has_its_flag),
        cmocka_unit_test(a_lung_on_the_edge_is_cut_off),
        cmocka_unit_test(a_bundle_may_refuse_some),
        cmocka_unit_test(names_are_as_in_a_result),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
