/* Changing one value of a JSON document by its path, for tests of what readers refuse. */
#ifndef MF_TESTS_ENGINE_JSON_PATCH_H
#define MF_TESTS_ENGINE_JSON_PATCH_H

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

#endif
