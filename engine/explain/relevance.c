/* Relevance through attention, recurrence and pooling; relevance.h says by which rules. */
#include "engine/explain/relevance.h"

#include "engine/host.h"

#include <math.h>
#include <string.h>

/* --- one layer --- */

void mf_relevance_attention(struct mf_tape *t, const struct mf_step *s, const float *gradient,
                            const float *r, float *out)
{
    const struct mf_attention *at = &s->attention;
    size_t m = at->queries, n = at->keys, e = at->head_size, width = at->heads * e;
    float *a = mf_tape_scratch(t, m * n), *da = mf_tape_scratch(t, m * n);
    for (size_t h = 0; a && da && h < at->heads; h++) {
        mf_attention_weights(s, 0, h, a);
        if (gradient)
            mf_tape_gemm(false, true, m, n, e, 1, gradient + h * e, width, s->kept3 + h * e, width,
                         0, da, n);
        for (size_t i = 0; i < m; i++) {
            float share = r[i] / (float)at->heads;
            for (size_t j = 0; j < n; j++)
                out[j] +=
                    share * (gradient ? fmaxf(a[i * n + j] * da[i * n + j], 0) : a[i * n + j]);
        }
    }
}

/* One scan unrolled: column s of (t, s) by every call. */
struct unrolling {
    const struct mf_scan *scan;
    const float *gradient; /* before the gate, or NULL */
    const float *decay, *step;
    float *states; /* (length, states, channels): of the column being followed */
    float *matrix; /* (length, length) */
};

static float entry(const struct unrolling *w, size_t t, size_t s, const float *state)
{
    const struct mf_scan *scan = w->scan;
    size_t c = scan->channels;
    float sum = 0;
    for (size_t i = 0; i < c; i++) {
        float a = t == s ? scan->d[i] : 0;
        for (size_t m = 0; m < scan->states; m++)
            a += scan->c[t * scan->bc_row + m] * state[m * c + i];
        sum += w->gradient ? fmaxf(a * w->gradient[t * c + i] * scan->u[s * c + i], 0) : fabsf(a);
    }
    return sum / (float)c;
}

static void unroll_column(void *arg, size_t s)
{
    const struct unrolling *w = arg;
    const struct mf_scan *scan = w->scan;
    size_t c = scan->channels, n = scan->states * c;
    float *state = w->states + s * n;
    for (size_t k = 0; k < n; k++)
        state[k] = w->step[s * c + k % c] * scan->b[s * scan->bc_row + k / c];
    for (size_t t = s; t < scan->length; t++) {
        for (size_t k = 0; t > s && k < n; k++)
            state[k] *= w->decay[t * n + k];
        w->matrix[t * scan->length + s] = entry(w, t, s, state);
    }
}

void mf_relevance_scan(struct mf_tape *tape, const struct mf_step *step, const float *gradient,
                       const float *r, float *out)
{
    const struct mf_scan *scan = &step->scan;
    size_t length = scan->length, wide = length * scan->channels;
    float *decay = mf_tape_scratch(tape, wide * scan->states), *steps = mf_tape_scratch(tape, wide);
    float *states = mf_tape_scratch(tape, wide * scan->states);
    float *matrix = mf_tape_scratch(tape, length * length);
    if (!decay || !steps || !states || !matrix)
        return;
    mf_scan_decay(scan, decay, steps);
    struct unrolling w = {scan, gradient, decay, steps, states, matrix};
    mf_host_parallel(tape->threads, length, unroll_column, &w);
    for (size_t t = 0; t < length; t++) {
        const float *row = matrix + t * length;
        float whole = 0;
        for (size_t s = 0; s <= t; s++)
            whole += row[s];
        float share = gradient ? r[t] : whole > 0 ? r[t] / whole : 0;
        for (size_t s = 0; s <= t; s++)
            out[s] += share * row[s];
        if (!gradient && whole <= 0) /* nothing passes: a token keeps its own */
            out[t] += r[t];
    }
}

void mf_relevance_seeds(const float *gradient, const float *values, size_t rows, size_t width,
                        float *out)
{
    for (size_t i = 0; i < rows; i++) {
        double sum = 0;
        for (size_t k = 0; k < width; k++)
            sum += (double)gradient[i * width + k] * values[i * width + k];
        out[i] = sum > 0 ? (float)sum : 0;
    }
}

/* r ← r + moved, or the mean of both in a rollout. */
static void join(float *r, const float *moved, size_t n, bool by_gradient)
{
    for (size_t i = 0; i < n; i++)
        r[i] = by_gradient ? r[i] + moved[i] : (r[i] + moved[i]) / 2;
}

static float *zeros(struct mf_tape *t, size_t n)
{
    float *p = mf_tape_scratch(t, n);
    if (p)
        memset(p, 0, n * sizeof *p);
    return p;
}

/* --- networks --- */

void mf_relevance_vision(struct mf_tape *t, const struct mf_step *s, const float *gradient,
                         float *r)
{
    size_t n = s->attention.keys;
    float *moved = zeros(t, n);
    if (!moved)
        return;
    mf_relevance_attention(t, s, gradient, r, moved);
    join(r, moved, n, gradient);
}

/* The share of patch (y, x) in a region: what it gave to the logit, at first order. */
static float gave(const struct mf_relevance_grid *g, const float *hidden, const float *slope,
                  size_t y, size_t x)
{
    const float *patch = hidden + (g->tokens - g->rows * g->cols + y * g->cols + x) * g->width;
    float out;
    if (!slope)
        return 1;
    mf_relevance_seeds(slope, patch, 1, g->width, &out);
    return out;
}

void mf_relevance_pooled(const struct mf_relevance_grid *g, const float *r, const float *hidden,
                         const float *slopes, float *out)
{
    size_t n = g->regions;
    float *patches = out + g->tokens - g->rows * g->cols;
    memset(out, 0, g->tokens * sizeof *out);
    for (size_t k = 0; k < n * n; k++) {
        size_t y0 = k / n * g->rows / n, y1 = ((k / n + 1) * g->rows + n - 1) / n;
        size_t x0 = k % n * g->cols / n, x1 = ((k % n + 1) * g->cols + n - 1) / n;
        const float *slope = slopes ? slopes + k * g->width : NULL;
        float whole = 0, equal = 1.0f / (float)((y1 - y0) * (x1 - x0));
        for (size_t y = y0; y < y1; y++)
            for (size_t x = x0; x < x1; x++)
                whole += gave(g, hidden, slope, y, x);
        for (size_t y = y0; y < y1; y++)
            for (size_t x = x0; x < x1; x++)
                patches[y * g->cols + x] +=
                    r[k] * (whole > 0 ? gave(g, hidden, slope, y, x) / whole : equal);
    }
    out[0] += r[n * n];
}

void mf_relevance_upper_attention(struct mf_tape *t, struct mf_relevance_upper *u,
                                  const struct mf_step *s, const float *gradient)
{
    float *moved = zeros(t, s->attention.keys);
    if (!moved)
        return;
    if (u->cross == 0) { /* the sequence's transformer */
        mf_relevance_attention(t, s, gradient, u->image, moved);
        join(u->image, moved, u->tokens, gradient);
    } else if (u->cross-- % 2 ==
               0) { /* EHR reads image: image waits, the other reads the old one */
        mf_relevance_attention(t, s, gradient, u->ehr, moved);
        memcpy(u->pending, moved, u->tokens * sizeof *moved);
    } else { /* image reads EHR */
        mf_relevance_attention(t, s, gradient, u->image, moved);
        join(u->ehr, moved, u->features, gradient);
        join(u->image, u->pending, u->tokens, gradient);
    }
}

static void reverse(float *r, size_t n)
{
    for (size_t i = 0; i < n / 2; i++) {
        float x = r[i];
        r[i] = r[n - 1 - i];
        r[n - 1 - i] = x;
    }
}

void mf_relevance_upper_scan(struct mf_tape *t, struct mf_relevance_upper *u,
                             const struct mf_step *s, const float *gradient)
{
    float *moved = zeros(t, u->tokens), *r = u->reverse_scans ? u->reverse : u->image;
    if (!moved)
        return;
    if (u->both && !u->started) { /* the reversed sequence is met first */
        memcpy(u->reverse, u->image, u->tokens * sizeof *u->reverse);
        reverse(u->reverse, u->tokens);
        u->started = true;
    }
    mf_relevance_scan(t, s, gradient, r, moved);
    join(r, moved, u->tokens, gradient);
    u->reverse_scans -= u->reverse_scans > 0;
}

void mf_relevance_upper_end(struct mf_relevance_upper *u)
{
    if (!u->both)
        return;
    reverse(u->reverse, u->tokens);
    join(u->image, u->reverse, u->tokens, false);
}
