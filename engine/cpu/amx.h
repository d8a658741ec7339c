/*
 * Matrix products on AMX tiles. Operands are bfloat16 in tile order; a float is held in one, two or
 * three pieces (hi + mid + lo, each the rounded rest of those before), so that
 *   1 piece    a bf16 product                                    16 × the rate of float FMAs
 *   2 pieces   hi·hi + hi·lo + lo·hi, products to 2^-16          1/3 of that
 *   3 pieces   six products, everything above 2^-24: a float's   1/6 of that
 * All sums are floats in the tiles. With 8-bit integers (int8) the layout is the same, 64 deep.
 *
 * Layouts, in units of a tile of 16 rows × 64 bytes:
 *   blocks    left operand, 32 rows: [k / depth][piece][2][16 rows][depth]
 *   panels    right operand, 32 columns: [k / depth][piece][2][depth / g][16 columns][g], g numbers
 *             in 4 bytes
 * depth is 32 (bf16) or 64 (int8). Both are padded with zeros.
 */
#ifndef MF_ENGINE_CPU_AMX_H
#define MF_ENGINE_CPU_AMX_H

#include "engine/cpu/backend.h"

#include <stdint.h>

enum { AMX_ROWS = 32, AMX_TILE_BYTES = 1024, AMX_SUM_BYTES = 4096 };

static inline size_t amx_pieces(enum amx_format f)
{
    return f == AMX_INT8 ? 1 : (size_t)f;
}
static inline size_t amx_depth(enum amx_format f)
{
    return f == AMX_INT8 ? 64 : 32;
}
/* Bytes of one block or panel of `k` numbers depth. */
static inline size_t amx_strip_bytes(enum amx_format f, size_t k)
{
    return (k + amx_depth(f) - 1) / amx_depth(f) * amx_pieces(f) * 2 * AMX_TILE_BYTES;
}
static inline size_t amx_strips(size_t rows)
{
    return (rows + AMX_ROWS - 1) / AMX_ROWS;
}

/* What happens to a product's results, row by row. */
struct amx_sink {
    float *y;
    size_t y_row;
    const float *bias;         /* NULL: none */
    const float *column_scale; /* int8: of the weights; else NULL */
    const float *row_scale;    /* int8: of the activations; else NULL */
    bool accumulate;           /* y += … */
    enum mf_epilogue activation;
    /* GELU only, not int8: results go, in the same format, into blocks (`block_bytes` apart) of the
     * product that follows instead of y; NULL: into y. */
    char *blocks;
    size_t block_bytes;
};

/* Whether this processor, this kernel and ONEDNN_MAX_CPU_ISA allow tiles. */
bool mf_amx_available(void);

/* n ≤ 32 rows of k numbers as one block. */
void mf_amx_pack_rows(enum amx_format f, const float *const *rows, size_t n, size_t k, void *block);
/* The same rows, `row` floats apart. */
void mf_amx_pack_block(enum amx_format f, const float *x, size_t n, size_t row, size_t k,
                       void *block);
/* int8: the same, x · factor[i] quantised to `scales`[row] steps, which are set; factor NULL: 1 */
void mf_amx_quantise_block(const float *x, size_t n, size_t row, size_t k, const float *factor,
                           void *block, float *scales);
/* int8: a panel of quantised weights (as mf_amx_pack_panel), each column to steps of its own. */
void mf_amx_quantise_panel(const float *w, size_t n, size_t row, size_t k, const float *factor,
                           void *panel, float *scales);
/* 32 columns of the right operand, of a matrix whose column c is the row w + c · row. */
void mf_amx_pack_panel(enum amx_format f, const float *w, size_t n, size_t row, size_t k,
                       void *panel);
/* One unit of depth of such a panel, of which n ≤ 32 rows are at hand: column c is rows[0][c],
 * rows[1][c], …, `columns` ≤ 32 of them; values of attention. */
void mf_amx_pack_panel_across(enum amx_format f, const float *const *rows, size_t n, size_t columns,
                              void *panel);

/* `count` blocks (`m` rows) times one panel: columns [column, column + 32) of the sink's `out`; the
 * strips are `depths` units of depth long. `sums` holds count · AMX_SUM_BYTES. */
struct amx_product {
    const void *blocks, *panel;
    float *sums;
    size_t block_bytes, depths, count, m;
    size_t column, out;
};
void mf_amx_multiply(enum amx_format f, const struct amx_product *p, const struct amx_sink *sink);

/* One head's attention over query rows [begin, end): as struct cpu_kernels' attention. */
size_t mf_amx_attention_floats(enum amx_format f, const struct mf_attention *at);
void mf_amx_attention(enum amx_format f, const struct cpu_head *head, size_t begin, size_t end,
                      float *scratch);

#endif
