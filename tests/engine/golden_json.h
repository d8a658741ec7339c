/* Numbers out of a golden JSON file of tests/engine/data. */
#ifndef MF_TESTS_ENGINE_GOLDEN_JSON_H
#define MF_TESTS_ENGINE_GOLDEN_JSON_H

#include "core/json.h"

#include <stdio.h>
#include <stdlib.h>

static inline json_t *golden_read(const char *name)
{
    char path[512];
    snprintf(path, sizeof path, MF_SOURCE_DIR "/tests/engine/data/%s", name);
    return mf_json_read_file(path, NULL, NULL);
}

static inline double golden_at(const json_t *list, size_t i)
{
    const json_t *v = json_array_get(list, i);
    if (!json_is_number(v)) {
        fprintf(stderr, "the golden file lacks a number\n");
        abort();
    }
    return json_number_value(v);
}

static inline double golden(const json_t *object, const char *key, size_t i)
{
    return golden_at(json_object_get(object, key), i);
}

/* Row i, column k of a list of lists. */
static inline double golden2(const json_t *object, const char *key, size_t i, size_t k)
{
    return golden_at(json_array_get(json_object_get(object, key), i), k);
}

#endif
