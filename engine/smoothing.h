/*
 * Smoothing factors: what makes products in 8 bits trustworthy where some channels dwarf the
 * others. A row of activations shares one step, so a channel a hundred times larger than the rest
 * leaves the rest a hundred times coarser. SmoothQuant (arXiv 2211.10438) divides column j of a
 * layer's input by a factor and multiplies column j of its weights by it,
 *
 *     factor j = max|x j|^alpha / max|w j|^(1 − alpha),
 *
 * which changes nothing but rounding. max|x| is seen while calibration studies go through the
 * network in fp32; factors are kept beside the weights (smoothing.safetensors, models/FORMAT.md).
 */
#ifndef MF_ENGINE_SMOOTHING_H
#define MF_ENGINE_SMOOTHING_H

#include "core/auto.h"
#include "core/error.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mf_smoothing;
struct mf_observer; /* engine/exec.h */
struct mf_bundle;

/* How much of the difference between columns moves into the weights, unless said otherwise. */
#define MF_SMOOTHING_ALPHA 0.5

/* An empty collection, for one engine or context at a time. */
struct mf_smoothing *mf_smoothing_new(struct mf_error *err) MF_CHECK_RESULT;
void mf_smoothing_free(struct mf_smoothing *smoothing);

/* What a context is watched with (mf_exec.observer); lives as long as the collection. */
const struct mf_observer *mf_smoothing_observer(struct mf_smoothing *smoothing);
/* Layers made from now on belong to this section (a module of a bundle); 0 at first. */
void mf_smoothing_section(struct mf_smoothing *smoothing, size_t section);

/* How many layers of a section have been seen at work. */
size_t mf_smoothing_count(const struct mf_smoothing *smoothing, size_t section);
/* Writes the factors of a section's layers to a file; alpha from 0 to 1. */
bool mf_smoothing_write(const struct mf_smoothing *smoothing, size_t section, double alpha,
                        const char *path, struct mf_error *err);

/* A complete, unsigned copy of `bundle` in the new or empty directory `out`, with the factors of
 * every module (sections as in the bundle's engine) and a fresh manifest. The factors are part of
 * the model hash: guarantees that were calibrated before do not hold for the copy. */
bool mf_bundle_write_smoothed(const struct mf_bundle *bundle, const struct mf_smoothing *smoothing,
                              double alpha, const char *out, struct mf_error *err);

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_smoothing, struct mf_smoothing *, mf_smoothing_free(*p))

#endif
