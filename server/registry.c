/* Model registry: see registry.h. */
#include "server/registry.h"

#include "engine/bundle.h"
#include "engine/engine.h"

#include <stdlib.h>
#include <string.h>

struct entry {
    struct mf_bundle *bundle;
    struct mf_engine *engine; /* NULL: description only */
};

struct mf_registry {
    size_t count;
    struct entry entries[];
};

static bool open_entry(struct mf_registry *r, const char *directory,
                       const struct mf_registry_device *device, struct mf_error *err)
{
    struct entry *e = &r->entries[r->count++];
    e->bundle = mf_bundle_open(directory, device ? MF_BUNDLE_FULL : MF_BUNDLE_METADATA, err);
    if (!e->bundle)
        return false;
    for (size_t i = 0; i + 1 < r->count; i++)
        if (strcmp(mf_bundle_name(r->entries[i].bundle), mf_bundle_name(e->bundle)) == 0)
            return mf_error_set(err, MF_ERR_MODEL, "%s: another bundle is also named %s", directory,
                                mf_bundle_name(e->bundle));
    if (!device)
        return true;
    const struct mf_engine_options options = {
        .device = device->device,
        .threads = (int)device->threads,
        .dtype = device->dtype,
        .kernels = device->kernels,
        .smoothing = device->smoothing,
        .weights_fd = device->weights ? device->weights[r->count - 1] : 0};
    e->engine = mf_engine_new(e->bundle, &options, err);
    return e->engine && mf_engine_rehearse(e->engine, err);
}

struct mf_registry *mf_registry_open(const char *const directories[], size_t count,
                                     const struct mf_registry_device *device, struct mf_error *err)
{
    struct mf_registry *r = calloc(1, sizeof *r + count * sizeof r->entries[0]);
    if (!r) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
        return NULL;
    }
    for (size_t i = 0; i < count; i++)
        if (!open_entry(r, directories[i], device, err)) {
            if (err && !strstr(err->msg, directories[i]))
                mf_error_prefix(err, "model %s", directories[i]);
            mf_registry_free(r);
            return NULL;
        }
    return r;
}

void mf_registry_free(struct mf_registry *r)
{
    if (!r)
        return;
    for (size_t i = 0; i < r->count; i++) {
        mf_engine_free(r->entries[i].engine);
        mf_bundle_free(r->entries[i].bundle);
    }
    free(r);
}

size_t mf_registry_count(const struct mf_registry *r)
{
    return r->count;
}

void mf_registry_info(const struct mf_registry *r, size_t i, struct mf_model_info *ret)
{
    const struct entry *e = &r->entries[i];
    *ret = (struct mf_model_info){.name = mf_bundle_name(e->bundle),
                                  .version = mf_bundle_version(e->bundle),
                                  .digest = mf_bundle_digest(e->bundle),
                                  .model_hash = mf_bundle_model_hash(e->bundle)};
    if (e->engine) {
        ret->device = mf_engine_device(e->engine);
        ret->dtype = mf_engine_dtype(e->engine);
    }
}

const struct mf_bundle *mf_registry_bundle(const struct mf_registry *r, size_t i)
{
    return r->entries[i].bundle;
}

struct mf_engine *mf_registry_engine(struct mf_registry *r, size_t i)
{
    return r->entries[i].engine;
}

long mf_registry_find(const struct mf_registry *r, const char *name)
{
    for (size_t i = 0; i < r->count; i++)
        if (strcmp(mf_bundle_name(r->entries[i].bundle), name) == 0)
            return (long)i;
    return -1;
}
