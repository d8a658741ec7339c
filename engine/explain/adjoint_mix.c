/*
 * The way back through what mixes tokens: attention and the recurrence of Mamba. Attention weights
 * are made again, one head at a time, rather than kept.
 */
#include "engine/explain/tape.h"

#include "engine/host.h"

#include <math.h>
#include <string.h>

/* --- attention --- */

void mf_attention_weights(const struct mf_step *s, size_t batch, size_t head, float *weights)
{
    const struct mf_attention *at = &s->attention;
    size_t m = at->queries, n = at->keys, e = at->head_size, width = at->heads * e;
    const float *q = s->kept + batch * m * width + head * e;
    const float *k = s->kept2 + batch * n * width + head * e;
    mf_tape_gemm(false, true, m, n, e, at->scale, q, width, k, width, 0, weights, n);
    for (size_t i = 0; i < m; i++) {
        float *row = weights + i * n, most = row[0], sum = 0;
        for (size_t j = 1; j < n; j++)
            most = fmaxf(most, row[j]);
        for (size_t j = 0; j < n; j++)
            sum += row[j] = expf(row[j] - most);
        for (size_t j = 0; j < n; j++)
            row[j] /= sum;
    }
}

/* One head's gradients, added to where q, k and v lay. a: weights, da: their gradient. */
static void back_head(struct mf_tape *t, const struct mf_step *s, size_t b, size_t h,
                      const float *g, float *a, float *da)
{
    const struct mf_attention *at = &s->attention;
    size_t m = at->queries, n = at->keys, e = at->head_size, width = at->heads * e;
    const float *q = s->kept + b * m * width + h * e, *k = s->kept2 + b * n * width + h * e;
    const float *v = s->kept3 + b * n * width + h * e;
    float *gq = mf_tape_shadow(t, s->x), *gk = mf_tape_shadow(t, s->k),
          *gv = mf_tape_shadow(t, s->v);
    g += b * m * width + h * e;
    mf_attention_weights(s, b, h, a);
    mf_tape_gemm(false, true, m, n, e, 1, g, width, v, width, 0, da, n);
    if (gv)
        mf_tape_gemm(true, false, n, e, m, 1, a, n, g, width, 1, gv + b * at->v_batch + h * e,
                     at->v_row);
    for (size_t i = 0; i < m; i++) { /* through the softmax */
        float along = 0;
        for (size_t j = 0; j < n; j++)
            along += a[i * n + j] * da[i * n + j];
        for (size_t j = 0; j < n; j++)
            da[i * n + j] = a[i * n + j] * (da[i * n + j] - along);
    }
    if (gq)
        mf_tape_gemm(false, false, m, e, n, at->scale, da, n, k, width, 1,
                     gq + b * at->q_batch + h * e, at->q_row);
    if (gk)
        mf_tape_gemm(true, false, n, e, m, at->scale, da, n, q, width, 1,
                     gk + b * at->k_batch + h * e, at->k_row);
}

void mf_adjoint_attention(struct mf_tape *t, const struct mf_step *s,
                          const struct mf_tape_visitor *visitor)
{
    const struct mf_attention *at = &s->attention;
    size_t width = at->heads * at->head_size, cells = at->queries * at->keys;
    float *g = mf_tape_scratch(t, at->batch * at->queries * width), *y = mf_tape_shadow(t, s->y);
    float *a = mf_tape_scratch(t, cells), *da = mf_tape_scratch(t, cells);
    if (!g || !a || !da)
        return;
    for (size_t r = 0; r < at->batch * at->queries; r++) {
        float *row = y + r / at->queries * at->o_batch + r % at->queries * at->o_row;
        memcpy(g + r * width, row, width * sizeof *g);
        memset(row, 0, width * sizeof *g);
    }
    if (visitor->attention)
        visitor->attention(visitor->arg, s, g);
    for (size_t b = 0; b < at->batch; b++)
        for (size_t h = 0; h < at->heads; h++)
            back_head(t, s, b, h, g, a, da);
}

/* --- scan --- */

static float softplus(float x)
{
    return x > 20 ? x : log1pf(expf(x));
}

static float sigmoid(float x)
{
    return 1 / (1 + expf(-x));
}

void mf_scan_decay(const struct mf_scan *s, float *decay, float *step)
{
    size_t c = s->channels;
    for (size_t t = 0; t < s->length; t++)
        for (size_t i = 0; i < c; i++) {
            step[t * c + i] = softplus(s->dt[t * c + i]);
            for (size_t n = 0; n < s->states; n++)
                decay[(t * s->states + n) * c + i] = expf(step[t * c + i] * s->a[n * c + i]);
        }
}

/* Everything of one scan's way back; states (length, states, channels) after each step. */
struct scan_back {
    const struct mf_scan *s;
    float *decay, *step, *states, *gated; /* gated: gradient before the gate */
    float *gu, *gdt, *gb, *gc, *gz;       /* (length, channels), gb and gc (length, states) */
};

/* The states, and through the gate: y = (Σ c h + d u) · silu(z). `g` is the gradient of y. */
static void scan_forward(const struct scan_back *k, const float *g)
{
    const struct mf_scan *s = k->s;
    size_t c = s->channels, n = s->states;
    for (size_t t = 0; t < s->length; t++)
        for (size_t i = 0; i < c; i++) {
            size_t at = t * c + i;
            float before = s->d[i] * s->u[at], z = s->z[t * s->z_row + i], open = sigmoid(z);
            for (size_t m = 0; m < n; m++) {
                size_t state = (t * n + m) * c + i;
                float old = t ? k->states[state - n * c] : 0;
                k->states[state] =
                    k->decay[state] * old + k->step[at] * s->b[t * s->bc_row + m] * s->u[at];
                before += s->c[t * s->bc_row + m] * k->states[state];
            }
            k->gated[at] = g[at] * z * open;
            k->gz[at] = g[at] * before * open * (1 + z * (1 - open));
        }
}

/* Back through the recurrence of channel i; `gh` has `states` floats, zero at first. */
static void scan_channel(const struct scan_back *k, size_t i, float *gh)
{
    const struct mf_scan *s = k->s;
    size_t c = s->channels, n = s->states;
    for (size_t t = s->length; t-- > 0;) {
        size_t at = t * c + i;
        float g = k->gated[at], gu = g * s->d[i], gstep = 0;
        for (size_t m = 0; m < n; m++) {
            size_t state = (t * n + m) * c + i;
            float old = t ? k->states[state - n * c] : 0, b = s->b[t * s->bc_row + m];
            k->gc[t * n + m] += g * k->states[state];
            gh[m] += g * s->c[t * s->bc_row + m];
            gstep += gh[m] * (s->a[m * c + i] * k->decay[state] * old + b * s->u[at]);
            gu += gh[m] * k->step[at] * b;
            k->gb[t * n + m] += gh[m] * k->step[at] * s->u[at];
            gh[m] *= k->decay[state];
        }
        k->gu[at] = gu;
        k->gdt[at] = gstep * sigmoid(s->dt[at]);
    }
}

/* Adds (rows, width) to where rows lie `row` apart. */
static void add_rows(float *to, const float *g, size_t rows, size_t width, size_t row)
{
    for (size_t r = 0; to && r < rows; r++)
        for (size_t i = 0; i < width; i++)
            to[r * row + i] += g[r * width + i];
}

void mf_adjoint_scan(struct mf_tape *t, const struct mf_step *step,
                     const struct mf_tape_visitor *visitor)
{
    const struct mf_scan *s = &step->scan, *from = &step->from;
    size_t length = s->length, c = s->channels, n = s->states, wide = length * c;
    float *g = mf_tape_take(t, step->y, wide);
    float *memory = mf_tape_scratch(t, 2 * wide * n + 5 * wide + 2 * length * n + n);
    if (!g || !memory)
        return;
    struct scan_back k = {.s = s, .decay = memory, .states = memory + wide * n};
    k.step = k.states + wide * n;
    k.gated = k.step + wide;
    k.gu = k.gated + wide;
    k.gdt = k.gu + wide;
    k.gz = k.gdt + wide;
    k.gb = k.gz + wide;
    k.gc = k.gb + length * n;
    float *gh = k.gc + length * n;
    memset(k.gb, 0, 2 * length * n * sizeof *k.gb);
    mf_scan_decay(s, k.decay, k.step);
    scan_forward(&k, g);
    for (size_t i = 0; i < c; i++) {
        memset(gh, 0, n * sizeof *gh);
        scan_channel(&k, i, gh);
    }
    if (visitor->scan)
        visitor->scan(visitor->arg, step, k.gated);
    add_rows(mf_tape_shadow(t, from->u), k.gu, length, c, c);
    add_rows(mf_tape_shadow(t, from->dt), k.gdt, length, c, c);
    add_rows(mf_tape_shadow(t, from->b), k.gb, length, n, from->bc_row);
    add_rows(mf_tape_shadow(t, from->c), k.gc, length, n, from->bc_row);
    add_rows(mf_tape_shadow(t, from->z), k.gz, length, c, from->z_row);
}
