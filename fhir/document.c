/* Reading a FHIR document: text → resources (tree.c) → records (record.c) → patients (patients.c).
 * Single resources, Bundles and NDJSON are one thing here: a stream of resources. */
#include "fhir/internal.h"

#include <string.h>

enum {
    DEFAULT_DEPTH = 64,
    DEFAULT_RESOURCES = 1000000,
    ARENA_BYTES = 1 << 30,
    RESOURCE_BYTES = 32 << 20
};

static const size_t DEFAULT_BYTES = 1 << 30;

struct mf_fhir_reader {
    struct mf_fhir_document *doc;
    struct mf_fhir_tree *tree;
    size_t max_bytes, bytes;
    size_t bom; /* bytes of a byte order mark seen; 3 = past it */
    bool begun; /* something that is no space was seen */
    char name[160];
};

/* --- records --- */

/* A fullUrl that identifies: absolute, its version cut off. *ret is NULL for others. */
static bool identity_url(struct mf_fhir_document *doc, const char *url, const char **ret,
                         struct mf_error *err)
{
    *ret = NULL;
    if (!url || (strncmp(url, "urn:", 4) != 0 && strncmp(url, "http://", 7) != 0 &&
                 strncmp(url, "https://", 8) != 0))
        return true;
    const char *history = strstr(url, "/_history/");
    size_t len = history ? (size_t)(history - url) : strlen(url);
    *ret = mf_arena_strndup(doc->pool.arena, url, len, err);
    return *ret != NULL;
}

/* Names the record: "Patient/1", "DiagnosticReport/7#o1" (contained), the fullUrl, or the type
 * alone. */
static bool name_record(struct mf_fhir_document *doc, struct mf_fhir_record *record, const char *id,
                        const struct mf_node *container, struct mf_error *err)
{
    const char *type = mf_resource_type_name(record->type);
    if (container)
        record->reference = mf_arena_printf(doc->pool.arena, err, "%s/%s#%s",
                                            mf_node_string(container, "resourceType", ""),
                                            mf_node_string(container, "id", ""), id ? id : "");
    else if (id)
        record->reference = mf_arena_printf(doc->pool.arena, err, "%s/%s", type, id);
    else
        record->reference = record->full_url ? record->full_url : type;
    if (record->reference && id)
        record->id = record->reference + strlen(record->reference) - strlen(id);
    return record->reference != NULL;
}

static bool keep(struct mf_fhir_document *doc, const struct mf_fhir_record *record,
                 struct mf_error *err)
{
    if (doc->count == doc->capacity) {
        size_t capacity = doc->capacity ? 2 * doc->capacity : 64;
        void *grown = realloc(doc->records, capacity * sizeof(struct mf_fhir_record *));
        if (!grown)
            return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
        doc->records = grown;
        doc->capacity = capacity;
    }
    struct mf_fhir_record *copy = mf_arena_alloc(doc->pool.arena, 1, sizeof *copy, err);
    if (!copy)
        return false;
    *copy = *record;
    doc->records[doc->count++] = copy;
    return true;
}

/* Records one resource; `container` is the resource that holds it, or NULL. */
static bool add_record(struct mf_fhir_document *doc, const struct mf_node *resource,
                       const struct mf_fhir_place *place, const struct mf_node *container,
                       long container_number, struct mf_error *err)
{
    enum mf_resource_type type = mf_fhir_type_of(resource);
    struct mf_fhir_record record;
    if (type == MF_RESOURCE_COUNT)
        return true;
    if (!mf_fhir_check(resource, type, place->path, err) ||
        !mf_fhir_read_record(&doc->pool, resource, type, &record, err))
        return false;
    record.ordinal = place->ordinal;
    record.contained = container != NULL;
    record.container = container_number;
    return (container || identity_url(doc, place->full_url, &record.full_url, err)) &&
           name_record(doc, &record, mf_node_string(resource, "id", NULL), container, err) &&
           keep(doc, &record, err);
}

static bool bad_contained(const struct mf_fhir_place *place, const char *index, const char *reason,
                          struct mf_error *err)
{
    return mf_error_set(err, MF_ERR_MALFORMED, "%s.contained%s %s", place->path, index, reason);
}

static bool add_contained(struct mf_fhir_reader *r, const struct mf_node *container,
                          const struct mf_fhir_place *place, long container_number,
                          struct mf_error *err)
{
    const struct mf_node *list = mf_node_get(container, "contained");
    char index[24], path[200];
    size_t i = 0;
    if (list && list->kind != MF_NODE_LIST)
        return bad_contained(place, "", "must be a list", err);
    for (const struct mf_node *n = list ? list->first : NULL; n; n = n->next, i++) {
        const struct mf_node *id = mf_node_get(n, "id");
        snprintf(index, sizeof index, "[%zu]", i);
        snprintf(path, sizeof path, "%s.contained%s", place->path, index);
        const struct mf_fhir_place here = {path, NULL, place->ordinal};
        if (!mf_fhir_tree_count(r->tree, err))
            return false;
        if (!mf_node_string(n, "resourceType", NULL))
            return bad_contained(place, index,
                                 "is not a FHIR resource (an object with \"resourceType\")", err);
        if (id && id->kind != MF_NODE_STRING)
            return bad_contained(place, index, "has an id that is no string", err);
        if (!add_record(r->doc, n, &here, container, container_number, err))
            return false;
    }
    return true;
}

static bool take_resource(void *context, const struct mf_node *resource,
                          const struct mf_fhir_place *place, struct mf_error *err)
{
    struct mf_fhir_reader *r = context;
    size_t before = r->doc->count;
    if (!add_record(r->doc, resource, place, NULL, -1, err))
        return false;
    long number = r->doc->count > before ? (long)before : -1;
    return add_contained(r, resource, place, number, err);
}

/* --- reading --- */

struct mf_fhir_reader *mf_fhir_reader_new(const struct mf_fhir_limits *limits, const char *name,
                                          struct mf_error *err)
{
    struct mf_fhir_reader *r = calloc(1, sizeof *r);
    const struct mf_fhir_limits none = {0}, *l = limits ? limits : &none;
    const struct mf_fhir_tree_limits tree = {
        .max_depth = l->max_depth ? l->max_depth : DEFAULT_DEPTH,
        .max_resources = l->max_resources ? l->max_resources : DEFAULT_RESOURCES,
        .resource_bytes = RESOURCE_BYTES};
    if (!r || !(r->doc = calloc(1, sizeof *r->doc)) ||
        !(r->doc->pool.arena = mf_arena_new(ARENA_BYTES))) {
        mf_fhir_reader_free(r);
        mf_error_set(err, MF_ERR_NO_MEMORY, "%s: out of memory", name);
        return NULL;
    }
    r->max_bytes = l->max_bytes ? l->max_bytes : DEFAULT_BYTES;
    snprintf(r->name, sizeof r->name, "%s", name);
    r->tree = mf_fhir_tree_new(&tree, name, take_resource, r, err);
    if (!r->tree) {
        mf_fhir_reader_free(r);
        return NULL;
    }
    return r;
}

void mf_fhir_reader_free(struct mf_fhir_reader *r)
{
    if (!r)
        return;
    mf_fhir_tree_free(r->tree);
    mf_fhir_document_free(r->doc);
    free(r);
}

/* What a text that is no JSON is, by its first byte; NULL when that says nothing. */
static const char *other_form(char first)
{
    switch ((unsigned char)first) {
    case '<':
        return "XML";
    case 0x1F: /* RFC 1952, 2.3.1 */
        return "gzip";
    case 0xFE: /* the byte order marks of UTF-16, RFC 2781, 3.2 */
    case 0xFF:
        return "UTF-16";
    default:
        return NULL;
    }
}

/* Passes over a byte order mark, and looks at the first character. */
static bool begin(struct mf_fhir_reader *r, const char **bytes, size_t *len, struct mf_error *err)
{
    static const char BOM[] = "\xEF\xBB\xBF";
    for (; *len && r->bom < 3 && **bytes == BOM[r->bom]; r->bom++) {
        (*bytes)++;
        (*len)--;
    }
    if (*len)
        r->bom = 3;
    for (size_t i = 0; i < *len && !r->begun; i++) {
        char c = (*bytes)[i];
        r->begun = c != ' ' && c != '\t' && c != '\r' && c != '\n';
        const char *form = r->begun ? other_form(c) : NULL;
        if (form)
            return mf_error_set(err, MF_ERR_UNSUPPORTED,
                                "%s: FHIR in %s is not supported, send JSON", r->name, form);
    }
    return true;
}

bool mf_fhir_reader_feed(struct mf_fhir_reader *r, const char *bytes, size_t len,
                         struct mf_error *err)
{
    if (len > r->max_bytes - r->bytes)
        return mf_error_set(err, MF_ERR_TOO_LARGE, "%s: more than %zu bytes of FHIR", r->name,
                            r->max_bytes);
    r->bytes += len;
    if (!r->begun && !begin(r, &bytes, &len, err))
        return false;
    return mf_fhir_tree_feed(r->tree, bytes, len, err);
}

struct mf_fhir_document *mf_fhir_reader_finish(struct mf_fhir_reader *r, struct mf_error *err)
{
    if (!r->begun) {
        mf_error_set(err, MF_ERR_MALFORMED, "%s: empty, no FHIR in it", r->name);
        return NULL;
    }
    if (!mf_fhir_tree_finish(r->tree, err))
        return NULL;
    r->doc->total = mf_fhir_tree_total(r->tree);
    if (!mf_fhir_build_patients(r->doc, err)) {
        mf_error_prefix(err, "%s", r->name);
        return NULL;
    }
    return MF_STEAL(r->doc);
}

struct mf_fhir_document *mf_fhir_document_parse(const char *text, size_t len,
                                                const struct mf_fhir_limits *limits,
                                                const char *name, struct mf_error *err)
{
    MF_AUTO(mf_fhir_reader) struct mf_fhir_reader *r = mf_fhir_reader_new(limits, name, err);
    if (r && len > r->max_bytes) {
        mf_error_set(err, MF_ERR_TOO_LARGE, "%s: %zu bytes of FHIR, at most %zu are accepted", name,
                     len, r->max_bytes);
        return NULL;
    }
    return r && mf_fhir_reader_feed(r, text, len, err) ? mf_fhir_reader_finish(r, err) : NULL;
}

void mf_fhir_document_free(struct mf_fhir_document *doc)
{
    if (!doc)
        return;
    free(doc->records);
    free(doc->patients);
    mf_fhir_map_free(&doc->index);
    mf_fhir_map_free(&doc->pool.strings);
    mf_arena_free(doc->pool.arena);
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

/* The later of `latest` and the newest time of the patient's Observations, or of everything else.
 */
static struct mf_time latest_of(const struct mf_fhir_patient *patient, bool observations,
                                struct mf_time latest)
{
    for (size_t i = 0; i < patient->record_count; i++) {
        const struct mf_fhir_record *record = patient->records[i];
        if ((record->type == MF_RESOURCE_OBSERVATION) != observations ||
            record->standing == MF_FHIR_VOID)
            continue;
        struct mf_time t = mf_fhir_record_time(record, false, NULL);
        if (t.precision != MF_TIME_UNKNOWN &&
            (latest.precision == MF_TIME_UNKNOWN || t.end > latest.end))
            latest = t;
    }
    return latest;
}

struct mf_time mf_fhir_latest_time(const struct mf_fhir_document *doc,
                                   const struct mf_fhir_patient *patient)
{
    struct mf_time latest = {.precision = MF_TIME_UNKNOWN};
    if (patient)
        return latest_of(patient, true, latest);
    for (size_t p = 0; p < doc->patient_count; p++)
        latest = latest_of(&doc->patients[p], true, latest);
    bool none = latest.precision == MF_TIME_UNKNOWN;
    for (size_t p = 0; none && p < doc->patient_count; p++)
        latest = latest_of(&doc->patients[p], false, latest);
    return latest;
}
