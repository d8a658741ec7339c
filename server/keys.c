/* Idempotency keys under way: a short list, one entry for each upload with a key. */
#include "server/keys.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct entry {
    struct entry *next;
    const char *key; /* behind the tenant */
    char tenant[];
};

struct mf_keys {
    pthread_mutex_t lock;
    struct entry *entries;
};

struct mf_keys *mf_keys_new(struct mf_error *err)
{
    struct mf_keys *keys = calloc(1, sizeof *keys);
    if (keys)
        pthread_mutex_init(&keys->lock, NULL);
    else
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for idempotency keys");
    return keys;
}

void mf_keys_free(struct mf_keys *keys)
{
    if (!keys)
        return;
    while (keys->entries) {
        struct entry *next = keys->entries->next;
        free(keys->entries);
        keys->entries = next;
    }
    pthread_mutex_destroy(&keys->lock);
    free(keys);
}

static bool valid(const char *key)
{
    size_t len = strlen(key);
    for (size_t i = 0; i < len; i++)
        if (key[i] <= ' ' || key[i] > '~')
            return false;
    return len > 0 && len <= MF_IDEMPOTENCY_KEY;
}

static struct entry **find(struct mf_keys *keys, const char *tenant, const char *key)
{
    struct entry **link = &keys->entries;
    while (*link && (strcmp((*link)->tenant, tenant) != 0 || strcmp((*link)->key, key) != 0))
        link = &(*link)->next;
    return link;
}

bool mf_keys_reserve(struct mf_keys *keys, const char *tenant, const char *key,
                     struct mf_error *err)
{
    if (!valid(key))
        return mf_error_set(err, MF_ERR_MALFORMED,
                            "Idempotency-Key must be 1 to %d visible ASCII characters",
                            MF_IDEMPOTENCY_KEY);
    size_t tenant_size = strlen(tenant) + 1, key_size = strlen(key) + 1;
    struct entry *e = malloc(sizeof *e + tenant_size + key_size);
    if (!e)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for an idempotency key");
    memcpy(e->tenant, tenant, tenant_size);
    e->key = memcpy(e->tenant + tenant_size, key, key_size);
    pthread_mutex_lock(&keys->lock);
    bool taken = *find(keys, tenant, key) != NULL;
    if (!taken) {
        e->next = keys->entries;
        keys->entries = e;
    }
    pthread_mutex_unlock(&keys->lock);
    if (!taken)
        return true;
    free(e);
    return mf_error_set(err, MF_ERR_CONFLICT,
                        "a request with this Idempotency-Key is still being processed");
}

void mf_keys_release(struct mf_keys *keys, const char *tenant, const char *key)
{
    pthread_mutex_lock(&keys->lock);
    struct entry **link = find(keys, tenant, key);
    struct entry *e = *link;
    if (e)
        *link = e->next;
    pthread_mutex_unlock(&keys->lock);
    free(e);
}
