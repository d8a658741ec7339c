/*
 * For tests of the CUDA backend's operations against the CPU backend's: the same arrays on both,
 * with random inputs and poisoned outputs. The programs run on a GPU and, with the kernels compiled
 * for the host (emulate.hpp), without one. MF_TEST_SEED draws other numbers; MF_TEST_LARGE=1 adds
 * the shapes of real networks, which want a GPU; with MF_TEST_NEEDS_GPU=1 none is a failure.
 */
#ifndef MF_TESTS_CUDA_BOTH_BACKENDS_H
#define MF_TESTS_CUDA_BOTH_BACKENDS_H

#include "engine/exec.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MAX_ARRAYS = 16 };

static uint64_t seed;
static bool large;

/* One array on both devices. */
struct array {
    size_t n;
    float *gpu, *cpu, *host;
};

static struct {
    struct mf_backend *gpu, *cpu;
    struct array arrays[MAX_ARRAYS];
    size_t count;
} t;

/* Uniform in [−1, 1). */
static inline float noise(void)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (float)(seed >> 40) / (float)(1 << 23) - 1;
}

static inline struct array *array(size_t n)
{
    assert_true(t.count < MAX_ARRAYS);
    struct array *a = &t.arrays[t.count++];
    a->n = n;
    a->gpu = mf_cuda_ops.memory_new(t.gpu, (n + 1) * sizeof(float), NULL);
    a->cpu = mf_cpu_ops.memory_new(t.cpu, (n + 16) * sizeof(float), NULL);
    a->host = malloc((n + 1) * sizeof(float));
    assert_true(a->gpu && a->cpu && a->host);
    return a;
}

/* Random numbers, the same on both. */
static inline struct array *noisy(size_t n)
{
    struct array *a = array(n);
    for (size_t i = 0; i < n; i++)
        a->host[i] = a->cpu[i] = noise();
    mf_cuda_ops.upload(t.gpu, a->gpu, a->host, n);
    return a;
}

/* An output: NaN on both until it is written. */
static inline struct array *poisoned(size_t n)
{
    struct array *a = array(n);
    for (size_t i = 0; i < n; i++)
        a->host[i] = a->cpu[i] = NAN;
    mf_cuda_ops.upload(t.gpu, a->gpu, a->host, n);
    return a;
}

static inline void forget(void)
{
    for (size_t i = 0; i < t.count; i++) {
        mf_cuda_ops.memory_free(t.gpu, t.arrays[i].gpu);
        mf_cpu_ops.memory_free(t.cpu, t.arrays[i].cpu);
        free(t.arrays[i].host);
    }
    t.count = 0;
}

/* max|gpu − cpu| / max|cpu|; the arrays of this check are freed. */
static inline void check(struct array *a, double limit, const char *what)
{
    struct mf_error err = MF_ERROR_INIT;
    double most = 0, scale = 0;
    mf_cuda_ops.download(t.gpu, a->host, a->gpu, a->n);
    if (!mf_cuda_ops.finish(t.gpu, &err))
        fail_msg("%s: %s", what, err.msg);
    for (size_t i = 0; i < a->n; i++) {
        double d = fabs((double)a->host[i] - a->cpu[i]);
        if (!isfinite(d))
            fail_msg("%s: element %zu is %g, should be %g", what, i, (double)a->host[i],
                     (double)a->cpu[i]);
        most = fmax(most, d);
        scale = fmax(scale, fabs((double)a->cpu[i]));
    }
    if (!(most <= limit * fmax(scale, 1e-3)))
        fail_msg("%s: off by %.3g of %.3g", what, most, scale);
    forget();
}

/* One operation on both: BOTH(unary, OP, DEV(x), n, DEV(y)) with DEV standing for each memory. */
#define BOTH(op, gpu_args, cpu_args)                                                               \
    do {                                                                                           \
        mf_cuda_ops.op gpu_args;                                                                   \
        mf_cpu_ops.op cpu_args;                                                                    \
    } while (0)

static inline void start(const char *dtype)
{
    struct mf_error err = MF_ERROR_INIT;
    t.cpu = mf_cpu_ops.backend_new("f32", 0, &err);
    t.gpu = mf_cuda_ops.backend_new(dtype, 1, &err);
    if (!t.cpu || !t.gpu)
        fail_msg("%s", err.msg);
    mf_cpu_ops.enter(t.cpu);
    mf_cuda_ops.enter(t.gpu);
}

static inline void stop(void)
{
    mf_cuda_ops.backend_free(t.gpu);
    mf_cpu_ops.backend_free(t.cpu);
    t.gpu = t.cpu = NULL;
}

static inline float *floats(size_t n, float factor)
{
    float *p = malloc((n + 1) * sizeof *p);
    assert_non_null(p);
    for (size_t i = 0; i < n; i++)
        p[i] = factor * noise();
    return p;
}

/* Runs a program's tests; skipped, or failed, where there is no GPU. */
#define RUN_ON_BOTH(tests)                                                                         \
    do {                                                                                           \
        const char *text = getenv("MF_TEST_SEED");                                                 \
        bool needed = getenv("MF_TEST_NEEDS_GPU") != NULL;                                         \
        seed = text ? strtoull(text, NULL, 10) : 1;                                                \
        large = getenv("MF_TEST_LARGE") != NULL;                                                   \
        if (mf_cuda_count() > 0)                                                                   \
            return cmocka_run_group_tests(tests, NULL, NULL);                                      \
        printf("%s: no GPU\n", needed ? "failed" : "skipped");                                     \
        return needed;                                                                             \
    } while (0)

#endif
