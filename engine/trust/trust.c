/* Applying the trust layer to one case, and the struct's life. */
#include "engine/trust/sharpness.h"
#include "engine/trust/trust_private.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct mf_trust *mf_trust_new(const struct mf_label *labels, size_t label_count,
                              struct mf_error *err)
{
    MF_AUTO(mf_trust) struct mf_trust *t = calloc(1, sizeof *t);
    if (!t || !(t->arena = mf_arena_new((size_t)1 << 30))) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
        return NULL;
    }
    t->label_count = label_count;
    t->label_ids = mf_arena_alloc(t->arena, label_count, sizeof *t->label_ids, err);
    for (size_t i = 0; t->label_ids && i < label_count; i++) {
        t->label_ids[i] = mf_arena_strdup(t->arena, labels[i].id, err);
        if (!t->label_ids[i])
            return NULL;
    }
    return t->label_ids ? MF_STEAL(t) : NULL;
}

bool mf_trust_add_group(struct mf_trust *t, const char *name, struct mf_error *err)
{
    struct mf_trust_group *g = &t->groups[t->group_count];
    size_t n = t->label_count;
    *g = (struct mf_trust_group){.name = mf_arena_strdup(t->arena, name, err),
                                 .calibrations =
                                     mf_arena_alloc(t->arena, n, sizeof *g->calibrations, err),
                                 .own = mf_arena_alloc(t->arena, n, sizeof *g->own, err),
                                 .classes = mf_arena_alloc(t->arena, n, sizeof *g->classes, err)};
    t->group_count++;
    return g->name && g->calibrations && g->own && g->classes;
}

void mf_trust_free(struct mf_trust *t)
{
    if (!t)
        return;
    for (size_t i = 0; t->calibrations && i < t->label_count; i++)
        mf_calibration_clear(&t->calibrations[i]);
    for (size_t g = 0; g < t->group_count; g++)
        for (size_t i = 0; t->groups[g].calibrations && i < t->label_count; i++)
            mf_calibration_clear(&t->groups[g].calibrations[i]);
    mf_density_ratio_clear(&t->ratio);
    mf_exclusive_clear(&t->exclusive);
    mf_ood_free(t->ood);
    json_decref(t->adaptation);
    json_decref(t->reference);
    mf_arena_free(t->arena);
    free(t);
}

const char *mf_trust_id(const struct mf_trust *t)
{
    return t->id;
}

const char *mf_trust_created(const struct mf_trust *t)
{
    return t->created;
}

const char *mf_trust_source(const struct mf_trust *t)
{
    return t->source;
}

const char *mf_trust_model_hash(const struct mf_trust *t)
{
    return t->model_hash;
}

uint32_t mf_trust_patients(const struct mf_trust *t)
{
    return t->patients;
}

double mf_trust_sharpness_p_value(const struct mf_trust *t, double sharpness)
{
    return mf_sharpness_p_value(t->sharpness, t->sharpness_count, sharpness);
}

struct mf_trust_reference mf_trust_reference(const struct mf_trust *t, size_t label)
{
    const struct mf_class_logits *c = t->classes ? &t->classes[label] : NULL;
    return c ? (struct mf_trust_reference){c->positive, c->negative, c->n_pos, c->n_neg}
             : (struct mf_trust_reference){NULL, NULL, 0, 0};
}

void mf_trust_set_features(struct mf_trust *t, json_t *reference)
{
    json_decref(t->reference);
    t->reference = reference;
}

static enum mf_label_state state_of(bool present, bool absent)
{
    if (present)
        return absent ? MF_LABEL_UNCERTAIN : MF_LABEL_PRESENT;
    return absent ? MF_LABEL_ABSENT : MF_LABEL_EMPTY;
}

/* What all labels of one case have in common. */
struct judgement {
    const struct mf_trust *trust;
    const struct mf_trust_group *group; /* of this case; NULL: none */
    const double *levels;               /* of adaptive inference, or NULL */
    double alpha, weight;
    bool bound, shifted;
};

static const struct mf_trust_group *find_group(const struct mf_trust *t,
                                               const struct mf_strata *strata)
{
    char key[MF_STRATA_KEY];
    if (!t->group_count || !mf_strata_key(t->strata, strata, key))
        return NULL;
    for (size_t g = 0; g < t->group_count; g++)
        if (strcmp(t->groups[g].name, key) == 0)
            return &t->groups[g];
    return NULL;
}

/* The stratum's cases where both classes are enough for alpha (which depends on their number alone,
 * so choosing does not spoil the guarantee), all cases otherwise. */
static const struct mf_class_logits *choose_cases(const struct judgement *j, size_t i,
                                                  struct mf_prediction *p)
{
    const struct mf_class_logits *c = j->group ? &j->group->classes[i] : NULL;
    if (!c || mf_conformal_rank(c->n_pos, j->alpha) > c->n_pos ||
        mf_conformal_rank(c->n_neg, j->alpha) > c->n_neg)
        return &j->trust->classes[i];
    p->taxonomy = mf_strata_taxonomy(j->trust->strata);
    return c;
}

static struct mf_conformal_class judge_class(const struct judgement *j,
                                             const struct mf_class_logits *c, size_t i,
                                             bool present, bool weighted, float z)
{
    const float *logits = present ? c->positive : c->negative;
    const float *weights = present ? c->positive_weights : c->negative_weights;
    size_t n = present ? c->n_pos : c->n_neg;
    if (weighted)
        return mf_conformal_judge_weighted(logits, weights, n, present, z, j->weight, j->alpha);
    return mf_conformal_judge(logits, n, present, z,
                              j->levels ? j->levels[2 * i + !present] : j->alpha);
}

/* Sets, p-values and the guarantee of one label. Weights that leave too few effective cases are not
 * used, and the shift that they were for is said. */
static void judge(const struct judgement *j, size_t i, struct mf_prediction *p)
{
    p->p_present = p->p_absent = p->q_present = p->q_absent = NAN;
    p->state = MF_LABEL_UNCERTAIN;
    p->guarantee = MF_GUARANTEE_VOID;
    if (!j->trust->classes)
        return;
    const struct mf_class_logits *c = choose_cases(j, i, p);
    double needed = mf_effective_size_needed(j->alpha);
    bool shift = c->positive_weights && !j->levels;
    bool weighted = shift && mf_effective_size(c->positive_weights, c->n_pos) >= needed &&
                    mf_effective_size(c->negative_weights, c->n_neg) >= needed;
    p->method = j->levels  ? "adaptive_conformal"
                : weighted ? "weighted_conformal"
                           : "split_conformal";
    float z = (float)p->logit;
    struct mf_conformal_class present = judge_class(j, c, i, true, weighted, z);
    struct mf_conformal_class absent = judge_class(j, c, i, false, weighted, z);
    p->n_cal_pos = (uint32_t)c->n_pos;
    p->n_cal_neg = (uint32_t)c->n_neg;
    p->p_present = present.p;
    p->p_absent = absent.p;
    p->q_present = present.q;
    p->q_absent = absent.q;
    p->state = state_of(present.included, absent.included);
    p->guarantee = !j->bound                           ? MF_GUARANTEE_VOID
                   : !present.enough || !absent.enough ? MF_GUARANTEE_INSUFFICIENT
                   : j->shifted || shift != weighted   ? MF_GUARANTEE_SHIFTED
                                                       : MF_GUARANTEE_VALID;
}

/* The calibrated probability, at the prevalence of where the model works. */
static double probability_of(const struct judgement *j, size_t i, double logit)
{
    static const struct mf_calibration IDENTITY = {.method = MF_CALIBRATION_IDENTITY};
    const struct mf_trust *t = j->trust;
    const struct mf_calibration *c = j->group && j->group->own[i] ? &j->group->calibrations[i]
                                     : t->calibrations            ? &t->calibrations[i]
                                                                  : &IDENTITY;
    double p = mf_calibration_apply(c, logit);
    double n = (double)c->n_pos + c->n_neg;
    return t->prevalence && n > 0
               ? mf_calibration_with_prevalence(p, c->n_pos / n, t->prevalence[i])
               : p;
}

/* The labels of the finding set, most probable first (ties in label order). */
static void list_findings(const bool *include, size_t label_count, struct mf_trust_statement *s)
{
    size_t n = 0;
    for (size_t i = 0; i < label_count; i++) {
        if (!include[i])
            continue;
        size_t at = n++;
        for (; at > 0 && s->predictions[s->finding_labels[at - 1]].probability <
                             s->predictions[i].probability;
             at--)
            s->finding_labels[at] = s->finding_labels[at - 1];
        s->finding_labels[at] = (uint32_t)i;
    }
    s->findings = (struct mf_finding_set){true, s->finding_labels, n, NULL};
}

/* Of labels that exclude each other; without a calibration the network's own. */
static double temperature_of(const struct mf_trust *t)
{
    return t->exclusive.temperature > 0 ? t->exclusive.temperature : 1;
}

/* What a case is judged by, a value a label. */
struct scores {
    bool exclusive;
    const float *raw, *logits; /* the network's, and those of each label alone: raw or `odds` */
    float *odds;
    double *p;
    bool *include;
};

/* Labels above the threshold of risk control or, where they exclude each other, the RAPS set. */
static void find_labels(const struct mf_trust *t, const struct scores *scores, double alpha,
                        struct mf_trust_statement *s)
{
    if (scores->exclusive && t->exclusive.scores) {
        mf_exclusive_set(&t->exclusive, scores->raw, t->label_count, alpha, scores->p,
                         scores->include);
    } else if (!scores->exclusive && t->has_risk) {
        float threshold = mf_conformal_risk_threshold(t->risk_logits, t->risk_weights,
                                                      t->risk_count, t->risk_cases, alpha);
        for (size_t i = 0; i < t->label_count; i++)
            scores->include[i] = scores->logits[i] >= threshold;
    } else {
        return;
    }
    list_findings(scores->include, t->label_count, s);
    s->findings.method = scores->exclusive ? "raps" : NULL;
}

/* Feedback counts for the model and the alpha that it was learnt at. */
static const double *levels_of(const struct mf_trust *t, const struct mf_aci *aci, double alpha)
{
    bool fits = aci && t->model_hash && mf_aci_labels(aci) == t->label_count &&
                strcmp(mf_aci_model_hash(aci), t->model_hash) == 0 &&
                fabs(mf_aci_target(aci) - alpha) < 1e-12;
    return fits ? mf_aci_levels(aci) : NULL;
}

/* Checks the network's logits and, of labels that exclude each other, makes log-odds of them. */
static bool prepare(const float *raw, size_t n, struct scores *scores, struct mf_error *err)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(raw[i]))
            return mf_error_set(err, MF_ERR_INTERNAL,
                                "the network gave a logit that is not finite");
    if (!scores->include || !scores->p || !scores->odds)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    scores->raw = scores->logits = raw;
    if (scores->exclusive) {
        mf_exclusive_log_odds(raw, n, scores->odds);
        scores->logits = scores->odds;
    }
    return true;
}

static double unusual(const struct mf_trust *t, const struct mf_trust_case *c)
{
    const float *x = t->ood_of_regions ? c->features : c->readout;
    size_t size = t->ood_of_regions ? c->feature_size : c->readout_size;
    return t->ood && x && mf_ood_size(t->ood) == size ? mf_ood_p_value(t->ood, x) : NAN;
}

bool mf_trust_apply(const struct mf_bundle *bundle, const struct mf_trust_case *c, double alpha,
                    struct mf_trust_statement *s, struct mf_error *err)
{
    const struct mf_trust *own = mf_bundle_trust(bundle), *t = c->trust ? c->trust : own;
    const struct mf_label *labels = mf_bundle_labels(bundle);
    if (!(alpha > 0 && alpha < 1))
        return mf_error_set(err, MF_ERR_UNUSABLE, "alpha must lie between 0 and 1");
    MF_AUTO(mf_mem) bool *include = calloc(t->label_count, sizeof *include);
    MF_AUTO(mf_mem) double *p = calloc(t->label_count, sizeof *p);
    MF_AUTO(mf_mem) float *odds = calloc(t->label_count, sizeof *odds);
    struct scores scores = {mf_bundle_exclusive(bundle), NULL, NULL, odds, p, include};
    if (!prepare(c->logits, t->label_count, &scores, err))
        return false;
    const struct judgement j = {.trust = t,
                                .group = find_group(t, &c->strata),
                                .levels = levels_of(t, c->aci, alpha),
                                .alpha = alpha,
                                .weight =
                                    t->has_ratio ? mf_density_ratio_at(&t->ratio, c->logits) : 1,
                                .bound = !c->unbound && t->model_hash &&
                                         strcmp(t->model_hash, mf_bundle_model_hash(bundle)) == 0,
                                .shifted = c->shifted};
    for (size_t i = 0; i < t->label_count; i++) {
        struct mf_prediction *one = &s->predictions[i];
        *one = (struct mf_prediction){.label = labels[i].id,
                                      .display = labels[i].display,
                                      .codings = labels[i].codings,
                                      .coding_count = labels[i].coding_count,
                                      .outcome = labels[i].outcome,
                                      .horizon = labels[i].horizon,
                                      .logit = scores.logits[i],
                                      .probability = probability_of(&j, i, scores.logits[i])};
        judge(&j, i, one);
    }
    if (scores.exclusive)
        mf_softmax(c->logits, t->label_count, temperature_of(t), p);
    for (size_t i = 0; scores.exclusive && i < t->label_count; i++)
        s->predictions[i].probability = p[i];
    s->levels = t->classes ? j.levels : NULL;
    s->findings = (struct mf_finding_set){0};
    if (j.bound)
        find_labels(t, &scores, alpha, s);
    bool same = own->model_hash && strcmp(own->model_hash, mf_bundle_model_hash(bundle)) == 0;
    s->ood_p_value = same ? unusual(own, c) : NAN;
    return true;
}
