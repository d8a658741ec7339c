/*
 * Guarded adaptation of a site: every guard alone, immutable states, and streams of 5,000 studies
 * (no shift, noise, blur, another scanner's look, bursts of one disease) on which the adapted
 * network must not be worse than the untouched one, while unguarded TENT collapses.
 *
 * The world is simulated: findings y, an activation u = M·y + noise, and a head that was fitted to
 * them by plain gradient descent, so that its entropy means something.
 */
#include "engine/trust/adapt_site.h"
#include "tests/json_patch.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { WIDTH = 12, LABELS = 5, BATCH = 50, STREAM = 5000, TRAIN = 2000 };

static const char HASH[] = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
static const double PREVALENCE[LABELS] = {0.3, 0.15, 0.1, 0.05, 0.03};

/* Worse than off by no more than this, in mean Brier score over a stream. */
static const double MARGIN = 0.001;

static struct mf_adapt_head *head;
static struct mf_adapt_yardstick yardstick;
static double mix[WIDTH][LABELS], mean_p[LABELS], deviation_p[LABELS];
static uint64_t seed;

static double uniform(void)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (double)(seed >> 11) / (double)(UINT64_C(1) << 53);
}

static double gaussian(void)
{
    return sqrt(-2 * log(1 - uniform())) * cos(6.283185307179586 * uniform());
}

static double sigmoid(double z)
{
    return 1 / (1 + exp(-z));
}

/* One study; `only` ≥ 0 makes a study of a burst of that finding. */
static void draw(double *u, uint8_t *y, int only)
{
    for (int l = 0; l < LABELS; l++)
        y[l] = only >= 0 ? l == only : uniform() < PREVALENCE[l];
    for (int i = 0; i < WIDTH; i++) {
        u[i] = gaussian();
        for (int l = 0; l < LABELS; l++)
            u[i] += mix[i][l] * y[l];
    }
}

/* Fits W₂ and b₂ to TRAIN studies by gradient descent on the log loss. */
static void train(void)
{
    static double a[TRAIN][WIDTH];
    static uint8_t y[TRAIN][LABELS];
    for (int n = 0; n < TRAIN; n++) {
        double u[WIDTH];
        draw(u, y[n], -1);
        for (int i = 0; i < WIDTH; i++) {
            double x = (u[i] - head->mean[i]) / sqrt(head->variance[i] + head->epsilon);
            a[n][i] = 0.5 * x * erfc(-x * 0.70710678118654752440);
        }
    }
    for (int step = 0; step < 300; step++)
        for (int l = 0; l < LABELS; l++) {
            double g[WIDTH] = {0}, gb = 0;
            for (int n = 0; n < TRAIN; n++) {
                double z = head->b2[l];
                for (int i = 0; i < WIDTH; i++)
                    z += head->w2[l * WIDTH + i] * a[n][i];
                double d = (sigmoid(z) - y[n][l]) / TRAIN;
                gb += d;
                for (int i = 0; i < WIDTH; i++)
                    g[i] += d * a[n][i];
            }
            head->b2[l] -= 2 * gb;
            for (int i = 0; i < WIDTH; i++)
                head->w2[l * WIDTH + i] -= 2 * g[i];
        }
}

/* Entropy and mean p of calibration cases under the source state. */
static void measure(void)
{
    enum { CASES = 400 };
    const struct mf_adapt_norm source = mf_adapt_source(head);
    double z[LABELS], u[WIDTH], squares[LABELS] = {0};
    uint8_t y[LABELS];
    yardstick = (struct mf_adapt_yardstick){CASES, 0, mean_p, deviation_p};
    memset(mean_p, 0, sizeof mean_p);
    for (int n = 0; n < CASES; n++) {
        draw(u, y, -1);
        mf_adapt_logits(head, &source, u, z);
        yardstick.entropy += mf_adapt_entropy(z, LABELS) / CASES;
        for (int l = 0; l < LABELS; l++) {
            mean_p[l] += sigmoid(z[l]) / CASES;
            squares[l] += sigmoid(z[l]) * sigmoid(z[l]) / CASES;
        }
    }
    for (int l = 0; l < LABELS; l++)
        deviation_p[l] = sqrt(squares[l] - mean_p[l] * mean_p[l]);
}

static int setup(void **state)
{
    (void)state;
    seed = 77;
    head = mf_adapt_head_new(1, WIDTH, LABELS, NULL);
    if (!head)
        return -1;
    head->epsilon = 1e-5;
    for (int i = 0; i < WIDTH; i++) {
        head->gamma[i] = 1;
        head->variance[i] = 1;
        for (int l = 0; l < LABELS; l++) {
            mix[i][l] = 1.1 * gaussian();
            head->mean[i] += PREVALENCE[l] * mix[i][l];
            head->variance[i] += PREVALENCE[l] * (1 - PREVALENCE[l]) * mix[i][l] * mix[i][l];
        }
    }
    train();
    measure();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mf_adapt_head_free(head);
    return 0;
}

static struct mf_adapt_state *fresh(void)
{
    struct mf_adapt_state *s = mf_adapt_state_new(head, "north", HASH, NULL);
    assert_non_null(s);
    return s;
}

struct studies {
    double u[BATCH * WIDTH];
    uint8_t y[BATCH * LABELS];
    uint32_t patient[BATCH];
    bool outlier[BATCH];
};

static struct mf_adapt_batch batch_of(const struct studies *s)
{
    return (struct mf_adapt_batch){s->u, BATCH, s->patient, s->outlier};
}

static void draw_batch(struct studies *s, int only)
{
    memset(s->outlier, 0, sizeof s->outlier);
    for (int b = 0; b < BATCH; b++) {
        draw(s->u + b * WIDTH, s->y + b * LABELS, only);
        s->patient[b] = (uint32_t)b;
    }
}

static enum mf_adapt_decision step(const struct mf_adapt_state *now,
                                   const struct mf_adapt_options *options, const struct studies *s,
                                   struct mf_adapt_state **next)
{
    const struct mf_adapt_batch batch = batch_of(s);
    enum mf_adapt_decision decision;
    assert_true(mf_adapt_step(head, now, &yardstick, options, &batch, next, &decision, NULL));
    return decision;
}

/* ── guards ── */

static void too_small_a_batch_changes_nothing(void **state)
{
    const struct mf_adapt_options options = MF_ADAPT_OPTIONS_INIT;
    struct mf_adapt_state *now = fresh(), *next;
    struct studies s;
    (void)state;
    draw_batch(&s, -1);
    for (int b = 31; b < BATCH; b++)
        s.outlier[b] = true; /* 31 are left */
    assert_int_equal(step(now, &options, &s, &next), MF_ADAPT_TOO_FEW_STUDIES);
    assert_null(next);
    s.outlier[31] = false;
    for (int b = 0; b < BATCH; b++)
        s.patient[b] = (uint32_t)b % 15;
    assert_int_equal(step(now, &options, &s, &next), MF_ADAPT_TOO_FEW_PATIENTS);
    assert_null(next);
    mf_adapt_state_free(now);
}

static void a_step_is_pulled_back_and_bounded(void **state)
{
    struct mf_adapt_options options = MF_ADAPT_OPTIONS_INIT;
    struct mf_adapt_state *now = fresh();
    struct studies s;
    (void)state;
    options.rate = 1000; /* far too large: the bound must hold it */
    options.prevalence_errors = 1000;
    options.entropy_floor = 0;
    for (int i = 0; i < 10; i++) {
        struct mf_adapt_state *next;
        draw_batch(&s, -1);
        assert_int_equal(step(now, &options, &s, &next), MF_ADAPT_STEPPED);
        mf_adapt_state_free(now);
        now = next;
    }
    const struct mf_adapt_norm n = mf_adapt_state_norm(now);
    double largest = 0;
    for (int i = 0; i < WIDTH; i++)
        largest = fmax(largest, fmax(fabs(n.gamma[i] - 1), fabs(n.beta[i])));
    assert_true(largest > 0.049 && largest <= 0.05 + 1e-12);
    options.rate = 0; /* the pull alone leads back */
    options.pull = 0.5;
    for (int i = 0; i < 20; i++) {
        struct mf_adapt_state *next;
        draw_batch(&s, -1);
        step(now, &options, &s, &next);
        mf_adapt_state_free(now);
        now = next;
    }
    assert_true(fabs(mf_adapt_state_norm(now).gamma[0] - 1) < 1e-6);
    mf_adapt_state_free(now);
}

static void a_burst_of_one_disease_resets(void **state)
{
    const struct mf_adapt_options options = MF_ADAPT_OPTIONS_INIT;
    struct mf_adapt_state *now = fresh(), *next, *after;
    struct studies s;
    (void)state;
    draw_batch(&s, -1);
    assert_int_equal(step(now, &options, &s, &next), MF_ADAPT_STEPPED);
    draw_batch(&s, 3);
    assert_int_equal(step(next, &options, &s, &after), MF_ADAPT_RESET_PREVALENCE);
    assert_memory_equal(mf_adapt_state_norm(after).gamma, head->gamma, WIDTH * sizeof(double));
    assert_memory_equal(mf_adapt_state_norm(after).mean, head->mean, WIDTH * sizeof(double));
    assert_int_equal(mf_adapt_state_version(after), 2);
    mf_adapt_state_free(now);
    mf_adapt_state_free(next);
    mf_adapt_state_free(after);
}

static void fallen_entropy_and_broken_values_reset(void **state)
{
    struct mf_adapt_options options = MF_ADAPT_OPTIONS_INIT;
    struct mf_adapt_state *now = fresh(), *next;
    struct studies s;
    (void)state;
    draw_batch(&s, -1);
    options.entropy_floor = 2; /* above what any batch has */
    assert_int_equal(step(now, &options, &s, &next), MF_ADAPT_RESET_ENTROPY);
    mf_adapt_state_free(next);
    options.entropy_floor = 0.5;
    s.u[7] = NAN;
    assert_int_equal(step(now, &options, &s, &next), MF_ADAPT_RESET_FINITE);
    assert_memory_equal(mf_adapt_state_norm(next).variance, head->variance, WIDTH * sizeof(double));
    mf_adapt_state_free(next);
    mf_adapt_state_free(now);
}

/* ── states ── */

/* What is read is what was written, or nothing. */
static void expect_sealed(const json_t *json, void *context)
{
    struct mf_error err = MF_ERROR_INIT;
    struct mf_adapt_state *read = mf_adapt_state_from_json(head, json, &err);
    if (read)
        assert_string_equal(mf_adapt_state_id(read), mf_adapt_state_id(context));
    else
        assert_string_equal(err.msg, "not a valid medfusion.adaptation_state/1 of this model");
    mf_adapt_state_free(read);
}

static void no_changed_state_is_read(void **state)
{
    struct mf_adapt_options options = MF_ADAPT_OPTIONS_INIT;
    struct mf_adapt_state *first = fresh(), *second;
    struct studies s;
    (void)state;
    draw_batch(&s, -1);
    step(first, &options, &s, &second);
    json_t *json = mf_adapt_state_to_json(second);
    json_change_each(json, json, expect_sealed, second);
    json_decref(json);
    mf_adapt_state_free(first);
    mf_adapt_state_free(second);
}

static void states_are_versions_that_can_be_rolled_back(void **state)
{
    struct mf_adapt_options options = MF_ADAPT_OPTIONS_INIT;
    struct mf_adapt_state *first = fresh(), *second, *third, *twin;
    struct mf_error err = MF_ERROR_INIT;
    struct studies s;
    (void)state;
    draw_batch(&s, -1);
    step(first, &options, &s, &second);
    step(first, &options, &s, &twin);
    assert_string_equal(mf_adapt_state_id(second), mf_adapt_state_id(twin)); /* deterministic */
    assert_string_not_equal(mf_adapt_state_id(first), mf_adapt_state_id(second));
    third = mf_adapt_rollback(second, first, &err);
    assert_non_null(third);
    assert_int_equal(mf_adapt_state_version(third), 2);
    assert_int_equal(mf_adapt_state_decision(third), MF_ADAPT_ROLLED_BACK);
    assert_memory_equal(mf_adapt_state_norm(third).mean, head->mean, WIDTH * sizeof(double));
    json_t *json = mf_adapt_state_to_json(second);
    struct mf_adapt_state *read = mf_adapt_state_from_json(head, json, &err);
    if (!read)
        fail_msg("%s", err.msg);
    assert_string_equal(mf_adapt_state_id(read), mf_adapt_state_id(second));
    assert_memory_equal(mf_adapt_state_norm(read).gamma, mf_adapt_state_norm(second).gamma,
                        4 * WIDTH * sizeof(double));
    assert_string_equal(json_string_value(json_object_get(json, "decision")), "stepped");
    assert_int_equal(json_integer_value(json_object_get(json, "studies")), BATCH);
    assert_string_equal(json_string_value(json_object_get(json, "parent")),
                        mf_adapt_state_id(first));
    json_array_set_new(json_object_get(json, "gamma"), 0, json_real(1.5)); /* changed by hand */
    assert_null(mf_adapt_state_from_json(head, json, &err));
    assert_string_equal(err.msg, "not a valid medfusion.adaptation_state/1 of this model");
    json_decref(json);
    struct mf_adapt_state *elsewhere = mf_adapt_state_new(head, "south", HASH, NULL);
    mf_error_clear(&err);
    assert_null(mf_adapt_rollback(second, elsewhere, &err));
    assert_string_equal(err.msg, "the state is one of another site or model");
    mf_adapt_state_free(first);
    mf_adapt_state_free(second);
    mf_adapt_state_free(third);
    mf_adapt_state_free(twin);
    mf_adapt_state_free(read);
    mf_adapt_state_free(elsewhere);
}

/* ── streams ── */

enum shift { NONE, NOISE, BLUR, SCANNER, BURSTS, SHIFTS };
static const char *const SHIFT_NAMES[SHIFTS] = {"no shift", "noise", "blur", "scanner", "bursts"};

/* One batch of a stream as it arrives. */
static void arrive(struct studies *s, enum shift shift, int at)
{
    draw_batch(s, shift == BURSTS && at % 5 == 4 ? at / 5 % LABELS : -1);
    for (int i = 0; i < BATCH * WIDTH; i++) {
        double *u = &s->u[i], mean = head->mean[i % WIDTH];
        if (shift == NOISE)
            *u += 0.7 * gaussian();
        else if (shift == BLUR)
            *u = mean + 0.7 * (*u - mean);
        else if (shift == SCANNER)
            *u = 1.15 * *u + 0.3 * sin(i % WIDTH);
    }
}

static double brier(const struct mf_adapt_norm *norm, const struct studies *s, double *mean)
{
    double sum = 0, z[LABELS];
    for (int b = 0; b < BATCH; b++) {
        mf_adapt_logits(head, norm, s->u + b * WIDTH, z);
        for (int l = 0; l < LABELS; l++) {
            sum += pow(sigmoid(z[l]) - s->y[b * LABELS + l], 2) / (BATCH * LABELS);
            *mean += sigmoid(z[l]) / (BATCH * LABELS);
        }
    }
    return sum;
}

/* Mean Brier score over a stream: a batch is judged, then learnt from. rate 0: off. */
static double guarded(enum shift shift, double rate)
{
    struct mf_adapt_options options = MF_ADAPT_OPTIONS_INIT;
    struct mf_adapt_state *now = fresh();
    double sum = 0, mean = 0;
    struct studies s;
    options.rate = rate;
    seed = 1234 + (uint64_t)shift;
    for (int at = 0; at < STREAM / BATCH; at++) {
        arrive(&s, shift, at);
        const struct mf_adapt_norm norm =
            rate > 0 ? mf_adapt_state_norm(now) : mf_adapt_source(head);
        sum += brier(&norm, &s, &mean) / (STREAM / BATCH);
        struct mf_adapt_state *next = NULL;
        if (rate > 0)
            step(now, &options, &s, &next);
        if (next) {
            mf_adapt_state_free(now);
            now = next;
        }
    }
    mf_adapt_state_free(now);
    return sum;
}

static void guarded_streams_are_no_worse_than_off(void **state)
{
    (void)state;
    for (int shift = 0; shift < SHIFTS; shift++) {
        double off = guarded((enum shift)shift, 0);
        double usual = guarded((enum shift)shift, 1e-4), bold = guarded((enum shift)shift, 0.1);
        printf("%-8s Brier: off %.4f, adapted %.4f, at a thousand times the rate %.4f\n",
               SHIFT_NAMES[shift], off, usual, bold);
        assert_true(usual < off + MARGIN);
        assert_true(bold < off + MARGIN);
    }
}

/* TENT as published: batch statistics, Adam, nothing that watches. */
static void unguarded_tent_collapses_on_the_same_stream(void **state)
{
    double gamma[WIDTH], beta[WIDTH], mean[WIDTH], variance[WIDTH], m[2 * WIDTH] = {0},
                                                                          v[2 * WIDTH] = {0};
    double grad[2 * WIDTH], work[4 * WIDTH + 2 * LABELS], late = 0, late_p = 0;
    double off = guarded(NONE, 0);
    struct studies s;
    (void)state;
    memcpy(gamma, head->gamma, sizeof gamma);
    memcpy(beta, head->beta, sizeof beta);
    seed = 1234;
    for (int at = 0; at < STREAM / BATCH; at++) {
        arrive(&s, NONE, at);
        const struct mf_adapt_norm norm = {gamma, beta, mean, variance};
        for (int i = 0; i < WIDTH; i++) {
            mean[i] = variance[i] = 0;
            for (int b = 0; b < BATCH; b++)
                mean[i] += s.u[b * WIDTH + i] / BATCH;
            for (int b = 0; b < BATCH; b++)
                variance[i] += pow(s.u[b * WIDTH + i] - mean[i], 2) / BATCH;
        }
        for (int k = 0; k < 10; k++) { /* ten steps a batch: 1,000 in all */
            double t = 10 * at + k + 1;
            mf_adapt_gradient(head, &norm, s.u, BATCH, grad, grad + WIDTH, work);
            for (int i = 0; i < 2 * WIDTH; i++) {
                m[i] = 0.9 * m[i] + 0.1 * grad[i];
                v[i] = 0.999 * v[i] + 0.001 * grad[i] * grad[i];
                double d =
                    1e-3 * (m[i] / (1 - pow(0.9, t))) / (sqrt(v[i] / (1 - pow(0.999, t))) + 1e-8);
                *(i < WIDTH ? &gamma[i] : &beta[i - WIDTH]) -= d;
            }
        }
        if (at >= STREAM / BATCH - 20)
            late += brier(&norm, &s, &late_p) / 20;
    }
    double expected = 0;
    for (int l = 0; l < LABELS; l++)
        expected += mean_p[l] / LABELS;
    printf("unguarded: Brier %.4f (off %.4f), mean p %.3f (calibration %.3f)\n", late, off,
           late_p / 20, expected);
    assert_true(late > off + 10 * MARGIN);
    assert_true(late_p / 20 < 0.7 * expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(too_small_a_batch_changes_nothing),
        cmocka_unit_test(a_step_is_pulled_back_and_bounded),
        cmocka_unit_test(a_burst_of_one_disease_resets),
        cmocka_unit_test(fallen_entropy_and_broken_values_reset),
        cmocka_unit_test(no_changed_state_is_read),
        cmocka_unit_test(states_are_versions_that_can_be_rolled_back),
        cmocka_unit_test(guarded_streams_are_no_worse_than_off),
        cmocka_unit_test(unguarded_tent_collapses_on_the_same_stream),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
