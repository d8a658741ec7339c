/* For tests of mf_ops.frames: one GPU, arrays on it that are freed together, random numbers. */
#ifndef MF_TESTS_CUDA_DEVICE_ARRAYS_H
#define MF_TESTS_CUDA_DEVICE_ARRAYS_H

#include "engine/exec.h"
#include "engine/frame_ops.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct {
    struct mf_backend *be;
    const struct mf_frame_ops *ops;
    void *arrays[64];
    size_t count;
} gpu;

static uint64_t seed = 1;

static inline uint32_t random_bits(void)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(seed >> 32);
}

/* Uniform in [0, 1). */
static inline double uniform(void)
{
    return (double)random_bits() / 4294967296.0;
}

static inline void gpu_start(void)
{
    struct mf_error err = MF_ERROR_INIT;
    gpu.be = mf_cuda_ops.backend_new("f32", 1, &err);
    if (!gpu.be)
        fail_msg("%s", err.msg);
    gpu.ops = mf_cuda_ops.frames;
    mf_cuda_ops.enter(gpu.be);
}

/* Frees the arrays; what failed since the last time. */
static inline void gpu_forget(const char *what)
{
    struct mf_error err = MF_ERROR_INIT;
    if (!mf_cuda_ops.finish(gpu.be, &err))
        fail_msg("%s: %s", what, err.msg);
    while (gpu.count > 0)
        mf_cuda_ops.memory_free(gpu.be, gpu.arrays[--gpu.count]);
}

static inline void gpu_stop(void)
{
    gpu_forget("the end");
    mf_cuda_ops.backend_free(gpu.be);
}

/* An output: NaN, or 255, until it is written. */
static inline void *gpu_poisoned(size_t bytes)
{
    struct mf_error err = MF_ERROR_INIT;
    void *poison = malloc(bytes + 1), *p = mf_cuda_ops.memory_new(gpu.be, bytes + 1, &err);
    assert_true(poison && gpu.count < sizeof gpu.arrays / sizeof *gpu.arrays);
    if (!p)
        fail_msg("%s", err.msg);
    memset(poison, 0xFF, bytes + 1);
    gpu.ops->put(gpu.be, p, poison, bytes);
    free(poison);
    return gpu.arrays[gpu.count++] = p;
}

static inline void *gpu_copy(const void *host, size_t bytes)
{
    void *p = gpu_poisoned(bytes);
    gpu.ops->put(gpu.be, p, host, bytes);
    return p;
}

/* What lies there, as the caller's memory. */
static inline void *gpu_get(const void *device, size_t bytes)
{
    void *p = malloc(bytes + 1);
    assert_non_null(p);
    gpu.ops->get(gpu.be, p, device, bytes);
    return p;
}

/* Fails unless the device holds exactly these bytes. */
static inline void gpu_equals(const void *device, const void *host, size_t bytes, const char *what)
{
    unsigned char *got = gpu_get(device, bytes);
    const unsigned char *want = host;
    for (size_t i = 0; i < bytes; i++)
        if (got[i] != want[i])
            fail_msg("%s: byte %zu of %zu differs", what, i, bytes);
    free(got);
}

/* Draws the seed; false: there is no GPU, and *ret_status says whether that is a failure. */
static inline bool gpu_found(int *ret_status)
{
    const char *text = getenv("MF_TEST_SEED");
    bool needed = getenv("MF_TEST_NEEDS_GPU") != NULL;
    seed = text ? strtoull(text, NULL, 10) : 1;
    *ret_status = needed;
    if (mf_cuda_count() > 0)
        return true;
    printf("%s: no GPU\n", needed ? "failed" : "skipped");
    return false;
}

#endif
