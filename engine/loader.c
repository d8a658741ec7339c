/* The loader: tensors by name and shape, configuration values within bounds, everything accounted
 * for. Linear layers: loader_linear.c. */
#include "engine/weights.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void mf_loader_init(struct mf_loader *ld, struct mf_weights *weights, struct mf_exec *exec,
                    struct mf_arena *arena, struct mf_error *err)
{
    *ld = (struct mf_loader){.weights = weights, .exec = exec, .arena = arena, .err = err};
    ld->taken_room = mf_weights_tensors(weights, NULL, 0) + mf_weights_smoothings(weights, NULL, 0);
    ld->taken = mf_loader_alloc(ld, ld->taken_room + 1, sizeof(void *));
}

bool mf_loader_fail(struct mf_loader *ld, const char *fmt, ...)
{
    if (ld->failed)
        return false;
    ld->failed = true;
    va_list ap;
    va_start(ap, fmt);
    mf_error_vset(ld->err, MF_ERR_MODEL, fmt, ap);
    va_end(ap);
    return mf_error_prefix(ld->err, "%s", mf_weights_directory(ld->weights));
}

void *mf_loader_alloc(struct mf_loader *ld, size_t n, size_t size)
{
    void *p = ld->failed ? NULL : mf_arena_alloc(ld->arena, n, size, ld->err);
    ld->failed |= !p;
    return p;
}

void mf_loader_precision(struct mf_loader *ld, enum mf_precision least)
{
    if (ld->exec)
        mf_exec_precision(ld->exec, least);
}

size_t mf_loader_enter(struct mf_loader *ld, const char *fmt, ...)
{
    size_t mark = strlen(ld->path);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(ld->path + mark, sizeof ld->path - mark, fmt, ap);
    va_end(ap);
    return mark;
}

void mf_loader_leave(struct mf_loader *ld, size_t mark)
{
    ld->path[mark] = '\0';
}

void mf_loader_section(struct mf_loader *ld, const char *section)
{
    snprintf(ld->section, sizeof ld->section, "%s", section);
}

bool mf_loader_has(const struct mf_loader *ld, const char *name)
{
    char full[256];
    snprintf(full, sizeof full, "%s%s", ld->path, name);
    return mf_weights_find(ld->weights, full) != NULL;
}

static int compare_pointers(const void *a, const void *b)
{
    const struct mf_tensor *x = *(const struct mf_tensor *const *)a;
    const struct mf_tensor *y = *(const struct mf_tensor *const *)b;
    return x < y ? -1 : x > y;
}

static bool is_ignored(const char *name, const char *const *ignored)
{
    for (; ignored && *ignored; ignored++)
        if (strncmp(name, *ignored, strlen(*ignored)) == 0)
            return true;
    return false;
}

bool mf_loader_finish(struct mf_loader *ld, const char *const *ignored)
{
    if (ld->failed)
        return false;
    size_t n = mf_weights_tensors(ld->weights, NULL, 0);
    size_t smoothed = mf_weights_smoothings(ld->weights, NULL, 0);
    const struct mf_tensor **all = mf_loader_alloc(ld, n + smoothed + 1, sizeof(void *));
    if (!all)
        return false;
    mf_weights_tensors(ld->weights, all, n);
    mf_weights_smoothings(ld->weights, all + n, smoothed);
    qsort(ld->taken, ld->taken_count, sizeof(void *), compare_pointers);
    for (size_t i = 0; i < n + smoothed; i++)
        if (!bsearch(&all[i], ld->taken, ld->taken_count, sizeof(void *), compare_pointers) &&
            !is_ignored(all[i]->name, ignored))
            return mf_loader_fail(ld,
                                  i < n ? "tensor \"%.100s\" does not belong to this model"
                                        : "smoothing.safetensors: \"%.100s\" is no layer of this "
                                          "model",
                                  all[i]->name);
    return true;
}

/* The member of `value` that a dotted key names. */
static const json_t *walk(const json_t *value, const char *key)
{
    while (value && *key) {
        char part[64];
        size_t n = strcspn(key, ".");
        snprintf(part, sizeof part, "%.*s", (int)n, key);
        value = json_object_get(value, part);
        key += n + (key[n] == '.');
    }
    return value;
}

const json_t *mf_loader_config(struct mf_loader *ld, const char *key)
{
    return walk(walk(mf_weights_config(ld->weights), ld->section), key);
}

size_t mf_loader_int(struct mf_loader *ld, const char *key, long long min, long long max,
                     long long fallback)
{
    const json_t *v = mf_loader_config(ld, key);
    if ((!v || json_is_null(v)) && fallback >= 0)
        return (size_t)fallback;
    long long value = json_is_integer(v) ? json_integer_value(v)
                      : json_is_real(v) && fabs(json_real_value(v)) < 1e9
                          ? (long long)json_real_value(v)
                          : -1;
    if (!json_is_number(v) || value < min || value > max) {
        mf_loader_fail(ld, "config.json: \"%s%s\" must be a whole number from %lld to %lld",
                       ld->section, key, min, max);
        return (size_t)min;
    }
    return (size_t)value;
}

double mf_loader_real(struct mf_loader *ld, const char *key, double fallback)
{
    const json_t *v = mf_loader_config(ld, key);
    if (!v || json_is_null(v))
        return fallback;
    if (!json_is_number(v) || !isfinite(json_number_value(v))) {
        mf_loader_fail(ld, "config.json: \"%s%s\" must be a number", ld->section, key);
        return fallback;
    }
    return json_number_value(v);
}

bool mf_loader_bool(struct mf_loader *ld, const char *key, bool fallback)
{
    const json_t *v = mf_loader_config(ld, key);
    if (!v || json_is_null(v))
        return fallback;
    if (!json_is_boolean(v))
        mf_loader_fail(ld, "config.json: \"%s%s\" must be true or false", ld->section, key);
    return json_is_true(v);
}

void mf_loader_ints(struct mf_loader *ld, const char *key, long long min, long long max,
                    size_t count, size_t *ret)
{
    const json_t *v = mf_loader_config(ld, key);
    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_is_array(v) ? json_array_get(v, i) : v;
        bool fits = json_is_integer(item) && json_integer_value(item) >= min &&
                    json_integer_value(item) <= max;
        if (!fits || (json_is_array(v) && json_array_size(v) != count))
            mf_loader_fail(ld, "config.json: \"%s%s\" must be %zu whole numbers from %lld to %lld",
                           ld->section, key, count, min, max);
        ret[i] = fits ? (size_t)json_integer_value(item) : (size_t)min;
    }
}

const struct mf_tensor *mf_loader_take(struct mf_loader *ld, const char *name, int rank,
                                       const size_t *shape)
{
    if (ld->failed)
        return NULL;
    char full[256], wanted[96], found[96];
    snprintf(full, sizeof full, "%s%s", ld->path, name);
    const struct mf_tensor *t = mf_weights_find(ld->weights, full);
    if (!t) {
        mf_loader_fail(ld, "tensor \"%s\" is missing", full);
        return NULL;
    }
    if (t->rank != rank || memcmp(t->shape, shape, (size_t)rank * sizeof *shape) != 0) {
        mf_loader_fail(ld, "tensor \"%s\" has shape %s, %s is expected", full,
                       mf_shape_text(t->shape, t->rank, found), mf_shape_text(shape, rank, wanted));
        return NULL;
    }
    if (t->dtype != MF_DTYPE_F32 && t->dtype != MF_DTYPE_F16 && t->dtype != MF_DTYPE_BF16) {
        mf_loader_fail(ld, "tensor \"%s\" is %s, weights must be F32, F16 or BF16", full,
                       mf_dtype_name(t->dtype));
        return NULL;
    }
    for (size_t i = ld->taken_count; i-- > 0;)
        if (ld->taken[i] == t) /* asked for twice, usually in a row */
            return t;
    if (ld->taken_count < ld->taken_room)
        ld->taken[ld->taken_count++] = t;
    return t;
}

static const struct mf_tensor *take_finite(struct mf_loader *ld, const char *name, int rank,
                                           const size_t *shape)
{
    const struct mf_tensor *t = mf_loader_take(ld, name, rank, shape);
    if (!t || mf_tensor_is_finite(t))
        return t;
    mf_loader_fail(ld, "tensor \"%s%s\" holds a NaN or an infinity", ld->path, name);
    return NULL;
}

float *mf_load_host(struct mf_loader *ld, const char *name, int rank, ...)
{
    size_t shape[MF_TENSOR_RANK];
    va_list ap;
    va_start(ap, rank);
    for (int i = 0; i < rank; i++)
        shape[i] = va_arg(ap, size_t);
    va_end(ap);
    const struct mf_tensor *t = take_finite(ld, name, rank, shape);
    float *host = t ? mf_loader_alloc(ld, t->count, sizeof *host) : NULL;
    if (host && ld->exec)
        mf_tensor_to_floats(t, host);
    return host;
}

const float *mf_load_upload(struct mf_loader *ld, const float *host, size_t n)
{
    if (ld->failed || !ld->exec)
        return NULL;
    const float *p = mf_exec_keep(ld->exec, host, n, ld->err);
    ld->failed |= !p;
    return p;
}

static const float *load_device(struct mf_loader *ld, const char *name, int rank,
                                const size_t *shape)
{
    const struct mf_tensor *t = take_finite(ld, name, rank, shape);
    if (!t || !ld->exec)
        return NULL;
    MF_AUTO(mf_mem) float *host = malloc((t->count + 1) * sizeof *host);
    if (!host) {
        mf_loader_fail(ld, "out of memory for tensor \"%s\"", name);
        return NULL;
    }
    mf_tensor_to_floats(t, host);
    return mf_load_upload(ld, host, t->count);
}

const float *mf_load_vector(struct mf_loader *ld, const char *name, size_t n)
{
    return load_device(ld, name, 1, &n);
}

const float *mf_load_matrix(struct mf_loader *ld, const char *name, size_t rows, size_t cols)
{
    size_t shape[2] = {rows, cols};
    return load_device(ld, name, 2, shape);
}

struct mf_norm mf_load_norm(struct mf_loader *ld, const char *name, size_t width, double eps)
{
    struct mf_norm norm = {.width = width, .eps = (float)eps};
    size_t mark = mf_loader_enter(ld, "%s.", name);
    norm.weight = mf_load_vector(ld, "weight", width);
    norm.bias = mf_load_vector(ld, "bias", width);
    mf_loader_leave(ld, mark);
    return norm;
}

struct mf_norm mf_load_rms_norm(struct mf_loader *ld, const char *name, size_t width, double eps)
{
    struct mf_norm norm = {.width = width, .eps = (float)eps};
    size_t mark = mf_loader_enter(ld, "%s.", name);
    norm.weight = mf_load_vector(ld, "weight", width);
    mf_loader_leave(ld, mark);
    return norm;
}
