/* Applying the trust layer to one case, and the struct's life. */
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

void mf_trust_free(struct mf_trust *t)
{
    if (!t)
        return;
    for (size_t i = 0; t->calibrations && i < t->label_count; i++)
        mf_calibration_clear(&t->calibrations[i]);
    mf_ood_free(t->ood);
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

static enum mf_label_state state_of(bool present, bool absent)
{
    if (present)
        return absent ? MF_LABEL_UNCERTAIN : MF_LABEL_PRESENT;
    return absent ? MF_LABEL_ABSENT : MF_LABEL_EMPTY;
}

/* Sets, p-values and the guarantee of one label. */
static void judge(const struct mf_trust *t, size_t i, double alpha, bool bound, bool shifted,
                  struct mf_prediction *p)
{
    p->p_present = p->p_absent = p->q_present = p->q_absent = NAN;
    p->state = MF_LABEL_UNCERTAIN;
    p->guarantee = MF_GUARANTEE_VOID;
    if (!t->classes)
        return;
    const struct mf_class_logits *c = &t->classes[i];
    float z = (float)p->logit;
    struct mf_conformal_class present = mf_conformal_judge(c->positive, c->n_pos, true, z, alpha);
    struct mf_conformal_class absent = mf_conformal_judge(c->negative, c->n_neg, false, z, alpha);
    p->n_cal_pos = (uint32_t)c->n_pos;
    p->n_cal_neg = (uint32_t)c->n_neg;
    p->p_present = present.p;
    p->p_absent = absent.p;
    p->q_present = present.q;
    p->q_absent = absent.q;
    p->state = state_of(present.included, absent.included);
    p->guarantee = !bound                              ? MF_GUARANTEE_VOID
                   : !present.enough || !absent.enough ? MF_GUARANTEE_INSUFFICIENT
                   : shifted                           ? MF_GUARANTEE_SHIFTED
                                                       : MF_GUARANTEE_VALID;
}

/* Labels above the threshold, most probable first (ties in label order). */
static void find_labels(const struct mf_trust *t, double alpha, struct mf_trust_statement *s)
{
    float threshold = mf_conformal_risk_threshold(t->risk_logits, t->risk_weights, t->risk_count,
                                                  t->risk_cases, alpha);
    size_t n = 0;
    for (size_t i = 0; i < t->label_count; i++) {
        if (!((float)s->predictions[i].logit >= threshold))
            continue;
        size_t at = n++;
        for (; at > 0 && s->predictions[s->finding_labels[at - 1]].probability <
                             s->predictions[i].probability;
             at--)
            s->finding_labels[at] = s->finding_labels[at - 1];
        s->finding_labels[at] = (uint32_t)i;
    }
    s->findings = (struct mf_finding_set){true, s->finding_labels, n};
}

bool mf_trust_apply(const struct mf_bundle *bundle, const float *logits, const float *readout,
                    double alpha, bool shifted, struct mf_trust_statement *s, struct mf_error *err)
{
    const struct mf_trust *t = mf_bundle_trust(bundle);
    const struct mf_label *labels = mf_bundle_labels(bundle);
    if (!(alpha > 0 && alpha < 1))
        return mf_error_set(err, MF_ERR_UNUSABLE, "alpha must lie between 0 and 1");
    bool bound = t->model_hash && strcmp(t->model_hash, mf_bundle_model_hash(bundle)) == 0;
    for (size_t i = 0; i < t->label_count; i++) {
        if (!isfinite(logits[i]))
            return mf_error_set(err, MF_ERR_INTERNAL,
                                "the network gave a logit that is not finite");
        struct mf_prediction *p = &s->predictions[i];
        *p = (struct mf_prediction){.label = labels[i].id,
                                    .display = labels[i].display,
                                    .codings = labels[i].codings,
                                    .coding_count = labels[i].coding_count,
                                    .logit = logits[i]};
        static const struct mf_calibration IDENTITY = {.method = MF_CALIBRATION_IDENTITY};
        p->probability =
            mf_calibration_apply(t->calibrations ? &t->calibrations[i] : &IDENTITY, logits[i]);
        judge(t, i, alpha, bound, shifted, p);
    }
    s->findings = (struct mf_finding_set){0};
    if (t->has_risk && bound)
        find_labels(t, alpha, s);
    s->ood_p_value = t->ood && readout && bound ? mf_ood_p_value(t->ood, readout) : NAN;
    return true;
}
