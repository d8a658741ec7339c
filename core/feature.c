/*
 * Features: the reader of `medfusion.features/1` (models/FORMAT.md, features.json), and the JSON of
 * a value.
 *
 * A definition is part of a model, so every mistake in it is MF_ERR_MODEL and names the member
 * ("features[2].window"). Everything read is copied into the set's arena.
 */
#include "core/feature.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_FEATURES = 1024, MAX_LIST = 4096, ARENA_BYTES = 16 << 20, PATH_TEXT = 160 };

/* Where the reader is, for messages: the name of the input and the path of the member. */
struct reader {
    const char *name;
    struct mf_arena *arena;
    struct mf_error *err;
    char path[PATH_TEXT];
};

/* Fails with "NAME: PATH.MEMBER: reason". */
static bool fail(struct reader *r, const char *member, const char *reason)
{
    return mf_error_set(r->err, MF_ERR_MODEL, "%s: %s%s%s: %s", r->name, r->path,
                        member && *r->path ? "." : "", member ? member : "", reason);
}

/* Memory of the set; an arena that is full is the definition's fault. */
static void *allocate(struct reader *r, size_t n, size_t size)
{
    struct mf_error cause = MF_ERROR_INIT;
    void *p = mf_arena_alloc(r->arena, n, size, &cause);
    if (cause.code == MF_ERR_NO_MEMORY)
        mf_error_set(r->err, cause.code, "%s: out of memory", r->name);
    else if (!p)
        fail(r, NULL, "too much data");
    return p;
}

static const char *copy(struct reader *r, const char *s)
{
    size_t size = strlen(s) + 1;
    char *p = allocate(r, size, 1);
    return p ? memcpy(p, s, size) : NULL;
}

/* A member that must be a string with at least one character. */
static bool need_text(struct reader *r, const json_t *object, const char *key, const char **ret)
{
    const char *s = mf_json_get_string(object, key, NULL);
    if (!s || !*s)
        return fail(r, key, "must be a non-empty string");
    return (*ret = copy(r, s)) != NULL;
}

/* A member that may be absent or null, else must be a non-empty string. */
static bool optional_text(struct reader *r, const json_t *object, const char *key, const char **ret)
{
    const json_t *v = json_object_get(object, key);
    *ret = NULL;
    return !v || json_is_null(v) || need_text(r, object, key, ret);
}

static bool need_finite(struct reader *r, const json_t *object, const char *key, double *ret)
{
    const json_t *v = json_object_get(object, key);
    if (!json_is_number(v) || !isfinite(json_number_value(v)))
        return fail(r, key, "must be a number");
    *ret = json_number_value(v);
    return true;
}

/* [a, b], both numbers. */
static bool number_pair(const json_t *v, double *a, double *b)
{
    if (!json_is_array(v) || json_array_size(v) != 2 || !json_is_number(json_array_get(v, 0)) ||
        !json_is_number(json_array_get(v, 1)))
        return false;
    *a = json_number_value(json_array_get(v, 0));
    *b = json_number_value(json_array_get(v, 1));
    return true;
}

static bool only_keys(struct reader *r, const json_t *object, const char *const keys[])
{
    char where[PATH_TEXT + 128];
    snprintf(where, sizeof where, "%.120s: %s", r->name, r->path);
    return mf_json_only_keys(object, keys, where, MF_ERR_MODEL, r->err);
}

/* {"fhir": [{"system", "code", "display"?}, …]} */
static bool read_codings(struct reader *r, const json_t *object, struct mf_feature_source *source)
{
    static const char *const SOURCE_KEYS[] = {"fhir", NULL};
    static const char *const KEYS[] = {"system", "code", "display", NULL};
    const json_t *list = json_object_get(object, "fhir");
    size_t count = json_array_size(list);
    if (!only_keys(r, object, SOURCE_KEYS))
        return false;
    if (count == 0 || count > MAX_LIST)
        return fail(r, "fhir", "must be a non-empty list of codings");
    struct mf_coding *codings = allocate(r, count, sizeof *codings);
    if (!codings)
        return false;
    for (size_t i = 0; i < count; i++) {
        const json_t *coding = json_array_get(list, i);
        if (!json_is_object(coding))
            return fail(r, "fhir", "every coding must be an object");
        if (!only_keys(r, coding, KEYS) || !need_text(r, coding, "system", &codings[i].system) ||
            !need_text(r, coding, "code", &codings[i].code) ||
            !optional_text(r, coding, "display", &codings[i].display))
            return false;
    }
    *source = (struct mf_feature_source){
        .kind = MF_SOURCE_FHIR_CODINGS, .codings = codings, .coding_count = count};
    return true;
}

/* "fhir:Patient.birthDate", "dicom:PatientAge" …, each with the kind of feature it can feed. */
static bool read_path(struct reader *r, const char *text, enum mf_feature_kind kind,
                      struct mf_feature_source *source)
{
    static const struct {
        const char *text;
        enum mf_source_kind source;
        enum mf_feature_kind feature;
    } PATHS[] = {
        {"fhir:Patient.birthDate", MF_SOURCE_FHIR_PATH, MF_FEATURE_NUMERIC},
        {"fhir:Patient.gender", MF_SOURCE_FHIR_PATH, MF_FEATURE_CATEGORICAL},
        {"dicom:PatientAge", MF_SOURCE_DICOM, MF_FEATURE_NUMERIC},
        {"dicom:PatientBirthDate", MF_SOURCE_DICOM, MF_FEATURE_NUMERIC},
        {"dicom:PatientSex", MF_SOURCE_DICOM, MF_FEATURE_CATEGORICAL},
        {"dicom:ViewPosition", MF_SOURCE_DICOM, MF_FEATURE_CATEGORICAL},
    };
    for (size_t i = 0; i < sizeof PATHS / sizeof *PATHS; i++) {
        if (strcmp(PATHS[i].text, text) != 0)
            continue;
        if (PATHS[i].feature != kind)
            return fail(r, NULL,
                        kind == MF_FEATURE_NUMERIC ? "this source is not a number"
                                                   : "this source is not a category");
        *source = (struct mf_feature_source){.kind = PATHS[i].source,
                                             .path = strchr(PATHS[i].text, ':') + 1};
        return true;
    }
    return fail(r, NULL, "not a source that MedFusion knows");
}

static bool read_sources(struct reader *r, const json_t *object, struct mf_feature *f)
{
    const json_t *list = json_object_get(object, "sources");
    size_t count = json_array_size(list), base = strlen(r->path);
    if (count == 0 || count > MAX_LIST)
        return fail(r, "sources", "must be a non-empty list");
    struct mf_feature_source *sources = allocate(r, count, sizeof *sources);
    if (!sources)
        return false;
    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_array_get(list, i);
        snprintf(r->path + base, sizeof r->path - base, ".sources[%zu]", i);
        bool ok = json_is_string(item) ? read_path(r, json_string_value(item), f->kind, &sources[i])
                  : json_is_object(item) ? read_codings(r, item, &sources[i])
                                         : fail(r, NULL, "must be a string or {\"fhir\": […]}");
        if (!ok)
            return false;
    }
    r->path[base] = '\0';
    f->sources = sources;
    f->source_count = count;
    return true;
}

/* {"UCUM": factor | [factor, offset]} */
static bool read_conversions(struct reader *r, const json_t *object, struct mf_feature *f)
{
    json_t *map = json_object_get(object, "conversions");
    size_t count = json_object_size(map), i = 0;
    if (!map || json_is_null(map))
        return true;
    if (!json_is_object(map) || count > MAX_LIST)
        return fail(r, "conversions", "must be an object of UCUM units");
    struct mf_unit_conversion *list = allocate(r, count, sizeof *list);
    if (!list)
        return false;
    const char *unit;
    json_t *rule;
    json_object_foreach(map, unit, rule)
    {
        struct mf_unit_conversion *c = &list[i++];
        if (json_is_number(rule))
            c->factor = json_number_value(rule);
        else if (!number_pair(rule, &c->factor, &c->offset))
            return fail(r, "conversions", "a rule is a factor or [factor, offset]");
        if (!isfinite(c->factor) || c->factor == 0 || !isfinite(c->offset))
            return fail(r, "conversions", "a factor must not be zero");
        if (!(c->unit = copy(r, unit)))
            return false;
    }
    f->conversions = list;
    f->conversion_count = count;
    return true;
}

static bool read_pick(struct reader *r, const json_t *object, struct mf_feature *f)
{
    static const char *const NAMES[] = {"last", "first", "min", "max", "mean"};
    const json_t *v = json_object_get(object, "pick");
    const char *name = !v || json_is_null(v) ? "last" : json_string_value(v);
    for (size_t i = 0; name && i < sizeof NAMES / sizeof *NAMES; i++)
        if (strcmp(NAMES[i], name) == 0) {
            f->pick = (enum mf_feature_pick)i;
            if (f->kind == MF_FEATURE_CATEGORICAL && f->pick > MF_PICK_FIRST)
                return fail(r, "pick", "a categorical feature takes last or first");
            return true;
        }
    return fail(r, "pick", "must be last, first, min, max or mean");
}

static bool read_window(struct reader *r, const json_t *object, struct mf_feature *f)
{
    const json_t *v = json_object_get(object, "window");
    f->window_ms = -1;
    if (!v || json_is_null(v))
        return true;
    if (!json_is_string(v) || !mf_duration_parse(json_string_value(v), &f->window_ms, NULL))
        return fail(r, "window", "must be an ISO 8601 duration such as \"P7D\", or null");
    return true;
}

static bool read_numeric(struct reader *r, const json_t *object, struct mf_feature *f)
{
    const json_t *range = json_object_get(object, "range");
    if (json_object_get(object, "categories") || json_object_get(object, "map"))
        return fail(r, "categories", "a numeric feature has no categories");
    if (!need_text(r, object, "unit", &f->unit) || !read_conversions(r, object, f) ||
        !need_finite(r, object, "mean", &f->mean) || !need_finite(r, object, "std", &f->std))
        return false;
    if (f->std <= 0)
        return fail(r, "std", "must be above zero");
    if (range && !json_is_null(range)) {
        f->has_range = true;
        if (!number_pair(range, &f->range_low, &f->range_high) || !(f->range_low <= f->range_high))
            return fail(r, "range", "must be [low, high] or null");
    }
    return true;
}

static bool read_map(struct reader *r, const json_t *object, struct mf_feature *f)
{
    json_t *map = json_object_get(object, "map");
    size_t count = json_object_size(map), i = 0;
    if (!map || json_is_null(map))
        return true;
    if (!json_is_object(map) || count > MAX_LIST)
        return fail(r, "map", "must be an object of spellings");
    const char **from = allocate(r, count, sizeof *from);
    uint32_t *to = allocate(r, count, sizeof *to);
    if (!from || !to)
        return false;
    const char *spelling;
    json_t *category;
    json_object_foreach(map, spelling, category)
    {
        if (!json_is_string(category) ||
            !mf_feature_category(f, json_string_value(category), &to[i]))
            return fail(r, "map", "every spelling must name one of the categories");
        if (!(from[i++] = copy(r, spelling)))
            return false;
    }
    f->map_from = from;
    f->map_to = to;
    f->map_count = count;
    return true;
}

static bool read_categorical(struct reader *r, const json_t *object, struct mf_feature *f)
{
    static const char *const NUMERIC[] = {"unit", "conversions", "range", "mean", "std"};
    for (size_t i = 0; i < sizeof NUMERIC / sizeof *NUMERIC; i++) {
        const json_t *v = json_object_get(object, NUMERIC[i]);
        if (v && !json_is_null(v))
            return fail(r, NUMERIC[i], "belongs to numeric features");
    }
    const json_t *list = json_object_get(object, "categories");
    size_t count = json_array_size(list);
    if (count == 0 || count > MAX_LIST)
        return fail(r, "categories", "must be a non-empty list");
    const char **categories = allocate(r, count, sizeof *categories);
    if (!categories)
        return false;
    for (size_t i = 0; i < count; i++) {
        const char *s = json_string_value(json_array_get(list, i));
        if (!s || !*s)
            return fail(r, "categories", "must be a non-empty string each");
        for (size_t k = 0; k < i; k++)
            if (strcmp(categories[k], s) == 0)
                return fail(r, "categories", "the same category twice");
        if (!(categories[i] = copy(r, s)))
            return false;
    }
    f->categories = categories;
    f->category_count = count;
    return read_map(r, object, f);
}

static bool read_feature(struct reader *r, const json_t *object, struct mf_feature *f)
{
    static const char *const KEYS[] = {"id",      "display",    "kind",   "unit",  "conversions",
                                       "sources", "pick",       "window", "range", "mean",
                                       "std",     "categories", "map",    NULL};
    if (!json_is_object(object))
        return fail(r, NULL, "must be an object");
    const char *kind = mf_json_get_string(object, "kind", "");
    if (!only_keys(r, object, KEYS) || !need_text(r, object, "id", &f->id) ||
        !optional_text(r, object, "display", &f->display))
        return false;
    if (!f->display)
        f->display = f->id;
    if (strcmp(kind, "numeric") == 0)
        f->kind = MF_FEATURE_NUMERIC;
    else if (strcmp(kind, "categorical") == 0)
        f->kind = MF_FEATURE_CATEGORICAL;
    else
        return fail(r, "kind", "must be numeric or categorical");
    return read_sources(r, object, f) && read_pick(r, object, f) && read_window(r, object, f) &&
           (f->kind == MF_FEATURE_NUMERIC ? read_numeric(r, object, f)
                                          : read_categorical(r, object, f));
}

/* Fills `set` from the list; checks the order (numeric first) and that ids are unique. */
static bool read_features(struct reader *r, const json_t *list, struct mf_feature_set *set)
{
    set->count = json_array_size(list);
    if (!(set->features = allocate(r, set->count, sizeof *set->features)))
        return false;
    for (size_t i = 0; i < set->count; i++) {
        struct mf_feature *f = &set->features[i];
        snprintf(r->path, sizeof r->path, "features[%zu]", i);
        if (!read_feature(r, json_array_get(list, i), f))
            return false;
        for (size_t k = 0; k < i; k++)
            if (strcmp(set->features[k].id, f->id) == 0)
                return fail(r, "id", "the same id twice");
        if (f->kind == MF_FEATURE_NUMERIC && set->numeric_count++ != i)
            return fail(r, "kind", "numeric features come before categorical ones");
    }
    return true;
}

struct mf_feature_set *mf_feature_set_parse(const json_t *json, const char *name,
                                            struct mf_error *err)
{
    static const char *const KEYS[] = {"schema", "features", NULL};
    const json_t *list = json_object_get(json, "features");
    if (strcmp(mf_json_get_string(json, "schema", ""), "medfusion.features/1") != 0) {
        mf_error_set(err, MF_ERR_MODEL, "%s: \"schema\" must be \"medfusion.features/1\"", name);
        return NULL;
    }
    if (!mf_json_only_keys(json, KEYS, name, MF_ERR_MODEL, err))
        return NULL;
    if (json_array_size(list) == 0 || json_array_size(list) > MAX_FEATURES) {
        mf_error_set(err, MF_ERR_MODEL, "%s: \"features\" must be a list of 1 to %d features", name,
                     MAX_FEATURES);
        return NULL;
    }
    MF_AUTO(mf_feature_set) struct mf_feature_set *set = calloc(1, sizeof *set);
    if (!set || !(set->arena = mf_arena_new(ARENA_BYTES))) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "%s: out of memory", name);
        return NULL;
    }
    struct reader r = {.name = name, .arena = set->arena, .err = err};
    return read_features(&r, list, set) ? MF_STEAL(set) : NULL;
}

struct mf_feature_set *mf_feature_set_load(const char *path, struct mf_error *err)
{
    struct mf_error cause = MF_ERROR_INIT;
    MF_AUTO(mf_json) json_t *json = mf_json_read_file(path, NULL, &cause);
    if (!json) {
        bool content = cause.code == MF_ERR_MALFORMED || cause.code == MF_ERR_TOO_LARGE;
        mf_error_set(err, content ? MF_ERR_MODEL : cause.code, "%s", cause.msg);
        return NULL;
    }
    return mf_feature_set_parse(json, path, err);
}

void mf_feature_set_free(struct mf_feature_set *set)
{
    if (!set)
        return;
    mf_arena_free(set->arena);
    free(set);
}

const char *mf_feature_status_name(enum mf_feature_status status)
{
    static const char *const NAMES[] = {"missing", "used", "implausible", "stale"};
    return (size_t)status < sizeof NAMES / sizeof *NAMES ? NAMES[status] : "missing";
}

bool mf_feature_category(const struct mf_feature *feature, const char *text, uint32_t *ret)
{
    for (size_t i = 0; i < feature->category_count; i++)
        if (strcmp(feature->categories[i], text) == 0) {
            *ret = (uint32_t)i;
            return true;
        }
    for (size_t i = 0; i < feature->map_count; i++)
        if (strcmp(feature->map_from[i], text) == 0) {
            *ret = feature->map_to[i];
            return true;
        }
    return false;
}

json_t *mf_feature_value_to_json(const struct mf_feature *feature,
                                 const struct mf_feature_value *value)
{
    json_t *shown = value->has_number     ? mf_json_real(value->number)
                    : value->has_category ? json_string(feature->categories[value->category])
                                          : mf_json_string(value->text);
    return json_pack("{s:s, s:o, s:o, s:s, s:o, s:o}", "id", feature->id, "value", shown, "unit",
                     mf_json_string(value->unit ? value->unit : feature->unit), "status",
                     mf_feature_status_name(value->status), "source", mf_json_string(value->source),
                     "time", mf_json_string(value->time));
}
