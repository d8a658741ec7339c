/* The CPU backend's inside: threads, and the kernels that exist once for every instruction set. */
#ifndef MF_ENGINE_CPU_BACKEND_H
#define MF_ENGINE_CPU_BACKEND_H

#include "engine/exec.h"

#include <dnnl.h>
#include <stdint.h>

/* Where the rows of one head lie: `row` floats apart, or as the positions of a window of a grid:
 * lines of `across`, line to line `jump` floats, of which `lines` × `columns` are in the grid. */
struct cpu_rows {
    size_t row;
    size_t across; /* 0: no window */
    size_t jump, lines, columns;
};

/* One head of one item: its first rows and where the others are. */
struct cpu_head {
    const struct mf_attention *at; /* its scale and head size */
    size_t queries, keys;
    const float *q, *k, *v;
    float *o;
    struct cpu_rows q_rows, k_rows, v_rows, o_rows;
    const float *k_pad, *v_pad; /* rows that are not in the grid */
};

/* Floats from the first row to row i; SIZE_MAX: not in the grid. */
static inline size_t cpu_row_offset(const struct cpu_rows *r, size_t i)
{
    if (!r->across)
        return i * r->row;
    size_t line = (uint32_t)i / (uint32_t)r->across, column = i - line * r->across;
    return line < r->lines && column < r->columns ? line * r->jump + column * r->row : SIZE_MAX;
}

static inline const float *cpu_head_key(const struct cpu_head *h, size_t i)
{
    size_t at = cpu_row_offset(&h->k_rows, i);
    return at == SIZE_MAX ? h->k_pad : h->k + at;
}

static inline const float *cpu_head_value(const struct cpu_head *h, size_t i)
{
    size_t at = cpu_row_offset(&h->v_rows, i);
    return at == SIZE_MAX ? h->v_pad : h->v + at;
}

/* A kernel works on a range of its rows, channels or tasks; `thread` numbers the scratch it may
 * use. */
struct cpu_kernels {
    const char *isa;
    size_t width; /* floats in a vector */
    void (*layer_norm)(const float *x, size_t rows, size_t width, const float *weight,
                       const float *bias, float eps, float *y);
    void (*rms_norm)(const float *x, size_t rows, size_t width, const float *weight, float eps,
                     float *y);
    void (*unary)(enum mf_unary op, const float *x, size_t n, float *y);
    void (*glu)(enum mf_glu op, const float *x, size_t rows, size_t half, float *y);
    /* One part of one head: query rows [begin, end). `scratch` holds attention_floats(). */
    size_t (*attention_floats)(const struct mf_attention *at);
    void (*attention)(const struct cpu_head *head, size_t begin, size_t end, float *scratch);
    void (*causal_conv)(const float *x, size_t begin, size_t end, size_t c, size_t x_row,
                        const float *weight, const float *bias, size_t k, float *y);
    void (*weighted_sum)(const float *const *rows, const float *weights, size_t count, size_t n,
                         bool add, float *out);
    /* channels [begin, end), begin a multiple of `width` */
    void (*selective_scan)(const struct mf_scan *scan, size_t begin, size_t end, float *y);
};

extern const struct cpu_kernels mf_cpu_kernels_base;
#ifdef MF_CPU_X86
extern const struct cpu_kernels mf_cpu_kernels_avx2, mf_cpu_kernels_avx512;
#endif

/* How the numbers of a product on AMX tiles are held (amx.h). The value of the first three is the
 * count of bf16 pieces of a float. */
enum amx_format { AMX_BF16 = 1, AMX_BF16X2 = 2, AMX_BF16X3 = 3, AMX_INT8 = 4 };

struct mf_backend {
    int threads;
    const struct cpu_kernels *kernels;
    const char *dtype;
    bool tiles;                    /* products run on AMX */
    enum amx_format format;        /* of new linear layers */
    enum mf_precision precision;   /* of new linear layers and attention */
    struct mf_weight_store *store; /* of new linear layers' panels; NULL: they are private */
    dnnl_engine_t engine;
    dnnl_stream_t stream;
};

/* The best kernels this processor runs, or those of a name for tests ("base", "avx2", "avx512");
 * NULL when it cannot. */
const struct cpu_kernels *mf_cpu_kernels_choose(const char *isa);

/* Runs body(arg, i, thread) for i in [0, n), spread over the backend's threads. */
void mf_cpu_parallel(const struct mf_backend *be, size_t n,
                     void (*body)(void *arg, size_t i, int thread), void *arg);

/* Aligned memory, in huge pages where it is large; free() it. NULL when there is none. */
void *mf_cpu_memory(size_t bytes);

/* Linear layers on oneDNN (linear_dnnl.c): a layer says how many bytes its weights take (aligned to
 * 64, the caller's until the layer is freed) and is placed in them; a source of NULL: they hold the
 * weights already. */
struct mf_dnnl_linear;
struct mf_dnnl_linear *mf_dnnl_linear_new(struct mf_backend *be,
                                          const struct mf_linear_source *source,
                                          struct mf_error *err);
void mf_dnnl_linear_free(struct mf_dnnl_linear *linear);
size_t mf_dnnl_linear_bytes(const struct mf_dnnl_linear *linear);
bool mf_dnnl_linear_place(struct mf_dnnl_linear *linear, void *memory,
                          const struct mf_linear_source *source, struct mf_error *err);
bool mf_dnnl_linear_plan(struct mf_dnnl_linear *linear, size_t m, size_t x_row,
                         enum mf_epilogue epilogue, size_t *ret_scratch, struct mf_error *err);
bool mf_dnnl_linear_run(struct mf_dnnl_linear *linear, const float *x, size_t m, size_t x_row,
                        float *y, enum mf_epilogue epilogue, float *scratch, struct mf_error *err);

/* Linear layers on what the processor does best (linear.c). */
struct mf_linear *mf_cpu_linear_new(struct mf_backend *be, const struct mf_linear_source *source,
                                    struct mf_error *err);
void mf_cpu_linear_free(struct mf_linear *linear);
size_t mf_cpu_linear_bytes(const struct mf_linear *linear);
bool mf_cpu_linear_plan(struct mf_linear *linear, size_t m, size_t x_row, enum mf_epilogue epilogue,
                        size_t *ret_scratch, struct mf_error *err);
bool mf_cpu_linear_run(struct mf_linear *linear, const float *x, size_t m, size_t x_row, float *y,
                       enum mf_epilogue epilogue, float *scratch, struct mf_error *err);

size_t mf_cpu_norm_linear_scratch(const struct mf_linear *linear, size_t m);
void mf_cpu_norm_linear(struct mf_linear *linear, const struct mf_norm *norm, const float *x,
                        size_t m, float *y, enum mf_epilogue epilogue, float *scratch);
size_t mf_cpu_mlp_scratch(const struct mf_linear *fc1, const struct mf_linear *fc2, size_t m);
void mf_cpu_mlp(struct mf_linear *fc1, struct mf_linear *fc2, const struct mf_norm *norm,
                enum mf_epilogue activation, float *h, size_t m, float *scratch);

/* Attention, cut into tasks (attention_tasks.c). */
size_t mf_cpu_attention_scratch(struct mf_backend *be, const struct mf_attention *at);
void mf_cpu_attend(struct mf_backend *be, const struct mf_attention *at, const float *q,
                   const float *k, const float *v, float *o, float *scratch);
void mf_cpu_attend_windows(struct mf_backend *be, const struct mf_attention *at,
                           const struct mf_windows *windows, const float *q, const float *k,
                           const float *v, float *o, float *scratch);

/* Operations that only move or add data (layout.c). */
void mf_cpu_add(struct mf_backend *be, const float *x, size_t x_rows, size_t rows, size_t width,
                float scale, float *y);
void mf_cpu_unfold(struct mf_backend *be, const struct mf_unfold *u, const float *x, float *y);
void mf_cpu_max_pool(struct mf_backend *be, const float *x, size_t batch, size_t h, size_t w,
                     size_t c, size_t row, size_t sh, size_t sw, float *y);
void mf_cpu_windows(struct mf_backend *be, const float *x, size_t h, size_t w, size_t c, size_t s,
                    float *y);
void mf_cpu_unwindows_add(struct mf_backend *be, const float *x, size_t h, size_t w, size_t c,
                          size_t s, float *y);
void mf_cpu_upsample2_add(struct mf_backend *be, const float *x, size_t h, size_t w, size_t c,
                          float *y);
void mf_cpu_pixel_shuffle_add(struct mf_backend *be, const float *x, size_t h, size_t w, size_t c,
                              const float *add, float *y);
void mf_cpu_dot_rows(struct mf_backend *be, const float *x, size_t m, size_t k, const float *w,
                     size_t n, float *y);
void mf_cpu_region_pool(struct mf_backend *be, const float *x, size_t rows, size_t cols,
                        size_t width, size_t r, float *y);
void mf_cpu_row_mean(struct mf_backend *be, const float *x, size_t rows, size_t width, float *y);
void mf_cpu_reverse_rows(struct mf_backend *be, const float *x, size_t rows, size_t width,
                         float *y);

/* Operations of SAM 2's memory (video.c). */
void mf_cpu_depthwise(struct mf_backend *be, const float *x, size_t h, size_t w, size_t c,
                      const float *weight, const float *bias, size_t k, float *y);
void mf_cpu_rotate(struct mf_backend *be, const float *table, size_t period, size_t rows,
                   size_t row, size_t heads, size_t size, float *y);

#endif
