/* A hash map from strings to numbers, and a pool of strings on top of it. Not for other modules. */
#ifndef MF_FHIR_MAP_H
#define MF_FHIR_MAP_H

#include "core/arena.h"

#include <stdint.h>

struct mf_fhir_map {
    struct mf_fhir_map_slot {
        const char *key; /* NULL = free */
        uint32_t hash;
        int32_t number;
    } * slots; /* owned; a power of two of them */
    size_t capacity, count;
};

void mf_fhir_map_free(struct mf_fhir_map *map);

/* The number of a key, or `fallback`. */
int32_t mf_fhir_map_get(const struct mf_fhir_map *map, const char *key, int32_t fallback);
/* Sets it; the key is borrowed and must outlive the map. MF_ERR_NO_MEMORY. */
bool mf_fhir_map_set(struct mf_fhir_map *map, const char *key, int32_t number,
                     struct mf_error *err) MF_CHECK_RESULT;

/* The one copy of a string in the arena; NULL for NULL, and when memory ran out (with an error). */
const char *mf_fhir_intern(struct mf_fhir_map *pool, struct mf_arena *arena, const char *s,
                           struct mf_error *err);

#endif
