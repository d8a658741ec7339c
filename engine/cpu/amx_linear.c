/*
 * Linear layers on tiles (amx.h).
 *
 * Weights are panels packed once. Rows of x are cut into chunks that fit the second cache; one task
 * packs its chunk and multiplies it with every panel. Long rows are taken in slices, the results
 * adding up in y. When there are few rows, tasks share a chunk and divide the panels.
 */
#include "engine/cpu/linear.h"

#include <stdlib.h>
#include <string.h>

#ifdef MF_CPU_AMX

enum {
    CHUNK_BYTES = 1 << 20, /* of packed rows: half a second cache */
    SLICE = 768,           /* numbers of a row at a time */
    SERIAL = 1 << 18       /* products below which threads cost more than they bring */
};

struct packing {
    const struct mf_linear *l;
    const struct mf_linear_source *source;
    float *room; /* AMX_ROWS rows for each thread */
};

static void pack_panel(void *arg, size_t p, int thread)
{
    const struct packing *job = arg;
    const struct mf_linear *l = job->l;
    size_t n = l->out - p * AMX_ROWS < AMX_ROWS ? l->out - p * AMX_ROWS : AMX_ROWS;
    const float *w = job->source->rows(job->source, p * AMX_ROWS, n,
                                       job->room + (size_t)thread * AMX_ROWS * l->in);
    char *panel = l->panels + p * linear_panel_bytes(l);
    if (l->format == AMX_INT8)
        mf_amx_quantise_panel(w, n, l->in, l->in, job->source->smooth, panel,
                              l->scales + p * AMX_ROWS);
    else
        mf_amx_pack_panel(l->format, w, n, l->in, l->in, panel);
}

/* Sizes of what lies in a layer's block: bytes of panels, then floats. */
struct block {
    size_t panels, scales, factor, bias;
};

static struct block size_block(const struct mf_linear *l, const struct mf_linear_source *source)
{
    bool int8 = l->format == AMX_INT8;
    return (struct block){.panels = amx_strip_bytes(l->format, l->in) * amx_strips(l->out),
                          .scales = int8 ? amx_strips(l->out) * AMX_ROWS : 0,
                          .factor = int8 && source->smooth ? (l->in + 15) / 16 * 16 : 0,
                          .bias = source->bias ? l->out : 0};
}

static void lay_out(struct mf_linear *l, const struct block *b)
{
    float *after = (float *)(void *)(l->panels + b->panels);
    l->scales = b->scales ? after : NULL;
    l->factor = b->factor ? after + b->scales : NULL;
    l->bias = b->bias ? after + b->scales + b->factor : NULL;
}

static bool pack(struct mf_linear *l, const struct mf_linear_source *source, struct mf_error *err)
{
    MF_AUTO(mf_mem)
    float *room = malloc((size_t)l->be->threads * AMX_ROWS * l->in * sizeof *room);
    if (!room)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for weights");
    struct packing job = {l, source, room};
    mf_cpu_parallel(l->be, amx_strips(l->out), pack_panel, &job);
    if (l->bias)
        memcpy(l->bias, source->bias, l->out * sizeof(float));
    for (size_t i = 0; l->factor && i < l->in; i++)
        l->factor[i] = 1 / source->smooth[i];
    return true;
}

bool mf_amx_linear_make(struct mf_linear *l, const struct mf_linear_source *source,
                        struct mf_error *err)
{
    const struct block b = size_block(l, source);
    bool filled;
    l->bytes = b.panels + (b.scales + b.factor + b.bias) * sizeof(float);
    if (!mf_cpu_linear_memory(l, &filled, err))
        return false;
    lay_out(l, &b);
    return filled || pack(l, source, err);
}

/* How m rows are cut. */
struct cut {
    size_t slice, slices;        /* numbers of a row */
    size_t blocks, chunks, most; /* blocks in all, chunks, blocks of the largest chunk */
    size_t groups;               /* of panels */
    int threads;
};

static struct cut cut_rows(const struct mf_linear *l, size_t m)
{
    struct cut c = {.blocks = amx_strips(m), .groups = 1, .threads = l->be->threads};
    size_t panels = amx_strips(l->out), threads = (size_t)c.threads;
    if (m * l->out * l->in < SERIAL)
        threads = 1;
    c.threads = (int)threads;
    c.slices = (l->in + SLICE + SLICE / 3 - 1) / (SLICE + SLICE / 3);
    c.slice = ((l->in + c.slices - 1) / c.slices + 63) / 64 * 64;
    c.slices = (l->in + c.slice - 1) / c.slice;
    size_t fit = CHUNK_BYTES / amx_strip_bytes(l->format, c.slice);
    fit = fit < 1 ? 1 : fit;
    c.chunks = (c.blocks + fit - 1) / fit;
    if (c.blocks >= 4 * threads) {
        c.chunks = (c.chunks + threads - 1) / threads * threads;
    } else if (threads > 1) {
        c.groups = (2 * threads + c.chunks - 1) / c.chunks;
        c.groups = c.groups < panels ? c.groups : panels;
    }
    c.most = (c.blocks + c.chunks - 1) / c.chunks;
    return c;
}

/* Scratch of one thread: sums, packed rows, their scales, 32 normed rows. */
static size_t chunk_bytes(const struct mf_linear *l, const struct cut *c, bool normed)
{
    return c->most *
               (amx_strip_bytes(l->format, c->slice) + AMX_ROWS * sizeof(float) + AMX_SUM_BYTES) +
           (normed ? AMX_ROWS * ((l->in + 15) / 16 * 16) * sizeof(float) : 0);
}

struct task {
    const struct mf_linear *l;
    const struct cut *cut;
    const float *x;
    float *y;
    size_t m, x_row;
    enum mf_epilogue epilogue;
    const struct mf_norm *norm; /* of x first; NULL: none */
    char *scratch;
    size_t scratch_bytes; /* of one thread */
};

void mf_cpu_pack_rows(const struct mf_linear *l, const struct mf_norm *norm, const float *x,
                      size_t n, size_t x_row, size_t at, size_t k, char *block, float *scales,
                      float *rows)
{
    if (norm) {
        l->be->kernels->layer_norm(x, n, k, norm->weight, norm->bias, norm->eps, rows);
        x = rows;
        x_row = k;
    }
    if (l->format == AMX_INT8)
        mf_amx_quantise_block(x, n, x_row, k, l->factor ? l->factor + at : NULL, block, scales);
    else
        mf_amx_pack_block(l->format, x, n, x_row, k, block);
}

static void pack_chunk(const struct task *t, size_t first, size_t count, size_t at, size_t k,
                       char *blocks, float *scales, float *rows)
{
    size_t strip = amx_strip_bytes(t->l->format, k);
    for (size_t i = 0; i < count; i++) {
        size_t row = (first + i) * AMX_ROWS, n = t->m - row < AMX_ROWS ? t->m - row : AMX_ROWS;
        mf_cpu_pack_rows(t->l, t->norm, t->x + row * t->x_row + at, n, t->x_row, at, k,
                         blocks + i * strip, scales + i * AMX_ROWS, rows);
    }
}

static void run_task(void *arg, size_t i, int thread)
{
    const struct task *t = arg;
    const struct mf_linear *l = t->l;
    const struct cut *c = t->cut;
    size_t chunk = i / c->groups, group = i % c->groups, panels = amx_strips(l->out);
    size_t first = chunk * c->blocks / c->chunks, end = (chunk + 1) * c->blocks / c->chunks;
    size_t left = group * panels / c->groups, right = (group + 1) * panels / c->groups;
    char *sums = t->scratch + (size_t)thread * t->scratch_bytes;
    char *blocks = sums + c->most * AMX_SUM_BYTES;
    float *scales = (float *)(blocks + c->most * amx_strip_bytes(l->format, c->slice));
    float *rows = scales + c->most * AMX_ROWS;
    size_t unit = amx_depth(l->format), panel_bytes = amx_strip_bytes(l->format, l->in);
    for (size_t s = 0; s < c->slices; s++) {
        size_t at = s * c->slice, k = l->in - at < c->slice ? l->in - at : c->slice;
        bool last = s + 1 == c->slices;
        pack_chunk(t, first, end - first, at, k, blocks, scales, rows);
        struct amx_sink sink = {.y = t->y + first * AMX_ROWS * l->out,
                                .y_row = l->out,
                                .bias = s == 0 ? l->bias : NULL,
                                .row_scale = scales,
                                .column_scale = l->scales,
                                .accumulate = s > 0 || t->epilogue == MF_EPILOGUE_ADD,
                                .activation = last ? t->epilogue : MF_EPILOGUE_NONE};
        struct amx_product p = {.blocks = blocks,
                                .sums = (float *)sums,
                                .block_bytes = amx_strip_bytes(l->format, k),
                                .depths = (k + unit - 1) / unit,
                                .m = t->m - first * AMX_ROWS,
                                .count = end - first,
                                .out = l->out};
        for (size_t j = left; j < right; j++) {
            p.panel = l->panels + j * panel_bytes + amx_strip_bytes(l->format, at);
            p.column = j * AMX_ROWS;
            mf_amx_multiply(l->format, &p, &sink);
        }
    }
}

void mf_amx_linear_run(const struct mf_linear *l, const struct mf_norm *norm, const float *x,
                       size_t m, size_t x_row, float *y, enum mf_epilogue epilogue, float *scratch)
{
    struct cut cut = cut_rows(l, m);
    struct task t = {.l = l,
                     .cut = &cut,
                     .x = x,
                     .y = y,
                     .m = m,
                     .x_row = x_row ? x_row : l->in,
                     .epilogue = epilogue,
                     .norm = norm,
                     .scratch = (char *)scratch,
                     .scratch_bytes = chunk_bytes(l, &cut, norm != NULL)};
    struct mf_backend be = *l->be;
    be.threads = cut.threads;
    mf_cpu_parallel(&be, cut.chunks * cut.groups, run_task, &t);
}

bool mf_amx_linear_suits(struct mf_linear *l, const struct mf_linear_source *source)
{
    enum {
        TINY = 1 << 13,  /* weights */
        SMALL = 1 << 16, /* a layer that decides more than it costs: kept exact */
        MIDDLE = 1 << 17 /* 8 bits would save little: 16 */
    };
    size_t weights = l->out * l->in;
    bool int8 = l->be->format == AMX_INT8, half = int8 && weights < MIDDLE;
    l->format = l->be->format;
    if (weights < SMALL)
        l->format = AMX_BF16X3;
    else if ((l->be->precision == MF_PRECISION_16_BITS || half) && l->format != AMX_BF16X3)
        l->format = AMX_BF16X2;
    else if (int8 && l->be->precision == MF_PRECISION_BF16)
        l->format = AMX_BF16;
    bool tiny = weights < TINY && l->in >= amx_depth(l->format);
    bool plain = l->format == AMX_BF16X3 && (source->few_rows || tiny);
    return l->be->tiles && !plain;
}

size_t mf_amx_linear_floats(const struct mf_linear *l, size_t m, bool normed)
{
    struct cut cut = cut_rows(l, m);
    return chunk_bytes(l, &cut, normed) * (size_t)cut.threads / sizeof(float);
}

size_t mf_cpu_norm_linear_scratch(const struct mf_linear *l, size_t m)
{
    if (l->dnnl)
        return 0;
    struct cut cut = cut_rows(l, m);
    return cut.slices == 1 && cut.groups == 1 ? mf_amx_linear_floats(l, m, true) : 0;
}

void mf_cpu_norm_linear(struct mf_linear *l, const struct mf_norm *norm, const float *x, size_t m,
                        float *y, enum mf_epilogue epilogue, float *scratch)
{
    mf_amx_linear_run(l, norm, x, m, 0, y, epilogue, scratch);
}

#else

size_t mf_cpu_norm_linear_scratch(const struct mf_linear *l, size_t m)
{
    (void)l, (void)m;
    return 0;
}

void mf_cpu_norm_linear(struct mf_linear *l, const struct mf_norm *norm, const float *x, size_t m,
                        float *y, enum mf_epilogue epilogue, float *scratch)
{
    (void)l, (void)norm, (void)x, (void)m, (void)y, (void)epilogue, (void)scratch;
}

bool mf_amx_linear_suits(struct mf_linear *l, const struct mf_linear_source *source)
{
    (void)l, (void)source;
    return false;
}

bool mf_amx_linear_make(struct mf_linear *l, const struct mf_linear_source *source,
                        struct mf_error *err)
{
    (void)l, (void)source;
    return mf_error_set(err, MF_ERR_INTERNAL, "built without AMX");
}

size_t mf_amx_linear_floats(const struct mf_linear *l, size_t m, bool normed)
{
    (void)l, (void)normed;
    return m;
}

void mf_amx_linear_run(const struct mf_linear *l, const struct mf_norm *norm, const float *x,
                       size_t m, size_t x_row, float *y, enum mf_epilogue epilogue, float *scratch)
{
    (void)l, (void)norm, (void)x, (void)m, (void)x_row, (void)y, (void)epilogue, (void)scratch;
}

#endif
