/* Operands of AMX products: floats into tiles of bf16 pieces or of 8-bit integers (amx.h). */
#include "engine/cpu/amx_tile.h"

#include <dnnl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Asks the kernel for the tile state once; each process has to. */
static bool request_tiles(void)
{
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

bool mf_amx_available(void)
{
    unsigned amx =
        dnnl_cpu_isa_avx512_core_amx; /* each set's value holds the bits of those below */
    return ((unsigned)dnnl_get_effective_cpu_isa() & amx) == amx && request_tiles();
}

/* Row r of a tile pair: the `s`th piece of depth unit `d`. */
MF_INLINE char *tile_row(enum amx_format f, void *strip, size_t d, size_t s, size_t r)
{
    return (char *)strip + ((d * amx_pieces(f) + s) * 2 + r / 16) * AMX_TILE_BYTES + r % 16 * 64;
}

void mf_amx_pack_block(enum amx_format f, const float *x, size_t n, size_t row, size_t k,
                       void *block)
{
    const float *rows[AMX_ROWS];
    for (size_t r = 0; r < n; r++)
        rows[r] = x + r * row;
    mf_amx_pack_rows(f, rows, n, k, block);
}

void mf_amx_pack_rows(enum amx_format f, const float *const *rows, size_t n, size_t k, void *block)
{
    size_t depths = (k + 31) / 32;
    for (size_t r = 0; r < AMX_ROWS; r++)
        for (size_t d = 0; d < depths; d++) {
            __m512 a = _mm512_setzero_ps(), b = a;
            size_t left = r < n ? k - d * 32 : 0;
            const float *p = left ? rows[r] + d * 32 : NULL;
            if (left >= 32) {
                a = _mm512_loadu_ps(p);
                b = _mm512_loadu_ps(p + 16);
            } else if (left) {
                a = _mm512_maskz_loadu_ps(lanes(left), p);
                b = _mm512_maskz_loadu_ps(lanes(left > 16 ? left - 16 : 0), p + 16);
            }
            for (size_t s = 0; s < amx_pieces(f); s++)
                _mm512_store_si512(tile_row(f, block, d, s, r), take_piece(&a, &b));
        }
}

void mf_amx_quantise_block(const float *x, size_t n, size_t row, size_t k, const float *factor,
                           void *block, float *scales)
{
    size_t depths = (k + 63) / 64;
    for (size_t r = 0; r < AMX_ROWS; r++) {
        __m512 top = _mm512_setzero_ps();
        for (size_t i = 0; r < n && i < k; i += 16) {
            __mmask16 m = lanes(k - i);
            __m512 v = _mm512_maskz_loadu_ps(m, x + r * row + i);
            if (factor)
                v = _mm512_mul_ps(v, _mm512_maskz_loadu_ps(m, factor + i));
            top = _mm512_max_ps(top, _mm512_abs_ps(v));
        }
        float most = _mm512_reduce_max_ps(top), steps = most > 0 ? 127.0f / most : 0;
        scales[r] = most / 127.0f;
        for (size_t d = 0; d < depths; d++)
            for (size_t j = 0; j < 4; j++) {
                size_t i = d * 64 + j * 16;
                __mmask16 m = r < n && i < k ? lanes(k - i) : 0;
                __m512 v = _mm512_maskz_loadu_ps(m, x + r * row + i);
                if (factor)
                    v = _mm512_mul_ps(v, _mm512_maskz_loadu_ps(m, factor + i));
                __m512i q = _mm512_cvtps_epi32(_mm512_mul_ps(v, _mm512_set1_ps(steps)));
                _mm_store_si128((__m128i *)(tile_row(AMX_INT8, block, d, 0, r) + j * 16),
                                _mm512_cvtsepi32_epi8(q));
            }
    }
}

/* A 16 × 16 block of 4-byte units, turned: row r of the result is column r of the source. */
static void turn(const __m512i in[16], void *out)
{
    __m512i t[16], u[16];
    for (int i = 0; i < 8; i++) {
        t[2 * i] = _mm512_unpacklo_epi32(in[2 * i], in[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(in[2 * i], in[2 * i + 1]);
    }
    for (int i = 0; i < 4; i++) {
        u[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
        u[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
        u[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
        u[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        __m512i a = _mm512_shuffle_i32x4(u[i], u[4 + i], 0x88);
        __m512i b = _mm512_shuffle_i32x4(u[i], u[4 + i], 0xdd);
        __m512i c = _mm512_shuffle_i32x4(u[8 + i], u[12 + i], 0x88);
        __m512i d = _mm512_shuffle_i32x4(u[8 + i], u[12 + i], 0xdd);
        _mm512_store_si512((char *)out + i * 64, _mm512_shuffle_i32x4(a, c, 0x88));
        _mm512_store_si512((char *)out + (4 + i) * 64, _mm512_shuffle_i32x4(b, d, 0x88));
        _mm512_store_si512((char *)out + (8 + i) * 64, _mm512_shuffle_i32x4(a, c, 0xdd));
        _mm512_store_si512((char *)out + (12 + i) * 64, _mm512_shuffle_i32x4(b, d, 0xdd));
    }
}

/* A panel is its block with every tile turned by units of 4 bytes. */
void mf_amx_pack_panel(enum amx_format f, const float *w, size_t n, size_t row, size_t k,
                       void *panel)
{
    mf_amx_pack_block(f, w, n, row, k, panel);
    mf_amx_turn_panel(panel, amx_strip_bytes(f, k));
}

void mf_amx_quantise_panel(const float *w, size_t n, size_t row, size_t k, const float *factor,
                           void *panel, float *scales)
{
    mf_amx_quantise_block(w, n, row, k, factor, panel, scales);
    mf_amx_turn_panel(panel, amx_strip_bytes(AMX_INT8, k));
}

void mf_amx_turn_panel(void *panel, size_t bytes)
{
    for (char *tile = panel, *end = tile + bytes; tile < end; tile += AMX_TILE_BYTES) {
        __m512i rows[16];
        for (size_t i = 0; i < 16; i++)
            rows[i] = _mm512_load_si512(tile + i * 64);
        turn(rows, tile);
    }
}

void mf_amx_pack_panel_across(enum amx_format f, const float *const *rows, size_t n, size_t columns,
                              void *panel)
{
    for (size_t half = 0; half < 2; half++) {
        __mmask16 m = lanes(columns > half * 16 ? columns - half * 16 : 0);
        for (size_t r = 0; r < 16; r++) {
            size_t i = 2 * r;
            __m512 a = _mm512_setzero_ps(), b = a;
            if (i < n)
                a = _mm512_maskz_loadu_ps(m, rows[i] + half * 16);
            if (i + 1 < n)
                b = _mm512_maskz_loadu_ps(m, rows[i + 1] + half * 16);
            for (size_t s = 0; s < amx_pieces(f); s++)
                _mm512_store_si512(tile_row(f, panel, 0, s, half * 16 + r),
                                   interleave(take_piece(&a, &b)));
        }
    }
}
