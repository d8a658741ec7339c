/* Labels that exclude each other: probabilities of a softmax, RAPS sets that hold the true label as
 * often as promised, and what a bundle keeps of them. */
#include "core/json.h"
#include "engine/trust/exclusive.h"
#include "tests/engine/bundle_copy.h"
#include "tests/engine/nih_densenet.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { LABELS = 5, CASES = 1500 };

struct fixture {
    char dir[64], out[80];
    struct mf_bundle *bundle;
    float *logits; /* of a network that is twice as sure as it may be */
    int8_t *truth;
    uint32_t patient[CASES];
};

static uint64_t seed = 11;

static double uniform(void)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (double)(seed >> 11) / (double)(UINT64_C(1) << 53);
}

static double gaussian(void)
{
    return sqrt(-2 * log(1 - uniform())) * cos(6.283185307179586 * uniform());
}

/* One case: logits, and a label drawn from the softmax of half of them. */
static size_t draw(float *z)
{
    double p[LABELS], u = uniform();
    size_t label = 0;
    for (size_t c = 0; c < LABELS; c++)
        z[c] = (float)(3 * gaussian());
    mf_softmax(z, LABELS, 2, p);
    while (label + 1 < LABELS && u >= p[label])
        u -= p[label++];
    return label;
}

/* Sets members of a JSON file of a bundle and makes its manifest anew. */
static void change(const char *dir, const char *file, const char *key, json_t *value)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, file);
    json_t *json = mf_json_read_file(path, NULL, NULL);
    json_object_set_new(json, key, value);
    char *text = mf_json_text(json, 0);
    assert_true(write_text(path, text, strlen(text)) && mf_bundle_write_manifest(dir, NULL));
    free(text);
    json_decref(json);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    *state = f;
    if (!f || !bundle_copy("no-segmenter", f->dir))
        return -1;
    snprintf(f->out, sizeof f->out, "%s-out", f->dir);
    change(f->dir, "bundle.json", "exclusive", json_true());
    f->bundle = mf_bundle_open(f->dir, MF_BUNDLE_METADATA, NULL);
    f->logits = calloc((size_t)CASES * LABELS, sizeof *f->logits);
    f->truth = calloc(CASES, LABELS);
    for (size_t i = 0; i < CASES; i++) {
        f->truth[i * LABELS + draw(f->logits + i * LABELS)] = 1;
        f->patient[i] = (uint32_t)i;
    }
    return f->bundle ? 0 : -1;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    mf_bundle_free(f->bundle);
    bundle_remove(f->dir);
    bundle_remove(f->out);
    free(f->logits);
    free(f->truth);
    free(f);
    return 0;
}

static struct mf_trust_cases first_cases(const struct fixture *f, size_t count)
{
    return (struct mf_trust_cases){
        .count = count, .label_count = LABELS, .logits = f->logits, .truth = f->truth};
}

static struct mf_bundle *calibrated(struct fixture *f, const struct mf_trust_cases *cases)
{
    struct mf_error err = MF_ERROR_INIT;
    struct mf_trust *trust = mf_trust_fit(f->bundle, cases, NULL, &err);
    if (!trust || !mf_bundle_write_calibrated(f->bundle, trust, f->out, &err))
        fail_msg("%s", err.msg);
    mf_trust_free(trust);
    struct mf_bundle *b = mf_bundle_open(f->out, MF_BUNDLE_METADATA, &err);
    if (!b)
        fail_msg("%s", err.msg);
    return b;
}

struct statement {
    struct mf_prediction predictions[LABELS];
    uint32_t labels[LABELS];
    struct mf_trust_statement s;
};

static void apply(const struct mf_bundle *b, const float *logits, double alpha,
                  struct statement *st)
{
    struct mf_error err = MF_ERROR_INIT;
    const struct mf_trust_case c = {.logits = logits, .strata = MF_STRATA_UNKNOWN};
    st->s =
        (struct mf_trust_statement){.predictions = st->predictions, .finding_labels = st->labels};
    if (!mf_trust_apply(b, &c, alpha, &st->s, &err))
        fail_msg("%s", err.msg);
}

static void log_odds_are_the_logits_of_the_softmax(void **state)
{
    static const float Z[3][4] = {{1, 2, 3, 0.5F}, {7, 7, -90, 7}, {300, -300, 0, 299}};
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        float odds[4];
        mf_exclusive_log_odds(Z[i], 4, odds);
        for (size_t c = 0; c < 4; c++) {
            double others = -INFINITY, rest = 0;
            for (size_t k = 0; k < 4; k++)
                others = k == c ? others : fmax(others, Z[i][k]);
            for (size_t k = 0; k < 4; k++)
                rest += k == c ? 0 : exp(Z[i][k] - others);
            double wanted = Z[i][c] - others - log(rest);
            assert_true(fabs(odds[c] - wanted) <= 1e-6 * fmax(1, fabs(wanted)));
        }
    }
}

/* A constant that is added to all logits of a study says nothing. */
static void a_shift_of_all_logits_changes_nothing(void **state)
{
    struct fixture *f = *state;
    const struct mf_trust_cases cases = first_cases(f, 400);
    struct mf_bundle *b = calibrated(f, &cases);
    struct statement one, other;
    apply(b, (float[]){1, 2, 0, -1, 0.5F}, 0.1, &one);
    apply(b, (float[]){65, 66, 64, 63, 64.5F}, 0.1, &other);
    assert_memory_equal(one.labels, other.labels, one.s.findings.label_count * sizeof *one.labels);
    for (size_t c = 0; c < LABELS; c++) {
        assert_true(one.predictions[c].logit == other.predictions[c].logit);
        assert_true(one.predictions[c].p_present == other.predictions[c].p_present);
    }
    mf_bundle_free(b);
}

static void temperature_and_sets_are_right_on_new_cases(void **state)
{
    enum { NEW = 4000 };
    struct fixture *f = *state;
    struct mf_error err = MF_ERROR_INIT;
    struct mf_exclusive e;
    const struct mf_trust_cases cases = first_cases(f, CASES);
    double work[LABELS], size = 0;
    bool include[LABELS];
    size_t covered = 0;
    if (!mf_exclusive_fit(&cases, f->patient, &e, &err))
        fail_msg("%s", err.msg);
    assert_true(fabs(e.temperature - 2) < 0.25 && e.nll[1] < e.nll[0]);
    assert_int_equal(e.tuning_cases, CASES / 5);
    assert_int_equal(e.cases, CASES - CASES / 5);
    for (size_t i = 0; i < NEW; i++) {
        float z[LABELS];
        size_t label = draw(z);
        mf_exclusive_set(&e, z, LABELS, 0.1, work, include);
        covered += include[label];
        for (size_t c = 0; c < LABELS; c++)
            size += include[c];
    }
    /* A 0.9 share of 4000 by sets of 1200 cases: standard deviation 0.0099. */
    printf("coverage %.3f, mean size %.2f, lambda %g, k_reg %zu\n", (double)covered / NEW,
           size / NEW, e.raps.lambda, e.raps.free);
    assert_true((double)covered / NEW > 0.9 - 0.04 && (double)covered / NEW < 0.98);
    assert_true(size / NEW < LABELS - 1);
    mf_exclusive_clear(&e);
}

static void a_bundle_keeps_what_was_fitted(void **state)
{
    struct fixture *f = *state;
    struct mf_exclusive e;
    const struct mf_trust_cases cases = first_cases(f, CASES);
    struct mf_bundle *b = calibrated(f, &cases);
    double work[LABELS];
    bool include[LABELS];
    assert_true(mf_bundle_exclusive(b));
    assert_true(mf_exclusive_fit(&cases, f->patient, &e, NULL));
    for (size_t i = 0; i < 200; i++) {
        struct statement st;
        float z[LABELS];
        double sum = 0;
        draw(z);
        apply(b, z, 0.1, &st);
        mf_exclusive_set(&e, z, LABELS, 0.1, work, include);
        mf_softmax(z, LABELS, e.temperature, work);
        assert_true(st.s.findings.available);
        assert_string_equal(st.s.findings.method, "raps");
        for (size_t k = 0; k < st.s.findings.label_count; k++) {
            assert_true(include[st.labels[k]]);
            include[st.labels[k]] = false;
            assert_true(k == 0 || st.predictions[st.labels[k]].probability <=
                                      st.predictions[st.labels[k - 1]].probability);
        }
        for (size_t c = 0; c < LABELS; c++) {
            assert_false(include[c]);
            assert_true(fabs(st.predictions[c].probability - work[c]) < 1e-12);
            assert_int_equal(st.predictions[c].guarantee, MF_GUARANTEE_VALID);
            sum += st.predictions[c].probability;
        }
        assert_true(fabs(sum - 1) < 1e-12);
    }
    mf_exclusive_clear(&e);
    mf_bundle_free(b);
}

static void without_a_calibration_nothing_is_promised(void **state)
{
    struct fixture *f = *state;
    struct statement st;
    double p[LABELS];
    const float z[LABELS] = {1, 2, 0, -1, 0.5F};
    apply(f->bundle, z, 0.1, &st);
    mf_softmax(z, LABELS, 1, p);
    for (size_t c = 0; c < LABELS; c++) {
        assert_true(fabs(st.predictions[c].probability - p[c]) < 1e-12);
        assert_int_equal(st.predictions[c].guarantee, MF_GUARANTEE_VOID);
    }
    assert_false(st.s.findings.available);
}

/* With 8 cases alpha = 0.1 cannot be kept but by naming every label. */
static void too_few_cases_name_every_label(void **state)
{
    struct fixture *f = *state;
    struct statement st;
    const struct mf_trust_cases cases = first_cases(f, 8);
    struct mf_bundle *b = calibrated(f, &cases);
    apply(b, (float[]){9, 0, 0, 0, 0}, 0.1, &st);
    assert_int_equal(st.s.findings.label_count, LABELS);
    assert_int_equal(st.predictions[0].guarantee, MF_GUARANTEE_INSUFFICIENT);
    mf_bundle_free(b);
}

static void contradictory_data_is_refused(void **state)
{
    struct fixture *f = *state;
    struct mf_error err = MF_ERROR_INIT;
    struct mf_trust_cases cases = first_cases(f, 300);
    const double prevalence[LABELS] = {0.2, 0.2, 0.2, 0.2, 0.2};
    memset(f->truth, 1, 2);                            /* two labels of the first case */
    memset(f->truth + LABELS, 0, LABELS);              /* none of the second */
    memset(f->truth + (size_t)2 * LABELS, -1, LABELS); /* the third is not labelled: no mistake */
    assert_null(mf_trust_fit(f->bundle, &cases, NULL, &err));
    assert_string_equal(
        err.msg, "2 calibration cases have none or several of labels that exclude each other");
    mf_error_clear(&err);
    cases.prevalence = prevalence;
    assert_null(mf_trust_fit(f->bundle, &cases, NULL, &err));
    assert_string_equal(
        err.msg, "labels that exclude each other take neither prevalences nor a target site");
}

static void refuse(struct fixture *f, const char *file, const char *key, json_t *value,
                   const char *reason)
{
    struct mf_error err = MF_ERROR_INIT;
    const struct mf_trust_cases cases = first_cases(f, 300);
    bundle_remove(f->out);
    mf_bundle_free(calibrated(f, &cases));
    change(f->out, file, key, value);
    assert_null(mf_bundle_open(f->out, MF_BUNDLE_METADATA, &err));
    assert_string_equal(err.msg, reason);
}

static void damaged_files_are_refused(void **state)
{
    struct fixture *f = *state;
    refuse(f, "calibration.json", "softmax", json_pack("{s:i}", "temperature", 0),
           "calibration.json: softmax.temperature is wrong");
    refuse(f, "conformal.json", "raps",
           json_pack("{s:i, s:i, s:i, s:i, s:[]}", "temperature", 1, "lambda", -1, "k_reg", 1,
                     "tuning_cases", 0, "scores"),
           "conformal.json: raps is wrong");
    refuse(f, "conformal.json", "raps",
           json_pack("{s:i, s:i, s:i, s:i, s:[f, f]}", "temperature", 1, "lambda", 0, "k_reg", 1,
                     "tuning_cases", 0, "scores", 0.5, 0.25),
           "conformal.json: raps.scores must rise");
}

static void a_bundle_says_exclusive_properly(void **state)
{
    struct fixture *f = *state;
    struct mf_error err = MF_ERROR_INIT;
    change(f->dir, "bundle.json", "exclusive", json_string("yes"));
    assert_null(mf_bundle_open(f->dir, MF_BUNDLE_METADATA, &err));
    assert_non_null(strstr(err.msg, "\"exclusive\" must be true or false"));
}

/* DenseNet-121 on NIH ChestX-ray14: images with exactly one finding, the newest of each patient;
 * odd cases calibrate, even ones test. */
static void real_scores_are_covered(void **state)
{
    size_t n = 0, count = 0, tests = 0, covered = 0, size = 0;
    struct nih_image *images = nih_read(&n);
    (void)state;
    if (!images)
        return;
    float *logits = malloc(n * NIH_LABELS * sizeof *logits);
    int8_t *truth = calloc(n, NIH_LABELS);
    uint32_t *patient = calloc(n, sizeof *patient);
    assert_true(logits && truth && patient);
    for (size_t i = 0; i < n; i++) {
        size_t present = 0;
        for (size_t c = 0; c < NIH_LABELS; c++)
            present += images[i].truth[c];
        if (present != 1 || (count && patient[count - 1] == images[i].patient))
            continue;
        patient[count] = images[i].patient;
        for (size_t c = 0; c < NIH_LABELS; c++) {
            logits[count * NIH_LABELS + c] = images[i].logits[c];
            truth[count * NIH_LABELS + c] = (int8_t)images[i].truth[c];
        }
        count++;
    }
    /* Random halves: patients' numbers are not exchangeable. */
    for (size_t i = count; i > 1; i--) {
        size_t k = (size_t)(uniform() * (double)i);
        for (size_t c = 0; c < NIH_LABELS; c++) {
            float z = logits[(i - 1) * NIH_LABELS + c];
            int8_t t = truth[(i - 1) * NIH_LABELS + c];
            logits[(i - 1) * NIH_LABELS + c] = logits[k * NIH_LABELS + c];
            truth[(i - 1) * NIH_LABELS + c] = truth[k * NIH_LABELS + c];
            logits[k * NIH_LABELS + c] = z;
            truth[k * NIH_LABELS + c] = t;
        }
    }
    for (uint32_t i = 0; i < count; i++)
        patient[i] = i;
    const struct mf_trust_cases cases = {
        .count = count / 2, .label_count = NIH_LABELS, .logits = logits, .truth = truth};
    struct mf_exclusive e;
    assert_true(mf_exclusive_fit(&cases, patient, &e, NULL));
    for (size_t i = count / 2; i < count; i++) {
        double work[NIH_LABELS];
        bool include[NIH_LABELS];
        mf_exclusive_set(&e, logits + i * NIH_LABELS, NIH_LABELS, 0.1, work, include);
        tests++;
        for (size_t c = 0; c < NIH_LABELS; c++) {
            covered += include[c] && truth[i * NIH_LABELS + c] > 0;
            size += include[c];
        }
    }
    double share = (double)covered / (double)tests;
    double deviation = sqrt(0.09 * (1 / (double)tests + 1 / (double)e.cases));
    printf("%zu calibrate, %zu test: coverage %.3f, mean size %.2f of 14, temperature %.2f\n",
           e.cases, tests, share, (double)size / (double)tests, e.temperature);
    assert_true(share > 0.9 - 4 * deviation);
    assert_true((double)size / (double)tests < 10);
    mf_exclusive_clear(&e);
    free(images);
    free(logits);
    free(truth);
    free(patient);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(log_odds_are_the_logits_of_the_softmax),
        TEST(a_shift_of_all_logits_changes_nothing),
        TEST(temperature_and_sets_are_right_on_new_cases),
        TEST(a_bundle_keeps_what_was_fitted),
        TEST(without_a_calibration_nothing_is_promised),
        TEST(too_few_cases_name_every_label),
        TEST(contradictory_data_is_refused),
        TEST(damaged_files_are_refused),
        TEST(a_bundle_says_exclusive_properly),
        cmocka_unit_test(real_scores_are_covered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
