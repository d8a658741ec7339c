/*
 * Linear layers on a GPU. In bf16 weights are held as bfloat16, rows padded with zeros to a
 * multiple of 8 numbers, and rows of x become bfloat16 before the product: by a conversion, by the
 * norm before it, or because the layer before wrote them so. Outputs, biases, sums and everything
 * that is added up are floats. In fp8 the large layers whose inputs calibration studies have shown
 * are E4M3, with one scale for the weights and one for x, which is known before: rows stay
 * independent of each other. What is beyond it saturates. Products are planned per shape (matmul.h)
 * when the network is planned.
 */
#include "engine/cuda/linear_private.h"

#include "engine/cuda/e4m3.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    SMALL = 65536,   /* weights: smaller layers stay floats */
    UNIT = 8,        /* numbers of bfloat16 in 16 bytes */
    EIGHT_UNIT = 16, /* of E4M3 */
    PIECE = 1 << 20  /* weights that are read at a time */
};

static size_t padded(size_t n)
{
    return (n + UNIT - 1) / UNIT * UNIT;
}

static uint16_t to_half(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16); /* to nearest, ties to even */
}

/* Rows [first, first + count) of the weights, as they are held, to the device. */
static void upload_rows(struct mf_linear *l, const float *rows, size_t first, size_t count,
                        float factor, uint16_t *halves)
{
    uint8_t *eights = (uint8_t *)halves;
    if (l->eight) {
        for (size_t i = 0; i < count * l->in; i++)
            eights[i] = mf_e4m3(rows[i] * factor);
        mf_gpu_upload(l->be->gpu, (uint8_t *)l->weight + first * l->row, eights, count * l->row);
        return;
    }
    if (!l->half) {
        mf_gpu_upload(l->be->gpu, (float *)l->weight + first * l->in, rows,
                      count * l->in * sizeof *rows);
        return;
    }
    for (size_t r = 0; r < count; r++)
        for (size_t i = 0; i < l->row; i++)
            halves[r * l->row + i] = i < l->in ? to_half(rows[r * l->in + i]) : 0;
    mf_gpu_upload(l->be->gpu, (uint16_t *)l->weight + first * l->row, halves,
                  count * l->row * sizeof *halves);
}

static float largest(const float *x, size_t n)
{
    float most = 0;
    for (size_t i = 0; i < n; i++)
        most = fmaxf(most, fabsf(x[i]));
    return most;
}

static bool upload_scales(struct mf_linear *l, float weight_factor, struct mf_error *err)
{
    const float scales[2] = {1 / l->factor, 1 / weight_factor};
    l->scales = mf_gpu_alloc(l->be->gpu, sizeof scales, err);
    if (l->scales)
        mf_gpu_upload(l->be->gpu, l->scales, scales, sizeof scales);
    l->be->eight_layers += l->scales != NULL;
    return l->scales != NULL;
}

static bool upload_weights(struct mf_linear *l, const struct mf_linear_source *source,
                           struct mf_error *err)
{
    size_t step = l->in < PIECE ? PIECE / l->in : 1;
    step = step < l->out ? step : l->out;
    MF_AUTO(mf_mem) float *room = malloc(step * l->in * sizeof *room);
    MF_AUTO(mf_mem) uint16_t *halves = malloc(step * l->row * sizeof *halves);
    if (!room || !halves)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for weights");
    float most = 0;
    for (size_t first = 0; l->eight && first < l->out; first += step) {
        size_t count = l->out - first < step ? l->out - first : step;
        most = fmaxf(most, largest(source->rows(source, first, count, room), count * l->in));
    }
    float factor = most > 0 ? MF_E4M3_MOST / most : 1;
    for (size_t first = 0; first < l->out; first += step) {
        size_t count = l->out - first < step ? l->out - first : step;
        upload_rows(l, source->rows(source, first, count, room), first, count, factor, halves);
    }
    return !l->eight || upload_scales(l, factor, err);
}

static bool upload_bias(struct mf_linear *l, const float *bias, struct mf_error *err)
{
    if (!bias)
        return true;
    l->bias = mf_gpu_alloc(l->be->gpu, l->out * sizeof *bias, err);
    if (!l->bias)
        return false;
    l->bytes += l->out * sizeof *bias;
    mf_gpu_upload(l->be->gpu, l->bias, bias, l->out * sizeof *bias);
    if (!l->half)
        return true;
    MF_AUTO(mf_mem) uint16_t *halves = malloc(l->out * sizeof *halves);
    if (!halves)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for weights");
    for (size_t i = 0; i < l->out; i++)
        halves[i] = to_half(bias[i]);
    l->half_bias = mf_gpu_alloc(l->be->gpu, l->out * sizeof *halves, err);
    if (l->half_bias)
        mf_gpu_upload(l->be->gpu, l->half_bias, halves, l->out * sizeof *halves);
    l->bytes += l->out * sizeof *halves;
    return l->half_bias != NULL;
}

struct mf_linear *mf_cuda_linear_new(struct mf_backend *be, const struct mf_linear_source *source,
                                     struct mf_error *err)
{
    struct mf_linear *l = calloc(1, sizeof *l);
    if (!l || !(l->plans = calloc(1, sizeof *l->plans))) {
        free(l);
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for weights");
        return NULL;
    }
    l->be = be;
    l->out = source->out;
    l->in = source->in;
    l->few_rows = source->few_rows;
    /* Mamba's layers too: with bfloat16 in its large projections the cosine of random weights is
     * below .999 (tests/run-gpu, parity), and floats cost a GPU a fraction of a millisecond. */
    l->half = be->half && be->precision == MF_PRECISION_DTYPE && l->out * l->in >= SMALL;
    l->eight = be->eight && l->half && !l->few_rows && source->peak > 0 &&
               l->in % EIGHT_UNIT == 0 && l->out % EIGHT_UNIT == 0;
    l->factor = l->eight ? MF_E4M3_MOST / source->peak : 1;
    l->row = l->half ? padded(l->in) : l->in;
    l->bytes = l->out * l->row * (l->eight ? 1 : l->half ? sizeof(uint16_t) : sizeof(float));
    l->weight = mf_gpu_alloc(be->gpu, l->bytes, err);
    if (l->weight && upload_weights(l, source, err) && upload_bias(l, source->bias, err))
        return l;
    mf_cuda_linear_free(l);
    return NULL;
}

void mf_cuda_linear_free(struct mf_linear *l)
{
    if (!l)
        return;
    for (struct plan *p = l->plans->first, *next; p; p = next) {
        next = p->next;
        mf_matmul_free(p->matmul);
        free(p);
    }
    mf_gpu_release(l->be->gpu, l->weight);
    mf_gpu_release(l->be->gpu, l->bias);
    mf_gpu_release(l->be->gpu, l->half_bias);
    mf_gpu_release(l->be->gpu, l->filters.memory);
    mf_gpu_release(l->be->gpu, l->scales);
    free(l->plans);
    free(l);
}

size_t mf_cuda_linear_bytes(const struct mf_linear *l)
{
    return l->bytes;
}

static struct mf_matmul *find(const struct mf_linear *l, const struct use *use)
{
    for (struct plan *p = l->plans->first; p; p = p->next)
        if (p->use.m == use->m && p->use.x_row == use->x_row && p->use.relu == use->relu &&
            p->use.add == use->add && p->use.half_out == use->half_out)
            return p->matmul;
    return NULL;
}

static bool make(const struct mf_linear *l, const struct use *use, struct mf_error *err)
{
    if (find(l, use))
        return true;
    struct plan *p = calloc(1, sizeof *p);
    if (!p)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a plan");
    const struct mf_matmul_shape shape = {.m = use->m,
                                          .out = l->out,
                                          .in = l->row,
                                          .x_row = use->x_row,
                                          .weight_row = l->row,
                                          .type = l->eight  ? MF_NUMBER_E4M3
                                                  : l->half ? MF_NUMBER_BF16
                                                            : MF_NUMBER_F32,
                                          .x_scale = l->scales,
                                          .weight_scale = l->eight ? l->scales + 1 : NULL,
                                          .half_out = use->half_out,
                                          .bias = l->bias != NULL,
                                          .relu = use->relu,
                                          .add = use->add,
                                          .few_rows = l->few_rows};
    p->use = *use;
    p->matmul = mf_matmul_new(l->be->matmuls, &shape, err);
    if (!p->matmul) {
        free(p);
        return false;
    }
    p->next = l->plans->first;
    l->plans->first = p;
    return true;
}

/* GELU is not the product's affair: the library's is the tanh approximation. */
static struct use use_of(const struct mf_linear *l, size_t m, size_t x_row,
                         enum mf_epilogue epilogue)
{
    return (struct use){.m = m,
                        .x_row = l->half ? l->row
                                 : x_row ? x_row
                                         : l->in,
                        .relu = epilogue == MF_EPILOGUE_RELU,
                        .add = epilogue == MF_EPILOGUE_ADD};
}

/* Floats that m rows of bfloat16 take, and what becomes of them in E4M3 behind them. */
static size_t half_floats(const struct mf_linear *l, size_t m)
{
    size_t halves = l->half ? (m * l->row + 1) / 2 : 0;
    return l->eight ? halves + m * l->row / 4 : halves;
}

/* Rows of bfloat16 as what the product reads. */
static const void *narrowed(const struct mf_linear *l, size_t m, const void *x)
{
    const uint16_t *halves = x;
    if (!l->eight)
        return x;
    /* the room behind them is scratch memory, as they are */
    uint8_t *eights = (uint8_t *)(uintptr_t)(halves + m * l->row);
    mf_gpu_note(l->be->gpu,
                mf_launch_quantise(l->be->stream, halves, m * l->row, l->factor, eights),
                "starting a conversion");
    return eights;
}

bool mf_cuda_linear_plan(struct mf_linear *l, size_t m, size_t x_row, enum mf_epilogue epilogue,
                         size_t *ret_scratch, struct mf_error *err)
{
    struct use use = use_of(l, m, x_row, epilogue);
    *ret_scratch = half_floats(l, m);
    return make(l, &use, err);
}

/* The product, and GELU after it. False when it was not planned. */
static bool multiply(const struct mf_linear *l, const struct use *use, const void *x, void *y,
                     bool gelu)
{
    struct mf_matmul *matmul = find(l, use);
    if (!matmul)
        return false;
    mf_matmul_run(matmul, narrowed(l, use->m, x), l->weight,
                  use->half_out || l->eight ? (const void *)l->half_bias : (const void *)l->bias,
                  y);
    if (gelu)
        mf_gpu_note(l->be->gpu, mf_launch_gelu(l->be->stream, y, use->m * l->out, use->half_out),
                    "starting GELU");
    return true;
}

bool mf_cuda_linear_run(struct mf_linear *l, const float *x, size_t m, size_t x_row, float *y,
                        enum mf_epilogue epilogue, float *scratch, struct mf_error *err)
{
    struct use use = use_of(l, m, x_row, epilogue);
    if (l->half)
        mf_gpu_note(l->be->gpu,
                    mf_launch_halve(l->be->stream, x, m, l->in, x_row ? x_row : l->in,
                                    (uint16_t *)scratch, l->row),
                    "starting a conversion");
    return multiply(l, &use, l->half ? (const void *)scratch : (const void *)x, y,
                    epilogue == MF_EPILOGUE_GELU) ||
           mf_error_set(err, MF_ERR_INTERNAL, "a linear layer was not planned for %zu rows", m);
}

size_t mf_cuda_norm_linear_scratch(const struct mf_linear *l, size_t m)
{
    if (!l->half)
        return 0;
    for (int e = MF_EPILOGUE_NONE; e <= MF_EPILOGUE_ADD; e++) {
        struct use use = use_of(l, m, 0, (enum mf_epilogue)e);
        if (!make(l, &use, NULL))
            return 0; /* composed, its plan says why */
    }
    return half_floats(l, m);
}

static void norm_rows(const struct mf_linear *l, const struct mf_norm *norm, const float *x,
                      size_t m, float *scratch)
{
    mf_gpu_note(l->be->gpu, mf_launch_norm(l->be->stream, x, m, norm, scratch, l->row, true),
                "starting a norm");
}

void mf_cuda_norm_linear(struct mf_linear *l, const struct mf_norm *norm, const float *x, size_t m,
                         float *y, enum mf_epilogue epilogue, float *scratch)
{
    struct use use = use_of(l, m, 0, epilogue);
    norm_rows(l, norm, x, m, scratch);
    multiply(l, &use, scratch, y, epilogue == MF_EPILOGUE_GELU);
}

/* A layer that writes what the next one reads: bfloat16, rows as long as its padded ones. */
static struct use first_use(const struct mf_linear *l, size_t m, enum mf_epilogue activation)
{
    struct use use = use_of(l, m, 0, activation);
    use.half_out = true;
    return use;
}

size_t mf_cuda_mlp_scratch(const struct mf_linear *fc1, const struct mf_linear *fc2, size_t m)
{
    if (!fc1->half || !fc2->half || fc1->out != fc2->row)
        return 0;
    struct use plain = first_use(fc1, m, MF_EPILOGUE_NONE),
               relu = first_use(fc1, m, MF_EPILOGUE_RELU),
               second = use_of(fc2, m, 0, MF_EPILOGUE_ADD);
    if (!make(fc1, &plain, NULL) || !make(fc1, &relu, NULL) || !make(fc2, &second, NULL))
        return 0;
    return padded(half_floats(fc1, m)) + half_floats(fc2, m);
}

void mf_cuda_mlp(struct mf_linear *fc1, struct mf_linear *fc2, const struct mf_norm *norm,
                 enum mf_epilogue activation, float *h, size_t m, float *scratch)
{
    struct use first = first_use(fc1, m, activation), second = use_of(fc2, m, 0, MF_EPILOGUE_ADD);
    float *wide = scratch + padded(half_floats(fc1, m));
    norm_rows(fc1, norm, h, m, scratch);
    multiply(fc1, &first, scratch, wide, activation == MF_EPILOGUE_GELU);
    multiply(fc2, &second, wide, h, false);
}

size_t mf_cuda_self_attention_scratch(const struct mf_linear *qkv, const struct mf_linear *output,
                                      const struct mf_attention *at)
{
    size_t m = at->batch * at->queries;
    if (!qkv->half || !output->half || output->row != at->o_row || qkv->out % UNIT ||
        qkv->be->precision == MF_PRECISION_16_BITS || at->head_size > MF_ATTENTION_MOST)
        return 0;
    struct use first = first_use(qkv, m, MF_EPILOGUE_NONE),
               second = use_of(output, m, 0, MF_EPILOGUE_ADD);
    if (!make(qkv, &first, NULL) || !make(output, &second, NULL))
        return 0;
    return padded(half_floats(qkv, m)) + padded((m * qkv->out + 1) / 2) +
           padded(half_floats(output, m)) + mf_cuda_attend_halves_scratch(qkv->be, at);
}

void mf_cuda_self_attention(struct mf_linear *qkv, struct mf_linear *output,
                            const struct mf_norm *norm, const struct mf_attention *at, float *h,
                            float *scratch)
{
    size_t m = at->batch * at->queries, d = at->o_row;
    struct use first = first_use(qkv, m, MF_EPILOGUE_NONE),
               second = use_of(output, m, 0, MF_EPILOGUE_ADD);
    float *rows = scratch + padded(half_floats(qkv, m));
    float *mixed = rows + padded((m * qkv->out + 1) / 2);
    const uint16_t *q = (const uint16_t *)rows;
    norm_rows(qkv, norm, h, m, scratch);
    multiply(qkv, &first, scratch, rows, false);
    mf_cuda_attend_halves(qkv->be, at, q, q + d, q + 2 * d, (uint16_t *)mixed,
                          mixed + padded(half_floats(output, m)));
    multiply(output, &second, mixed, h, false);
}
