/* adaptation.json: the calibration cases' activations and truths (adapt_cases.h, adapter.h). */
#include "engine/trust/adapt_cases.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH_BYTES = 4096 };

static const char SCHEMA[] = "medfusion.adaptation/1";

/* --- writing --- */

/* Activations as floats: half the digits, and no less than the readouts have. */
static json_t *activations_of(const struct mf_adapt_head *head, const struct mf_trust_cases *cases,
                              struct mf_error *err)
{
    MF_AUTO(mf_mem) double *u = calloc(head->width + 1, sizeof *u);
    json_t *list = json_array();
    if (!u || !list) {
        json_decref(list);
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the adaptation");
        return NULL;
    }
    for (size_t i = 0; i < cases->count; i++) {
        mf_adapt_activation(head, cases->readouts + i * cases->readout_size, u);
        for (size_t k = 0; k < head->width; k++)
            json_array_append_new(list, json_real((float)u[k]));
    }
    return list;
}

static json_t *truth_of(const struct mf_trust_cases *cases)
{
    char text[4097];
    json_t *list = json_array();
    for (size_t i = 0; i < cases->count; i++) {
        for (size_t l = 0; l < cases->label_count; l++) {
            int8_t truth = cases->truth[i * cases->label_count + l];
            text[l] = truth < 0 ? '-' : truth ? '1' : '0';
        }
        json_array_append_new(list, json_stringn(text, cases->label_count));
    }
    return list;
}

json_t *mf_adapt_cases_to_json(const struct mf_bundle *bundle, const struct mf_trust_cases *cases,
                               const uint32_t *patient, struct mf_error *err)
{
    if (!cases->readouts || cases->count > MF_ADAPT_CASES || !mf_bundle_has_weights(bundle))
        return NULL;
    MF_AUTO(mf_adapt_head) struct mf_adapt_head *head = mf_adapt_head_load(bundle, err);
    json_t *activations =
        head && head->inputs == cases->readout_size ? activations_of(head, cases, err) : NULL;
    if (!activations)
        return NULL;
    json_t *patients = json_array(), *groups = json_array();
    for (size_t i = 0; i < cases->count; i++) {
        json_array_append_new(patients, json_integer(patient[i]));
        json_array_append_new(groups, mf_json_string(cases->groups ? cases->groups[i] : NULL));
    }
    return json_pack("{s:s, s:s, s:I, s:s, s:o, s:o, s:o, s:o}", "schema", SCHEMA, "model_hash",
                     mf_bundle_model_hash(bundle), "width", (json_int_t)head->width, "strata",
                     mf_strata_name(cases->strata), "activations", activations, "truth",
                     truth_of(cases), "patients", patients, "groups", groups);
}

/* --- reading --- */

void mf_adapt_cases_free(struct mf_adapt_cases *c)
{
    if (!c)
        return;
    mf_arena_free(c->arena);
    free(c);
}

static bool read_activations(struct mf_adapt_cases *c, const json_t *list)
{
    if (!json_is_array(list) || json_array_size(list) != c->count * c->width)
        return false;
    for (size_t i = 0; i < c->count * c->width; i++) {
        const json_t *v = json_array_get(list, i);
        c->activations[i] = json_number_value(v);
        if (!json_is_number(v) || !isfinite(c->activations[i]))
            return false;
    }
    return true;
}

static bool read_case(struct mf_adapt_cases *c, const json_t *json, size_t i, struct mf_error *err)
{
    const char *truth = json_string_value(json_array_get(json_object_get(json, "truth"), i));
    const json_t *patient = json_array_get(json_object_get(json, "patients"), i),
                 *group = json_array_get(json_object_get(json, "groups"), i);
    if (!truth || strlen(truth) != c->labels || strspn(truth, "01-") != c->labels ||
        !json_is_integer(patient) || (!json_is_string(group) && !json_is_null(group)))
        return false;
    for (size_t l = 0; l < c->labels; l++)
        c->truth[i * c->labels + l] = (int8_t)(truth[l] == '-' ? -1 : truth[l] - '0');
    c->patients[i] = mf_arena_printf(c->arena, err, "%lld", (long long)json_integer_value(patient));
    c->groups[i] =
        json_is_string(group) ? mf_arena_strdup(c->arena, json_string_value(group), err) : NULL;
    return c->patients[i] && (c->groups[i] || json_is_null(group));
}

static bool make_room(struct mf_adapt_cases *c, struct mf_error *err)
{
    c->activations = mf_arena_alloc(c->arena, c->count * c->width, sizeof *c->activations, err);
    c->truth = mf_arena_alloc(c->arena, c->count * c->labels, 1, err);
    c->patients = mf_arena_alloc(c->arena, c->count, sizeof *c->patients, err);
    c->groups = mf_arena_alloc(c->arena, c->count, sizeof *c->groups, err);
    c->mean = mf_arena_alloc(c->arena, c->labels, sizeof *c->mean, err);
    c->deviation = mf_arena_alloc(c->arena, c->labels, sizeof *c->deviation, err);
    return c->activations && c->truth && c->patients && c->groups && c->mean && c->deviation;
}

/* Entropy and p of the cases under the source state. */
static bool measure(struct mf_adapt_cases *c, const struct mf_adapt_head *head,
                    struct mf_error *err)
{
    const struct mf_adapt_norm source = mf_adapt_source(head);
    double *z = mf_arena_alloc(c->arena, c->labels, sizeof *z, err);
    for (size_t i = 0; z && i < c->count; i++) {
        mf_adapt_logits(head, &source, c->activations + i * c->width, z);
        c->entropy += mf_adapt_entropy(z, c->labels) / (double)c->count;
        for (size_t l = 0; l < c->labels; l++) {
            double p = 1 / (1 + exp(-z[l]));
            c->mean[l] += p / (double)c->count;
            c->deviation[l] += p * p / (double)c->count;
        }
    }
    for (size_t l = 0; z && l < c->labels; l++)
        c->deviation[l] = sqrt(fmax(c->deviation[l] - c->mean[l] * c->mean[l], 0));
    return z != NULL;
}

static bool read_cases(struct mf_adapt_cases *c, const json_t *json, struct mf_error *err)
{
    bool ok = strcmp(mf_json_get_string(json, "schema", ""), SCHEMA) == 0 &&
              mf_json_get_int(json, "width", 0) == (json_int_t)c->width &&
              mf_strata_parse(mf_json_get_string(json, "strata", "none"), &c->strata);
    c->count = json_array_size(json_object_get(json, "truth"));
    ok = ok && c->count > 0 && c->count <= MF_ADAPT_CASES;
    if (ok && !make_room(c, err))
        return false;
    ok = ok && read_activations(c, json_object_get(json, "activations"));
    for (size_t i = 0; ok && i < c->count; i++)
        ok = read_case(c, json, i, err);
    if (!ok)
        mf_error_set(err, MF_ERR_MODEL, "adaptation.json: not a valid %s of this model", SCHEMA);
    return ok;
}

struct mf_adapt_cases *mf_adapt_cases_load(const struct mf_bundle *bundle,
                                           const struct mf_adapt_head *head, struct mf_error *err)
{
    static const struct mf_json_limits LIMITS = {(size_t)256 << 20, 8};
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/adaptation.json", mf_bundle_directory(bundle));
    if (access(path, F_OK) != 0)
        return NULL;
    MF_AUTO(mf_json) json_t *json = mf_json_read_file(path, &LIMITS, err);
    if (!json ||
        strcmp(mf_json_get_string(json, "model_hash", ""), mf_bundle_model_hash(bundle)) != 0)
        return NULL;
    struct mf_adapt_cases *c = calloc(1, sizeof *c);
    if (c)
        *c = (struct mf_adapt_cases){
            .arena = mf_arena_new((size_t)1 << 30), .width = head->width, .labels = head->labels};
    if (!c || !c->arena)
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the adaptation");
    else if (read_cases(c, json, err) && measure(c, head, err))
        return c;
    mf_adapt_cases_free(c);
    return NULL;
}
