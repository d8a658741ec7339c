/* States of a site's adaptation: making, reading and writing them (adapt_site.h). */
#include "engine/trust/adapt_private.h"

#include "engine/trust/seal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const DECISIONS[] = {
    "fresh",        "stepped",          "too_few_studies", "too_few_patients",
    "reset_finite", "reset_prevalence", "reset_entropy",   "rolled_back"};
enum { DECISION_COUNT = sizeof DECISIONS / sizeof *DECISIONS };

const char *mf_adapt_decision_name(enum mf_adapt_decision decision)
{
    return DECISIONS[(size_t)decision < DECISION_COUNT ? decision : MF_ADAPT_FRESH];
}

void mf_adapt_state_free(struct mf_adapt_state *s)
{
    if (!s)
        return;
    free(s->gamma); /* all four */
    mf_arena_free(s->arena);
    free(s);
}

struct mf_adapt_state *mf_adapt_state_make(size_t width, const char *site, const char *model_hash,
                                           struct mf_error *err)
{
    MF_AUTO(mf_adapt_state) struct mf_adapt_state *s = calloc(1, sizeof *s);
    if (!s || !(s->arena = mf_arena_new(65536)) ||
        !(s->gamma = calloc(4 * width + 1, sizeof *s->gamma))) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the adaptation");
        return NULL;
    }
    s->width = width;
    s->beta = s->gamma + width;
    s->mean = s->beta + width;
    s->variance = s->mean + width;
    s->entropy_average = s->audit.entropy_before = s->audit.entropy_after = NAN;
    s->site = mf_arena_strdup(s->arena, site, err);
    s->model_hash = mf_arena_strdup(s->arena, model_hash, err);
    return s->site && s->model_hash ? MF_STEAL(s) : NULL;
}

void mf_adapt_state_copy(struct mf_adapt_state *s, const struct mf_adapt_norm *norm)
{
    memcpy(s->gamma, norm->gamma, s->width * sizeof *s->gamma);
    memcpy(s->beta, norm->beta, s->width * sizeof *s->beta);
    memcpy(s->mean, norm->mean, s->width * sizeof *s->mean);
    memcpy(s->variance, norm->variance, s->width * sizeof *s->variance);
}

static json_t *reals(const double *values, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, json_real(values[i]));
    return list;
}

/* Everything but the id. */
static json_t *content(const struct mf_adapt_state *s)
{
    return json_pack(
        "{s:s, s:o, s:I, s:s, s:s, s:s, s:I, s:o, s:o, s:o, s:o, s:o, s:f, s:o, s:o, "
        "s:f}",
        "schema", "medfusion.adaptation_state/1", "parent", mf_json_string(s->parent), "version",
        (json_int_t)s->version, "model_hash", s->model_hash, "site", s->site, "decision",
        mf_adapt_decision_name(s->decision), "studies", (json_int_t)s->audit.studies,
        "entropy_average", mf_json_real(s->entropy_average), "gamma", reals(s->gamma, s->width),
        "beta", reals(s->beta, s->width), "mean", reals(s->mean, s->width), "variance",
        reals(s->variance, s->width), "rate", s->audit.rate, "entropy_before",
        mf_json_real(s->audit.entropy_before), "entropy_after",
        mf_json_real(s->audit.entropy_after), "largest_change", s->audit.largest_change);
}

bool mf_adapt_state_seal(struct mf_adapt_state *s, struct mf_error *err)
{
    return mf_seal_id(content(s), s->id, err);
}

struct mf_adapt_state *mf_adapt_state_new(const struct mf_adapt_head *head, const char *site,
                                          const char *model_hash, struct mf_error *err)
{
    MF_AUTO(mf_adapt_state)
    struct mf_adapt_state *s = mf_adapt_state_make(head->width, site, model_hash, err);
    const struct mf_adapt_norm source = mf_adapt_source(head);
    if (!s)
        return NULL;
    mf_adapt_state_copy(s, &source);
    return mf_adapt_state_seal(s, err) ? MF_STEAL(s) : NULL;
}

struct mf_adapt_state *mf_adapt_state_after(const struct mf_adapt_state *old,
                                            enum mf_adapt_decision decision, struct mf_error *err)
{
    MF_AUTO(mf_adapt_state)
    struct mf_adapt_state *s = mf_adapt_state_make(old->width, old->site, old->model_hash, err);
    if (!s || !(s->parent = mf_arena_strdup(s->arena, old->id, err)))
        return NULL;
    s->version = old->version + 1;
    s->decision = decision;
    return MF_STEAL(s);
}

struct mf_adapt_state *mf_adapt_rollback(const struct mf_adapt_state *now,
                                         const struct mf_adapt_state *to, struct mf_error *err)
{
    if (now->width != to->width || strcmp(now->site, to->site) != 0 ||
        strcmp(now->model_hash, to->model_hash) != 0) {
        mf_error_set(err, MF_ERR_CONFLICT, "the state is one of another site or model");
        return NULL;
    }
    MF_AUTO(mf_adapt_state)
    struct mf_adapt_state *s = mf_adapt_state_after(now, MF_ADAPT_ROLLED_BACK, err);
    const struct mf_adapt_norm norm = mf_adapt_state_norm(to);
    if (!s)
        return NULL;
    mf_adapt_state_copy(s, &norm);
    s->entropy_average = to->entropy_average;
    return mf_adapt_state_seal(s, err) ? MF_STEAL(s) : NULL;
}

struct mf_adapt_norm mf_adapt_state_norm(const struct mf_adapt_state *s)
{
    return (struct mf_adapt_norm){s->gamma, s->beta, s->mean, s->variance};
}

const char *mf_adapt_state_id(const struct mf_adapt_state *s)
{
    return s->id;
}

const char *mf_adapt_state_site(const struct mf_adapt_state *s)
{
    return s->site;
}

const char *mf_adapt_state_model_hash(const struct mf_adapt_state *s)
{
    return s->model_hash;
}

uint64_t mf_adapt_state_version(const struct mf_adapt_state *s)
{
    return s->version;
}

enum mf_adapt_decision mf_adapt_state_decision(const struct mf_adapt_state *s)
{
    return s->decision;
}

json_t *mf_adapt_state_to_json(const struct mf_adapt_state *s)
{
    return mf_seal_with_id(content(s), s->id);
}

static bool read_reals(const json_t *json, const char *key, size_t n, bool positive, double *out)
{
    bool ok = mf_json_numbers(json_object_get(json, key), n, out);
    for (size_t i = 0; positive && ok && i < n; i++)
        ok = out[i] >= 0;
    return ok;
}

static bool read_content(struct mf_adapt_state *s, const json_t *json)
{
    const char *decision = mf_json_get_string(json, "decision", "");
    json_int_t version = mf_json_get_int(json, "version", -1),
               studies = mf_json_get_int(json, "studies", -1);
    int d = 0;
    while (d < DECISION_COUNT && strcmp(decision, DECISIONS[d]) != 0)
        d++;
    s->version = (uint64_t)version;
    s->decision = (enum mf_adapt_decision)d;
    s->entropy_average = mf_json_get_number(json, "entropy_average", NAN);
    s->audit = (struct mf_adapt_audit){(size_t)studies, mf_json_get_number(json, "rate", 0),
                                       mf_json_get_number(json, "entropy_before", NAN),
                                       mf_json_get_number(json, "entropy_after", NAN),
                                       mf_json_get_number(json, "largest_change", 0)};
    return version >= 0 && studies >= 0 && d < DECISION_COUNT &&
           read_reals(json, "gamma", s->width, false, s->gamma) &&
           read_reals(json, "beta", s->width, false, s->beta) &&
           read_reals(json, "mean", s->width, false, s->mean) &&
           read_reals(json, "variance", s->width, true, s->variance);
}

struct mf_adapt_state *mf_adapt_state_from_json(const struct mf_adapt_head *head,
                                                const json_t *json, struct mf_error *err)
{
    const char *site = json_string_value(json_object_get(json, "site"));
    const char *hash = json_string_value(json_object_get(json, "model_hash"));
    const char *parent = json_string_value(json_object_get(json, "parent"));
    bool ok = site && hash &&
              strcmp(mf_json_get_string(json, "schema", ""), "medfusion.adaptation_state/1") == 0;
    MF_AUTO(mf_adapt_state)
    struct mf_adapt_state *s = ok ? mf_adapt_state_make(head->width, site, hash, err) : NULL;
    if (ok && (!s || (parent && !(s->parent = mf_arena_strdup(s->arena, parent, err)))))
        return NULL;
    ok = ok && read_content(s, json);
    if (ok && !mf_adapt_state_seal(s, err))
        return NULL;
    if (ok && strcmp(s->id, mf_json_get_string(json, "id", "")) == 0)
        return MF_STEAL(s);
    mf_error_set(err, MF_ERR_MALFORMED, "not a valid medfusion.adaptation_state/1 of this model");
    return NULL;
}
