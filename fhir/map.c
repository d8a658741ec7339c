/* Open addressing with linear probing, at most two thirds full; FNV-1a with a seed of the process,
 * so that the keys of a hostile document do not collide on purpose. */
#include "fhir/map.h"

#include <string.h>

static uint32_t hash_of(const char *key)
{
    static const char anchor;
    uint64_t h = UINT64_C(14695981039346656037) ^ (uintptr_t)&anchor; /* where we were loaded */
    for (; *key; key++)
        h = (h ^ (unsigned char)*key) * UINT64_C(1099511628211);
    return (uint32_t)(h ^ h >> 32);
}

void mf_fhir_map_free(struct mf_fhir_map *map)
{
    free(map->slots);
    *map = (struct mf_fhir_map){0};
}

/* The slot of a key, or the free one where it belongs. There is always a free one. */
static struct mf_fhir_map_slot *find(const struct mf_fhir_map *map, const char *key, uint32_t hash)
{
    size_t i = hash & (map->capacity - 1);
    while (map->slots[i].key && (map->slots[i].hash != hash || strcmp(map->slots[i].key, key) != 0))
        i = (i + 1) & (map->capacity - 1);
    return &map->slots[i];
}

static bool grow(struct mf_fhir_map *map, struct mf_error *err)
{
    struct mf_fhir_map bigger = {.capacity = map->capacity ? 2 * map->capacity : 64,
                                 .count = map->count};
    bigger.slots = calloc(bigger.capacity, sizeof *bigger.slots);
    if (!bigger.slots)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    for (size_t i = 0; i < map->capacity; i++)
        if (map->slots[i].key)
            *find(&bigger, map->slots[i].key, map->slots[i].hash) = map->slots[i];
    free(map->slots);
    *map = bigger;
    return true;
}

int32_t mf_fhir_map_get(const struct mf_fhir_map *map, const char *key, int32_t fallback)
{
    const struct mf_fhir_map_slot *slot = map->capacity ? find(map, key, hash_of(key)) : NULL;
    return slot && slot->key ? slot->number : fallback;
}

bool mf_fhir_map_set(struct mf_fhir_map *map, const char *key, int32_t number, struct mf_error *err)
{
    uint32_t hash = hash_of(key);
    if (3 * (map->count + 1) > 2 * map->capacity && !grow(map, err))
        return false;
    struct mf_fhir_map_slot *slot = find(map, key, hash);
    map->count += !slot->key;
    *slot = (struct mf_fhir_map_slot){slot->key ? slot->key : key, hash, number};
    return true;
}

const char *mf_fhir_intern(struct mf_fhir_map *pool, struct mf_arena *arena, const char *s,
                           struct mf_error *err)
{
    if (!s)
        return NULL;
    const struct mf_fhir_map_slot *slot = pool->capacity ? find(pool, s, hash_of(s)) : NULL;
    if (slot && slot->key)
        return slot->key;
    const char *copy = mf_arena_strdup(arena, s, err);
    return copy && mf_fhir_map_set(pool, copy, 0, err) ? copy : NULL;
}
