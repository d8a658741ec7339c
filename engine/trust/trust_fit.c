/* Fitting the trust layer on calibration cases. */
#include "engine/trust/adapt_cases.h"
#include "engine/trust/trust_private.h"

#include "core/clock.h"
#include "core/digest.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FOLDS = 5, STRATUM_CASES = 20 };

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

/* The cases that one fit looks at. */
struct selection {
    const struct mf_trust_cases *cases;
    const uint32_t *patient; /* a small integer a case */
    const char *stratum;     /* only cases of this key; NULL = all */
    const float *weights;    /* a case; NULL: all count the same */
    bool exclusive;          /* probabilities are made of all labels, not of each */
};

static bool is_selected(const struct selection *s, size_t i)
{
    const char *key = s->stratum ? s->cases->groups[i] : NULL;
    return !s->stratum || (key && strcmp(key, s->stratum) == 0);
}

struct weighted_logit {
    float z, weight;
};

static int by_value(const void *a, const void *b)
{
    const struct weighted_logit *x = a, *y = b;
    if (x->z != y->z)
        return x->z < y->z ? -1 : 1;
    return x->weight < y->weight ? -1 : x->weight > y->weight;
}

/* Sorts `list` into arena arrays. */
static bool keep_sorted(struct mf_trust *t, struct weighted_logit *list, size_t n, bool weighted,
                        float **ret_logits, float **ret_weights, struct mf_error *err)
{
    qsort(list, n, sizeof *list, by_value);
    *ret_logits = mf_arena_alloc(t->arena, n, sizeof **ret_logits, err);
    *ret_weights = weighted ? mf_arena_alloc(t->arena, n, sizeof **ret_weights, err) : NULL;
    if (!*ret_logits || (weighted && !*ret_weights))
        return false;
    for (size_t i = 0; i < n; i++) {
        (*ret_logits)[i] = list[i].z;
        if (weighted)
            (*ret_weights)[i] = list[i].weight;
    }
    return true;
}

/* Work memory for one label: everything has room for all cases. */
struct label_work {
    double *z;
    uint8_t *truth;
    uint32_t *patient;
    struct weighted_logit *positive, *negative;
    size_t n;
};

/* The label's selected cases: for the conformal sets sorted into `c`, for the map in `w`. */
static bool gather(struct mf_trust *t, const struct selection *s, size_t label,
                   struct label_work *w, struct mf_class_logits *c, struct mf_error *err)
{
    w->n = 0;
    for (size_t i = 0; i < s->cases->count; i++) {
        size_t at = i * s->cases->label_count + label;
        if (s->cases->truth[at] < 0 || !is_selected(s, i))
            continue;
        struct weighted_logit one = {s->cases->logits[at], s->weights ? s->weights[i] : 1};
        w->z[w->n] = one.z;
        w->truth[w->n] = s->cases->truth[at] != 0;
        w->patient[w->n] = s->patient[i];
        if (w->truth[w->n++])
            w->positive[c->n_pos++] = one;
        else
            w->negative[c->n_neg++] = one;
    }
    bool weighted = s->weights != NULL;
    return keep_sorted(t, w->positive, c->n_pos, weighted, &c->positive, &c->positive_weights,
                       err) &&
           keep_sorted(t, w->negative, c->n_neg, weighted, &c->negative, &c->negative_weights, err);
}

/* The map of a label on its gathered cases. */
static bool fit_map(const struct selection *s, const struct label_work *w,
                    const struct mf_class_logits *c, struct mf_calibration *ret,
                    struct mf_error *err)
{
    if (!s->exclusive)
        return mf_calibration_choose(w->z, w->truth, w->patient, w->n, FOLDS, ret, err);
    *ret = (struct mf_calibration){.method = MF_CALIBRATION_IDENTITY,
                                   .n_pos = (uint32_t)c->n_pos,
                                   .n_neg = (uint32_t)c->n_neg};
    for (int m = 0; m < MF_CALIBRATION_METHODS; m++)
        ret->nll[m] = NAN;
    return true;
}

/* A stratum's own map where there are enough cases of both classes and it is better, by
 * cross-validation, on them than the map of all cases. */
static bool fit_own(const struct mf_calibration *all, const struct label_work *w,
                    struct mf_calibration *ret, bool *ret_own, struct mf_error *err)
{
    size_t positives = 0;
    for (size_t i = 0; i < w->n; i++)
        positives += w->truth[i];
    *ret_own = false;
    if (positives < STRATUM_CASES || w->n - positives < STRATUM_CASES)
        return true;
    if (!mf_calibration_choose(w->z, w->truth, w->patient, w->n, FOLDS, ret, err))
        return false;
    *ret_own = ret->nll[ret->method] < mf_calibration_nll(all, w->z, w->truth, w->n);
    if (!*ret_own)
        mf_calibration_clear(ret);
    return true;
}

/* One label on all cases, then on each stratum's. */
static bool fit_label(struct mf_trust *t, struct selection *s, size_t label, struct label_work *w,
                      struct mf_error *err)
{
    s->stratum = NULL;
    if (!gather(t, s, label, w, &t->classes[label], err) ||
        !fit_map(s, w, &t->classes[label], &t->calibrations[label], err))
        return false;
    for (size_t g = 0; g < t->group_count; g++) {
        struct mf_trust_group *group = &t->groups[g];
        s->stratum = group->name;
        if (!gather(t, s, label, w, &group->classes[label], err))
            return false;
        if (!s->exclusive && !fit_own(&t->calibrations[label], w, &group->calibrations[label],
                                      &group->own[label], err))
            return false;
    }
    return true;
}

static bool fit_labels(struct mf_trust *t, struct selection *s, struct mf_error *err)
{
    size_t n = s->cases->count + 1;
    MF_AUTO(mf_mem) double *z = malloc(n * sizeof *z);
    MF_AUTO(mf_mem) uint8_t *truth = malloc(n);
    MF_AUTO(mf_mem) uint32_t *patient = malloc(n * sizeof *patient);
    MF_AUTO(mf_mem) struct weighted_logit *positive = malloc(n * sizeof *positive);
    MF_AUTO(mf_mem) struct weighted_logit *negative = malloc(n * sizeof *negative);
    struct label_work w = {z, truth, patient, positive, negative, 0};
    if (!z || !truth || !patient || !positive || !negative)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a calibration");
    for (size_t i = 0; i < t->label_count; i++)
        if (!fit_label(t, s, i, &w, err))
            return mf_error_prefix(err, "label %s", t->label_ids[i]);
    return true;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct mf_trust_group *)a)->name,
                  ((const struct mf_trust_group *)b)->name);
}

/* Makes the (empty) groups of all keys that occur. */
static bool find_strata(struct mf_trust *t, const struct mf_trust_cases *cases,
                        struct mf_error *err)
{
    t->strata = cases->strata;
    if (cases->strata == MF_STRATA_NONE || !cases->groups)
        return true;
    t->groups = mf_arena_alloc(t->arena, MF_TRUST_GROUPS, sizeof *t->groups, err);
    if (!t->groups)
        return false;
    for (size_t i = 0; i < cases->count; i++) {
        size_t g = 0;
        while (cases->groups[i] && g < t->group_count &&
               strcmp(t->groups[g].name, cases->groups[i]) != 0)
            g++;
        if (!cases->groups[i] || g < t->group_count)
            continue;
        if (g == MF_TRUST_GROUPS)
            return mf_error_set(err, MF_ERR_UNUSABLE,
                                "the calibration data has more than %d groups by %s",
                                MF_TRUST_GROUPS, mf_strata_name(cases->strata));
        if (!mf_trust_add_group(t, cases->groups[i], err))
            return false;
    }
    if (t->group_count)
        qsort(t->groups, t->group_count, sizeof *t->groups, by_name);
    return true;
}

/* The weight of every case towards the site where the model works; *ret stays NULL without one. */
static bool weigh(struct mf_trust *t, const struct mf_trust_cases *cases, float **ret,
                  struct mf_error *err)
{
    if (!cases->target)
        return true;
    if (cases->strata != MF_STRATA_NONE)
        return mf_error_set(
            err, MF_ERR_UNUSABLE,
            "a calibration is made for strata or weighted towards a site, not both");
    if (!mf_density_ratio_fit(cases->logits, cases->count, cases->target, cases->target_count,
                              cases->label_count, &t->ratio, err))
        return false;
    t->has_ratio = true;
    *ret = malloc((cases->count + 1) * sizeof **ret);
    if (!*ret)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a calibration");
    for (size_t i = 0; i < cases->count; i++)
        (*ret)[i] = (float)mf_density_ratio_at(&t->ratio, cases->logits + i * cases->label_count);
    return true;
}

static bool take_prevalence(struct mf_trust *t, const struct mf_trust_cases *cases,
                            struct mf_error *err)
{
    if (!cases->prevalence)
        return true;
    t->prevalence = mf_arena_alloc(t->arena, t->label_count, sizeof *t->prevalence, err);
    for (size_t i = 0; t->prevalence && i < t->label_count; i++) {
        t->prevalence[i] = cases->prevalence[i];
        if (!isnan(t->prevalence[i]) && !(t->prevalence[i] > 0 && t->prevalence[i] < 1))
            return mf_error_set(err, MF_ERR_UNUSABLE, "label %s: a prevalence lies between 0 and 1",
                                t->label_ids[i]);
    }
    return t->prevalence != NULL;
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
    for (size_t i = 0; cases->groups && i < cases->count; i++)
        if (cases->groups[i])
            mf_sha256_update(h, cases->groups[i], strlen(cases->groups[i]) + 1);
    if (cases->prevalence)
        mf_sha256_update(h, cases->prevalence, cases->label_count * sizeof *cases->prevalence);
    if (cases->target)
        mf_sha256_update(h, cases->target,
                         cases->target_count * cases->label_count * sizeof *cases->target);
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
    size_t labelled = 0;
    for (size_t i = 0; i < cases->count * cases->label_count; i++) {
        if (!isfinite(cases->logits[i]))
            return mf_error_set(err, MF_ERR_UNUSABLE,
                                "the calibration data holds a logit that is not finite");
        labelled += cases->truth[i] >= 0;
    }
    if (!labelled)
        return mf_error_set(err, MF_ERR_UNUSABLE, "the calibration data has no label at all");
    return true;
}

static int by_number(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* The known values, ascending. */
static void keep_sharpness(struct mf_trust *t, const struct mf_trust_cases *cases,
                           struct mf_error *err)
{
    if (!cases->sharpness)
        return;
    t->sharpness = mf_arena_alloc(t->arena, cases->count, sizeof *t->sharpness, err);
    for (size_t i = 0; t->sharpness && i < cases->count; i++)
        if (!isnan(cases->sharpness[i]))
            t->sharpness[t->sharpness_count++] = cases->sharpness[i];
    if (t->sharpness)
        qsort(t->sharpness, t->sharpness_count, sizeof *t->sharpness, by_number);
}

struct mf_trust *mf_trust_fit(const struct mf_bundle *bundle, const struct mf_trust_cases *cases,
                              const struct mf_trust_origin *origin, struct mf_error *err)
{
    if (!check_cases(bundle, cases, err))
        return NULL;
    MF_AUTO(mf_trust)
    struct mf_trust *t = mf_trust_new(mf_bundle_labels(bundle), cases->label_count, err);
    MF_AUTO(mf_mem) uint32_t *group = calloc(cases->count + 1, sizeof *group);
    if (!t || !group || !number_patients(cases, group, &t->patients)) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a calibration");
        return NULL;
    }
    t->calibrations = mf_arena_alloc(t->arena, t->label_count, sizeof *t->calibrations, err);
    t->classes = mf_arena_alloc(t->arena, t->label_count, sizeof *t->classes, err);
    if (!t->calibrations || !t->classes || !describe(t, bundle, cases, origin, err))
        return NULL;
    MF_AUTO(mf_mem) float *weights = NULL;
    if (!find_strata(t, cases, err) || !take_prevalence(t, cases, err) ||
        !weigh(t, cases, &weights, err))
        return NULL;
    bool exclusive = mf_bundle_exclusive(bundle);
    struct mf_trust_cases judged = *cases; /* by each label's own score */
    MF_AUTO(mf_mem) float *odds = exclusive ? mf_exclusive_odds_of(cases, err) : NULL;
    if (exclusive && (!odds || !mf_exclusive_fit(cases, group, &t->exclusive, err)))
        return NULL;
    judged.logits = exclusive ? odds : cases->logits;
    struct selection selection = {&judged, group, NULL, weights, exclusive};
    if (!fit_labels(t, &selection, err) || (!exclusive && !fit_risk(t, cases, err)))
        return NULL;
    struct mf_error own = MF_ERROR_INIT;
    if (cases->features)
        t->ood = mf_ood_fit(cases->features, cases->count, cases->feature_size, group, &own);
    t->ood_of_regions = true;
    if (own.code == MF_OK)
        keep_sharpness(t, cases, &own);
    if (own.code == MF_OK && !exclusive)
        t->adaptation = mf_adapt_cases_to_json(bundle, cases, group, &own);
    if (own.code != MF_OK) {
        mf_error_set(err, own.code, "%s", own.msg);
        return NULL;
    }
    return MF_STEAL(t);
}
