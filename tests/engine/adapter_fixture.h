/* A calibrated bundle of tests/golden with readouts of its calibration population. */
#ifndef MF_TESTS_ENGINE_ADAPTER_FIXTURE_H
#define MF_TESTS_ENGINE_ADAPTER_FIXTURE_H

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

static inline double uniform(void)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (double)(seed >> 11) / (double)(UINT64_C(1) << 53);
}

/* A readout as the calibration population has them, and the network's logits of it. */
static inline void draw(const struct mf_adapt_head *head, float *readout, float *logits)
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

static inline int setup(void **state)
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

static inline int teardown(void **state)
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

#endif
