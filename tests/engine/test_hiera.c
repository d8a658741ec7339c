/* SAM 2's image encoder: windows read from the grid say what gathered windows say, whatever padding
 * the image's size leaves. (Against PyTorch: test_golden_modules, and models/parity.) */
#include "engine/net/net.h"
#include "tests/engine/parity.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { LEVELS = 3, OUTPUTS = 4 };

struct encoder {
    struct mf_exec x;
    struct mf_ops ops;
    struct mf_arena *arena;
    struct mf_weights *weights;
    struct mf_hiera *net;
    size_t rows, cols, sizes[4][2];
    const float *pixels;
    float *out[OUTPUTS]; /* host: the levels and the last stage */
    size_t counts[OUTPUTS];
};

static void open_encoder(struct encoder *e, const char *dtype, bool gather)
{
    struct mf_error err = MF_ERROR_INIT;
    struct mf_loader ld;
    *e = (struct encoder){.ops = mf_cpu_ops, .arena = mf_arena_new((size_t)64 << 20)};
    if (gather)
        e->ops.window_attention = NULL;
    e->weights = mf_weights_open(MF_SOURCE_DIR "/tests/golden/modules/hiera-f16", &err);
    if (!mf_exec_init(&e->x, "cpu", dtype, 1, &err) || !e->weights)
        fail_msg("%s", err.msg);
    e->x.ops = &e->ops;
    mf_loader_init(&ld, e->weights, &e->x, e->arena, &err);
    e->net = mf_hiera_load(&ld);
    if (!mf_loader_finish(&ld, NULL))
        fail_msg("%s", err.msg);
}

static void close_encoder(struct encoder *e)
{
    for (size_t i = 0; i < OUTPUTS; i++)
        free(e->out[i]);
    mf_exec_free(&e->x);
    mf_weights_free(e->weights);
    mf_arena_free(e->arena);
}

static void body(struct mf_exec *x, void *arg)
{
    struct encoder *e = arg;
    float *pixels = mf_exec_floats(x, 3 * e->rows * e->cols), *maps[OUTPUTS];
    for (size_t i = 0; i < OUTPUTS; i++)
        maps[i] = mf_exec_floats(x, e->counts[i]);
    MF_DO(x, upload, pixels, e->pixels, 3 * e->rows * e->cols);
    mf_hiera_run(x, e->net, pixels, e->rows, e->cols, maps, maps[LEVELS]);
    for (size_t i = 0; i < OUTPUTS; i++)
        MF_DO(x, download, e->out[i], maps[i], e->counts[i]);
}

static void run(struct encoder *e, const float *pixels, size_t rows, size_t cols)
{
    struct mf_error err = MF_ERROR_INIT;
    e->pixels = pixels;
    e->rows = rows;
    e->cols = cols;
    mf_hiera_sizes(e->net, rows, cols, e->sizes);
    for (size_t i = 0; i < OUTPUTS; i++) {
        size_t width = i < LEVELS ? mf_hiera_features(e->net) : mf_hiera_width(e->net);
        e->counts[i] = e->sizes[i][0] * e->sizes[i][1] * width;
        free(e->out[i]);
        e->out[i] = malloc(e->counts[i] * sizeof *e->out[i]);
    }
    if (!mf_exec_run(&e->x, body, e, false, &err))
        fail_msg("%zu × %zu: %s", rows, cols, err.msg);
}

/* Grids of the third and fourth stage are 2n × 2m in windows of 14 and n × m in windows of 7 for
 * images of 32n × 32m: n and m from 1 to 8 leave every padding there is. */
static void check_every_padding(const char *dtype, double limit)
{
    enum { MOST = 8 };
    struct encoder folded, gathered;
    float *pixels = malloc(sizeof *pixels * 3 * 32 * MOST * 32 * MOST);
    uint32_t seed = 7;
    for (size_t i = 0; i < (size_t)3 * 32 * MOST * 32 * MOST; i++) {
        seed = seed * 1664525 + 1013904223;
        pixels[i] = (float)(seed >> 8) / (float)(1 << 23) - 1;
    }
    open_encoder(&folded, dtype, false);
    open_encoder(&gathered, dtype, true);
    for (size_t n = 1; n <= MOST; n++)
        for (size_t m = 1; m <= MOST; m++) {
            run(&folded, pixels, 32 * n, 32 * m);
            run(&gathered, pixels, 32 * n, 32 * m);
            for (size_t i = 0; i < OUTPUTS; i++) {
                double d = parity_distance(folded.out[i], gathered.out[i], folded.counts[i]);
                if (!(d <= limit))
                    fail_msg("%zu × %zu, output %zu: %.2e apart", 32 * n, 32 * m, i, d);
            }
        }
    close_encoder(&folded);
    close_encoder(&gathered);
    free(pixels);
}

static void windows_in_the_grid_equal_gathered_ones(void **state)
{
    (void)state;
    check_every_padding("f32", 1e-5);
}

static void windows_in_the_grid_equal_gathered_ones_in_bf16(void **state)
{
    (void)state;
    check_every_padding("bf16", 3e-2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(windows_in_the_grid_equal_gathered_ones),
        cmocka_unit_test(windows_in_the_grid_equal_gathered_ones_in_bf16),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
