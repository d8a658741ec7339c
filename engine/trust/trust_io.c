/* Reading calibration.json, conformal.json and ood.json, with every value checked (trust.h has the
 * formats). */
#include "engine/trust/trust_private.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH_BYTES = 1024, MAX_CASES = 10000000 };

static const struct mf_json_limits LIMITS = {MF_TRUST_FILE_BYTES, 8};

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

/* The group of that name, made when it is new (calibration.json names some, conformal.json all). */
static struct mf_trust_group *need_group(struct mf_trust *t, const char *name, struct mf_error *err)
{
    for (size_t g = 0; g < t->group_count; g++)
        if (strcmp(t->groups[g].name, name) == 0)
            return &t->groups[g];
    if (!t->groups)
        t->groups = mf_arena_alloc(t->arena, MF_TRUST_GROUPS, sizeof *t->groups, err);
    if (!t->groups)
        return NULL;
    if (t->group_count == MF_TRUST_GROUPS || !*name || strlen(name) >= MF_STRATA_KEY) {
        bad(err, "there are too many groups, or one has no proper name");
        return NULL;
    }
    return mf_trust_add_group(t, name, err) ? &t->groups[t->group_count - 1] : NULL;
}

/* What a label's calibration says besides its map: maps of strata, and the prevalence. */
static bool read_calibration_extras(struct mf_trust *t, const json_t *entry, size_t i,
                                    struct mf_error *err)
{
    const json_t *groups = json_object_get(entry, "groups"),
                 *prevalence = json_object_get(entry, "prevalence");
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)groups, name, value)
    {
        struct mf_trust_group *g = need_group(t, name, err);
        if (!g || !read_calibration_label(value, &g->calibrations[i], err))
            return mf_error_prefix(err, "group %.64s", name);
        g->own[i] = true;
    }
    if (!prevalence)
        return true;
    if (!t->prevalence) {
        t->prevalence = mf_arena_alloc(t->arena, t->label_count, sizeof *t->prevalence, err);
        for (size_t k = 0; t->prevalence && k < t->label_count; k++)
            t->prevalence[k] = NAN;
    }
    double p = json_number_value(prevalence); /* 0 for anything but a number */
    if (!(p > 0 && p < 1))
        return bad(err, "\"prevalence\" must lie between 0 and 1");
    if (t->prevalence)
        t->prevalence[i] = p;
    return t->prevalence != NULL;
}

static bool read_calibration(struct mf_trust *t, const json_t *json, struct mf_error *err)
{
    if (!read_origin(t, json, "medfusion.calibration/1", err))
        return false;
    t->calibrations = mf_arena_alloc(t->arena, t->label_count, sizeof *t->calibrations, err);
    for (size_t i = 0; t->calibrations && i < t->label_count; i++) {
        const json_t *entry = label_entry(t, json, i, err);
        if (!entry || !read_calibration_label(entry, &t->calibrations[i], err) ||
            !read_calibration_extras(t, entry, i, err))
            return mf_error_prefix(err, "label %s", t->label_ids[i]);
    }
    const json_t *softmax = json_object_get(json, "softmax");
    return t->calibrations && (!softmax || mf_exclusive_read_softmax(softmax, &t->exclusive, err));
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

/* Weights of n cases, each finite and not negative; *ret stays NULL where there are none. */
static bool read_weights(struct mf_trust *t, const json_t *list, size_t n, float **ret,
                         struct mf_error *err)
{
    if (!list)
        return true;
    if (json_array_size(list) != n)
        return bad(err, "there must be one weight a logit");
    float *out = mf_arena_alloc(t->arena, n, sizeof *out, err);
    for (size_t i = 0; out && i < n; i++) {
        const json_t *v = json_array_get(list, i);
        out[i] = (float)json_number_value(v);
        if (!json_is_number(v) || !isfinite(out[i]) || out[i] < 0)
            return bad(err, "weights must be numbers, not negative");
    }
    *ret = out;
    return out != NULL;
}

static bool read_classes(struct mf_trust *t, const json_t *entry, struct mf_class_logits *c,
                         struct mf_error *err)
{
    const json_t *positive = json_object_get(entry, "positive_weights"),
                 *negative = json_object_get(entry, "negative_weights");
    if (!read_logits(t, json_object_get(entry, "positive"), &c->positive, &c->n_pos, err) ||
        !read_logits(t, json_object_get(entry, "negative"), &c->negative, &c->n_neg, err))
        return false;
    if (!positive != !negative || (positive && !t->has_ratio))
        return bad(err, "weights need both classes and a density_ratio");
    return read_weights(t, positive, c->n_pos, &c->positive_weights, err) &&
           read_weights(t, negative, c->n_neg, &c->negative_weights, err);
}

static bool read_ratio(struct mf_trust *t, const json_t *json, struct mf_error *err)
{
    struct mf_density_ratio *r = &t->ratio;
    size_t n = t->label_count;
    if (!json)
        return true;
    *r = (struct mf_density_ratio){n, mf_json_get_number(json, "intercept", NAN),
                                   calloc(n, sizeof(double)), calloc(n, sizeof(double)),
                                   calloc(n, sizeof(double))};
    if (!r->coefficients || !r->mean || !r->scale)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    bool ok = isfinite(r->intercept) &&
              mf_json_numbers(json_object_get(json, "coefficients"), n, r->coefficients) &&
              mf_json_numbers(json_object_get(json, "mean"), n, r->mean) &&
              mf_json_numbers(json_object_get(json, "scale"), n, r->scale);
    for (size_t i = 0; ok && i < n; i++)
        ok = r->scale[i] > 0;
    t->has_ratio = ok;
    return ok || bad(err, "density_ratio is wrong");
}

/* "label_class" or, with strata, what mf_strata_taxonomy() makes of their kind. */
static bool read_taxonomy(struct mf_trust *t, const json_t *json, struct mf_error *err)
{
    const char *taxonomy = mf_json_get_string(json, "taxonomy", "label_class");
    for (int k = 0; k < MF_STRATA_KINDS; k++)
        if (strcmp(taxonomy, mf_strata_taxonomy((enum mf_strata_kind)k)) == 0) {
            t->strata = (enum mf_strata_kind)k;
            return true;
        }
    return bad(err, "\"taxonomy\" is unknown");
}

static bool read_conformal_groups(struct mf_trust *t, const json_t *groups, size_t i,
                                  struct mf_error *err)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)groups, name, value)
    {
        struct mf_trust_group *g = need_group(t, name, err);
        if (!g || !read_classes(t, value, &g->classes[i], err))
            return mf_error_prefix(err, "group %.64s", name);
    }
    return true;
}

static bool read_conformal(struct mf_trust *t, const json_t *json, struct mf_error *err)
{
    if (!read_origin(t, json, "medfusion.conformal/1", err) || !read_taxonomy(t, json, err) ||
        !read_ratio(t, json_object_get(json, "density_ratio"), err))
        return false;
    t->classes = mf_arena_alloc(t->arena, t->label_count, sizeof *t->classes, err);
    for (size_t i = 0; t->classes && i < t->label_count; i++) {
        const json_t *entry = label_entry(t, json, i, err);
        if (!entry || !read_classes(t, entry, &t->classes[i], err) ||
            !read_conformal_groups(t, json_object_get(entry, "groups"), i, err))
            return mf_error_prefix(err, "label %s", t->label_ids[i]);
    }
    const json_t *raps = json_object_get(json, "raps");
    return t->classes && read_risk(t, json_object_get(json, "risk_control"), err) &&
           (!raps || mf_exclusive_read_raps(raps, &t->exclusive, err));
}

static bool read_sharpness(struct mf_trust *t, const json_t *list, struct mf_error *err)
{
    size_t n = json_array_size(list);
    if (!list)
        return true;
    t->sharpness = mf_arena_alloc(t->arena, n, sizeof *t->sharpness, err);
    t->sharpness_count = n;
    bool ok = t->sharpness && mf_json_numbers(list, n, t->sharpness);
    for (size_t i = 1; ok && i < n; i++)
        ok = t->sharpness[i - 1] <= t->sharpness[i];
    return ok || bad(err, "\"sharpness\" must be numbers in ascending order");
}

/* ood.json counts only for the model it was made with. */
static bool read_ood(struct mf_trust *t, const json_t *json, struct mf_error *err)
{
    const char *hash = mf_json_get_string(json, "model_hash", "");
    if (!t->model_hash || strcmp(hash, t->model_hash) != 0)
        return bad(err, "its model_hash is not that of calibration.json");
    const char *of = mf_json_get_string(json, "of", "readout");
    t->ood_of_regions = strcmp(of, "regions") == 0;
    if (!t->ood_of_regions && strcmp(of, "readout") != 0)
        return bad(err, "\"of\" must be regions or readout");
    t->ood = mf_ood_from_json(json, err);
    return t->ood && read_sharpness(t, json_object_get(json, "sharpness"), err);
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
