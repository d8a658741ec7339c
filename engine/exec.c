/* The execution context: workspace, planning, and the calls that need scratch memory. */
#include "engine/exec.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 64 };

struct owned {
    struct owned *next;
    float *vector;
    struct mf_linear *linear;
};

/* What a body's part was recorded with. */
struct section {
    struct section *next;
    void (*body)(struct mf_exec *x, void *arg);
    size_t used, bytes;
    struct mf_recording *recording; /* NULL: it cannot be recorded */
    char arg[];
};

#ifdef MF_HAVE_CUDA

static bool start_gpu(struct mf_exec *x, int number, const char *dtype, int threads,
                      struct mf_error *err)
{
    x->backend = mf_cuda_backend_new(number, dtype, threads, err);
    x->ops = &mf_cuda_ops;
    snprintf(x->device, sizeof x->device, "cuda:%d", number);
    return x->backend != NULL;
}

/* "cuda" and "cuda:N" up to two digits. */
static bool gpu_number(const char *device, int *ret)
{
    *ret = 0;
    if (strncmp(device, "cuda", 4) != 0)
        return false;
    device += 4;
    if (*device == ':' && device[1])
        for (device++; *device >= '0' && *device <= '9' && *ret < 10; device++)
            *ret = *ret * 10 + (*device - '0');
    return *device == '\0';
}

/* The GPU that is asked for, or the first that works. */
static bool find_gpu(struct mf_exec *x, const char *device, const char *dtype, int threads,
                     struct mf_error *err)
{
    int number;
    if (device)
        return gpu_number(device, &number) && start_gpu(x, number, dtype, threads, err);
    for (number = 0; number < mf_cuda_count(); number++)
        if (start_gpu(x, number, dtype, threads, NULL))
            return true;
    return false;
}

static const char *const DEVICES = "cpu and cuda:N are";

#else

static bool find_gpu(struct mf_exec *x, const char *device, const char *dtype, int threads,
                     struct mf_error *err)
{
    (void)x, (void)device, (void)dtype, (void)threads, (void)err;
    return false;
}

static const char *const DEVICES = "only cpu is";

#endif

bool mf_exec_init(struct mf_exec *x, const char *device, const char *dtype, int threads,
                  struct mf_error *err)
{
    struct mf_error why = MF_ERROR_INIT;
    memset(x, 0, sizeof *x);
    device = device && *device ? device : NULL;
    bool cpu = device && strcmp(device, "cpu") == 0;
    if (!cpu && find_gpu(x, device, dtype, threads, &why))
        return true;
    if (!cpu && why.code != MF_OK)
        return mf_error_set(err, why.code, "%s", why.msg);
    if (!cpu && device)
        return mf_error_set(err, MF_ERR_UNAVAILABLE, "device \"%.32s\" is not available: %s",
                            device, DEVICES);
    x->ops = &mf_cpu_ops;
    x->backend = x->ops->backend_new(dtype, threads, err);
    snprintf(x->device, sizeof x->device, "cpu");
    return x->backend != NULL;
}

static void forget_sections(struct mf_exec *x)
{
    for (struct section *s = x->sections, *next; s; s = next) {
        next = s->next;
        if (s->recording)
            x->ops->recording_free(s->recording);
        free(s);
    }
    x->sections = NULL;
}

void mf_exec_free(struct mf_exec *x)
{
    if (!x->backend)
        return;
    forget_sections(x);
    for (struct owned *o = x->owned, *next; o; o = next) {
        next = o->next;
        if (o->linear)
            x->ops->linear_free(o->linear);
        if (o->vector)
            x->ops->memory_free(x->backend, o->vector);
        free(o);
    }
    x->ops->memory_free(x->backend, x->base);
    x->ops->backend_free(x->backend);
    memset(x, 0, sizeof *x);
}

bool mf_exec_fail(struct mf_exec *x, enum mf_code code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    mf_error_vset(&x->error, code, fmt, ap);
    va_end(ap);
    return false;
}

void mf_exec_precision(struct mf_exec *x, enum mf_precision least)
{
    if (x->ops->precision)
        x->ops->precision(x->backend, least);
}

bool mf_exec_kernels(struct mf_exec *x, const char *choice, struct mf_error *err)
{
    bool dnn = choice && strcmp(choice, "cudnn") == 0;
    if (choice && !dnn && strcmp(choice, "own") != 0 && strcmp(choice, "auto") != 0)
        return mf_error_set(err, MF_ERR_USAGE,
                            "kernels \"%.16s\" are not known: auto, own and cudnn are", choice);
    if (choice && x->ops->kernels)
        return x->ops->kernels(x->backend, choice, err);
    return !dnn || mf_error_set(err, MF_ERR_UNAVAILABLE,
                                "kernels \"cudnn\" need a GPU, this is device %s", x->device);
}

static bool finish(struct mf_exec *x, struct mf_error *err)
{
    if (x->error.code == MF_OK)
        return true;
    mf_error_set(err, x->error.code, "%s", x->error.msg);
    return false;
}

bool mf_exec_replay(struct mf_exec *x, void (*body)(struct mf_exec *x, void *arg), void *arg,
                    struct mf_error *err)
{
    mf_error_clear(&x->error);
    x->used = 0;
    x->planning = false;
    x->ops->enter(x->backend);
    body(x, arg);
    struct mf_error failure = MF_ERROR_INIT;
    if (x->ops->finish && !x->ops->finish(x->backend, &failure) && x->error.code == MF_OK)
        x->error = failure;
    return finish(x, err);
}

bool mf_exec_run(struct mf_exec *x, void (*body)(struct mf_exec *x, void *arg), void *arg,
                 bool plan_only, struct mf_error *err)
{
    mf_error_clear(&x->error);
    x->used = 0;
    x->planning = true;
    x->ops->enter(x->backend);
    body(x, arg);
    x->planning = false;
    if (!finish(x, err))
        return false;
    if (x->peak > x->capacity) {
        size_t peak = x->peak;
        mf_exec_shrink(x);
        x->peak = peak;
        x->base = x->ops->memory_new(x->backend, x->peak, err);
        if (!x->base)
            return false;
        x->capacity = x->peak;
    }
    return plan_only || mf_exec_replay(x, body, arg, err);
}

void mf_exec_shrink(struct mf_exec *x)
{
    forget_sections(x); /* they know addresses */
    x->ops->memory_free(x->backend, x->base);
    x->base = NULL;
    x->capacity = x->peak = 0;
}

static struct section *find_section(const struct mf_exec *x,
                                    void (*body)(struct mf_exec *x, void *arg), const void *arg,
                                    size_t bytes)
{
    for (struct section *s = x->sections; s; s = s->next)
        if (s->body == body && s->used == x->used && s->bytes == bytes &&
            memcmp(s->arg, arg, bytes) == 0)
            return s;
    return NULL;
}

/* Runs it as usual, so that whatever is done at a first call (loading kernels) has been done, then
 * records it. */
static void new_section(struct mf_exec *x, void (*body)(struct mf_exec *x, void *arg), void *arg,
                        size_t bytes)
{
    struct section *s = calloc(1, sizeof *s + bytes);
    body(x, arg);
    if (!s) /* it runs as usual the next time too */
        return;
    s->body = body;
    s->used = x->used;
    s->bytes = bytes;
    memcpy(s->arg, arg, bytes);
    if (x->ops->record(x->backend)) {
        body(x, arg);
        s->recording = x->ops->recorded(x->backend);
    }
    s->next = x->sections;
    x->sections = s;
}

void mf_exec_section(struct mf_exec *x, void (*body)(struct mf_exec *x, void *arg), void *arg,
                     size_t bytes)
{
    bool recorded = mf_exec_live(x) && x->ops->record && !x->tap && !x->observer;
    const struct section *s = recorded ? find_section(x, body, arg, bytes) : NULL;
    if (s && s->recording)
        MF_DO(x, replay, s->recording);
    else if (recorded && !s)
        new_section(x, body, arg, bytes);
    else
        body(x, arg);
}

void mf_exec_fill(struct mf_exec *x, int slot, float *device, const float *host, size_t n)
{
    if (x->ops->fill)
        MF_DO(x, fill, slot, device, host, n);
    else
        MF_DO(x, upload, device, host, n);
}

void mf_exec_await(struct mf_exec *x, int slot)
{
    if (x->ops->await)
        MF_DO(x, await, slot);
}

void mf_exec_used(struct mf_exec *x, int slot)
{
    if (x->ops->used)
        MF_DO(x, used, slot);
}

float *mf_exec_floats(struct mf_exec *x, size_t n)
{
    size_t bytes = (n * sizeof(float) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    size_t at = x->used;
    x->used += bytes;
    if (x->used > x->peak)
        x->peak = x->used;
    if (x->planning)
        return (float *)((uintptr_t)ALIGNMENT + at); /* never dereferenced */
    if (x->used > x->capacity) {
        mf_exec_fail(x, MF_ERR_INTERNAL, "the plan does not cover this run");
        return NULL;
    }
    return (float *)(x->base + at);
}

static struct owned *own(struct mf_exec *x, struct mf_error *err)
{
    struct owned *o = calloc(1, sizeof *o);
    if (!o) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for weights");
        return NULL;
    }
    o->next = x->owned;
    x->owned = o;
    return o;
}

const float *mf_exec_keep(struct mf_exec *x, const float *host, size_t n, struct mf_error *err)
{
    struct owned *o = own(x, err);
    if (!o)
        return NULL;
    o->vector = x->ops->memory_new(x->backend, (n ? n : 1) * sizeof(float), err);
    if (!o->vector)
        return NULL;
    x->ops->upload(x->backend, o->vector, host, n);
    x->weight_bytes += n * sizeof(float);
    return o->vector;
}

static const float *matrix_rows(const struct mf_linear_source *source, size_t first, size_t count,
                                float *room)
{
    (void)count, (void)room;
    return (const float *)source->arg + first * source->in;
}

struct mf_linear_source mf_linear_matrix(const float *weight, const float *bias, size_t out,
                                         size_t in)
{
    return (struct mf_linear_source){
        .out = out, .in = in, .rows = matrix_rows, .arg = weight, .bias = bias};
}

void mf_linear_read(const struct mf_linear_source *source, float *weight)
{
    const float *rows = source->rows(source, 0, source->out, weight);
    if (rows != weight)
        memcpy(weight, rows, source->out * source->in * sizeof *weight);
}

struct mf_linear *mf_exec_keep_linear(struct mf_exec *x, const struct mf_linear_source *source,
                                      struct mf_error *err)
{
    struct owned *o = own(x, err);
    if (!o)
        return NULL;
    o->linear = x->ops->linear_new(x->backend, source, err);
    if (!o->linear)
        return NULL;
    x->weight_bytes += x->ops->linear_bytes(o->linear);
    const struct mf_observer *watch = source->name ? x->observer : NULL;
    return !watch || watch->layer(watch->arg, o->linear, source, err) ? o->linear : NULL;
}

static void show(struct mf_exec *x, const char *name, const float *data, int rank,
                 const size_t *shape)
{
    size_t n = 1;
    for (int i = 0; i < rank; i++)
        n *= shape[i];
    MF_AUTO(mf_mem) float *host = malloc((n ? n : 1) * sizeof *host);
    if (!host) {
        mf_exec_fail(x, MF_ERR_NO_MEMORY, "out of memory for stage \"%s\"", name);
        return;
    }
    x->ops->download(x->backend, host, data, n);
    x->tap->see(x->tap->arg, name, host, shape, rank);
}

void mf_exec_tap(struct mf_exec *x, const float *data, int rank, const size_t *shape,
                 const char *fmt, ...)
{
    char name[96];
    va_list ap;
    va_start(ap, fmt);
    if (x->tap && mf_exec_live(x)) {
        /* clang's analyzer loses va_start where it inlines this into a caller.
         * NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized) */
        vsnprintf(name, sizeof name, fmt, ap);
        show(x, name, data, rank, shape);
    }
    va_end(ap);
}

void mf_linear_strided(struct mf_exec *x, struct mf_linear *linear, const float *in, size_t m,
                       size_t in_row, float *out, enum mf_epilogue epilogue)
{
    if (x->error.code != MF_OK || m == 0)
        return;
    size_t mark = mf_exec_mark(x), scratch = 0;
    if (!x->ops->linear_plan(linear, m, in_row, epilogue, &scratch, &x->error))
        return;
    float *memory = mf_exec_floats(x, scratch);
    if (mf_exec_live(x) && x->observer)
        x->observer->input(x->observer->arg, x, linear, in, m, in_row);
    if (mf_exec_live(x))
        x->ops->linear(linear, in, m, in_row, out, epilogue, memory, &x->error);
    mf_exec_rewind(x, mark);
}

void mf_linear(struct mf_exec *x, struct mf_linear *linear, const float *in, size_t m, float *out,
               enum mf_epilogue epilogue)
{
    mf_linear_strided(x, linear, in, m, 0, out, epilogue);
}

void mf_norm_linear(struct mf_exec *x, const struct mf_norm *norm, struct mf_linear *linear,
                    const float *in, size_t m, float *out, enum mf_epilogue epilogue)
{
    size_t mark = mf_exec_mark(x);
    bool fused = x->ops->norm_linear && !x->observer;
    size_t n = fused ? x->ops->norm_linear_scratch(linear, m) : 0;
    float *scratch = mf_exec_floats(x, n ? n : m * norm->width);
    if (n) {
        if (mf_exec_live(x))
            x->ops->norm_linear(linear, norm, in, m, out, epilogue, scratch);
    } else {
        MF_DO(x, layer_norm, in, m, norm->width, norm->weight, norm->bias, norm->eps, scratch);
        mf_linear(x, linear, scratch, m, out, epilogue);
    }
    mf_exec_rewind(x, mark);
}

void mf_mlp(struct mf_exec *x, const struct mf_norm *norm, struct mf_linear *fc1,
            struct mf_linear *fc2, size_t hidden, enum mf_epilogue activation, float *h, size_t m)
{
    bool fused = x->ops->mlp && !x->observer;
    size_t mark = mf_exec_mark(x), n = fused ? x->ops->mlp_scratch(fc1, fc2, m) : 0;
    if (n) {
        float *scratch = mf_exec_floats(x, n);
        if (mf_exec_live(x))
            x->ops->mlp(fc1, fc2, norm, activation, h, m, scratch);
    } else {
        float *wide = mf_exec_floats(x, m * hidden);
        mf_norm_linear(x, norm, fc1, h, m, wide, activation);
        mf_linear(x, fc2, wide, m, h, MF_EPILOGUE_ADD);
    }
    mf_exec_rewind(x, mark);
}

void mf_conv(struct mf_exec *x, struct mf_linear *linear, const struct mf_unfold *u,
             const float *in, float *out, enum mf_epilogue epilogue)
{
    if (x->error.code != MF_OK)
        return;
    bool direct = x->ops->conv && !x->observer;
    size_t mark = mf_exec_mark(x), rows = mf_unfold_rows(u);
    size_t n = direct ? x->ops->conv_scratch(linear, u, epilogue) : 0;
    if (n) {
        float *scratch = mf_exec_floats(x, n);
        if (mf_exec_live(x))
            x->ops->conv(linear, u, in, out, epilogue, scratch);
    } else {
        float *patches = mf_exec_floats(x, rows * u->channels * u->kernel_h * u->kernel_w);
        MF_DO(x, unfold, u, in, patches);
        mf_linear(x, linear, patches, rows, out, epilogue);
    }
    mf_exec_rewind(x, mark);
}

void mf_attend(struct mf_exec *x, const struct mf_attention *at, const float *q, const float *k,
               const float *v, float *o)
{
    if (x->error.code != MF_OK)
        return;
    size_t mark = mf_exec_mark(x);
    float *scratch = mf_exec_floats(x, x->ops->attention_scratch(x->backend, at));
    MF_DO(x, attention, at, q, k, v, o, scratch);
    mf_exec_rewind(x, mark);
}

void mf_self_attention(struct mf_exec *x, const struct mf_norm *norm, struct mf_linear *qkv,
                       struct mf_linear *output, size_t heads, float *h, size_t batch,
                       size_t tokens)
{
    size_t d = norm->width, row = 3 * d, m = batch * tokens, mark = mf_exec_mark(x);
    const struct mf_attention at = {.batch = batch,
                                    .heads = heads,
                                    .head_size = d / heads,
                                    .queries = tokens,
                                    .keys = tokens,
                                    .q_row = row,
                                    .k_row = row,
                                    .v_row = row,
                                    .o_row = d,
                                    .q_batch = tokens * row,
                                    .k_batch = tokens * row,
                                    .v_batch = tokens * row,
                                    .o_batch = tokens * d,
                                    .scale = mf_attention_scale(d / heads)};
    bool fused = x->ops->self_attention && !x->observer;
    size_t n = fused ? x->ops->self_attention_scratch(qkv, output, &at) : 0;
    if (n) {
        float *scratch = mf_exec_floats(x, n);
        if (mf_exec_live(x))
            x->ops->self_attention(qkv, output, norm, &at, h, scratch);
    } else {
        float *y = mf_exec_floats(x, m * d), *rows = mf_exec_floats(x, m * row);
        mf_norm_linear(x, norm, qkv, h, m, rows, MF_EPILOGUE_NONE);
        mf_attend(x, &at, rows, rows + d, rows + 2 * d, y);
        mf_linear(x, output, y, m, h, MF_EPILOGUE_ADD);
    }
    mf_exec_rewind(x, mark);
}

void mf_attend_windows(struct mf_exec *x, const struct mf_attention *at,
                       const struct mf_windows *windows, const float *q, const float *k,
                       const float *v, float *o)
{
    if (x->error.code != MF_OK)
        return;
    size_t mark = mf_exec_mark(x);
    float *scratch = mf_exec_floats(x, x->ops->window_attention_scratch(x->backend, at));
    MF_DO(x, window_attention, at, windows, q, k, v, o, scratch);
    mf_exec_rewind(x, mark);
}
