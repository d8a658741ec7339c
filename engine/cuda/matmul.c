/*
 * cuBLASLt behind matmul.h. The library thinks in columns: its D (out × m) is our y (m, out), its A
 * is the weight, transposed, its B is x. Every plan has two algorithms: one for arrays aligned to
 * 16 bytes, one for any. Floats are multiplied as floats (no TF32).
 */
#include "engine/cuda/matmul.h"

#include <cublasLt.h>
#include <stdlib.h>

static const size_t WORK_BYTES = (size_t)32 << 20;

enum { ALIGNED, ANYHOW, ALGORITHMS };

struct mf_matmuls {
    struct mf_gpu *gpu;
    cublasLtHandle_t handle;
    void *work;
};

struct mf_matmul {
    struct mf_matmuls *all;
    struct mf_matmul_shape shape;
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t weight, x, y;
    cublasLtMatmulAlgo_t algorithms[ALGORITHMS];
    bool has[ALGORITHMS];
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

static bool describe(struct mf_matmul *p, struct mf_error *err)
{
    const struct mf_matmul_shape *s = &p->shape;
    cudaDataType_t in = s->half ? CUDA_R_16BF : CUDA_R_32F;
    cudaDataType_t out = s->half_out ? CUDA_R_16BF : CUDA_R_32F;
    cublasOperation_t transposed = CUBLAS_OP_T;
    cublasLtEpilogue_t epilogue = s->bias && s->relu ? CUBLASLT_EPILOGUE_RELU_BIAS
                                  : s->relu          ? CUBLASLT_EPILOGUE_RELU
                                  : s->bias          ? CUBLASLT_EPILOGUE_BIAS
                                                     : CUBLASLT_EPILOGUE_DEFAULT;
    TRY(cublasLtMatmulDescCreate(&p->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    if (!set(p->desc, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed, err) ||
        !set(p->desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue, err) ||
        (s->bias && !set(p->desc, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &out, sizeof out, err)) ||
        (s->bias &&
         !set(p->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &p->all->work, sizeof p->all->work,
              err))) /* some address, for the choice of algorithms */
        return false;
    TRY(cublasLtMatrixLayoutCreate(&p->weight, in, s->in, s->out, (int64_t)s->weight_row));
    TRY(cublasLtMatrixLayoutCreate(&p->x, in, s->in, s->m, (int64_t)s->x_row));
    TRY(cublasLtMatrixLayoutCreate(&p->y, out, s->out, s->m, (int64_t)s->out));
    return true;
}

static bool prefer(cublasLtMatmulPreference_t preference, uint32_t x_bytes, uint32_t y_bytes)
{
    static const cublasLtMatmulPreferenceAttributes_t ATTRIBUTES[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    const uint32_t bytes[] = {16, x_bytes, y_bytes, y_bytes};
    bool ok = cublasLtMatmulPreferenceSetAttribute(
                  preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &WORK_BYTES,
                  sizeof WORK_BYTES) == CUBLAS_STATUS_SUCCESS;
    for (int i = 0; i < 4; i++)
        ok = ok && cublasLtMatmulPreferenceSetAttribute(preference, ATTRIBUTES[i], &bytes[i],
                                                        sizeof bytes[i]) == CUBLAS_STATUS_SUCCESS;
    return ok;
}

/* Bytes that the addresses of x and y must be multiples of. */
static uint32_t x_alignment(const struct mf_matmul_shape *s, int which)
{
    return which == ALIGNED || s->half ? 16 : sizeof(float);
}

static uint32_t y_alignment(const struct mf_matmul_shape *s, int which)
{
    return which == ALIGNED ? 16 : s->half_out ? sizeof(uint16_t) : sizeof(float);
}

static bool choose(struct mf_matmul *p, struct mf_error *err)
{
    for (int i = 0; i < ALGORITHMS; i++) {
        cublasLtMatmulHeuristicResult_t found;
        cublasLtMatmulPreference_t preference;
        int count = 0;
        TRY(cublasLtMatmulPreferenceCreate(&preference));
        bool ok =
            prefer(preference, x_alignment(&p->shape, i), y_alignment(&p->shape, i)) &&
            cublasLtMatmulAlgoGetHeuristic(p->all->handle, p->desc, p->weight, p->x, p->y, p->y,
                                           preference, 1, &found, &count) == CUBLAS_STATUS_SUCCESS;
        cublasLtMatmulPreferenceDestroy(preference);
        p->has[i] = ok && count > 0 && found.state == CUBLAS_STATUS_SUCCESS;
        if (p->has[i])
            p->algorithms[i] = found.algo;
    }
    const struct mf_matmul_shape *s = &p->shape;
    return p->has[ALIGNED] || p->has[ANYHOW] ||
           mf_error_set(err, MF_ERR_UNAVAILABLE,
                        "cuBLASLt has no way to multiply %zu × %zu by %zu × %zu", s->m, s->in,
                        s->in, s->out);
}

struct mf_matmul *mf_matmul_new(struct mf_matmuls *all, const struct mf_matmul_shape *shape,
                                struct mf_error *err)
{
    struct mf_matmul *p = calloc(1, sizeof *p);
    if (!p) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a plan");
        return NULL;
    }
    p->all = all;
    p->shape = *shape;
    mf_gpu_enter(all->gpu);
    if (describe(p, err) && choose(p, err))
        return p;
    mf_matmul_free(p);
    return NULL;
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

void mf_matmul_run(struct mf_matmul *p, const void *x, const void *weight, const void *bias,
                   void *y)
{
    const struct mf_matmul_shape *s = &p->shape;
    const float one = 1, beta = s->add ? 1 : 0;
    bool aligned = ((uintptr_t)x | (uintptr_t)y) % 16 == 0;
    int which = aligned && p->has[ALIGNED] ? ALIGNED : ANYHOW;
    if (!p->has[which]) {
        mf_gpu_note(p->all->gpu, 1, "multiplying arrays that are not aligned");
        return;
    }
    if (s->bias && cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias,
                                                  sizeof bias) != CUBLAS_STATUS_SUCCESS) {
        mf_gpu_note(p->all->gpu, 1, "setting a bias");
        return;
    }
    cublasStatus_t status = cublasLtMatmul(
        p->all->handle, p->desc, &one, weight, p->weight, x, p->x, &beta, y, p->y, y, p->y,
        &p->algorithms[which], p->all->work, WORK_BYTES, (cudaStream_t)mf_gpu_stream(p->all->gpu));
    if (status != CUBLAS_STATUS_SUCCESS)
        mf_gpu_note(p->all->gpu, 999, "multiplying matrices"); /* cudaErrorUnknown */
}
