/* The CUDA backend's attention, of rows and of a grid's windows, against the CPU backend's
 * (both_backends.h). */
#include "tests/cuda/both_backends.h"

/* q, k and v lie in one array side by side, `extra` floats apart from the next row. */
static void check_attention(const size_t *p, size_t extra, double limit)
{
    size_t d = p[1] * p[2], row = 3 * d + extra, rows = p[3] > p[4] ? p[3] : p[4];
    struct mf_attention at = {p[0],
                              p[1],
                              p[2],
                              p[3],
                              p[4],
                              row,
                              row,
                              row,
                              d + extra,
                              rows * row,
                              rows * row,
                              rows * row,
                              p[3] * (d + extra),
                              1.3f / sqrtf((float)p[2])};
    struct array *x = noisy(p[0] * rows * row), *y = noisy(p[0] * p[3] * (d + extra));
    size_t wanted = mf_cuda_ops.attention_scratch(t.gpu, &at);
    struct array *room = poisoned(wanted);
    float *scratch = malloc((mf_cpu_ops.attention_scratch(t.cpu, &at) + 64) * sizeof *scratch);
    float *aligned = (float *)(((uintptr_t)scratch + 63) / 64 * 64);
    for (size_t i = 0; i < x->n; i++) /* sharp enough that softmax matters */
        x->host[i] = x->cpu[i] *= 3;
    mf_cuda_ops.upload(t.gpu, x->gpu, x->host, x->n);
    BOTH(attention, (t.gpu, &at, x->gpu, x->gpu + d, x->gpu + 2 * d, y->gpu, room->gpu),
         (t.cpu, &at, x->cpu, x->cpu + d, x->cpu + 2 * d, y->cpu, aligned));
    free(scratch);
    char what[96];
    snprintf(what, sizeof what, "attention %zu x %zu heads of %zu, %zu queries, %zu keys", p[0],
             p[1], p[2], p[3], p[4]);
    check(y, limit, what);
}

/* batch, heads, head size, queries, keys */
static const size_t ATTENTIONS[][5] = {
    {1, 1, 1, 1, 1},     {1, 3, 16, 5, 17},    {2, 2, 24, 31, 33}, {3, 2, 8, 64, 64},
    {1, 2, 64, 65, 70},  {1, 2, 96, 7, 100},   {2, 1, 56, 4, 16},  {1, 1, 64, 49, 1},
    {1, 1, 128, 20, 65}, {1, 1, 256, 66, 130}, {1, 3, 10, 9, 129}};
static const size_t LARGE_ATTENTIONS[][5] = {
    {1, 12, 64, 1370, 1370}, {8, 16, 64, 1370, 1370}, {64, 1, 96, 64, 64},
    {25, 4, 96, 196, 196},   {1, 8, 96, 4096, 4096},  {1, 1, 256, 1024, 7232},
    {2, 8, 16, 8, 4096},     {2, 8, 16, 4096, 8},     {32769, 2, 4, 1, 2}};

/* Keys and values lie in a grid of `p`: side, height, width, pool. */
static void check_window_attention(size_t heads, size_t size, const size_t *p, double limit)
{
    size_t d = heads * size, side = p[0], h = p[1], w = p[2], pool = p[3];
    struct mf_attention at = {.batch = ((h + side - 1) / side) * ((w + side - 1) / side),
                              .heads = heads,
                              .head_size = size,
                              .queries = side * side / pool / pool,
                              .keys = side * side,
                              .q_row = d,
                              .k_row = 3 * d,
                              .v_row = 3 * d,
                              .o_row = d,
                              .scale = 2.1f / sqrtf((float)size)};
    struct array *x = noisy(h * w * 3 * d), *q = noisy(h / pool * (w / pool) * d),
                 *pad = noisy(2 * d), *y = poisoned(q->n);
    struct mf_windows gpu = {side, h, w, pool, pad->gpu, pad->gpu + d},
                      cpu = {side, h, w, pool, pad->cpu, pad->cpu + d};
    float *scratch =
        malloc((mf_cpu_ops.window_attention_scratch(t.cpu, &at) + 64) * sizeof *scratch);
    float *aligned = (float *)(((uintptr_t)scratch + 63) / 64 * 64);
    BOTH(window_attention, (t.gpu, &at, &gpu, q->gpu, x->gpu + d, x->gpu + 2 * d, y->gpu, NULL),
         (t.cpu, &at, &cpu, q->cpu, x->cpu + d, x->cpu + 2 * d, y->cpu, aligned));
    free(scratch);
    char what[96];
    snprintf(what, sizeof what, "windows of %zu in %zu x %zu, pool %zu, %zu heads of %zu", side, h,
             w, pool, heads, size);
    check(y, limit, what);
}

static void attend_in_windows(const char *dtype, double limit)
{
    /* every remainder of a side of 7 and of a pooled side of 4 */
    static const size_t FIXED[][4] = {
        {8, 16, 24, 1}, {14, 16, 5, 1}, {14, 14, 28, 2}, {1, 2, 3, 1}};
    static const size_t PUBLISHED[][4] = {{8, 256, 256, 1}, {8, 256, 256, 2}, {14, 64, 64, 1}};
    start(dtype);
    for (size_t i = 0; i < sizeof FIXED / sizeof *FIXED; i++) {
        check_window_attention(2, 24, FIXED[i], limit);
        check_window_attention(1, 10, FIXED[i], limit);
    }
    for (size_t h = 1; h <= 8; h++)
        for (size_t w = 1; w <= 8; w++)
            check_window_attention(1, 16, (const size_t[]){7, h, w, 1}, limit);
    for (size_t h = 2; h <= 10; h += 2)
        for (size_t w = 2; w <= 10; w += 2)
            check_window_attention(3, 8, (const size_t[]){4, h, w, 2}, limit);
    for (size_t i = 0; large && i < sizeof PUBLISHED / sizeof *PUBLISHED; i++)
        check_window_attention(i == 2 ? 4 : 1, 96, PUBLISHED[i], limit);
    stop();
}

static void windows_attend_where_they_lie(void **state)
{
    (void)state;
    attend_in_windows("f32", 1e-5);
    attend_in_windows("bf16", 2e-2);
}

static void attend_in(const char *dtype, const char *kernels, double limit)
{
    struct mf_error err = MF_ERROR_INIT;
    start(dtype);
    if (!mf_cuda_ops.kernels(t.gpu, kernels, &err)) {
        printf("skipped: %s\n", err.msg); /* a machine without the library */
        stop();
        return;
    }
    for (size_t i = 0; i < sizeof ATTENTIONS / sizeof *ATTENTIONS; i++) {
        check_attention(ATTENTIONS[i], 0, limit);
        check_attention(ATTENTIONS[i], 3, limit);
    }
    for (size_t i = 0; large && i < sizeof LARGE_ATTENTIONS / sizeof *LARGE_ATTENTIONS; i++)
        check_attention(LARGE_ATTENTIONS[i], 0, limit);
    stop();
}

static void attention_equals_softmax_in_floats(void **state)
{
    (void)state;
    attend_in("f32", "own", 1e-5);
}

static void attention_equals_softmax_on_tensor_cores(void **state)
{
    (void)state;
    attend_in("bf16", "own", 2e-2);
}

static void attention_equals_softmax_by_cudnn(void **state)
{
    (void)state;
    attend_in("bf16", "cudnn", 2e-2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(windows_attend_where_they_lie),
        cmocka_unit_test(attention_equals_softmax_in_floats),
        cmocka_unit_test(attention_equals_softmax_on_tensor_cores),
        cmocka_unit_test(attention_equals_softmax_by_cudnn),
    };
    RUN_ON_BOTH(tests);
}
