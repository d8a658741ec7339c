/*
 * The second half of a transformer block in one pass on tiles: h += fc2(gelu(fc1(norm(h)))).
 *
 * A task takes a chunk of rows and goes over the hidden layer in slices. What fc1 makes of a slice
 * is written as the packed rows that fc2 reads (8-bit rows need their largest value first and take
 * a detour over floats), so the hidden layer never leaves the second cache and is never as wide in
 * memory as in the network.
 */
#include "engine/cpu/linear.h"

#ifdef MF_CPU_AMX

enum {
    CHUNK_BYTES = 1 << 20, /* of packed rows of both layers */
    SLICE = 768            /* of the hidden layer */
};

struct cut {
    size_t blocks, chunks, most;   /* blocks in all, chunks, blocks of the largest chunk */
    size_t in_bytes, hidden_bytes; /* of a block */
    size_t thread_bytes;
};

struct task {
    const struct mf_linear *fc1, *fc2;
    const struct mf_norm *norm;
    const struct cut *cut;
    float *h;
    size_t m;
    char *scratch;
};

/* Scratch of one thread, from its start on. */
struct room {
    float *sums;
    char *in, *hidden;                /* packed rows */
    float *in_scales, *hidden_scales; /* int8 */
    float *rows; /* 32 normed rows; int8: also 32 rows of a hidden slice each */
};

static struct cut cut_chunks(const struct mf_linear *fc1, const struct mf_linear *fc2, size_t m)
{
    size_t threads = (size_t)fc1->be->threads;
    struct cut c = {.blocks = amx_strips(m),
                    .in_bytes = amx_strip_bytes(fc1->format, fc1->in),
                    .hidden_bytes = amx_strip_bytes(fc2->format, SLICE)};
    size_t fit = CHUNK_BYTES / (c.in_bytes + c.hidden_bytes);
    c.chunks = (c.blocks + fit) / (fit + 1);
    c.chunks = (c.chunks + threads - 1) / threads * threads;
    if (c.chunks > c.blocks)
        c.chunks = c.blocks;
    c.most = (c.blocks + c.chunks - 1) / c.chunks;
    size_t wide = fc1->format == AMX_INT8 ? c.most * SLICE : 0;
    c.thread_bytes =
        c.most * (AMX_SUM_BYTES + c.in_bytes + c.hidden_bytes + 2 * AMX_ROWS * sizeof(float)) +
        AMX_ROWS * ((fc1->in + 15) / 16 * 16 + wide) * sizeof(float);
    return c;
}

static struct room lay_out(const struct cut *c, char *scratch)
{
    struct room r = {.sums = (float *)scratch};
    r.in = scratch + c->most * AMX_SUM_BYTES;
    r.hidden = r.in + c->most * c->in_bytes;
    r.in_scales = (float *)(r.hidden + c->most * c->hidden_bytes);
    r.hidden_scales = r.in_scales + c->most * AMX_ROWS;
    r.rows = r.hidden_scales + c->most * AMX_ROWS;
    return r;
}

/* fc1 and the activation on hidden numbers [at, at + width). */
static void widen(const struct task *t, const struct room *r, size_t count, size_t m, size_t at,
                  size_t width)
{
    const struct mf_linear *l = t->fc1;
    float *wide = r->rows + AMX_ROWS * ((l->in + 15) / 16 * 16); /* (m, SLICE), int8 only */
    bool int8 = l->format == AMX_INT8;
    struct amx_sink sink = {.y = wide,
                            .y_row = SLICE,
                            .bias = l->bias ? l->bias + at : NULL,
                            .column_scale = int8 ? l->scales + at : NULL,
                            .row_scale = r->in_scales,
                            .activation = MF_EPILOGUE_GELU,
                            .blocks = int8 ? NULL : r->hidden,
                            .block_bytes = amx_strip_bytes(l->format, width)};
    struct amx_product p = {.blocks = r->in,
                            .sums = r->sums,
                            .block_bytes = t->cut->in_bytes,
                            .depths = (l->in + amx_depth(l->format) - 1) / amx_depth(l->format),
                            .count = count,
                            .m = m,
                            .out = width};
    for (p.column = 0; p.column < width; p.column += AMX_ROWS) {
        p.panel = l->panels + (at + p.column) / AMX_ROWS * linear_panel_bytes(l);
        mf_amx_multiply(l->format, &p, &sink);
    }
    for (size_t i = 0; int8 && i < count; i++) {
        size_t n = m - i * AMX_ROWS < AMX_ROWS ? m - i * AMX_ROWS : AMX_ROWS;
        mf_amx_quantise_block(wide + i * AMX_ROWS * SLICE, n, SLICE, width,
                              t->fc2->factor ? t->fc2->factor + at : NULL,
                              r->hidden + i * sink.block_bytes, r->hidden_scales + i * AMX_ROWS);
    }
}

/* h += the part of fc2 that those hidden numbers make. */
static void narrow(const struct task *t, const struct room *r, size_t count, size_t m, size_t at,
                   size_t width, float *h)
{
    const struct mf_linear *l = t->fc2;
    struct amx_sink sink = {.y = h,
                            .y_row = l->out,
                            .bias = at == 0 ? l->bias : NULL,
                            .column_scale = l->scales,
                            .row_scale = r->hidden_scales,
                            .accumulate = true};
    struct amx_product p = {.blocks = r->hidden,
                            .sums = r->sums,
                            .block_bytes = amx_strip_bytes(l->format, width),
                            .depths = (width + amx_depth(l->format) - 1) / amx_depth(l->format),
                            .count = count,
                            .m = m,
                            .out = l->out};
    for (p.column = 0; p.column < l->out; p.column += AMX_ROWS) {
        p.panel = l->panels + p.column / AMX_ROWS * linear_panel_bytes(l) +
                  amx_strip_bytes(l->format, at);
        mf_amx_multiply(l->format, &p, &sink);
    }
}

static void run_task(void *arg, size_t i, int thread)
{
    const struct task *t = arg;
    const struct cut *c = t->cut;
    size_t first = i * c->blocks / c->chunks, end = (i + 1) * c->blocks / c->chunks;
    size_t d = t->fc1->in, m = t->m - first * AMX_ROWS;
    struct room r = lay_out(c, t->scratch + (size_t)thread * c->thread_bytes);
    float *h = t->h + first * AMX_ROWS * d;
    for (size_t k = 0; k < end - first; k++) {
        size_t n = m - k * AMX_ROWS < AMX_ROWS ? m - k * AMX_ROWS : AMX_ROWS;
        mf_cpu_pack_rows(t->fc1, t->norm, h + k * AMX_ROWS * d, n, d, 0, d, r.in + k * c->in_bytes,
                         r.in_scales + k * AMX_ROWS, r.rows);
    }
    m = m < (end - first) * AMX_ROWS ? m : (end - first) * AMX_ROWS;
    for (size_t at = 0; at < t->fc1->out; at += SLICE) {
        size_t width = t->fc1->out - at < SLICE ? t->fc1->out - at : SLICE;
        widen(t, &r, end - first, m, at, width);
        narrow(t, &r, end - first, m, at, width, h);
    }
}

size_t mf_cpu_mlp_scratch(const struct mf_linear *fc1, const struct mf_linear *fc2, size_t m)
{
    enum { MOST = 8 << 20 }; /* bytes of weights that every chunk of few rows may read again */
    if (fc1->dnnl || fc2->dnnl || fc1->format != fc2->format || fc1->in > 1536 ||
        amx_strips(m) < 2 * (size_t)fc1->be->threads ||
        (fc1->format == AMX_BF16X3 && fc1->bytes + fc2->bytes > MOST))
        return 0;
    return cut_chunks(fc1, fc2, m).thread_bytes * (size_t)fc1->be->threads / sizeof(float);
}

void mf_cpu_mlp(struct mf_linear *fc1, struct mf_linear *fc2, const struct mf_norm *norm,
                enum mf_epilogue activation, float *h, size_t m, float *scratch)
{
    (void)activation; /* GELU is the only one that networks ask for */
    struct cut cut = cut_chunks(fc1, fc2, m);
    struct task t = {fc1, fc2, norm, &cut, h, m, (char *)scratch};
    mf_cpu_parallel(fc1->be, cut.chunks, run_task, &t);
}

#else

size_t mf_cpu_mlp_scratch(const struct mf_linear *fc1, const struct mf_linear *fc2, size_t m)
{
    (void)fc1, (void)fc2, (void)m;
    return 0;
}

void mf_cpu_mlp(struct mf_linear *fc1, struct mf_linear *fc2, const struct mf_norm *norm,
                enum mf_epilogue activation, float *h, size_t m, float *scratch)
{
    (void)fc1, (void)fc2, (void)norm, (void)activation, (void)h, (void)m, (void)scratch;
}

#endif
