/* A bundle with simulated calibration cases, for tests of the trust layer: fit, write, read, apply.
 */
#ifndef MEDFUSION_TESTS_ENGINE_TRUST_FIXTURE_H
#define MEDFUSION_TESTS_ENGINE_TRUST_FIXTURE_H

#include "engine/trust/trust.h"
#include "tests/engine/bundle_copy.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { LABELS = 5, FEATURES = 8, CASES = 400 };

struct fixture {
    char dir[64], out[80];
    struct mf_bundle *bundle;
    float *logits, *features;
    int8_t *truth;
};

static uint64_t seed = 5;

static inline double uniform(void)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (double)(seed >> 11) / (double)(UINT64_C(1) << 53);
}

static inline double gaussian(void)
{
    return sqrt(-2 * log(1 - uniform())) * cos(6.283185307179586 * uniform());
}

/* Label 0 is common, label 4 has no positive case at all. */
static inline void draw(struct fixture *f)
{
    static const double PREVALENCE[LABELS] = {0.5, 0.3, 0.2, 0.1, 0};
    for (size_t i = 0; i < CASES * LABELS; i++) {
        bool present = uniform() < PREVALENCE[i % LABELS];
        f->truth[i] = present;
        f->logits[i] = (float)(gaussian() + (present ? 1.5 : -1.5));
    }
    for (size_t i = 0; i < CASES * FEATURES; i++)
        f->features[i] = (float)(gaussian() * (1 + (double)(i % FEATURES)));
    f->truth[3] = -1; /* one blank */
}

static inline int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    *state = f;
    if (!f || !bundle_copy("no-segmenter", f->dir))
        return -1;
    snprintf(f->out, sizeof f->out, "%s-out", f->dir);
    f->bundle = mf_bundle_open(f->dir, MF_BUNDLE_METADATA, NULL);
    f->logits = calloc(CASES * LABELS, sizeof *f->logits);
    f->truth = calloc(CASES * LABELS, 1);
    f->features = calloc(CASES * FEATURES, sizeof *f->features);
    draw(f);
    return f->bundle ? 0 : -1;
}

static inline int teardown(void **state)
{
    struct fixture *f = *state;
    mf_bundle_free(f->bundle);
    bundle_remove(f->dir);
    bundle_remove(f->out);
    free(f->logits);
    free(f->truth);
    free(f->features);
    free(f);
    return 0;
}

static inline struct mf_bundle *calibrated(struct fixture *f, const struct mf_trust_cases *cases)
{
    const struct mf_trust_origin origin = {"a simulation", "2026-01-02T03:04:05.000Z"};
    struct mf_error err = MF_ERROR_INIT;
    struct mf_trust *trust = mf_trust_fit(f->bundle, cases, &origin, &err);
    if (!trust || !mf_bundle_write_calibrated(f->bundle, trust, f->out, &err))
        fail_msg("%s", err.msg);
    mf_trust_free(trust);
    struct mf_bundle *b = mf_bundle_open(f->out, MF_BUNDLE_FULL, &err);
    if (!b)
        fail_msg("%s", err.msg);
    return b;
}

static inline struct mf_trust_cases all_cases(const struct fixture *f)
{
    return (struct mf_trust_cases){.count = CASES,
                                   .label_count = LABELS,
                                   .logits = f->logits,
                                   .truth = f->truth,
                                   .features = f->features,
                                   .feature_size = FEATURES};
}

struct statement {
    struct mf_prediction predictions[LABELS];
    uint32_t labels[LABELS];
    struct mf_trust_statement s;
};

static inline void apply(const struct mf_bundle *b, const float *logits, const float *features,
                         double alpha, bool shifted, struct statement *st)
{
    struct mf_error err = MF_ERROR_INIT;
    st->s =
        (struct mf_trust_statement){.predictions = st->predictions, .finding_labels = st->labels};
    const struct mf_trust_case c = {.logits = logits,
                                    .features = features,
                                    .feature_size = FEATURES,
                                    .strata = MF_STRATA_UNKNOWN,
                                    .shifted = shifted};
    if (!mf_trust_apply(b, &c, alpha, &st->s, &err))
        fail_msg("%s", err.msg);
}

#endif
