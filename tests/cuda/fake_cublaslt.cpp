/*
 * Plain loops behind fake/cublasLt.h, with the library's rules for what may be asked, and its
 * habits: it proposes other algorithms for other numbers of rows, their sums differ in the last
 * bits, and what it proposes first for few rows cannot do many.
 */
#include "tests/cuda/fake_cuda.h"

#include "tests/cuda/fake/cublasLt.h"

#include <cmath>
#include <string.h>
#include <vector>

struct fake_lt {
    int unused;
};

struct fake_lt_desc {
    cublasOperation_t transposed;
    cublasLtEpilogue_t epilogue;
    cudaDataType_t bias_type;
    const void *bias;
    const float *a_scale, *b_scale;
};

struct fake_lt_layout {
    cudaDataType_t type;
    uint64_t rows, cols;
    int64_t ld;
};

struct fake_lt_preference {
    uint32_t alignment[4], schemes;
};

namespace
{

enum { NARROW = 1, USUAL = 2, WIDE = 3 }; /* algorithms, by how many rows they are made for */
enum { MANY_ROWS = 4096 };

size_t bytes_of(cudaDataType_t type)
{
    return type == CUDA_R_32F ? 4 : type == CUDA_R_16BF ? 2 : 1;
}

float of_e4m3(uint8_t bits)
{
    int exponent = bits >> 3 & 15, mantissa = bits & 7;
    float value = exponent == 0         ? std::ldexp((float)mantissa, -9)
                  : (bits & 127) == 127 ? NAN
                                        : std::ldexp(1 + (float)mantissa / 8, exponent - 7);
    return bits & 128 ? -value : value;
}

float get(const void *from, size_t i, cudaDataType_t type)
{
    float value;
    if (type == CUDA_R_32F)
        return ((const float *)from)[i];
    if (type == CUDA_R_8F_E4M3)
        return of_e4m3(((const uint8_t *)from)[i]);
    uint32_t bits = (uint32_t)((const uint16_t *)from)[i] << 16;
    memcpy(&value, &bits, sizeof value);
    return value;
}

void put(void *to, size_t i, cudaDataType_t type, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (type == CUDA_R_32F)
        ((float *)to)[i] = value;
    else
        ((uint16_t *)to)[i] = (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

/* One product as it was asked for. */
struct product {
    fake_lt_desc desc;
    fake_lt_layout a, b, d;
    const void *weight, *x;
    void *y;
    float beta;
    uint64_t algorithm;
};

std::vector<float> floats_of(const void *from, const fake_lt_layout &layout)
{
    std::vector<float> all(layout.rows * layout.cols);
    for (size_t i = 0; i < layout.cols; i++)
        for (size_t k = 0; k < layout.rows; k++)
            all[i * layout.rows + k] = get(from, i * (size_t)layout.ld + k, layout.type);
    return all;
}

/* K in pieces, as long as the algorithm says: that is what differs in the last bits. */
float dot(const float *x, const float *weight, size_t n, size_t piece)
{
    float sum = 0;
    for (size_t begin = 0; begin < n; begin += piece) {
        float part = 0;
        for (size_t k = begin; k < begin + piece && k < n; k++)
            part += x[k] * weight[k];
        sum += part;
    }
    return sum;
}

void compute(const product &p)
{
    bool bias = p.desc.epilogue & CUBLASLT_EPILOGUE_BIAS,
         relu = p.desc.epilogue & CUBLASLT_EPILOGUE_RELU;
    float scale = (p.desc.a_scale ? *p.desc.a_scale : 1) * (p.desc.b_scale ? *p.desc.b_scale : 1);
    std::vector<float> x = floats_of(p.x, p.b), weight = floats_of(p.weight, p.a);
    size_t n = p.a.rows, piece = p.algorithm == NARROW ? 8 : p.algorithm == USUAL ? 32 : 64;
    for (size_t i = 0; i < p.d.cols; i++)
        for (size_t j = 0; j < p.d.rows; j++) {
            size_t at = i * (size_t)p.d.ld + j;
            float v = dot(&x[i * n], &weight[j * n], n, piece) * scale;
            v += p.beta != 0 ? p.beta * get(p.y, at, p.d.type) : 0;
            v += bias ? get(p.desc.bias, j, p.desc.bias_type) : 0;
            put(p.y, at, p.d.type, relu && v < 0 ? 0 : v);
        }
}

bool fits(const fake_lt_layout *a, const fake_lt_layout *b, const fake_lt_layout *d)
{
    bool eight = a->type == CUDA_R_8F_E4M3;
    return a->type == b->type && a->rows == b->rows && a->cols == d->rows && b->cols == d->cols &&
           (a->type == CUDA_R_32F || (a->ld * (int64_t)bytes_of(a->type) % 16 == 0 &&
                                      b->ld * (int64_t)bytes_of(b->type) % 16 == 0)) &&
           (!eight || (a->rows % 16 == 0 && a->cols % 16 == 0));
}

} // namespace

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle)
{
    *handle = new fake_lt();
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle)
{
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *desc, cublasComputeType_t compute,
                                        cudaDataType_t scale)
{
    *desc = new fake_lt_desc();
    return compute == CUBLAS_COMPUTE_32F && scale == CUDA_R_32F ? CUBLAS_STATUS_SUCCESS
                                                                : CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc)
{
    delete desc;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void *value, size_t bytes)
{
    const struct {
        cublasLtMatmulDescAttributes_t attribute;
        void *to;
        size_t bytes;
    } all[] = {{CUBLASLT_MATMUL_DESC_TRANSA, &desc->transposed, sizeof desc->transposed},
               {CUBLASLT_MATMUL_DESC_EPILOGUE, &desc->epilogue, sizeof desc->epilogue},
               {CUBLASLT_MATMUL_DESC_BIAS_POINTER, &desc->bias, sizeof desc->bias},
               {CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, &desc->a_scale, sizeof desc->a_scale},
               {CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, &desc->b_scale, sizeof desc->b_scale},
               {CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &desc->bias_type, sizeof desc->bias_type}};
    for (const auto &each : all)
        if (each.attribute == attribute && each.bytes == bytes) {
            memcpy(each.to, value, bytes);
            return CUBLAS_STATUS_SUCCESS;
        }
    return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *layout, cudaDataType_t type,
                                          uint64_t rows, uint64_t cols, int64_t ld)
{
    if (rows == 0 || cols == 0 || ld < (int64_t)rows)
        return CUBLAS_STATUS_INVALID_VALUE;
    *layout = new fake_lt_layout{type, rows, cols, ld};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout)
{
    delete layout;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *preference)
{
    *preference = new fake_lt_preference{{256, 256, 256, 256}, 7};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference)
{
    delete preference;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void *value, size_t bytes)
{
    bool alignment = attribute >= CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES;
    if (attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES && bytes == sizeof(size_t))
        return CUBLAS_STATUS_SUCCESS;
    if (bytes != sizeof(uint32_t))
        return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(alignment
               ? &preference->alignment[attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES]
               : &preference->schemes,
           value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t results[], int *count)
{
    (void)handle, (void)c;
    uint64_t best = b->cols <= 16 ? NARROW : b->cols < MANY_ROWS ? USUAL : WIDE;
    *count = 0;
    if (desc->transposed != CUBLAS_OP_T || !fits(a, b, d))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    uint64_t most = fake_cuda.narrow_minded ? 1 : 3;
    for (uint64_t i = 0; i < most && *count < wanted; i++, ++*count) {
        cublasLtMatmulHeuristicResult_t *r = &results[*count];
        memset(r, 0, sizeof *r);
        r->algo.data[0] = (best - 1 + i) % 3 + 1;
        for (int k = 0; k < 4; k++) /* what the caller promised is what is needed */
            r->algo.data[1 + k] = preference->alignment[k];
        r->algo.data[5] = preference->schemes;
    }
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                       cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                       cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                       const cublasLtMatmulAlgo_t *algorithm,
                                       cublasLtMatmulHeuristicResult_t *result)
{
    (void)handle, (void)desc, (void)c;
    memset(result, 0, sizeof *result);
    bool can = fake_cuda.narrow_minded ? algorithm->data[0] == WIDE
                                       : algorithm->data[0] != NARROW || b->cols < MANY_ROWS;
    return fits(a, b, d) && can ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void *alpha,
                              const void *a, cublasLtMatrixLayout_t a_layout, const void *b,
                              cublasLtMatrixLayout_t b_layout, const void *beta, const void *c,
                              cublasLtMatrixLayout_t c_layout, void *d,
                              cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t *algorithm, void *workspace,
                              size_t workspace_bytes, cudaStream_t stream)
{
    (void)handle, (void)c_layout, (void)workspace, (void)workspace_bytes;
    const uintptr_t addresses[] = {(uintptr_t)a, (uintptr_t)b, (uintptr_t)c, (uintptr_t)d};
    for (int i = 0; i < 4; i++)
        if (addresses[i] % algorithm->data[1 + i] != 0)
            return CUBLAS_STATUS_INVALID_VALUE;
    if (*(const float *)alpha != 1 || c != d || algorithm->data[5] != 0)
        return CUBLAS_STATUS_INVALID_VALUE;
    product p = {
        *desc, *a_layout, *b_layout, *d_layout, a, b, d, *(const float *)beta, algorithm->data[0]};
    int status = fake_enqueue(stream, [p] { compute(p); });
    return status == 0                           ? CUBLAS_STATUS_SUCCESS
           : status == cudaErrorMemoryAllocation ? CUBLAS_STATUS_ALLOC_FAILED
                                                 : CUBLAS_STATUS_EXECUTION_FAILED;
}
