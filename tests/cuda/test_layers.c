/* Linear layers, what is fused with them, and that a row never depends on the rows beside it: the
 * CUDA backend against the CPU backend (both_backends.h). */
#include "tests/cuda/both_backends.h"

/* What the context makes of layers, fused or not. */
struct layers {
    struct mf_norm norm;
    struct mf_linear *fc1, *fc2;
    size_t m, in, hidden, row;
    enum mf_epilogue epilogue;
    const float *x, *residual;                     /* host */
    float *plain, *strided, *added, *normed, *mlp; /* host */
};

static void layers_body(struct mf_exec *x, void *arg)
{
    const struct layers *l = arg;
    size_t m = l->m, in = l->in, hidden = l->hidden;
    float *h = mf_exec_floats(x, m * in), *wide = mf_exec_floats(x, m * hidden),
          *rows = mf_exec_floats(x, m * l->row);
    MF_DO(x, upload, h, l->x, m * in);
    MF_DO(x, upload, rows, l->x, m * l->row);
    mf_linear(x, l->fc1, h, m, wide, l->epilogue);
    MF_DO(x, download, l->plain, wide, m * hidden);
    mf_linear_strided(x, l->fc1, rows, m, l->row, wide, l->epilogue);
    MF_DO(x, download, l->strided, wide, m * hidden);
    MF_DO(x, upload, wide, l->residual, m * hidden);
    mf_linear(x, l->fc1, h, m, wide, MF_EPILOGUE_ADD);
    MF_DO(x, download, l->added, wide, m * hidden);
    mf_norm_linear(x, &l->norm, l->fc1, h, m, wide, l->epilogue);
    MF_DO(x, download, l->normed, wide, m * hidden);
    mf_mlp(x, &l->norm, l->fc1, l->fc2, hidden,
           l->epilogue == MF_EPILOGUE_NONE ? MF_EPILOGUE_GELU : l->epilogue, h, m);
    MF_DO(x, download, l->mlp, h, m * in);
}

static void run_layers(const char *device, const char *dtype, struct layers *l, const float *w,
                       const float *b, bool bias)
{
    struct mf_error err = MF_ERROR_INIT;
    struct mf_exec x;
    struct mf_linear_source s1 = mf_linear_matrix(w, bias ? b : NULL, l->hidden, l->in);
    struct mf_linear_source s2 = mf_linear_matrix(w, bias ? b : NULL, l->in, l->hidden);
    if (!mf_exec_init(&x, device, dtype, 0, &err))
        fail_msg("%s", err.msg);
    l->fc1 = mf_exec_keep_linear(&x, &s1, &err);
    l->fc2 = mf_exec_keep_linear(&x, &s2, &err);
    l->norm = (struct mf_norm){mf_exec_keep(&x, w, l->in, &err), mf_exec_keep(&x, b, l->in, &err),
                               l->in, 1e-5f};
    if (!l->fc1 || !l->fc2 || !mf_exec_run(&x, layers_body, l, false, &err))
        fail_msg("%s: %s", device, err.msg);
    mf_exec_free(&x);
}

static void compare(const char *what, const struct layers *l, const float *a, const float *b,
                    size_t n, double limit)
{
    double most = 0, scale = 0;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - b[i]);
        most = isfinite(d) ? fmax(most, d) : INFINITY;
        scale = fmax(scale, fabs((double)b[i]));
    }
    if (!(most <= limit * scale))
        fail_msg("%s of %zu x %zu x %zu: off by %.3g of %.3g", what, l->m, l->in, l->hidden, most,
                 scale);
}

static void check_layers(const char *dtype, const size_t *shape, enum mf_epilogue epilogue,
                         bool bias, double limit)
{
    size_t m = shape[0], in = shape[1], hidden = shape[2], row = in + 5, out = m * hidden;
    float *x = floats(m * row, 1), *w = floats(in * hidden, 0.2f), *b = floats(in + hidden, 1),
          *residual = floats(out, 1), *room = floats(2 * (4 * out + m * in), 1);
    struct layers l[2];
    for (size_t i = 0; i < 2; i++) {
        float *to = room + i * (4 * out + m * in);
        l[i] = (struct layers){.m = m,
                               .in = in,
                               .hidden = hidden,
                               .row = row,
                               .epilogue = epilogue,
                               .x = x,
                               .residual = residual,
                               .plain = to,
                               .strided = to + out,
                               .added = to + 2 * out,
                               .normed = to + 3 * out,
                               .mlp = to + 4 * out};
        run_layers(i ? "cpu" : "cuda:0", i ? "f32" : dtype, &l[i], w, b, bias);
    }
    compare("a product", &l[0], l[0].plain, l[1].plain, out, limit);
    compare("a product of strided rows", &l[0], l[0].strided, l[1].strided, out, limit);
    compare("a product that is added", &l[0], l[0].added, l[1].added, out, limit);
    compare("a norm and a product", &l[0], l[0].normed, l[1].normed, out, limit);
    compare("two layers", &l[0], l[0].mlp, l[1].mlp, m * in, limit);
    free(x);
    free(w);
    free(b);
    free(residual);
    free(room);
}

static void layers_in(const char *dtype, double limit)
{
    /* rows, numbers of a row, hidden: the last ones are large enough for bfloat16 */
    static const size_t SHAPES[][3] = {{1, 1, 1},     {1, 48, 5},     {17, 64, 48}, {33, 147, 16},
                                       {3, 257, 300}, {20, 256, 264}, {5, 128, 520}};
    static const size_t LARGE[][3] = {
        {1370, 768, 3072}, {10960, 1024, 4096}, {1, 768, 2304}, {544, 588, 768}};
    for (size_t i = 0; i < sizeof SHAPES / sizeof *SHAPES; i++)
        for (int e = MF_EPILOGUE_NONE; e <= MF_EPILOGUE_GELU; e++)
            check_layers(dtype, SHAPES[i], (enum mf_epilogue)e, (i + (size_t)e) % 3 != 0, limit);
    for (size_t i = 0; large && i < sizeof LARGE / sizeof *LARGE; i++)
        check_layers(dtype, LARGE[i], MF_EPILOGUE_GELU, true, limit);
}

static void layers_multiply_in_floats(void **state)
{
    (void)state;
    layers_in("f32", 1e-5);
}

static void layers_multiply_in_bfloat16(void **state)
{
    (void)state;
    layers_in("bf16", 2e-2);
}

struct attending {
    struct mf_norm norm;
    struct mf_linear *qkv, *output;
    size_t heads, batch, tokens;
    const float *x; /* host */
    float *y;       /* host */
};

static void attending_body(struct mf_exec *x, void *arg)
{
    const struct attending *a = arg;
    size_t n = a->batch * a->tokens * a->norm.width;
    float *h = mf_exec_floats(x, n);
    MF_DO(x, upload, h, a->x, n);
    mf_self_attention(x, &a->norm, a->qkv, a->output, a->heads, h, a->batch, a->tokens);
    MF_DO(x, download, a->y, h, n);
}

static void check_self_attention(const char *dtype, size_t heads, size_t size, size_t batch,
                                 size_t tokens, double limit)
{
    size_t d = heads * size, n = batch * tokens * d;
    float *x = floats(n, 1), *w = floats(3 * d * d, 0.2f), *b = floats(3 * d, 1),
          *room = floats(2 * n, 1);
    for (size_t i = 0; i < 2; i++) {
        struct mf_error err = MF_ERROR_INIT;
        struct mf_exec e;
        struct attending a = {.heads = heads, .batch = batch, .tokens = tokens, .x = x};
        struct mf_linear_source qkv = mf_linear_matrix(w, b, 3 * d, d);
        struct mf_linear_source output = mf_linear_matrix(w + d * d, b + d, d, d);
        a.y = room + i * n;
        if (!mf_exec_init(&e, i ? "cpu" : "cuda:0", i ? "f32" : dtype, 0, &err))
            fail_msg("%s", err.msg);
        a.qkv = mf_exec_keep_linear(&e, &qkv, &err);
        a.output = mf_exec_keep_linear(&e, &output, &err);
        a.norm =
            (struct mf_norm){mf_exec_keep(&e, w, d, &err), mf_exec_keep(&e, b, d, &err), d, 1e-5f};
        if (!a.qkv || !a.output || !mf_exec_run(&e, attending_body, &a, false, &err))
            fail_msg("%s", err.msg);
        mf_exec_free(&e);
    }
    const struct layers shape = {.m = batch * tokens, .in = d, .hidden = d};
    compare("self-attention", &shape, room, room + n, n, limit);
    free(x);
    free(w);
    free(b);
    free(room);
}

static void tokens_attend_to_each_other(void **state)
{
    (void)state;
    check_self_attention("f32", 3, 24, 2, 37, 1e-5);
    check_self_attention("f32", 4, 64, 1, 70, 1e-5);
    check_self_attention("bf16", 3, 24, 2, 37, 2e-2);  /* layers that stay floats */
    check_self_attention("bf16", 4, 64, 2, 70, 2e-2);  /* fused */
    check_self_attention("bf16", 3, 100, 1, 65, 2e-2); /* rows that are padded */
    if (large) {
        check_self_attention("bf16", 12, 64, 2, 1370, 2e-2);
        check_self_attention("f32", 12, 64, 1, 1370, 1e-5);
    }
}

/* A block of a transformer on several items. */
struct neighbours {
    struct mf_norm norm;
    struct mf_linear *fc1, *fc2, *qkv, *output;
    size_t in, hidden, tokens, items;
    const float *x; /* host, of all items */
    float *y;       /* host */
};

static void neighbours_body(struct mf_exec *x, void *arg)
{
    const struct neighbours *p = arg;
    size_t m = p->items * p->tokens, n = m * p->in;
    float *h = mf_exec_floats(x, n);
    MF_DO(x, upload, h, p->x, n);
    mf_self_attention(x, &p->norm, p->qkv, p->output, 4, h, p->items, p->tokens);
    mf_mlp(x, &p->norm, p->fc1, p->fc2, p->hidden, MF_EPILOGUE_GELU, h, m);
    MF_DO(x, download, p->y, h, n);
}

/* Two layers and attention: items alone and in batches of several sizes, in the same bits. */
static void check_neighbours(const char *dtype, size_t in, size_t hidden, size_t tokens,
                             size_t items)
{
    struct mf_error err = MF_ERROR_INIT;
    struct mf_exec x;
    size_t item = tokens * in;
    float *w = floats(3 * in * in + in * hidden, 0.1f), *b = floats(3 * in + hidden, 1),
          *rows = floats(items * item, 1), *all = floats(items * item, 1), *one = floats(item, 1);
    struct mf_linear_source sources[] = {
        mf_linear_matrix(w, b, hidden, in), mf_linear_matrix(w, b, in, hidden),
        mf_linear_matrix(w, b, 3 * in, in), mf_linear_matrix(w, b, in, in)};
    struct neighbours p = {.in = in, .hidden = hidden, .tokens = tokens, .x = rows, .y = all};
    struct mf_linear **layers[] = {&p.fc1, &p.fc2, &p.qkv, &p.output};
    if (!mf_exec_init(&x, "cuda:0", dtype, 0, &err))
        fail_msg("%s", err.msg);
    for (int i = 0; i < 4; i++)
        if (!(*layers[i] = mf_exec_keep_linear(&x, &sources[i], &err)))
            fail_msg("%s", err.msg);
    p.norm =
        (struct mf_norm){mf_exec_keep(&x, w, in, &err), mf_exec_keep(&x, b, in, &err), in, 1e-5f};
    for (p.items = items; p.items > 1; p.items /= 2) {
        p.x = rows;
        p.y = all;
        if (!mf_exec_run(&x, neighbours_body, &p, false, &err))
            fail_msg("%s", err.msg);
        for (size_t i = 0; i < p.items; i += p.items - 1) {
            struct neighbours alone = p;
            alone.items = 1;
            alone.x = rows + i * item;
            alone.y = one;
            if (!mf_exec_run(&x, neighbours_body, &alone, false, &err))
                fail_msg("%s", err.msg);
            if (memcmp(one, all + i * item, item * sizeof *one) != 0)
                fail_msg("%s, item %zu of %zu: other bits than alone", dtype, i, p.items);
        }
    }
    mf_exec_free(&x);
    free(w);
    free(b);
    free(rows);
    free(all);
    free(one);
}

static void rows_do_not_depend_on_their_neighbours(void **state)
{
    (void)state;
    check_neighbours("f32", 64, 100, 7, 4);
    check_neighbours("f32", 36, 50, 5, 2); /* rows that are not aligned */
    check_neighbours("bf16", 256, 264, 9, 4);
    check_neighbours("bf16", 256, 264, 64, 2); /* attention by cuDNN, where it is there */
    if (large) {
        check_neighbours("bf16", 768, 3072, 1370, 32);
        check_neighbours("bf16", 1024, 4096, 1370, 8);
        check_neighbours("f32", 384, 1536, 1370, 4);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layers_multiply_in_floats),
        cmocka_unit_test(layers_multiply_in_bfloat16),
        cmocka_unit_test(tokens_attend_to_each_other),
        cmocka_unit_test(rows_do_not_depend_on_their_neighbours),
    };
    RUN_ON_BOTH(tests);
}
