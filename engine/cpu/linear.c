/* Linear layers: on AMX tiles where the processor has them (amx_linear.c), else on oneDNN
 * (linear_dnnl.c). */
#include "engine/cpu/linear.h"
#include "engine/weight_store.h"

#include <stdlib.h>
#include <string.h>

bool mf_cpu_linear_memory(struct mf_linear *l, bool *ret_filled, struct mf_error *err)
{
    *ret_filled = false;
    if (l->be->store)
        l->panels = mf_weight_store_take(l->be->store, l->bytes, ret_filled);
    l->shared = l->panels != NULL;
    if (!l->shared)
        l->panels = aligned_alloc(64, (l->bytes + 63) / 64 * 64);
    return l->panels || mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for weights");
}

static bool make_dnnl(struct mf_linear *l, const struct mf_linear_source *source,
                      struct mf_error *err)
{
    bool filled;
    l->dnnl = mf_dnnl_linear_new(l->be, source, err);
    if (!l->dnnl)
        return false;
    l->bytes = mf_dnnl_linear_bytes(l->dnnl);
    return mf_cpu_linear_memory(l, &filled, err) &&
           mf_dnnl_linear_place(l->dnnl, l->panels, filled ? NULL : source, err);
}

struct mf_linear *mf_cpu_linear_new(struct mf_backend *be, const struct mf_linear_source *source,
                                    struct mf_error *err)
{
    struct mf_linear *l = calloc(1, sizeof *l);
    if (!l) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for weights");
        return NULL;
    }
    l->be = be;
    l->out = source->out;
    l->in = source->in;
    if (mf_amx_linear_suits(l, source) ? mf_amx_linear_make(l, source, err)
                                       : make_dnnl(l, source, err))
        return l;
    mf_cpu_linear_free(l);
    return NULL;
}

void mf_cpu_linear_free(struct mf_linear *l)
{
    if (!l)
        return;
    mf_dnnl_linear_free(l->dnnl);
    if (!l->shared)
        free(l->panels);
    free(l);
}

size_t mf_cpu_linear_bytes(const struct mf_linear *l)
{
    return l->bytes;
}

bool mf_cpu_linear_plan(struct mf_linear *l, size_t m, size_t x_row, enum mf_epilogue epilogue,
                        size_t *ret_scratch, struct mf_error *err)
{
    if (l->dnnl)
        return mf_dnnl_linear_plan(l->dnnl, m, x_row, epilogue, ret_scratch, err);
    *ret_scratch = mf_amx_linear_floats(l, m, false);
    return true;
}

bool mf_cpu_linear_run(struct mf_linear *l, const float *x, size_t m, size_t x_row, float *y,
                       enum mf_epilogue epilogue, float *scratch, struct mf_error *err)
{
    if (l->dnnl)
        return mf_dnnl_linear_run(l->dnnl, x, m, x_row, y, epilogue, scratch, err);
    if (!scratch)
        return mf_error_set(err, MF_ERR_INTERNAL, "a linear layer was not planned for %zu rows", m);
    mf_amx_linear_run(l, NULL, x, m, x_row, y, epilogue, scratch);
    return true;
}
