/* Fitting the trust layer on calibration cases. */
#include "engine/trust/trust_private.h"

#include "core/clock.h"
#include "core/digest.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FOLDS = 5 };

/* Small integers for patients: the index of each one's first case. */
static bool number_patients(const struct mf_trust_cases *cases, uint32_t *group,
                            uint32_t *ret_patients)
{
    /* Open addressing over the strings; the table is twice as large as the number of cases. */
    size_t room = 2 * cases->count + 1;
    MF_AUTO(mf_mem) size_t *slots = calloc(room, sizeof *slots);
    *ret_patients = 0;
    if (!slots)
        return false;
    for (size_t i = 0; i < cases->count; i++) {
        if (!cases->patients) {
            group[i] = (*ret_patients)++;
            continue;
        }
        size_t h = 14695981039346656037u;
        for (const char *s = cases->patients[i]; *s; s++)
            h = (h ^ (unsigned char)*s) * 1099511628211u;
        size_t at = h % room;
        while (slots[at] && strcmp(cases->patients[slots[at] - 1], cases->patients[i]) != 0)
            at = (at + 1) % room;
        if (!slots[at]) {
            slots[at] = i + 1;
            group[i] = (*ret_patients)++;
        } else {
            group[i] = group[slots[at] - 1];
        }
    }
    return true;
}

static int ascending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

static bool fit_label(struct mf_trust *t, const struct mf_trust_cases *cases, const uint32_t *group,
                      size_t label, struct mf_error *err)
{
    struct mf_class_logits *c = &t->classes[label];
    size_t n = 0;
    MF_AUTO(mf_mem) double *z = malloc((cases->count + 1) * sizeof *z);
    MF_AUTO(mf_mem) uint8_t *truth = malloc(cases->count + 1);
    MF_AUTO(mf_mem) uint32_t *own = malloc((cases->count + 1) * sizeof *own);
    c->positive = mf_arena_alloc(t->arena, cases->count, sizeof *c->positive, err);
    c->negative = mf_arena_alloc(t->arena, cases->count, sizeof *c->negative, err);
    if (!z || !truth || !own || !c->positive || !c->negative)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a calibration");
    for (size_t i = 0; i < cases->count; i++) {
        size_t at = i * cases->label_count + label;
        if (cases->truth[at] < 0)
            continue;
        z[n] = cases->logits[at];
        truth[n] = cases->truth[at] != 0;
        own[n] = group[i];
        if (truth[n++])
            c->positive[c->n_pos++] = cases->logits[at];
        else
            c->negative[c->n_neg++] = cases->logits[at];
    }
    qsort(c->positive, c->n_pos, sizeof *c->positive, ascending);
    qsort(c->negative, c->n_neg, sizeof *c->negative, ascending);
    return mf_calibration_choose(z, truth, own, n, FOLDS, &t->calibrations[label], err);
}

struct miss {
    float logit;
    uint32_t weight;
};

static int by_logit(const void *a, const void *b)
{
    const struct miss *x = a, *y = b;
    if (x->logit != y->logit)
        return x->logit < y->logit ? -1 : 1;
    return x->weight < y->weight ? -1 : x->weight > y->weight;
}

/* Present labels of the cases that have at least one: images without findings would hide misses. */
static bool fit_risk(struct mf_trust *t, const struct mf_trust_cases *cases, struct mf_error *err)
{
    size_t room = 0, n = 0, width = cases->label_count;
    for (size_t i = 0; i < cases->count * width; i++)
        room += cases->truth[i] > 0;
    MF_AUTO(mf_mem) struct miss *all = malloc((room + 1) * sizeof *all);
    t->risk_logits = mf_arena_alloc(t->arena, room, sizeof *t->risk_logits, err);
    t->risk_weights = mf_arena_alloc(t->arena, room, sizeof *t->risk_weights, err);
    if (!all || !t->risk_logits || !t->risk_weights)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a calibration");
    for (size_t i = 0; i < cases->count; i++) {
        uint32_t present = 0;
        for (size_t l = 0; l < width; l++)
            present += cases->truth[i * width + l] > 0;
        t->risk_cases += present > 0;
        for (size_t l = 0; l < width; l++)
            if (cases->truth[i * width + l] > 0)
                all[n++] = (struct miss){cases->logits[i * width + l], present};
    }
    qsort(all, n, sizeof *all, by_logit);
    for (size_t i = 0; i < n; i++) {
        t->risk_logits[i] = all[i].logit;
        t->risk_weights[i] = all[i].weight;
    }
    t->risk_count = n;
    t->has_risk = n > 0;
    return true;
}

/* An id that says which model and which data: the same fit has the same one. */
static const char *make_id(struct mf_trust *t, const struct mf_trust_cases *cases,
                           struct mf_error *err)
{
    unsigned char digest[MF_SHA256_BYTES];
    char hex[MF_SHA256_HEX];
    MF_AUTO(mf_sha256) struct mf_sha256 *h = mf_sha256_new();
    if (!h) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
        return NULL;
    }
    mf_sha256_update(h, t->model_hash, strlen(t->model_hash));
    mf_sha256_update(h, cases->logits, cases->count * cases->label_count * sizeof *cases->logits);
    mf_sha256_update(h, cases->truth, cases->count * cases->label_count);
    mf_sha256_final(h, digest);
    mf_sha256_to_hex(digest, hex);
    return mf_arena_printf(t->arena, err, "cal-%.16s", hex);
}

static bool describe(struct mf_trust *t, const struct mf_bundle *bundle,
                     const struct mf_trust_cases *cases, const struct mf_trust_origin *origin,
                     struct mf_error *err)
{
    char now[MF_TIME_TEXT];
    const char *created =
        origin && origin->created ? origin->created : mf_clock_format_ms(mf_clock_wall_ms(), now);
    t->model_hash = mf_arena_strdup(t->arena, mf_bundle_model_hash(bundle), err);
    t->created = mf_arena_strdup(t->arena, created, err);
    t->source = mf_arena_strdup(t->arena, origin && origin->source ? origin->source : "", err);
    t->id = t->model_hash ? make_id(t, cases, err) : NULL;
    return t->created && t->source && t->id;
}

static bool check_cases(const struct mf_bundle *bundle, const struct mf_trust_cases *cases,
                        struct mf_error *err)
{
    if (cases->label_count != mf_bundle_label_count(bundle))
        return mf_error_set(err, MF_ERR_UNUSABLE,
                            "the calibration data has %zu labels, the model %zu",
                            cases->label_count, mf_bundle_label_count(bundle));
    if (cases->count == 0 || cases->count > 10000000)
        return mf_error_set(err, MF_ERR_UNUSABLE, "the calibration data has %zu cases",
                            cases->count);
    for (size_t i = 0; i < cases->count * cases->label_count; i++)
        if (!isfinite(cases->logits[i]))
            return mf_error_set(err, MF_ERR_UNUSABLE,
                                "the calibration data holds a logit that is not finite");
    return true;
}

struct mf_trust *mf_trust_fit(const struct mf_bundle *bundle, const struct mf_trust_cases *cases,
                              const struct mf_trust_origin *origin, struct mf_error *err)
{
    if (!check_cases(bundle, cases, err))
        return NULL;
    MF_AUTO(mf_trust)
    struct mf_trust *t = mf_trust_new(mf_bundle_labels(bundle), cases->label_count, err);
    MF_AUTO(mf_mem) uint32_t *group = malloc((cases->count + 1) * sizeof *group);
    if (!t || !group || !number_patients(cases, group, &t->patients)) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a calibration");
        return NULL;
    }
    t->calibrations = mf_arena_alloc(t->arena, t->label_count, sizeof *t->calibrations, err);
    t->classes = mf_arena_alloc(t->arena, t->label_count, sizeof *t->classes, err);
    if (!t->calibrations || !t->classes || !describe(t, bundle, cases, origin, err))
        return NULL;
    for (size_t i = 0; i < t->label_count; i++)
        if (!fit_label(t, cases, group, i, err)) {
            mf_error_prefix(err, "label %s", t->label_ids[i]);
            return NULL;
        }
    if (!fit_risk(t, cases, err))
        return NULL;
    struct mf_error own = MF_ERROR_INIT;
    if (cases->readouts)
        t->ood = mf_ood_fit(cases->readouts, cases->count, cases->readout_size, group, &own);
    if (own.code != MF_OK) {
        mf_error_set(err, own.code, "%s", own.msg);
        return NULL;
    }
    return MF_STEAL(t);
}
