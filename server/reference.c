/* Distributions of the calibration cases' features: see reference.h. */
#include "server/reference.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { KEPT_VALUES = 1000, PATH_BYTES = 4096 };

static bool no_memory(struct mf_error *err)
{
    return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the reference of features");
}

bool mf_reference_value(const json_t *entry, const json_t **ret)
{
    *ret = json_object_get(entry, "value");
    return strcmp(mf_json_get_string(entry, "status", ""), "used") == 0 && *ret &&
           !json_is_null(*ret);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static json_t *values_to_json(double *values, size_t n)
{
    json_t *list = json_array();
    size_t kept = n < KEPT_VALUES ? n : KEPT_VALUES;
    qsort(values, n, sizeof *values, ascending);
    for (size_t i = 0; list && i < kept; i++)
        json_array_append_new(list, json_real(values[kept < 2 ? 0 : i * (n - 1) / (kept - 1)]));
    return list;
}

/* One feature over all cases; the reference of feature `f`. */
static json_t *feature_to_json(const struct mf_feature *feature, size_t f, json_t *const *cases,
                               size_t count, double *values)
{
    json_t *categories = json_object();
    size_t n = 0, used = 0, seen = 0;
    for (size_t i = 0; i < feature->category_count; i++)
        json_object_set_new(categories, feature->categories[i], json_integer(0));
    for (size_t i = 0; i < count; i++) {
        const json_t *value;
        seen += cases[i] != NULL;
        if (!mf_reference_value(json_array_get(cases[i], f), &value))
            continue;
        used++;
        if (json_is_number(value)) {
            values[n++] = json_number_value(value);
        } else if (json_is_string(value)) {
            json_int_t before = mf_json_get_int(categories, json_string_value(value), 0);
            json_object_set_new(categories, json_string_value(value), json_integer(before + 1));
        }
    }
    bool numeric = feature->kind == MF_FEATURE_NUMERIC;
    json_t *json = json_pack("{s:s, s:I, s:I}", "id", feature->id, "cases", (json_int_t)used,
                             "missing", (json_int_t)(seen - used));
    if (numeric)
        json_object_set_new(json, "values", values_to_json(values, n));
    else
        json_object_set(json, "categories", categories);
    json_decref(categories);
    return json;
}

json_t *mf_reference_make(const struct mf_bundle *bundle, json_t *const *cases, size_t count,
                          struct mf_error *err)
{
    const struct mf_feature_set *set = mf_bundle_features(bundle);
    MF_AUTO(mf_mem) double *values = calloc(count + 1, sizeof *values);
    json_t *features = json_array();
    for (size_t f = 0; set && values && f < set->count; f++)
        json_array_append_new(features,
                              feature_to_json(&set->features[f], f, cases, count, values));
    json_t *json = values
                       ? json_pack("{s:s, s:s, s:o}", "schema", "medfusion.reference/1",
                                   "model_hash", mf_bundle_model_hash(bundle), "features", features)
                       : NULL;
    if (!json)
        no_memory(err);
    return json;
}

/* --- reading --- */

static bool check_feature(const json_t *entry)
{
    const json_t *values = json_object_get(entry, "values"),
                 *categories = json_object_get(entry, "categories");
    double before = -1e300;
    bool ok = json_is_string(json_object_get(entry, "id")) &&
              mf_json_get_int(entry, "cases", -1) >= 0 &&
              mf_json_get_int(entry, "missing", -1) >= 0 &&
              (json_is_array(values) || json_is_object(categories));
    for (size_t i = 0; ok && i < json_array_size(values); i++) {
        const json_t *v = json_array_get(values, i);
        ok = json_is_number(v) && json_number_value(v) >= before;
        before = json_number_value(v);
    }
    const char *name;
    json_t *count;
    json_object_foreach((json_t *)(uintptr_t)categories, name, count)
    {
        (void)name;
        ok = ok && json_is_integer(count) && json_integer_value(count) >= 0;
    }
    return ok;
}

json_t *mf_reference_load(const struct mf_bundle *bundle, struct mf_error *err)
{
    const struct mf_json_limits limits = {64 << 20, 8};
    const struct mf_feature_set *set = mf_bundle_features(bundle);
    char path[PATH_BYTES];
    if (snprintf(path, sizeof path, "%s/reference.json", mf_bundle_directory(bundle)) >=
            (int)sizeof path ||
        access(path, F_OK) != 0)
        return json_null();
    MF_AUTO(mf_json) json_t *json = mf_json_read_file(path, &limits, err);
    if (!json)
        return NULL;
    if (strcmp(mf_json_get_string(json, "model_hash", ""), mf_bundle_model_hash(bundle)) != 0)
        return json_null();
    json_t *features = json_object_get(json, "features");
    bool ok = json_array_size(features) == (set ? set->count : 0);
    for (size_t i = 0; ok && i < json_array_size(features); i++)
        ok = check_feature(json_array_get(features, i));
    if (ok)
        return json_incref(features);
    mf_error_set(err, MF_ERR_MODEL, "%s: not a valid medfusion.reference/1", path);
    return NULL;
}
