/*
 * Model registry: the bundles a process serves.
 *
 * The front opens them for their description only (labels, what they accept, features), the worker
 * to run them. Two bundles of the same name are refused. A bundle is chosen by `options.model`,
 * else it is the only one that accepts the study.
 */
#ifndef MF_SERVER_REGISTRY_H
#define MF_SERVER_REGISTRY_H

#include "core/auto.h"
#include "core/error.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mf_registry;
struct mf_bundle;    /* engine/bundle.h */
struct mf_engine;    /* engine/engine.h: a bundle loaded on a device */
struct mf_smoothing; /* engine/smoothing.h */

/* How a registry's models are run. */
struct mf_registry_device {
    const char *device;  /* "cpu", "cuda:N", or NULL: the first GPU that works, else the CPU */
    unsigned threads;    /* of the CPU backend; 0 = all cores this process may use */
    const char *dtype;   /* "f32", "bf16", "int8", "fp8"; NULL = f32 */
    const char *kernels; /* "own", "cudnn", "auto" (engine/engine.h); NULL = auto */
    const int *weights;  /* memory files, one a directory (engine/weight_store.h); NULL = private */
    struct mf_smoothing *smoothing; /* of the only model's engine (engine/engine.h); NULL = none */
};

/* Opens every bundle directory and checks it (manifest, hashes, shapes). `device` NULL =
 * description only: no weights are touched. The message of a failure names the directory. */
struct mf_registry *mf_registry_open(const char *const directories[], size_t count,
                                     const struct mf_registry_device *device, struct mf_error *err);
void mf_registry_free(struct mf_registry *registry);

/* One model, as lists and health checks need it. All strings live as long as the registry. */
struct mf_model_info {
    const char *name, *version, *digest, *model_hash;
    const char *device, *dtype; /* NULL in a description-only registry */
};

size_t mf_registry_count(const struct mf_registry *registry);
void mf_registry_info(const struct mf_registry *registry, size_t i, struct mf_model_info *ret);
const struct mf_bundle *mf_registry_bundle(const struct mf_registry *registry, size_t i);
struct mf_engine *mf_registry_engine(struct mf_registry *registry,
                                     size_t i); /* NULL: description only */

/* Index of the bundle with this name, or -1. */
long mf_registry_find(const struct mf_registry *registry, const char *name);

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_registry, struct mf_registry *, mf_registry_free(*p))

#endif
