/*
 * Attention of one head on AMX tiles, scores never leaving the first cache: 32 queries against
 * CHUNK keys at a time, softmax with a running maximum, values added up in float. The formats are
 * those of amx.h: operands in one, two or three bf16 pieces, scores, softmax and sums always
 * floats.
 */
#include "engine/cpu/amx_tile.h"

#include <math.h>
#include <string.h>

enum { CHUNK = 256, MOST = CHUNK + 32 }; /* a remainder of one panel goes with the last chunk */

struct head {
    const struct cpu_head *rows; /* where they lie */
    const struct mf_attention *at;
    char *keys, *values;   /* panels */
    char *query, *weights; /* blocks */
    float *scores;         /* (32, MOST) */
    float *sums;           /* (32, dims) */
    float *totals;         /* (32, 16): of weights, lane by lane */
    float top[AMX_ROWS];
    size_t dims, key_bytes, value_bytes; /* dims: head size in whole panels; bytes of a panel */
};

/* Cuts the scratch memory up; returns its size in bytes. */
static size_t lay_out(enum amx_format f, const struct mf_attention *at, char *scratch,
                      struct head *h)
{
    size_t query = amx_strip_bytes(f, at->head_size), used = 0;
    h->at = at;
    h->dims = amx_strips(at->head_size) * 32;
    h->key_bytes = query;
    h->value_bytes = amx_strip_bytes(f, at->keys);
    h->keys = scratch + used;
    used += amx_strips(at->keys) * h->key_bytes;
    h->values = scratch + used;
    used += amx_strips(at->head_size) * h->value_bytes;
    h->query = scratch + used;
    used += query;
    h->weights = scratch + used;
    used += amx_strip_bytes(f, MOST);
    h->scores = (float *)(scratch + used);
    used += AMX_ROWS * MOST * sizeof(float);
    h->totals = (float *)(scratch + used);
    used += AMX_ROWS * 16 * sizeof(float);
    h->sums = (float *)(scratch + used);
    return used + AMX_ROWS * h->dims * sizeof(float);
}

size_t mf_amx_attention_floats(enum amx_format f, const struct mf_attention *at)
{
    struct head h;
    return lay_out(f, at, NULL, &h) / sizeof(float);
}

MF_INLINE void score_chunk(enum amx_format f, bool half, const struct head *h, size_t first,
                           size_t panels)
{
    size_t step = amx_pieces(f) * 2 * AMX_TILE_BYTES, depths = h->key_bytes / step;
    for (size_t p = 0; p < panels; p++) {
        const char *panel = h->keys + (first + p) * h->key_bytes;
        zero_sums(half);
        for (size_t d = 0; d < depths; d++)
            multiply_depth(f, half, h->query + d * step, panel + d * step);
        store_sums(half, h->scores + p * 32, MOST * sizeof(float));
    }
}

/* The maximum that row r's weights are relative to grows only when a score exceeds it by far:
 * weights up to 2^SLACK are as exact as others, and the sums need not be scaled for every larger
 * score. */
enum { SLACK = 8 };
static const float NOTHING = -1e30f; /* finite: what is relative to it must not become a NaN */

static void raise_top(struct head *h, size_t r, float top, float scale)
{
    float before = h->top[r], factor = exp2f((before - top) * scale);
    h->top[r] = top;
    if (before == NOTHING) /* the sums are still zero */
        return;
    __m512 f = _mm512_set1_ps(factor);
    _mm512_store_ps(h->totals + 16 * r, _mm512_mul_ps(_mm512_load_ps(h->totals + 16 * r), f));
    for (size_t d = 0; d < h->dims; d += 16) {
        float *p = h->sums + r * h->dims + d;
        _mm512_store_ps(p, _mm512_mul_ps(_mm512_load_ps(p), f));
    }
}

/* Scores of row r → weights in tile order. */
MF_INLINE void soften_row(enum amx_format f, struct head *h, size_t r, size_t vectors, float scale)
{
    const float *s = h->scores + r * MOST;
    __m512 most = _mm512_max_ps(_mm512_load_ps(s), _mm512_load_ps(s + 16));
    for (size_t i = 2; i < vectors; i += 2)
        most = _mm512_max_ps(
            most, _mm512_max_ps(_mm512_load_ps(s + 16 * i), _mm512_load_ps(s + 16 * i + 16)));
    __m512 limit = _mm512_set1_ps(h->top[r] + (float)SLACK / scale);
    if (_mm512_cmp_ps_mask(most, limit, _CMP_GT_OQ))
        raise_top(h, r, _mm512_reduce_max_ps(most), scale);
    __m512 c = _mm512_set1_ps(scale), shift = _mm512_set1_ps(h->top[r] * scale);
    __m512 total = _mm512_load_ps(h->totals + 16 * r);
    char *out = h->weights + r / 16 * AMX_TILE_BYTES + r % 16 * 64;
    for (size_t i = 0; i < vectors; i += 2) {
        __m512 a = power(f, _mm512_fmsub_ps(_mm512_load_ps(s + 16 * i), c, shift));
        __m512 b = power(f, _mm512_fmsub_ps(_mm512_load_ps(s + 16 * i + 16), c, shift));
        total = _mm512_add_ps(total, _mm512_add_ps(a, b));
        for (size_t k = 0; k < amx_pieces(f); k++, out += 2 * AMX_TILE_BYTES)
            _mm512_store_si512(out, take_piece(&a, &b));
    }
    _mm512_store_ps(h->totals + 16 * r, total);
}

/* Scores of keys that are not there become −infinity. */
static void hide_missing(struct head *h, size_t rows, size_t keys)
{
    __mmask16 low = lanes(keys % 32), high = lanes(keys % 32 > 16 ? keys % 32 - 16 : 0);
    const __m512 none = _mm512_set1_ps(-INFINITY);
    for (size_t r = 0; r < rows; r++) {
        float *tail = h->scores + r * MOST + keys / 32 * 32;
        _mm512_mask_storeu_ps(tail, (__mmask16)~low, none);
        _mm512_mask_storeu_ps(tail + 16, (__mmask16)~high, none);
    }
}

MF_INLINE void soften_chunk(enum amx_format f, struct head *h, size_t rows, size_t keys,
                            float scale)
{
    if (keys % 32)
        hide_missing(h, rows, keys);
    if (keys == CHUNK)
        for (size_t r = 0; r < rows; r++)
            soften_row(f, h, r, CHUNK / 16, scale);
    else
        for (size_t r = 0; r < rows; r++)
            soften_row(f, h, r, (keys + 31) / 32 * 2, scale);
}

MF_INLINE void mix_chunk(enum amx_format f, bool half, const struct head *h, size_t first,
                         size_t depths)
{
    size_t step = amx_pieces(f) * 2 * AMX_TILE_BYTES;
    for (size_t c = 0; c < h->dims; c += 32) {
        const char *panel = h->values + c / 32 * h->value_bytes + first * step;
        load_sums(half, h->sums + c, h->dims * sizeof(float));
        for (size_t d = 0; d < depths; d++)
            multiply_depth(f, half, h->weights + d * step, panel + d * step);
        store_sums(half, h->sums + c, h->dims * sizeof(float));
    }
}

/* Queries [first, first + rows), packed before. */
MF_INLINE void attend_block(enum amx_format f, bool half, struct head *h, size_t first, size_t rows)
{
    const struct mf_attention *at = h->at;
    size_t count = h->rows->keys;
    const float scale = at->scale * 1.44269504f;
    memset(h->sums, 0, AMX_ROWS * h->dims * sizeof(float));
    memset(h->totals, 0, AMX_ROWS * 16 * sizeof(float));
    for (size_t r = 0; r < AMX_ROWS; r++)
        h->top[r] = NOTHING;
    for (size_t key = 0, keys; key < count; key += keys) {
        keys = count - key <= MOST ? count - key : CHUNK;
        size_t panels = amx_strips(keys);
        score_chunk(f, half, h, key / 32, panels);
        soften_chunk(f, h, rows, keys, scale);
        mix_chunk(f, half, h, key / 32, panels);
    }
    for (size_t r = 0; r < rows; r++) {
        float *o = h->rows->o + cpu_row_offset(&h->rows->o_rows, first + r);
        __m512 factor =
            _mm512_set1_ps(1.0f / _mm512_reduce_add_ps(_mm512_load_ps(h->totals + 16 * r)));
        for (size_t d = 0; d < at->head_size; d += 16) {
            __m512 v = _mm512_mul_ps(_mm512_load_ps(h->sums + r * h->dims + d), factor);
            _mm512_mask_storeu_ps(o + d, lanes(at->head_size - d), v);
        }
    }
}

/* Keys [first, first + n ≤ 32) and their values into the panels. */
MF_INLINE void pack_keys(enum amx_format f, const struct head *h, size_t first, size_t n)
{
    const float *keys[AMX_ROWS], *values[AMX_ROWS];
    size_t size = h->at->head_size, step = amx_pieces(f) * 2 * AMX_TILE_BYTES;
    for (size_t i = 0; i < n; i++) {
        keys[i] = cpu_head_key(h->rows, first + i);
        values[i] = cpu_head_value(h->rows, first + i);
    }
    char *panel = h->keys + first / AMX_ROWS * h->key_bytes;
    mf_amx_pack_rows(f, keys, n, size, panel);
    mf_amx_turn_panel(panel, h->key_bytes);
    for (size_t c = 0; c < size; c += 32) {
        panel = h->values + c / 32 * h->value_bytes + first / AMX_ROWS * step;
        mf_amx_pack_panel_across(f, values, n, size - c < 32 ? size - c : 32, panel);
        for (size_t i = 0; i < n; i++)
            values[i] += 32;
    }
}

MF_INLINE void attend(enum amx_format f, const struct cpu_head *rows, size_t begin, size_t end,
                      float *scratch)
{
    struct head h = {.rows = rows};
    lay_out(f, rows->at, (char *)scratch, &h);
    for (size_t i = 0; i < rows->keys; i += AMX_ROWS)
        pack_keys(f, &h, i, rows->keys - i < AMX_ROWS ? rows->keys - i : AMX_ROWS);
    configure_tiles();
    for (size_t i = begin; i < end; i += AMX_ROWS) {
        const float *queries[AMX_ROWS];
        size_t n = end - i < AMX_ROWS ? end - i : AMX_ROWS;
        for (size_t r = 0; r < n; r++)
            queries[r] = rows->q + cpu_row_offset(&rows->q_rows, i + r);
        mf_amx_pack_rows(f, queries, n, rows->at->head_size, h.query);
        if (n > 16)
            attend_block(f, false, &h, i, n);
        else
            attend_block(f, true, &h, i, n);
    }
    _tile_release();
}

void mf_amx_attention(enum amx_format f, const struct cpu_head *head, size_t begin, size_t end,
                      float *scratch)
{
    if (f == AMX_BF16)
        attend(AMX_BF16, head, begin, end, scratch);
    else if (f == AMX_BF16X2)
        attend(AMX_BF16X2, head, begin, end, scratch);
    else
        attend(AMX_BF16X3, head, begin, end, scratch);
}
