/*
 * Blocks times a panel (amx.h). While a block is multiplied, the results of the one before are
 * finished, some rows after every unit of depth: vector units and tiles work at the same time.
 */
#include "engine/cpu/amx_tile.h"
#include "engine/cpu/vec.h"

/* The results of one block on their way to the sink. */
struct pending {
    const struct amx_sink *sink;
    const float *c; /* (32, 32) */
    size_t row, rows, next;
    size_t column, columns;
};

/* GELU to 1e-4: for results that are rounded to bf16 or 8 bits (erf as in vec.h). */
MF_INLINE __m512 gelu_short(__m512 x)
{
    const __m512 sign = _mm512_set1_ps(-0.0f);
    __m512 a = _mm512_mul_ps(_mm512_abs_ps(x), _mm512_set1_ps(0.70710678f));
    __m512 t =
        _mm512_rcp14_ps(_mm512_fmadd_ps(a, _mm512_set1_ps(0.3275911f), _mm512_set1_ps(1.0f)));
    __m512 p = _mm512_fmadd_ps(_mm512_set1_ps(1.061405429f), t, _mm512_set1_ps(-1.453152027f));
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(1.421413741f));
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(-0.284496736f));
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(0.254829592f));
    __m512 e = power(AMX_BF16, _mm512_mul_ps(_mm512_mul_ps(a, a), _mm512_set1_ps(-1.44269504f)));
    __m512 erf = _mm512_fnmadd_ps(_mm512_mul_ps(p, t), e, _mm512_set1_ps(1.0f));
    erf = _mm512_or_ps(erf, _mm512_and_ps(x, sign));
    __m512 half = _mm512_mul_ps(x, _mm512_set1_ps(0.5f));
    return _mm512_fmadd_ps(half, erf, half);
}

MF_INLINE __m512 activate(enum amx_format f, enum mf_epilogue e, __m512 v)
{
    if (e == MF_EPILOGUE_GELU && amx_pieces(f) == 1)
        return gelu_short(v);
    if (e == MF_EPILOGUE_GELU)
        return (__m512)(0.5f * (vf)v * (1.0f + verf((vf)v * 0.70710678f)));
    return e == MF_EPILOGUE_RELU ? _mm512_max_ps(v, _mm512_setzero_ps()) : v;
}

/* Sums of half a row as the product's results, before the activation. */
MF_INLINE __m512 result(enum amx_format f, const struct pending *p, size_t r, size_t at,
                        __mmask16 m)
{
    const struct amx_sink *k = p->sink;
    size_t column = p->column + at;
    __m512 v = _mm512_load_ps(p->c + r * 32 + at);
    if (f == AMX_INT8) {
        __m512 scale = _mm512_maskz_loadu_ps(m, k->column_scale + column);
        v = _mm512_cvtepi32_ps((__m512i)v);
        v = _mm512_mul_ps(v, _mm512_mul_ps(scale, _mm512_set1_ps(k->row_scale[p->row + r])));
    }
    return k->bias ? _mm512_add_ps(v, _mm512_maskz_loadu_ps(m, k->bias + column)) : v;
}

MF_INLINE void finish_half_row(enum amx_format f, enum mf_epilogue e, const struct pending *p,
                               size_t r, size_t at)
{
    __mmask16 m = lanes(p->columns > at ? p->columns - at : 0);
    float *y = p->sink->y + (p->row + r) * p->sink->y_row + p->column + at;
    __m512 v = result(f, p, r, at, m);
    if (p->sink->accumulate)
        v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(m, y));
    _mm512_mask_storeu_ps(y, m, activate(f, e, v));
}

/* One row into the blocks of the next product. */
MF_INLINE void pack_row(enum amx_format f, enum mf_epilogue e, const struct pending *p, size_t r)
{
    __mmask16 low = lanes(p->columns), high = lanes(p->columns > 16 ? p->columns - 16 : 0);
    __m512 a = activate(f, e, result(f, p, r, 0, low));
    __m512 b = activate(f, e, result(f, p, r, 16, high));
    char *out = p->sink->blocks + p->row / AMX_ROWS * p->sink->block_bytes +
                p->column / 32 * amx_pieces(f) * 2 * AMX_TILE_BYTES + r / 16 * AMX_TILE_BYTES +
                r % 16 * 64;
    for (size_t s = 0; s < amx_pieces(f); s++, out += 2 * AMX_TILE_BYTES)
        _mm512_store_si512(out, take_piece(&a, &b));
}

MF_INLINE void finish_rows(enum amx_format f, enum mf_epilogue e, struct pending *p, size_t count)
{
    size_t end = p->next + count < p->rows ? p->next + count : p->rows;
    bool pack = f != AMX_INT8 && e == MF_EPILOGUE_GELU && p->rows && p->sink->blocks;
    for (; p->next < end; p->next++) {
        if (pack) {
            pack_row(f, e, p, p->next);
            continue;
        }
        finish_half_row(f, e, p, p->next, 0);
        finish_half_row(f, e, p, p->next, 16);
    }
}

/* Depth units [from, to) of one block; `c` holds the sums so far unless from = 0. */
MF_INLINE void multiply_block(enum amx_format f, enum mf_epilogue e, bool half, const char *a,
                              const char *b, size_t from, size_t to, float *c,
                              struct pending *before)
{
    size_t step = amx_pieces(f) * 2 * AMX_TILE_BYTES,
           pace = (AMX_ROWS + to - from - 1) / (to - from);
    if (from == 0)
        zero_sums(half);
    else
        load_sums(half, c, 128);
    for (size_t d = from; d < to; d++) {
        multiply_depth(f, half, a + d * step, b + d * step);
        finish_rows(f, e, before, pace);
    }
    store_sums(half, c, 128);
}

/* A part of the panel that stays in the first cache goes over all blocks before the next part. */
MF_INLINE void multiply(enum amx_format f, enum mf_epilogue e, const struct amx_product *p,
                        const struct amx_sink *sink)
{
    enum { PART = 10 };
    size_t parts = amx_pieces(f) > 1 || p->count < 3 ? 1 : (p->depths + PART - 1) / PART;
    struct pending before = {0};
    configure_tiles();
    for (size_t part = 0; part < parts; part++) {
        size_t from = part * p->depths / parts, to = (part + 1) * p->depths / parts;
        for (size_t i = 0; i < p->count; i++) {
            size_t row = i * AMX_ROWS, rows = p->m - row < AMX_ROWS ? p->m - row : AMX_ROWS;
            const char *a = (const char *)p->blocks + i * p->block_bytes;
            float *c = p->sums + i * AMX_ROWS * 32;
            if (rows > 16)
                multiply_block(f, e, false, a, p->panel, from, to, c, &before);
            else
                multiply_block(f, e, true, a, p->panel, from, to, c, &before);
            if (part + 1 < parts)
                continue;
            finish_rows(f, e, &before, AMX_ROWS);
            before = (struct pending){sink, c, row, rows, 0, p->column, p->out - p->column};
        }
    }
    finish_rows(f, e, &before, AMX_ROWS);
    _tile_release();
}

MF_INLINE void multiply_format(enum amx_format f, const struct amx_product *p,
                               const struct amx_sink *sink)
{
    if (sink->activation == MF_EPILOGUE_GELU)
        multiply(f, MF_EPILOGUE_GELU, p, sink);
    else if (sink->activation == MF_EPILOGUE_RELU)
        multiply(f, MF_EPILOGUE_RELU, p, sink);
    else
        multiply(f, MF_EPILOGUE_NONE, p, sink);
}

void mf_amx_multiply(enum amx_format f, const struct amx_product *p, const struct amx_sink *sink)
{
    switch (f) {
    case AMX_BF16:
        multiply_format(AMX_BF16, p, sink);
        break;
    case AMX_BF16X2:
        multiply_format(AMX_BF16X2, p, sink);
        break;
    case AMX_BF16X3:
        multiply_format(AMX_BF16X3, p, sink);
        break;
    case AMX_INT8:
        multiply_format(AMX_INT8, p, sink);
        break;
    }
}
