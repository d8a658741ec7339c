/*
 * The head's gradient and steps on the device (engine/adapt_device.h) against the host's
 * (engine/trust/adapt.c), over heads of many shapes, and an adapter that computes there: the same
 * sets and states. Runs on the emulated backend and, as gpu_head, on a GPU (see test_frames.c).
 */
#include "engine/adapt_device.h"
#include "engine/engine.h"
#include "engine/exec.h"
#include "tests/engine/adapter_fixture.h"

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
        h->w2[i] = gaussian() / sqrt((double)width);
    for (size_t i = 0; i < labels; i++)
        h->b2[i] = gaussian() - 1;
    return h;
}

/* max|a − b| / max|b| */
static double distance(const double *a, const double *b, size_t n)
{
    double most = 0, scale = 1e-300;
    for (size_t i = 0; i < n; i++) {
        double d = fabs(a[i] - b[i]);
        most = isfinite(d) ? fmax(most, d) : INFINITY;
        scale = fmax(scale, fabs(b[i]));
    }
    return most / scale;
}

static double *doubles(size_t n)
{
    double *p = malloc((n + 1) * sizeof *p);
    assert_non_null(p);
    for (size_t i = 0; i < n; i++)
        p[i] = NAN;
    return p;
}

/* Of `count` studies: the sums, and each one's own step. */
static double check_shape(const struct mf_adapt_device *d, size_t width, size_t labels,
                          size_t count)
{
    struct mf_error err = MF_ERROR_INIT;
    struct mf_adapt_head *h = random_head(width, labels);
    const struct mf_adapt_norm norm = mf_adapt_source(h);
    size_t n = count * labels;
    double *u = doubles(count * width), *got = doubles(2 * width), *want = doubles(2 * width),
           *work = doubles(mf_adapt_work(h)), *before = doubles(n), *z = doubles(n),
           *alone = doubles(labels), loss = NAN, worst;
    struct mf_adapt_episode there, here;
    for (size_t i = 0; i < count * width; i++)
        u[i] = h->mean[i % width] + 1.3 * gaussian();
    double exact = mf_adapt_gradient(h, &norm, u, count, want, want + width, work);
    if (!d->gradient(d->arg, h, &norm, u, count, got, got + width, &loss, &err) ||
        !d->episodic(d->arg, h, u, count, 0.05, 0.01, before, z, &err))
        fail_msg("%zu x %zu x %zu: %s", count, width, labels, err.msg);
    worst = fmax(distance(got, want, 2 * width), fabs(loss - exact));
    for (size_t b = 0; b < count; b++) {
        assert_true(mf_adapt_episodic(h, u + b * width, 0.05, 0.01, alone, &here, NULL));
        mf_adapt_conclude(before + b * labels, z + b * labels, labels, &there);
        worst = fmax(worst, distance(z + b * labels, alone, labels));
        worst = fmax(worst, fabs(there.entropy_before - here.entropy_before));
        worst = fmax(worst, fabs(there.entropy_after - here.entropy_after));
        worst = fmax(worst, fabs(there.max_change - here.max_change));
    }
    /* What a study gets does not depend on the others, bit by bit. */
    assert_true(d->episodic(d->arg, h, u + (count - 1) * width, 1, 0.05, 0.01, want, alone, &err));
    assert_memory_equal(alone, z + (count - 1) * labels, labels * sizeof *alone);
    double *all[] = {u, got, want, work, before, z, alone};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    mf_adapt_head_free(h);
    return worst;
}

static void gradients_and_steps_are_the_hosts(void **state)
{
    /* activations, labels, studies */
    static const size_t SHAPES[][3] = {{1, 1, 1},    {2, 5, 1},    {24, 9, 17},   {127, 14, 33},
                                       {256, 14, 1}, {300, 20, 5}, {512, 18, 64}, {129, 3, 1200}};
    struct fixture *f = *state;
    struct mf_error err = MF_ERROR_INIT;
    const struct mf_engine_options options = {.device = "cuda:0", .threads = 1};
    MF_AUTO(mf_engine) struct mf_engine *engine = mf_engine_new(f->bundle, &options, &err);
    struct mf_adapt_device device;
    double worst = 0;
    if (!engine)
        fail_msg("%s", err.msg);
    assert_true(mf_engine_adapt_device(engine, &device));
    for (size_t i = 0; i < sizeof SHAPES / sizeof *SHAPES; i++)
        worst = fmax(worst, check_shape(&device, SHAPES[i][0], SHAPES[i][1], SHAPES[i][2]));
    printf("gradients and steps: %.2g off at most\n", worst);
    assert_true(worst < 1e-12);

    struct mf_adapt_head *wide = random_head(20000, 1);
    const struct mf_adapt_norm norm = mf_adapt_source(wide);
    double loss, *room = doubles(60000);
    assert_false(
        device.gradient(device.arg, wide, &norm, room, 1, room + 20000, room + 40000, &loss, &err));
    assert_string_equal(err.msg,
                        "a head of 20000 activations is too wide for the device's adaptation");
    free(room);
    mf_adapt_head_free(wide);
}

/* Adapted logits of some studies by an adapter of that mode, after it learnt where it learns. */
static void adapt_on(const struct mf_adapt_device *device, struct fixture *f,
                     enum mf_adapt_mode mode, float *logits, double *p_present)
{
    struct mf_error err = MF_ERROR_INIT;
    struct mf_adapt_episode episode;
    struct mf_adapter *a = mf_adapter_new_on(device, f->bundle, mode, "north", NULL, &err);
    size_t inputs = f->head->inputs;
    if (!a)
        fail_msg("%s", err.msg);
    for (size_t i = 0; mode == MF_ADAPT_SITE && i < 40; i++) {
        char patient[16];
        bool stepped;
        enum mf_adapt_decision decision;
        snprintf(patient, sizeof patient, "P%zu", i);
        if (!mf_adapter_learn(a, f->readouts + i * inputs, patient, false, &stepped, &decision,
                              &err))
            fail_msg("%s", err.msg);
    }
    assert_true(mode != MF_ADAPT_SITE || mf_adapter_state(a));
    for (size_t i = 0; i < 10; i++) {
        struct mf_prediction predictions[LABELS];
        uint32_t labels[LABELS];
        struct mf_trust_statement s = {.predictions = predictions, .finding_labels = labels};
        struct mf_trust_case c = {.logits = logits + i * LABELS,
                                  .readout = f->readouts + i * inputs,
                                  .readout_size = inputs};
        memcpy(logits + i * LABELS, f->logits + i * LABELS, LABELS * sizeof *logits);
        assert_true(mf_adapter_apply(a, c.readout, logits + i * LABELS, &episode, &err));
        assert_true(mode == MF_ADAPT_SITE || episode.entropy_after < episode.entropy_before);
        mf_adapter_bind(a, &c);
        assert_true(mf_trust_apply(f->bundle, &c, 0.1, &s, &err));
        for (size_t l = 0; l < LABELS; l++) {
            assert_int_equal(predictions[l].guarantee, MF_GUARANTEE_VALID);
            p_present[i * LABELS + l] = predictions[l].p_present;
        }
    }
    mf_adapter_free(a);
}

static void adapters_promise_there_what_they_promise_here(void **state)
{
    static const enum mf_adapt_mode MODES[] = {MF_ADAPT_SHADOW, MF_ADAPT_EPISODIC, MF_ADAPT_SITE};
    struct fixture *f = *state;
    struct mf_error err = MF_ERROR_INIT;
    const struct mf_engine_options on_host = {.device = "cpu", .threads = 1},
                                   on_gpu = {.device = "cuda:0", .threads = 1};
    MF_AUTO(mf_engine) struct mf_engine *gpu = mf_engine_new(f->bundle, &on_gpu, &err);
    MF_AUTO(mf_engine) struct mf_engine *cpu = mf_engine_new(f->bundle, &on_host, &err);
    struct mf_adapt_device device, none;
    assert_true(gpu && cpu && mf_engine_adapt_device(gpu, &device));
    assert_false(mf_engine_adapt_device(cpu, &none));
    for (size_t m = 0; m < 3; m++) {
        float z[2][10 * LABELS];
        double p[2][10 * LABELS];
        for (int k = 0; k < 2; k++)
            adapt_on(k ? &device : NULL, f, MODES[m], z[k], p[k]);
        for (size_t i = 0; i < 10 * LABELS; i++) {
            assert_true(fabsf(z[0][i] - z[1][i]) <= 1e-6f);
            assert_true(fabs(p[0][i] - p[1][i]) < 1e-9); /* each on its own score, exactly */
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(gradients_and_steps_are_the_hosts, setup, teardown),
        cmocka_unit_test_setup_teardown(adapters_promise_there_what_they_promise_here, setup,
                                        teardown),
    };
    if (mf_cuda_count() == 0) {
        bool needed = getenv("MF_TEST_NEEDS_GPU") != NULL;
        printf("%s: no GPU\n", needed ? "failed" : "skipped");
        return needed;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
