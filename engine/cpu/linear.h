/* A linear layer's inside: shared by linear.c and the two on tiles, amx_linear.c and amx_mlp.c. */
#ifndef MF_ENGINE_CPU_LINEAR_H
#define MF_ENGINE_CPU_LINEAR_H

#include "engine/cpu/amx.h"

struct mf_linear {
    struct mf_backend *be;
    struct mf_dnnl_linear *dnnl; /* NULL: on tiles */
    size_t out, in, bytes;
    enum amx_format format;
    /* One block of memory, in this order (on oneDNN: as it likes): */
    char *panels;
    float *scales; /* int8: of the columns; else NULL */
    float *factor; /* int8 smoothed: what x is multiplied by, 1 / smooth; else NULL */
    float *bias;   /* NULL: none */
    bool shared;   /* the block lies in the backend's store */
};

/* Bytes of a whole panel. */
static inline size_t linear_panel_bytes(const struct mf_linear *l)
{
    return amx_strip_bytes(l->format, l->in);
}

/* n rows of x, k numbers of each from number `at` of the layer's input on, as one block of `l`'s
 * format; normed first, in `rows`, where there is a norm. */
void mf_cpu_pack_rows(const struct mf_linear *l, const struct mf_norm *norm, const float *x,
                      size_t n, size_t x_row, size_t at, size_t k, char *block, float *scales,
                      float *rows);

/* Memory for a layer's `bytes`: shared where the backend has a store, in which somebody may have
 * written them already. linear.c */
bool mf_cpu_linear_memory(struct mf_linear *l, bool *ret_filled, struct mf_error *err);

/* Whether a layer goes on tiles, and in which format, which is set. In fp32 tiles read 6 bytes a
 * weight and take floats apart: tiny layers and few rows do not pay for that. */
bool mf_amx_linear_suits(struct mf_linear *l, const struct mf_linear_source *source);
bool mf_amx_linear_make(struct mf_linear *l, const struct mf_linear_source *source,
                        struct mf_error *err);
/* Scratch for m rows. */
size_t mf_amx_linear_floats(const struct mf_linear *l, size_t m, bool normed);
void mf_amx_linear_run(const struct mf_linear *l, const struct mf_norm *norm, const float *x,
                       size_t m, size_t x_row, float *y, enum mf_epilogue epilogue, float *scratch);

#endif
