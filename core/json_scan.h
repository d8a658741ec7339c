/*
 * A JSON scanner (RFC 8259) that is fed bytes as they come and tells what they mean, one event at a
 * time: for documents that are larger than the memory they may take.
 *
 * It holds no text: strings are handed on in pieces as they are read (unescaped UTF-8), so one
 * string of 20 MB costs nothing here. Several values may follow each other when a line break
 * separates them (NDJSON). Strict where jansson is: UTF-8 is checked, U+0000, lone surrogates and
 * control characters are refused, the depth is limited. Duplicate keys are the reader's business.
 */
#ifndef MF_CORE_JSON_SCAN_H
#define MF_CORE_JSON_SCAN_H

#include "core/auto.h"
#include "core/error.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

enum mf_json_literal { MF_JSON_NULL, MF_JSON_FALSE, MF_JSON_TRUE };

/* All are needed; returning false stops the scan with the error they set. */
struct mf_json_events {
    bool (*open)(void *context, bool object, struct mf_error *err);
    bool (*close)(void *context, struct mf_error *err);
    /* A piece of a key or string value; `last` ends it. Pieces may be empty and are not
     * NUL-terminated. */
    bool (*text)(void *context, bool key, const char *bytes, size_t len, bool last,
                 struct mf_error *err);
    /* A number as it is written, checked against the grammar. */
    bool (*number)(void *context, const char *text, struct mf_error *err);
    bool (*literal)(void *context, enum mf_json_literal value, struct mf_error *err);
};

struct mf_json_scan;

/* `events` and `context` are borrowed; `name` names the input in messages and is copied;
 * max_depth 0 = 64 levels, at most 512. NULL when out of memory. */
struct mf_json_scan *mf_json_scan_new(const struct mf_json_events *events, void *context,
                                      int max_depth, const char *name);
void mf_json_scan_free(struct mf_json_scan *scan);

/* The next bytes. MF_ERR_MALFORMED with line and column, or what an event set. */
bool mf_json_scan_feed(struct mf_json_scan *scan, const char *bytes, size_t len,
                       struct mf_error *err) MF_CHECK_RESULT;
/* The end of the input: a value must be whole, and there must be at least one. */
bool mf_json_scan_finish(struct mf_json_scan *scan, struct mf_error *err) MF_CHECK_RESULT;

/* Where the scan is, for messages: the line (from 1) and the values that are complete. */
size_t mf_json_scan_line(const struct mf_json_scan *scan);
size_t mf_json_scan_values(const struct mf_json_scan *scan);
/* "NAME" for a document of one value, "NAME: line N" from the second value on. */
const char *mf_json_scan_where(struct mf_json_scan *scan);

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_json_scan, struct mf_json_scan *, mf_json_scan_free(*p))

#endif
