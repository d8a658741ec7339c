/* Adaptation at work on a bundle: what each mode does to the logits, what it promises, and what
 * binds the promise. */
#include "engine/trust/adapter.h"
#include "tests/engine/bundle_copy.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { LABELS = 5, CASES = 300, MOST = 4096 };

struct fixture {
    char dir[64], out[80];
    struct mf_bundle *bundle; /* calibrated */
    struct mf_adapt_head *head;
    float *readouts, *logits;
};

static uint64_t seed = 4;

static double uniform(void)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (double)(seed >> 11) / (double)(UINT64_C(1) << 53);
}

/* A readout as the calibration population has them, and the network's logits of it. */
static void draw(const struct mf_adapt_head *head, float *readout, float *logits)
{
    double u[MOST], z[LABELS];
    const struct mf_adapt_norm source = mf_adapt_source(head);
    for (size_t k = 0; k < head->inputs; k++)
        readout[k] = (float)(2 * uniform() - 1);
    mf_adapt_activation(head, readout, u);
    mf_adapt_logits(head, &source, u, z);
    for (size_t l = 0; l < LABELS; l++)
        logits[l] = (float)z[l];
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    int8_t truth[CASES * LABELS];
    struct mf_error err = MF_ERROR_INIT;
    *state = f;
    seed = 4;
    if (!f || !bundle_copy("no-segmenter", f->dir))
        return -1;
    snprintf(f->out, sizeof f->out, "%s-out", f->dir);
    struct mf_bundle *plain = mf_bundle_open(f->dir, MF_BUNDLE_FULL, &err);
    f->head = plain ? mf_adapt_head_load(plain, &err) : NULL;
    if (!f->head)
        return -1;
    f->readouts = calloc(CASES * f->head->inputs, sizeof *f->readouts);
    f->logits = calloc(CASES * LABELS, sizeof *f->logits);
    for (size_t i = 0; i < CASES; i++)
        draw(f->head, f->readouts + i * f->head->inputs, f->logits + i * LABELS);
    for (size_t i = 0; i < CASES * LABELS; i++)
        truth[i] = uniform() < 1 / (1 + exp(-f->logits[i]));
    const struct mf_trust_cases cases = {.count = CASES,
                                         .label_count = LABELS,
                                         .logits = f->logits,
                                         .truth = truth,
                                         .readouts = f->readouts,
                                         .readout_size = f->head->inputs};
    struct mf_trust *trust = mf_trust_fit(plain, &cases, NULL, &err);
    if (trust && mf_bundle_write_calibrated(plain, trust, f->out, &err))
        f->bundle = mf_bundle_open(f->out, MF_BUNDLE_FULL, &err);
    mf_trust_free(trust);
    mf_bundle_free(plain);
    if (!f->bundle)
        print_error("%s\n", err.msg);
    return f->bundle ? 0 : -1;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    mf_bundle_free(f->bundle);
    mf_adapt_head_free(f->head);
    bundle_remove(f->dir);
    bundle_remove(f->out);
    free(f->readouts);
    free(f->logits);
    free(f);
    return 0;
}

static struct mf_adapter *adapter(struct fixture *f, enum mf_adapt_mode mode,
                                  struct mf_adapt_state *state)
{
    struct mf_error err = MF_ERROR_INIT;
    struct mf_adapter *a = mf_adapter_new(f->bundle, mode, "north", state, &err);
    if (!a)
        fail_msg("%s", err.msg);
    return a;
}

struct outcome {
    struct mf_prediction predictions[LABELS];
    uint32_t labels[LABELS];
    float logits[LABELS];
    struct mf_adapt_episode episode;
};

static void judge(struct fixture *f, struct mf_adapter *a, size_t i, struct outcome *o)
{
    const float *readout = f->readouts + i * f->head->inputs;
    struct mf_trust_statement s = {.predictions = o->predictions, .finding_labels = o->labels};
    struct mf_trust_case c = {.logits = o->logits, .readout = readout};
    memcpy(o->logits, f->logits + i * LABELS, sizeof o->logits);
    assert_true(mf_adapter_apply(a, readout, o->logits, &o->episode, NULL));
    mf_adapter_bind(a, &c);
    assert_true(mf_trust_apply(f->bundle, &c, 0.1, &s, NULL));
}

static void shadow_computes_and_uses_nothing(void **state)
{
    struct fixture *f = *state;
    struct mf_adapter *a = adapter(f, MF_ADAPT_SHADOW, NULL), *off = adapter(f, MF_ADAPT_OFF, NULL);
    struct outcome o, p;
    judge(f, a, 3, &o);
    judge(f, off, 3, &p);
    assert_memory_equal(o.logits, f->logits + 3 * LABELS, sizeof o.logits);
    assert_true(o.episode.entropy_after < o.episode.entropy_before && o.episode.max_change > 0);
    assert_true(isnan(p.episode.entropy_before));
    assert_true(o.predictions[0].p_present == p.predictions[0].p_present);
    assert_int_equal(o.predictions[0].guarantee, MF_GUARANTEE_VALID);
    mf_adapter_free(a);
    mf_adapter_free(off);
}

static void episodic_sets_are_bound_to_the_adapted_logits(void **state)
{
    struct fixture *f = *state;
    struct mf_adapter *a = adapter(f, MF_ADAPT_EPISODIC, NULL);
    struct outcome o, again;
    judge(f, a, 7, &o);
    judge(f, a, 8, &again);
    judge(f, a, 7, &again); /* what came between does not matter */
    assert_memory_equal(o.logits, again.logits, sizeof o.logits);
    assert_memory_not_equal(o.logits, f->logits + 7 * LABELS, sizeof o.logits);
    for (size_t l = 0; l < LABELS; l++) {
        assert_int_equal(o.predictions[l].guarantee, MF_GUARANTEE_VALID);
        /* Case 7 was calibrated with: it lies on its own adapted score, exactly. */
        double n = 1 + (double)(o.predictions[l].n_cal_pos);
        assert_true(fabs(o.predictions[l].p_present * n - round(o.predictions[l].p_present * n)) <
                    1e-9);
    }
    mf_adapter_free(a);
}

static void without_the_cases_an_adapted_network_promises_nothing(void **state)
{
    struct fixture *f = *state;
    char path[256];
    struct outcome o;
    snprintf(path, sizeof path, "%s/adaptation.json", f->out);
    assert_int_equal(unlink(path), 0);
    struct mf_adapter *a = adapter(f, MF_ADAPT_EPISODIC, NULL);
    judge(f, a, 7, &o);
    for (size_t l = 0; l < LABELS; l++)
        assert_int_equal(o.predictions[l].guarantee, MF_GUARANTEE_VOID);
    mf_adapter_free(a);
    assert_true(write_text(path, "{\"schema\":\"x\",\"model_hash\":\"", 27));
    struct mf_error err = MF_ERROR_INIT;
    assert_null(mf_adapter_new(f->bundle, MF_ADAPT_EPISODIC, "north", NULL, &err));
    assert_int_equal(err.code, MF_ERR_MALFORMED);
}

/* Feeds studies until a step is made; returns how many it took. */
static size_t learn(struct fixture *f, struct mf_adapter *a, size_t patients, size_t most,
                    bool outlier, enum mf_adapt_decision *decision)
{
    bool stepped = false;
    size_t n = 0;
    float readout[MOST], logits[LABELS];
    while (!stepped && n < most) {
        char patient[16];
        snprintf(patient, sizeof patient, "P%zu", n++ % patients);
        draw(f->head, readout, logits);
        assert_true(mf_adapter_learn(a, readout, patient, outlier, &stepped, decision, NULL));
    }
    return n;
}

static void a_site_learns_from_enough_studies_and_stays_bound(void **state)
{
    struct fixture *f = *state;
    struct mf_adapter *a = adapter(f, MF_ADAPT_SITE, NULL);
    enum mf_adapt_decision decision;
    struct outcome before, after;
    judge(f, a, 5, &before);
    assert_memory_equal(before.logits, f->logits + 5 * LABELS, sizeof before.logits);
    assert_int_equal(learn(f, a, 1000, 100, true, &decision), 100); /* outliers teach nothing */
    assert_null(mf_adapter_state(a));
    mf_adapter_free(a);
    a = adapter(f, MF_ADAPT_SITE, NULL);
    assert_int_equal(learn(f, a, 15, 100, false, &decision), 100); /* too few patients */
    assert_int_equal(decision, MF_ADAPT_TOO_FEW_PATIENTS);
    mf_adapter_free(a);
    a = adapter(f, MF_ADAPT_SITE, NULL);
    assert_int_equal(learn(f, a, 1000, 100, false, &decision), 32);
    assert_int_equal(decision, MF_ADAPT_STEPPED);
    assert_int_equal(mf_adapt_state_version(mf_adapter_state(a)), 1);
    judge(f, a, 5, &after);
    assert_memory_not_equal(after.logits, before.logits, sizeof after.logits);
    assert_int_equal(after.predictions[0].guarantee, MF_GUARANTEE_VALID);
    /* The thresholds moved with the logits. */
    assert_true(after.predictions[0].q_present != before.predictions[0].q_present);
    assert_true(after.predictions[0].n_cal_pos == before.predictions[0].n_cal_pos);
    /* Handed on as JSON, the state says the same elsewhere. */
    json_t *json = mf_adapt_state_to_json(mf_adapter_state(a));
    struct mf_adapter *b = adapter(f, MF_ADAPT_SITE, mf_adapt_state_from_json(f->head, json, NULL));
    judge(f, b, 5, &before);
    assert_memory_equal(after.logits, before.logits, sizeof after.logits);
    assert_true(after.predictions[2].p_absent == before.predictions[2].p_absent);
    struct mf_error err = MF_ERROR_INIT;
    struct mf_adapt_state *foreign =
        mf_adapt_state_new(f->head, "south", mf_bundle_model_hash(f->bundle), NULL);
    assert_false(mf_adapter_replace(b, foreign, &err));
    assert_string_equal(err.msg, "the state is one of another site or model");
    json_decref(json);
    mf_adapter_free(a);
    mf_adapter_free(b);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(shadow_computes_and_uses_nothing),
        TEST(episodic_sets_are_bound_to_the_adapted_logits),
        TEST(without_the_cases_an_adapted_network_promises_nothing),
        TEST(a_site_learns_from_enough_studies_and_stays_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
