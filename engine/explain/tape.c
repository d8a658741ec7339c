/* The tape: every operation computed by the CPU backend, and what its way back needs kept. */
#include "engine/explain/tape.h"

#include "engine/host.h"

#include <dnnl.h>
#include <stdlib.h>
#include <string.h>

static struct mf_tape *tape_of(struct mf_backend *be)
{
    return (struct mf_tape *)be;
}

/* --- life --- */

static struct mf_backend *backend_new(const char *dtype, int threads, struct mf_error *err)
{
    (void)dtype; /* gradients are those of fp32 */
    struct mf_tape *t = calloc(1, sizeof *t);
    if (!t) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
        return NULL;
    }
    t->cpu = mf_cpu_ops.backend_new("f32", threads, err);
    if (!t->cpu) {
        free(t);
        return NULL;
    }
    t->threads = mf_cpu_ops.host_threads(t->cpu);
    return (struct mf_backend *)t;
}

static void backend_free(struct mf_backend *be)
{
    struct mf_tape *t = tape_of(be);
    mf_cpu_ops.backend_free(t->cpu);
    mf_arena_free(t->arena);
    free(t->shadow);
    mf_tape_release(t);
    free(t);
}

static const char *dtype_of(const struct mf_backend *be)
{
    (void)be;
    return "f32";
}

static void enter(const struct mf_backend *be)
{
    mf_cpu_ops.enter(((const struct mf_tape *)be)->cpu);
}

static int host_threads(const struct mf_backend *be)
{
    return ((const struct mf_tape *)be)->threads;
}

static void *memory_new(struct mf_backend *be, size_t bytes, struct mf_error *err)
{
    return mf_cpu_ops.memory_new(tape_of(be)->cpu, bytes, err);
}

static void memory_free(struct mf_backend *be, void *memory)
{
    mf_cpu_ops.memory_free(tape_of(be)->cpu, memory);
}

bool mf_tape_exec_init(struct mf_exec *x, int threads, struct mf_error *err)
{
    memset(x, 0, sizeof *x);
    x->ops = &mf_tape_ops;
    x->backend = x->ops->backend_new("f32", threads, err);
    return x->backend != NULL;
}

/* The workspace may have grown since the last recording. */
static bool cover_workspace(struct mf_tape *t, const struct mf_exec *x, struct mf_error *err)
{
    size_t floats = x->capacity / sizeof(float);
    t->base = (const float *)(const void *)x->base;
    if (floats == t->floats)
        return true;
    free(t->shadow);
    t->shadow = malloc((floats + 1) * sizeof(float));
    t->floats = t->shadow ? floats : 0;
    return t->shadow || mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for gradients");
}

bool mf_tape_record(struct mf_exec *x, size_t ceiling, void (*body)(struct mf_exec *x, void *arg),
                    void *arg, struct mf_error *err)
{
    struct mf_tape *t = mf_tape_of(x);
    mf_arena_free(t->arena);
    t->arena = mf_arena_new(ceiling);
    t->last = NULL;
    t->failed = false;
    if (!t->arena)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for an explanation");
    if (!cover_workspace(t, x, err))
        return false;
    t->recording = true;
    bool ok = mf_exec_replay(x, body, arg, err);
    t->recording = false;
    if (ok && t->failed)
        return mf_error_set(err, MF_ERR_TOO_LARGE,
                            "the explanation needs more than %zu MiB of memory", ceiling >> 20);
    return ok;
}

/* --- recording --- */

float *mf_tape_shadow(const struct mf_tape *t, const float *p)
{
    return p >= t->base && p < t->base + t->floats ? t->shadow + (p - t->base) : NULL;
}

/* A new step, or NULL: not recording, or `y` is not in the workspace. */
static struct mf_step *record(struct mf_tape *t, enum mf_step_kind kind, const float *x,
                              const float *y)
{
    if (!t->recording || t->failed || !mf_tape_shadow(t, y))
        return NULL;
    struct mf_step *s = mf_arena_alloc(t->arena, 1, sizeof *s, NULL);
    t->failed |= !s;
    if (!s)
        return NULL;
    *s = (struct mf_step){.before = t->last, .kind = kind, .x = x, .y = y};
    t->last = s;
    return s;
}

/* Values for the way back: rows of `width`, `row` apart, packed. */
static const float *keep_rows(struct mf_tape *t, const float *x, size_t rows, size_t width,
                              size_t row)
{
    float *kept = mf_arena_alloc(t->arena, rows * width + 1, sizeof *kept, NULL);
    t->failed |= !kept;
    for (size_t r = 0; kept && r < rows; r++)
        memcpy(kept + r * width, x + r * row, width * sizeof *kept);
    return kept;
}

static const float *keep(struct mf_tape *t, const float *x, size_t n)
{
    return keep_rows(t, x, 1, n, n);
}

static void upload(struct mf_backend *be, float *device, const float *host, size_t n)
{
    struct mf_step *s = record(tape_of(be), MF_STEP_UPLOAD, NULL, device);
    mf_cpu_ops.upload(tape_of(be)->cpu, device, host, n);
    if (s) {
        s->host = host;
        s->rows = n;
    }
}

static void download(struct mf_backend *be, float *host, const float *device, size_t n)
{
    struct mf_step *s = record(tape_of(be), MF_STEP_DOWNLOAD, NULL, device);
    mf_cpu_ops.download(tape_of(be)->cpu, host, device, n);
    if (s) {
        s->host = host;
        s->rows = n;
    }
}

/* --- linear layers: plain weights, as both directions read them --- */

static struct mf_linear *linear_new(struct mf_backend *be, const struct mf_linear_source *source,
                                    struct mf_error *err)
{
    struct mf_tape_linear *l = calloc(1, sizeof *l);
    if (l) {
        l->tape = tape_of(be);
        l->out = source->out;
        l->in = source->in;
        l->weight = malloc((l->out * l->in + 1) * sizeof *l->weight);
        l->bias = source->bias ? malloc((l->out + 1) * sizeof *l->bias) : NULL;
    }
    if (!l || !l->weight || (source->bias && !l->bias)) {
        mf_tape_ops.linear_free((struct mf_linear *)l);
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for weights");
        return NULL;
    }
    mf_linear_read(source, l->weight);
    if (l->bias)
        memcpy(l->bias, source->bias, l->out * sizeof *l->bias);
    return (struct mf_linear *)l;
}

static void linear_free(struct mf_linear *linear)
{
    struct mf_tape_linear *l = (struct mf_tape_linear *)linear;
    if (!l)
        return;
    free(l->weight);
    free(l->bias);
    free(l);
}

static size_t linear_bytes(const struct mf_linear *linear)
{
    const struct mf_tape_linear *l = (const struct mf_tape_linear *)linear;
    return (l->out * l->in + (l->bias ? l->out : 0)) * sizeof(float);
}

static bool linear_plan(struct mf_linear *linear, size_t m, size_t x_row, enum mf_epilogue epilogue,
                        size_t *ret_scratch, struct mf_error *err)
{
    (void)linear, (void)m, (void)x_row, (void)epilogue, (void)err;
    *ret_scratch = 0;
    return true;
}

void mf_tape_gemm(bool ta, bool tb, size_t m, size_t n, size_t k, float alpha, const float *a,
                  size_t lda, const float *b, size_t ldb, float add, float *c, size_t ldc)
{
    dnnl_sgemm(ta ? 'T' : 'N', tb ? 'T' : 'N', (dnnl_dim_t)m, (dnnl_dim_t)n, (dnnl_dim_t)k, alpha,
               a, (dnnl_dim_t)lda, b, (dnnl_dim_t)ldb, add, c, (dnnl_dim_t)ldc);
}

static bool linear(struct mf_linear *linear, const float *x, size_t m, size_t x_row, float *y,
                   enum mf_epilogue epilogue, float *scratch, struct mf_error *err)
{
    (void)scratch, (void)err;
    const struct mf_tape_linear *l = (const struct mf_tape_linear *)linear;
    struct mf_tape *t = l->tape;
    bool add = epilogue == MF_EPILOGUE_ADD;
    size_t row = x_row ? x_row : l->in;
    mf_tape_gemm(false, true, m, l->out, l->in, 1, x, row, l->weight, l->in, add, y, l->out);
    if (l->bias)
        mf_cpu_ops.add(t->cpu, l->bias, 1, m, l->out, 1, y);
    struct mf_step *s = record(t, MF_STEP_LINEAR, x, y);
    if (s) {
        s->rows = m;
        s->more = row;
        s->option = (int)epilogue;
        s->linear = l;
    }
    if (epilogue != MF_EPILOGUE_GELU && epilogue != MF_EPILOGUE_RELU)
        return true;
    if (s)
        s->kept = keep(t, y, m * l->out);
    mf_cpu_ops.unary(t->cpu, epilogue == MF_EPILOGUE_GELU ? MF_UNARY_GELU : MF_UNARY_RELU, y,
                     m * l->out, y);
    return true;
}

/* --- norms, attention, element by element --- */

static void layer_norm(struct mf_backend *be, const float *x, size_t rows, size_t width,
                       const float *weight, const float *bias, float eps, float *y)
{
    struct mf_step *s = record(tape_of(be), MF_STEP_LAYER_NORM, x, y);
    if (s) {
        s->rows = rows;
        s->width = width;
        s->number = eps;
        s->weight = weight;
        s->kept = keep(tape_of(be), x, rows * width);
    }
    mf_cpu_ops.layer_norm(tape_of(be)->cpu, x, rows, width, weight, bias, eps, y);
}

static void rms_norm(struct mf_backend *be, const float *x, size_t rows, size_t width,
                     const float *weight, float eps, float *y)
{
    struct mf_step *s = record(tape_of(be), MF_STEP_RMS_NORM, x, y);
    if (s) {
        s->rows = rows;
        s->width = width;
        s->number = eps;
        s->weight = weight;
        s->kept = keep(tape_of(be), x, rows * width);
    }
    mf_cpu_ops.rms_norm(tape_of(be)->cpu, x, rows, width, weight, eps, y);
}

static size_t attention_scratch(struct mf_backend *be, const struct mf_attention *at)
{
    return mf_cpu_ops.attention_scratch(tape_of(be)->cpu, at);
}

/* (batch, rows, width) of what lies `batch_row` and `row` apart. */
static const float *keep_items(struct mf_tape *t, const float *x, size_t batch, size_t batch_row,
                               size_t rows, size_t width, size_t row)
{
    float *kept = mf_arena_alloc(t->arena, batch * rows * width + 1, sizeof *kept, NULL);
    t->failed |= !kept;
    for (size_t r = 0; kept && r < batch * rows; r++)
        memcpy(kept + r * width, x + r / rows * batch_row + r % rows * row, width * sizeof *kept);
    return kept;
}

static void attention(struct mf_backend *be, const struct mf_attention *at, const float *q,
                      const float *k, const float *v, float *o, float *scratch)
{
    struct mf_tape *t = tape_of(be);
    size_t width = at->heads * at->head_size;
    struct mf_step *s = record(t, MF_STEP_ATTENTION, q, o);
    if (s) {
        s->attention = *at;
        s->k = k;
        s->v = v;
        s->kept = keep_items(t, q, at->batch, at->q_batch, at->queries, width, at->q_row);
        s->kept2 = keep_items(t, k, at->batch, at->k_batch, at->keys, width, at->k_row);
        s->kept3 = keep_items(t, v, at->batch, at->v_batch, at->keys, width, at->v_row);
    }
    mf_cpu_ops.attention(t->cpu, at, q, k, v, o, scratch);
}

static void unary(struct mf_backend *be, enum mf_unary op, const float *x, size_t n, float *y)
{
    struct mf_step *s = record(tape_of(be), MF_STEP_UNARY, x, y);
    if (s) {
        s->rows = n;
        s->option = (int)op;
        s->kept = keep(tape_of(be), x, n);
    }
    mf_cpu_ops.unary(tape_of(be)->cpu, op, x, n, y);
}

static void glu(struct mf_backend *be, enum mf_glu op, const float *x, size_t rows, size_t half,
                float *y)
{
    struct mf_step *s = record(tape_of(be), MF_STEP_GLU, x, y);
    if (s) {
        s->rows = rows;
        s->width = half;
        s->option = (int)op;
        s->kept = keep(tape_of(be), x, rows * 2 * half);
    }
    mf_cpu_ops.glu(tape_of(be)->cpu, op, x, rows, half, y);
}

/* --- moving numbers about --- */

static void copy(struct mf_backend *be, const float *x, size_t n, float *y)
{
    struct mf_step *s = record(tape_of(be), MF_STEP_COPY, x, y);
    if (s)
        s->rows = n;
    mf_cpu_ops.copy(tape_of(be)->cpu, x, n, y);
}

static void add(struct mf_backend *be, const float *x, size_t x_rows, size_t rows, size_t width,
                float scale, float *y)
{
    struct mf_step *s = record(tape_of(be), MF_STEP_ADD, x, y);
    if (s) {
        s->rows = rows;
        s->width = width;
        s->more = x_rows;
        s->number = scale;
    }
    mf_cpu_ops.add(tape_of(be)->cpu, x, x_rows, rows, width, scale, y);
}

static void scale(struct mf_backend *be, float factor, size_t n, float *y)
{
    struct mf_step *s = record(tape_of(be), MF_STEP_SCALE, y, y);
    if (s) {
        s->rows = n;
        s->number = factor;
    }
    mf_cpu_ops.scale(tape_of(be)->cpu, factor, n, y);
}

static void reverse_rows(struct mf_backend *be, const float *x, size_t rows, size_t width, float *y)
{
    struct mf_step *s = record(tape_of(be), MF_STEP_REVERSE, x, y);
    if (s) {
        s->rows = rows;
        s->width = width;
    }
    mf_cpu_ops.reverse_rows(tape_of(be)->cpu, x, rows, width, y);
}

static void unfold(struct mf_backend *be, const struct mf_unfold *u, const float *x, float *y)
{
    struct mf_step *s = record(tape_of(be), MF_STEP_UNFOLD, x, y);
    if (s)
        s->unfold = *u;
    mf_cpu_ops.unfold(tape_of(be)->cpu, u, x, y);
}

static void region_pool(struct mf_backend *be, const float *x, size_t rows, size_t cols,
                        size_t width, size_t r, float *y)
{
    struct mf_step *s = record(tape_of(be), MF_STEP_REGIONS, x, y);
    if (s) {
        s->rows = rows;
        s->more = cols;
        s->width = width;
        s->option = (int)r;
    }
    mf_cpu_ops.region_pool(tape_of(be)->cpu, x, rows, cols, width, r, y);
}

static void row_mean(struct mf_backend *be, const float *x, size_t rows, size_t width, float *y)
{
    struct mf_step *s = record(tape_of(be), MF_STEP_MEAN, x, y);
    if (s) {
        s->rows = rows;
        s->width = width;
    }
    mf_cpu_ops.row_mean(tape_of(be)->cpu, x, rows, width, y);
}

/* --- Mamba --- */

static void causal_conv(struct mf_backend *be, const float *x, size_t length, size_t c,
                        size_t x_row, const float *weight, const float *bias, size_t k, float *y)
{
    struct mf_tape *t = tape_of(be);
    struct mf_step *s = record(t, MF_STEP_CONV, x, y);
    if (s) {
        s->rows = length;
        s->width = c;
        s->more = x_row;
        s->option = (int)k;
        s->weight = weight;
        s->bias = bias;
        s->kept = keep_rows(t, x, length, c, x_row);
    }
    mf_cpu_ops.causal_conv(t->cpu, x, length, c, x_row, weight, bias, k, y);
}

static void selective_scan(struct mf_backend *be, const struct mf_scan *scan, float *y)
{
    struct mf_tape *t = tape_of(be);
    struct mf_step *s = record(t, MF_STEP_SCAN, scan->u, y);
    if (s) {
        size_t n = scan->length, c = scan->channels;
        s->from = *scan;
        s->scan = *scan;
        s->scan.u = keep(t, scan->u, n * c);
        s->scan.dt = keep(t, scan->dt, n * c);
        s->scan.b = keep_rows(t, scan->b, n, scan->states, scan->bc_row);
        s->scan.c = keep_rows(t, scan->c, n, scan->states, scan->bc_row);
        s->scan.z = keep_rows(t, scan->z, n, c, scan->z_row);
        s->scan.bc_row = scan->states;
        s->scan.z_row = c;
    }
    mf_cpu_ops.selective_scan(t->cpu, scan, y);
}

/* What segmenters need besides is not here: explanations end at the vision module's input. */
const struct mf_ops mf_tape_ops = {.device = "cpu",
                                   .backend_new = backend_new,
                                   .dtype = dtype_of,
                                   .backend_free = backend_free,
                                   .enter = enter,
                                   .host_threads = host_threads,
                                   .memory_new = memory_new,
                                   .memory_free = memory_free,
                                   .upload = upload,
                                   .download = download,
                                   .linear_new = linear_new,
                                   .linear_free = linear_free,
                                   .linear_bytes = linear_bytes,
                                   .linear_plan = linear_plan,
                                   .linear = linear,
                                   .layer_norm = layer_norm,
                                   .rms_norm = rms_norm,
                                   .attention_scratch = attention_scratch,
                                   .attention = attention,
                                   .unary = unary,
                                   .glu = glu,
                                   .copy = copy,
                                   .add = add,
                                   .scale = scale,
                                   .reverse_rows = reverse_rows,
                                   .unfold = unfold,
                                   .region_pool = region_pool,
                                   .row_mean = row_mean,
                                   .causal_conv = causal_conv,
                                   .selective_scan = selective_scan};
