/*
 * The way back of every operation but attention and scan: given the gradient of what it wrote, the
 * gradient of what it read. `g` is the gradient of y, `gx` the shadow of x.
 */
#include "engine/explain/tape.h"

#include "engine/host.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* --- memory of a step --- */

float *mf_tape_scratch(struct mf_tape *t, size_t n)
{
    struct mf_scratch *s = malloc(sizeof *s + (n + 1) * sizeof(float));
    if (!s) {
        mf_error_set(&t->error, MF_ERR_NO_MEMORY, "out of memory for gradients");
        return NULL;
    }
    s->next = t->scratch;
    t->scratch = s;
    return s->floats;
}

float *mf_tape_take(struct mf_tape *t, const float *y, size_t n)
{
    float *g = mf_tape_scratch(t, n), *from = mf_tape_shadow(t, y);
    if (g) {
        memcpy(g, from, n * sizeof *g);
        memset(from, 0, n * sizeof *g);
    }
    return g;
}

void mf_tape_release(struct mf_tape *t)
{
    for (struct mf_scratch *s = t->scratch, *next; s; s = next) {
        next = s->next;
        free(s);
    }
    t->scratch = NULL;
}

/* --- derivatives of activations --- */

static float sigmoid(float x)
{
    return 1 / (1 + expf(-x));
}

static float silu_slope(float x)
{
    float s = sigmoid(x);
    return s * (1 + x * (1 - s));
}

static float slope(enum mf_unary op, float x)
{
    switch (op) {
    case MF_UNARY_GELU: /* Φ(x) + x φ(x) */
        return 0.5f * (1 + erff(x * 0.70710678f)) + x * 0.39894228f * expf(-0.5f * x * x);
    case MF_UNARY_RELU:
        return x > 0;
    case MF_UNARY_SILU:
        return silu_slope(x);
    case MF_UNARY_SIGMOID:
        return sigmoid(x) * (1 - sigmoid(x));
    case MF_UNARY_TANH:
        return 1 - tanhf(x) * tanhf(x);
    }
    return 0;
}

enum { CHUNK = 4096 };

struct slopes {
    enum mf_unary op;
    const float *x;
    float *g;
    size_t n;
};

static void multiply_chunk(void *arg, size_t i)
{
    const struct slopes *s = arg;
    size_t end = (i + 1) * CHUNK < s->n ? (i + 1) * CHUNK : s->n;
    for (size_t k = i * CHUNK; k < end; k++)
        s->g[k] *= slope(s->op, s->x[k]);
}

/* g ·= op′(x) */
static void multiply_slope(const struct mf_tape *t, enum mf_unary op, const float *x, size_t n,
                           float *g)
{
    struct slopes s = {op, x, g, n};
    mf_host_parallel(t->threads, (n + CHUNK - 1) / CHUNK, multiply_chunk, &s);
}

static void add_to(float *gx, const float *g, size_t n)
{
    for (size_t i = 0; gx && i < n; i++)
        gx[i] += g[i];
}

/* --- layers --- */

static void back_linear(struct mf_tape *t, const struct mf_step *s)
{
    const struct mf_tape_linear *l = s->linear;
    float *gx = mf_tape_shadow(t, s->x);
    bool add = s->option == MF_EPILOGUE_ADD;
    float *g = add ? mf_tape_shadow(t, s->y) : mf_tape_take(t, s->y, s->rows * l->out);
    if (!g)
        return;
    if (s->kept)
        multiply_slope(t, s->option == MF_EPILOGUE_GELU ? MF_UNARY_GELU : MF_UNARY_RELU, s->kept,
                       s->rows * l->out, g);
    if (gx)
        mf_tape_gemm(false, false, s->rows, l->in, l->out, 1, g, l->out, l->weight, l->in, 1, gx,
                     s->more);
}

/* y = w · (x − mean) / σ + b */
static void back_layer_norm(struct mf_tape *t, const struct mf_step *s)
{
    size_t n = s->width;
    float *all = mf_tape_take(t, s->y, s->rows * n), *gx = mf_tape_shadow(t, s->x);
    for (size_t r = 0; all && gx && r < s->rows; r++, gx += n) {
        const float *x = s->kept + r * n, *g = all + r * n;
        double mean = 0, square = 0, sum = 0, along = 0;
        for (size_t i = 0; i < n; i++)
            mean += x[i];
        mean /= (double)n;
        for (size_t i = 0; i < n; i++)
            square += (x[i] - mean) * (x[i] - mean);
        double inverse = 1 / sqrt(square / (double)n + s->number);
        for (size_t i = 0; i < n; i++) {
            double h = (double)g[i] * s->weight[i];
            sum += h;
            along += h * (x[i] - mean) * inverse;
        }
        for (size_t i = 0; i < n; i++) {
            double hat = (x[i] - mean) * inverse;
            double h = (double)g[i] * s->weight[i] - (sum + hat * along) / (double)n;
            gx[i] += (float)(h * inverse);
        }
    }
}

/* y = w · x / √(mean x² + ε) */
static void back_rms_norm(struct mf_tape *t, const struct mf_step *s)
{
    size_t n = s->width;
    float *all = mf_tape_take(t, s->y, s->rows * n), *gx = mf_tape_shadow(t, s->x);
    for (size_t r = 0; all && gx && r < s->rows; r++, gx += n) {
        const float *x = s->kept + r * n, *g = all + r * n;
        double square = 0, along = 0;
        for (size_t i = 0; i < n; i++) {
            square += (double)x[i] * x[i];
            along += (double)g[i] * s->weight[i] * x[i];
        }
        double inverse = 1 / sqrt(square / (double)n + s->number);
        double pull = along * inverse * inverse / (double)n;
        for (size_t i = 0; i < n; i++)
            gx[i] += (float)(inverse * ((double)g[i] * s->weight[i] - pull * x[i]));
    }
}

static void back_unary(struct mf_tape *t, const struct mf_step *s)
{
    float *g = mf_tape_take(t, s->y, s->rows);
    if (!g)
        return;
    multiply_slope(t, (enum mf_unary)s->option, s->kept, s->rows, g);
    add_to(mf_tape_shadow(t, s->x), g, s->rows);
}

/* a · relu(b), or silu(a) · b */
static void back_glu(struct mf_tape *t, const struct mf_step *s)
{
    size_t half = s->width;
    float *g = mf_tape_take(t, s->y, s->rows * half), *gx = mf_tape_shadow(t, s->x);
    for (size_t r = 0; g && gx && r < s->rows; r++, g += half, gx += 2 * half) {
        const float *a = s->kept + r * 2 * half, *b = a + half;
        for (size_t i = 0; i < half; i++) {
            bool relu = s->option == MF_GLU_RELU;
            gx[i] += g[i] * (relu ? fmaxf(b[i], 0) : b[i] * silu_slope(a[i]));
            gx[half + i] += g[i] * (relu ? (b[i] > 0 ? a[i] : 0) : a[i] * sigmoid(a[i]));
        }
    }
}

/* --- moving numbers about --- */

static void back_copy(struct mf_tape *t, const struct mf_step *s)
{
    float *g = mf_tape_take(t, s->y, s->rows);
    if (g)
        add_to(mf_tape_shadow(t, s->x), g, s->rows);
}

static void back_add(struct mf_tape *t, const struct mf_step *s)
{
    const float *g = mf_tape_shadow(t, s->y);
    float *gx = mf_tape_shadow(t, s->x);
    for (size_t r = 0; gx && r < s->rows; r++)
        for (size_t i = 0; i < s->width; i++)
            gx[r % s->more * s->width + i] += s->number * g[r * s->width + i];
}

static void back_scale(struct mf_tape *t, const struct mf_step *s)
{
    float *g = mf_tape_shadow(t, s->y);
    for (size_t i = 0; i < s->rows; i++)
        g[i] *= s->number;
}

static void back_reverse(struct mf_tape *t, const struct mf_step *s)
{
    float *g = mf_tape_take(t, s->y, s->rows * s->width), *gx = mf_tape_shadow(t, s->x);
    for (size_t r = 0; g && gx && r < s->rows; r++)
        add_to(gx + (s->rows - 1 - r) * s->width, g + r * s->width, s->width);
}

/* Adds one patch (channels first, as vision modules have it) to where it was cut out. */
static void fold_patch(const struct mf_unfold *u, long y0, long x0, const float *g, float *image)
{
    for (size_t c = 0; c < u->channels; c++)
        for (size_t ky = 0; ky < u->kernel_h; ky++)
            for (size_t kx = 0; kx < u->kernel_w; kx++, g++) {
                long y = y0 + (long)ky, x = x0 + (long)kx;
                if (y >= 0 && x >= 0 && y < (long)u->height && x < (long)u->width)
                    image[(c * u->height + (size_t)y) * u->width + (size_t)x] += *g;
            }
}

static void back_unfold(struct mf_tape *t, const struct mf_step *s)
{
    const struct mf_unfold *u = &s->unfold;
    size_t rows = mf_unfold_rows(u), columns = u->channels * u->kernel_h * u->kernel_w;
    size_t across = (u->width + 2 * u->pad_w - u->kernel_w) / u->stride_w + 1;
    size_t down = rows / u->batch / across;
    float *g = mf_tape_take(t, s->y, rows * columns), *gx = mf_tape_shadow(t, s->x);
    if (u->channels_last)
        mf_error_set(&t->error, MF_ERR_INTERNAL, "no gradient of images with channels last");
    for (size_t r = 0; g && gx && !u->channels_last && r < rows; r++)
        fold_patch(u, (long)(r / across % down * u->stride_h) - (long)u->pad_h,
                   (long)(r % across * u->stride_w) - (long)u->pad_w, g + r * columns,
                   gx + r / across / down * u->channels * u->height * u->width);
}

static void back_regions(struct mf_tape *t, const struct mf_step *s)
{
    size_t n = (size_t)s->option, rows = s->rows, cols = s->more, d = s->width;
    float *g = mf_tape_take(t, s->y, n * n * d), *gx = mf_tape_shadow(t, s->x);
    for (size_t k = 0; g && gx && k < n * n; k++, g += d) {
        size_t y0 = k / n * rows / n, y1 = ((k / n + 1) * rows + n - 1) / n;
        size_t x0 = k % n * cols / n, x1 = ((k % n + 1) * cols + n - 1) / n;
        float share = 1.0f / (float)((y1 - y0) * (x1 - x0));
        for (size_t y = y0; y < y1; y++)
            for (size_t x = x0; x < x1; x++)
                for (size_t i = 0; i < d; i++)
                    gx[(y * cols + x) * d + i] += share * g[i];
    }
}

static void back_mean(struct mf_tape *t, const struct mf_step *s)
{
    float *g = mf_tape_take(t, s->y, s->width), *gx = mf_tape_shadow(t, s->x);
    for (size_t i = 0; g && gx && i < s->rows * s->width; i++)
        gx[i] += g[i % s->width] / (float)s->rows;
}

/* y_t = silu(b + Σ_j w_j x_{t−k+1+j}) */
static void back_conv(struct mf_tape *t, const struct mf_step *s)
{
    size_t n = s->rows, c = s->width, k = (size_t)s->option;
    float *g = mf_tape_take(t, s->y, n * c), *gx = mf_tape_shadow(t, s->x);
    for (size_t i = 0; g && gx && i < n; i++)
        for (size_t ch = 0; ch < c; ch++) {
            float before = s->bias[ch];
            size_t first = i + 1 >= k ? 0 : k - 1 - i;
            for (size_t j = first; j < k; j++)
                before += s->weight[j * c + ch] * s->kept[(i + j + 1 - k) * c + ch];
            float down = g[i * c + ch] * silu_slope(before);
            for (size_t j = first; j < k; j++)
                gx[(i + j + 1 - k) * s->more + ch] += s->weight[j * c + ch] * down;
        }
}

static void back_host(struct mf_tape *t, const struct mf_step *s, const struct mf_tape_visitor *v)
{
    bool up = s->kind == MF_STEP_UPLOAD;
    float *g = mf_tape_shadow(t, s->y);
    if (v->host)
        v->host(v->arg, s->host, up, g, s->rows);
    if (up)
        memset(g, 0, s->rows * sizeof *g);
}

/* --- walking --- */

typedef void back(struct mf_tape *t, const struct mf_step *s);

static void step_back(struct mf_tape *t, const struct mf_step *s, const struct mf_tape_visitor *v)
{
    static back *const BACK[] = {
        [MF_STEP_LINEAR] = back_linear,   [MF_STEP_LAYER_NORM] = back_layer_norm,
        [MF_STEP_UNARY] = back_unary,     [MF_STEP_RMS_NORM] = back_rms_norm,
        [MF_STEP_GLU] = back_glu,         [MF_STEP_COPY] = back_copy,
        [MF_STEP_ADD] = back_add,         [MF_STEP_SCALE] = back_scale,
        [MF_STEP_REVERSE] = back_reverse, [MF_STEP_UNFOLD] = back_unfold,
        [MF_STEP_REGIONS] = back_regions, [MF_STEP_MEAN] = back_mean,
        [MF_STEP_CONV] = back_conv,
    };
    if (s->kind == MF_STEP_UPLOAD || s->kind == MF_STEP_DOWNLOAD)
        back_host(t, s, v);
    else if (s->kind == MF_STEP_ATTENTION)
        mf_adjoint_attention(t, s, v);
    else if (s->kind == MF_STEP_SCAN)
        mf_adjoint_scan(t, s, v);
    else
        BACK[s->kind](t, s);
}

bool mf_tape_backward(struct mf_tape *t, const struct mf_tape_visitor *v, bool gradients,
                      struct mf_error *err)
{
    mf_error_clear(&t->error);
    if (gradients)
        memset(t->shadow, 0, t->floats * sizeof *t->shadow);
    for (const struct mf_step *s = t->last; s && t->error.code == MF_OK; s = s->before) {
        if (gradients)
            step_back(t, s, v);
        else if (s->kind == MF_STEP_ATTENTION && v->attention)
            v->attention(v->arg, s, NULL);
        else if (s->kind == MF_STEP_SCAN && v->scan)
            v->scan(v->arg, s, NULL);
        mf_tape_release(t);
    }
    return t->error.code == MF_OK || mf_error_set(err, t->error.code, "%s", t->error.msg);
}
