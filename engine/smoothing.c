/* Smoothing factors: see smoothing.h. */
#include "engine/smoothing.h"

#include "engine/exec.h"
#include "engine/safetensors.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_BYTES = 280 };

struct layer {
    struct layer *next;
    const struct mf_linear *linear;
    char *name;
    size_t section, in;
    bool seen;
    float *x, *weight; /* largest magnitude of each column */
};

struct mf_smoothing {
    struct layer *layers;
    size_t section;
    struct mf_observer observer;
    float *rows; /* host copy of an input */
    size_t room;
};

static void layer_free(struct layer *l)
{
    free(l->name);
    free(l->x);
    free(l->weight);
    free(l);
}

/* max[j] = max(max[j], |rows[·][j]|) */
static void take_columns(const float *rows, size_t m, size_t row, size_t n, float *max)
{
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            float x = fabsf(rows[i * row + j]);
            max[j] = x > max[j] ? x : max[j];
        }
}

static bool take_weights(struct layer *l, const struct mf_linear_source *source)
{
    MF_AUTO(mf_mem) float *room = malloc(source->in * sizeof *room);
    l->name = strdup(source->name);
    l->x = calloc(l->in, sizeof *l->x);
    l->weight = calloc(l->in, sizeof *l->weight);
    if (!room || !l->name || !l->x || !l->weight)
        return false;
    for (size_t i = 0; i < source->out; i++)
        take_columns(source->rows(source, i, 1, room), 1, 0, l->in, l->weight);
    return true;
}

static bool see_layer(void *arg, const struct mf_linear *linear,
                      const struct mf_linear_source *source, struct mf_error *err)
{
    struct mf_smoothing *s = arg;
    struct layer *l = calloc(1, sizeof *l);
    if (!l)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for smoothing factors");
    l->linear = linear;
    l->section = s->section;
    l->in = source->in;
    if (!take_weights(l, source)) {
        layer_free(l);
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for smoothing factors");
    }
    l->next = s->layers;
    s->layers = l;
    return true;
}

static void see_input(void *arg, struct mf_exec *x, const struct mf_linear *linear, const float *in,
                      size_t m, size_t in_row)
{
    struct mf_smoothing *s = arg;
    struct layer *l = s->layers;
    while (l && l->linear != linear)
        l = l->next;
    if (!l)
        return;
    size_t row = in_row ? in_row : l->in, n = (m - 1) * row + l->in;
    if (n > s->room) {
        float *grown = realloc(s->rows, n * sizeof *grown);
        if (!grown) {
            mf_exec_fail(x, MF_ERR_NO_MEMORY, "out of memory for smoothing factors");
            return;
        }
        s->rows = grown;
        s->room = n;
    }
    MF_DO(x, download, s->rows, in, n);
    take_columns(s->rows, m, row, l->in, l->x);
    l->seen = true;
}

struct mf_smoothing *mf_smoothing_new(struct mf_error *err)
{
    struct mf_smoothing *s = calloc(1, sizeof *s);
    if (!s) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
        return NULL;
    }
    s->observer = (struct mf_observer){see_layer, see_input, s};
    return s;
}

void mf_smoothing_free(struct mf_smoothing *s)
{
    if (!s)
        return;
    for (struct layer *l = s->layers, *next; l; l = next) {
        next = l->next;
        layer_free(l);
    }
    free(s->rows);
    free(s);
}

const struct mf_observer *mf_smoothing_observer(struct mf_smoothing *s)
{
    return &s->observer;
}

void mf_smoothing_section(struct mf_smoothing *s, size_t section)
{
    s->section = section;
}

static bool belongs(const struct layer *l, size_t section)
{
    return l->seen && l->section == section;
}

size_t mf_smoothing_count(const struct mf_smoothing *s, size_t section)
{
    size_t n = 0;
    for (const struct layer *l = s->layers; l; l = l->next)
        n += belongs(l, section);
    return n;
}

static double mean(const float *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += x[i];
    return sum / (double)n;
}

/* A column that calibration studies left almost empty must not count for nothing in other studies,
 * nor an empty column of weights be taken for a number to divide by: neither falls below a
 * hundredth of the mean. */
static void make_factors(const struct layer *l, double alpha, float *factors)
{
    double x_least = 0.01 * mean(l->x, l->in), w_least = 0.01 * mean(l->weight, l->in);
    for (size_t j = 0; j < l->in; j++) {
        double x = fmax(l->x[j], x_least), w = fmax(l->weight[j], w_least);
        double f = x > 0 && w > 0 ? pow(x, alpha) / pow(w, 1 - alpha) : 1;
        factors[j] = (float)f;
    }
}

/* Of all columns; above 0, as every number of the file. */
static float largest(const struct layer *l)
{
    float most = FLT_MIN;
    for (size_t j = 0; j < l->in; j++)
        most = fmaxf(most, l->x[j]);
    return most;
}

bool mf_smoothing_write(const struct mf_smoothing *s, size_t section, double alpha,
                        const char *path, struct mf_error *err)
{
    size_t count = mf_smoothing_count(s, section), floats = 0, n = 0;
    for (const struct layer *l = s->layers; l; l = l->next)
        floats += belongs(l, section) ? l->in : 0;
    MF_AUTO(mf_mem) struct mf_tensor *tensors = calloc(2 * count + 1, sizeof *tensors);
    MF_AUTO(mf_mem) float *factors = calloc(floats + count + 1, sizeof *factors);
    MF_AUTO(mf_mem) char *names = calloc(count + 1, NAME_BYTES);
    if (!tensors || !factors || !names)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for smoothing factors");
    float *at = factors;
    for (const struct layer *l = s->layers; l; l = l->next) {
        if (!belongs(l, section))
            continue;
        make_factors(l, alpha, at);
        tensors[n++] = (struct mf_tensor){.name = l->name,
                                          .dtype = MF_DTYPE_F32,
                                          .rank = 1,
                                          .shape = {l->in},
                                          .count = l->in,
                                          .data = at};
        at += l->in;
        char *name = names + n / 2 * NAME_BYTES;
        snprintf(name, NAME_BYTES, "%s.max", l->name);
        *at = largest(l);
        tensors[n++] = (struct mf_tensor){
            .name = name, .dtype = MF_DTYPE_F32, .rank = 1, .shape = {1}, .count = 1, .data = at++};
    }
    return mf_safetensors_write(path, tensors, n, err);
}
