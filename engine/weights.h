/*
 * The directory of one module: config.json and its tensors, from model.safetensors or from the
 * shards that model.safetensors.index.json names, and smoothing.safetensors if it is there. Names
 * are looked up with and without a model prefix.
 *
 * The loader turns tensors into what a network keeps on its device. It is also the validator: a
 * network's constructor asks for every tensor that its configuration implies, by name and shape,
 * and mf_loader_finish() refuses whatever was not asked for. With a NULL `exec` it only checks.
 */
#ifndef MF_ENGINE_WEIGHTS_H
#define MF_ENGINE_WEIGHTS_H

#include "core/arena.h"
#include "core/json.h"
#include "engine/exec.h"
#include "engine/safetensors.h"

struct mf_weights;

/* Opens a directory and checks its files' structure; what the tensors hold is not looked at yet. */
struct mf_weights *mf_weights_open(const char *dir, struct mf_error *err) MF_CHECK_RESULT;
/* The same from a configuration and a file in memory; takes both, also on failure. `name` stands
 * for the directory in messages. */
struct mf_weights *mf_weights_from(json_t *config, struct mf_safetensors *file, const char *name,
                                   struct mf_error *err) MF_CHECK_RESULT;
void mf_weights_free(struct mf_weights *weights);
MF_AUTO_DEFINE(mf_weights, struct mf_weights *, mf_weights_free(*p))

const json_t *mf_weights_config(const struct mf_weights *weights);
const char *mf_weights_directory(const struct mf_weights *weights);
/* A prefix that names may have in the file ("dinov2."); mf_weights_open() has set the one that
 * Hugging Face uses for the model_type. */
void mf_weights_set_prefix(struct mf_weights *weights, const char *prefix);
/* The tensor with this name, with or without the prefix; NULL when there is none. */
const struct mf_tensor *mf_weights_find(const struct mf_weights *weights, const char *name);
/* All tensors of all shards: fills up to `room` pointers and returns how many there are. */
size_t mf_weights_tensors(const struct mf_weights *weights, const struct mf_tensor **ret,
                          size_t room);
size_t mf_weights_parameters(const struct mf_weights *weights);
/* Factors of the columns of layers' inputs (smoothing.safetensors, models/FORMAT.md), where the
 * directory has them: the vector for a layer of this name, or NULL; and all of them. */
const struct mf_tensor *mf_weights_smoothing(const struct mf_weights *weights, const char *layer);
size_t mf_weights_smoothings(const struct mf_weights *weights, const struct mf_tensor **ret,
                             size_t room);
/* Lets the kernel drop the pages of all tensors, or of one, until they are touched again. */
void mf_weights_forget(const struct mf_weights *weights);
void mf_weights_forget_tensor(const struct mf_weights *weights, const struct mf_tensor *tensor);

struct mf_loader {
    struct mf_weights *weights;
    struct mf_exec *exec;   /* NULL: check only */
    struct mf_arena *arena; /* the network's structs */
    struct mf_error *err;
    bool failed, few_rows;          /* few_rows: of the linear layers loaded now (exec.h) */
    char path[160];                 /* prefix of the names asked for */
    char section[64];               /* prefix of the configuration's keys ("vision_config.") */
    const struct mf_tensor **taken; /* what was asked for; in the arena */
    size_t taken_count, taken_room;
};

/* Begins loading; everything allocated goes into `arena`. */
void mf_loader_init(struct mf_loader *ld, struct mf_weights *weights, struct mf_exec *exec,
                    struct mf_arena *arena, struct mf_error *err);
/* What the layers loaded from now on keep at least; nothing where there is no context. */
void mf_loader_precision(struct mf_loader *ld, enum mf_precision least);
/* Appends to the name prefix and returns the length to go back to with mf_loader_leave(). */
size_t mf_loader_enter(struct mf_loader *ld, const char *fmt, ...) MF_PRINTF(2, 3);
void mf_loader_leave(struct mf_loader *ld, size_t mark);
/* The part of config.json that keys are looked up in: "vision_config." or "" for the whole. */
void mf_loader_section(struct mf_loader *ld, const char *section);
/* Whether the current path has a tensor of this name: for the parts that a file may leave out. */
bool mf_loader_has(const struct mf_loader *ld, const char *name);
/* Every tensor must have been asked for, except names that begin with one of `ignored`
 * (NULL-terminated, or NULL). */
bool mf_loader_finish(struct mf_loader *ld, const char *const *ignored);
/* Records an error about the module (sticky). Always false. */
bool mf_loader_fail(struct mf_loader *ld, const char *fmt, ...) MF_PRINTF(2, 3);

/* A whole number of config.json (dotted key, "vision_config.fpn_hidden_size") within [min, max]. A
 * negative `fallback` means that it must be there. */
size_t mf_loader_int(struct mf_loader *ld, const char *key, long long min, long long max,
                     long long fallback);
double mf_loader_real(struct mf_loader *ld, const char *key, double fallback);
bool mf_loader_bool(struct mf_loader *ld, const char *key, bool fallback);
/* `count` entries of an array of whole numbers, or one number for all. */
void mf_loader_ints(struct mf_loader *ld, const char *key, long long min, long long max,
                    size_t count, size_t *ret);
const json_t *mf_loader_config(struct mf_loader *ld, const char *key);
/* Zeroed memory of the network's arena; NULL after a failure. */
void *mf_loader_alloc(struct mf_loader *ld, size_t n, size_t size);

/* The tensor with the current path before `name`, of this shape, or NULL after an error. What it
 * holds is not looked at. */
const struct mf_tensor *mf_loader_take(struct mf_loader *ld, const char *name, int rank,
                                       const size_t *shape);
/* Host copy of a tensor as float; the shape must match (rank sizes follow). NULL on failure. In
 * check-only mode the content is checked and zeros are returned. Lives in the arena. */
float *mf_load_host(struct mf_loader *ld, const char *name, int rank, ...);
/* The same on the device. */
const float *mf_load_vector(struct mf_loader *ld, const char *name, size_t n);
const float *mf_load_matrix(struct mf_loader *ld, const char *name, size_t rows, size_t cols);
const float *mf_load_upload(struct mf_loader *ld, const float *host, size_t n);

/* Linear layers: `name`.weight (out, in) and `name`.bias (out) where `bias`. Several names are
 * stacked along `out` (QKV in one product). `scale` (host, out floats, or NULL) multiplies the
 * output (LayerScale folded in). */
struct mf_linear *mf_load_linear(struct mf_loader *ld, const char *name, size_t out, size_t in,
                                 bool bias);
struct mf_linear *mf_load_linear_scaled(struct mf_loader *ld, const char *name, size_t out,
                                        size_t in, bool bias, const float *scale);
struct mf_linear *mf_load_linears(struct mf_loader *ld, const char *const *names, size_t count,
                                  size_t out, size_t in, bool bias);
/* Conv2d `name` (out, in, kh, kw) as the linear layer that follows mf_unfold(); `channels_last`
 * says in which order the unfolded columns come: (ky, kx, c) or (c, ky, kx). */
struct mf_linear *mf_load_conv(struct mf_loader *ld, const char *name, size_t out, size_t in,
                               size_t kh, size_t kw, bool channels_last);
/* ConvTranspose2d with kernel 2 and stride 2, `name` (in, out, 2, 2), as a linear layer in → (ky,
 * kx, out). */
struct mf_linear *mf_load_upconv(struct mf_loader *ld, const char *name, size_t out, size_t in);

struct mf_norm mf_load_norm(struct mf_loader *ld, const char *name, size_t width, double eps);
struct mf_norm mf_load_rms_norm(struct mf_loader *ld, const char *name, size_t width, double eps);

#endif
