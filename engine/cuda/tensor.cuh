/* Instructions of the tensor cores: one warp multiplies 16 × 16 by 16 × 8 numbers of bfloat16. */
#ifndef MF_ENGINE_CUDA_TENSOR_CUH
#define MF_ENGINE_CUDA_TENSOR_CUH

#include "engine/cuda/kernel.cuh"

/* d += a · b. Lane l holds, with g = l / 4 and t = l % 4: of a rows g and g + 8, columns 2t, 2t + 1
 * (a[0], a[1]) and 2t + 8, 2t + 9 (a[2], a[3]); of b rows 2t, 2t + 1 (b[0]) and 2t + 8, 2t + 9
 * (b[1]) of column g; of d columns 2t, 2t + 1 of rows g (d[0], d[1]) and g + 8 (d[2], d[3]). */
static __device__ __forceinline__ void mf_mma(float d[4], const uint32_t a[4], const uint32_t b[2])
{
#ifdef __CUDA_ARCH__
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#elif !defined(__CUDACC__)
    emulate_mma(d, a, b);
#endif
}

/* Four 8 × 8 matrices of shared memory: lane l points to row l % 8 of matrix l / 8, and gets of
 * matrix i the numbers 2t, 2t + 1 of row g in r[i]; transposed: of rows 2t, 2t + 1 number g. */
template <bool TRANSPOSED>
static __device__ __forceinline__ void mf_load_matrices(uint32_t r[4], const mf_bf16 *row)
{
#ifdef __CUDA_ARCH__
    unsigned at = (unsigned)__cvta_generic_to_shared(row);
    if (TRANSPOSED)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                     : "r"(at)
                     : "memory");
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                     : "r"(at)
                     : "memory");
#elif !defined(__CUDACC__)
    emulate_load_matrices(TRANSPOSED, r, row);
#endif
}

#endif
