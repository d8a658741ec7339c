/*
 * The device's work on masks (engine/frame_ops.h) against the host's, over masks of many kinds with
 * poisoned outputs; then studies through the whole engine on both: boxes, masks, quality, logits
 * (not with MF_TEST_SANITIZE). Runs on the emulated backend and, as gpu_masks, on a GPU (see
 * test_frames.c).
 */
#include "engine/engine.h"
#include "engine/preprocess.h"
#include "engine/trust/quality.h"
#include "tests/cuda/device_arrays.h"
#include "tests/engine/bundle_copy.h"

#include <math.h>

static bool large;

enum kind { EMPTY, FULL, SPECKS, BLOBS, RINGS, SNAKE, TWINS, CORNERS, KINDS };

/* A map whose positive part is of that kind. */
static float *map_of(enum kind kind, size_t size)
{
    float *p = malloc(size * size * sizeof *p);
    double a = uniform() * 7, b = uniform() * 7, share = uniform();
    assert_non_null(p);
    for (size_t i = 0; i < size * size; i++) {
        size_t x = i % size, y = i / size;
        double u = (double)x / (double)size, v = (double)y / (double)size;
        bool set = false;
        switch (kind) {
        case FULL:
            set = true;
            break;
        case SPECKS:
            set = uniform() < share;
            break;
        case BLOBS:
            set = sin(9 * u + a) * cos(8 * v + b) > 0.3;
            break;
        case RINGS:
            set = (size_t)(hypot(u - 0.5, v - 0.5) * 30) % 2 == 0;
            break;
        case SNAKE: /* one component whose ends are far apart */
            set = y % 2 == 0 || (y % 4 == 1 ? x + 1 == size : x == 0);
            break;
        case TWINS: /* equally large: the first one stays */
            set = (x + 1 < size / 2) != (x > size / 2) && y % (size + 1) < size / 2;
            break;
        case CORNERS: /* connected by corners alone */
            set = (x + y) % 2 == 0 && x < size - size / 3;
            break;
        default:
            break;
        }
        p[i] = set ? 0.1f + (float)uniform() : -(float)uniform();
    }
    return p;
}

static const size_t SIZES[] = {1, 2, 3, 16, 33, 96, 512};

static size_t sizes(void)
{
    return sizeof SIZES / sizeof *SIZES - (large ? 0 : 1);
}

static void host_mask(const float *soft, size_t size, uint8_t *mask)
{
    uint32_t *roots = malloc(size * (size + 1) * 4), *counts = malloc(size * (size + 1) * 4);
    for (size_t i = 0; i < size * size; i++)
        mask[i] = soft[i] > 0;
    mf_keep_largest(mask, size, roots, counts);
    free(roots);
    free(counts);
}

/* Both structures' masks, on the device and, equal to them, in `masks`. */
static uint8_t *check_components(enum kind kind, size_t size, uint8_t *masks)
{
    size_t n = size * size;
    uint8_t *there = gpu_poisoned(2 * n);
    uint32_t *labels = gpu_poisoned(n * sizeof *labels), *counts = gpu_poisoned(n * sizeof *counts);
    uint64_t *best = gpu_poisoned(sizeof *best);
    for (size_t k = 0; k < 2; k++) {
        float *soft = map_of(k ? (enum kind)((kind + 3) % KINDS) : kind, size);
        float *device = gpu_copy(soft, n * sizeof *soft);
        gpu.ops->component(gpu.be, device, size, there + k * n, labels, counts, best);
        host_mask(soft, size, masks + k * n);
        gpu_equals(there + k * n, masks + k * n, n, "the largest component");
        free(soft);
    }
    return there;
}

static void check_facts(const uint8_t *masks, const uint8_t *there, size_t size)
{
    size_t n = size * size, words = MF_FACT_FIRST + 2 * size, set[2] = {0, 0};
    uint32_t *facts = gpu_poisoned(words * sizeof *facts);
    gpu.ops->facts(gpu.be, there, size, facts);
    uint32_t *got = gpu_get(facts, words * sizeof *got);
    uint8_t *both = malloc(n);
    for (size_t i = 0; i < n; i++) {
        set[0] += masks[i];
        set[1] += masks[n + i];
        both[i] = masks[i] | masks[n + i];
    }
    assert_true(got[MF_FACT_SET] == set[0] && got[MF_FACT_SET + 1] == set[1]);
    struct mf_run *want = calloc(size, sizeof *want), *runs = calloc(size, sizeof *runs);
    const uint32_t *first = got + MF_FACT_FIRST;
    bool any = mf_fill_hull(both, size, want);
    assert_int_equal(any, mf_fill_hull_of(first, first + size, size, runs));
    assert_memory_equal(runs, want, size * sizeof *runs);
    size_t edge[4];
    for (int k = 0; k < 4; k++)
        edge[k] = got[MF_FACT_EDGE + k];
    assert_int_equal(mf_quality_of_edges(edge, size), mf_quality_of_mask(both, size));
    free(got);
    free(both);
    free(want);
    free(runs);
}

static void masks_are_the_hosts(void **state)
{
    (void)state;
    gpu_start();
    for (size_t i = 0; i < sizes(); i++)
        for (int kind = 0; kind < KINDS; kind++) {
            uint8_t *masks = malloc(2 * SIZES[i] * SIZES[i]);
            uint8_t *there = check_components((enum kind)kind, SIZES[i], masks);
            check_facts(masks, there, SIZES[i]);
            gpu_forget("masks");
            free(masks);
        }
    gpu_stop();
}

static void sure_cells_are_counted(void **state)
{
    static const size_t CELLS[] = {1, 31, 257, 6000};
    (void)state;
    gpu_start();
    for (size_t i = 0; i < 4; i++) {
        size_t cells = CELLS[i], apart = cells + 5;
        float logits[3 * 6005];
        uint32_t want[6] = {0}, *counts = gpu_poisoned(sizeof want);
        for (size_t k = 0; k < 3 * apart; k++) {
            logits[k] = k % 7 ? (float)(uniform() - 0.5) / 3 : k % 2 ? 0.05f : -0.05f;
            if (k % apart < cells) {
                want[2 * (k / apart)] += logits[k] > 0.05f;
                want[2 * (k / apart) + 1] += logits[k] > -0.05f;
            }
        }
        float *there = gpu_copy(logits, 3 * apart * sizeof *logits);
        gpu.ops->mask_counts(gpu.be, there, cells, apart, 3, 0.05f, counts);
        gpu_equals(counts, want, sizeof want, "counts of sure cells");
        gpu_forget("counts");
    }
    gpu_stop();
}

static void check_region(enum kind kind, size_t size, double radius, double sigma)
{
    size_t n = size * size;
    float *soft = map_of(kind, size), *between = malloc(n * sizeof *between);
    uint8_t *mask = malloc(n);
    struct mf_run *runs = calloc(size, sizeof *runs);
    uint32_t disc[MF_REACH + 1], box[4], around[4];
    float weights[2 * MF_REACH + 1] = {0};
    host_mask(soft, size, mask);
    if (mf_fill_hull(mask, size, runs)) {
        struct mf_device_region r = {.runs = gpu_copy(runs, size * sizeof *runs),
                                     .size = size,
                                     .reach = mf_disc(radius, disc),
                                     .blur = mf_blur_weights(sigma, weights),
                                     .soft = gpu_poisoned(n * sizeof(float)),
                                     .between = gpu_poisoned(n * sizeof(float))};
        r.disc = gpu_copy(disc, (r.reach + 1) * sizeof *disc);
        r.weights = gpu_copy(weights, (2 * r.blur + 1) * sizeof *weights);
        gpu.ops->region(gpu.be, &r);
        mf_dilate(runs, size, radius, soft);
        mf_region_box(runs, size, disc, r.reach, size, size, 0, box);
        memcpy(around, (uint32_t[]){(uint32_t)size, (uint32_t)size, 0, 0}, sizeof around);
        for (size_t i = 0; i < n; i++)
            if (soft[i] > 0) {
                uint32_t x = (uint32_t)(i % size), y = (uint32_t)(i / size);
                around[0] = x < around[0] ? x : around[0];
                around[1] = y < around[1] ? y : around[1];
                around[2] = x + 1 > around[2] ? x + 1 : around[2];
                around[3] = y + 1 > around[3] ? y + 1 : around[3];
            }
        assert_memory_equal(box, around, sizeof box);
        mf_blur(soft, size, size, sigma, between);
        gpu_equals(r.soft, soft, n * sizeof *soft, "the region's soft edge");
        gpu_forget("regions");
    }
    free(soft);
    free(between);
    free(mask);
    free(runs);
}

static void regions_are_the_hosts(void **state)
{
    (void)state;
    gpu_start();
    for (size_t i = 0; i < sizes(); i++)
        for (int kind = 0; kind < KINDS; kind++) {
            check_region((enum kind)kind, SIZES[i], 0.03 * (double)SIZES[i] * kind, 2.5);
            check_region((enum kind)kind, SIZES[i], 0, kind % 2 ? 0 : 0.4);
        }
    gpu_stop();
}

/* ---- a study through the whole engine on both ---- */

enum { ROWS = 150, COLS = 131, FRAMES = 3, LABELS = 5, MOST = 256 };

struct study {
    struct mf_frame frames[FRAMES];
    const struct mf_frame *list[FRAMES];
    double positions[FRAMES], sharpness[FRAMES];
    float boxes[8 * FRAMES], logits[LABELS];
    uint32_t quality[FRAMES];
    struct mf_segmentation segmentation[FRAMES];
    uint8_t masks[FRAMES][2][MOST * MOST];
    bool told[FRAMES];
};

static uint16_t samples[FRAMES][ROWS * COLS];

static void keep_mask(void *arg, size_t frame, size_t structure, const uint8_t *mask, size_t size)
{
    struct study *s = arg;
    assert_true(size <= MOST);
    memcpy(s->masks[frame][structure], mask, size * size);
    s->told[frame] = true;
}

/* A window, MONOCHROME1 with padding, and no VOI at all: 12 and 16 bits. */
static void make_frames(struct study *s)
{
    memset(s, 0, sizeof *s);
    for (size_t f = 0; f < FRAMES; f++) {
        const float boxes[8] = {10, 20, 44, 80, 52, 18, 88, 84};
        memcpy(s->boxes + 8 * f, boxes, sizeof boxes);
        s->frames[f] = (struct mf_frame){.rows = (uint32_t)(ROWS - 7 * f),
                                         .columns = COLS,
                                         .samples_per_pixel = 1,
                                         .type = f == 2 ? MF_SAMPLE_I16 : MF_SAMPLE_U16,
                                         .photometric = f == 1 ? MF_PHOTOMETRIC_MONOCHROME1
                                                               : MF_PHOTOMETRIC_MONOCHROME2,
                                         .bits_stored = f == 2 ? 16 : 12,
                                         .high_bit = f == 2 ? 15 : 11,
                                         .samples = samples[f],
                                         .rescale_slope = 1,
                                         .has_window = f == 0,
                                         .window_center = 2000,
                                         .window_width = 3500,
                                         .has_padding = f == 1,
                                         .padding_low = 0,
                                         .padding_high = 12};
        s->list[f] = &s->frames[f];
        s->positions[f] = (double)(FRAMES - f);
    }
}

static void run_on(const char *device, const struct mf_bundle *bundle, struct study *s, bool inject)
{
    struct mf_error err = MF_ERROR_INIT;
    const struct mf_engine_options options = {.device = device, .dtype = "f32", .threads = 1};
    make_frames(s);
    const struct mf_engine_input input = {.frames = s->list,
                                          .frame_count = FRAMES,
                                          .positions = s->positions,
                                          .boxes = inject ? s->boxes : NULL,
                                          .mask = keep_mask,
                                          .mask_arg = s};
    struct mf_engine_output output = {.logits = s->logits,
                                      .segmentation = s->segmentation,
                                      .quality = s->quality,
                                      .sharpness = s->sharpness};
    MF_AUTO(mf_engine) struct mf_engine *engine = mf_engine_new(bundle, &options, &err);
    if (!engine || !mf_engine_run(engine, &input, NULL, &output, &err))
        fail_msg("%s: %s", device, err.msg);
}

static void check_study(const char *name, bool inject)
{
    static struct study s[2];
    char dir[64];
    struct mf_error err = MF_ERROR_INIT;
    double scale = 0, off = 0;
    assert_true(bundle_copy(name, dir));
    MF_AUTO(mf_bundle) struct mf_bundle *bundle = mf_bundle_open(dir, MF_BUNDLE_FULL, &err);
    if (!bundle)
        fail_msg("%s: %s", name, err.msg);
    for (int k = 0; k < 2; k++)
        run_on(k ? "cpu" : "cuda:0", bundle, &s[k], inject);
    for (size_t f = 0; f < FRAMES; f++) {
        const struct mf_segmentation *a = &s[0].segmentation[f], *b = &s[1].segmentation[f];
        assert_int_equal(a->status, b->status);
        assert_memory_equal(a->box, b->box, sizeof a->box);
        if (a->reason || b->reason)
            assert_string_equal(a->reason, b->reason);
        assert_int_equal(s[0].quality[f], s[1].quality[f]);
        assert_true(s[0].sharpness[f] == s[1].sharpness[f]);
        assert_int_equal(s[0].told[f], s[1].told[f]);
        assert_memory_equal(s[0].masks[f], s[1].masks[f], sizeof s[0].masks[f]);
    }
    for (size_t l = 0; l < LABELS; l++) {
        off = fmax(off, fabs((double)s[0].logits[l] - s[1].logits[l]));
        scale = fmax(scale, fabs((double)s[1].logits[l]));
    }
    printf("%s%s: logits %.2g off\n", name, inject ? ", given boxes" : "", off / scale);
    assert_true(off <= 1e-4 * scale);
    bundle_remove(dir);
}

static void studies_get_on_the_device_what_they_get_on_the_host(void **state)
{
    (void)state;
    if (getenv("MF_TEST_SANITIZE")) /* minutes, and the kernels have been seen */
        skip();
    for (size_t f = 0; f < FRAMES; f++)
        for (size_t i = 0; i < ROWS * COLS; i++) {
            long y = (long)(i / COLS) - 70, x = (long)(i % COLS) % 64 - 32;
            samples[f][i] =
                (uint16_t)((x * x * 3 + y * y < 2600 ? 700 : 2900) + random_bits() % 200 + 9 * f);
        }
    check_study("full", false);
    check_study("full", true);
    check_study("no-segmenter", false);
    check_study("vit-clahe", false);
    check_study("stack", false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(masks_are_the_hosts),
        cmocka_unit_test(sure_cells_are_counted),
        cmocka_unit_test(regions_are_the_hosts),
        cmocka_unit_test(studies_get_on_the_device_what_they_get_on_the_host),
    };
    int status;
    large = getenv("MF_TEST_LARGE") != NULL;
    return gpu_found(&status) ? cmocka_run_group_tests(tests, NULL, NULL) : status;
}
