/*
 * Linear layers out of a module's tensors. A backend asks for the rows that it packs, a few at a
 * time and in several threads: they are converted and checked there, so that the matrix is read
 * once and never copied as a whole.
 */
#include "engine/weights.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PARTS = 4 };

/* Matrices (rows, in) on top of each other, each row times its scale. */
struct stack {
    const struct mf_tensor *parts[PARTS];
    size_t count, rows;
    const float *scale;      /* of count · rows rows; NULL: ones */
    atomic_bool *not_finite; /* set when a row holds a NaN or an infinity */
};

/* Rows as they lie in the file, where nothing has to be done to them; else NULL. */
static const float *rows_in_place(const struct stack *s, size_t in, size_t first, size_t count)
{
    const struct mf_tensor *t = s->parts[first / s->rows];
    size_t row = first % s->rows;
    const char *p = (const char *)t->data + row * in * sizeof(float);
    if (t->dtype != MF_DTYPE_F32 || s->scale || row + count > s->rows ||
        (uintptr_t)p % sizeof(float) != 0)
        return NULL;
    return (const float *)(const void *)p;
}

static const float *stack_rows(const struct mf_linear_source *source, size_t first, size_t count,
                               float *room)
{
    const struct stack *s = source->arg;
    size_t in = source->in;
    const float *there = rows_in_place(s, in, first, count);
    bool finite = !there || mf_floats_are_finite(there, count * in);
    for (size_t done = 0, n; !there && done < count; done += n) {
        size_t row = (first + done) % s->rows;
        n = count - done < s->rows - row ? count - done : s->rows - row;
        finite &= mf_tensor_part_to_floats(s->parts[(first + done) / s->rows], row * in, n * in,
                                           room + done * in);
    }
    for (size_t i = 0; s->scale && i < count; i++)
        for (size_t k = 0; k < in; k++)
            room[i * in + k] *= s->scale[first + i];
    if (!finite)
        atomic_store(s->not_finite, true);
    return there ? there : room;
}

/* The factors for this layer's input, if the module has any; false after an error. */
static bool find_smoothing(struct mf_loader *ld, const struct mf_linear_source *source, float **ret)
{
    const struct mf_tensor *t = mf_weights_smoothing(ld->weights, source->name);
    *ret = NULL;
    if (!t)
        return true;
    if (t->count != source->in)
        return mf_loader_fail(ld,
                              "smoothing.safetensors: \"%.100s\" has %zu factors for %zu inputs",
                              source->name, t->count, source->in);
    if (ld->taken_count < ld->taken_room)
        ld->taken[ld->taken_count++] = t;
    if (!ld->exec)
        return true;
    *ret = malloc(t->count * sizeof **ret + 1);
    return (*ret && mf_tensor_to_floats(t, *ret)) ||
           mf_loader_fail(ld, "out of memory for weights");
}

/* The largest magnitude of a layer's input that calibration studies showed; 0: not known. */
static float find_peak(struct mf_loader *ld, const char *name)
{
    char full[280];
    float peak = 0;
    snprintf(full, sizeof full, "%s.max", name);
    const struct mf_tensor *t = mf_weights_smoothing(ld->weights, full);
    if (!t)
        return 0;
    if (ld->taken_count < ld->taken_room)
        ld->taken[ld->taken_count++] = t;
    if (t->count != 1)
        mf_loader_fail(ld, "smoothing.safetensors: \"%.100s\" must be one number", full);
    else
        memcpy(&peak, t->data, sizeof peak); /* above 0: checked when the file was opened */
    return peak;
}

/* Makes the layer that `source` describes; NULL in check-only mode or after an error. */
static struct mf_linear *make(struct mf_loader *ld, const char *name,
                              struct mf_linear_source source)
{
    char full[256];
    MF_AUTO(mf_mem) float *smooth = NULL;
    if (ld->failed)
        return NULL;
    snprintf(full, sizeof full, "%s%s", ld->path, name);
    source.name = full;
    if (!find_smoothing(ld, &source, &smooth))
        return NULL;
    source.peak = find_peak(ld, full);
    if (ld->failed || !ld->exec)
        return NULL;
    source.smooth = smooth;
    source.few_rows = ld->few_rows;
    struct mf_linear *l = mf_exec_keep_linear(ld->exec, &source, ld->err);
    ld->failed |= !l;
    return l;
}

/* Every element of parts that no backend reads. */
static void check_stack(const struct stack *s)
{
    for (size_t i = 0; i < s->count; i++)
        if (!mf_tensor_is_finite(s->parts[i]))
            atomic_store(s->not_finite, true);
}

/* The layer of a stack whose tensors have been taken; `bias`: of all rows, or NULL. */
static struct mf_linear *make_stack(struct mf_loader *ld, const char *name, const struct stack *s,
                                    size_t in, const float *bias)
{
    const struct mf_linear_source source = {
        .out = s->count * s->rows, .in = in, .rows = stack_rows, .arg = s, .bias = bias};
    if (ld->failed)
        return NULL;
    if (!ld->exec)
        check_stack(s);
    struct mf_linear *l = make(ld, name, source);
    if (atomic_load(s->not_finite))
        mf_loader_fail(ld, "tensor \"%s%s.weight\" holds a NaN or an infinity", ld->path, name);
    for (size_t i = 0; i < s->count; i++)
        mf_weights_forget_tensor(ld->weights, s->parts[i]);
    return ld->failed ? NULL : l;
}

/* Biases of a stack, times the rows' scales. */
static float *load_biases(struct mf_loader *ld, const char *const *names, const struct stack *s)
{
    size_t n = s->count * s->rows;
    float *bias = calloc(n + 1, sizeof *bias);
    if (!bias)
        mf_loader_fail(ld, "out of memory for weights");
    for (size_t i = 0; i < s->count; i++) {
        size_t mark = mf_loader_enter(ld, "%s.", names[i]);
        const struct mf_tensor *t = mf_loader_take(ld, "bias", 1, &s->rows);
        if (t && !mf_tensor_to_floats(t, bias + i * s->rows))
            mf_loader_fail(ld, "tensor \"%sbias\" holds a NaN or an infinity", ld->path);
        mf_loader_leave(ld, mark);
    }
    for (size_t i = 0; bias && s->scale && i < n; i++)
        bias[i] *= s->scale[i];
    return bias;
}

static struct mf_linear *load_stack(struct mf_loader *ld, const char *const *names, size_t count,
                                    size_t out, size_t in, bool biased, const float *scale)
{
    atomic_bool not_finite = false;
    struct stack s = {.count = count, .rows = out, .scale = scale, .not_finite = &not_finite};
    size_t shape[2] = {out, in};
    for (size_t i = 0; i < count; i++) {
        size_t mark = mf_loader_enter(ld, "%s.", names[i]);
        s.parts[i] = mf_loader_take(ld, "weight", 2, shape);
        mf_loader_leave(ld, mark);
    }
    MF_AUTO(mf_mem) float *bias = biased ? load_biases(ld, names, &s) : NULL;
    return make_stack(ld, names[0], &s, in, bias);
}

struct mf_linear *mf_load_linears(struct mf_loader *ld, const char *const *names, size_t count,
                                  size_t out, size_t in, bool bias)
{
    if (count > PARTS) {
        mf_loader_fail(ld, "%zu layers cannot be one", count);
        return NULL;
    }
    return load_stack(ld, names, count, out, in, bias, NULL);
}

struct mf_linear *mf_load_linear(struct mf_loader *ld, const char *name, size_t out, size_t in,
                                 bool bias)
{
    return load_stack(ld, &name, 1, out, in, bias, NULL);
}

struct mf_linear *mf_load_linear_scaled(struct mf_loader *ld, const char *name, size_t out,
                                        size_t in, bool bias, const float *scale)
{
    return load_stack(ld, &name, 1, out, in, bias, scale);
}

/* A convolution's tensors: weights of this shape, one bias for each of `out` channels. */
struct convolution {
    const struct mf_tensor *weight;
    float *bias;  /* 4 · out floats, the first `out` filled; NULL after a failure */
    float *plain; /* the weights as they are in the file; NULL while only checking */
};

static struct convolution take_convolution(struct mf_loader *ld, const char *name,
                                           const size_t shape[4], size_t out)
{
    struct convolution c = {.bias = calloc(4 * out + 1, sizeof(float))};
    size_t mark = mf_loader_enter(ld, "%s.", name);
    c.weight = mf_loader_take(ld, "weight", 4, shape);
    const struct mf_tensor *bias = mf_loader_take(ld, "bias", 1, &out);
    c.plain = c.weight ? calloc(c.weight->count + 1, sizeof(float)) : NULL;
    if (!c.bias || (c.weight && !c.plain))
        mf_loader_fail(ld, "out of memory for weights");
    if (!ld->failed && !mf_tensor_to_floats(c.weight, c.plain))
        mf_loader_fail(ld, "tensor \"%sweight\" holds a NaN or an infinity", ld->path);
    if (!ld->failed && !mf_tensor_to_floats(bias, c.bias))
        mf_loader_fail(ld, "tensor \"%sbias\" holds a NaN or an infinity", ld->path);
    mf_loader_leave(ld, mark);
    return c;
}

static struct mf_linear *end_convolution(struct mf_loader *ld, const char *name, size_t out,
                                         size_t in, const float *matrix, struct convolution *c)
{
    if (!ld->failed && !matrix)
        mf_loader_fail(ld, "out of memory for weights");
    struct mf_linear *l =
        ld->failed ? NULL : make(ld, name, mf_linear_matrix(matrix, c->bias, out, in));
    free(c->bias);
    free(c->plain);
    return l;
}

struct mf_linear *mf_load_conv(struct mf_loader *ld, const char *name, size_t out, size_t in,
                               size_t kh, size_t kw, bool channels_last)
{
    size_t shape[4] = {out, in, kh, kw}, columns = in * kh * kw;
    struct convolution c = take_convolution(ld, name, shape, out);
    if (ld->failed || !channels_last || kh * kw == 1) /* the order is that of the file */
        return end_convolution(ld, name, out, columns, c.plain, &c);
    MF_AUTO(mf_mem) float *matrix = malloc(c.weight->count * sizeof *matrix + 1);
    for (size_t i = 0; matrix && i < c.weight->count; i++) {
        size_t o = i / columns, ci = i / (kh * kw) % in, k = i % (kh * kw);
        matrix[o * columns + k * in + ci] = c.plain[i];
    }
    return end_convolution(ld, name, out, columns, matrix, &c);
}

struct mf_linear *mf_load_upconv(struct mf_loader *ld, const char *name, size_t out, size_t in)
{
    size_t shape[4] = {in, out, 2, 2};
    struct convolution c = take_convolution(ld, name, shape, out);
    MF_AUTO(mf_mem)
    float *matrix = ld->failed ? NULL : malloc(c.weight->count * sizeof *matrix + 1);
    for (size_t i = 0; matrix && i < c.weight->count; i++) { /* (ci, o, k) → (k, o, ci) */
        size_t ci = i / (4 * out), o = i / 4 % out, k = i % 4;
        matrix[(k * out + o) * in + ci] = c.plain[i];
    }
    for (size_t k = 1; matrix && k < 4; k++)
        memcpy(c.bias + k * out, c.bias, out * sizeof *c.bias);
    return end_convolution(ld, name, 4 * out, in, matrix, &c);
}
