/* Adaptation at work (adapter.h). */
#include "engine/trust/adapter.h"

#include "engine/trust/adapt_cases.h"
#include "engine/trust/trust_private.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* An episodic step: one study alone says little, so it may move γ and β by 1 % at most. */
static const double EPISODIC_RATE = 0.05, EPISODIC_BOUND = 0.01;

enum { PENDING = 64 }; /* studies that may wait for a step */

struct mf_adapter {
    const struct mf_bundle *bundle;
    enum mf_adapt_mode mode;
    char *site;
    struct mf_adapt_head *head;
    struct mf_adapt_cases *cases; /* NULL: no promise can be kept */
    struct mf_adapt_state *state; /* mode site; NULL: the source state */
    struct mf_trust *trust;       /* fitted under the map that is used; NULL: the bundle's own */
    struct mf_adapt_device device;
    bool has_device; /* gradients are computed there */
    double *u, *z;
    /* Studies that came since the last step, mode site. */
    double *pending_u;
    uint32_t pending_patient[PENDING];
    bool pending_outlier[PENDING];
    size_t pending;
};

/* --- the map from activation to logits --- */

static struct mf_adapt_norm norm_of(const struct mf_adapter *a)
{
    return a->state ? mf_adapt_state_norm(a->state) : mf_adapt_source(a->head);
}

/* One study's episodic step. */
static bool step_alone(const struct mf_adapter *a, const double *u, double *z,
                       struct mf_adapt_episode *ret, struct mf_error *err)
{
    size_t labels = a->head->labels;
    if (!a->has_device)
        return mf_adapt_episodic(a->head, u, EPISODIC_RATE, EPISODIC_BOUND, z, ret, err);
    MF_AUTO(mf_mem) double *before = calloc(labels + 1, sizeof *before);
    if (!before)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the adaptation");
    if (!a->device.episodic(a->device.arg, a->head, u, 1, EPISODIC_RATE, EPISODIC_BOUND, before, z,
                            err))
        return false;
    mf_adapt_conclude(before, z, labels, ret);
    return true;
}

/* Logits (count, labels) of the calibration cases under the map. */
static bool map_cases(const struct mf_adapter *a, float *logits, struct mf_error *err)
{
    const struct mf_adapt_cases *c = a->cases;
    const struct mf_adapt_norm norm = norm_of(a);
    size_t labels = c->labels, n = c->count * labels;
    bool together = a->mode == MF_ADAPT_EPISODIC && a->has_device;
    struct mf_adapt_episode episode;
    MF_AUTO(mf_mem) double *room = together ? calloc(2 * n + 1, sizeof *room) : NULL;
    if (together && !room)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the adaptation");
    if (together && !a->device.episodic(a->device.arg, a->head, c->activations, c->count,
                                        EPISODIC_RATE, EPISODIC_BOUND, room, room + n, err))
        return false;
    for (size_t i = 0; i < c->count; i++) {
        double *z = together ? room + n + i * labels : a->z;
        if (together)
            mf_adapt_conclude(room + i * labels, z, labels, &episode);
        else if (a->mode != MF_ADAPT_EPISODIC)
            mf_adapt_logits(a->head, &norm, c->activations + i * c->width, z);
        else if (!step_alone(a, c->activations + i * c->width, z, &episode, err))
            return false;
        for (size_t l = 0; l < labels; l++)
            logits[i * labels + l] = (float)z[l];
    }
    return true;
}

/* Fits the trust layer anew on the calibration cases under the map. */
static bool rebind(struct mf_adapter *a, struct mf_error *err)
{
    const struct mf_trust *own = mf_bundle_trust(a->bundle);
    const struct mf_adapt_cases *c = a->cases;
    bool moved = a->mode == MF_ADAPT_EPISODIC || (a->mode == MF_ADAPT_SITE && a->state);
    mf_trust_free(a->trust);
    a->trust = NULL;
    if (!moved || !c || own->has_ratio)
        return true;
    MF_AUTO(mf_mem) float *logits = malloc((c->count * c->labels + 1) * sizeof *logits);
    if (!logits)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the adaptation");
    if (!map_cases(a, logits, err))
        return false;
    const struct mf_trust_cases cases = {.count = c->count,
                                         .label_count = c->labels,
                                         .logits = logits,
                                         .truth = c->truth,
                                         .patients = c->patients,
                                         .strata = c->strata,
                                         .groups = c->groups,
                                         .prevalence = own->prevalence};
    const struct mf_trust_origin origin = {own->source, own->created};
    a->trust = mf_trust_fit(a->bundle, &cases, &origin, err);
    return a->trust != NULL;
}

/* --- life --- */

struct mf_adapter *mf_adapter_new(const struct mf_bundle *bundle, enum mf_adapt_mode mode,
                                  const char *site, struct mf_adapt_state *state,
                                  struct mf_error *err)
{
    return mf_adapter_new_on(NULL, bundle, mode, site, state, err);
}

struct mf_adapter *mf_adapter_new_on(const struct mf_adapt_device *device,
                                     const struct mf_bundle *bundle, enum mf_adapt_mode mode,
                                     const char *site, struct mf_adapt_state *state,
                                     struct mf_error *err)
{
    MF_AUTO(mf_adapter) struct mf_adapter *a = calloc(1, sizeof *a);
    struct mf_error own = MF_ERROR_INIT;
    if (!a) {
        mf_adapt_state_free(state);
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the adaptation");
        return NULL;
    }
    *a = (struct mf_adapter){
        .bundle = bundle, .mode = mode, .state = state, .has_device = device != NULL};
    if (device)
        a->device = *device;
    a->head = mf_adapt_head_load(bundle, err);
    if (!a->head)
        return NULL;
    a->site = strdup(site);
    a->u = calloc(a->head->width + 1, sizeof *a->u);
    a->z = calloc(a->head->labels + 1, sizeof *a->z);
    a->pending_u = calloc(PENDING * a->head->width + 1, sizeof *a->pending_u);
    if (!a->site || !a->u || !a->z || !a->pending_u) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the adaptation");
        return NULL;
    }
    if (mode == MF_ADAPT_EPISODIC || mode == MF_ADAPT_SITE)
        a->cases = mf_adapt_cases_load(bundle, a->head, &own);
    if (own.code != MF_OK) {
        mf_error_set(err, own.code, "%s", own.msg);
        return NULL;
    }
    return rebind(a, err) ? MF_STEAL(a) : NULL;
}

void mf_adapter_free(struct mf_adapter *a)
{
    if (!a)
        return;
    mf_trust_free(a->trust);
    mf_adapt_state_free(a->state);
    mf_adapt_cases_free(a->cases);
    mf_adapt_head_free(a->head);
    free(a->site);
    free(a->u);
    free(a->z);
    free(a->pending_u);
    free(a);
}

const struct mf_adapt_head *mf_adapter_head(const struct mf_adapter *a)
{
    return a->head;
}

const struct mf_adapt_state *mf_adapter_state(const struct mf_adapter *a)
{
    return a->state;
}

bool mf_adapter_replace(struct mf_adapter *a, struct mf_adapt_state *state, struct mf_error *err)
{
    if (strcmp(mf_adapt_state_model_hash(state), mf_bundle_model_hash(a->bundle)) != 0 ||
        strcmp(mf_adapt_state_site(state), a->site) != 0) {
        mf_adapt_state_free(state);
        return mf_error_set(err, MF_ERR_CONFLICT, "the state is one of another site or model");
    }
    mf_adapt_state_free(a->state);
    a->state = state;
    return rebind(a, err);
}

/* --- one study --- */

bool mf_adapter_apply(struct mf_adapter *a, const float *readout, float *logits,
                      struct mf_adapt_episode *ret, struct mf_error *err)
{
    size_t labels = a->head->labels;
    *ret = (struct mf_adapt_episode){NAN, NAN, NAN};
    if (a->mode == MF_ADAPT_OFF)
        return true;
    mf_adapt_activation(a->head, readout, a->u);
    if (a->mode != MF_ADAPT_SITE) {
        if (!step_alone(a, a->u, a->z, ret, err))
            return false;
    } else {
        const struct mf_adapt_norm source = mf_adapt_source(a->head), norm = norm_of(a);
        mf_adapt_logits(a->head, &source, a->u, a->z);
        ret->entropy_before = mf_adapt_entropy(a->z, labels);
        mf_adapt_logits(a->head, &norm, a->u, a->z);
        ret->entropy_after = mf_adapt_entropy(a->z, labels);
        ret->max_change = 0;
        for (size_t l = 0; l < labels; l++)
            ret->max_change = fmax(ret->max_change, fabs(a->z[l] - logits[l]));
    }
    bool used = a->mode == MF_ADAPT_EPISODIC || (a->mode == MF_ADAPT_SITE && a->state);
    for (size_t l = 0; used && l < labels; l++)
        logits[l] = (float)a->z[l];
    return true;
}

void mf_adapter_bind(const struct mf_adapter *a, struct mf_trust_case *c)
{
    bool moved = a->mode == MF_ADAPT_EPISODIC || (a->mode == MF_ADAPT_SITE && a->state);
    c->trust = moved ? a->trust : NULL;
    c->unbound = moved && !a->trust;
}

/* A number for a patient: equal strings have equal ones, others almost never. */
static uint32_t number_of(const char *patient)
{
    uint64_t h = UINT64_C(14695981039346656037);
    for (const char *s = patient; *s; s++)
        h = (h ^ (unsigned char)*s) * UINT64_C(1099511628211);
    return (uint32_t)(h ^ h >> 32);
}

static bool step(struct mf_adapter *a, struct mf_adapt_state **ret_next,
                 enum mf_adapt_decision *ret_decision, struct mf_error *err)
{
    struct mf_adapt_options options = MF_ADAPT_OPTIONS_INIT;
    options.device = a->has_device ? &a->device : NULL;
    const struct mf_adapt_yardstick yardstick = {a->cases->count, a->cases->entropy, a->cases->mean,
                                                 a->cases->deviation};
    const struct mf_adapt_batch batch = {a->pending_u, a->pending, a->pending_patient,
                                         a->pending_outlier};
    MF_AUTO(mf_adapt_state)
    struct mf_adapt_state *first =
        a->state ? NULL
                 : mf_adapt_state_new(a->head, a->site, mf_bundle_model_hash(a->bundle), err);
    if (!a->state && !first)
        return false;
    return mf_adapt_step(a->head, a->state ? a->state : first, &yardstick, &options, &batch,
                         ret_next, ret_decision, err);
}

bool mf_adapter_learn(struct mf_adapter *a, const float *readout, const char *patient, bool outlier,
                      bool *ret_stepped, enum mf_adapt_decision *ret_decision, struct mf_error *err)
{
    size_t w = a->head->width;
    *ret_stepped = false;
    if (a->mode != MF_ADAPT_SITE || !a->cases)
        return true;
    if (a->pending == PENDING) { /* the oldest has waited too long */
        a->pending--;
        memmove(a->pending_u, a->pending_u + w, a->pending * w * sizeof *a->pending_u);
        memmove(a->pending_patient, a->pending_patient + 1,
                a->pending * sizeof *a->pending_patient);
        memmove(a->pending_outlier, a->pending_outlier + 1,
                a->pending * sizeof *a->pending_outlier);
    }
    mf_adapt_activation(a->head, readout, a->pending_u + a->pending * w);
    a->pending_patient[a->pending] = number_of(patient);
    a->pending_outlier[a->pending++] = outlier;
    struct mf_adapt_state *next = NULL;
    if (!step(a, &next, ret_decision, err))
        return false;
    if (!next)
        return true;
    a->pending = 0;
    *ret_stepped = true;
    return mf_adapter_replace(a, next, err);
}
