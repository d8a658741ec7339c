/*
 * Attention on the CPU: heads of items (or of windows of a grid) as tasks for the threads. A window
 * is read and written where it lies in the grid; nothing is gathered in memory.
 */
#include "engine/cpu/amx.h"

enum { SERIAL = 1 << 15 }; /* products below which threads cost more than they bring */

struct job {
    const struct mf_backend *be;
    const struct mf_attention *at;
    const struct mf_windows *windows; /* NULL: items are `batch` strides apart */
    const float *q, *k, *v;
    float *o, *scratch;
    size_t parts, part_rows, floats;
};

/* The format of attention's products: int8 is for layers with weights only. */
static enum amx_format format_of(const struct mf_backend *be)
{
    if (be->precision == MF_PRECISION_16_BITS && be->format != AMX_BF16X3)
        return AMX_BF16X2;
    return be->format == AMX_INT8 ? AMX_BF16 : be->format;
}

/* Six products for one are faster than fp32 only where many keys pay for taking floats apart. */
static bool on_tiles(const struct mf_backend *be, const struct mf_attention *at)
{
    enum { MANY = 512 };
    return be->tiles && (format_of(be) != AMX_BF16X3 || at->keys > MANY);
}

/* How many parts a head's queries are cut into, so that all threads have work. */
static void cut_queries(const struct mf_backend *be, const struct mf_attention *at, struct job *job)
{
    enum { LEAST = 48 };
    size_t unit = on_tiles(be, at) ? AMX_ROWS : 6; /* query rows that a kernel takes at a time */
    size_t heads = at->batch * at->heads, wanted = 4 * (size_t)be->threads;
    size_t parts = be->threads == 1 || heads >= wanted ? 1 : (wanted + heads - 1) / heads;
    size_t most = (at->queries + LEAST - 1) / LEAST;
    if (parts > most && most > 0)
        parts = most;
    job->part_rows = ((at->queries + parts - 1) / parts + unit - 1) / unit * unit;
    job->parts = (at->queries + job->part_rows - 1) / job->part_rows;
}

static size_t floats_of(const struct mf_backend *be, const struct mf_attention *at)
{
#ifdef MF_CPU_AMX
    if (on_tiles(be, at))
        return mf_amx_attention_floats(format_of(be), at);
#endif
    return (be->kernels->attention_floats(at) + 15) / 16 * 16;
}

size_t mf_cpu_attention_scratch(struct mf_backend *be, const struct mf_attention *at)
{
    return floats_of(be, at) * (size_t)be->threads;
}

static struct cpu_head head_of_item(const struct job *job, size_t b, size_t column)
{
    const struct mf_attention *at = job->at;
    return (struct cpu_head){.at = at,
                             .queries = at->queries,
                             .keys = at->keys,
                             .q = job->q + b * at->q_batch + column,
                             .k = job->k + b * at->k_batch + column,
                             .v = job->v + b * at->v_batch + column,
                             .o = job->o + b * at->o_batch + column,
                             .q_rows = {.row = at->q_row},
                             .k_rows = {.row = at->k_row},
                             .v_rows = {.row = at->v_row},
                             .o_rows = {.row = at->o_row}};
}

/* The rows of a window whose first is at (y, x) of a grid; `side` of them across. */
static struct cpu_rows window_rows(size_t row, size_t side, size_t height, size_t width, size_t y,
                                   size_t x)
{
    return (struct cpu_rows){.row = row,
                             .across = side,
                             .jump = width * row,
                             .lines = height - y < side ? height - y : side,
                             .columns = width - x < side ? width - x : side};
}

static struct cpu_head head_of_window(const struct job *job, size_t b, size_t column)
{
    const struct mf_attention *at = job->at;
    const struct mf_windows *w = job->windows;
    size_t across = (w->width + w->side - 1) / w->side;
    size_t y = b / across * w->side, x = b % across * w->side; /* of the first key */
    size_t qh = w->height / w->pool, qw = w->width / w->pool, qy = y / w->pool, qx = x / w->pool;
    size_t first = qy * qw + qx;
    struct cpu_head h = {.at = at,
                         .keys = w->side * w->side,
                         .q = job->q + first * at->q_row + column,
                         .k = job->k + (y * w->width + x) * at->k_row + column,
                         .v = job->v + (y * w->width + x) * at->v_row + column,
                         .o = job->o + first * at->o_row + column,
                         .q_rows = window_rows(at->q_row, w->side / w->pool, qh, qw, qy, qx),
                         .k_rows = window_rows(at->k_row, w->side, w->height, w->width, y, x),
                         .v_rows = window_rows(at->v_row, w->side, w->height, w->width, y, x),
                         .o_rows = window_rows(at->o_row, w->side / w->pool, qh, qw, qy, qx),
                         .k_pad = w->k_pad + column,
                         .v_pad = w->v_pad + column};
    h.queries = h.q_rows.lines * h.q_rows.columns; /* those that are in the grid */
    h.q_rows.across = h.o_rows.across = h.q_rows.columns;
    return h;
}

static void run_part(void *arg, size_t i, int thread)
{
    const struct job *job = arg;
    const struct mf_attention *at = job->at;
    size_t item = i / job->parts / at->heads, column = i / job->parts % at->heads * at->head_size;
    size_t begin = i % job->parts * job->part_rows, end = begin + job->part_rows;
    struct cpu_head h =
        job->windows ? head_of_window(job, item, column) : head_of_item(job, item, column);
    float *scratch = job->scratch + (size_t)thread * job->floats;
    end = end < h.queries ? end : h.queries;
    if (begin >= end)
        return;
#ifdef MF_CPU_AMX
    if (on_tiles(job->be, at)) {
        mf_amx_attention(format_of(job->be), &h, begin, end, scratch);
        return;
    }
#endif
    job->be->kernels->attention(&h, begin, end, scratch);
}

void mf_cpu_attend_windows(struct mf_backend *be, const struct mf_attention *at,
                           const struct mf_windows *windows, const float *q, const float *k,
                           const float *v, float *o, float *scratch)
{
    struct job job = {.be = be,
                      .at = at,
                      .windows = windows,
                      .q = q,
                      .k = k,
                      .v = v,
                      .o = o,
                      .scratch = scratch,
                      .floats = floats_of(be, at)};
    cut_queries(be, at, &job);
    size_t tasks = at->batch * at->heads * job.parts;
    struct mf_backend one = *be;
    if (tasks * job.part_rows * at->keys * at->head_size < SERIAL)
        one.threads = 1;
    mf_cpu_parallel(&one, tasks, run_part, &job);
}

void mf_cpu_attend(struct mf_backend *be, const struct mf_attention *at, const float *q,
                   const float *k, const float *v, float *o, float *scratch)
{
    mf_cpu_attend_windows(be, at, NULL, q, k, v, o, scratch);
}
