/* The trust layer by its cases: strata, prevalence, a target site, feedback, degenerate and very
 * many cases, real scores. */
#include "tests/engine/nih_densenet.h"
#include "tests/engine/trust_fixture.h"

/* ── strata, prevalence, a target site ── */

/* Half of the cases are AP, whose logits are 2 higher; three have no view. */
static void shift_half(struct fixture *f, const char **groups)
{
    for (size_t i = 0; i < CASES; i++) {
        groups[i] = i < 3 ? NULL : i % 2 ? "AP" : "PA";
        for (size_t l = 0; l < LABELS && i % 2; l++)
            f->logits[i * LABELS + l] += 2;
    }
}

static void apply_view(const struct mf_bundle *b, const float *logits, const char *view,
                       struct statement *st)
{
    const struct mf_trust_case c = {.logits = logits, .strata = {.view = view, .age = NAN}};
    st->s =
        (struct mf_trust_statement){.predictions = st->predictions, .finding_labels = st->labels};
    assert_true(mf_trust_apply(b, &c, 0.1, &st->s, NULL));
}

static void a_study_is_judged_by_its_own_stratum(void **state)
{
    struct fixture *f = *state;
    const char *groups[CASES];
    struct mf_trust_cases cases = all_cases(f);
    struct statement pa, ap, other;
    const float logits[LABELS] = {-0.2f, 0, 0, 0, 0};
    shift_half(f, groups);
    cases.strata = MF_STRATA_VIEW;
    cases.groups = groups;
    struct mf_bundle *b = calibrated(f, &cases);
    apply_view(b, logits, "pa ", &pa);
    apply_view(b, logits, "AP", &ap);
    apply_view(b, logits, "LL", &other);
    assert_string_equal(pa.predictions[0].taxonomy, "label_class_view");
    assert_null(other.predictions[0].taxonomy); /* a view that was not calibrated: all cases */
    assert_true(pa.predictions[0].n_cal_pos + pa.predictions[0].n_cal_neg < CASES / 2);
    assert_true(pa.predictions[0].q_present > ap.predictions[0].q_present + 1);
    assert_true(pa.predictions[0].probability > ap.predictions[0].probability + 0.2);
    assert_null(pa.predictions[4].taxonomy); /* no positive case: not enough in the stratum */
    assert_int_equal(pa.predictions[4].guarantee, MF_GUARANTEE_INSUFFICIENT);
    mf_bundle_free(b);
}

static void the_prevalence_moves_probabilities_and_no_set(void **state)
{
    struct fixture *f = *state;
    struct mf_trust_cases cases = all_cases(f);
    const double prevalence[LABELS] = {0.05, NAN, NAN, NAN, NAN};
    struct statement before, after;
    struct mf_bundle *b = calibrated(f, &cases);
    const float logits[LABELS] = {1, 1, 1, 1, 1};
    apply(b, logits, NULL, 0.1, false, &before);
    mf_bundle_free(b);
    bundle_remove(f->out);
    cases.prevalence = prevalence;
    b = calibrated(f, &cases);
    apply(b, logits, NULL, 0.1, false, &after);
    assert_true(after.predictions[0].probability < before.predictions[0].probability - 0.2);
    assert_true(after.predictions[0].p_present == before.predictions[0].p_present);
    assert_int_equal(after.predictions[0].state, before.predictions[0].state);
    assert_true(after.predictions[1].probability == before.predictions[1].probability);
    mf_bundle_free(b);
    const double wrong[LABELS] = {0.5, 1.5, NAN, NAN, NAN};
    struct mf_error err = MF_ERROR_INIT;
    cases.prevalence = wrong;
    assert_null(mf_trust_fit(f->bundle, &cases, NULL, &err));
    assert_string_equal(err.msg, "label L1: a prevalence lies between 0 and 1");
}

/* `n` unlabelled studies whose first label's logits are `shift` higher. */
static void weigh_towards(struct fixture *f, double shift, float *target, size_t n)
{
    for (size_t i = 0; i < n * LABELS; i++)
        target[i] = f->logits[i] + (float)(i % LABELS ? 0 : shift);
}

static void a_near_target_is_weighted_a_far_one_is_said_to_be_shifted(void **state)
{
    struct fixture *f = *state;
    struct mf_trust_cases cases = all_cases(f);
    float target[CASES * LABELS];
    struct statement st;
    const float logits[LABELS] = {0, 0, 0, 0, 0};
    cases.target = target;
    cases.target_count = CASES;
    weigh_towards(f, 0.2, target, CASES);
    struct mf_bundle *b = calibrated(f, &cases);
    apply(b, logits, NULL, 0.1, false, &st);
    assert_string_equal(st.predictions[0].method, "weighted_conformal");
    assert_int_equal(st.predictions[0].guarantee, MF_GUARANTEE_VALID);
    assert_string_equal(st.predictions[3].method, "split_conformal"); /* 40 positives: not enough */
    assert_int_equal(st.predictions[3].guarantee, MF_GUARANTEE_SHIFTED);
    mf_bundle_free(b);
    bundle_remove(f->out);
    weigh_towards(f, 8, target, CASES);
    b = calibrated(f, &cases);
    apply(b, logits, NULL, 0.1, false, &st);
    assert_string_equal(st.predictions[0].method, "split_conformal");
    assert_int_equal(st.predictions[0].guarantee, MF_GUARANTEE_SHIFTED);
    mf_bundle_free(b);
    struct mf_error err = MF_ERROR_INIT;
    cases.target_count = 12;
    assert_null(mf_trust_fit(f->bundle, &cases, NULL, &err));
    assert_string_equal(err.msg,
                        "a density ratio needs 30 cases of both sides, there are 400 and 12");
}

static void feedback_counts_for_its_alpha_and_model(void **state)
{
    struct fixture *f = *state;
    const struct mf_trust_cases cases = all_cases(f);
    static const char *const IDS[LABELS] = {"L0", "L1", "L2", "L3", "L4"};
    const struct mf_aci_feedback missed[LABELS] = {
        {1, false, true}, {-1, 0, 0}, {-1, 0, 0}, {-1, 0, 0}, {-1, 0, 0}};
    struct mf_bundle *b = calibrated(f, &cases);
    struct mf_aci *aci = mf_aci_new("here", mf_bundle_model_hash(b), IDS, LABELS, 0.1, 0.05, NULL);
    for (int i = 0; i < 3; i++) { /* 0.1 − 3 · 0.05 · 0.9 < 0 */
        struct mf_aci *next = mf_aci_learn(aci, missed, NULL);
        mf_aci_free(aci);
        aci = next;
    }
    struct statement st = {.s = {0}};
    const struct mf_trust_case c = {.logits = (float[]){-9, -9, -9, -9, -9}, .aci = aci};
    st.s = (struct mf_trust_statement){.predictions = st.predictions, .finding_labels = st.labels};
    assert_true(mf_trust_apply(b, &c, 0.1, &st.s, NULL));
    assert_string_equal(st.predictions[0].method, "adaptive_conformal");
    assert_int_equal(st.predictions[0].state, MF_LABEL_UNCERTAIN); /* the level fell below 0 */
    assert_int_equal(st.predictions[1].state, MF_LABEL_ABSENT);
    assert_true(mf_trust_apply(b, &c, 0.2, &st.s, NULL)); /* learnt at another alpha */
    assert_string_equal(st.predictions[0].method, "split_conformal");
    assert_int_equal(st.predictions[0].state, MF_LABEL_ABSENT);
    mf_aci_free(aci);
    mf_bundle_free(b);
}

/* ── degenerate calibration data ── */

static void degenerate_data_gives_clear_answers(void **state)
{
    struct fixture *f = *state;
    struct mf_trust_cases cases = all_cases(f);
    struct mf_error err = MF_ERROR_INIT;
    struct statement st;
    f->logits[7] = NAN;
    assert_null(mf_trust_fit(f->bundle, &cases, NULL, &err));
    assert_string_equal(err.msg, "the calibration data holds a logit that is not finite");
    mf_error_clear(&err);
    f->logits[7] = 0;
    memset(f->truth, -1, CASES * LABELS);
    assert_null(mf_trust_fit(f->bundle, &cases, NULL, &err));
    assert_string_equal(err.msg, "the calibration data has no label at all");
    memset(f->truth, 1, CASES * LABELS); /* one class only */
    for (size_t i = 0; i < CASES * LABELS; i++)
        f->logits[i] = 2; /* and nothing but ties */
    struct mf_bundle *b = calibrated(f, &cases);
    apply(b, (float[]){2, 1, 3, 2, 2}, NULL, 0.1, false, &st);
    for (size_t i = 0; i < LABELS; i++)
        assert_int_equal(st.predictions[i].guarantee, MF_GUARANTEE_INSUFFICIENT);
    assert_int_equal(st.predictions[0].state, MF_LABEL_UNCERTAIN); /* absent: no case, always in */
    assert_int_equal(st.predictions[1].state, MF_LABEL_ABSENT);    /* below every present case */
    assert_true(st.predictions[0].p_present == 1);
    mf_bundle_free(b);
}

/* A million cases of one label, with many ties; the others have no truth. */
static void a_million_cases_are_fitted_written_and_read(void **state)
{
    enum { MANY = 1000000 };
    struct fixture *f = *state;
    struct mf_trust_cases cases = {.count = MANY, .label_count = LABELS};
    float *logits = calloc((size_t)MANY * LABELS, sizeof *logits);
    int8_t *truth = malloc((size_t)MANY * LABELS);
    struct statement st;
    assert_true(logits && truth);
    memset(truth, -1, (size_t)MANY * LABELS);
    for (size_t i = 0; i < MANY; i++) {
        truth[i * LABELS] = uniform() < 0.1;
        logits[i * LABELS] = (float)(round(100 * gaussian()) / 100 + (truth[i * LABELS] ? 1 : -1));
    }
    cases.logits = logits;
    cases.truth = truth;
    struct mf_bundle *b = calibrated(f, &cases);
    apply(b, (float[]){1, 0, 0, 0, 0}, NULL, 0.1, false, &st);
    assert_int_equal(st.predictions[0].n_cal_pos + st.predictions[0].n_cal_neg, MANY);
    assert_true(fabs(st.predictions[0].p_present - 0.5) < 0.01);
    assert_true(fabs(st.predictions[0].q_present - 0.28) < 0.02); /* 10 % lie below 1 − 1.28 */
    assert_int_equal(st.predictions[0].guarantee, MF_GUARANTEE_VALID);
    assert_int_equal(st.predictions[1].guarantee, MF_GUARANTEE_INSUFFICIENT);
    mf_bundle_free(b);
    free(logits);
    free(truth);
}

/* ── real scores: DenseNet-121 on NIH ChestX-ray14, first five labels, one image a patient ── */

/* The newest image of every patient, in random order (patients' numbers are not exchangeable). */
static size_t newest(struct nih_image *images, size_t n)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        if (i + 1 == n || images[i + 1].patient != images[i].patient)
            images[count++] = images[i];
    for (size_t i = count; i > 1; i--) {
        size_t k = (size_t)(uniform() * (double)i);
        struct nih_image image = images[i - 1];
        images[i - 1] = images[k];
        images[k] = image;
    }
    return count;
}

struct tally {
    size_t n[2], covered[2];
    double nll, raw_nll;
};

static void real_scores_are_covered_and_calibrated(void **state)
{
    enum { ROOM = 8000 };
    struct fixture *f = *state;
    size_t n = 0;
    struct nih_image *images = nih_read(&n);
    if (!images)
        return;
    n = newest(images, n);
    float *logits = malloc(ROOM * LABELS * sizeof *logits);
    int8_t *truth = malloc(ROOM * LABELS);
    size_t half = n / 2;
    for (size_t i = 0; i < n * LABELS; i++) { /* distorted on purpose */
        logits[i] = 2 * images[i / LABELS].logits[i % LABELS] + 1;
        truth[i] = (int8_t)images[i / LABELS].truth[i % LABELS];
    }
    free(images);
    const struct mf_trust_cases cases = {
        .count = half, .label_count = LABELS, .logits = logits, .truth = truth};
    struct mf_bundle *b = calibrated(f, &cases);
    struct tally tally[LABELS] = {{{0}, {0}, 0, 0}};
    double missed = 0;
    size_t ill = 0;
    for (size_t i = half; i < n; i++) {
        struct statement st;
        apply(b, logits + i * LABELS, NULL, 0.1, false, &st);
        size_t present = 0, found = 0;
        for (size_t l = 0; l < LABELS; l++) {
            const struct mf_prediction *p = &st.predictions[l];
            bool is = truth[i * LABELS + l] > 0;
            tally[l].n[is]++;
            tally[l].covered[is] += p->state == MF_LABEL_UNCERTAIN ||
                                    p->state == (is ? MF_LABEL_PRESENT : MF_LABEL_ABSENT);
            tally[l].nll -= log(is ? p->probability : 1 - p->probability);
            tally[l].raw_nll += log1p(exp(is ? -p->logit : p->logit));
            present += is;
            for (size_t k = 0; is && k < st.s.findings.label_count; k++)
                found += st.labels[k] == l;
        }
        ill += present > 0;
        missed += present ? 1 - (double)found / (double)present : 0;
    }
    for (size_t l = 0; l < LABELS; l++)
        for (int is = 0; is < 2; is++) {
            double coverage = (double)tally[l].covered[is] / (double)tally[l].n[is];
            double sd =
                sqrt(0.09 * 2 / (double)tally[l].n[is]); /* both halves are about as large */
            printf("%-14s %-8s coverage %.3f of %zu\n", NIH_NAMES[l], is ? "present" : "absent",
                   coverage, tally[l].n[is]);
            assert_true(coverage > 0.9 - 4 * sd);
            assert_true(tally[l].nll < tally[l].raw_nll);
        }
    printf("false-negative rate of the finding lists %.3f over %zu cases\n", missed / (double)ill,
           ill);
    assert_true(missed / (double)ill < 0.1 + 4 * sqrt(0.1 * 2 / (double)ill));
    mf_bundle_free(b);
    free(logits);
    free(truth);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_study_is_judged_by_its_own_stratum),
        TEST(the_prevalence_moves_probabilities_and_no_set),
        TEST(a_near_target_is_weighted_a_far_one_is_said_to_be_shifted),
        TEST(feedback_counts_for_its_alpha_and_model),
        TEST(degenerate_data_gives_clear_answers),
        TEST(a_million_cases_are_fitted_written_and_read),
        TEST(real_scores_are_covered_and_calibrated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
