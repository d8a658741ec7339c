/* Module directories: config.json, one safetensors file or shards, names with and without a prefix.
 */
#include "engine/weights.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_SHARDS = 256, PATH_BYTES = 1024 };

struct mf_weights {
    char *dir;
    char prefix[64];
    json_t *config;
    struct mf_safetensors *files[MAX_SHARDS];
    size_t file_count;
    struct mf_safetensors *smoothing; /* NULL: none */
};

/* What Hugging Face puts before the names when a model is part of another (with a head). */
static const struct {
    const char *model_type, *prefix;
} PREFIXES[] = {
    {"dinov2", "dinov2."},  {"dinov2_with_registers", "dinov2_with_registers."},
    {"vit", "vit."},        {"sam2_vision_model", "vision_encoder."},
    {"sam2", "sam2."},      {"sam2_video", "sam2."},
    {"mamba", "backbone."},
};

static void choose_prefix(struct mf_weights *w)
{
    const char *type = mf_json_get_string(w->config, "model_type", "");
    bool temporal = json_object_get(w->config, "vision_hidden_size") != NULL; /* a bundle's own */
    for (size_t i = 0; !temporal && i < sizeof PREFIXES / sizeof *PREFIXES; i++)
        if (strcmp(PREFIXES[i].model_type, type) == 0)
            mf_weights_set_prefix(w, PREFIXES[i].prefix);
}

static bool exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0;
}

static bool make_path(char out[PATH_BYTES], const char *dir, const char *name, struct mf_error *err)
{
    int n = snprintf(out, PATH_BYTES, "%s/%s", dir, name);
    return (n > 0 && n < PATH_BYTES) ||
           mf_error_set(err, MF_ERR_MODEL, "the path of %s is too long", name);
}

/* A JSON file of the directory; anything but a regular file (a pipe would hang) is refused. */
static json_t *read_json(const char *path, struct mf_error *err)
{
    struct stat st;
    if (stat(path, &st) == 0 && S_ISREG(st.st_mode))
        return mf_json_read_file(path, NULL, err);
    mf_error_set(err, MF_ERR_MODEL, "%s: cannot be read as a file", path);
    return NULL;
}

/* A shard's name must be a plain file name: "weight_map" may not lead out of the directory. */
static bool is_basename(const char *name)
{
    return name && *name && *name != '.' && !strchr(name, '/') && strlen(name) < 200;
}

static bool add_file(struct mf_weights *w, const char *path, struct mf_error *err)
{
    if (w->file_count == MAX_SHARDS)
        return mf_error_set(err, MF_ERR_MODEL, "more than %d shards", MAX_SHARDS);
    struct mf_safetensors *file = mf_safetensors_open(path, err);
    if (!file)
        return false;
    w->files[w->file_count++] = file;
    return true;
}

static bool open_shards(struct mf_weights *w, const json_t *map, struct mf_error *err)
{
    const char *names[MAX_SHARDS], *tensor;
    json_t *value;
    size_t tensors = 0;
    json_object_foreach((json_t *)map, tensor, value)
    {
        const char *name = json_string_value(value);
        if (!is_basename(name))
            return mf_error_set(err, MF_ERR_MODEL,
                                "weight_map: a shard's name must be a file name without a path");
        size_t i = 0;
        while (i < w->file_count && strcmp(names[i], name) != 0)
            i++;
        if (i == w->file_count) {
            char path[PATH_BYTES];
            names[i < MAX_SHARDS ? i : MAX_SHARDS - 1] = name;
            if (!make_path(path, w->dir, name, err) || !add_file(w, path, err))
                return false;
        }
        if (!mf_safetensors_find(w->files[i], tensor))
            return mf_error_set(err, MF_ERR_MODEL, "weight_map: %s has no tensor \"%.80s\"", name,
                                tensor);
    }
    for (size_t i = 0; i < w->file_count; i++)
        tensors += mf_safetensors_count(w->files[i]);
    if (tensors != json_object_size(map))
        return mf_error_set(err, MF_ERR_MODEL, "the shards hold %zu tensors, weight_map names %zu",
                            tensors, json_object_size(map));
    return true;
}

static bool open_tensors(struct mf_weights *w, struct mf_error *err)
{
    char path[PATH_BYTES];
    if (!make_path(path, w->dir, "model.safetensors", err))
        return false;
    if (exists(path))
        return add_file(w, path, err);
    if (!make_path(path, w->dir, "model.safetensors.index.json", err))
        return false;
    if (!exists(path))
        return mf_error_set(err, MF_ERR_MODEL, "%s: no model.safetensors", w->dir);
    MF_AUTO(mf_json) json_t *index = read_json(path, err);
    if (!index)
        return false;
    json_t *map = mf_json_need_object(index, "weight_map", err);
    return (map && open_shards(w, map, err)) || mf_error_prefix(err, "%s", path);
}

/* Every factor is a number above 0. */
static bool check_factors(const struct mf_tensor *t, struct mf_error *err)
{
    bool ok = t->dtype == MF_DTYPE_F32 && t->rank == 1;
    for (size_t i = 0; ok && i < t->count; i++) {
        float f;
        memcpy(&f, (const float *)t->data + i, sizeof f);
        ok = f > 0 && isfinite(f);
    }
    return ok || mf_error_set(err, MF_ERR_MODEL,
                              "\"%.100s\" must be a vector of F32 numbers above 0", t->name);
}

static bool open_smoothing(struct mf_weights *w, struct mf_error *err)
{
    char path[PATH_BYTES];
    if (!make_path(path, w->dir, "smoothing.safetensors", err))
        return false;
    if (!exists(path))
        return true;
    w->smoothing = mf_safetensors_open(path, err);
    for (size_t i = 0; w->smoothing && i < mf_safetensors_count(w->smoothing); i++)
        if (!check_factors(mf_safetensors_at(w->smoothing, i), err))
            return mf_error_prefix(err, "%s", path);
    return w->smoothing != NULL;
}

struct mf_weights *mf_weights_open(const char *dir, struct mf_error *err)
{
    MF_AUTO(mf_weights) struct mf_weights *w = calloc(1, sizeof *w);
    char path[PATH_BYTES];
    if (!w || !(w->dir = strdup(dir))) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
        return NULL;
    }
    if (!make_path(path, dir, "config.json", err))
        return NULL;
    w->config = read_json(path, err);
    if (!w->config)
        return NULL;
    if (!json_is_object(w->config)) {
        mf_error_set(err, MF_ERR_MODEL, "%s: must be an object", path);
        return NULL;
    }
    choose_prefix(w);
    return open_tensors(w, err) && open_smoothing(w, err) ? MF_STEAL(w) : NULL;
}

struct mf_weights *mf_weights_from(json_t *config, struct mf_safetensors *file, const char *name,
                                   struct mf_error *err)
{
    MF_AUTO(mf_weights) struct mf_weights *w = calloc(1, sizeof *w);
    if (!w || !(w->dir = strdup(name))) {
        mf_safetensors_free(file);
        json_decref(config);
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
        return NULL;
    }
    w->config = config;
    w->files[w->file_count++] = file;
    return MF_STEAL(w);
}

void mf_weights_free(struct mf_weights *w)
{
    if (!w)
        return;
    for (size_t i = 0; i < w->file_count; i++)
        mf_safetensors_free(w->files[i]);
    mf_safetensors_free(w->smoothing);
    json_decref(w->config);
    free(w->dir);
    free(w);
}

const json_t *mf_weights_config(const struct mf_weights *w)
{
    return w->config;
}

const char *mf_weights_directory(const struct mf_weights *w)
{
    return w->dir;
}

void mf_weights_set_prefix(struct mf_weights *w, const char *prefix)
{
    snprintf(w->prefix, sizeof w->prefix, "%s", prefix ? prefix : "");
}

static const struct mf_tensor *find_exact(const struct mf_weights *w, const char *name)
{
    for (size_t i = 0; i < w->file_count; i++) {
        const struct mf_tensor *t = mf_safetensors_find(w->files[i], name);
        if (t)
            return t;
    }
    return NULL;
}

const struct mf_tensor *mf_weights_find(const struct mf_weights *w, const char *name)
{
    const struct mf_tensor *t = find_exact(w, name);
    if (t || !*w->prefix)
        return t;
    char longer[320];
    snprintf(longer, sizeof longer, "%s%s", w->prefix, name);
    return find_exact(w, longer);
}

size_t mf_weights_tensors(const struct mf_weights *w, const struct mf_tensor **ret, size_t room)
{
    size_t n = 0;
    for (size_t i = 0; i < w->file_count; i++)
        for (size_t k = 0; k < mf_safetensors_count(w->files[i]); k++, n++)
            if (n < room)
                ret[n] = mf_safetensors_at(w->files[i], k);
    return n;
}

size_t mf_weights_parameters(const struct mf_weights *w)
{
    size_t n = 0;
    for (size_t i = 0; i < w->file_count; i++)
        for (size_t k = 0; k < mf_safetensors_count(w->files[i]); k++)
            n += mf_safetensors_at(w->files[i], k)->count;
    return n;
}

const struct mf_tensor *mf_weights_smoothing(const struct mf_weights *w, const char *layer)
{
    return w->smoothing ? mf_safetensors_find(w->smoothing, layer) : NULL;
}

size_t mf_weights_smoothings(const struct mf_weights *w, const struct mf_tensor **ret, size_t room)
{
    size_t n = w->smoothing ? mf_safetensors_count(w->smoothing) : 0;
    for (size_t i = 0; i < n && i < room; i++)
        ret[i] = mf_safetensors_at(w->smoothing, i);
    return n;
}

void mf_weights_forget(const struct mf_weights *w)
{
    for (size_t i = 0; i < w->file_count; i++)
        mf_safetensors_forget(w->files[i]);
}

void mf_weights_forget_tensor(const struct mf_weights *w, const struct mf_tensor *tensor)
{
    for (size_t i = 0; i < w->file_count; i++)
        mf_safetensors_forget_tensor(w->files[i], tensor);
}
