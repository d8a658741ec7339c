/* The entropy gradient against finite differences, the head against the engine, and one study
 * alone. */
#include "engine/engine.h"
#include "engine/trust/adapt.h"
#include "tests/engine/bundle_copy.h"
#include "tests/engine/plain_frame.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static uint64_t seed = 21;

static double uniform(void)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (double)(seed >> 11) / (double)(UINT64_C(1) << 53);
}

static double gaussian(void)
{
    return sqrt(-2 * log(1 - uniform())) * cos(6.283185307179586 * uniform());
}

static struct mf_adapt_head *random_head(size_t width, size_t labels)
{
    struct mf_adapt_head *h = mf_adapt_head_new(3, width, labels, NULL);
    assert_non_null(h);
    h->epsilon = 1e-5;
    for (size_t i = 0; i < width; i++) {
        h->gamma[i] = 1 + 0.3 * gaussian();
        h->beta[i] = 0.4 * gaussian();
        h->mean[i] = gaussian();
        h->variance[i] = 0.2 + uniform();
    }
    for (size_t i = 0; i < labels * width; i++)
        h->w2[i] = gaussian();
    for (size_t i = 0; i < labels; i++)
        h->b2[i] = gaussian() - 1;
    return h;
}

/* The loss with γ or β moved: what the gradient is the derivative of. */
static double loss_at(const struct mf_adapt_head *h, const struct mf_adapt_norm *norm,
                      const double *u, size_t count)
{
    double z[64], sum = 0;
    for (size_t b = 0; b < count; b++) {
        mf_adapt_logits(h, norm, u + b * h->width, z);
        sum += mf_adapt_entropy(z, h->labels);
    }
    return sum / (double)count;
}

/* Central differences of fourth order. */
static double difference(const struct mf_adapt_head *h, const struct mf_adapt_norm *norm,
                         const double *u, size_t count, double *value)
{
    const double step = 1e-3, old = *value;
    double f[4];
    const double at[4] = {-2, -1, 1, 2};
    for (int i = 0; i < 4; i++) {
        *value = old + at[i] * step;
        f[i] = loss_at(h, norm, u, count);
    }
    *value = old;
    return (f[0] - 8 * f[1] + 8 * f[2] - f[3]) / (12 * step);
}

static void the_gradient_equals_finite_differences(void **state)
{
    enum { WIDTH = 24, LABELS = 9, COUNT = 17 };
    struct mf_adapt_head *h = random_head(WIDTH, LABELS);
    double u[COUNT * WIDTH], gamma[WIDTH], beta[WIDTH], mean[WIDTH], variance[WIDTH];
    double dgamma[WIDTH], dbeta[WIDTH], work[4 * WIDTH + 2 * LABELS], largest = 0, worst = 0;
    (void)state;
    for (int batch_statistics = 0; batch_statistics < 2; batch_statistics++) {
        for (size_t i = 0; i < COUNT * WIDTH; i++)
            u[i] = h->mean[i % WIDTH] + 1.3 * gaussian();
        memcpy(gamma, h->gamma, sizeof gamma);
        memcpy(beta, h->beta, sizeof beta);
        for (size_t i = 0; i < WIDTH; i++) {
            mean[i] = h->mean[i];
            variance[i] = h->variance[i];
            for (size_t b = 0; batch_statistics && b < COUNT; b++)
                mean[i] += (u[b * WIDTH + i] - h->mean[i]) / COUNT;
        }
        const struct mf_adapt_norm norm = {gamma, beta, mean, variance};
        assert_int_equal(mf_adapt_work(h), sizeof work / sizeof *work);
        double loss = mf_adapt_gradient(h, &norm, u, COUNT, dgamma, dbeta, work);
        assert_true(fabs(loss - loss_at(h, &norm, u, COUNT)) < 1e-14);
        for (size_t i = 0; i < WIDTH; i++) {
            double errors[2] = {dgamma[i] - difference(h, &norm, u, COUNT, &gamma[i]),
                                dbeta[i] - difference(h, &norm, u, COUNT, &beta[i])};
            largest = fmax(largest, fmax(fabs(dgamma[i]), fabs(dbeta[i])));
            worst = fmax(worst, fmax(fabs(errors[0]), fabs(errors[1])));
        }
    }
    printf("largest error %.2g of %.2g\n", worst, largest);
    assert_true(worst < 1e-6 * largest);
    mf_adapt_head_free(h);
}

static void entropy_and_its_slope_are_stable_at_the_ends(void **state)
{
    (void)state;
    assert_true(fabs(mf_adapt_entropy((double[]){0}, 1) - log(2)) < 1e-15);
    assert_true(mf_adapt_entropy((double[]){800, -800}, 2) == 0);
    double steepest = 0; /* of h along z: −z·p·(1 − p) */
    for (double z = -6; z < 6; z += 1e-3) {
        double p = 1 / (1 + exp(-z));
        steepest = fmax(steepest, fabs(z * p * (1 - p)));
    }
    assert_true(fabs(steepest - 0.2239) < 1e-4);
}

/* The mean over batch and labels: twice the same batch is the same step. */
static void the_step_does_not_grow_with_the_batch(void **state)
{
    enum { WIDTH = 6, LABELS = 3 };
    struct mf_adapt_head *h = random_head(WIDTH, LABELS);
    const struct mf_adapt_norm norm = mf_adapt_source(h);
    double u[4 * WIDTH], g[2][WIDTH], b[2][WIDTH], work[4 * WIDTH + 2 * LABELS];
    (void)state;
    for (size_t i = 0; i < 2 * WIDTH; i++)
        u[i] = u[i + 2 * WIDTH] = gaussian();
    mf_adapt_gradient(h, &norm, u, 2, g[0], b[0], work);
    mf_adapt_gradient(h, &norm, u, 4, g[1], b[1], work);
    for (size_t i = 0; i < WIDTH; i++)
        assert_true(fabs(g[0][i] - g[1][i]) < 1e-15 && fabs(b[0][i] - b[1][i]) < 1e-15);
    mf_adapt_head_free(h);
}

static void one_study_alone_moves_within_bounds(void **state)
{
    enum { WIDTH = 12, LABELS = 5 };
    struct mf_adapt_head *h = random_head(WIDTH, LABELS);
    const struct mf_adapt_norm source = mf_adapt_source(h);
    double u[WIDTH], z[LABELS], before[LABELS], again[LABELS];
    struct mf_adapt_episode e;
    (void)state;
    for (size_t i = 0; i < WIDTH; i++)
        u[i] = h->mean[i] + gaussian();
    mf_adapt_logits(h, &source, u, before);
    assert_true(mf_adapt_episodic(h, u, 0.05, 0.05, z, &e, NULL));
    assert_true(e.entropy_after < e.entropy_before && e.max_change > 0);
    assert_true(mf_adapt_episodic(h, u, 1e9, 0, again, &e, NULL)); /* a bound of nothing */
    assert_memory_equal(again, before, sizeof before);
    assert_true(mf_adapt_episodic(h, u, 0.05, 0.05, again, &e, NULL)); /* nothing is remembered */
    assert_memory_equal(again, z, sizeof z);
    u[3] = INFINITY;
    assert_true(mf_adapt_episodic(h, u, 0.05, 0.05, z, &e, NULL));
    mf_adapt_head_free(h);
}

/* The head in double says what the engine's folded layers say in float. */
static void the_head_is_the_engines(void **state)
{
    enum { ROWS = 90, COLS = 70, LABELS = 5 };
    char dir[64];
    static uint8_t pixels[ROWS * COLS];
    float logits[LABELS], readout[4096];
    struct mf_segmentation segmentation;
    struct mf_error err = MF_ERROR_INIT;
    (void)state;
    assert_true(bundle_copy("no-segmenter", dir));
    struct mf_bundle *bundle = mf_bundle_open(dir, MF_BUNDLE_FULL, &err);
    struct mf_engine *engine = bundle ? mf_engine_new(bundle, NULL, &err) : NULL;
    struct mf_adapt_head *h = engine ? mf_adapt_head_load(bundle, &err) : NULL;
    if (!h)
        fail_msg("%s", err.msg);
    for (size_t i = 0; i < sizeof pixels; i++)
        pixels[i] = (uint8_t)(120 + 80 * sin((double)(i % COLS) / 9));
    const struct mf_frame frame = plain_frame(pixels, ROWS, COLS);
    const struct mf_frame *frames[] = {&frame};
    const struct mf_engine_input input = {.frames = frames, .frame_count = 1};
    struct mf_engine_output output = {
        .logits = logits, .segmentation = &segmentation, .readout = readout};
    if (!mf_engine_run(engine, &input, NULL, &output, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(h->inputs, mf_engine_readout_size(engine));
    assert_int_equal(h->labels, LABELS);
    double u[1024], z[LABELS];
    const struct mf_adapt_norm source = mf_adapt_source(h);
    mf_adapt_activation(h, readout, u);
    mf_adapt_logits(h, &source, u, z);
    for (size_t l = 0; l < LABELS; l++)
        if (!(fabs(z[l] - logits[l]) < 1e-4 * (1 + fabs(z[l]))))
            fail_msg("logit %zu: %g, the engine's is %g", l, z[l], (double)logits[l]);
    mf_adapt_head_free(h);
    mf_engine_free(engine);
    mf_bundle_free(bundle);
    bundle_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_gradient_equals_finite_differences),
        cmocka_unit_test(entropy_and_its_slope_are_stable_at_the_ends),
        cmocka_unit_test(the_step_does_not_grow_with_the_batch),
        cmocka_unit_test(one_study_alone_moves_within_bounds),
        cmocka_unit_test(the_head_is_the_engines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
