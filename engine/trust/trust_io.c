/* calibration.json, conformal.json and ood.json: reading with every value checked, and writing
 * (trust.h has the formats). */
#include "engine/trust/trust_private.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH_BYTES = 1024, MAX_CASES = 10000000 };

static const struct mf_json_limits LIMITS = {(size_t)256 << 20, 8};

static bool bad(struct mf_error *err, const char *what)
{
    return mf_error_set(err, MF_ERR_MODEL, "%s", what);
}

/* A file of the bundle, or json null when there is none; NULL after an error. */
static json_t *read_file(const char *dir, const char *name, struct mf_error *err)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return access(path, F_OK) == 0 ? mf_json_read_file(path, &LIMITS, err) : json_null();
}

/* id, created, source, patients, model_hash: taken from the first file, the same in the second. */
static bool read_origin(struct mf_trust *t, const json_t *json, const char *schema,
                        struct mf_error *err)
{
    const char *id = json_string_value(json_object_get(json, "id"));
    const char *hash = json_string_value(json_object_get(json, "model_hash"));
    json_int_t patients = mf_json_get_int(json, "patients", -1);
    if (strcmp(mf_json_get_string(json, "schema", ""), schema) != 0)
        return mf_error_set(err, MF_ERR_MODEL, "not a %s", schema);
    if (!id || !hash || strlen(hash) != 64 || patients < 0 || patients > MAX_CASES)
        return bad(err, "\"id\", \"model_hash\" or \"patients\" is missing or wrong");
    if (t->id)
        return (strcmp(t->id, id) == 0 && strcmp(t->model_hash, hash) == 0) ||
               bad(err, "its id or model_hash is not that of calibration.json");
    t->id = mf_arena_strdup(t->arena, id, err);
    t->model_hash = mf_arena_strdup(t->arena, hash, err);
    t->created = mf_arena_strdup(t->arena, mf_json_get_string(json, "created", ""), err);
    t->source = mf_arena_strdup(t->arena, mf_json_get_string(json, "source", ""), err);
    t->patients = (uint32_t)patients;
    return t->id && t->model_hash && t->created && t->source;
}

/* The entry of label i, which must have its id. */
static const json_t *label_entry(const struct mf_trust *t, const json_t *json, size_t i,
                                 struct mf_error *err)
{
    const json_t *labels = json_object_get(json, "labels"), *entry = json_array_get(labels, i);
    const char *id = json_string_value(json_object_get(entry, "id"));
    if (json_array_size(labels) == t->label_count && id && strcmp(id, t->label_ids[i]) == 0)
        return entry;
    bad(err, "its labels are not those of bundle.json, in order");
    return NULL;
}

static bool read_isotonic(const json_t *parameters, struct mf_calibration *c, struct mf_error *err)
{
    c->knots = json_array_size(parameters) / 2;
    c->x = malloc((c->knots + 1) * sizeof *c->x);
    c->y = malloc((c->knots + 1) * sizeof *c->y);
    if (!c->x || !c->y)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    for (size_t i = 0; i < c->knots; i++) {
        c->x[i] = json_number_value(json_array_get(parameters, 2 * i));
        c->y[i] = json_number_value(json_array_get(parameters, 2 * i + 1));
        bool ok = c->y[i] > 0 && c->y[i] < 1 &&
                  (i == 0 || (c->x[i] > c->x[i - 1] && c->y[i] >= c->y[i - 1]));
        if (!ok)
            return bad(err, "isotonic knots must rise");
    }
    return c->knots > 0 || bad(err, "isotonic knots are missing");
}

static bool read_calibration_label(const json_t *entry, struct mf_calibration *c,
                                   struct mf_error *err)
{
    const char *method = mf_json_get_string(entry, "method", "");
    const json_t *p = json_object_get(entry, "parameters"),
                 *nll = json_object_get(entry, "cross_validated_nll");
    int m = 0;
    while (m < MF_CALIBRATION_METHODS &&
           strcmp(method, mf_calibration_method_name((enum mf_calibration_method)m)) != 0)
        m++;
    if (m == MF_CALIBRATION_METHODS || !json_is_array(p) ||
        (m != MF_CALIBRATION_ISOTONIC &&
         json_array_size(p) != mf_calibration_parameters((enum mf_calibration_method)m)))
        return bad(err, "\"method\" or \"parameters\" is wrong");
    for (size_t i = 0; i < json_array_size(p); i++)
        if (!json_is_number(json_array_get(p, i)))
            return bad(err, "\"parameters\" must be numbers");
    c->method = (enum mf_calibration_method)m;
    c->n_pos = (uint32_t)mf_json_get_int(entry, "n_pos", 0);
    c->n_neg = (uint32_t)mf_json_get_int(entry, "n_neg", 0);
    for (int i = 0; i < MF_CALIBRATION_METHODS; i++)
        c->nll[i] =
            mf_json_get_number(nll, mf_calibration_method_name((enum mf_calibration_method)i), NAN);
    if (c->method == MF_CALIBRATION_ISOTONIC)
        return read_isotonic(p, c, err);
    c->a = json_number_value(json_array_get(p, 0));
    c->b = json_number_value(json_array_get(p, 1));
    c->c = json_number_value(json_array_get(p, 2));
    bool sloped = c->method == MF_CALIBRATION_TEMPERATURE || c->method == MF_CALIBRATION_PLATT;
    return !sloped || c->a > 0 || bad(err, "the slope must be positive");
}

static bool read_calibration(struct mf_trust *t, const json_t *json, struct mf_error *err)
{
    if (!read_origin(t, json, "medfusion.calibration/1", err))
        return false;
    t->calibrations = mf_arena_alloc(t->arena, t->label_count, sizeof *t->calibrations, err);
    for (size_t i = 0; t->calibrations && i < t->label_count; i++) {
        const json_t *entry = label_entry(t, json, i, err);
        if (!entry || !read_calibration_label(entry, &t->calibrations[i], err))
            return mf_error_prefix(err, "label %s", t->label_ids[i]);
    }
    return t->calibrations != NULL;
}

/* An ascending list of finite numbers. */
static bool read_logits(struct mf_trust *t, const json_t *list, float **ret, size_t *ret_count,
                        struct mf_error *err)
{
    size_t n = json_array_size(list);
    if (!json_is_array(list) || n > MAX_CASES)
        return bad(err, "logits must be an array");
    float *out = mf_arena_alloc(t->arena, n, sizeof *out, err);
    for (size_t i = 0; out && i < n; i++) {
        const json_t *v = json_array_get(list, i);
        out[i] = (float)json_number_value(v);
        if (!json_is_number(v) || !isfinite(out[i]) || (i && out[i] < out[i - 1]))
            return bad(err, "logits must be numbers in ascending order");
    }
    *ret = out;
    *ret_count = n;
    return out != NULL;
}

static bool read_risk(struct mf_trust *t, const json_t *risk, struct mf_error *err)
{
    const json_t *weights = json_object_get(risk, "positives_in_case");
    json_int_t cases = mf_json_get_int(risk, "cases", -1);
    if (!risk || json_is_null(risk))
        return true;
    if (!read_logits(t, json_object_get(risk, "logits"), &t->risk_logits, &t->risk_count, err))
        return false;
    t->risk_weights = mf_arena_alloc(t->arena, t->risk_count, sizeof *t->risk_weights, err);
    if (json_array_size(weights) != t->risk_count || cases < 0 || (size_t)cases > t->risk_count ||
        strcmp(mf_json_get_string(risk, "risk", ""), "fnr") != 0)
        return bad(err, "risk_control is wrong");
    for (size_t i = 0; t->risk_weights && i < t->risk_count; i++) {
        json_int_t w = json_integer_value(json_array_get(weights, i));
        if (w < 1 || (size_t)w > t->label_count)
            return bad(err, "risk_control.positives_in_case is wrong");
        t->risk_weights[i] = (uint32_t)w;
    }
    t->risk_cases = (size_t)cases;
    t->has_risk = t->risk_weights != NULL;
    return t->has_risk;
}

static bool read_conformal(struct mf_trust *t, const json_t *json, struct mf_error *err)
{
    if (!read_origin(t, json, "medfusion.conformal/1", err))
        return false;
    t->classes = mf_arena_alloc(t->arena, t->label_count, sizeof *t->classes, err);
    for (size_t i = 0; t->classes && i < t->label_count; i++) {
        struct mf_class_logits *c = &t->classes[i];
        const json_t *entry = label_entry(t, json, i, err);
        if (!entry ||
            !read_logits(t, json_object_get(entry, "positive"), &c->positive, &c->n_pos, err) ||
            !read_logits(t, json_object_get(entry, "negative"), &c->negative, &c->n_neg, err))
            return mf_error_prefix(err, "label %s", t->label_ids[i]);
    }
    return t->classes && read_risk(t, json_object_get(json, "risk_control"), err);
}

/* ood.json counts only for the model it was made with. */
static bool read_ood(struct mf_trust *t, const json_t *json, struct mf_error *err)
{
    const char *hash = mf_json_get_string(json, "model_hash", "");
    if (!t->model_hash || strcmp(hash, t->model_hash) != 0)
        return bad(err, "its model_hash is not that of calibration.json");
    t->ood = mf_ood_from_json(json, err);
    return t->ood != NULL;
}

static const struct {
    const char *name;
    bool (*read)(struct mf_trust *t, const json_t *json, struct mf_error *err);
} FILES[MF_TRUST_FILES] = {{"calibration.json", read_calibration},
                           {"conformal.json", read_conformal},
                           {"ood.json", read_ood}};

struct mf_trust *mf_trust_from_json(json_t *const files[MF_TRUST_FILES],
                                    const struct mf_label *labels, size_t label_count,
                                    struct mf_error *err)
{
    MF_AUTO(mf_trust) struct mf_trust *t = mf_trust_new(labels, label_count, err);
    for (size_t i = 0; t && i < MF_TRUST_FILES; i++)
        if (!json_is_null(files[i]) && !FILES[i].read(t, files[i], err)) {
            mf_error_prefix(err, "%s", FILES[i].name);
            return NULL;
        }
    return t ? MF_STEAL(t) : NULL;
}

struct mf_trust *mf_trust_load(const char *dir, const struct mf_label *labels, size_t label_count,
                               struct mf_error *err)
{
    json_t *files[MF_TRUST_FILES] = {NULL};
    bool ok = true;
    for (size_t i = 0; ok && i < MF_TRUST_FILES; i++)
        ok = (files[i] = read_file(dir, FILES[i].name, err)) != NULL;
    struct mf_trust *t = ok ? mf_trust_from_json(files, labels, label_count, err) : NULL;
    for (size_t i = 0; i < MF_TRUST_FILES; i++)
        json_decref(files[i]);
    return t;
}

static json_t *origin_of(const struct mf_trust *t, const char *schema)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:I, s:s}", "schema", schema, "id", t->id, "created",
                     t->created, "source", t->source, "patients", (json_int_t)t->patients,
                     "model_hash", t->model_hash);
}

static json_t *parameters_of(const struct mf_calibration *c)
{
    const double values[] = {c->a, c->b, c->c};
    json_t *list = json_array();
    for (size_t i = 0; i < mf_calibration_parameters(c->method); i++)
        json_array_append_new(list, json_real(values[i]));
    for (size_t i = 0; i < c->knots; i++) {
        json_array_append_new(list, json_real(c->x[i]));
        json_array_append_new(list, json_real(c->y[i]));
    }
    return list;
}

static json_t *calibration_to_json(const struct mf_trust *t)
{
    json_t *labels = json_array();
    for (size_t i = 0; i < t->label_count; i++) {
        const struct mf_calibration *c = &t->calibrations[i];
        json_t *nll = json_object();
        for (int m = 0; m < MF_CALIBRATION_METHODS; m++)
            json_object_set_new(nll, mf_calibration_method_name((enum mf_calibration_method)m),
                                mf_json_real(c->nll[m]));
        json_array_append_new(labels, json_pack("{s:s, s:I, s:I, s:s, s:o, s:o}", "id",
                                                t->label_ids[i], "n_pos", (json_int_t)c->n_pos,
                                                "n_neg", (json_int_t)c->n_neg, "method",
                                                mf_calibration_method_name(c->method), "parameters",
                                                parameters_of(c), "cross_validated_nll", nll));
    }
    json_t *json = origin_of(t, "medfusion.calibration/1");
    json_object_set_new(json, "labels", labels);
    return json;
}

static json_t *floats(const float *values, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, json_real(values[i]));
    return list;
}

static json_t *conformal_to_json(const struct mf_trust *t)
{
    json_t *labels = json_array(), *risk = json_null(),
           *json = origin_of(t, "medfusion.conformal/1");
    for (size_t i = 0; i < t->label_count; i++) {
        const struct mf_class_logits *c = &t->classes[i];
        json_array_append_new(labels, json_pack("{s:s, s:o, s:o}", "id", t->label_ids[i],
                                                "positive", floats(c->positive, c->n_pos),
                                                "negative", floats(c->negative, c->n_neg)));
    }
    if (t->has_risk) {
        json_t *weights = json_array();
        for (size_t i = 0; i < t->risk_count; i++)
            json_array_append_new(weights, json_integer(t->risk_weights[i]));
        risk = json_pack("{s:s, s:I, s:o, s:o}", "risk", "fnr", "cases", (json_int_t)t->risk_cases,
                         "logits", floats(t->risk_logits, t->risk_count), "positives_in_case",
                         weights);
    }
    json_object_set_new(json, "method", json_string("split_conformal"));
    json_object_set_new(json, "taxonomy", json_string("label_class"));
    json_object_set_new(json, "score", json_string("logit"));
    json_object_set_new(json, "labels", labels);
    json_object_set_new(json, "risk_control", risk);
    return json;
}

/* Takes the reference. Full precision: what is read back is what was fitted. */
static bool write_file(const char *dir, const char *name, json_t *value, struct mf_error *err)
{
    MF_AUTO(mf_json) json_t *json = value;
    MF_AUTO(mf_mem)
    char *text = json ? json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(17)) : NULL;
    char path[PATH_BYTES];
    if (!text)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
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
    return write_file(dir, "calibration.json", calibration_to_json(t), err) &&
           write_file(dir, "conformal.json", conformal_to_json(t), err) &&
           (!t->ood || write_file(dir, "ood.json", mf_ood_to_json(t->ood, t->model_hash), err));
}
