/* Prototypes of the kernels in the build of one instruction set: each name ends in MF_ISA (vec.h).
 */
#ifndef MF_ENGINE_CPU_KERNELS_H
#define MF_ENGINE_CPU_KERNELS_H

#include "engine/cpu/backend.h"
#include "engine/cpu/vec.h"

#define MF_ISA_TEXT_(isa) #isa
#define MF_ISA_TEXT(isa) MF_ISA_TEXT_(isa)
#define MF_ISA_NAME MF_ISA_TEXT(MF_ISA)

void MF_KERNEL(mf_cpu_layer_norm)(const float *x, size_t rows, size_t width, const float *weight,
                                  const float *bias, float eps, float *y);
void MF_KERNEL(mf_cpu_rms_norm)(const float *x, size_t rows, size_t width, const float *weight,
                                float eps, float *y);
void MF_KERNEL(mf_cpu_unary)(enum mf_unary op, const float *x, size_t n, float *y);
void MF_KERNEL(mf_cpu_glu)(enum mf_glu op, const float *x, size_t rows, size_t half, float *y);
size_t MF_KERNEL(mf_cpu_attention_floats)(const struct mf_attention *at);
void MF_KERNEL(mf_cpu_attention)(const struct cpu_head *head, size_t begin, size_t end,
                                 float *scratch);
void MF_KERNEL(mf_cpu_causal_conv)(const float *x, size_t begin, size_t end, size_t c, size_t x_row,
                                   const float *weight, const float *bias, size_t k, float *y);
void MF_KERNEL(mf_cpu_weighted_sum)(const float *const *rows, const float *weights, size_t count,
                                    size_t n, bool add, float *out);
void MF_KERNEL(mf_cpu_selective_scan)(const struct mf_scan *s, size_t begin, size_t end, float *y);

#endif
