/*
 * Reading a FHIR document: text → JSON → the Patients and Observations in it.
 *
 * NDJSON is told from a single value by looking behind the first value. Bundles are flattened;
 * resources of other types are counted and forgotten (line by line for NDJSON, so their trees do
 * not add up).
 */
#include "fhir/internal.h"

#include "core/buffer.h"

#include <string.h>

enum {
    DEFAULT_BYTES = 16 << 20,
    DEFAULT_DEPTH = 64,
    DEFAULT_RESOURCES = 100000,
    ARENA_BYTES = 256 << 20
};

struct reader {
    struct mf_fhir_document *doc;
    struct mf_fhir_limits limits;
    const char *name;
    struct mf_error *err;
};

static bool malformed(struct reader *r, const char *reason)
{
    return mf_error_set(r->err, MF_ERR_MALFORMED, "%s: resource %zu: %s", r->name, r->doc->total,
                        reason);
}

/* A fullUrl that identifies: absolute, its version cut off. *ret is NULL for others. */
static bool identity_url(struct reader *r, const char *url, const char **ret)
{
    *ret = NULL;
    if (!url || (strncmp(url, "urn:", 4) != 0 && strncmp(url, "http://", 7) != 0 &&
                 strncmp(url, "https://", 8) != 0))
        return true;
    const char *history = strstr(url, "/_history/");
    size_t len = history ? (size_t)(history - url) : strlen(url);
    *ret = mf_arena_strndup(r->doc->arena, url, len, r->err);
    return *ret != NULL;
}

/* "Patient/1", "DiagnosticReport/7#o1" (contained), the fullUrl, or the type alone. */
static const char *reference_of(struct reader *r, const struct mf_fhir_resource *res,
                                const json_t *container)
{
    struct mf_arena *arena = r->doc->arena;
    const char *type = mf_json_get_string(res->json, "resourceType", "");
    if (container)
        return mf_arena_printf(arena, r->err, "%s/%s#%s",
                               mf_json_get_string(container, "resourceType", ""),
                               mf_json_get_string(container, "id", ""), res->id ? res->id : "");
    if (res->id)
        return mf_arena_printf(arena, r->err, "%s/%s", type, res->id);
    return res->full_url ? res->full_url : type;
}

/* Records a Patient or Observation; `container` is the resource that holds it, or NULL. */
static bool record(struct reader *r, const json_t *json, const char *url, size_t ordinal,
                   const json_t *container)
{
    struct mf_fhir_document *doc = r->doc;
    const char *type = mf_json_get_string(json, "resourceType", "");
    bool is_patient = strcmp(type, "Patient") == 0;
    if (!is_patient && strcmp(type, "Observation") != 0)
        return true;
    struct mf_error cause = MF_ERROR_INIT;
    if (!(is_patient ? mf_fhir_check_patient(json, &cause)
                     : mf_fhir_check_observation(json, &cause)))
        return malformed(r, cause.msg);
    if (doc->count == doc->capacity) {
        size_t capacity = doc->capacity ? 2 * doc->capacity : 64;
        void *grown = realloc(doc->resources, capacity * sizeof *doc->resources);
        if (!grown)
            return mf_error_set(r->err, MF_ERR_NO_MEMORY, "%s: out of memory", r->name);
        doc->resources = grown;
        doc->capacity = capacity;
    }
    struct mf_fhir_resource *res = &doc->resources[doc->count];
    *res = (struct mf_fhir_resource){.json = json,
                                     .is_patient = is_patient,
                                     .id = mf_json_get_string(json, "id", NULL),
                                     .ordinal = ordinal,
                                     .contained = container != NULL};
    if (!container && !identity_url(r, url, &res->full_url))
        return false;
    if (!(res->reference = reference_of(r, res, container)))
        return false;
    doc->count++;
    return true;
}

/* Counts one resource and checks what all resources share. */
static bool admit(struct reader *r, const json_t *json)
{
    if (++r->doc->total > r->limits.max_resources)
        return mf_error_set(r->err, MF_ERR_TOO_LARGE, "%s: more than %zu resources", r->name,
                            r->limits.max_resources);
    if (!json_is_object(json) || !json_is_string(json_object_get(json, "resourceType")))
        return malformed(r, "not a FHIR resource (an object with \"resourceType\")");
    const json_t *id = json_object_get(json, "id");
    if (id && !json_is_string(id))
        return malformed(r, "id must be a string");
    return true;
}

static bool add_contained(struct reader *r, const json_t *container, size_t ordinal)
{
    const json_t *list = json_object_get(container, "contained");
    if (list && !json_is_array(list))
        return malformed(r, "contained must be a list");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *json = json_array_get(list, i);
        if (!admit(r, json) || !record(r, json, NULL, ordinal, container))
            return false;
    }
    return true;
}

/* One resource, or all that a Bundle holds. The recursion is bounded by the depth limit of the
 * JSON. */
static bool add(struct reader *r, const json_t *json, const char *url)
{
    if (!admit(r, json))
        return false;
    size_t ordinal = r->doc->total;
    if (strcmp(mf_json_get_string(json, "resourceType", ""), "Bundle") != 0)
        return record(r, json, url, ordinal, NULL) && add_contained(r, json, ordinal);
    const json_t *entries = json_object_get(json, "entry");
    if (entries && !json_is_array(entries))
        return malformed(r, "Bundle.entry must be a list");
    for (size_t i = 0; i < json_array_size(entries); i++) {
        const json_t *entry = json_array_get(entries, i);
        const json_t *resource = json_object_get(entry, "resource");
        const json_t *full_url = json_object_get(entry, "fullUrl");
        if (!json_is_object(entry))
            return malformed(r, "Bundle.entry must be a list of objects");
        if (full_url && !json_is_string(full_url))
            return malformed(r, "Bundle.entry.fullUrl must be a string");
        if (resource && !add(r, resource, json_string_value(full_url)))
            return false;
    }
    return true;
}

/* Adds one JSON value, and keeps it when something in it was recorded. Takes the reference. */
static bool add_root(struct reader *r, json_t *root)
{
    size_t before = r->doc->count;
    bool ok = add(r, root, NULL);
    if (ok && r->doc->count > before && json_array_append(r->doc->roots, root) != 0)
        ok = mf_error_set(r->err, MF_ERR_NO_MEMORY, "%s: out of memory", r->name);
    if (!ok)
        r->doc->count = before;
    json_decref(root);
    return ok;
}

/* Length of the first JSON value: up to where its brackets close; `len` when they never do. */
static size_t first_value(const char *text, size_t len)
{
    size_t depth = 0;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (c == '"') {
            for (i++; i < len && text[i] != '"'; i++)
                if (text[i] == '\\')
                    i++;
        } else if (c == '{' || c == '[') {
            depth++;
        } else if ((c == '}' || c == ']') && (depth == 0 || --depth == 0)) {
            return i + 1;
        }
    }
    return len;
}

static size_t skip_space(const char *text, size_t len)
{
    size_t i = 0;
    while (i < len && (text[i] == ' ' || text[i] == '\t' || text[i] == '\r' || text[i] == '\n'))
        i++;
    return i;
}

static bool read_single(struct reader *r, const char *text, size_t len)
{
    struct mf_json_limits limits = {r->limits.max_bytes, r->limits.max_depth};
    json_t *root = mf_json_parse(text, len, &limits, r->name, r->err);
    return root && add_root(r, root);
}

static bool read_lines(struct reader *r, const char *text, size_t len)
{
    struct mf_json_limits limits = {r->limits.max_bytes, r->limits.max_depth};
    size_t number = 0;
    while (len > 0) {
        const char *newline = memchr(text, '\n', len);
        size_t line = newline ? (size_t)(newline - text) + 1 : len;
        number++;
        if (skip_space(text, line) < line) {
            char where[200];
            snprintf(where, sizeof where, "%.160s: line %zu", r->name, number);
            json_t *root = mf_json_parse(text, line, &limits, where, r->err);
            if (!root || !add_root(r, root))
                return false;
        }
        text += line;
        len -= line;
    }
    return true;
}

static bool read_text(struct reader *r, const char *text, size_t len)
{
    static const char BOM[] = "\xEF\xBB\xBF";
    if (len > r->limits.max_bytes)
        return mf_error_set(r->err, MF_ERR_TOO_LARGE,
                            "%s: %zu bytes of FHIR, at most %zu are accepted", r->name, len,
                            r->limits.max_bytes);
    if (len >= 3 && memcmp(text, BOM, 3) == 0) {
        text += 3;
        len -= 3;
    }
    size_t space = skip_space(text, len);
    if (space < len && text[space] == '<')
        return mf_error_set(r->err, MF_ERR_UNSUPPORTED,
                            "%s: FHIR in XML is not supported, send JSON", r->name);
    size_t first = first_value(text, len);
    bool single = first + skip_space(text + first, len - first) == len || text[space] != '{';
    return single ? read_single(r, text, len) : read_lines(r, text, len);
}

struct mf_fhir_document *mf_fhir_document_parse(const char *text, size_t len,
                                                const struct mf_fhir_limits *limits,
                                                const char *name, struct mf_error *err)
{
    MF_AUTO(mf_fhir_document) struct mf_fhir_document *doc = calloc(1, sizeof *doc);
    if (!doc || !(doc->arena = mf_arena_new(ARENA_BYTES)) || !(doc->roots = json_array()) ||
        !(doc->index = json_object())) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "%s: out of memory", name);
        return NULL;
    }
    struct reader r = {.doc = doc, .name = name, .err = err};
    if (limits)
        r.limits = *limits;
    if (!r.limits.max_bytes)
        r.limits.max_bytes = DEFAULT_BYTES;
    if (!r.limits.max_depth)
        r.limits.max_depth = DEFAULT_DEPTH;
    if (!r.limits.max_resources)
        r.limits.max_resources = DEFAULT_RESOURCES;
    if (!read_text(&r, text, len))
        return NULL;
    if (!mf_fhir_build_patients(doc, err)) {
        mf_error_prefix(err, "%s", name);
        return NULL;
    }
    return MF_STEAL(doc);
}

struct mf_fhir_document *
mf_fhir_document_load(const char *path, const struct mf_fhir_limits *limits, struct mf_error *err)
{
    MF_AUTO(mf_buffer) struct mf_buffer text;
    mf_buffer_init(&text, limits && limits->max_bytes ? limits->max_bytes : DEFAULT_BYTES);
    if (!mf_buffer_read_file(&text, path, err))
        return NULL;
    return mf_fhir_document_parse(text.data ? text.data : "", text.len, limits, path, err);
}

void mf_fhir_document_free(struct mf_fhir_document *doc)
{
    if (!doc)
        return;
    free(doc->resources);
    json_decref(doc->index);
    json_decref(doc->roots);
    mf_arena_free(doc->arena);
    free(doc);
}

size_t mf_fhir_document_resource_count(const struct mf_fhir_document *doc)
{
    return doc->total;
}

size_t mf_fhir_patient_count(const struct mf_fhir_document *doc)
{
    return doc->patient_count;
}

const struct mf_fhir_patient *mf_fhir_patient(const struct mf_fhir_document *doc, size_t index)
{
    return index < doc->patient_count ? &doc->patients[index] : NULL;
}
