/*
 * Linear layers on oneDNN's matmul, for processors without AMX: weights packed once into the layout
 * the library prefers, one primitive per (rows, row stride, epilogue), made when planned. Scratch
 * memory is the caller's. oneDNN executes with the OpenMP threads that mf_cpu_parallel() uses too.
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
    float *raw; /* (out, in) until the layout is known, then NULL */
    dnnl_memory_desc_t packed_desc;
    dnnl_memory_t weight; /* packed */
    dnnl_memory_t bias;   /* NULL: none */
    float *bias_data;
    struct plan *plans;
    size_t bytes;
};

#define DNNL_TRY(call, err)                                                                        \
    do {                                                                                           \
        dnnl_status_t status_ = (call);                                                            \
        if (status_ != dnnl_success)                                                               \
            return mf_error_set(                                                                   \
                err, status_ == dnnl_out_of_memory ? MF_ERR_NO_MEMORY : MF_ERR_INTERNAL,           \
                "oneDNN failed with status %d in a linear layer", (int)status_);                   \
    } while (0)

static void *aligned(size_t bytes)
{
    return aligned_alloc(64, (bytes + 63) / 64 * 64 + 64);
}

static bool linear_init(struct mf_dnnl_linear *l, const struct mf_linear_source *source,
                        struct mf_error *err)
{
    l->bytes = l->out * l->in * sizeof(float);
    l->raw = aligned(l->bytes);
    if (!l->raw)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for weights");
    mf_linear_read(source, l->raw);
    if (!source->bias)
        return true;
    l->bias_data = aligned(l->out * sizeof(float));
    if (!l->bias_data)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for weights");
    memcpy(l->bias_data, source->bias, l->out * sizeof(float));
    dnnl_memory_desc_t desc;
    dnnl_dims_t dims = {1, (dnnl_dim_t)l->out};
    DNNL_TRY(dnnl_memory_desc_init_by_tag(&desc, 2, dims, dnnl_f32, dnnl_ab), err);
    DNNL_TRY(dnnl_memory_create(&l->bias, &desc, l->be->engine, l->bias_data), err);
    l->bytes += l->out * sizeof(float);
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
    if (linear_init(l, source, err))
        return l;
    mf_dnnl_linear_free(l);
    return NULL;
}

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
    free(l->bias_data);
    free(l->raw);
    free(l);
}

size_t mf_dnnl_linear_bytes(const struct mf_dnnl_linear *l)
{
    return l->bytes;
}

static bool describe(struct mf_dnnl_linear *l, size_t m, size_t x_row, dnnl_memory_desc_t *src,
                     dnnl_memory_desc_t *weight, dnnl_memory_desc_t *dst, struct mf_error *err)
{
    dnnl_dims_t src_dims = {(dnnl_dim_t)m, (dnnl_dim_t)l->in};
    dnnl_dims_t src_strides = {(dnnl_dim_t)(x_row ? x_row : l->in), 1};
    dnnl_dims_t weight_dims = {(dnnl_dim_t)l->in, (dnnl_dim_t)l->out};
    dnnl_dims_t dst_dims = {(dnnl_dim_t)m, (dnnl_dim_t)l->out};
    DNNL_TRY(dnnl_memory_desc_init_by_strides(src, 2, src_dims, dnnl_f32, src_strides), err);
    if (l->weight)
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

static bool make_desc(struct mf_dnnl_linear *l, size_t m, size_t x_row, enum mf_epilogue epilogue,
                      dnnl_primitive_attr_t attr, dnnl_post_ops_t post, dnnl_primitive_desc_t *ret,
                      struct mf_error *err)
{
    dnnl_memory_desc_t src, weight, bias, dst;
    if (!attributes(epilogue, attr, post, err) || !describe(l, m, x_row, &src, &weight, &dst, err))
        return false;
    dnnl_dims_t bias_dims = {1, (dnnl_dim_t)l->out};
    DNNL_TRY(dnnl_memory_desc_init_by_tag(&bias, 2, bias_dims, dnnl_f32, dnnl_ab), err);
    dnnl_matmul_desc_t desc;
    DNNL_TRY(dnnl_matmul_desc_init(&desc, &src, &weight, l->bias ? &bias : NULL, &dst), err);
    DNNL_TRY(dnnl_primitive_desc_create(ret, &desc, attr, l->be->engine, NULL), err);
    return true;
}

/* Packs the weights in the layout that the first primitive prefers; later ones are made for it. */
static bool pack(struct mf_dnnl_linear *l, const_dnnl_primitive_desc_t pd, struct mf_error *err)
{
    const dnnl_memory_desc_t *wanted = dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
    dnnl_memory_desc_t plain;
    dnnl_dims_t dims = {(dnnl_dim_t)l->in, (dnnl_dim_t)l->out}, strides = {1, (dnnl_dim_t)l->in};
    DNNL_TRY(dnnl_memory_desc_init_by_strides(&plain, 2, dims, dnnl_f32, strides), err);
    size_t bytes = dnnl_memory_desc_get_size(wanted);
    float *packed = aligned(bytes);
    if (!packed)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for weights");
    float *old = l->raw;
    dnnl_memory_t from = NULL;
    dnnl_primitive_desc_t rpd = NULL;
    dnnl_primitive_t reorder = NULL;
    l->raw = packed;
    dnnl_status_t status = dnnl_memory_create(&from, &plain, l->be->engine, old);
    if (status == dnnl_success)
        status = dnnl_memory_create(&l->weight, wanted, l->be->engine, packed);
    if (status == dnnl_success)
        status = dnnl_reorder_primitive_desc_create(&rpd, &plain, l->be->engine, wanted,
                                                    l->be->engine, NULL);
    if (status == dnnl_success)
        status = dnnl_primitive_create(&reorder, rpd);
    if (status == dnnl_success) {
        dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, l->weight}};
        status = dnnl_primitive_execute(reorder, l->be->stream, 2, args);
    }
    if (status == dnnl_success)
        status = dnnl_stream_wait(l->be->stream);
    if (reorder)
        dnnl_primitive_destroy(reorder);
    if (rpd)
        dnnl_primitive_desc_destroy(rpd);
    if (from)
        dnnl_memory_destroy(from);
    free(old);
    l->packed_desc = *wanted;
    l->bytes = bytes + (l->bias ? l->out * sizeof(float) : 0);
    DNNL_TRY(status, err);
    return true;
}

static bool fill_plan(struct mf_dnnl_linear *l, struct plan *p, const_dnnl_primitive_desc_t pd,
                      struct mf_error *err)
{
    if (!l->weight && !pack(l, pd, err))
        return false;
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
    dnnl_primitive_attr_t attr = NULL;
    dnnl_post_ops_t post = NULL;
    dnnl_primitive_desc_t pd = NULL;
    bool ok = dnnl_primitive_attr_create(&attr) == dnnl_success &&
              dnnl_post_ops_create(&post) == dnnl_success;
    if (!ok)
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a linear layer");
    ok = ok && make_desc(l, p->m, p->x_row, p->epilogue, attr, post, &pd, err) &&
         fill_plan(l, p, pd, err);
    if (pd)
        dnnl_primitive_desc_destroy(pd);
    if (post)
        dnnl_post_ops_destroy(post);
    if (attr)
        dnnl_primitive_attr_destroy(attr);
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
