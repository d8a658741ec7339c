/* Resources one at a time out of a stream of JSON: see tree.h. */
#include "fhir/tree.h"

#include "core/buffer.h"

#include <string.h>

enum { MAX_STRING = 1 << 20, MAX_OPEN = 512, PATH_TEXT = 160, FEW_MEMBERS = 24 };

/* What an open bracket is to a Bundle. */
enum role {
    PLAIN,
    RESOURCE, /* an object of the document itself, or Bundle.entry.resource */
    ENTRIES,  /* the list "entry" of a resource: its items are handed over, not kept */
    ENTRY     /* an item of it */
};

struct open {
    struct mf_node *node;
    enum role role;
    struct mf_arena_mark mark; /* ENTRY, and a RESOURCE of the document: memory from here is given
                                  back at the end */
    size_t path_len;           /* of the path up to here */
    size_t ordinal;            /* RESOURCE, and the ENTRY it is in */
    bool has_resources;        /* the same: entries with resources were handed over */
};

struct mf_fhir_tree {
    struct mf_json_scan *scan;
    struct mf_arena *arena; /* of the resource being read */
    struct mf_buffer text;  /* a string that comes in pieces */
    size_t text_total;      /* its length so far */
    struct mf_fhir_tree_limits limits;
    mf_fhir_take_resource take;
    void *context;
    struct open open[MAX_OPEN + 1];
    size_t depth;
    const char *key; /* of the member whose value comes next */
    size_t total;
    char path[PATH_TEXT];
};

const struct mf_node *mf_node_get(const struct mf_node *object, const char *key)
{
    if (!object || object->kind != MF_NODE_OBJECT)
        return NULL;
    for (const struct mf_node *n = object->first; n; n = n->next)
        if (strcmp(n->key, key) == 0)
            return n;
    return NULL;
}

const char *mf_node_string(const struct mf_node *object, const char *key, const char *fallback)
{
    const struct mf_node *n = mf_node_get(object, key);
    return n && n->kind == MF_NODE_STRING && n->text ? n->text : fallback;
}

const struct mf_node *mf_node_children(const struct mf_node *object, const char *key)
{
    const struct mf_node *n = mf_node_get(object, key);
    return n ? n->first : NULL;
}

double mf_node_number(const struct mf_node *number)
{
    return number && number->kind == MF_NODE_NUMBER ? strtod(number->text, NULL) : 0;
}

/* --- failing --- */

static const char NO_RESOURCE[] = "is not a FHIR resource (an object with \"resourceType\")";

static bool malformed(struct mf_fhir_tree *t, const char *reason, struct mf_error *err)
{
    return mf_error_set(err, MF_ERR_MALFORMED, "%s: %s %s", mf_json_scan_where(t->scan),
                        *t->path ? t->path : "the document", reason);
}

/* Puts the name of the input and the line before what a callee found. */
static bool named(struct mf_fhir_tree *t, const struct mf_error *cause, struct mf_error *err)
{
    return mf_error_set(err, cause->code, "%s: %s", mf_json_scan_where(t->scan), cause->msg);
}

static void *allocate(struct mf_fhir_tree *t, size_t size, struct mf_error *err)
{
    struct mf_error cause = MF_ERROR_INIT;
    void *p = mf_arena_alloc(t->arena, 1, size, &cause);
    if (!p && cause.code == MF_ERR_TOO_LARGE)
        mf_error_set(err, cause.code, "%s: a resource needs more than %zu bytes of memory",
                     mf_json_scan_where(t->scan), t->limits.resource_bytes);
    else if (!p)
        named(t, &cause, err);
    return p;
}

bool mf_fhir_tree_count(struct mf_fhir_tree *t, struct mf_error *err)
{
    return ++t->total <= t->limits.max_resources ||
           mf_error_set(err, MF_ERR_TOO_LARGE, "%s: more than %zu resources",
                        mf_json_scan_where(t->scan), t->limits.max_resources);
}

size_t mf_fhir_tree_total(const struct mf_fhir_tree *t)
{
    return t->total;
}

/* --- building --- */

static struct open *top(struct mf_fhir_tree *t)
{
    return &t->open[t->depth];
}

/* A node for the next value, hung below what is open; items of ENTRIES hang nowhere. */
static struct mf_node *add_node(struct mf_fhir_tree *t, enum mf_node_kind kind,
                                struct mf_error *err)
{
    struct mf_node *node = allocate(t, sizeof *node, err), *parent = top(t)->node;
    if (!node)
        return NULL;
    node->kind = kind;
    node->key = t->key;
    t->key = NULL;
    if (!parent)
        return node;
    parent->count++;
    if (top(t)->role == ENTRIES)
        return node;
    if (parent->last)
        parent->last->next = node;
    else
        parent->first = node;
    parent->last = node;
    return node;
}

/* The role of the bracket that opens, from what it opens in. */
static enum role role_of(const struct mf_fhir_tree *t, bool object)
{
    const struct open *in = &t->open[t->depth];
    if (t->depth == 0)
        return object ? RESOURCE : PLAIN;
    if (in->role == RESOURCE && !object && t->key && strcmp(t->key, "entry") == 0)
        return ENTRIES;
    if (in->role == ENTRIES)
        return ENTRY;
    if (in->role == ENTRY && object && t->key && strcmp(t->key, "resource") == 0)
        return RESOURCE;
    return PLAIN;
}

static void extend_path(struct mf_fhir_tree *t, const char *format, uint32_t number)
{
    size_t len = strlen(t->path);
    snprintf(t->path + len, sizeof t->path - len, format, number);
}

static bool on_open(void *context, bool object, struct mf_error *err)
{
    struct mf_fhir_tree *t = context;
    enum role role = role_of(t, object);
    struct open here = {.role = role, .path_len = strlen(t->path)};
    if (role == ENTRY || t->depth == 0)
        here.mark = mf_arena_position(t->arena);
    if (role == ENTRY) {
        if (!object)
            return malformed(t, "must be a list of objects", err);
        extend_path(t, "[%u]", top(t)->node->count);
    } else if (role == ENTRIES) {
        extend_path(t, t->path[0] ? ".entry" : "Bundle.entry", 0);
    } else if (role == RESOURCE && t->depth > 0) {
        extend_path(t, ".resource", 0);
    }
    if (role == RESOURCE || t->depth == 0) {
        if (!mf_fhir_tree_count(t, err))
            return false;
        here.ordinal = t->total;
    }
    if (!(here.node = add_node(t, object ? MF_NODE_OBJECT : MF_NODE_LIST, err)))
        return false;
    t->open[++t->depth] = here;
    return true;
}

static int by_key(const void *a, const void *b)
{
    return strcmp((*(struct mf_node *const *)a)->key, (*(struct mf_node *const *)b)->key);
}

/* Refuses an object that has a key twice: two readers would read it differently. */
static bool check_keys(struct mf_fhir_tree *t, const struct mf_node *object, struct mf_error *err)
{
    bool twice = false;
    if (object->count <= FEW_MEMBERS) {
        for (const struct mf_node *a = object->first; a; a = a->next)
            for (const struct mf_node *b = a->next; b; b = b->next)
                twice |= a->key[0] == b->key[0] && strcmp(a->key, b->key) == 0;
    } else {
        const size_t item = sizeof(const struct mf_node *);
        const struct mf_node **sorted = allocate(t, object->count * item, err);
        size_t n = 0;
        if (!sorted)
            return false;
        for (const struct mf_node *a = object->first; a; a = a->next)
            sorted[n++] = a;
        qsort(sorted, n, item, by_key);
        for (size_t i = 1; i < n; i++)
            twice |= strcmp(sorted[i - 1]->key, sorted[i]->key) == 0;
    }
    return !twice || mf_error_set(err, MF_ERR_MALFORMED,
                                  "%s: a JSON object has the same key twice (line %zu)",
                                  mf_json_scan_where(t->scan), mf_json_scan_line(t->scan));
}

/* --- handing over --- */

/* The path of a resource of the document itself is its type. */
static bool hand_over(struct mf_fhir_tree *t, const struct mf_node *resource, const char *full_url,
                      const struct open *at, struct mf_error *err)
{
    const struct mf_node *id = mf_node_get(resource, "id");
    const char *type = mf_node_string(resource, "resourceType", NULL);
    struct mf_error cause = MF_ERROR_INIT;
    if (!type)
        return malformed(t, NO_RESOURCE, err);
    bool bundle = strcmp(type, "Bundle") == 0;
    if (!*t->path)
        snprintf(t->path, sizeof t->path, "%.64s", type);
    if (id && id->kind != MF_NODE_STRING) {
        extend_path(t, ".id", 0);
        return malformed(t, "must be a string", err);
    }
    const struct mf_node *entries = bundle ? mf_node_get(resource, "entry") : NULL;
    if (entries && entries->kind != MF_NODE_LIST) {
        extend_path(t, ".entry", 0);
        return malformed(t, "must be a list", err);
    }
    if (at->has_resources && !bundle)
        return malformed(t, "has entries with resources, and is no Bundle", err);
    const struct mf_fhir_place place = {t->path, full_url, at->ordinal};
    return bundle || t->take(t->context, resource, &place, &cause) || named(t, &cause, err);
}

/* An item of Bundle.entry is whole. A Bundle in it has been walked already, and is handed over
 * only to be checked. */
static bool take_entry(struct mf_fhir_tree *t, const struct open *entry, struct mf_error *err)
{
    const struct mf_node *resource = mf_node_get(entry->node, "resource");
    const struct mf_node *url = mf_node_get(entry->node, "fullUrl");
    size_t len = strlen(t->path);
    if (url && url->kind != MF_NODE_STRING) {
        extend_path(t, ".fullUrl", 0);
        return malformed(t, "must be a string", err);
    }
    if (!resource)
        return true;
    extend_path(t, ".resource", 0);
    if (resource->kind != MF_NODE_OBJECT)
        return malformed(t, NO_RESOURCE, err);
    bool ok = hand_over(t, resource, url ? url->text : NULL, entry, err);
    t->path[len] = '\0';
    t->open[t->depth - 1].has_resources = true;
    return ok;
}

static bool on_close(void *context, struct mf_error *err)
{
    struct mf_fhir_tree *t = context;
    struct open here = t->open[t->depth--];
    bool ok = here.node->kind != MF_NODE_OBJECT || check_keys(t, here.node, err);
    if (here.role == RESOURCE && t->depth > 0) {
        top(t)->ordinal = here.ordinal;
        top(t)->has_resources = here.has_resources;
    }
    if (ok && here.role == ENTRY)
        ok = take_entry(t, &here, err);
    else if (ok && t->depth == 0)
        ok = here.role == RESOURCE ? hand_over(t, here.node, NULL, &here, err)
                                   : malformed(t, NO_RESOURCE, err);
    if (!ok)
        return false;
    if (here.role == ENTRY || t->depth == 0)
        mf_arena_rewind(t->arena, &here.mark);
    t->path[here.path_len] = '\0';
    return true;
}

/* --- values --- */

/* A scalar where only an object can be: the document itself, an item of Bundle.entry. */
static bool scalar_allowed(struct mf_fhir_tree *t, struct mf_error *err)
{
    if (t->depth == 0) {
        t->total++;
        return malformed(t, NO_RESOURCE, err);
    }
    return top(t)->role != ENTRIES || malformed(t, "must be a list of objects", err);
}

static const char *copy(struct mf_fhir_tree *t, const char *bytes, size_t len, struct mf_error *err)
{
    char *s = allocate(t, len + 1, err);
    if (s && len)
        memcpy(s, bytes, len);
    return s;
}

static bool on_text(void *context, bool key, const char *bytes, size_t len, bool last,
                    struct mf_error *err)
{
    struct mf_fhir_tree *t = context;
    bool whole = last && t->text_total == 0 && len <= MAX_STRING;
    t->text_total += len;
    if (!whole && t->text_total <= MAX_STRING && !mf_buffer_append(&t->text, bytes, len, err))
        return false;
    if (!last)
        return true;
    bool too_long = t->text_total > MAX_STRING;
    const char *s = "";
    if (!too_long)
        s = whole ? copy(t, bytes, len, err) : copy(t, t->text.data, t->text.len, err);
    t->text_total = 0;
    mf_buffer_clear(&t->text);
    if (!s)
        return false;
    if (key) {
        t->key = s;
        return !too_long || malformed(t, "has a key of more than 1 MiB", err);
    }
    struct mf_node *node = scalar_allowed(t, err) ? add_node(t, MF_NODE_STRING, err) : NULL;
    if (node && !too_long)
        node->text = s;
    return node != NULL;
}

static bool on_number(void *context, const char *text, struct mf_error *err)
{
    struct mf_fhir_tree *t = context;
    struct mf_node *node = scalar_allowed(t, err) ? add_node(t, MF_NODE_NUMBER, err) : NULL;
    return node && (node->text = copy(t, text, strlen(text), err)) != NULL;
}

static bool on_literal(void *context, enum mf_json_literal value, struct mf_error *err)
{
    struct mf_fhir_tree *t = context;
    enum mf_node_kind kind = value == MF_JSON_TRUE    ? MF_NODE_TRUE
                             : value == MF_JSON_FALSE ? MF_NODE_FALSE
                                                      : MF_NODE_NULL;
    return scalar_allowed(t, err) && add_node(t, kind, err);
}

/* --- the whole --- */

struct mf_fhir_tree *mf_fhir_tree_new(const struct mf_fhir_tree_limits *limits, const char *name,
                                      mf_fhir_take_resource take, void *context,
                                      struct mf_error *err)
{
    static const struct mf_json_events EVENTS = {on_open, on_close, on_text, on_number, on_literal};
    struct mf_fhir_tree *t = calloc(1, sizeof *t);
    if (t) {
        t->limits = *limits;
        t->take = take;
        t->context = context;
        mf_buffer_init(&t->text, MAX_STRING + 1);
        t->arena = mf_arena_new(limits->resource_bytes);
        t->scan = mf_json_scan_new(&EVENTS, t, limits->max_depth, name);
    }
    if (!t || !t->arena || !t->scan) {
        mf_fhir_tree_free(t);
        mf_error_set(err, MF_ERR_NO_MEMORY, "%s: out of memory", name);
        return NULL;
    }
    return t;
}

void mf_fhir_tree_free(struct mf_fhir_tree *t)
{
    if (!t)
        return;
    mf_json_scan_free(t->scan);
    mf_arena_free(t->arena);
    mf_buffer_free(&t->text);
    free(t);
}

bool mf_fhir_tree_feed(struct mf_fhir_tree *t, const char *bytes, size_t len, struct mf_error *err)
{
    return mf_json_scan_feed(t->scan, bytes, len, err);
}

bool mf_fhir_tree_finish(struct mf_fhir_tree *t, struct mf_error *err)
{
    return mf_json_scan_finish(t->scan, err);
}
