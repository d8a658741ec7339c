/*
 * Linear layers on oneDNN's matmul, for processors without AMX: weights packed when the layer is
 * made, into the layout that the library prefers for many rows (few, where the layer says so), one
 * primitive per (rows, row stride, epilogue), made when planned. Memory of weights and scratch is
 * the caller's. oneDNN executes with the OpenMP threads that mf_cpu_parallel() uses too.
 */
#include "engine/cpu/backend.h"

#include <stdlib.h>
#include <string.h>

struct plan {
    struct plan *next;
    size_t m, x_row;
    enum mf_epilogue epilogue;
    dnnl_primitive_t primitive;
    dnnl_memory_t src, dst, scratch;
    size_t scratch_floats;
};

struct mf_dnnl_linear {
    struct mf_backend *be;
    size_t out, in;
    bool biased;
    dnnl_memory_desc_t packed_desc;
    size_t packed_bytes; /* the bias lies behind them */
    dnnl_memory_t weight, bias;
    struct plan *plans;
};

#define DNNL_TRY(call, err)                                                                        \
    do {                                                                                           \
        dnnl_status_t status_ = (call);                                                            \
        if (status_ != dnnl_success)                                                               \
            return mf_error_set(                                                                   \
                err, status_ == dnnl_out_of_memory ? MF_ERR_NO_MEMORY : MF_ERR_INTERNAL,           \
                "oneDNN failed with status %d in a linear layer", (int)status_);                   \
    } while (0)

static void plan_free(struct plan *p)
{
    if (p->primitive)
        dnnl_primitive_destroy(p->primitive);
    if (p->src)
        dnnl_memory_destroy(p->src);
    if (p->dst)
        dnnl_memory_destroy(p->dst);
    if (p->scratch)
        dnnl_memory_destroy(p->scratch);
    free(p);
}

void mf_dnnl_linear_free(struct mf_dnnl_linear *l)
{
    if (!l)
        return;
    for (struct plan *p = l->plans, *next; p; p = next) {
        next = p->next;
        plan_free(p);
    }
    if (l->weight)
        dnnl_memory_destroy(l->weight);
    if (l->bias)
        dnnl_memory_destroy(l->bias);
    free(l);
}

size_t mf_dnnl_linear_bytes(const struct mf_dnnl_linear *l)
{
    return l->packed_bytes + (l->biased ? l->out * sizeof(float) : 0);
}

static bool describe(struct mf_dnnl_linear *l, size_t m, size_t x_row, dnnl_memory_desc_t *src,
                     dnnl_memory_desc_t *weight, dnnl_memory_desc_t *dst, struct mf_error *err)
{
    dnnl_dims_t src_dims = {(dnnl_dim_t)m, (dnnl_dim_t)l->in};
    dnnl_dims_t src_strides = {(dnnl_dim_t)(x_row ? x_row : l->in), 1};
    dnnl_dims_t weight_dims = {(dnnl_dim_t)l->in, (dnnl_dim_t)l->out};
    dnnl_dims_t dst_dims = {(dnnl_dim_t)m, (dnnl_dim_t)l->out};
    DNNL_TRY(dnnl_memory_desc_init_by_strides(src, 2, src_dims, dnnl_f32, src_strides), err);
    if (l->packed_bytes)
        *weight = l->packed_desc;
    else
        DNNL_TRY(
            dnnl_memory_desc_init_by_tag(weight, 2, weight_dims, dnnl_f32, dnnl_format_tag_any),
            err);
    DNNL_TRY(dnnl_memory_desc_init_by_tag(dst, 2, dst_dims, dnnl_f32, dnnl_ab), err);
    return true;
}

static bool attributes(enum mf_epilogue epilogue, dnnl_primitive_attr_t attr, dnnl_post_ops_t post,
                       struct mf_error *err)
{
    DNNL_TRY(dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user), err);
    if (epilogue == MF_EPILOGUE_GELU)
        DNNL_TRY(dnnl_post_ops_append_eltwise(post, 1, dnnl_eltwise_gelu_erf, 0, 0), err);
    else if (epilogue == MF_EPILOGUE_RELU)
        DNNL_TRY(dnnl_post_ops_append_eltwise(post, 1, dnnl_eltwise_relu, 0, 0), err);
    else if (epilogue == MF_EPILOGUE_ADD)
        DNNL_TRY(dnnl_post_ops_append_sum(post, 1), err);
    DNNL_TRY(dnnl_primitive_attr_set_post_ops(attr, post), err);
    return true;
}

static bool create_desc(struct mf_dnnl_linear *l, size_t m, size_t x_row, enum mf_epilogue epilogue,
                        dnnl_primitive_attr_t attr, dnnl_post_ops_t post,
                        dnnl_primitive_desc_t *ret, struct mf_error *err)
{
    dnnl_memory_desc_t src, weight, bias, dst;
    if (!attributes(epilogue, attr, post, err) || !describe(l, m, x_row, &src, &weight, &dst, err))
        return false;
    dnnl_dims_t bias_dims = {1, (dnnl_dim_t)l->out};
    DNNL_TRY(dnnl_memory_desc_init_by_tag(&bias, 2, bias_dims, dnnl_f32, dnnl_ab), err);
    dnnl_matmul_desc_t desc;
    DNNL_TRY(dnnl_matmul_desc_init(&desc, &src, &weight, l->biased ? &bias : NULL, &dst), err);
    DNNL_TRY(dnnl_primitive_desc_create(ret, &desc, attr, l->be->engine, NULL), err);
    return true;
}

/* What a primitive for these rows is made from; the caller destroys it. NULL after an error. */
static dnnl_primitive_desc_t make_desc(struct mf_dnnl_linear *l, size_t m, size_t x_row,
                                       enum mf_epilogue epilogue, struct mf_error *err)
{
    dnnl_primitive_attr_t attr = NULL;
    dnnl_post_ops_t post = NULL;
    dnnl_primitive_desc_t pd = NULL;
    if (dnnl_primitive_attr_create(&attr) == dnnl_success &&
        dnnl_post_ops_create(&post) == dnnl_success)
        create_desc(l, m, x_row, epilogue, attr, post, &pd, err);
    else
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a linear layer");
    if (post)
        dnnl_post_ops_destroy(post);
    if (attr)
        dnnl_primitive_attr_destroy(attr);
    return pd;
}

/* Asks which layout of the weights is best. */
static bool choose_layout(struct mf_dnnl_linear *l, bool few_rows, struct mf_error *err)
{
    enum { FEW = 16, MANY = 256 };
    dnnl_primitive_desc_t pd = make_desc(l, few_rows ? FEW : MANY, 0, MF_EPILOGUE_NONE, err);
    if (!pd)
        return false;
    const dnnl_memory_desc_t *wanted = dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
    l->packed_desc = *wanted;
    l->packed_bytes = (dnnl_memory_desc_get_size(wanted) + 63) / 64 * 64;
    dnnl_primitive_desc_destroy(pd);
    return true;
}

struct mf_dnnl_linear *mf_dnnl_linear_new(struct mf_backend *be,
                                          const struct mf_linear_source *source,
                                          struct mf_error *err)
{
    struct mf_dnnl_linear *l = calloc(1, sizeof *l);
    if (!l) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for weights");
        return NULL;
    }
    l->be = be;
    l->out = source->out;
    l->in = source->in;
    l->biased = source->bias != NULL;
    if (choose_layout(l, source->few_rows, err))
        return l;
    mf_dnnl_linear_free(l);
    return NULL;
}

/* Packs rows [first, first + n) of the weights, which lie in `rows`. */
static bool pack_rows(struct mf_dnnl_linear *l, void *memory, const float *rows, size_t first,
                      size_t n, struct mf_error *err)
{
    dnnl_memory_desc_t plain, part;
    dnnl_dims_t dims = {(dnnl_dim_t)l->in, (dnnl_dim_t)n}, strides = {1, (dnnl_dim_t)l->in};
    dnnl_dims_t at = {0, (dnnl_dim_t)first};
    dnnl_memory_t from = NULL, to = NULL;
    dnnl_primitive_desc_t pd = NULL;
    dnnl_primitive_t primitive = NULL;
    DNNL_TRY(dnnl_memory_desc_init_by_strides(&plain, 2, dims, dnnl_f32, strides), err);
    DNNL_TRY(dnnl_memory_desc_init_submemory(&part, &l->packed_desc, dims, at), err);
    dnnl_status_t status = dnnl_memory_create(&from, &plain, l->be->engine, (void *)rows);
    if (status == dnnl_success)
        status = dnnl_memory_create(&to, &part, l->be->engine, memory);
    if (status == dnnl_success)
        status = dnnl_reorder_primitive_desc_create(&pd, &plain, l->be->engine, &part,
                                                    l->be->engine, NULL);
    if (status == dnnl_success)
        status = dnnl_primitive_create(&primitive, pd);
    if (status == dnnl_success) {
        dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}};
        status = dnnl_primitive_execute(primitive, l->be->stream, 2, args);
    }
    if (status == dnnl_success)
        status = dnnl_stream_wait(l->be->stream);
    if (primitive)
        dnnl_primitive_destroy(primitive);
    if (pd)
        dnnl_primitive_desc_destroy(pd);
    if (to)
        dnnl_memory_destroy(to);
    if (from)
        dnnl_memory_destroy(from);
    DNNL_TRY(status, err);
    return true;
}

static bool pack(struct mf_dnnl_linear *l, void *memory, const struct mf_linear_source *source,
                 struct mf_error *err)
{
    enum { ROWS = 256 }; /* at a time, so that no second copy of the weights is made */
    MF_AUTO(mf_mem) float *room = malloc(ROWS * l->in * sizeof *room);
    if (!room)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for weights");
    if (l->packed_bytes > l->out * l->in * sizeof *room)
        memset(memory, 0, l->packed_bytes); /* ends of blocks that no row reaches */
    for (size_t first = 0, n; first < l->out; first += n) {
        n = l->out - first < ROWS ? l->out - first : ROWS;
        if (!pack_rows(l, memory, source->rows(source, first, n, room), first, n, err))
            return false;
    }
    return true;
}

bool mf_dnnl_linear_place(struct mf_dnnl_linear *l, void *memory,
                          const struct mf_linear_source *source, struct mf_error *err)
{
    char *bias = (char *)memory + l->packed_bytes;
    DNNL_TRY(dnnl_memory_create(&l->weight, &l->packed_desc, l->be->engine, memory), err);
    if (l->biased) {
        dnnl_memory_desc_t desc;
        dnnl_dims_t dims = {1, (dnnl_dim_t)l->out};
        DNNL_TRY(dnnl_memory_desc_init_by_tag(&desc, 2, dims, dnnl_f32, dnnl_ab), err);
        DNNL_TRY(dnnl_memory_create(&l->bias, &desc, l->be->engine, bias), err);
    }
    if (source && l->biased)
        memcpy(bias, source->bias, l->out * sizeof(float));
    return !source || pack(l, memory, source, err);
}

static bool fill_plan(struct mf_dnnl_linear *l, struct plan *p, const_dnnl_primitive_desc_t pd,
                      struct mf_error *err)
{
    DNNL_TRY(dnnl_primitive_create(&p->primitive, pd), err);
    DNNL_TRY(dnnl_memory_create(&p->src, dnnl_primitive_desc_query_md(pd, dnnl_query_src_md, 0),
                                l->be->engine, DNNL_MEMORY_NONE),
             err);
    DNNL_TRY(dnnl_memory_create(&p->dst, dnnl_primitive_desc_query_md(pd, dnnl_query_dst_md, 0),
                                l->be->engine, DNNL_MEMORY_NONE),
             err);
    const dnnl_memory_desc_t *scratch =
        dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
    p->scratch_floats = (dnnl_memory_desc_get_size(scratch) + sizeof(float) - 1) / sizeof(float);
    DNNL_TRY(dnnl_memory_create(&p->scratch, scratch, l->be->engine, DNNL_MEMORY_NONE), err);
    return true;
}

static struct plan *find_plan(const struct mf_dnnl_linear *l, size_t m, size_t x_row,
                              enum mf_epilogue epilogue)
{
    for (struct plan *p = l->plans; p; p = p->next)
        if (p->m == m && p->x_row == x_row && p->epilogue == epilogue)
            return p;
    return NULL;
}

static bool make_plan(struct mf_dnnl_linear *l, struct plan *p, struct mf_error *err)
{
    dnnl_primitive_desc_t pd = make_desc(l, p->m, p->x_row, p->epilogue, err);
    if (!pd)
        return false;
    bool ok = fill_plan(l, p, pd, err);
    dnnl_primitive_desc_destroy(pd);
    return ok;
}

bool mf_dnnl_linear_plan(struct mf_dnnl_linear *l, size_t m, size_t x_row,
                         enum mf_epilogue epilogue, size_t *ret_scratch, struct mf_error *err)
{
    struct plan *p = find_plan(l, m, x_row, epilogue);
    if (!p) {
        p = calloc(1, sizeof *p);
        if (!p)
            return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a linear layer");
        p->m = m;
        p->x_row = x_row;
        p->epilogue = epilogue;
        if (!make_plan(l, p, err)) {
            plan_free(p);
            return false;
        }
        p->next = l->plans;
        l->plans = p;
    }
    *ret_scratch = p->scratch_floats;
    return true;
}

bool mf_dnnl_linear_run(struct mf_dnnl_linear *l, const float *x, size_t m, size_t x_row, float *y,
                        enum mf_epilogue epilogue, float *scratch, struct mf_error *err)
{
    struct plan *p = find_plan(l, m, x_row, epilogue);
    if (!p)
        return mf_error_set(err, MF_ERR_INTERNAL, "a linear layer was not planned for %zu rows", m);
    DNNL_TRY(dnnl_memory_set_data_handle(p->src, (void *)x), err);
    DNNL_TRY(dnnl_memory_set_data_handle(p->dst, y), err);
    DNNL_TRY(dnnl_memory_set_data_handle(p->scratch, scratch), err);
    dnnl_exec_arg_t args[5] = {{DNNL_ARG_SRC, p->src},
                               {DNNL_ARG_WEIGHTS, l->weight},
                               {DNNL_ARG_DST, p->dst},
                               {DNNL_ARG_SCRATCHPAD, p->scratch},
                               {DNNL_ARG_BIAS, l->bias}};
    DNNL_TRY(dnnl_primitive_execute(p->primitive, l->be->stream, l->bias ? 5 : 4, args), err);
    return true;
}
