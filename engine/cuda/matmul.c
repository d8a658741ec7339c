/*
 * cuBLASLt behind matmul.h. The library thinks in columns: its D (out × m) is our y (m, out), its A
 * is the weight, transposed, its B is x. Floats are multiplied as floats (no TF32).
 *
 * Its heuristic would choose another algorithm for another m. Here it is asked once for a layer, at
 * a number of rows that is always the same, without algorithms that split K (their parts are added
 * in another order); what it proposes first and what works for few and for many rows is taken for
 * every m. Where none of that works, what it proposes for many rows, and for one, is looked at.
 * Arrays whose rows are aligned to 16 bytes have an algorithm of their own.
 */
#include "engine/cuda/matmul.h"

#include <cublasLt.h>
#include <stdlib.h>

static const size_t WORK_BYTES = (size_t)32 << 20;

enum { ALIGNED, ANYHOW, ALGORITHMS };
enum { PROPOSALS = 32, FEW_ROWS = 16, USUAL_ROWS = 4 * 1370 };

/* How the products of one kind of layer are computed, for every m. */
struct choice {
    struct choice *next;
    struct mf_matmul_shape shape; /* m is not looked at */
    cublasLtMatmulAlgo_t algorithms[ALGORITHMS];
    bool has[ALGORITHMS];
};

struct mf_matmuls {
    struct mf_gpu *gpu;
    cublasLtHandle_t handle;
    void *work;
    struct choice *choices;
};

struct mf_matmul {
    struct mf_matmuls *all;
    struct mf_matmul_shape shape;
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t weight, x, y;
    const struct choice *choice;
};

static bool fail(struct mf_error *err, cublasStatus_t status, const char *what)
{
    return mf_error_set(
        err, status == CUBLAS_STATUS_ALLOC_FAILED ? MF_ERR_NO_MEMORY : MF_ERR_UNAVAILABLE,
        "cuBLASLt failed with status %d in %s", (int)status, what);
}

struct mf_matmuls *mf_matmuls_new(struct mf_gpu *gpu, struct mf_error *err)
{
    struct mf_matmuls *all = calloc(1, sizeof *all);
    if (!all) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
        return NULL;
    }
    all->gpu = gpu;
    mf_gpu_enter(gpu);
    cublasStatus_t status = cublasLtCreate(&all->handle);
    if (status != CUBLAS_STATUS_SUCCESS)
        fail(err, status, "its start");
    else if ((all->work = mf_gpu_alloc(gpu, WORK_BYTES, err)))
        return all;
    mf_matmuls_free(all);
    return NULL;
}

void mf_matmuls_free(struct mf_matmuls *all)
{
    if (!all)
        return;
    for (struct choice *c = all->choices, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    mf_gpu_release(all->gpu, all->work);
    if (all->handle)
        cublasLtDestroy(all->handle);
    free(all);
}

#define TRY(call)                                                                                  \
    do {                                                                                           \
        cublasStatus_t status_ = (call);                                                           \
        if (status_ != CUBLAS_STATUS_SUCCESS)                                                      \
            return fail(err, status_, "a linear layer");                                           \
    } while (0)

static bool set(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t attribute,
                const void *value, size_t bytes, struct mf_error *err)
{
    TRY(cublasLtMatmulDescSetAttribute(desc, attribute, value, bytes));
    return true;
}

static cudaDataType_t data_type(enum mf_number type)
{
    return type == MF_NUMBER_F32    ? CUDA_R_32F
           : type == MF_NUMBER_BF16 ? CUDA_R_16BF
                                    : CUDA_R_8F_E4M3;
}

static bool describe_bias(struct mf_matmul *p, struct mf_error *err)
{
    const struct mf_matmul_shape *s = &p->shape;
    cudaDataType_t type = s->half_out || s->type == MF_NUMBER_E4M3 ? CUDA_R_16BF : CUDA_R_32F;
    return !s->bias ||
           (set(p->desc, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &type, sizeof type, err) &&
            set(p->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &p->all->work, sizeof p->all->work,
                err)); /* some address, for the choice of algorithms */
}

static bool describe_scales(struct mf_matmul *p, struct mf_error *err)
{
    const struct mf_matmul_shape *s = &p->shape;
    return s->type != MF_NUMBER_E4M3 || (set(p->desc, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER,
                                             &s->weight_scale, sizeof s->weight_scale, err) &&
                                         set(p->desc, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER,
                                             &s->x_scale, sizeof s->x_scale, err));
}

static bool describe(struct mf_matmul *p, struct mf_error *err)
{
    const struct mf_matmul_shape *s = &p->shape;
    cudaDataType_t in = data_type(s->type), out = s->half_out ? CUDA_R_16BF : CUDA_R_32F;
    cublasOperation_t transposed = CUBLAS_OP_T;
    cublasLtEpilogue_t epilogue = s->bias && s->relu ? CUBLASLT_EPILOGUE_RELU_BIAS
                                  : s->relu          ? CUBLASLT_EPILOGUE_RELU
                                  : s->bias          ? CUBLASLT_EPILOGUE_BIAS
                                                     : CUBLASLT_EPILOGUE_DEFAULT;
    TRY(cublasLtMatmulDescCreate(&p->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    if (!set(p->desc, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed, err) ||
        !set(p->desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue, err) ||
        !describe_bias(p, err) || !describe_scales(p, err))
        return false;
    TRY(cublasLtMatrixLayoutCreate(&p->weight, in, s->in, s->out, (int64_t)s->weight_row));
    TRY(cublasLtMatrixLayoutCreate(&p->x, in, s->in, s->m, (int64_t)s->x_row));
    TRY(cublasLtMatrixLayoutCreate(&p->y, out, s->out, s->m, (int64_t)s->out));
    return true;
}

static bool prefer(cublasLtMatmulPreference_t preference, uint32_t x_bytes, uint32_t y_bytes)
{
    const uint32_t weight_bytes = 16, whole_k = CUBLASLT_REDUCTION_SCHEME_NONE;
    const struct {
        cublasLtMatmulPreferenceAttributes_t attribute;
        const void *value;
        size_t bytes;
    } wishes[] = {{CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &WORK_BYTES, sizeof WORK_BYTES},
                  {CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &whole_k, sizeof whole_k},
                  {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &weight_bytes, sizeof weight_bytes},
                  {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &x_bytes, sizeof x_bytes},
                  {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &y_bytes, sizeof y_bytes},
                  {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &y_bytes, sizeof y_bytes}};
    for (size_t i = 0; i < sizeof wishes / sizeof *wishes; i++)
        if (cublasLtMatmulPreferenceSetAttribute(preference, wishes[i].attribute, wishes[i].value,
                                                 wishes[i].bytes) != CUBLAS_STATUS_SUCCESS)
            return false;
    return true;
}

/* Bytes that the addresses of x and y must be multiples of. */
static uint32_t x_alignment(const struct mf_matmul_shape *s, int which)
{
    return which == ALIGNED || s->type != MF_NUMBER_F32 ? 16 : sizeof(float);
}

static uint32_t y_alignment(const struct mf_matmul_shape *s, int which)
{
    return which == ALIGNED ? 16 : s->half_out ? sizeof(uint16_t) : sizeof(float);
}

static struct mf_matmul *described(struct mf_matmuls *all, const struct mf_matmul_shape *shape,
                                   size_t m, struct mf_error *err)
{
    struct mf_matmul *p = calloc(1, sizeof *p);
    if (!p) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a plan");
        return NULL;
    }
    p->all = all;
    p->shape = *shape;
    p->shape.m = m;
    if (describe(p, err))
        return p;
    mf_matmul_free(p);
    return NULL;
}

/* Whether an algorithm can do the shape of this plan in the work memory. */
static bool can(const struct mf_matmul *p, const cublasLtMatmulAlgo_t *algorithm)
{
    cublasLtMatmulHeuristicResult_t result;
    return cublasLtMatmulAlgoCheck(p->all->handle, p->desc, p->weight, p->x, p->y, p->y, algorithm,
                                   &result) == CUBLAS_STATUS_SUCCESS &&
           result.workspaceSize <= WORK_BYTES;
}

/* A layer at the number of rows that its algorithm is chosen for, at very many, and at one. */
enum { USUAL, MANY, ONE, COUNTS };

/* The first proposal for one of them that can do all. */
static bool settle(struct mf_matmul *const same[COUNTS], int asked, int which,
                   cublasLtMatmulAlgo_t *ret)
{
    const struct mf_matmul *p = same[asked];
    const struct mf_matmul_shape *s = &p->shape;
    cublasLtMatmulHeuristicResult_t found[PROPOSALS];
    cublasLtMatmulPreference_t preference;
    int count = 0;
    if (cublasLtMatmulPreferenceCreate(&preference) != CUBLAS_STATUS_SUCCESS)
        return false;
    bool ok = prefer(preference, x_alignment(s, which), y_alignment(s, which)) &&
              cublasLtMatmulAlgoGetHeuristic(p->all->handle, p->desc, p->weight, p->x, p->y, p->y,
                                             preference, PROPOSALS, found,
                                             &count) == CUBLAS_STATUS_SUCCESS;
    cublasLtMatmulPreferenceDestroy(preference);
    for (int i = 0; ok && i < count; i++) {
        bool does = found[i].state == CUBLAS_STATUS_SUCCESS;
        for (int k = 0; does && k < COUNTS; k++)
            does = can(same[k], &found[i].algo);
        if (does) {
            *ret = found[i].algo;
            return true;
        }
    }
    return false;
}

static bool alike(const struct mf_matmul_shape *a, const struct mf_matmul_shape *b)
{
    return a->out == b->out && a->in == b->in && a->x_row == b->x_row &&
           a->weight_row == b->weight_row && a->type == b->type && a->half_out == b->half_out &&
           a->bias == b->bias && a->relu == b->relu && a->add == b->add &&
           a->few_rows == b->few_rows;
}

static const struct choice *choose(struct mf_matmuls *all, const struct mf_matmul_shape *s,
                                   struct mf_error *err)
{
    enum { MANY_ROWS = 1 << 17 };
    for (const struct choice *c = all->choices; c; c = c->next)
        if (alike(&c->shape, s))
            return c;
    struct choice *c = calloc(1, sizeof *c);
    const size_t rows[COUNTS] = {s->few_rows ? FEW_ROWS : USUAL_ROWS, MANY_ROWS, 1};
    struct mf_matmul *same[COUNTS];
    bool possible = c != NULL;
    for (int k = 0; k < COUNTS; k++) {
        same[k] = described(all, s, rows[k], err);
        possible = possible && same[k];
    }
    for (int i = 0; possible && i < ALGORITHMS; i++)
        for (int k = 0; k < COUNTS && !c->has[i]; k++)
            c->has[i] = settle(same, k, i, &c->algorithms[i]);
    for (int k = 0; k < COUNTS; k++)
        mf_matmul_free(same[k]);
    if (!c || (!c->has[ALIGNED] && !c->has[ANYHOW])) {
        mf_error_set(err, c ? MF_ERR_UNAVAILABLE : MF_ERR_NO_MEMORY,
                     "cuBLASLt has no way to multiply rows of %zu by %zu × %zu", s->in, s->in,
                     s->out);
        free(c);
        return NULL;
    }
    c->shape = *s;
    c->next = all->choices;
    all->choices = c;
    return c;
}

struct mf_matmul *mf_matmul_new(struct mf_matmuls *all, const struct mf_matmul_shape *shape,
                                struct mf_error *err)
{
    mf_gpu_enter(all->gpu);
    const struct choice *choice = choose(all, shape, err);
    struct mf_matmul *p = choice ? described(all, shape, shape->m, err) : NULL;
    if (p)
        p->choice = choice;
    return p;
}

void mf_matmul_free(struct mf_matmul *p)
{
    if (!p)
        return;
    if (p->weight)
        cublasLtMatrixLayoutDestroy(p->weight);
    if (p->x)
        cublasLtMatrixLayoutDestroy(p->x);
    if (p->y)
        cublasLtMatrixLayoutDestroy(p->y);
    if (p->desc)
        cublasLtMatmulDescDestroy(p->desc);
    free(p);
}

static size_t bytes_of(enum mf_number type)
{
    return type == MF_NUMBER_F32 ? sizeof(float) : type == MF_NUMBER_BF16 ? sizeof(uint16_t) : 1;
}

/* By the address and by rows: where rows are not aligned, the same row of another item would be. */
static int algorithm_of(const struct mf_matmul *p, const void *x, const void *y)
{
    const struct mf_matmul_shape *s = &p->shape;
    size_t y_row = s->out * (s->half_out ? sizeof(uint16_t) : sizeof(float));
    bool aligned = ((uintptr_t)x | (uintptr_t)y | y_row | s->x_row * bytes_of(s->type)) % 16 == 0;
    return aligned && p->choice->has[ALIGNED] ? ALIGNED : ANYHOW;
}

void mf_matmul_run(struct mf_matmul *p, const void *x, const void *weight, const void *bias,
                   void *y)
{
    const struct mf_matmul_shape *s = &p->shape;
    const float one = 1, beta = s->add ? 1 : 0;
    int which = algorithm_of(p, x, y);
    if (!p->choice->has[which]) {
        mf_gpu_note(p->all->gpu, 1, "multiplying arrays that are not aligned");
        return;
    }
    if (s->bias && cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias,
                                                  sizeof bias) != CUBLAS_STATUS_SUCCESS) {
        mf_gpu_note(p->all->gpu, 1, "setting a bias");
        return;
    }
    cublasStatus_t status =
        cublasLtMatmul(p->all->handle, p->desc, &one, weight, p->weight, x, p->x, &beta, y, p->y, y,
                       p->y, &p->choice->algorithms[which], p->all->work, WORK_BYTES,
                       (cudaStream_t)mf_gpu_stream(p->all->gpu));
    if (status != CUBLAS_STATUS_SUCCESS)
        mf_gpu_note(p->all->gpu, status == CUBLAS_STATUS_ALLOC_FAILED ? 2 : 999,
                    "multiplying matrices"); /* cudaErrorMemoryAllocation, cudaErrorUnknown */
}
