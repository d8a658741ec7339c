/*
 * Searches for features. A code filter must not lose anything: Observations are asked for by
 * combo-code (their own code and their components'), and panels that have an Observation as a
 * member come with it, because a member without a time has its panel's; medications are asked for
 * whole, because their code may be another resource's; definitions with prefixes cannot be asked by
 * code.
 */
#include "server/fhir_queries.h"

#include "core/buffer.h"
#include "server/web_client.h"

#include <string.h>

enum { MAX_QUERIES = 512, URL_BYTES = 4096, LONG_CODES = 1500, ALL_CODES = 1 << 20 };

/* What is asked of one resource type. */
struct demand {
    bool needed, whole; /* whole: no codes can be named */
    struct mf_buffer codes;
};

struct builder {
    const struct mf_fhir_wanted *wanted;
    struct mf_arena *arena;
    const char **list;
    size_t count;
    struct mf_error *err;
};

/* --- what the server offers --- */

static const json_t *find_named(const json_t *list, const char *key, const char *value)
{
    size_t i;
    const json_t *item;
    json_array_foreach(list, i, item)
    {
        if (strcmp(mf_json_get_string(item, key, ""), value) == 0)
            return item;
    }
    return NULL;
}

static const json_t *resource_of(const json_t *capabilities, const char *type)
{
    const json_t *rest = json_array_get(json_object_get(capabilities, "rest"), 0);
    return find_named(json_object_get(rest, "resource"), "type", type);
}

static bool can_search(const json_t *resource, const char *parameter)
{
    return find_named(json_object_get(resource, "searchParam"), "name", parameter) != NULL;
}

static bool lists(const json_t *resource, const char *key, const char *value)
{
    size_t i;
    const json_t *item;
    json_array_foreach(json_object_get(resource, key), i, item)
    {
        const char *text = json_string_value(item);
        if (text && (strcmp(text, value) == 0 || strcmp(text, "*") == 0))
            return true;
    }
    return false;
}

/* The parameter that finds all resources of a type by code, or NULL. */
static const char *code_parameter(const json_t *resource, enum mf_resource_type type)
{
    switch (type) {
    case MF_RESOURCE_OBSERVATION:
        return can_search(resource, "combo-code") ? "combo-code" : NULL;
    case MF_RESOURCE_CONDITION:
    case MF_RESOURCE_PROCEDURE:
    case MF_RESOURCE_ALLERGY_INTOLERANCE:
    case MF_RESOURCE_SERVICE_REQUEST:
    case MF_RESOURCE_DIAGNOSTIC_REPORT:
        return can_search(resource, "code") ? "code" : NULL;
    default:
        return NULL;
    }
}

/* --- what the definitions need --- */

static bool add_code(struct demand *d, const struct mf_coding *c, struct mf_error *err)
{
    MF_AUTO(mf_buffer) struct mf_buffer token;
    mf_buffer_init(&token, URL_BYTES);
    if (!mf_buffer_append_str(&token, ",", err) || !mf_web_encode(&token, c->system, err) ||
        !mf_buffer_append_str(&token, "%7C", err) || !mf_web_encode(&token, c->code, err))
        return false;
    for (const char *at = d->codes.data; at && (at = strstr(at, token.data)); at++)
        if (at[token.len] == ',' || !at[token.len])
            return true;
    return mf_buffer_append(&d->codes, token.data, token.len, err);
}

static bool add_sources(struct demand *demands, const struct mf_feature *f, struct mf_error *err)
{
    for (size_t i = 0; i < f->source_count; i++) {
        const struct mf_feature_source *s = &f->sources[i];
        if (s->kind != MF_SOURCE_FHIR_CODINGS)
            continue;
        struct demand *d = &demands[s->resource];
        d->needed = true;
        d->whole |= s->prefix_count > 0;
        for (size_t k = 0; k < s->coding_count; k++)
            if (!add_code(d, &s->codings[k], err))
                return false;
    }
    return true;
}

static bool add_demands(const struct mf_fhir_wanted *w, struct demand *demands,
                        struct mf_error *err)
{
    for (size_t i = 0; i < w->set_count; i++) {
        const struct mf_feature_set *set = w->sets[i];
        for (size_t k = 0; k < set->helper_count; k++)
            if (!add_sources(demands, &set->helpers[k], err))
                return false;
        for (size_t k = 0; k < set->count; k++)
            if (!add_sources(demands, &set->features[k], err))
                return false;
    }
    return true;
}

static struct demand *new_demands(struct mf_arena *arena, struct mf_error *err)
{
    struct demand *demands = mf_arena_alloc(arena, MF_RESOURCE_COUNT, sizeof *demands, err);
    for (size_t i = 0; demands && i < MF_RESOURCE_COUNT; i++)
        mf_buffer_init(&demands[i].codes, ALL_CODES);
    return demands;
}

static void free_demands(struct demand *demands)
{
    for (size_t i = 0; demands && i < MF_RESOURCE_COUNT; i++)
        mf_buffer_free(&demands[i].codes);
}

/* --- queries --- */

/* How many bytes of ",a,b,c" the next query takes: whole codes, LONG_CODES at most. */
static size_t codes_for_one(const char *codes)
{
    size_t len = strlen(codes);
    if (len <= LONG_CODES)
        return len;
    for (len = LONG_CODES; len > 0 && codes[len] != ','; len--)
        ;
    return len ? len : 1 + strcspn(codes + 1, ",");
}

static bool add_query(struct builder *b, const json_t *resource, enum mf_resource_type type,
                      const char *codes, size_t len)
{
    const struct mf_fhir_wanted *w = b->wanted;
    const char *name = mf_resource_type_name(type), *parameter = code_parameter(resource, type);
    MF_AUTO(mf_buffer) struct mf_buffer url;
    mf_buffer_init(&url, URL_BYTES);
    if (b->count == MAX_QUERIES)
        return mf_error_set(b->err, MF_ERR_TOO_LARGE, "features need more than %d searches",
                            MAX_QUERIES);
    if (!mf_buffer_printf(&url, b->err, "%s?patient=%s", name, w->patient) ||
        (len && !mf_buffer_printf(&url, b->err, "&%s=%.*s", parameter, (int)len - 1, codes + 1)))
        return false;
    if (w->as_of && (!mf_buffer_append_str(&url, "&_lastUpdated=le", b->err) ||
                     !mf_web_encode(&url, w->as_of, b->err)))
        return false;
    bool medication = type == MF_RESOURCE_MEDICATION_REQUEST ||
                      type == MF_RESOURCE_MEDICATION_STATEMENT ||
                      type == MF_RESOURCE_MEDICATION_ADMINISTRATION;
    if (medication && !mf_buffer_printf(&url, b->err, "&_include=%s%%3Amedication", name))
        return false;
    if (len && lists(resource, "searchRevInclude", "Observation:has-member") &&
        type == MF_RESOURCE_OBSERVATION &&
        !mf_buffer_append_str(&url, "&_revinclude=Observation%3Ahas-member", b->err))
        return false;
    return mf_buffer_append_str(&url, "&_count=200", b->err) &&
           (b->list[b->count++] = mf_arena_strdup(b->arena, url.data, b->err));
}

static bool add_type(struct builder *b, enum mf_resource_type type, const struct demand *d)
{
    const json_t *resource = resource_of(b->wanted->capabilities, mf_resource_type_name(type));
    if (!d->needed || (b->wanted->capabilities && !resource))
        return true; /* a type that the server does not have is missing */
    if (d->whole || !code_parameter(resource, type))
        return add_query(b, resource, type, "", 0);
    for (const char *codes = d->codes.data; codes && *codes;) {
        size_t len = codes_for_one(codes);
        if (!add_query(b, resource, type, codes, len))
            return false;
        codes += len;
    }
    return true;
}

bool mf_fhir_queries(const struct mf_fhir_wanted *w, struct mf_arena *arena,
                     const char *const **ret, size_t *ret_count, struct mf_error *err)
{
    struct builder b = {.wanted = w, .arena = arena, .err = err};
    struct demand *demands = new_demands(arena, err);
    b.list = mf_arena_alloc(arena, MAX_QUERIES, sizeof *b.list, err);
    bool ok = demands && b.list && add_demands(w, demands, err);
    for (int type = 0; ok && type < MF_RESOURCE_COUNT; type++)
        ok = add_type(&b, (enum mf_resource_type)type, &demands[type]);
    free_demands(demands);
    *ret = b.list;
    *ret_count = b.count;
    return ok;
}

bool mf_fhir_everything(const struct mf_fhir_wanted *w, struct mf_arena *arena, const char **ret,
                        struct mf_error *err)
{
    const json_t *operations =
        json_object_get(resource_of(w->capabilities, "Patient"), "operation");
    *ret = NULL;
    if (w->as_of || (!find_named(operations, "name", "everything") &&
                     !find_named(operations, "name", "patient-everything")))
        return true;
    struct demand *demands = new_demands(arena, err);
    MF_AUTO(mf_buffer) struct mf_buffer url;
    mf_buffer_init(&url, URL_BYTES);
    bool ok =
        demands && add_demands(w, demands, err) &&
        mf_buffer_printf(&url, err, "Patient/%s/$everything?_count=200&_type=Patient", w->patient);
    for (int type = 0; ok && type < MF_RESOURCE_COUNT; type++) {
        bool medication = type == MF_RESOURCE_MEDICATION_REQUEST ||
                          type == MF_RESOURCE_MEDICATION_STATEMENT ||
                          type == MF_RESOURCE_MEDICATION_ADMINISTRATION;
        if (demands[type].needed)
            ok = mf_buffer_printf(&url, err, "%%2C%s%s",
                                  mf_resource_type_name((enum mf_resource_type)type),
                                  medication ? "%2CMedication" : "");
    }
    free_demands(demands);
    return ok && (*ret = mf_arena_strdup(arena, url.data, err));
}
