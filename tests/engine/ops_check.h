/* What the tests of the CPU backend's operations share: its kernels by instruction set, random
 * input, comparison. */
#ifndef MEDFUSION_TESTS_ENGINE_OPS_CHECK_H
#define MEDFUSION_TESTS_ENGINE_OPS_CHECK_H

#include "engine/cpu/backend.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Kernels by instruction set; "amx" is avx512 with products on tiles. */
static const char *const ISAS[] = {"base", "avx2", "avx512", "amx"};
enum { ISA_COUNT = 4 };

static uint64_t seed = 1;

/* Uniform in [−1, 1). */
static inline float noise(void)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (float)(seed >> 40) / (float)(1 << 23) - 1;
}

static inline float *noisy(size_t n)
{
    float *p = malloc((n + 1) * sizeof *p);
    for (size_t i = 0; i < n; i++)
        p[i] = noise();
    return p;
}

static inline void assert_near(const char *what, const float *a, const double *b, size_t n,
                               double limit)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabs(a[i] - b[i]) <= limit * (1 + fabs(b[i]))))
            fail_msg("%s: element %zu is %.9g, should be %.9g", what, i, (double)a[i], b[i]);
}

/* A backend with the kernels of one instruction set; NULL when the machine lacks it. */
static inline struct mf_backend *backend_of(const char *isa, int threads)
{
    bool amx = !isa || strcmp(isa, "amx") == 0;
    const struct cpu_kernels *kernels = mf_cpu_kernels_choose(amx ? NULL : isa);
    struct mf_backend *be = kernels ? mf_cpu_ops.backend_new("f32", threads, NULL) : NULL;
    if (be && isa && amx && !be->tiles) {
        mf_cpu_ops.backend_free(be);
        return NULL;
    }
    if (be) {
        be->kernels = kernels;
        be->tiles &= amx;
        mf_cpu_ops.enter(be);
    }
    return be;
}

#endif
