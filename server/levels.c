/* Levels of adaptive conformal inference: see levels.h. */
#include "server/levels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_STATES = 64, STATE_BYTES = 4 << 20 };

/* The step of a level; 0.005 lets it follow a shift within some hundred feedbacks and keeps its own
 * noise small. */
static const double GAMMA = 0.005;

struct entry {
    char tenant[MF_TENANT], name[MF_STATE_KEY];
    struct mf_aci *aci;
};

struct mf_levels {
    struct entry entries[MAX_STATES];
    size_t count;
};

void mf_levels_name(const struct mf_levels_key *key, char ret[MF_STATE_KEY])
{
    snprintf(ret, MF_STATE_KEY, "aci/%s/%.17g/%s", key->model_hash, key->alpha, key->site);
}

/* *ret stays NULL when there is nothing newer than version `known`. */
static bool fetch(struct mf_store *store, const char *tenant, const char *name, int64_t known,
                  struct mf_aci **ret, struct mf_error *err)
{
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(STATE_BYTES);
    const char *text = NULL;
    int64_t version = 0;
    if (!arena)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the levels");
    if (!mf_store_state(store, tenant, name, known, arena, &text, &version, err))
        return false;
    if (!text)
        return true;
    MF_AUTO(mf_json) json_t *json = mf_json_parse(text, strlen(text), NULL, "levels", err);
    *ret = json ? mf_aci_from_json(json, err) : NULL;
    return *ret != NULL;
}

static struct mf_aci *first(const struct mf_levels_key *key, struct mf_error *err)
{
    return mf_aci_new(key->site, key->model_hash, key->labels, key->label_count, key->alpha, GAMMA,
                      err);
}

struct mf_aci *mf_levels_load(struct mf_store *store, const struct mf_levels_key *key,
                              struct mf_error *err)
{
    char name[MF_STATE_KEY];
    struct mf_aci *aci = NULL;
    mf_levels_name(key, name);
    if (!fetch(store, key->tenant, name, 0, &aci, err))
        return NULL;
    return aci ? aci : first(key, err);
}

/* --- in memory --- */

struct mf_levels *mf_levels_new(struct mf_error *err)
{
    struct mf_levels *levels = calloc(1, sizeof *levels);
    if (!levels)
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the levels");
    return levels;
}

void mf_levels_free(struct mf_levels *levels)
{
    for (size_t i = 0; levels && i < levels->count; i++)
        mf_aci_free(levels->entries[i].aci);
    free(levels);
}

/* The entry of that state; a new one has no levels yet. The oldest makes room. */
static struct entry *find_entry(struct mf_levels *levels, const char *tenant, const char *name)
{
    for (size_t i = 0; i < levels->count; i++)
        if (strcmp(levels->entries[i].name, name) == 0 &&
            strcmp(levels->entries[i].tenant, tenant) == 0)
            return &levels->entries[i];
    if (levels->count == MAX_STATES) {
        mf_aci_free(levels->entries[0].aci);
        memmove(levels->entries, levels->entries + 1, --levels->count * sizeof *levels->entries);
    }
    struct entry *e = &levels->entries[levels->count++];
    memset(e, 0, sizeof *e);
    snprintf(e->tenant, sizeof e->tenant, "%s", tenant);
    snprintf(e->name, sizeof e->name, "%s", name);
    return e;
}

static struct mf_aci *first_of(const struct mf_bundle *bundle, struct mf_levels_key *key,
                               struct mf_error *err)
{
    size_t n = mf_bundle_label_count(bundle);
    const struct mf_label *labels = mf_bundle_labels(bundle);
    MF_AUTO(mf_mem) const char **ids = calloc(n, sizeof *ids);
    if (!ids) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the levels");
        return NULL;
    }
    for (size_t i = 0; i < n; i++)
        ids[i] = labels[i].id;
    key->labels = ids;
    key->label_count = n;
    return first(key, err);
}

const struct mf_aci *mf_levels_get(struct mf_levels *levels, struct mf_store *store,
                                   const char *tenant, const struct mf_bundle *bundle,
                                   const char *site, double alpha, struct mf_error *err)
{
    char name[MF_STATE_KEY];
    struct mf_levels_key key = {tenant, mf_bundle_model_hash(bundle), site, alpha, NULL, 0};
    mf_levels_name(&key, name);
    struct entry *e = find_entry(levels, tenant, name);
    struct mf_aci *newer = NULL;
    if (!fetch(store, tenant, name, e->aci ? (int64_t)mf_aci_version(e->aci) : 0, &newer, err))
        return NULL;
    if (!newer && !e->aci && !(newer = first_of(bundle, &key, err)))
        return NULL;
    if (newer) {
        mf_aci_free(e->aci);
        e->aci = newer;
    }
    return e->aci;
}
