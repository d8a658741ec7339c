/* Adaptation at work on a bundle: what each mode does to the logits, what it promises, and what
 * binds the promise. */
#include "adapter_fixture.h"

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
    struct mf_trust_case c = {
        .logits = o->logits, .readout = readout, .readout_size = f->head->inputs};
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
