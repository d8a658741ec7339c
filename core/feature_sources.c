/* "sources" and "value_sets" of a feature definition (models/FORMAT.md, features.json). */
#include "core/feature_reader.h"

#include <stdio.h>
#include <string.h>

/* "fhir:Patient.birthDate", "dicom:PatientAge" …, each with the kind of feature it can feed. */
static bool read_path(struct mf_feature_reader *r, const char *text, const struct mf_feature *f,
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
        if (PATHS[i].feature != f->kind)
            return mf_feature_fail(r, NULL,
                                   f->kind == MF_FEATURE_NUMERIC ? "this source is not a number"
                                                                 : "this source is not a category");
        if (f->pick >= MF_PICK_COUNT)
            return mf_feature_fail(r, NULL,
                                   "count, present and days_since ask for resources, this is none");
        *source = (struct mf_feature_source){.kind = PATHS[i].source,
                                             .path = strchr(PATHS[i].text, ':') + 1};
        return true;
    }
    return mf_feature_fail(r, NULL, "not a source that MedFusion knows");
}

/* --- codings --- */

/* The list of codings behind a name, or NULL. */
static const json_t *value_set(const struct mf_feature_reader *r, const char *name)
{
    const json_t *list = name ? json_object_get(r->value_sets, name) : NULL;
    return json_is_array(list) ? list : NULL;
}

/* One coding: {"system", "code" | "prefix", "display"?}. */
static bool read_coding(struct mf_feature_reader *r, const json_t *coding, struct mf_coding *ret,
                        bool *ret_prefix)
{
    static const char *const KEYS[] = {"system", "code", "prefix", "display", NULL};
    if (!mf_feature_only_keys(r, coding, KEYS))
        return false;
    *ret_prefix = json_object_get(coding, "prefix") != NULL;
    if (*ret_prefix && json_object_get(coding, "code"))
        return mf_feature_fail(r, "fhir", "a coding has a code or a prefix, not both");
    return mf_feature_need_text(r, coding, "system", &ret->system) &&
           mf_feature_need_text(r, coding, *ret_prefix ? "prefix" : "code", &ret->code) &&
           mf_feature_optional_text(r, coding, "display", &ret->display);
}

/* Codings of one source while they are gathered. */
struct gathered {
    struct mf_coding *exact, *prefixes;
    size_t exact_count, prefix_count, capacity;
};

static bool gather_one(struct mf_feature_reader *r, const json_t *coding, struct gathered *g)
{
    struct mf_coding one = {NULL, NULL, NULL};
    bool prefix;
    if (!json_is_object(coding))
        return mf_feature_fail(r, "fhir", "every coding must be an object");
    if (!read_coding(r, coding, &one, &prefix))
        return false;
    if (g->exact_count + g->prefix_count == g->capacity)
        return mf_feature_fail(r, "fhir", "more than %d codings", MF_FEATURE_LIST_MAX);
    if (prefix)
        g->prefixes[g->prefix_count++] = one;
    else
        g->exact[g->exact_count++] = one;
    return true;
}

/* A list of codings, with value sets by name in between. */
static bool gather(struct mf_feature_reader *r, const json_t *list, struct gathered *g)
{
    static const char *const KEYS[] = {"value_set", NULL};
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        const char *name = mf_json_get_string(item, "value_set", NULL);
        if (!name) {
            if (!gather_one(r, item, g))
                return false;
            continue;
        }
        const json_t *set = value_set(r, name);
        if (!mf_feature_only_keys(r, item, KEYS))
            return false;
        if (!set)
            return mf_feature_fail(r, "fhir", "there is no value set \"%.64s\"", name);
        for (size_t k = 0; k < json_array_size(set); k++)
            if (!gather_one(r, json_array_get(set, k), g))
                return false;
    }
    return true;
}

static size_t codings_in(const struct mf_feature_reader *r, const json_t *list)
{
    size_t n = 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = mf_json_get_string(json_array_get(list, i), "value_set", NULL);
        n += name ? json_array_size(value_set(r, name)) : 1;
    }
    return n;
}

static bool read_codings(struct mf_feature_reader *r, const json_t *list,
                         struct mf_feature_source *source)
{
    struct gathered g = {.capacity = codings_in(r, list)};
    if (json_array_size(list) == 0 || g.capacity > MF_FEATURE_LIST_MAX)
        return mf_feature_fail(r, "fhir", "must be a non-empty list of codings");
    g.exact = mf_feature_allocate(r, g.capacity, sizeof *g.exact);
    g.prefixes = mf_feature_allocate(r, g.capacity, sizeof *g.prefixes);
    if (!g.exact || !g.prefixes || !gather(r, list, &g))
        return false;
    source->codings = g.exact;
    source->coding_count = g.exact_count;
    source->prefixes = g.prefixes;
    source->prefix_count = g.prefix_count;
    return true;
}

/* "resource": the type, Observation unless it is said. */
static bool read_resource(struct mf_feature_reader *r, const json_t *object,
                          const struct mf_feature *f, struct mf_feature_source *source)
{
    const char *name = NULL;
    source->resource = MF_RESOURCE_OBSERVATION;
    if (!mf_feature_optional_text(r, object, "resource", &name))
        return false;
    if (name)
        source->resource = mf_resource_type_parse(name);
    if (source->resource == MF_RESOURCE_COUNT || source->resource == MF_RESOURCE_PATIENT ||
        source->resource == MF_RESOURCE_MEDICATION)
        return mf_feature_fail(r, "resource",
                               "must be Observation, Encounter, Condition, Procedure, "
                               "MedicationRequest, MedicationStatement, MedicationAdministration, "
                               "AllergyIntolerance, ServiceRequest, ImagingStudy or "
                               "DiagnosticReport");
    if (source->resource != MF_RESOURCE_OBSERVATION && f->pick < MF_PICK_COUNT)
        return mf_feature_fail(r, "resource",
                               "only an Observation has a value: pick count, present or "
                               "days_since");
    return true;
}

static bool read_what(struct mf_feature_reader *r, const json_t *object, const struct mf_feature *f,
                      struct mf_feature_source *source)
{
    static const char *const NAMES[] = {"value", "interpretation", "upper_limits"};
    const char *name = NULL;
    if (!mf_feature_optional_text(r, object, "read", &name))
        return false;
    for (size_t i = 0; name && i < sizeof NAMES / sizeof *NAMES; i++)
        if (strcmp(NAMES[i], name) == 0) {
            source->read = (enum mf_feature_read)i;
            name = NULL;
        }
    if (name)
        return mf_feature_fail(r, "read", "must be value, interpretation or upper_limits");
    if (source->read == MF_READ_INTERPRETATION && f->kind != MF_FEATURE_CATEGORICAL)
        return mf_feature_fail(r, "read", "an interpretation is a category, not a number");
    if (source->read == MF_READ_UPPER_LIMITS && f->kind != MF_FEATURE_NUMERIC)
        return mf_feature_fail(r, "read", "upper limits are a number, not a category");
    return true;
}

static bool read_fhir(struct mf_feature_reader *r, const json_t *object, const struct mf_feature *f,
                      struct mf_feature_source *source)
{
    static const char *const KEYS[] = {"fhir", "resource", "read", NULL};
    *source = (struct mf_feature_source){.kind = MF_SOURCE_FHIR_CODINGS};
    return mf_feature_only_keys(r, object, KEYS) && read_resource(r, object, f, source) &&
           read_what(r, object, f, source) &&
           read_codings(r, json_object_get(object, "fhir"), source);
}

/* --- derived --- */

/* The number of a helper or of a numeric feature that was read before this one, or −1. */
static long find_variable(void *context, const char *id)
{
    const struct mf_feature_reader *r = context;
    for (size_t i = 0; i < r->helpers_read; i++)
        if (strcmp(r->set->helpers[i].id, id) == 0)
            return (long)i;
    for (size_t i = 0; i < r->features_read; i++)
        if (r->set->features[i].kind == MF_FEATURE_NUMERIC &&
            strcmp(r->set->features[i].id, id) == 0)
            return (long)(r->set->helper_count + i);
    return -1;
}

static bool read_derived(struct mf_feature_reader *r, const json_t *object,
                         const struct mf_feature *f, struct mf_feature_source *source)
{
    static const char *const KEYS[] = {"derive", "within", NULL};
    const char *text;
    struct mf_error cause = MF_ERROR_INIT;
    *source = (struct mf_feature_source){.kind = MF_SOURCE_DERIVED};
    if (!mf_feature_only_keys(r, object, KEYS) ||
        !mf_feature_need_text(r, object, "derive", &text) ||
        !mf_feature_duration(r, object, "within", -1, &source->within_ms))
        return false;
    if (f->kind != MF_FEATURE_NUMERIC || f->pick >= MF_PICK_COUNT)
        return mf_feature_fail(r, "derive", "a derived feature is a number");
    source->expression = mf_expression_parse(text, find_variable, r, r->arena, &cause);
    return source->expression || mf_feature_fail(r, "derive", "%s", cause.msg);
}

bool mf_feature_read_sources(struct mf_feature_reader *r, const json_t *object,
                             struct mf_feature *f)
{
    const json_t *list = json_object_get(object, "sources");
    size_t count = json_array_size(list), base = strlen(r->path);
    if (count == 0 || count > MF_FEATURE_LIST_MAX)
        return mf_feature_fail(r, "sources", "must be a non-empty list");
    struct mf_feature_source *sources = mf_feature_allocate(r, count, sizeof *sources);
    if (!sources)
        return false;
    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_array_get(list, i);
        snprintf(r->path + base, sizeof r->path - base, ".sources[%zu]", i);
        bool ok =
            json_is_string(item) ? read_path(r, json_string_value(item), f, &sources[i])
            : json_object_get(item, "derive") ? read_derived(r, item, f, &sources[i])
            : json_is_object(item)
                ? read_fhir(r, item, f, &sources[i])
                : mf_feature_fail(r, NULL, "must be a string, {\"fhir\": […]} or {\"derive\": …}");
        if (!ok)
            return false;
    }
    r->path[base] = '\0';
    f->sources = sources;
    f->source_count = count;
    return true;
}

bool mf_feature_check_value_sets(struct mf_feature_reader *r, const json_t *value_sets)
{
    const char *name;
    json_t *list;
    if (!value_sets || json_is_null(value_sets))
        return true;
    if (!json_is_object(value_sets))
        return mf_feature_fail(r, "value_sets", "must be an object of lists of codings");
    json_object_foreach((json_t *)value_sets, name, list)
    {
        struct mf_coding one;
        bool prefix;
        snprintf(r->path, sizeof r->path, "value_sets.%.64s", name);
        if (json_array_size(list) == 0 || json_array_size(list) > MF_FEATURE_LIST_MAX)
            return mf_feature_fail(r, NULL, "must be a non-empty list of codings");
        for (size_t i = 0; i < json_array_size(list); i++)
            if (!json_is_object(json_array_get(list, i)))
                return mf_feature_fail(r, NULL, "every coding must be an object");
            else if (!read_coding(r, json_array_get(list, i), &one, &prefix))
                return false;
    }
    r->path[0] = '\0';
    r->value_sets = value_sets;
    return true;
}
