/*
 * JSON: a fence around jansson for untrusted text, and the few accessors everyone needs.
 *
 * jansson alone accepts duplicate keys, 2048 levels and takes 20 to 80 times the text in memory;
 * here the size and the depth are checked before a tree is built, and duplicates are refused.
 */
#ifndef MF_CORE_JSON_H
#define MF_CORE_JSON_H

#include "core/auto.h"
#include "core/error.h"

#include <jansson.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mf_json_limits {
    size_t max_bytes; /* 0 = 16 MiB */
    int max_depth;    /* 0 = 64 levels of arrays and objects */
};

/* Parses one JSON value (RFC 8259, UTF-8). MF_ERR_TOO_LARGE over max_bytes, else MF_ERR_MALFORMED
 * with line and column. `name` names the input in the message. The caller owns the reference. */
json_t *mf_json_parse(const char *text, size_t len, const struct mf_json_limits *limits,
                      const char *name, struct mf_error *err) MF_CHECK_RESULT;
json_t *mf_json_read_file(const char *path, const struct mf_json_limits *limits,
                          struct mf_error *err) MF_CHECK_RESULT;

/* Compact text with keys in insertion order and real numbers with 9 significant digits (enough to
 * give a float32 back exactly); the caller frees it. NULL when out of memory. `indent` 0 = one
 * line. */
char *mf_json_text(const json_t *value, int indent);

/* Typed members. `get` returns the fallback when the member is absent or null; another type is also
 * the fallback (use `need` for input that must be right). */
const char *mf_json_get_string(const json_t *object, const char *key, const char *fallback);
double mf_json_get_number(const json_t *object, const char *key, double fallback);

/* The numbers of an array that has exactly `n` elements and nothing else in it. */
bool mf_json_numbers(const json_t *list, size_t n, double *ret);
json_int_t mf_json_get_int(const json_t *object, const char *key, json_int_t fallback);
bool mf_json_get_bool(const json_t *object, const char *key, bool fallback);

/* Members that must be present with the right type; MF_ERR_MALFORMED names the key. */
const char *mf_json_need_string(const json_t *object, const char *key, struct mf_error *err);
bool mf_json_need_number(const json_t *object, const char *key, double *ret, struct mf_error *err);
bool mf_json_need_int(const json_t *object, const char *key, json_int_t min, json_int_t max,
                      json_int_t *ret, struct mf_error *err);
json_t *mf_json_need_object(const json_t *object, const char *key, struct mf_error *err);
json_t *mf_json_need_array(const json_t *object, const char *key, struct mf_error *err);

/* Refuses members whose key is not in the NULL-terminated list, naming the first one. */
bool mf_json_only_keys(const json_t *object, const char *const keys[], const char *name,
                       enum mf_code code, struct mf_error *err);

/* A JSON number, or null for NaN and infinities. A JSON string, or null for NULL. */
json_t *mf_json_real(double value);
json_t *mf_json_string(const char *s);

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_json, json_t *, json_decref(*p))

#endif
