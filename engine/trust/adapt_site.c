/* One guarded step of a site's adaptation (adapt_site.h). */
#include "engine/trust/adapt_private.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A step at work: the studies that count, and room for what is computed of them. */
struct step {
    const struct mf_adapt_head *head;
    const struct mf_adapt_yardstick *yardstick;
    const struct mf_adapt_options *options;
    double *u; /* (count, width): studies in distribution */
    size_t count, patients;
    double *z; /* (labels) */
    double *mean_p;
    double *dgamma, *dbeta, *work;
    double loss_before, loss_after;
};

static int by_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static size_t count_patients(uint32_t *patients, size_t n)
{
    size_t distinct = n > 0;
    qsort(patients, n, sizeof *patients, by_number);
    for (size_t i = 1; i < n; i++)
        distinct += patients[i] != patients[i - 1];
    return distinct;
}

/* Copies the studies that count. */
static bool select_studies(struct step *s, const struct mf_adapt_batch *batch, struct mf_error *err)
{
    size_t w = s->head->width;
    MF_AUTO(mf_mem) uint32_t *patients = malloc((batch->count + 1) * sizeof *patients);
    s->u = malloc((batch->count * w + 1) * sizeof *s->u);
    if (!patients || !s->u)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the adaptation");
    for (size_t i = 0; i < batch->count; i++) {
        if (batch->outlier && batch->outlier[i])
            continue;
        memcpy(s->u + s->count * w, batch->u + i * w, w * sizeof *s->u);
        patients[s->count++] = batch->patient[i];
    }
    s->patients = count_patients(patients, s->count);
    return true;
}

/* Statistics between the source's, which count for N cases, and the batch's. */
static void mix_statistics(const struct step *s, struct mf_adapt_state *next)
{
    size_t w = s->head->width;
    double n = (double)s->count, N = s->options->source_cases;
    for (size_t i = 0; i < w; i++) {
        double mean = 0, variance = 0;
        for (size_t b = 0; b < s->count; b++)
            mean += s->u[b * w + i] / n;
        for (size_t b = 0; b < s->count; b++)
            variance += pow(s->u[b * w + i] - mean, 2) / n;
        next->mean[i] = (N * s->head->mean[i] + n * mean) / (N + n);
        next->variance[i] = (N * s->head->variance[i] + n * variance) / (N + n);
    }
}

static double move(const struct mf_adapt_options *o, double now, double gradient, double source,
                   double gain)
{
    double most = o->bound * fabs(gain);
    double next = (1 - o->pull) * (now - o->rate * gradient) + o->pull * source;
    return source + fmin(fmax(next - source, -most), most);
}

/* Gradient step, pull and bound, with the new statistics. */
static bool move_parameters(struct step *s, const struct mf_adapt_state *old,
                            struct mf_adapt_state *next, struct mf_error *err)
{
    const struct mf_adapt_device *d = s->options->device;
    const struct mf_adapt_head *h = s->head;
    const struct mf_adapt_norm norm = {old->gamma, old->beta, next->mean, next->variance};
    if (!d)
        s->loss_before = mf_adapt_gradient(h, &norm, s->u, s->count, s->dgamma, s->dbeta, s->work);
    else if (!d->gradient(d->arg, h, &norm, s->u, s->count, s->dgamma, s->dbeta, &s->loss_before,
                          err))
        return false;
    for (size_t i = 0; i < h->width; i++) {
        next->gamma[i] = move(s->options, old->gamma[i], s->dgamma[i], h->gamma[i], h->gamma[i]);
        next->beta[i] = move(s->options, old->beta[i], s->dbeta[i], h->beta[i], h->gamma[i]);
        next->audit.largest_change =
            fmax(next->audit.largest_change,
                 fmax(fabs(next->gamma[i] - h->gamma[i]), fabs(next->beta[i] - h->beta[i])));
    }
    return true;
}

/* Entropy and mean p of the batch under the new state; false when a logit is not finite. */
static bool look_back(struct step *s, const struct mf_adapt_state *next)
{
    const struct mf_adapt_norm norm = mf_adapt_state_norm(next);
    size_t labels = s->head->labels;
    s->loss_after = 0;
    memset(s->mean_p, 0, labels * sizeof *s->mean_p);
    for (size_t b = 0; b < s->count; b++) {
        mf_adapt_logits(s->head, &norm, s->u + b * s->head->width, s->z);
        for (size_t l = 0; l < labels; l++) {
            if (!isfinite(s->z[l]))
                return false;
            s->mean_p[l] += 1 / (1 + exp(-s->z[l])) / (double)s->count;
        }
        s->loss_after += mf_adapt_entropy(s->z, labels) / (double)s->count;
    }
    return isfinite(s->loss_after);
}

/* Whether every label's mean p is one that the calibration population gives. */
static bool prevalence_holds(const struct step *s)
{
    const struct mf_adapt_yardstick *y = s->yardstick;
    double spread = s->options->prevalence_errors *
                    sqrt(1.0 / (double)s->count + 1.0 / (double)(y->cases ? y->cases : 1));
    for (size_t l = 0; l < s->head->labels; l++)
        if (!(fabs(s->mean_p[l] - y->mean[l]) <= spread * y->deviation[l] + 1e-12))
            return false;
    return true;
}

static enum mf_adapt_decision judge(struct step *s, const struct mf_adapt_state *old,
                                    struct mf_adapt_state *next)
{
    if (!isfinite(s->loss_before) || !look_back(s, next))
        return MF_ADAPT_RESET_FINITE;
    double keep = isnan(old->entropy_average) ? 0 : s->options->entropy_memory;
    next->entropy_average =
        (keep > 0 ? keep * old->entropy_average : 0) + (1 - keep) * s->loss_after;
    if (next->entropy_average < s->options->entropy_floor * s->yardstick->entropy)
        return MF_ADAPT_RESET_ENTROPY;
    return prevalence_holds(s) ? MF_ADAPT_STEPPED : MF_ADAPT_RESET_PREVALENCE;
}

static bool run(struct step *s, const struct mf_adapt_state *old, struct mf_adapt_state **ret_next,
                enum mf_adapt_decision *ret_decision, struct mf_error *err)
{
    const struct mf_adapt_norm source = mf_adapt_source(s->head);
    MF_AUTO(mf_adapt_state)
    struct mf_adapt_state *next = mf_adapt_state_after(old, MF_ADAPT_STEPPED, err);
    if (!next)
        return false;
    mix_statistics(s, next);
    if (!move_parameters(s, old, next, err))
        return false;
    next->decision = judge(s, old, next);
    if (next->decision != MF_ADAPT_STEPPED) {
        mf_adapt_state_copy(next, &source);
        next->entropy_average = NAN;
    }
    next->audit.studies = s->count;
    next->audit.rate = s->options->rate;
    next->audit.entropy_before = isfinite(s->loss_before) ? s->loss_before : NAN;
    next->audit.entropy_after = isfinite(s->loss_after) ? s->loss_after : NAN;
    if (!isfinite(next->audit.largest_change))
        next->audit.largest_change = 0;
    if (!mf_adapt_state_seal(next, err))
        return false;
    *ret_decision = next->decision;
    *ret_next = MF_STEAL(next);
    return true;
}

bool mf_adapt_step(const struct mf_adapt_head *head, const struct mf_adapt_state *state,
                   const struct mf_adapt_yardstick *yardstick,
                   const struct mf_adapt_options *options, const struct mf_adapt_batch *batch,
                   struct mf_adapt_state **ret_next, enum mf_adapt_decision *ret_decision,
                   struct mf_error *err)
{
    struct step s = {.head = head, .yardstick = yardstick, .options = options};
    *ret_next = NULL;
    if (state->width != head->width)
        return mf_error_set(err, MF_ERR_CONFLICT, "the state is one of another model");
    bool ok = select_studies(&s, batch, err);
    MF_AUTO(mf_mem)
    double *room = calloc(mf_adapt_work(head) + 2 * head->width + 2 * head->labels, sizeof *room);
    if (ok && !room) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the adaptation");
        ok = false;
    }
    if (ok) {
        s.work = room;
        s.dgamma = s.work + mf_adapt_work(head);
        s.dbeta = s.dgamma + head->width;
        s.z = s.dbeta + head->width;
        s.mean_p = s.z + head->labels;
        if (s.count < options->studies)
            *ret_decision = MF_ADAPT_TOO_FEW_STUDIES;
        else if (s.patients < options->patients)
            *ret_decision = MF_ADAPT_TOO_FEW_PATIENTS;
        else
            ok = run(&s, state, ret_next, ret_decision, err);
    }
    free(s.u);
    return ok;
}
