/*
 * Attention of one head over a range of query rows, without ever holding more scores than BLOCK
 * rows of that head. Keys are packed transposed in panels of two vectors, values padded to whole
 * vectors; both products then run on ROWS × 2 accumulators in registers. Compiled once for each
 * instruction set (vec.h).
 */
#include "engine/cpu/kernels.h"
#include "engine/cpu/vec.h"

enum { ROWS = 6, BLOCK = 24, PANEL = 2 * W };

static size_t padded(size_t n, size_t unit)
{
    return (n + unit - 1) / unit * unit;
}

size_t MF_KERNEL(mf_cpu_attention_floats)(const struct mf_attention *at)
{
    size_t keys = padded(at->keys, PANEL), width = padded(at->head_size, W);
    return keys * at->head_size + at->keys * width + BLOCK * keys + BLOCK * width +
           BLOCK * at->head_size + 64;
}

/* keys → panels [keys/PANEL][size][PANEL], zero padded */
static void pack_keys(const struct cpu_head *h, size_t size, float *out)
{
    for (size_t p = 0; p < h->keys; p += PANEL, out += PANEL * size) {
        size_t valid = h->keys - p < PANEL ? h->keys - p : PANEL;
        for (size_t i = 0; i < valid; i++) {
            const float *key = cpu_head_key(h, p + i);
            for (size_t d = 0; d < size; d++)
                out[d * PANEL + i] = key[d];
        }
        for (size_t i = valid; i < PANEL; i++)
            for (size_t d = 0; d < size; d++)
                out[d * PANEL + i] = 0;
    }
}

static void pack_values(const struct cpu_head *h, size_t size, size_t width, float *out)
{
    for (size_t i = 0; i < h->keys; i++, out += width) {
        memcpy(out, cpu_head_value(h, i), size * sizeof *out);
        memset(out + size, 0, (width - size) * sizeof *out);
    }
}

/* scores of `rows` queries against one panel */
MF_INLINE void score_panel(const float *q, size_t q_row, size_t rows, size_t size,
                           const float *panel, float scale, float *s, size_t s_row)
{
    vf acc[ROWS][2];
    for (size_t r = 0; r < rows; r++)
        acc[r][0] = acc[r][1] = (vf){0};
    for (size_t d = 0; d < size; d++) {
        vf k0 = load(panel + d * PANEL), k1 = load(panel + d * PANEL + W);
        for (size_t r = 0; r < rows; r++) {
            float x = q[r * q_row + d];
            acc[r][0] += x * k0;
            acc[r][1] += x * k1;
        }
    }
    for (size_t r = 0; r < rows; r++) {
        store(s + r * s_row, acc[r][0] * scale);
        store(s + r * s_row + W, acc[r][1] * scale);
    }
}

/* s (keys of keys_padded valid) → e^(s − max), zero in the padding; returns the sum */
static float soften(float *s, size_t keys, size_t keys_padded)
{
    for (size_t i = keys; i < keys_padded; i++)
        s[i] = -INFINITY;
    vf top = load(s), sum = {0};
    for (size_t i = W; i < keys_padded; i += W)
        top = vmax(top, load(s + i));
    float most = max_lanes(top);
    size_t i = 0;
    for (; i + W <= keys; i += W) {
        vf e = vexp(load(s + i) - most);
        store(s + i, e);
        sum += e;
    }
    if (i < keys) { /* vexp() of −infinity is tiny, not zero */
        vf e = vexp(load(s + i) - most), rest = {0};
        memcpy(&rest, &e, (keys - i) * sizeof(float));
        store(s + i, rest);
        sum += rest;
        i += W;
    }
    for (; i < keys_padded; i += W)
        store(s + i, (vf){0});
    return sum_lanes(sum);
}

/* o (rows, vectors · W) = p (rows, keys) · v (keys, width) at column `at` */
MF_INLINE void mix_values(const float *p, size_t p_row, size_t rows, size_t keys, const float *v,
                          size_t width, size_t vectors, float *o)
{
    vf acc[ROWS][2];
    for (size_t r = 0; r < rows; r++)
        acc[r][0] = acc[r][1] = (vf){0};
    for (size_t j = 0; j < keys; j++) {
        vf v0 = load(v + j * width), v1 = vectors > 1 ? load(v + j * width + W) : v0;
        for (size_t r = 0; r < rows; r++) {
            float x = p[r * p_row + j];
            acc[r][0] += x * v0;
            if (vectors > 1)
                acc[r][1] += x * v1;
        }
    }
    for (size_t r = 0; r < rows; r++) {
        store(o + r * width, acc[r][0]);
        if (vectors > 1)
            store(o + r * width + W, acc[r][1]);
    }
}

/* scores of n query rows (a multiple of ROWS) against all keys */
static void score_rows(const float *q, size_t n, size_t size, const float *kt, size_t keys,
                       float scale, float *s)
{
    for (size_t p = 0; p < keys; p += PANEL) /* a panel stays in the cache for all rows */
        for (size_t r = 0; r < n; r += ROWS)
            score_panel(q + r * size, size, ROWS, size, kt + p * size, scale, s + r * keys + p,
                        keys);
}

static void mix_rows(const float *p, size_t p_row, size_t n, size_t keys, const float *v,
                     size_t width, float *o)
{
    size_t c = 0;
    for (; c + PANEL <= width; c += PANEL)
        for (size_t r = 0; r < n; r += ROWS)
            mix_values(p + r * p_row, p_row, ROWS, keys, v + c, width, 2, o + r * width + c);
    for (size_t r = 0; c < width && r < n; r += ROWS)
        mix_values(p + r * p_row, p_row, ROWS, keys, v + c, width, 1, o + r * width + c);
}

/* Query rows [first, first + n) side by side, with zero rows up to a multiple of ROWS; returns how
 * many there are then. */
static size_t gather_queries(const struct cpu_head *h, size_t first, size_t n, size_t size,
                             float *out)
{
    size_t whole = padded(n, ROWS);
    for (size_t r = 0; r < n; r++)
        memcpy(out + r * size, h->q + cpu_row_offset(&h->q_rows, first + r), size * sizeof *out);
    memset(out + n * size, 0, (whole - n) * size * sizeof *out);
    return whole;
}

void MF_KERNEL(mf_cpu_attention)(const struct cpu_head *h, size_t begin, size_t end, float *scratch)
{
    size_t size = h->at->head_size, keys = padded(h->keys, PANEL), width = padded(size, W);
    float *kt = scratch, *vs = kt + keys * size, *s = vs + h->keys * width,
          *mixed = s + BLOCK * keys;
    float *qs = mixed + BLOCK * width;
    pack_keys(h, size, kt);
    pack_values(h, size, width, vs);
    for (size_t i = begin; i < end; i += BLOCK) {
        size_t n = end - i < BLOCK ? end - i : BLOCK;
        size_t whole = gather_queries(h, i, n, size, qs);
        float factor[BLOCK] = {0};
        score_rows(qs, whole, size, kt, keys, h->at->scale, s);
        for (size_t r = 0; r < whole; r++)
            factor[r] = 1.0f / soften(s + r * keys, h->keys, keys);
        mix_rows(s, keys, whole, h->keys, vs, width, mixed);
        for (size_t r = 0; r < n; r++) {
            float *o = h->o + cpu_row_offset(&h->o_rows, i + r);
            for (size_t d = 0; d < size; d++)
                o[d] = mixed[r * width + d] * factor[r];
        }
    }
}
