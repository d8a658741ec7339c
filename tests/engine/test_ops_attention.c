/* Attention of the CPU backend against softmax in doubles, whole and in windows, over odd shapes
 * and on every instruction set this machine has. */
#include "tests/engine/ops_check.h"

/* y (size) = softmax(scale · q kᵀ) v in doubles; keys and values are rows by pointer. */
static void reference_attention(const float *q, const float *const *keys,
                                const float *const *values, size_t n, size_t size, double scale,
                                double *y)
{
    double *s = malloc((n + 1) * sizeof *s), top = -INFINITY, sum = 0;
    for (size_t j = 0; j < n; j++) {
        s[j] = 0;
        for (size_t d = 0; d < size; d++)
            s[j] += (double)q[d] * keys[j][d];
        s[j] *= scale;
        top = fmax(top, s[j]);
    }
    for (size_t j = 0; j < n; j++)
        sum += s[j] = exp(s[j] - top);
    for (size_t d = 0; d < size; d++) {
        y[d] = 0;
        for (size_t j = 0; j < n; j++)
            y[d] += s[j] / sum * values[j][d];
    }
    free(s);
}

static float *scratch_of(struct mf_backend *be, const struct mf_attention *at)
{
    return aligned_alloc(64, (mf_cpu_ops.attention_scratch(be, at) * 4 + 63) / 64 * 64);
}

static void check_attention(struct mf_backend *be, const struct mf_attention *at)
{
    size_t qn = at->batch * at->queries * at->q_row, kn = at->batch * at->keys * at->k_row;
    size_t on = at->batch * at->queries * at->o_row;
    float *q = noisy(qn), *k = noisy(kn), *v = noisy(kn), *o = noisy(on);
    double *want = malloc(on * sizeof *want);
    const float **keys = malloc(2 * at->keys * sizeof *keys), **values = keys + at->keys;
    for (size_t i = 0; i < on; i++)
        want[i] = o[i]; /* columns of no head stay */
    for (size_t b = 0; b < at->batch; b++)
        for (size_t h = 0; h < at->heads; h++) {
            size_t c = h * at->head_size;
            for (size_t j = 0; j < at->keys; j++) {
                keys[j] = k + b * at->k_batch + j * at->k_row + c;
                values[j] = v + b * at->v_batch + j * at->v_row + c;
            }
            for (size_t i = 0; i < at->queries; i++)
                reference_attention(q + b * at->q_batch + i * at->q_row + c, keys, values, at->keys,
                                    at->head_size, at->scale,
                                    want + b * at->o_batch + i * at->o_row + c);
        }
    float *scratch = scratch_of(be, at);
    mf_cpu_ops.attention(be, at, q, k, v, o, scratch);
    assert_near("attention", o, want, on, 5e-6);
    free(q);
    free(k);
    free(v);
    free(o);
    free(want);
    free(keys);
    free(scratch);
}

/* The window of query (y, x), key by key: a row of the grid, or the one for what is outside. */
static void window_rows(const struct mf_windows *w, size_t y, size_t x, const float *grid,
                        size_t row, const float *pad, size_t column, const float **ret)
{
    size_t top = y * w->pool / w->side * w->side, left = x * w->pool / w->side * w->side;
    for (size_t i = 0; i < w->side * w->side; i++) {
        size_t r = top + i / w->side, c = left + i % w->side;
        bool inside = r < w->height && c < w->width;
        ret[i] = (inside ? grid + (r * w->width + c) * row : pad) + column;
    }
}

/* heads of `size` in a product (height · width, 3 · heads · size), as networks lay it out. */
static void check_windows(struct mf_backend *be, size_t heads, size_t size,
                          const struct mf_windows *shape)
{
    struct mf_windows w = *shape;
    size_t d = heads * size, n = w.height * w.width, oh = w.height / w.pool, ow = w.width / w.pool;
    size_t keys = w.side * w.side;
    float *qkv = noisy(n * 3 * d), *q = noisy(oh * ow * d), *o = noisy(oh * ow * d);
    float *pad = noisy(3 * d), **rows = malloc(2 * keys * sizeof *rows);
    const float **k_rows = (const float **)rows, **v_rows = k_rows + keys;
    double *want = malloc(oh * ow * d * sizeof *want);
    w.k_pad = pad + d;
    w.v_pad = pad + 2 * d;
    for (size_t i = 0; i < oh * ow * heads; i++) {
        size_t at = i / heads, c = i % heads * size;
        window_rows(&w, at / ow, at % ow, qkv + d, 3 * d, w.k_pad, c, k_rows);
        window_rows(&w, at / ow, at % ow, qkv + 2 * d, 3 * d, w.v_pad, c, v_rows);
        reference_attention(q + at * d + c, k_rows, v_rows, keys, size, 0.7, want + at * d + c);
    }
    struct mf_attention at = {.batch = ((w.height + w.side - 1) / w.side) *
                                       ((w.width + w.side - 1) / w.side),
                              .heads = heads,
                              .head_size = size,
                              .queries = keys / w.pool / w.pool,
                              .keys = keys,
                              .q_row = d,
                              .k_row = 3 * d,
                              .v_row = 3 * d,
                              .o_row = d,
                              .scale = 0.7f};
    float *scratch = scratch_of(be, &at);
    mf_cpu_ops.window_attention(be, &at, &w, q, qkv + d, qkv + 2 * d, o, scratch);
    assert_near("window_attention", o, want, oh * ow * d, 5e-6);
    free(qkv);
    free(q);
    free(o);
    free(pad);
    free(rows);
    free(want);
    free(scratch);
}

static void attention_in_windows_pads_what_is_outside(void **state)
{
    /* side, height, width, pool: every remainder of a side of 7 and of a pooled side of 4 */
    static const size_t FIXED[][4] = {
        {8, 16, 24, 1}, {14, 16, 5, 1}, {14, 14, 28, 2}, {1, 2, 3, 1}};
    (void)state;
    for (size_t i = 0; i < ISA_COUNT; i++)
        for (int threads = 1; threads <= 2; threads++) {
            struct mf_backend *be = backend_of(ISAS[i], threads);
            for (size_t n = 0; be && n < sizeof FIXED / sizeof *FIXED; n++) {
                const size_t *p = FIXED[n];
                check_windows(be, 2, 24, &(struct mf_windows){p[0], p[1], p[2], p[3], NULL, NULL});
            }
            for (size_t h = 1; be && h <= 8; h++)
                for (size_t w = 1; w <= 8; w++)
                    check_windows(be, 1, 16, &(struct mf_windows){7, h, w, 1, NULL, NULL});
            for (size_t h = 2; be && h <= 10; h += 2)
                for (size_t w = 2; w <= 10; w += 2)
                    check_windows(be, 3, 8, &(struct mf_windows){4, h, w, 2, NULL, NULL});
            mf_cpu_ops.backend_free(be);
        }
}

static void attention_equals_softmax_in_every_shape(void **state)
{
    /* batch, heads, head size, queries, keys */
    static const size_t SHAPES[][5] = {{1, 1, 1, 1, 1},   {1, 3, 16, 5, 17},    {2, 2, 24, 31, 33},
                                       {3, 4, 8, 64, 64}, {1, 6, 32, 257, 257}, {1, 2, 96, 7, 100},
                                       {9, 1, 56, 4, 16}, {1, 1, 64, 49, 1},    {1, 1, 64, 33, 288},
                                       {1, 2, 64, 5, 289}};
    (void)state;
    for (size_t i = 0; i < ISA_COUNT; i++)
        for (int threads = 1; threads <= 2; threads++) {
            struct mf_backend *be = backend_of(ISAS[i], threads);
            for (size_t n = 0; be && n < sizeof SHAPES / sizeof *SHAPES; n++) {
                const size_t *p = SHAPES[n];
                size_t d = p[1] * p[2];
                struct mf_attention at = {p[0],     p[1],     p[2],     p[3], p[4],
                                          d + 3,    d,        d,        d,    p[3] * (d + 3),
                                          p[4] * d, p[4] * d, p[3] * d, 1.3f};
                check_attention(be, &at);
            }
            mf_cpu_ops.backend_free(be);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attention_equals_softmax_in_every_shape),
        cmocka_unit_test(attention_in_windows_pads_what_is_outside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
