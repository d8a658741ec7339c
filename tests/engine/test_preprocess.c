/* Preprocessing against the Python rule: tests/golden/preprocess, and the region's corner cases. */
#include "engine/preprocess.h"
#include "tests/engine/parity.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

struct golden {
    struct mf_safetensors *in, *want;
    const char *name;
    struct parity parity;
};

static float *floats(const struct mf_safetensors *file, const char *name,
                     const struct mf_tensor **ret)
{
    *ret = mf_safetensors_find(file, name);
    if (!*ret)
        fail_msg("no tensor %s", name);
    float *p = malloc(((*ret)->count + 1) * sizeof *p);
    mf_tensor_to_floats(*ret, p);
    return p;
}

static void resize_case(struct golden *g)
{
    const struct mf_tensor *t, *size;
    float *image = floats(g->in, "image", &t), *ignored = floats(g->in, "size", &size);
    size_t rows = (size_t)mf_tensor_integer(size, 0), cols = (size_t)mf_tensor_integer(size, 1);
    float *out = malloc(rows * cols * sizeof *out);
    MF_AUTO(mf_resampler) struct mf_resampler r = {0};
    assert_true(mf_resample(&r, MF_FILTER_BILINEAR_ANTIALIAS, image, t->shape[0], t->shape[1], 1,
                            t->shape[1], out, rows, cols, NULL));
    parity_compare(&g->parity, g->name, g->want, "image", out, rows * cols);
    free(image);
    free(ignored);
    free(out);
}

static void equalise_case(struct golden *g)
{
    const struct mf_tensor *t;
    float *image = floats(g->in, "image", &t);
    uint8_t *levels = malloc(t->count);
    mf_equalise(strstr(g->name, "clahe") ? MF_EQUALISE_CLAHE : MF_EQUALISE_GLOBAL, image,
                t->shape[0], t->shape[1], levels);
    parity_compare(&g->parity, g->name, g->want, "image", image, t->count);
    free(image);
    free(levels);
}

static void component_case(struct golden *g)
{
    const struct mf_tensor *t;
    float *values = floats(g->in, "mask", &t);
    size_t size = t->shape[0], n = t->count;
    uint8_t *mask = malloc(n);
    size_t room = size * (size + 1);
    uint32_t *roots = malloc(room * sizeof *roots), *counts = malloc(room * sizeof *counts);
    for (size_t i = 0; i < n; i++)
        mask[i] = values[i] > 0;
    mf_keep_largest(mask, size, roots, counts);
    for (size_t i = 0; i < n; i++)
        values[i] = mask[i];
    parity_compare(&g->parity, g->name, g->want, "mask", values, n);
    free(values);
    free(mask);
    free(roots);
    free(counts);
}

static void region_case(struct golden *g)
{
    const struct mf_tensor *t, *o, *f;
    float *masks = floats(g->in, "masks", &t), *options = floats(g->in, "options", &o);
    float *frame = floats(g->in, "frame_size", &f);
    size_t size = t->shape[1], n = size * size, rows = (size_t)frame[0], cols = (size_t)frame[1];
    struct mf_segmentation_options so = {
        .mask_dilation = options[0], .mask_blur = options[1], .roi_margin = options[2]};
    /* The options are decimal numbers in Python: take them back from their float32 form. */
    so.mask_dilation = round(so.mask_dilation * 1e6) / 1e6;
    so.mask_blur = round(so.mask_blur * 1e6) / 1e6;
    so.roi_margin = round(so.roi_margin * 1e6) / 1e6;
    uint8_t *mask = malloc(n);
    struct mf_region_scratch scratch = {malloc(size * sizeof(struct mf_run)),
                                        malloc(n * sizeof(float)), malloc(n * sizeof(float))};
    float *weight = malloc(rows * cols * sizeof *weight), *hull = calloc(n, sizeof *hull);
    uint32_t box[4];
    for (size_t i = 0; i < n; i++)
        mask[i] = masks[i] > 0 || masks[n + i] > 0;
    assert_true(mf_fill_hull(mask, size, scratch.runs));
    for (size_t y = 0; y < size; y++)
        for (int x = scratch.runs[y].begin; x < scratch.runs[y].end; x++)
            hull[y * size + (size_t)x] = 1;
    parity_compare(&g->parity, g->name, g->want, "hull", hull, n);
    mf_dilate(scratch.runs, size, so.mask_dilation * (double)size, scratch.soft);
    parity_compare(&g->parity, g->name, g->want, "dilated", scratch.soft, n);
    mf_blur(scratch.soft, size, size, so.mask_blur * (double)size, scratch.between);
    parity_compare(&g->parity, g->name, g->want, "blurred", scratch.soft, n);
    MF_AUTO(mf_resampler) struct mf_resampler r = {0};
    assert_true(mf_region_of(mask, size, rows, cols, &so, &scratch, box));
    assert_true(mf_region_weight(&r, scratch.soft, size, rows, cols, weight, NULL));
    parity_compare(&g->parity, g->name, g->want, "weight", weight, rows * cols);
    const struct mf_tensor *want = mf_safetensors_find(g->want, "box");
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(box[i], mf_tensor_integer(want, i));
    free(masks);
    free(options);
    free(frame);
    free(mask);
    free(scratch.runs);
    free(scratch.soft);
    free(scratch.between);
    free(weight);
    free(hull);
}

static void prompt_case(struct golden *g)
{
    const struct mf_tensor *t;
    float *image = floats(g->in, "image", &t), boxes[8] = {0};
    size_t n = t->count;
    size_t room = t->shape[0] * (t->shape[0] + 1) * sizeof(uint32_t);
    struct mf_prompt_scratch scratch = {malloc(n), malloc(n), malloc(room), malloc(room)};
    bool found = mf_prompt_lungs(image, t->shape[0], &scratch, boxes);
    assert_int_equal(found, mf_safetensors_find(g->want, "boxes") != NULL);
    parity_compare(&g->parity, g->name, g->want, "boxes", boxes, 8);
    free(image);
    free(scratch.dark);
    free(scratch.half);
    free(scratch.roots);
    free(scratch.counts);
}

static void every_case_equals_python(void **state)
{
    const char *root = MF_SOURCE_DIR "/tests/golden/preprocess/cases";
    struct golden g = {0};
    (void)state;
    DIR *d = opendir(root);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        char path[512];
        struct mf_error err = MF_ERROR_INIT;
        if (e->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%.200s/input.safetensors", root, e->d_name);
        g.in = mf_safetensors_open(path, &err);
        snprintf(path, sizeof path, "%s/%.200s/expected.safetensors", root, e->d_name);
        g.want = mf_safetensors_open(path, &err);
        g.name = e->d_name;
        if (!g.in || !g.want)
            fail_msg("%s", err.msg);
        if (strncmp(e->d_name, "resize", 6) == 0)
            resize_case(&g);
        else if (strncmp(e->d_name, "equalise", 8) == 0)
            equalise_case(&g);
        else if (strncmp(e->d_name, "component", 9) == 0)
            component_case(&g);
        else if (strncmp(e->d_name, "prompt", 6) == 0)
            prompt_case(&g);
        else
            region_case(&g);
        mf_safetensors_free(g.in);
        mf_safetensors_free(g.want);
    }
    closedir(d);
    assert_true(g.parity.compared > 0);
    assert_int_equal(g.parity.failed, 0);
}

/* Large enough for threads to be used: the same bits as with one. */
static void threads_do_not_change_the_result(void **state)
{
    enum { ROWS = 700, COLS = 600, OUT = 900, SMALL = 150 };
    float *image = malloc(ROWS * COLS * sizeof *image);
    float *one = malloc(OUT * OUT * sizeof *one), *two = malloc(OUT * OUT * sizeof *two);
    MF_AUTO(mf_resampler) struct mf_resampler serial = {.threads = 1}, parallel = {.threads = 2};
    (void)state;
    for (size_t i = 0; i < ROWS * COLS; i++)
        image[i] = (float)(i * 2654435761u % 1000) / 1000;
    for (size_t side = SMALL; side <= OUT; side += OUT - SMALL) {
        assert_true(mf_resample(&serial, MF_FILTER_BILINEAR_ANTIALIAS, image, ROWS, COLS, 1, COLS,
                                one, side, side, NULL));
        assert_true(mf_resample(&parallel, MF_FILTER_BILINEAR_ANTIALIAS, image, ROWS, COLS, 1, COLS,
                                two, side, side, NULL));
        assert_memory_equal(one, two, side * side * sizeof *one);
    }
    free(image);
    free(one);
    free(two);
}

/* The weighting that runs row by row is the whole weight times the image, inside the box only. */
static void the_weight_applied_is_the_weight_shown(void **state)
{
    enum { SIZE = 32, ROWS = 90, COLS = 1300 };
    float soft[SIZE * SIZE], *m = malloc(ROWS * COLS * sizeof *m);
    float *image = malloc(ROWS * COLS * sizeof *image);
    const uint32_t box[4] = {7, 5, 1290, 80};
    MF_AUTO(mf_resampler) struct mf_resampler r = {.threads = 2};
    (void)state;
    for (size_t i = 0; i < SIZE * SIZE; i++)
        soft[i] = (float)(i * 37 % 101) / 100;
    for (size_t i = 0; i < ROWS * COLS; i++)
        image[i] = 1;
    assert_true(mf_region_weight(&r, soft, SIZE, ROWS, COLS, m, NULL));
    assert_true(mf_region_apply(&r, soft, SIZE, image, ROWS, COLS, box, 0.3, NULL));
    for (uint32_t y = 0; y < ROWS; y++)
        for (uint32_t x = 0; x < COLS; x++) {
            bool inside = x >= box[0] && x < box[2] && y >= box[1] && y < box[3];
            float want = inside ? 0.3f + 0.7f * m[y * COLS + x] : 1;
            assert_true(fabsf(image[y * COLS + x] - want) < 1e-6f);
        }
    free(m);
    free(image);
}

static void an_empty_mask_has_no_region(void **state)
{
    uint8_t mask[16 * 16] = {0};
    struct mf_run runs[16];
    (void)state;
    assert_false(mf_fill_hull(mask, 16, runs));
}

static void a_gate_names_what_fails(void **state)
{
    enum { CELLS = 4, PIXELS = 100 };
    const struct mf_gate gate = {0.5, 0.0, 0.8, 0.03, 0.4, 0.25};
    float logits[2 * CELLS] = {3, 3, -3, -3, 3, 3, -3, -3}, iou[2] = {0.9f, 0.8f},
                     object[2] = {1, 1};
    uint8_t masks[2 * PIXELS] = {0};
    (void)state;
    memset(masks, 1, 20);
    memset(masks + PIXELS, 1, 10);
    assert_null(mf_gate_fails(&gate, logits, CELLS, iou, object, masks, PIXELS));
    memset(masks + PIXELS + 4, 0, 6);
    assert_string_equal(mf_gate_fails(&gate, logits, CELLS, iou, object, masks, PIXELS), "ratio");
    memset(masks + PIXELS, 0, 4);
    assert_string_equal(mf_gate_fails(&gate, logits, CELLS, iou, object, masks, PIXELS), "area");
    logits[2] = 0.01f;
    assert_string_equal(mf_gate_fails(&gate, logits, CELLS, iou, object, masks, PIXELS),
                        "stability");
    object[0] = -1;
    assert_string_equal(mf_gate_fails(&gate, logits, CELLS, iou, object, masks, PIXELS),
                        "object_score");
    iou[0] = NAN;
    assert_string_equal(mf_gate_fails(&gate, logits, CELLS, iou, object, masks, PIXELS),
                        "iou_score");
}

/* The component of a pixel, marked 2; returns its size. */
static uint32_t flood(uint8_t *mask, int size, int y, int x)
{
    if (y < 0 || x < 0 || y >= size || x >= size || mask[y * size + x] != 1)
        return 0;
    mask[y * size + x] = 2;
    uint32_t n = 1;
    for (int k = 0; k < 9; k++)
        n += flood(mask, size, y + k / 3 - 1, x + k % 3 - 1);
    return n;
}

static void the_largest_component_is_that_of_a_flood(void **state)
{
    (void)state;
    enum { MOST = 24 };
    uint8_t mask[MOST * MOST], left[MOST * MOST];
    uint32_t roots[MOST * (MOST + 1)], counts[MOST * (MOST + 1)];
    uint32_t random = 2463534242;
    for (int turn = 0; turn < 4000; turn++) {
        int size = 1 + turn % MOST, best = -1;
        uint32_t most = 0;
        for (int i = 0; i < size * size; i++) {
            random ^= random << 13, random ^= random >> 17, random ^= random << 5;
            left[i] = mask[i] = random % 100 < (uint32_t)(turn % 11) * 10;
        }
        for (int i = 0; i < size * size; i++) {
            uint32_t n = flood(left, size, i / size, i % size);
            best = n > most ? i : best;
            most = n > most ? n : most;
        }
        for (int i = 0; i < size * size; i++)
            left[i] = mask[i];
        if (best >= 0)
            flood(left, size, best / size, best % size);
        mf_keep_largest(mask, (size_t)size, roots, counts);
        for (int i = 0; i < size * size; i++)
            assert_int_equal(mask[i], left[i] == 2);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_case_equals_python),
        cmocka_unit_test(the_largest_component_is_that_of_a_flood),
        cmocka_unit_test(threads_do_not_change_the_result),
        cmocka_unit_test(the_weight_applied_is_the_weight_shown),
        cmocka_unit_test(an_empty_mask_has_no_region),
        cmocka_unit_test(a_gate_names_what_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
