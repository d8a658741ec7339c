/*
 * The JSON of one resource at a time, as a tree in memory that is used again for the next one.
 *
 * A document is walked once, from front to back: the entries of a Bundle
 * (http://hl7.org/fhir/R4/bundle.html), also of Bundles inside Bundles, and the lines of NDJSON are
 * handed over one by one and forgotten, so a document may be larger than memory as long as each
 * resource is not. Not for other modules.
 */
#ifndef MF_FHIR_TREE_H
#define MF_FHIR_TREE_H

#include "core/arena.h"
#include "core/json_scan.h"

#include <stdint.h>

enum mf_node_kind {
    MF_NODE_NULL,
    MF_NODE_FALSE,
    MF_NODE_TRUE,
    MF_NODE_NUMBER,
    MF_NODE_STRING,
    MF_NODE_LIST,
    MF_NODE_OBJECT
};

struct mf_node {
    const char *key;  /* of a member; NULL for items */
    const char *text; /* a string, or a number as written; NULL for a string beyond 1 MiB, which
                         nothing here reads */
    struct mf_node *first, *last, *next; /* members or items in their order; the next sibling */
    enum mf_node_kind kind;
    uint32_t count; /* members or items */
};

/* A member by its key; NULL when there is none, or `object` is no object (or NULL). */
const struct mf_node *mf_node_get(const struct mf_node *object, const char *key);
/* The text of a string member, or the fallback. */
const char *mf_node_string(const struct mf_node *object, const char *key, const char *fallback);
/* A member that is an object or list with something in it, else NULL: its first child. */
const struct mf_node *mf_node_children(const struct mf_node *object, const char *key);
/* The value of a number node. */
double mf_node_number(const struct mf_node *number);

/* Where a resource lies: "Bundle.entry[2].resource", or its type when it is not in a Bundle. */
struct mf_fhir_place {
    const char *path;
    const char *full_url; /* Bundle.entry.fullUrl, or NULL */
    size_t ordinal;       /* counted over the document from 1, Bundles included */
};

/* Takes one resource: an object with a resourceType, never a Bundle. What it points to is gone
 * afterwards. */
typedef bool (*mf_fhir_take_resource)(void *context, const struct mf_node *resource,
                                      const struct mf_fhir_place *place, struct mf_error *err);

struct mf_fhir_tree_limits {
    int max_depth;         /* of arrays and objects */
    size_t max_resources;  /* those of the document itself */
    size_t resource_bytes; /* memory for one resource's tree */
};

struct mf_fhir_tree;

struct mf_fhir_tree *mf_fhir_tree_new(const struct mf_fhir_tree_limits *limits, const char *name,
                                      mf_fhir_take_resource take, void *context,
                                      struct mf_error *err) MF_CHECK_RESULT;
void mf_fhir_tree_free(struct mf_fhir_tree *tree);

/* The document, piece by piece, and its end. Messages begin with the name, for NDJSON also the
 * line. */
bool mf_fhir_tree_feed(struct mf_fhir_tree *tree, const char *bytes, size_t len,
                       struct mf_error *err) MF_CHECK_RESULT;
bool mf_fhir_tree_finish(struct mf_fhir_tree *tree, struct mf_error *err) MF_CHECK_RESULT;

/* Counts a resource that the caller found inside another (contained); MF_ERR_TOO_LARGE beyond the
 * limit. */
bool mf_fhir_tree_count(struct mf_fhir_tree *tree, struct mf_error *err) MF_CHECK_RESULT;
size_t mf_fhir_tree_total(const struct mf_fhir_tree *tree);

MF_AUTO_DEFINE(mf_fhir_tree, struct mf_fhir_tree *, mf_fhir_tree_free(*p))

#endif
