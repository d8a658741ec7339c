/*
 * Attention: by own kernels, which do every shape, or by cuDNN's fused one, which reads bfloat16
 * alone. Which it is depends on the card and the shape, never on how many items there are. Windows
 * of a grid are the own kernels': cuDNN would want them gathered.
 */
#include "engine/cuda/backend.h"

enum {
    UNIT = 8,    /* numbers of bfloat16 in 16 bytes */
    FEW = 64,    /* queries or keys: as much as an own block takes */
    HOPPER = 90, /* whose products of warp groups the own kernels do not use */
    HEAD = 128,  /* numbers of a head everywhere, and on Hopper: */
    HOPPER_HEAD = 256
};

/* Whether bfloat16 is enough, here and now. */
static bool halves(const struct mf_backend *be)
{
    return be->half && be->precision != MF_PRECISION_16_BITS;
}

static bool aligned(const struct mf_attention *at)
{
    size_t steps = at->head_size | at->q_row | at->k_row | at->v_row | at->o_row | at->q_batch |
                   at->k_batch | at->v_batch | at->o_batch;
    return steps % UNIT == 0;
}

/* Keys that all items share are the own kernels'. */
static bool apart(const struct mf_attention *at)
{
    return at->batch == 1 || (at->q_batch && at->k_batch && at->v_batch && at->o_batch);
}

static bool wanted(const struct mf_backend *be, const struct mf_attention *at)
{
    int capability = mf_gpu_capability(be->gpu);
    if (be->kernels == MF_CUDA_OWN || (be->kernels == MF_CUDA_AUTO && capability < HOPPER))
        return false;
    return at->queries >= FEW && at->keys >= FEW && aligned(at) && apart(at) &&
           at->head_size <= (capability >= HOPPER ? HOPPER_HEAD : HEAD);
}

static const struct mf_dnn_plan *plan_of(struct mf_backend *be, const struct mf_attention *at)
{
    struct mf_dnn *dnn = halves(be) && wanted(be, at) ? mf_cuda_dnn(be) : NULL;
    return dnn ? mf_dnn_plan_attention(dnn, at) : NULL;
}

size_t mf_cuda_attend_halves_scratch(struct mf_backend *be, const struct mf_attention *at)
{
    const struct mf_dnn_plan *plan = plan_of(be, at);
    return plan ? mf_cuda_room(mf_dnn_plan_work(plan)) : 0;
}

void mf_cuda_attend_halves(struct mf_backend *be, const struct mf_attention *at, const uint16_t *q,
                           const uint16_t *k, const uint16_t *v, uint16_t *o, float *scratch)
{
    const struct mf_dnn_plan *plan = plan_of(be, at);
    if (plan)
        mf_dnn_attend(be->dnn, plan, q, k, v, o, mf_cuda_aligned(scratch));
    else
        mf_gpu_note(be->gpu, mf_launch_attention_halves(be->stream, at, q, k, v, o),
                    "starting attention");
}

/* Rows of all items lie one after the other, as one conversion reads them. */
static bool in_rows(const struct mf_attention *at)
{
    return at->batch == 1 ||
           (at->q_batch == at->queries * at->q_row && at->k_batch == at->keys * at->k_row &&
            at->v_batch == at->keys * at->v_row && at->o_batch == at->queries * at->o_row);
}

/* The same attention of bfloat16 without gaps. */
static struct mf_attention halved(const struct mf_attention *at)
{
    size_t d = at->heads * at->head_size;
    struct mf_attention half = *at;
    half.q_row = half.k_row = half.v_row = half.o_row = d;
    half.q_batch = half.o_batch = at->queries * d;
    half.k_batch = half.v_batch = at->keys * d;
    return half;
}

/* Bytes of queries (or outputs) and of keys (or values) as bfloat16. */
static size_t half_bytes(const struct mf_attention *at, size_t rows)
{
    return at->batch * rows * at->heads * at->head_size * sizeof(uint16_t);
}

size_t mf_cuda_attention_scratch(struct mf_backend *be, const struct mf_attention *at)
{
    const struct mf_attention half = halved(at);
    const struct mf_dnn_plan *plan = in_rows(at) ? plan_of(be, &half) : NULL;
    return plan ? 2 * mf_cuda_room(half_bytes(at, at->queries)) +
                      2 * mf_cuda_room(half_bytes(at, at->keys)) +
                      mf_cuda_room(mf_dnn_plan_work(plan))
                : 0;
}

static void halve(struct mf_backend *be, const float *x, size_t rows, size_t width, size_t row,
                  uint16_t *y)
{
    mf_gpu_note(be->gpu, mf_launch_halve(be->stream, x, rows, width, row, y, width),
                "starting a conversion");
}

static void attend_by_dnn(struct mf_backend *be, const struct mf_attention *at,
                          const struct mf_dnn_plan *plan, const float *const qkv[3], float *o,
                          float *scratch)
{
    size_t d = at->heads * at->head_size, queries = at->batch * at->queries,
           keys = at->batch * at->keys;
    size_t q_room = mf_cuda_room(half_bytes(at, at->queries)),
           k_room = mf_cuda_room(half_bytes(at, at->keys));
    uint16_t *q = mf_cuda_aligned(scratch), *mixed = mf_cuda_aligned(scratch + q_room),
             *k = mf_cuda_aligned(scratch + 2 * q_room),
             *v = mf_cuda_aligned(scratch + 2 * q_room + k_room);
    halve(be, qkv[0], queries, d, at->q_row, q);
    halve(be, qkv[1], keys, d, at->k_row, k);
    halve(be, qkv[2], keys, d, at->v_row, v);
    mf_dnn_attend(be->dnn, plan, q, k, v, mixed,
                  mf_cuda_aligned(scratch + 2 * q_room + 2 * k_room));
    mf_gpu_note(be->gpu, mf_launch_widen(be->stream, mixed, queries, d, o, at->o_row),
                "starting a conversion");
}

/* By own kernels; `windows` may be NULL. */
static void attend(struct mf_backend *be, const struct mf_attention *at,
                   const struct mf_windows *windows, const float *q, const float *k, const float *v,
                   float *o)
{
    if (at->head_size > MF_ATTENTION_MOST)
        mf_gpu_note(be->gpu, 1, "attending with heads of more than 256 numbers");
    else if (halves(be))
        mf_gpu_note(be->gpu, mf_launch_attention_mma(be->stream, at, windows, q, k, v, o),
                    "starting attention");
    else
        mf_gpu_note(be->gpu, mf_launch_attention(be->stream, at, windows, q, k, v, o),
                    "starting attention");
}

void mf_cuda_attention(struct mf_backend *be, const struct mf_attention *at, const float *q,
                       const float *k, const float *v, float *o, float *scratch)
{
    const struct mf_attention half = halved(at);
    const struct mf_dnn_plan *plan = in_rows(at) ? plan_of(be, &half) : NULL;
    if (at->queries == 0)
        return;
    if (plan)
        attend_by_dnn(be, at, plan, (const float *const[]){q, k, v}, o, scratch);
    else
        attend(be, at, NULL, q, k, v, o);
}

size_t mf_cuda_window_attention_scratch(struct mf_backend *be, const struct mf_attention *at)
{
    (void)be;
    (void)at;
    return 0;
}

void mf_cuda_window_attention(struct mf_backend *be, const struct mf_attention *at,
                              const struct mf_windows *windows, const float *q, const float *k,
                              const float *v, float *o, float *scratch)
{
    (void)scratch;
    attend(be, at, windows, q, k, v, o);
}
