/*
 * cuDNN behind dnn.h: engines are proposed by the library's heuristics, for a shape at its largest
 * batch; the first whose sums have one order, and that can also do one item, is taken for the shape
 * at every batch. Plans are kept, because making one compiles a kernel (seconds) as a rule.
 */
#include "engine/cuda/dnn_choose.h"

#include <stdlib.h>

static const size_t MOST_WORK = (size_t)256 << 20;

/* How a shape is computed at every batch. */
struct choice {
    struct choice *next;
    struct mf_dnn_shape shape; /* its batch is not looked at */
    bool possible;
    struct mf_dnn_config config;
};

struct mf_dnn_plan {
    struct mf_dnn_plan *next;
    struct mf_dnn_shape shape;
    struct mf_dnn_graph graph;
    cudnnBackendDescriptor_t plan;
    size_t work;
    float scale;                   /* of attention; read when it runs */
    const struct mf_dnn_plan *one; /* so many items one by one; NULL: together */
};

struct mf_dnn {
    struct mf_gpu *gpu;
    const struct mf_dnn_library *lib;
    cudnnHandle_t handle;
    struct choice *choices;
    struct mf_dnn_plan *plans;
};

static bool fail(struct mf_error *err, cudnnStatus_t status, const char *what)
{
    bool memory = status == CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED ||
                  status == CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED;
    return mf_error_set(err, memory ? MF_ERR_NO_MEMORY : MF_ERR_UNAVAILABLE,
                        "cuDNN failed with status %d in %s", (int)status, what);
}

struct mf_dnn *mf_dnn_new(struct mf_gpu *gpu, struct mf_error *err)
{
    const struct mf_dnn_library *lib = mf_dnn_load(err);
    struct mf_dnn *dnn = lib ? calloc(1, sizeof *dnn) : NULL;
    if (!dnn) {
        if (lib)
            mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
        return NULL;
    }
    dnn->gpu = gpu;
    dnn->lib = lib;
    mf_gpu_enter(gpu);
    cudnnStatus_t status = lib->create(&dnn->handle);
    if (status == CUDNN_STATUS_SUCCESS)
        status = lib->set_stream(dnn->handle, (cudaStream_t)mf_gpu_stream(gpu));
    if (status == CUDNN_STATUS_SUCCESS)
        return dnn;
    fail(err, status, "its start");
    mf_dnn_free(dnn);
    return NULL;
}

static void plan_free(struct mf_dnn_plan *p)
{
    if (p && p->graph.lib)
        mf_dnn_graph_free(&p->graph);
    free(p);
}

void mf_dnn_free(struct mf_dnn *dnn)
{
    if (!dnn)
        return;
    for (struct mf_dnn_plan *p = dnn->plans, *next; p; p = next) {
        next = p->next;
        plan_free(p);
    }
    for (struct choice *c = dnn->choices, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    if (dnn->handle)
        dnn->lib->destroy(dnn->handle);
    free(dnn);
}

size_t mf_dnn_version(const struct mf_dnn *dnn)
{
    return dnn->lib->version();
}

size_t mf_dnn_shapes(const struct mf_dnn *dnn, size_t *ret_refused)
{
    size_t possible = 0;
    *ret_refused = 0;
    for (const struct choice *c = dnn->choices; c; c = c->next)
        *(c->possible ? &possible : ret_refused) += 1;
    return possible;
}

static bool conv_alike(const struct mf_dnn_conv *a, const struct mf_dnn_conv *b)
{
    return a->channels == b->channels && a->height == b->height && a->width == b->width &&
           a->out == b->out && a->kernel_h == b->kernel_h && a->kernel_w == b->kernel_w &&
           a->stride_h == b->stride_h && a->stride_w == b->stride_w && a->pad_h == b->pad_h &&
           a->pad_w == b->pad_w && a->half == b->half && a->bias == b->bias && a->relu == b->relu;
}

static bool attention_alike(const struct mf_attention *a, const struct mf_attention *b)
{
    return a->heads == b->heads && a->head_size == b->head_size && a->queries == b->queries &&
           a->keys == b->keys && a->q_row == b->q_row && a->k_row == b->k_row &&
           a->v_row == b->v_row && a->o_row == b->o_row && a->q_batch == b->q_batch &&
           a->k_batch == b->k_batch && a->v_batch == b->v_batch && a->o_batch == b->o_batch &&
           a->scale == b->scale;
}

/* But for the batch. */
static bool alike(const struct mf_dnn_shape *a, const struct mf_dnn_shape *b)
{
    return a->attention == b->attention &&
           (a->attention ? attention_alike(&a->at, &b->at) : conv_alike(&a->conv, &b->conv));
}

static size_t batch_of(const struct mf_dnn_shape *s)
{
    return s->attention ? s->at.batch : s->conv.batch;
}

static struct mf_dnn_shape with_batch(const struct mf_dnn_shape *s, size_t batch)
{
    struct mf_dnn_shape copy = *s;
    copy.at.batch = copy.conv.batch = batch;
    return copy;
}

static void configure(struct mf_dnn_plan *p, cudnnHandle_t handle,
                      const struct mf_dnn_config *config)
{
    struct mf_dnn_graph *g = &p->graph;
    cudnnBackendDescriptor_t knobs[MF_DNN_KNOBS];
    cudnnBackendDescriptor_t engine = mf_dnn_make(g, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    mf_dnn_set(g, engine, CUDNN_ATTR_ENGINE_OPERATION_GRAPH, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
               (const void *)&g->graph);
    mf_dnn_set(g, engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &config->engine);
    mf_dnn_finalize(g, engine);
    for (size_t i = 0; i < config->count; i++) {
        knobs[i] = mf_dnn_make(g, CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
        mf_dnn_set(g, knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1,
                   &config->knobs[i].type);
        mf_dnn_set(g, knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1,
                   &config->knobs[i].value);
        mf_dnn_finalize(g, knobs[i]);
    }
    cudnnBackendDescriptor_t setup = mf_dnn_make(g, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    mf_dnn_set(g, setup, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
               (const void *)&engine);
    if (config->count > 0)
        mf_dnn_set(g, setup, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                   config->count, (const void *)knobs);
    mf_dnn_finalize(g, setup);
    p->plan = mf_dnn_make(g, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    mf_dnn_set(g, p->plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle);
    mf_dnn_set(g, p->plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, CUDNN_TYPE_BACKEND_DESCRIPTOR,
               1, (const void *)&setup);
    mf_dnn_finalize(g, p->plan);
}

/* The plan of a shape, not kept yet; NULL where this configuration cannot do it. */
static struct mf_dnn_plan *plan_new(struct mf_dnn *dnn, const struct mf_dnn_shape *shape,
                                    const struct mf_dnn_config *config)
{
    struct mf_dnn_plan *p = calloc(1, sizeof *p);
    int64_t count = 0, work = 0;
    if (!p)
        return NULL;
    p->shape = *shape;
    p->scale = shape->at.scale;
    bool ok = mf_dnn_graph_init(&p->graph, dnn->lib, dnn->handle, shape, batch_of(shape));
    configure(p, dnn->handle, config);
    ok = ok && p->graph.status == CUDNN_STATUS_SUCCESS &&
         dnn->lib->get(p->plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1,
                       &count, &work) == CUDNN_STATUS_SUCCESS &&
         count == 1 && work >= 0 && (size_t)work <= MOST_WORK;
    p->work = ok ? (size_t)work : 0;
    if (ok)
        return p;
    plan_free(p);
    return NULL;
}

static struct mf_dnn_plan *find_plan(const struct mf_dnn *dnn, const struct mf_dnn_shape *shape)
{
    for (struct mf_dnn_plan *p = dnn->plans; p; p = p->next)
        if (batch_of(&p->shape) == batch_of(shape) && alike(&p->shape, shape))
            return p;
    return NULL;
}

/* Makes the plans of one item and of `shape`, and keeps them; false where one of them cannot be
 * made.
 */
static bool make_plans(struct mf_dnn *dnn, const struct mf_dnn_shape *shape,
                       const struct mf_dnn_config *config)
{
    const size_t batches[2] = {1, batch_of(shape)};
    struct mf_dnn_plan *made[2] = {NULL};
    size_t wanted = batches[1] == 1 ? 1 : 2, n = 0;
    for (; n < wanted; n++) {
        struct mf_dnn_shape each = with_batch(shape, batches[n]);
        made[n] = plan_new(dnn, &each, config);
        if (!made[n])
            break;
    }
    for (size_t i = 0; i < n; i++) {
        if (n < wanted) {
            plan_free(made[i]);
        } else {
            made[i]->next = dnn->plans;
            dnn->plans = made[i];
        }
    }
    return n == wanted;
}

/* The first proposal of one kind of heuristics that will do. */
static bool settle(struct mf_dnn *dnn, struct mf_dnn_graph *g, cudnnBackendHeurMode_t mode,
                   const struct mf_dnn_shape *shape, struct mf_dnn_config *ret)
{
    struct mf_dnn_config proposals[MF_DNN_PROPOSALS];
    size_t count = mf_dnn_proposals(g, mode, shape, proposals);
    for (size_t i = 0; i < count; i++)
        if (make_plans(dnn, shape, &proposals[i])) {
            *ret = proposals[i];
            return true;
        }
    return false;
}

static const struct choice *choose(struct mf_dnn *dnn, const struct mf_dnn_shape *shape)
{
    for (const struct choice *c = dnn->choices; c; c = c->next)
        if (alike(&c->shape, shape))
            return c;
    struct choice *c = calloc(1, sizeof *c);
    struct mf_dnn_graph g;
    if (!c)
        return NULL;
    mf_gpu_enter(dnn->gpu);
    c->shape = *shape;
    c->possible = mf_dnn_graph_init(&g, dnn->lib, dnn->handle, shape, MF_DNN_BATCH) &&
                  (settle(dnn, &g, CUDNN_HEUR_MODE_A, shape, &c->config) ||
                   settle(dnn, &g, CUDNN_HEUR_MODE_FALLBACK, shape, &c->config));
    mf_dnn_graph_free(&g);
    c->next = dnn->choices;
    dnn->choices = c;
    return c;
}

/* The plan of one more batch. Where the engine cannot do so many together, no other engine takes
 * its place: its numbers would be others. */
static struct mf_dnn_plan *plan_more(struct mf_dnn *dnn, const struct mf_dnn_shape *shape,
                                     const struct mf_dnn_config *config)
{
    const struct mf_dnn_shape single = with_batch(shape, 1);
    mf_gpu_enter(dnn->gpu);
    struct mf_dnn_plan *p = plan_new(dnn, shape, config);
    if (!p && (p = calloc(1, sizeof *p))) {
        p->shape = *shape;
        p->one = find_plan(dnn, &single);
        p->work = p->one->work;
    }
    if (p) {
        p->next = dnn->plans;
        dnn->plans = p;
    }
    return p;
}

static const struct mf_dnn_plan *plan(struct mf_dnn *dnn, const struct mf_dnn_shape *shape)
{
    struct mf_dnn_plan *p = find_plan(dnn, shape);
    const struct choice *c = p ? NULL : choose(dnn, shape);
    if (p || !c || !c->possible)
        return p;
    p = find_plan(dnn, shape); /* the choice has made some */
    return p ? p : plan_more(dnn, shape, &c->config);
}

const struct mf_dnn_plan *mf_dnn_plan_conv(struct mf_dnn *dnn, const struct mf_dnn_conv *shape)
{
    const struct mf_dnn_shape s = {.conv = *shape};
    return plan(dnn, &s);
}

const struct mf_dnn_plan *mf_dnn_plan_attention(struct mf_dnn *dnn, const struct mf_attention *at)
{
    const struct mf_dnn_shape s = {.attention = true, .at = *at};
    return plan(dnn, &s);
}

size_t mf_dnn_plan_work(const struct mf_dnn_plan *p)
{
    return p->work;
}

static void run(struct mf_dnn *dnn, const struct mf_dnn_plan *p, const void *const *arrays,
                void *work)
{
    static const int64_t NUMBERS[MF_DNN_ARRAYS] = {1, 2, 3, 4, 5};
    struct mf_dnn_graph call = {.lib = dnn->lib, .status = CUDNN_STATUS_SUCCESS};
    cudnnBackendDescriptor_t pack = mf_dnn_make(&call, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    mf_dnn_set(&call, pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, p->graph.arrays,
               NUMBERS);
    mf_dnn_set(&call, pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR,
               p->graph.arrays, (const void *)arrays);
    mf_dnn_set(&call, pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1,
               (const void *)&work);
    mf_dnn_finalize(&call, pack);
    if (call.status == CUDNN_STATUS_SUCCESS)
        call.status = dnn->lib->execute(dnn->handle, p->plan, pack);
    bool memory = call.status == CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED;
    if (call.status != CUDNN_STATUS_SUCCESS)
        mf_gpu_note(dnn->gpu, memory ? 2 : 999, /* cudaErrorMemoryAllocation, cudaErrorUnknown */
                    p->shape.attention ? "attending by cuDNN" : "convolving by cuDNN");
    mf_dnn_graph_free(&call);
}

/* `array`, `items` arrays of `bytes` on. */
static const void *item(const void *array, size_t items, size_t bytes)
{
    return (const char *)array + items * bytes;
}

void mf_dnn_convolve(struct mf_dnn *dnn, const struct mf_dnn_plan *p, const void *x,
                     const void *filters, const float *bias, void *y, void *work)
{
    const struct mf_dnn_conv *c = &p->shape.conv;
    const struct mf_dnn_plan *each = p->one ? p->one : p;
    size_t calls = p->one ? c->batch : 1, number = c->half ? sizeof(uint16_t) : sizeof(float);
    size_t x_bytes = c->height * c->width * c->channels * number,
           y_bytes = mf_dnn_conv_rows(c) * c->out * number;
    for (size_t i = 0; i < calls; i++) {
        const void *const arrays[MF_DNN_ARRAYS] = {[MF_DNN_X] = item(x, i, x_bytes),
                                                   [MF_DNN_FILTERS] = filters,
                                                   [MF_DNN_Y] = item(y, i, y_bytes),
                                                   [MF_DNN_BIAS] = bias};
        run(dnn, each, arrays, work);
    }
}

void mf_dnn_attend(struct mf_dnn *dnn, const struct mf_dnn_plan *p, const void *q, const void *k,
                   const void *v, void *o, void *work)
{
    const struct mf_attention *at = &p->shape.at;
    const struct mf_dnn_plan *each = p->one ? p->one : p;
    for (size_t i = 0; i < (p->one ? at->batch : 1); i++) {
        const void *const arrays[MF_DNN_ARRAYS] = {[MF_DNN_Q] = item(q, i, 2 * at->q_batch),
                                                   [MF_DNN_K] = item(k, i, 2 * at->k_batch),
                                                   [MF_DNN_V] = item(v, i, 2 * at->v_batch),
                                                   [MF_DNN_O] = item(o, i, 2 * at->o_batch),
                                                   [MF_DNN_SCALE] = &each->scale};
        run(dnn, each, arrays, work);
    }
}
