/*
 * The reader of `medfusion.features/1` (models/FORMAT.md, features.json).
 *
 * A definition is part of a model, so every mistake in it is MF_ERR_MODEL and names the member
 * ("features[2].window"). Everything read is copied into the set's arena.
 */
#include "core/feature_reader.h"

#include "core/ucum.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_FEATURES = 1024, ARENA_BYTES = 16 << 20 };

bool mf_feature_fail(struct mf_feature_reader *r, const char *member, const char *reason, ...)
{
    char text[224];
    va_list ap;
    va_start(ap, reason);
    vsnprintf(text, sizeof text, reason, ap);
    va_end(ap);
    return mf_error_set(r->err, MF_ERR_MODEL, "%s: %s%s%s%s%s", r->name, r->path,
                        member && *r->path ? "." : "", member ? member : "",
                        member || *r->path ? ": " : "", text);
}

void *mf_feature_allocate(struct mf_feature_reader *r, size_t n, size_t size)
{
    struct mf_error cause = MF_ERROR_INIT;
    void *p = mf_arena_alloc(r->arena, n, size, &cause);
    if (cause.code == MF_ERR_NO_MEMORY)
        mf_error_set(r->err, cause.code, "%s: out of memory", r->name);
    else if (!p)
        mf_feature_fail(r, NULL, "too much data");
    return p;
}

const char *mf_feature_copy(struct mf_feature_reader *r, const char *s)
{
    size_t size = strlen(s) + 1;
    char *p = mf_feature_allocate(r, size, 1);
    return p ? memcpy(p, s, size) : NULL;
}

bool mf_feature_need_text(struct mf_feature_reader *r, const json_t *object, const char *key,
                          const char **ret)
{
    const char *s = mf_json_get_string(object, key, NULL);
    if (!s || !*s)
        return mf_feature_fail(r, key, "must be a non-empty string");
    return (*ret = mf_feature_copy(r, s)) != NULL;
}

bool mf_feature_optional_text(struct mf_feature_reader *r, const json_t *object, const char *key,
                              const char **ret)
{
    const json_t *v = json_object_get(object, key);
    *ret = NULL;
    return !v || json_is_null(v) || mf_feature_need_text(r, object, key, ret);
}

bool mf_feature_only_keys(struct mf_feature_reader *r, const json_t *object,
                          const char *const keys[])
{
    char where[MF_FEATURE_PATH_TEXT + 128];
    snprintf(where, sizeof where, "%.120s: %s", r->name, r->path);
    return mf_json_only_keys(object, keys, where, MF_ERR_MODEL, r->err);
}

bool mf_feature_duration(struct mf_feature_reader *r, const json_t *object, const char *key,
                         int64_t fallback, int64_t *ret)
{
    const json_t *v = json_object_get(object, key);
    *ret = fallback;
    if (!v || json_is_null(v))
        return true;
    if (!json_is_string(v) || !mf_duration_parse(json_string_value(v), ret, NULL))
        return mf_feature_fail(r, key, "must be an ISO 8601 duration such as \"P7D\", or null");
    return true;
}

static bool need_number(struct mf_feature_reader *r, const json_t *object, const char *key,
                        double *ret)
{
    const json_t *v = json_object_get(object, key);
    if (!json_is_number(v))
        return mf_feature_fail(r, key, "must be a number");
    *ret = json_number_value(v);
    return true;
}

/* [a, b], both numbers. */
static bool number_pair(const json_t *v, double *a, double *b)
{
    double pair[2];
    if (!mf_json_numbers(v, 2, pair))
        return false;
    *a = pair[0];
    *b = pair[1];
    return true;
}

/* A rule that UCUM knows too must say the same: a factor of ten too much is a mistake nobody sees
 * in the numbers. */
static bool check_conversion(struct mf_feature_reader *r, const struct mf_feature *f,
                             const struct mf_unit_conversion *c)
{
    static const double PROBES[] = {1, 1000};
    for (size_t i = 0; i < sizeof PROBES / sizeof *PROBES; i++) {
        double x = PROBES[i];
        double ours = x * c->factor + c->offset, ucum;
        if (!mf_ucum_convert(x, c->unit, f->unit, f->molar_mass, &ucum))
            return true;
        if (fabs(ours - ucum) > 0.005 * fabs(ucum) + 0.02 * (c->offset != 0))
            return mf_feature_fail(r, "conversions", "%g %.24s is %g %.24s by UCUM, not %g", x,
                                   c->unit, ucum, f->unit, ours);
    }
    return true;
}

/* {"UCUM": factor | [factor, offset]} */
static bool read_conversions(struct mf_feature_reader *r, const json_t *object,
                             struct mf_feature *f)
{
    json_t *map = json_object_get(object, "conversions");
    size_t count = json_object_size(map), i = 0;
    if (!map || json_is_null(map))
        return true;
    if (!json_is_object(map) || count > MF_FEATURE_LIST_MAX)
        return mf_feature_fail(r, "conversions", "must be an object of UCUM units");
    struct mf_unit_conversion *list = mf_feature_allocate(r, count, sizeof *list);
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
            return mf_feature_fail(r, "conversions", "a rule is a factor or [factor, offset]");
        if (c->factor == 0)
            return mf_feature_fail(r, "conversions", "a factor must not be zero");
        if (!(c->unit = mf_feature_copy(r, unit)) || !check_conversion(r, f, c))
            return false;
    }
    f->conversions = list;
    f->conversion_count = count;
    return true;
}

static bool read_pick(struct mf_feature_reader *r, const json_t *object, struct mf_feature *f)
{
    static const char *const NAMES[MF_PICK_KINDS] = {"last",  "first",   "min",       "max",
                                                     "mean",  "median",  "sum",       "delta",
                                                     "count", "present", "days_since"};
    const json_t *v = json_object_get(object, "pick");
    const char *name = !v || json_is_null(v) ? "last" : json_string_value(v);
    for (size_t i = 0; name && i < MF_PICK_KINDS; i++) {
        if (strcmp(NAMES[i], name) != 0)
            continue;
        f->pick = (enum mf_feature_pick)i;
        bool categorical = f->pick <= MF_PICK_FIRST || f->pick == MF_PICK_PRESENT;
        return f->kind == MF_FEATURE_NUMERIC || categorical ||
               mf_feature_fail(r, "pick", "a categorical feature takes last, first or present");
    }
    return mf_feature_fail(r, "pick",
                           "must be last, first, min, max, mean, median, sum, delta, count, "
                           "present or days_since");
}

/* "P7D": the seven days before the study; {"from": "P7D", "to": "P1D"}: up to one day before it. */
static bool read_window(struct mf_feature_reader *r, const json_t *object, struct mf_feature *f)
{
    static const char *const KEYS[] = {"from", "to", NULL};
    const json_t *v = json_object_get(object, "window");
    if (!json_is_object(v))
        return mf_feature_duration(r, object, "window", -1, &f->window_ms);
    if (!mf_feature_only_keys(r, v, KEYS) ||
        !mf_feature_duration(r, v, "from", -1, &f->window_ms) ||
        !mf_feature_duration(r, v, "to", 0, &f->gap_ms))
        return false;
    return f->window_ms < 0 || f->window_ms > f->gap_ms ||
           mf_feature_fail(r, "window", "\"from\" lies before \"to\", so it must be longer");
}

/* Units of what is counted or measured in days are not free. */
static bool check_unit(struct mf_feature_reader *r, const struct mf_feature *f)
{
    bool counts = f->pick == MF_PICK_COUNT || f->pick == MF_PICK_PRESENT;
    double ignored;
    if (counts && !mf_ucum_convert(1, "1", f->unit, 0, &ignored))
        return mf_feature_fail(r, "unit", "what is counted has the unit 1");
    if (f->pick == MF_PICK_DAYS_SINCE && !mf_ucum_convert(1, "d", f->unit, 0, &ignored))
        return mf_feature_fail(r, "unit", "days_since is a time: d, wk, mo or a");
    return true;
}

static bool read_numeric(struct mf_feature_reader *r, const json_t *object, bool helper,
                         struct mf_feature *f)
{
    const json_t *range = json_object_get(object, "range");
    if (json_object_get(object, "categories") || json_object_get(object, "map"))
        return mf_feature_fail(r, "categories", "a numeric feature has no categories");
    const json_t *molar = json_object_get(object, "molar_mass");
    if (!mf_feature_need_text(r, object, "unit", &f->unit) || !check_unit(r, f) ||
        (molar && !json_is_null(molar) && !need_number(r, object, "molar_mass", &f->molar_mass)))
        return false;
    if (f->molar_mass < 0 || (molar && json_is_number(molar) && f->molar_mass == 0))
        return mf_feature_fail(r, "molar_mass", "must be above zero (g/mol)");
    f->std = 1; /* a helper is no token and needs no scale */
    if (!read_conversions(r, object, f) || (!helper && (!need_number(r, object, "mean", &f->mean) ||
                                                        !need_number(r, object, "std", &f->std))))
        return false;
    if (f->std <= 0)
        return mf_feature_fail(r, "std", "must be above zero");
    if (range && !json_is_null(range)) {
        f->has_range = true;
        if (!number_pair(range, &f->range_low, &f->range_high) || !(f->range_low <= f->range_high))
            return mf_feature_fail(r, "range", "must be [low, high] or null");
    }
    return true;
}

static bool read_map(struct mf_feature_reader *r, const json_t *object, struct mf_feature *f)
{
    json_t *map = json_object_get(object, "map");
    size_t count = json_object_size(map), i = 0;
    if (!map || json_is_null(map))
        return true;
    if (!json_is_object(map) || count > MF_FEATURE_LIST_MAX)
        return mf_feature_fail(r, "map", "must be an object of spellings");
    const char **from = mf_feature_allocate(r, count, sizeof *from);
    uint32_t *to = mf_feature_allocate(r, count, sizeof *to);
    if (!from || !to)
        return false;
    const char *spelling;
    json_t *category;
    json_object_foreach(map, spelling, category)
    {
        if (!json_is_string(category) ||
            !mf_feature_category(f, json_string_value(category), &to[i]))
            return mf_feature_fail(r, "map", "every spelling must name one of the categories");
        if (!(from[i++] = mf_feature_copy(r, spelling)))
            return false;
    }
    f->map_from = from;
    f->map_to = to;
    f->map_count = count;
    return true;
}

static bool read_categorical(struct mf_feature_reader *r, const json_t *object,
                             struct mf_feature *f)
{
    static const char *const NUMERIC[] = {"unit",  "conversions", "molar_mass",
                                          "range", "mean",        "std"};
    for (size_t i = 0; i < sizeof NUMERIC / sizeof *NUMERIC; i++) {
        const json_t *v = json_object_get(object, NUMERIC[i]);
        if (v && !json_is_null(v))
            return mf_feature_fail(r, NUMERIC[i], "belongs to numeric features");
    }
    const json_t *list = json_object_get(object, "categories");
    size_t count = json_array_size(list);
    if (count == 0 || count > MF_FEATURE_LIST_MAX)
        return mf_feature_fail(r, "categories", "must be a non-empty list");
    const char **categories = mf_feature_allocate(r, count, sizeof *categories);
    if (!categories)
        return false;
    for (size_t i = 0; i < count; i++) {
        const char *s = json_string_value(json_array_get(list, i));
        if (!s || !*s)
            return mf_feature_fail(r, "categories", "must be a non-empty string each");
        for (size_t k = 0; k < i; k++)
            if (strcmp(categories[k], s) == 0)
                return mf_feature_fail(r, "categories", "the same category twice");
        if (!(categories[i] = mf_feature_copy(r, s)))
            return false;
    }
    f->categories = categories;
    f->category_count = count;
    if (f->pick == MF_PICK_PRESENT && count != 2)
        return mf_feature_fail(r, "categories",
                               "present needs two: the absent one, the present one");
    return read_map(r, object, f);
}

/* "missing": "token" | "refuse" | a number or category to put in its place. */
static bool read_missing(struct mf_feature_reader *r, const json_t *v, struct mf_feature *f)
{
    struct mf_feature_policy *p = &f->policy;
    const char *text = json_string_value(v);
    if (!v || json_is_null(v) || (text && strcmp(text, "token") == 0))
        return true;
    p->missing = text && strcmp(text, "refuse") == 0 ? MF_MISSING_REFUSE : MF_MISSING_VALUE;
    if (p->missing == MF_MISSING_REFUSE)
        return true;
    if (f->kind == MF_FEATURE_CATEGORICAL)
        return (text && mf_feature_category(f, text, &p->category)) ||
               mf_feature_fail(r, "policy.missing", "must be token, refuse or a category");
    if (!json_is_number(v))
        return mf_feature_fail(r, "policy.missing", "must be token, refuse or a number");
    p->number = json_number_value(v);
    return !f->has_range || (p->number >= f->range_low && p->number <= f->range_high) ||
           mf_feature_fail(r, "policy.missing", "the number lies outside the plausible range");
}

/* One of three words; the first is the default. */
static bool read_word(struct mf_feature_reader *r, const json_t *object, const char *key,
                      const char *const words[3], const char *expected, int *ret)
{
    const json_t *v = json_object_get(object, key);
    const char *text = json_string_value(v);
    for (*ret = 0; text && *ret < 3; (*ret)++)
        if (strcmp(words[*ret], text) == 0)
            return true;
    return (!v || json_is_null(v)) ||
           mf_feature_fail(r, expected, "must be %s, %s or %s", words[0], words[1], words[2]);
}

static bool read_policy(struct mf_feature_reader *r, const json_t *object, struct mf_feature *f)
{
    static const char *const KEYS[] = {"missing", "stale", "implausible", NULL};
    static const char *const STALE[] = {"missing", "use", "refuse"};
    static const char *const IMPLAUSIBLE[] = {"missing", "clamp", "refuse"};
    const json_t *policy = json_object_get(object, "policy");
    int stale = 0, implausible = 0;
    if (!policy || json_is_null(policy))
        return true;
    if (!json_is_object(policy))
        return mf_feature_fail(r, "policy", "must be an object");
    if (!mf_feature_only_keys(r, policy, KEYS) ||
        !read_missing(r, json_object_get(policy, "missing"), f) ||
        !read_word(r, policy, "stale", STALE, "policy.stale", &stale) ||
        !read_word(r, policy, "implausible", IMPLAUSIBLE, "policy.implausible", &implausible))
        return false;
    f->policy.stale = (enum mf_stale_policy)stale;
    f->policy.implausible = (enum mf_implausible_policy)implausible;
    if (f->policy.implausible == MF_IMPLAUSIBLE_CLAMP && !f->has_range)
        return mf_feature_fail(r, "policy.implausible", "clamping needs a range");
    return true;
}

static bool read_feature(struct mf_feature_reader *r, const json_t *object, bool helper,
                         struct mf_feature *f)
{
    static const char *const KEYS[] = {
        "id",      "display",    "kind",   "unit",  "conversions", "molar_mass",
        "sources", "pick",       "window", "range", "mean",        "std",
        "policy",  "categories", "map",    "group", NULL};
    if (!json_is_object(object))
        return mf_feature_fail(r, NULL, "must be an object");
    const char *kind = mf_json_get_string(object, "kind", helper ? "numeric" : "");
    if (!mf_feature_only_keys(r, object, KEYS) || !mf_feature_need_text(r, object, "id", &f->id) ||
        !mf_feature_optional_text(r, object, "display", &f->display) ||
        !mf_feature_optional_text(r, object, "group", &f->group))
        return false;
    if (!f->display)
        f->display = f->id;
    if (strcmp(kind, "numeric") == 0)
        f->kind = MF_FEATURE_NUMERIC;
    else if (strcmp(kind, "categorical") == 0 && !helper)
        f->kind = MF_FEATURE_CATEGORICAL;
    else
        return mf_feature_fail(r, "kind",
                               helper ? "a helper is numeric" : "must be numeric or categorical");
    return read_pick(r, object, f) && mf_feature_read_sources(r, object, f) &&
           read_window(r, object, f) &&
           (f->kind == MF_FEATURE_NUMERIC ? read_numeric(r, object, helper, f)
                                          : read_categorical(r, object, f)) &&
           read_policy(r, object, f);
}

/* A mistake is the end, unless all are to be found. */
static bool go_on(struct mf_feature_reader *r)
{
    if (!r->report || r->err->code != MF_ERR_MODEL)
        return false;
    r->report(r->context, r->err->msg);
    r->mistakes++;
    mf_error_clear(r->err);
    r->path[0] = '\0';
    return true;
}

/* Whether an id is taken by a helper or an earlier feature. */
static bool id_taken(const struct mf_feature_reader *r, const char *id)
{
    for (size_t i = 0; i < r->helpers_read; i++)
        if (r->set->helpers[i].id && strcmp(r->set->helpers[i].id, id) == 0)
            return true;
    for (size_t i = 0; i < r->features_read; i++)
        if (r->set->features[i].id && strcmp(r->set->features[i].id, id) == 0)
            return true;
    return false;
}

/* Reads a list of helpers or features; one with a mistake keeps its id, so that others can name
 * it. */
static bool read_list(struct mf_feature_reader *r, const json_t *list, bool helpers,
                      struct mf_feature *out, size_t *done)
{
    for (size_t i = 0; i < json_array_size(list); i++, (*done)++) {
        struct mf_feature *f = &out[i];
        snprintf(r->path, sizeof r->path, "%s[%zu]", helpers ? "helpers" : "features", i);
        bool ok = read_feature(r, json_array_get(list, i), helpers, f);
        if (ok && id_taken(r, f->id))
            ok = mf_feature_fail(r, "id", "the same id twice");
        if (!ok && !go_on(r))
            return false;
        if (!f->id && !(f->id = mf_feature_copy(r, "?")))
            return false;
    }
    return true;
}

static bool check_order(struct mf_feature_reader *r, struct mf_feature_set *set)
{
    for (size_t i = 0; i < set->count; i++)
        if (set->features[i].kind == MF_FEATURE_NUMERIC && set->numeric_count++ != i) {
            snprintf(r->path, sizeof r->path, "features[%zu]", i);
            return mf_feature_fail(r, "kind", "numeric features come before categorical ones");
        }
    return true;
}

static bool read_set(struct mf_feature_reader *r, const json_t *json, struct mf_feature_set *set)
{
    static const char *const KEYS[] = {"schema", "value_sets", "helpers", "features", NULL};
    const json_t *features = json_object_get(json, "features");
    const json_t *helpers = json_object_get(json, "helpers");
    if (strcmp(mf_json_get_string(json, "schema", ""), "medfusion.features/1") != 0)
        return mf_error_set(r->err, MF_ERR_MODEL, "%s: \"schema\" must be \"medfusion.features/1\"",
                            r->name);
    if (!mf_json_only_keys(json, KEYS, r->name, MF_ERR_MODEL, r->err) && !go_on(r))
        return false;
    set->count = json_array_size(features);
    set->helper_count = json_array_size(helpers);
    if (set->count == 0 || set->count > MAX_FEATURES || set->helper_count > MAX_FEATURES)
        return mf_error_set(r->err, MF_ERR_MODEL,
                            "%s: \"features\" must be a list of 1 to %d features", r->name,
                            MAX_FEATURES);
    if (helpers && !json_is_array(helpers) && !json_is_null(helpers))
        return mf_error_set(r->err, MF_ERR_MODEL, "%s: \"helpers\" must be a list of features",
                            r->name);
    if (!mf_feature_check_value_sets(r, json_object_get(json, "value_sets")) && !go_on(r))
        return false;
    set->features = mf_feature_allocate(r, set->count, sizeof *set->features);
    set->helpers = mf_feature_allocate(r, set->helper_count, sizeof *set->helpers);
    if (!set->features || !set->helpers)
        return false;
    return read_list(r, helpers, true, set->helpers, &r->helpers_read) &&
           read_list(r, features, false, set->features, &r->features_read) &&
           (check_order(r, set) || go_on(r));
}

static struct mf_feature_set *read_definition(const json_t *json, struct mf_feature_reader *r)
{
    MF_AUTO(mf_feature_set) struct mf_feature_set *set = calloc(1, sizeof *set);
    if (!set || !(set->arena = mf_arena_new(ARENA_BYTES))) {
        mf_error_set(r->err, MF_ERR_NO_MEMORY, "%s: out of memory", r->name);
        return NULL;
    }
    r->arena = set->arena;
    r->set = set;
    return read_set(r, json, set) ? MF_STEAL(set) : NULL;
}

struct mf_feature_set *mf_feature_set_parse(const json_t *json, const char *name,
                                            struct mf_error *err)
{
    struct mf_error cause = MF_ERROR_INIT;
    struct mf_feature_reader r = {.name = name, .err = &cause};
    struct mf_feature_set *set = read_definition(json, &r);
    if (!set)
        mf_error_set(err, cause.code, "%s", cause.msg);
    return set;
}

size_t mf_feature_set_check(const json_t *json, const char *name,
                            void (*report)(void *context, const char *mistake), void *context)
{
    struct mf_error cause = MF_ERROR_INIT;
    struct mf_feature_reader r = {
        .name = name, .err = &cause, .report = report, .context = context};
    mf_feature_set_free(read_definition(json, &r));
    if (cause.code != MF_OK) {
        report(context, cause.msg);
        r.mistakes++;
    }
    return r.mistakes;
}
