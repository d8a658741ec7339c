/* JSON: jansson behind size, depth and duplicate-key limits. */
#include "core/json.h"

#include "core/buffer.h"

#include <math.h>
#include <string.h>

enum { DEFAULT_BYTES = 16 << 20, DEFAULT_DEPTH = 64 };

/* Walks the text once, outside strings, without recursion; only the depth is judged here. */
static bool depth_within(const char *text, size_t len, int max_depth)
{
    int depth = 0;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (c == '"') {
            for (i++; i < len && text[i] != '"'; i++)
                if (text[i] == '\\')
                    i++;
        } else if (c == '{' || c == '[') {
            if (++depth > max_depth)
                return false;
        } else if (c == '}' || c == ']') {
            depth--;
        }
    }
    return true;
}

json_t *mf_json_parse(const char *text, size_t len, const struct mf_json_limits *limits,
                      const char *name, struct mf_error *err)
{
    size_t max_bytes = limits && limits->max_bytes ? limits->max_bytes : DEFAULT_BYTES;
    int max_depth = limits && limits->max_depth ? limits->max_depth : DEFAULT_DEPTH;
    if (len > max_bytes) {
        mf_error_set(err, MF_ERR_TOO_LARGE, "%s: %zu bytes of JSON, at most %zu are accepted", name,
                     len, max_bytes);
        return NULL;
    }
    if (!depth_within(text, len, max_depth)) {
        mf_error_set(err, MF_ERR_MALFORMED, "%s: JSON is nested deeper than %d levels", name,
                     max_depth);
        return NULL;
    }
    json_error_t detail;
    json_t *value = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &detail);
    /* jansson's own text quotes the input near the error, which may be patient data: leave it out.
     */
    if (!value)
        mf_error_set(err,
                     json_error_code(&detail) == json_error_out_of_memory ? MF_ERR_NO_MEMORY
                                                                          : MF_ERR_MALFORMED,
                     json_error_code(&detail) == json_error_duplicate_key
                         ? "%s: a JSON object has the same key twice (line %d, column %d)"
                         : "%s: not valid JSON (line %d, column %d)",
                     name, detail.line, detail.column);
    return value;
}

json_t *mf_json_read_file(const char *path, const struct mf_json_limits *limits,
                          struct mf_error *err)
{
    MF_AUTO(mf_buffer) struct mf_buffer text;
    mf_buffer_init(&text, limits && limits->max_bytes ? limits->max_bytes : DEFAULT_BYTES);
    if (!mf_buffer_read_file(&text, path, err))
        return NULL;
    return mf_json_parse(text.data ? text.data : "", text.len, limits, path, err);
}

const char *mf_json_get_string(const json_t *object, const char *key, const char *fallback)
{
    const char *s = json_string_value(json_object_get(object, key));
    return s ? s : fallback;
}

double mf_json_get_number(const json_t *object, const char *key, double fallback)
{
    const json_t *v = json_object_get(object, key);
    return json_is_number(v) ? json_number_value(v) : fallback;
}

bool mf_json_numbers(const json_t *list, size_t n, double *ret)
{
    if (!json_is_array(list) || json_array_size(list) != n)
        return false;
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_array_get(list, i);
        if (!json_is_number(v)) /* which in JSON are all finite */
            return false;
        ret[i] = json_number_value(v);
    }
    return true;
}

json_int_t mf_json_get_int(const json_t *object, const char *key, json_int_t fallback)
{
    const json_t *v = json_object_get(object, key);
    return json_is_integer(v) ? json_integer_value(v) : fallback;
}

bool mf_json_get_bool(const json_t *object, const char *key, bool fallback)
{
    const json_t *v = json_object_get(object, key);
    return json_is_boolean(v) ? json_is_true(v) : fallback;
}

const char *mf_json_need_string(const json_t *object, const char *key, struct mf_error *err)
{
    const char *s = json_string_value(json_object_get(object, key));
    if (!s)
        mf_error_set(err, MF_ERR_MALFORMED, "\"%s\" must be a string", key);
    return s;
}

bool mf_json_need_number(const json_t *object, const char *key, double *ret, struct mf_error *err)
{
    const json_t *v = json_object_get(object, key);
    if (!json_is_number(v))
        return mf_error_set(err, MF_ERR_MALFORMED, "\"%s\" must be a number", key);
    *ret = json_number_value(v);
    return true;
}

bool mf_json_need_int(const json_t *object, const char *key, json_int_t min, json_int_t max,
                      json_int_t *ret, struct mf_error *err)
{
    const json_t *v = json_object_get(object, key);
    if (!json_is_integer(v) || json_integer_value(v) < min || json_integer_value(v) > max)
        return mf_error_set(err, MF_ERR_MALFORMED,
                            "\"%s\" must be a whole number from %lld to %lld", key, (long long)min,
                            (long long)max);
    *ret = json_integer_value(v);
    return true;
}

json_t *mf_json_need_object(const json_t *object, const char *key, struct mf_error *err)
{
    json_t *v = json_object_get(object, key);
    if (!json_is_object(v)) {
        mf_error_set(err, MF_ERR_MALFORMED, "\"%s\" must be an object", key);
        return NULL;
    }
    return v;
}

json_t *mf_json_need_array(const json_t *object, const char *key, struct mf_error *err)
{
    json_t *v = json_object_get(object, key);
    if (!json_is_array(v)) {
        mf_error_set(err, MF_ERR_MALFORMED, "\"%s\" must be an array", key);
        return NULL;
    }
    return v;
}

bool mf_json_only_keys(const json_t *object, const char *const keys[], const char *name,
                       enum mf_code code, struct mf_error *err)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value)
    {
        const char *const *k = keys;
        while (*k && strcmp(*k, key) != 0)
            k++;
        if (!*k)
            return mf_error_set(err, code, "%s: unknown key \"%.60s\"", name, key);
    }
    return true;
}

json_t *mf_json_real(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

json_t *mf_json_string(const char *s)
{
    return s ? json_string(s) : json_null();
}
