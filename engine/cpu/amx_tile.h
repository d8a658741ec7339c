/* What the AMX files share: tile configuration, pieces of floats, one step of the product. */
#ifndef MF_ENGINE_CPU_AMX_TILE_H
#define MF_ENGINE_CPU_AMX_TILE_H

#include "engine/cpu/amx.h"

#if defined(__AMX_TILE__) || defined(__AMXTILE__) /* built for AMX, by GCC or Clang */

#include <immintrin.h>

#ifndef MF_INLINE
#define MF_INLINE static inline __attribute__((always_inline))
#endif

/* Turns every tile of a panel that was packed as a block. */
void mf_amx_turn_panel(void *panel, size_t bytes);

/* All eight tiles at their full size. */
MF_INLINE void configure_tiles(void)
{
    struct {
        uint8_t palette, start, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } config __attribute__((aligned(64))) = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        config.bytes[i] = 64;
        config.rows[i] = 16;
    }
    _tile_loadconfig(&config);
}

/* The first n of 16 lanes. */
MF_INLINE __mmask16 lanes(size_t n)
{
    return n >= 16 ? 0xFFFF : (__mmask16)((1u << n) - 1);
}

/* a and b rounded to bf16, side by side; they keep what the rounding left. */
MF_INLINE __m512i take_piece(__m512 *a, __m512 *b)
{
    __m512i both = (__m512i)_mm512_cvtne2ps_pbh(*b, *a);
    __m512i low = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(both));
    __m512i high = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(both, 1));
    *a = _mm512_sub_ps(*a, (__m512)_mm512_slli_epi32(low, 16));
    *b = _mm512_sub_ps(*b, (__m512)_mm512_slli_epi32(high, 16));
    return both;
}

/* a0 … a15 b0 … b15 → a0 b0 a1 b1 … */
MF_INLINE __m512i interleave(__m512i both)
{
    __m512i low = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(both));
    __m512i high = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(both, 1));
    return _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
}

/* 2^max(x, −120) for x ≤ 127; to 1e-4 where the result is rounded to bf16 anyway. */
MF_INLINE __m512 power(enum amx_format f, __m512 x)
{
    x = _mm512_max_ps(x, _mm512_set1_ps(-120.0f)); /* from −126 on are denormals, which are slow */
    __m512 n = _mm512_roundscale_ps(x, 0), r = _mm512_sub_ps(x, n), p;
    if (amx_pieces(f) == 1) {
        p = _mm512_fmadd_ps(_mm512_set1_ps(0.05517166f), r, _mm512_set1_ps(0.24261113f));
        p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.69326099f));
        p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.99992807f));
    } else {
        p = _mm512_fmadd_ps(_mm512_set1_ps(1.5403530e-4f), r, _mm512_set1_ps(1.33335581e-3f));
        p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(9.61812911e-3f));
        p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.55041087e-2f));
        p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(2.40226507e-1f));
        p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(6.93147181e-1f));
        p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    }
    return _mm512_scalef_ps(p, n);
}

/* Tiles 0 … 3 are 2 × 2 sums, 4 and 5 the left operand, 6 and 7 the right one. */
#define AMX_LOAD_LEFT(p)                                                                           \
    do {                                                                                           \
        _tile_loadd(4, (p), 64);                                                                   \
        if (!half)                                                                                 \
            _tile_loadd(5, (const char *)(p) + AMX_TILE_BYTES, 64);                                \
    } while (0)
#define AMX_LOAD_RIGHT(p)                                                                          \
    do {                                                                                           \
        _tile_loadd(6, (p), 64);                                                                   \
        _tile_loadd(7, (const char *)(p) + AMX_TILE_BYTES, 64);                                    \
    } while (0)
#define AMX_DOT(op)                                                                                \
    do {                                                                                           \
        op(0, 4, 6);                                                                               \
        op(1, 4, 7);                                                                               \
        if (!half) {                                                                               \
            op(2, 5, 6);                                                                           \
            op(3, 5, 7);                                                                           \
        }                                                                                          \
    } while (0)

/* One unit of depth: a and b point to its first piece. `half`: only the first 16 rows count. The
 * order of the pieces is that of the fewest loads; small products come first. */
MF_INLINE void multiply_depth(enum amx_format f, bool half, const char *a, const char *b)
{
    enum { PIECE = 2 * AMX_TILE_BYTES };
    AMX_LOAD_LEFT(a);
    if (f == AMX_INT8) {
        AMX_LOAD_RIGHT(b);
        AMX_DOT(_tile_dpbssd);
        return;
    }
    if (f == AMX_BF16X3) {
        AMX_LOAD_RIGHT(b + 2 * PIECE);
        AMX_DOT(_tile_dpbf16ps);
    }
    if (f != AMX_BF16) {
        AMX_LOAD_RIGHT(b + PIECE);
        AMX_DOT(_tile_dpbf16ps);
    }
    AMX_LOAD_RIGHT(b);
    AMX_DOT(_tile_dpbf16ps);
    if (f == AMX_BF16)
        return;
    if (f == AMX_BF16X3) {
        AMX_LOAD_LEFT(a + 2 * PIECE);
        AMX_DOT(_tile_dpbf16ps);
    }
    AMX_LOAD_LEFT(a + PIECE);
    AMX_DOT(_tile_dpbf16ps);
    if (f == AMX_BF16X3) {
        AMX_LOAD_RIGHT(b + PIECE);
        AMX_DOT(_tile_dpbf16ps);
    }
}

MF_INLINE void zero_sums(bool half)
{
    _tile_zero(0);
    _tile_zero(1);
    if (!half) {
        _tile_zero(2);
        _tile_zero(3);
    }
}

/* c (32, ·): rows `row_bytes` apart */
MF_INLINE void store_sums(bool half, void *c, size_t row_bytes)
{
    _tile_stored(0, c, row_bytes);
    _tile_stored(1, (char *)c + 64, row_bytes);
    if (!half) {
        _tile_stored(2, (char *)c + 16 * row_bytes, row_bytes);
        _tile_stored(3, (char *)c + 16 * row_bytes + 64, row_bytes);
    }
}

MF_INLINE void load_sums(bool half, const void *c, size_t row_bytes)
{
    _tile_loadd(0, c, row_bytes);
    _tile_loadd(1, (const char *)c + 64, row_bytes);
    if (!half) {
        _tile_loadd(2, (const char *)c + 16 * row_bytes, row_bytes);
        _tile_loadd(3, (const char *)c + 16 * row_bytes + 64, row_bytes);
    }
}

#endif

#endif
