/* Writing calibration.json, conformal.json and ood.json (trust.h has the formats). */
#include "engine/trust/trust_private.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_BYTES = 1024 };

static json_t *origin_of(const struct mf_trust *t, const char *schema)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:I, s:s}", "schema", schema, "id", t->id, "created",
                     t->created, "source", t->source, "patients", (json_int_t)t->patients,
                     "model_hash", t->model_hash);
}

static json_t *parameters_of(const struct mf_calibration *c)
{
    const double values[] = {c->a, c->b, c->c};
    const size_t most = sizeof values / sizeof *values, used = mf_calibration_parameters(c->method);
    json_t *list = json_array();
    for (size_t i = 0; i < used && i < most; i++)
        json_array_append_new(list, json_real(values[i]));
    for (size_t i = 0; i < c->knots; i++) {
        json_array_append_new(list, json_real(c->x[i]));
        json_array_append_new(list, json_real(c->y[i]));
    }
    return list;
}

static json_t *map_to_json(const struct mf_calibration *c)
{
    json_t *nll = json_object();
    for (int m = 0; m < MF_CALIBRATION_METHODS; m++)
        json_object_set_new(nll, mf_calibration_method_name((enum mf_calibration_method)m),
                            mf_json_real(c->nll[m]));
    return json_pack("{s:I, s:I, s:s, s:o, s:o}", "n_pos", (json_int_t)c->n_pos, "n_neg",
                     (json_int_t)c->n_neg, "method", mf_calibration_method_name(c->method),
                     "parameters", parameters_of(c), "cross_validated_nll", nll);
}

static json_t *calibration_label_to_json(const struct mf_trust *t, size_t i)
{
    json_t *entry = map_to_json(&t->calibrations[i]), *groups = json_object();
    json_object_set_new(entry, "id", json_string(t->label_ids[i]));
    for (size_t g = 0; g < t->group_count; g++)
        if (t->groups[g].own[i])
            json_object_set_new(groups, t->groups[g].name,
                                map_to_json(&t->groups[g].calibrations[i]));
    if (json_object_size(groups))
        json_object_set(entry, "groups", groups);
    json_decref(groups);
    if (t->prevalence && !isnan(t->prevalence[i]))
        json_object_set_new(entry, "prevalence", json_real(t->prevalence[i]));
    return entry;
}

static json_t *calibration_to_json(const struct mf_trust *t)
{
    json_t *labels = json_array(), *json = origin_of(t, "medfusion.calibration/1");
    for (size_t i = 0; i < t->label_count; i++)
        json_array_append_new(labels, calibration_label_to_json(t, i));
    json_object_set_new(json, "labels", labels);
    if (t->exclusive.scores)
        json_object_set_new(json, "softmax", mf_exclusive_softmax_to_json(&t->exclusive));
    return json;
}

static json_t *floats(const float *values, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, json_real(values[i]));
    return list;
}

static json_t *reals(const double *values, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, json_real(values[i]));
    return list;
}

static json_t *classes_to_json(const struct mf_class_logits *c)
{
    json_t *json = json_pack("{s:o, s:o}", "positive", floats(c->positive, c->n_pos), "negative",
                             floats(c->negative, c->n_neg));
    if (c->positive_weights) {
        json_object_set_new(json, "positive_weights", floats(c->positive_weights, c->n_pos));
        json_object_set_new(json, "negative_weights", floats(c->negative_weights, c->n_neg));
    }
    return json;
}

static json_t *conformal_label_to_json(const struct mf_trust *t, size_t i)
{
    json_t *entry = classes_to_json(&t->classes[i]);
    json_object_set_new(entry, "id", json_string(t->label_ids[i]));
    if (t->group_count) {
        json_t *groups = json_object();
        for (size_t g = 0; g < t->group_count; g++)
            json_object_set_new(groups, t->groups[g].name,
                                classes_to_json(&t->groups[g].classes[i]));
        json_object_set_new(entry, "groups", groups);
    }
    return entry;
}

static json_t *risk_to_json(const struct mf_trust *t)
{
    json_t *weights = json_array();
    if (!t->has_risk) {
        json_decref(weights);
        return json_null();
    }
    for (size_t i = 0; i < t->risk_count; i++)
        json_array_append_new(weights, json_integer(t->risk_weights[i]));
    return json_pack("{s:s, s:I, s:o, s:o}", "risk", "fnr", "cases", (json_int_t)t->risk_cases,
                     "logits", floats(t->risk_logits, t->risk_count), "positives_in_case", weights);
}

static json_t *conformal_to_json(const struct mf_trust *t)
{
    json_t *labels = json_array(), *json = origin_of(t, "medfusion.conformal/1");
    for (size_t i = 0; i < t->label_count; i++)
        json_array_append_new(labels, conformal_label_to_json(t, i));
    json_object_set_new(json, "method", json_string("split_conformal"));
    json_object_set_new(json, "taxonomy", json_string(mf_strata_taxonomy(t->strata)));
    json_object_set_new(json, "score", json_string(t->exclusive.scores ? "log_odds" : "logit"));
    json_object_set_new(json, "labels", labels);
    if (t->has_ratio)
        json_object_set_new(json, "density_ratio",
                            json_pack("{s:f, s:o, s:o, s:o}", "intercept", t->ratio.intercept,
                                      "coefficients", reals(t->ratio.coefficients, t->ratio.size),
                                      "mean", reals(t->ratio.mean, t->ratio.size), "scale",
                                      reals(t->ratio.scale, t->ratio.size)));
    json_object_set_new(json, "risk_control", risk_to_json(t));
    if (t->exclusive.scores)
        json_object_set_new(json, "raps", mf_exclusive_raps_to_json(&t->exclusive));
    return json;
}

static json_t *ood_to_json(const struct mf_trust *t)
{
    json_t *json = mf_ood_to_json(t->ood, t->model_hash);
    if (json && t->ood_of_regions)
        json_object_set_new(json, "of", json_string("regions"));
    if (json && t->sharpness_count)
        json_object_set_new(json, "sharpness", reals(t->sharpness, t->sharpness_count));
    return json;
}

/* Takes the reference. What is read back is what was fitted: doubles need 17 digits, floats 9. */
static bool write_file(const char *dir, const char *name, json_t *value, int digits,
                       struct mf_error *err)
{
    MF_AUTO(mf_json) json_t *json = value;
    MF_AUTO(mf_mem)
    char *text = json ? json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(digits)) : NULL;
    char path[PATH_BYTES];
    if (!text)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    if (strlen(text) > MF_TRUST_FILE_BYTES)
        return mf_error_set(err, MF_ERR_UNUSABLE,
                            "%s would be larger than %d MiB: calibrate on fewer cases", name,
                            MF_TRUST_FILE_BYTES >> 20);
    snprintf(path, sizeof path, "%s/%s", dir, name);
    MF_AUTO(mf_file) FILE *f = fopen(path, "we");
    if (!f || fprintf(f, "%s\n", text) < 0 || fflush(f) != 0)
        return mf_error_set(err, MF_ERR_IO, "%s: cannot be written", path);
    return true;
}

bool mf_trust_write(const struct mf_trust *t, const char *dir, struct mf_error *err)
{
    if (!t->id || !t->calibrations || !t->classes)
        return mf_error_set(err, MF_ERR_CONFLICT, "there is no calibration to write");
    return write_file(dir, "calibration.json", calibration_to_json(t), 17, err) &&
           write_file(dir, "conformal.json", conformal_to_json(t), 9, err) &&
           (!t->ood || write_file(dir, "ood.json", ood_to_json(t), 17, err)) &&
           (!t->adaptation ||
            write_file(dir, "adaptation.json", json_incref(t->adaptation), 9, err)) &&
           (!t->reference || write_file(dir, "reference.json", json_incref(t->reference), 9, err));
}
