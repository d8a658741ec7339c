/*
 * The device's work on frames (engine/frame_ops.h) against the host's: every operation over odd
 * shapes with poisoned outputs. Runs on the emulated backend and, as gpu_frames, on a GPU;
 * MF_TEST_SEED draws other numbers, MF_TEST_LARGE=1 adds radiographs of their real size.
 */
#include "core/grayscale.h"
#include "engine/preprocess.h"
#include "engine/trust/quality.h"
#include "engine/trust/sharpness.h"
#include "tests/cuda/device_arrays.h"

#include <math.h>

static bool large;

/* rows, columns */
static const size_t SHAPES[][2] = {{1, 1},   {1, 19},   {33, 1},   {7, 5},
                                   {64, 64}, {97, 203}, {300, 41}, {3000, 2500}};

static size_t shapes(void)
{
    return sizeof SHAPES / sizeof *SHAPES - (large ? 0 : 1);
}

/* Display values with edges and flat parts, as a frame has them. */
static float *picture(size_t rows, size_t cols)
{
    float *p = malloc((rows * cols + 1) * sizeof *p);
    assert_non_null(p);
    for (size_t i = 0; i < rows * cols; i++) {
        size_t y = i / cols, x = i % cols;
        float v = 0.5f + 0.4f * sinf((float)y * 0.07f) * cosf((float)x * 0.05f);
        p[i] = x < cols / 8 ? 0 : y > rows - rows / 9 ? 1 : v + 0.05f * (float)(uniform() - 0.5);
    }
    return p;
}

/* ---- display values ---- */

static struct mf_frame frame_of(size_t rows, size_t cols, enum mf_sample_type type, uint32_t bits,
                                void *samples)
{
    size_t bytes = mf_sample_size(type);
    for (size_t i = 0; i < rows * cols; i++) {
        uint32_t v = i % cols < cols / 4 ? 3 : random_bits() >> (i % 5 ? 0 : 4);
        v &= (UINT32_C(1) << bits) - 1;
        if (mf_sample_is_signed(type) && v >> (bits - 1))
            v |= ~((UINT32_C(1) << bits) - 1);
        memcpy((char *)samples + i * bytes, &v, bytes);
    }
    return (struct mf_frame){.rows = (uint32_t)rows,
                             .columns = (uint32_t)cols,
                             .samples_per_pixel = 1,
                             .type = type,
                             .photometric = MF_PHOTOMETRIC_MONOCHROME2,
                             .bits_stored = bits,
                             .high_bit = bits - 1,
                             .samples = samples,
                             .rescale_slope = 1};
}

/* What a worker does with a frame: samples, counts where they are needed, table, look-up. */
static void check_display(const struct mf_frame *f, const char *what)
{
    struct mf_error err = MF_ERROR_INIT;
    size_t n = (size_t)f->rows * f->columns, entries = mf_grayscale_table_size(f),
           bytes = mf_sample_size(f->type);
    float *want = malloc(n * sizeof *want), *table = malloc(65536 * sizeof *table);
    uint32_t *counts = NULL;
    assert_int_equal(entries, bytes == 1 ? 256 : 65536);
    if (!mf_grayscale_display(f, want, &err))
        fail_msg("%s: %s", what, err.msg);
    void *samples = gpu_poisoned(n * bytes), *times = gpu_poisoned(entries * sizeof *counts);
    gpu.ops->fill(gpu.be, 0, samples, f->samples, n * bytes);
    mf_cuda_ops.await(gpu.be, 0);
    if (mf_grayscale_needs_counts(f)) {
        gpu.ops->count(gpu.be, samples, bytes, n, times);
        counts = gpu_get(times, entries * sizeof *counts);
    }
    assert_true(mf_grayscale_table(f, counts, table, &err));
    float *image = gpu_poisoned(n * sizeof *image),
          *device_table = gpu_copy(table, entries * sizeof *table);
    gpu.ops->display(gpu.be, samples, bytes, n, device_table, image);
    mf_cuda_ops.used(gpu.be, 0);
    gpu_equals(image, want, n * sizeof *want, what);
    gpu_forget(what);
    free(want);
    free(table);
    free(counts);
}

/* Every VOI of PS3.3 C.11.2, and none, on one frame. */
static void check_all_voi(struct mf_frame f, const char *what)
{
    static uint16_t lut[1000];
    for (size_t i = 0; i < 1000; i++)
        lut[i] = (uint16_t)(i * i / 16);
    f.rescale_slope = 1.7;
    f.rescale_intercept = -300.25;
    check_display(&f, what); /* percentiles, by a histogram */
    f.has_padding = true;
    f.padding_low = 2;
    f.padding_high = 40;
    f.photometric = MF_PHOTOMETRIC_MONOCHROME1;
    check_display(&f, what);
    f.has_window = true;
    f.window_center = 90.5;
    f.window_width = 333;
    for (int voi = 0; voi < MF_VOI_FUNCTION_COUNT; voi++) {
        f.voi_function = (enum mf_voi_function)voi;
        check_display(&f, what);
    }
    f.modality_lut = (struct mf_lut){.count = 1000, .first = -7, .bits = 16, .data = lut};
    check_display(&f, what);
    f.voi_lut = (struct mf_lut){.count = 700, .first = 5, .bits = 16, .data = lut};
    check_display(&f, what);
    f.photometric = MF_PHOTOMETRIC_PALETTE;
    for (int k = 0; k < 3; k++)
        f.palette[k] = (struct mf_lut){.count = 256, .first = k, .bits = 16, .data = lut + k};
    check_display(&f, what);
}

static void display_values_are_the_hosts_bit_by_bit(void **state)
{
    static const struct {
        enum mf_sample_type type;
        uint32_t bits;
    } KINDS[] = {{MF_SAMPLE_U8, 8},   {MF_SAMPLE_U8, 6},   {MF_SAMPLE_I8, 8},
                 {MF_SAMPLE_U16, 10}, {MF_SAMPLE_U16, 12}, {MF_SAMPLE_U16, 14},
                 {MF_SAMPLE_U16, 16}, {MF_SAMPLE_I16, 12}, {MF_SAMPLE_I16, 16}};
    (void)state;
    gpu_start();
    for (size_t k = 0; k < sizeof KINDS / sizeof *KINDS; k++)
        for (size_t i = k % 2; i < shapes(); i += 3) {
            char what[64];
            uint16_t *samples = malloc(SHAPES[i][0] * SHAPES[i][1] * 2 + 2);
            snprintf(what, sizeof what, "type %d, %u bits, %zu x %zu", (int)KINDS[k].type,
                     KINDS[k].bits, SHAPES[i][0], SHAPES[i][1]);
            check_all_voi(
                frame_of(SHAPES[i][0], SHAPES[i][1], KINDS[k].type, KINDS[k].bits, samples), what);
            free(samples);
        }
    gpu_stop();
}

static void other_samples_have_no_table(void **state)
{
    struct mf_frame f = {.rows = 1, .columns = 1, .samples_per_pixel = 1, .type = MF_SAMPLE_F32};
    (void)state;
    assert_int_equal(mf_grayscale_table_size(&f), 0);
    assert_false(mf_grayscale_needs_counts(&f));
    f.type = MF_SAMPLE_U8;
    f.samples_per_pixel = 3;
    assert_int_equal(mf_grayscale_table_size(&f), 0);
}

/* ---- equalisation ---- */

static void equalised_frames_are_the_hosts_bit_by_bit(void **state)
{
    (void)state;
    gpu_start();
    for (size_t i = 0; i < 2 * shapes(); i++) {
        size_t rows = SHAPES[i / 2][0], cols = SHAPES[i / 2][1], n = rows * cols;
        enum mf_equalisation kind = i % 2 ? MF_EQUALISE_CLAHE : MF_EQUALISE_GLOBAL;
        float *image = picture(rows, cols);
        uint8_t *levels = malloc(n);
        float *device = gpu_copy(image, n * sizeof *image),
              *room = gpu_poisoned(MF_EQUALISE_ROOM * sizeof *room);
        gpu.ops->equalise(gpu.be, kind, device, rows, cols, room);
        mf_equalise(kind, image, rows, cols, levels);
        gpu_equals(device, image, n * sizeof *image, i % 2 ? "CLAHE" : "global");
        gpu_forget("equalisation");
        free(image);
        free(levels);
    }
    float flat[12] = {0.25f, 0.25f, 0.25f, 0.25f, 0.25f, 0.25f,
                      0.25f, 0.25f, 0.25f, 0.25f, 0.25f, 0.25f};
    float *device = gpu_copy(flat, sizeof flat),
          *room = gpu_poisoned(MF_EQUALISE_ROOM * sizeof *room);
    gpu.ops->equalise(gpu.be, MF_EQUALISE_GLOBAL, device, 3, 4, room); /* it stays as it is */
    gpu_equals(device, flat, sizeof flat, "a flat image");
    gpu_stop();
}

/* ---- resampling ---- */

static struct mf_device_axis axis_of(const struct mf_axis *axis)
{
    size_t n = axis->out * axis->taps;
    uint32_t *index = malloc(n * sizeof *index);
    for (size_t i = 0; i < n; i++)
        index[i] = (uint32_t)axis->index[i];
    struct mf_device_axis there = {.index = gpu_copy(index, n * sizeof *index),
                                   .weight = gpu_copy(axis->weight, n * sizeof(float)),
                                   .out = axis->out,
                                   .taps = axis->taps};
    free(index);
    return there;
}

/* max|device − host| / max|host| */
static double distance(const float *device, const float *host, size_t n)
{
    float *got = gpu_get(device, n * sizeof *got);
    double most = 0, scale = 1e-3;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)got[i] - host[i]);
        most = isfinite(d) ? fmax(most, d) : INFINITY;
        scale = fmax(scale, fabs((double)host[i]));
    }
    free(got);
    return most / scale;
}

/* A part of an image (its rows `row` apart) resampled and normalised on both. */
static double check_resample(enum mf_filter filter, size_t rows, size_t cols, size_t row,
                             size_t out_rows, size_t out_cols)
{
    static const float MEAN[3] = {0.485f, 0.456f, 0.406f}, STD[3] = {0.229f, 0.224f, 0.225f};
    MF_AUTO(mf_resampler) struct mf_resampler host = {0}, taps = {0};
    size_t n = out_rows * out_cols;
    float *image = picture(rows, row), *out = malloc(4 * n * sizeof *out);
    assert_true(
        mf_resample(&host, filter, image, rows, cols, 1, row, out, out_rows, out_cols, NULL));
    for (size_t i = 0; i < 3 * n; i++)
        out[n + i] = (out[i % n] - MEAN[i / n]) / STD[i / n];
    assert_true(mf_resample_plan(&taps, filter, rows, cols, out_rows, out_cols, NULL));
    struct mf_device_resample r = {
        .rows = axis_of(&taps.rows),
        .cols = axis_of(&taps.cols),
        .in = gpu_copy(image, rows * row * sizeof *image),
        .in_rows = rows,
        .in_cols = cols,
        .in_row = row,
        .between = gpu_poisoned(mf_device_between(rows, cols, out_rows, out_cols) * sizeof(float)),
        .out = gpu_poisoned(n * sizeof(float)),
        .planes = gpu_poisoned(3 * n * sizeof(float))};
    memcpy(r.mean, MEAN, sizeof MEAN);
    memcpy(r.std, STD, sizeof STD);
    gpu.ops->resample(gpu.be, &r);
    double grey = distance(r.out, out, n), planes = distance(r.planes, out + n, 3 * n);
    gpu_forget("resampling");
    free(image);
    free(out);
    return fmax(grey, planes);
}

static void frames_are_stretched_and_normalised_as_on_the_host(void **state)
{
    static const size_t OUT[][2] = {{1, 1}, {5, 3}, {56, 56}, {518, 518}};
    static const char *const NAMES[] = {"bilinear", "antialiased bilinear", "bicubic",
                                        "antialiased bicubic"};
    double worst = 0;
    (void)state;
    gpu_start();
    for (int filter = MF_FILTER_BILINEAR; filter <= MF_FILTER_BICUBIC_ANTIALIAS; filter++)
        for (size_t i = 0; i < shapes(); i++)
            for (size_t k = 0; k < (large ? 4 : 3); k++) {
                size_t rows = SHAPES[i][0], cols = SHAPES[i][1];
                double d = check_resample((enum mf_filter)filter, rows, cols, cols + 3 * (k % 2),
                                          OUT[k][0], OUT[k][1]);
                if (!(d <= 1e-5))
                    fail_msg("%s, %zu x %zu to %zu x %zu: off by %.3g", NAMES[filter], rows, cols,
                             OUT[k][0], OUT[k][1], d);
                worst = fmax(worst, d);
            }
    printf("resampling: %.2g off at most\n", worst);
    gpu_stop();
}

static void check_weight(size_t size, size_t rows, size_t cols, const uint32_t box[4])
{
    MF_AUTO(mf_resampler) struct mf_resampler host = {0}, taps = {0};
    float *image = picture(rows, cols), *soft = picture(size, size);
    assert_true(
        mf_resample_plan(&taps, MF_FILTER_BILINEAR_ANTIALIAS, size, size, rows, cols, NULL));
    struct mf_device_weighting w = {.rows = axis_of(&taps.rows),
                                    .cols = axis_of(&taps.cols),
                                    .soft = gpu_copy(soft, size * size * sizeof *soft),
                                    .size = size,
                                    .between = gpu_poisoned(size * cols * sizeof(float)),
                                    .image = gpu_copy(image, rows * cols * sizeof *image),
                                    .box = {box[0], box[1], box[2], box[3]},
                                    .base = 0.3f,
                                    .rest = 0.7f};
    gpu.ops->weight(gpu.be, &w);
    assert_true(mf_region_apply(&host, soft, size, image, rows, cols, box, 0.3f, NULL));
    assert_true(distance(w.image, image, rows * cols) <= 1e-6);
    gpu_forget("the region's weight");
    free(image);
    free(soft);
}

static void regions_are_weighted_as_on_the_host(void **state)
{
    (void)state;
    gpu_start();
    check_weight(32, 97, 70, (uint32_t[]){3, 9, 70, 80});
    check_weight(96, 33, 200, (uint32_t[]){0, 0, 200, 33});
    check_weight(16, 5, 5, (uint32_t[]){4, 4, 5, 5});
    if (large)
        check_weight(512, 3000, 2500, (uint32_t[]){100, 200, 2300, 2900});
    gpu_stop();
}

/* ---- what quality is told by ---- */

static void check_sums(const float *image, const float *device, size_t rows, size_t cols)
{
    struct mf_quality_part plan[MF_QUALITY_PARTS];
    struct mf_device_part parts[MF_QUALITY_PARTS];
    struct mf_quality_sums sums[MF_QUALITY_PARTS] = {{0}};
    size_t step = mf_quality_plan(rows, cols, plan);
    if (!step)
        return;
    for (int k = 0; k < MF_QUALITY_PARTS; k++)
        parts[k] = (struct mf_device_part){(uint32_t)plan[k].r0, (uint32_t)plan[k].r1,
                                           (uint32_t)plan[k].c0, (uint32_t)plan[k].c1};
    size_t lines = (rows + step - 1) / step, n = MF_QUALITY_PARTS * lines * 3;
    double *there = gpu_poisoned(n * sizeof *there);
    gpu.ops->sums(gpu.be, device, cols, parts, MF_QUALITY_PARTS, lines, step, MF_QUALITY_NOISE,
                  there);
    double *got = gpu_get(there, n * sizeof *got);
    for (size_t k = 0; k < MF_QUALITY_PARTS; k++) {
        double white = 0, sum = 0;
        size_t points = 0;
        for (size_t r = plan[k].r0; r < plan[k].r1; r += step)
            for (size_t c = plan[k].c0; c < plan[k].c1; c += step, points++) {
                white += image[r * cols + c] >= MF_QUALITY_WHITE;
                sum += image[r * cols + c];
            }
        for (size_t r = 0; r < lines; r++) {
            sums[k].sum += got[(k * lines + r) * 3];
            sums[k].squares += got[(k * lines + r) * 3 + 1];
            sums[k].white += got[(k * lines + r) * 3 + 2];
        }
        sums[k].points = points;
        assert_true(sums[k].white == white && isfinite(sums[k].squares));
        if (k != MF_QUALITY_NOISE)
            assert_true(fabs(sums[k].sum - sum) <= 1e-12 * (1 + fabs(sum)));
    }
    for (int chest = 0; chest < 2; chest++)
        assert_int_equal(mf_quality_judge(sums, chest), mf_quality_of(image, rows, cols, chest));
    free(got);
}

static void quality_is_told_as_on_the_host(void **state)
{
    static const size_t SIZES[][2] = {{16, 16},  {17, 300},  {64, 64},
                                      {270, 33}, {333, 519}, {3000, 2500}};
    (void)state;
    gpu_start();
    for (size_t i = 0; i < 6 - (large ? 0 : 1); i++)
        for (int kind = 0; kind < 3; kind++) { /* as it is, inverted, all noise */
            size_t rows = SIZES[i][0], cols = SIZES[i][1];
            struct mf_sharpness_grid g;
            float *image = picture(rows, cols);
            for (size_t k = 0; kind && k < rows * cols; k++)
                image[k] = kind == 1 ? 1 - image[k] : (float)uniform();
            float *device = gpu_copy(image, rows * cols * sizeof *image);
            check_sums(image, device, rows, cols);
            if (mf_sharpness_plan(rows, cols, &g)) {
                float *cells = gpu_poisoned(g.rows * g.cols * sizeof *cells);
                gpu.ops->cells(gpu.be, device, cols, g.rows, g.cols, g.step, g.stride, cells);
                float *got = gpu_get(cells, g.rows * g.cols * sizeof *got);
                double have = mf_sharpness_of_cells(got, g.rows, g.cols),
                       want = mf_sharpness_of(image, rows, cols);
                assert_true(have == want || (isnan(have) && isnan(want)));
                free(got);
            }
            gpu_forget("quality");
            free(image);
        }
    gpu_stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(display_values_are_the_hosts_bit_by_bit),
        cmocka_unit_test(other_samples_have_no_table),
        cmocka_unit_test(equalised_frames_are_the_hosts_bit_by_bit),
        cmocka_unit_test(frames_are_stretched_and_normalised_as_on_the_host),
        cmocka_unit_test(regions_are_weighted_as_on_the_host),
        cmocka_unit_test(quality_is_told_as_on_the_host),
    };
    int status;
    large = getenv("MF_TEST_LARGE") != NULL;
    return gpu_found(&status) ? cmocka_run_group_tests(tests, NULL, NULL) : status;
}
