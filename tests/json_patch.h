/* Changing one value of a JSON document by its path, for tests of what readers refuse. */
#ifndef MF_TESTS_JSON_PATCH_H
#define MF_TESTS_JSON_PATCH_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Sets the value at `path` ("labels/0/id", numbers being places in arrays) to the JSON text
 * `value`, or removes it when that is NULL; false when there is no such place. */
static inline bool json_patch(json_t *root, const char *path, const char *value)
{
    char part[64];
    for (json_t *at = root; at;) {
        size_t n = strcspn(path, "/");
        bool last = path[n] == '\0';
        snprintf(part, sizeof part, "%.*s", (int)n, path);
        path += n + !last;
        size_t index = strtoul(part, NULL, 10);
        if (!last) {
            at = json_is_array(at) ? json_array_get(at, index) : json_object_get(at, part);
            continue;
        }
        json_t *new = value ? json_loads(value, JSON_DECODE_ANY, NULL) : NULL;
        if (value && !new)
            return false;
        if (json_is_array(at))
            return (new ? json_array_set_new(at, index, new) : json_array_remove(at, index)) == 0;
        return (new ? json_object_set_new(at, part, new) : json_object_del(at, part)) == 0;
    }
    return false;
}

typedef void json_changed(const json_t *root, void *context);

/* Calls `changed` with the document as it is after each change of one value: to another type, to
 * another number or text, or removed. Below `at`, which is `root` or inside it. */
static inline void json_change_each(json_t *root, json_t *at, json_changed *changed, void *context)
{
    static const char *const VALUES[] = {"null",  "true", "-1", "0.25",     "1e300",
                                         "\"x\"", "[]",   "{}", "[null,1]", "100000"};
    json_t *copy = json_deep_copy(at), *value;
    const char *key;
    size_t index;
    json_object_foreach(copy, key, value)
    {
        json_change_each(root, json_object_get(at, key), changed, context);
        for (size_t i = 0; i < sizeof VALUES / sizeof *VALUES; i++) {
            json_object_set_new(at, key, json_loads(VALUES[i], JSON_DECODE_ANY, NULL));
            changed(root, context);
        }
        json_object_del(at, key);
        changed(root, context);
        json_object_set_new(at, key, json_deep_copy(value));
    }
    if (json_is_array(copy))
        json_array_foreach(copy, index, value)
        {
            json_change_each(root, json_array_get(at, index), changed, context);
            for (size_t i = 0; i < sizeof VALUES / sizeof *VALUES; i++) {
                json_array_set_new(at, index, json_loads(VALUES[i], JSON_DECODE_ANY, NULL));
                changed(root, context);
            }
            json_array_set_new(at, index, json_deep_copy(value));
        }
    json_decref(copy);
}

#endif
