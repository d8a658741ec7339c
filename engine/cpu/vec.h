/*
 * Vectors of floats for the kernel files, which are compiled once for each instruction set (MF_ISA
 * names it): 16 lanes with AVX-512, 8 with AVX2 and FMA, 4 otherwise. Built on the compilers'
 * vector extensions; products and sums contract to fused multiply-adds where the set has them.
 */
#ifndef MF_ENGINE_CPU_VEC_H
#define MF_ENGINE_CPU_VEC_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
enum { W = 16 };
#elif defined(__AVX2__)
enum { W = 8 };
#else
enum { W = 4 };
#endif

typedef float vf __attribute__((vector_size(W * 4)));
typedef int32_t vi __attribute__((vector_size(W * 4)));

#define MF_INLINE static inline __attribute__((always_inline))
#define MF_CAT_(a, b) a##_##b
#define MF_CAT(a, b) MF_CAT_(a, b)
#define MF_KERNEL(name) MF_CAT(name, MF_ISA) /* the name of a kernel in this build of the file */

MF_INLINE vf load(const float *p)
{
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}

MF_INLINE void store(float *p, vf v)
{
    memcpy(p, &v, sizeof v);
}

/* The first n < W lanes; the others are zero, or are not written. */
MF_INLINE vf load_some(const float *p, size_t n)
{
    vf v = {0};
    memcpy(&v, p, n * sizeof *p);
    return v;
}

MF_INLINE void store_some(float *p, vf v, size_t n)
{
    memcpy(p, &v, n * sizeof *p);
}

MF_INLINE vf splat(float x)
{
    return x - (vf){0};
}

MF_INLINE vf choose(vi mask, vf a, vf b)
{
    return (vf)((mask & (vi)a) | (~mask & (vi)b));
}

MF_INLINE vf vmax(vf a, vf b)
{
#if defined(__AVX512F__)
    return (vf)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (vf)_mm256_max_ps((__m256)a, (__m256)b);
#else
    return choose(a > b, a, b);
#endif
}

MF_INLINE vf vmin(vf a, vf b)
{
#if defined(__AVX512F__)
    return (vf)_mm512_min_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (vf)_mm256_min_ps((__m256)a, (__m256)b);
#else
    return choose(a < b, a, b);
#endif
}

MF_INLINE float sum_lanes(vf v)
{
    float lane[W], sum = 0;
    store(lane, v);
    for (int half = W / 2; half; half /= 2)
        for (int i = 0; i < half; i++)
            lane[i] += lane[i + half];
    sum = lane[0];
    return sum;
}

MF_INLINE float max_lanes(vf v)
{
    float lane[W];
    store(lane, v);
    for (int half = W / 2; half; half /= 2)
        for (int i = 0; i < half; i++)
            lane[i] = lane[i] > lane[i + half] ? lane[i] : lane[i + half];
    return lane[0];
}

/* e^x, relative error below 2e-7; x is clamped to the range of normal floats. */
MF_INLINE vf vexp(vf x)
{
    x = vmin(vmax(x, splat(-87.0f)), splat(88.0f));
    const vf magic = splat(12582912.0f); /* 1.5 · 2^23: adding it rounds to a whole number */
    vf n = x * 1.44269504f + magic;
    vi exponent = ((vi)n - (vi)magic + 127) << 23;
    n -= magic;
    vf r = x - n * 0.693359375f; /* ln 2 in two parts */
    r = r + n * 2.12194440e-4f;
    vf p = splat(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    return p * (vf)exponent;
}

/* 2^x for x below 126, relative error below 3e-7; never less than 2^−126. */
MF_INLINE vf vexp2(vf x)
{
    x = vmax(x, splat(-126.0f));
#if defined(__AVX512F__)
    vf n = (vf)_mm512_roundscale_ps((__m512)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
    const vf magic = splat(12582912.0f); /* as in vexp() */
    vf n = x + magic;
    vi exponent = ((vi)n - (vi)magic + 127) << 23;
    n -= magic;
#endif
    vf r = x - n;
    vf p = splat(1.3264726149e-3f); /* least relative error on [−0.5, 0.5] */
    p = p * r + 9.6715129912e-3f;
    p = p * r + 5.5507335812e-2f;
    p = p * r + 2.4022242427e-1f;
    p = p * r + 6.9314700365e-1f;
    p = p * r + 1.0f;
#if defined(__AVX512F__)
    return (vf)_mm512_scalef_ps((__m512)p, (__m512)n);
#else
    return p * (vf)exponent;
#endif
}

/* ln x for normal x > 0, relative error below 2e-7. */
MF_INLINE vf vlog(vf x)
{
    vi bits = (vi)x;
    vi exponent = ((bits >> 23) & 255) - 126;
    vf m = (vf)((bits & 0x007FFFFF) | 0x3F000000); /* [0.5, 1) */
    vi low = m < 0.707106781f;
    exponent += low; /* −1 where true */
    m = choose(low, m + m, m) - 1.0f;
    vf e;
    for (int i = 0; i < W; i++)
        e[i] = (float)exponent[i];
    vf z = m * m;
    vf p = splat(7.0376836292e-2f);
    p = p * m - 1.1514610310e-1f;
    p = p * m + 1.1676998740e-1f;
    p = p * m - 1.2420140846e-1f;
    p = p * m + 1.4249322787e-1f;
    p = p * m - 1.6668057665e-1f;
    p = p * m + 2.0000714765e-1f;
    p = p * m - 2.4999993993e-1f;
    p = p * m + 3.3333331174e-1f;
    vf y = m * z * p;
    y += e * -2.12194440e-4f;
    y += z * -0.5f;
    return m + y + e * 0.693359375f;
}

/* ln(1 + e^x), linear above 20, as PyTorch's softplus. */
MF_INLINE vf vsoftplus(vf x)
{
    vf y = vexp(x), u = y + 1.0f;
    vf d = u - 1.0f;
    vi tiny = d == 0.0f;
    vf log1p = vlog(u) * (y / choose(tiny, splat(1.0f), d));
    log1p = choose(tiny, y, log1p);
    return choose(x > 20.0f, x, log1p);
}

MF_INLINE vf vsigmoid(vf x)
{
    return 1.0f / (1.0f + vexp(-x));
}

MF_INLINE vf vabs(vf x)
{
    return (vf)((vi)x & 0x7FFFFFFF);
}

/* erf, absolute error below 5e-7: Abramowitz & Stegun 7.1.26. */
MF_INLINE vf verf(vf x)
{
    vf a = vabs(x);
    vf t = 1.0f / (1.0f + 0.3275911f * a);
    vf p = splat(1.061405429f);
    p = p * t - 1.453152027f;
    p = p * t + 1.421413741f;
    p = p * t - 0.284496736f;
    p = p * t + 0.254829592f;
    vf y = 1.0f - p * t * vexp(-a * a);
    return (vf)((vi)y | ((vi)x & (int32_t)0x80000000));
}

#endif
