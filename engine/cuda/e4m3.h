/* Numbers of 8 bits as NVIDIA's tensor cores read them: E4M3 of "FP8 Formats for Deep Learning"
 * (arXiv 2209.05433): 1 sign, 4 exponent (bias 7), 3 mantissa; no infinities, one NaN. */
#ifndef MF_ENGINE_CUDA_E4M3_H
#define MF_ENGINE_CUDA_E4M3_H

#include <stdint.h>
#include <string.h>

#define MF_E4M3_MOST 448.0f /* 0x7E */

#ifdef __CUDACC__
#define MF_HOST_DEVICE __host__ __device__
#else
#define MF_HOST_DEVICE
#endif

/* To nearest, ties to even; what is larger than the largest number becomes that, NaN stays NaN. */
static inline MF_HOST_DEVICE uint8_t mf_e4m3(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    uint32_t sign = bits >> 24 & 0x80, size = bits & 0x7FFFFFFF;
    if (size > 0x7F800000)
        return (uint8_t)(sign | 0x7F);
    if (size >= 0x43E80000) /* 464: half-way to what would come next */
        return (uint8_t)(sign | 0x7E);
    if (size < 0x3C800000) { /* below 2⁻⁶: multiples of 2⁻⁹ */
        float multiple, rest;
        memcpy(&multiple, &size, sizeof multiple);
        multiple *= 512;
        uint32_t whole = (uint32_t)multiple;
        rest = multiple - (float)whole;
        return (uint8_t)(sign | (whole + (rest > 0.5f || (rest == 0.5f && whole % 2))));
    }
    size += 0x7FFFF + (size >> 20 & 1);
    uint32_t code = (size >> 20) - (120 << 3); /* the exponent's bias from 127 to 7 */
    return (uint8_t)(sign | (code < 0x7E ? code : 0x7E));
}

#endif
