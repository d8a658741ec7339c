/* The CUDA runtime behind device.h. Uploads go through two halves of a pinned buffer, so that the
 * next piece is copied by the host while the last one travels. */
#include "engine/cuda/device.h"

#include <cuda_runtime_api.h>
#include <stdlib.h>
#include <string.h>

enum { HALVES = 2, OLDEST = 8 }; /* compute capability 8.0 */

static const size_t HALF_BYTES = (size_t)8 << 20;

struct mf_gpu {
    int number;
    cudaStream_t stream;
    char *staging; /* pinned: HALVES of HALF_BYTES */
    cudaEvent_t free[HALVES];
    int next;
    int status; /* the first error; 0: none */
    const char *what;
};

int mf_gpu_count(void)
{
    int count = 0;
    return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

static bool check(cudaError_t status, const char *what, struct mf_error *err)
{
    if (status == cudaSuccess)
        return true;
    cudaGetLastError(); /* one that can be got over is told only once */
    return mf_error_set(err,
                        status == cudaErrorMemoryAllocation ? MF_ERR_NO_MEMORY : MF_ERR_UNAVAILABLE,
                        "the GPU failed while %s: %s", what, cudaGetErrorString(status));
}

static bool start(struct mf_gpu *gpu, struct mf_error *err)
{
    int major = 0;
    static const char *const WHAT = "it was opened";
    if (!check(cudaSetDevice(gpu->number), WHAT, err) ||
        !check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, gpu->number), WHAT,
               err))
        return false;
    if (major < OLDEST)
        return mf_error_set(err, MF_ERR_UNAVAILABLE,
                            "GPU %d has compute capability %d, at least %d.0 is needed",
                            gpu->number, major, OLDEST);
    if (!check(cudaStreamCreateWithFlags(&gpu->stream, cudaStreamNonBlocking), WHAT, err) ||
        !check(cudaMallocHost((void **)&gpu->staging, HALVES * HALF_BYTES), WHAT, err))
        return false;
    for (int i = 0; i < HALVES; i++)
        if (!check(cudaEventCreateWithFlags(&gpu->free[i], cudaEventDisableTiming), WHAT, err))
            return false;
    return true;
}

struct mf_gpu *mf_gpu_open(int number, struct mf_error *err)
{
    int count = mf_gpu_count();
    if (number < 0 || number >= count) {
        mf_error_set(err, MF_ERR_UNAVAILABLE,
                     "device \"cuda:%d\" is not available: this machine shows %d GPUs", number,
                     count);
        return NULL;
    }
    struct mf_gpu *gpu = calloc(1, sizeof *gpu);
    if (!gpu) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
        return NULL;
    }
    gpu->number = number;
    if (start(gpu, err))
        return gpu;
    mf_gpu_close(gpu);
    return NULL;
}

void mf_gpu_close(struct mf_gpu *gpu)
{
    if (!gpu)
        return;
    cudaSetDevice(gpu->number);
    for (int i = 0; i < HALVES; i++)
        if (gpu->free[i])
            cudaEventDestroy(gpu->free[i]);
    if (gpu->staging)
        cudaFreeHost(gpu->staging);
    if (gpu->stream)
        cudaStreamDestroy(gpu->stream);
    free(gpu);
}

void mf_gpu_enter(const struct mf_gpu *gpu)
{
    cudaSetDevice(gpu->number);
}

void *mf_gpu_stream(const struct mf_gpu *gpu)
{
    return gpu->stream;
}

void *mf_gpu_alloc(struct mf_gpu *gpu, size_t bytes, struct mf_error *err)
{
    void *memory = NULL;
    cudaSetDevice(gpu->number);
    cudaError_t status = cudaMalloc(&memory, bytes ? bytes : 1);
    if (status == cudaSuccess)
        return memory;
    if (status == cudaErrorMemoryAllocation) {
        cudaGetLastError();
        mf_error_set(err, MF_ERR_NO_MEMORY, "GPU %d has no %zu bytes left", gpu->number, bytes);
    } else {
        check(status, "memory was taken", err);
    }
    return NULL;
}

void mf_gpu_release(struct mf_gpu *gpu, void *memory)
{
    cudaSetDevice(gpu->number);
    if (memory)
        cudaFree(memory); /* waits for the work that may use it */
}

void mf_gpu_note(struct mf_gpu *gpu, int status, const char *what)
{
    if (status == 0 || gpu->status != 0)
        return;
    gpu->status = status;
    gpu->what = what;
}

void mf_gpu_upload(struct mf_gpu *gpu, void *device, const void *host, size_t bytes)
{
    for (size_t at = 0; at < bytes && gpu->status == 0; at += HALF_BYTES) {
        size_t n = bytes - at < HALF_BYTES ? bytes - at : HALF_BYTES;
        char *half = gpu->staging + (size_t)gpu->next * HALF_BYTES;
        mf_gpu_note(gpu, (int)cudaEventSynchronize(gpu->free[gpu->next]), "copying to it");
        memcpy(half, (const char *)host + at, n);
        mf_gpu_note(
            gpu,
            (int)cudaMemcpyAsync((char *)device + at, half, n, cudaMemcpyHostToDevice, gpu->stream),
            "copying to it");
        mf_gpu_note(gpu, (int)cudaEventRecord(gpu->free[gpu->next], gpu->stream), "copying to it");
        gpu->next = (gpu->next + 1) % HALVES;
    }
}

void mf_gpu_download(struct mf_gpu *gpu, void *host, const void *device, size_t bytes)
{
    for (size_t at = 0; at < bytes && gpu->status == 0; at += HALF_BYTES) {
        size_t n = bytes - at < HALF_BYTES ? bytes - at : HALF_BYTES;
        /* all copies to the device that read this half come before this one in the stream */
        mf_gpu_note(gpu,
                    (int)cudaMemcpyAsync(gpu->staging, (const char *)device + at, n,
                                         cudaMemcpyDeviceToHost, gpu->stream),
                    "copying from it");
        mf_gpu_note(gpu, (int)cudaStreamSynchronize(gpu->stream), "computing");
        memcpy((char *)host + at, gpu->staging, n);
    }
    if (gpu->status != 0)
        memset(host, 0, bytes);
}

void mf_gpu_copy(struct mf_gpu *gpu, void *to, const void *from, size_t bytes)
{
    if (gpu->status == 0 && bytes > 0)
        mf_gpu_note(gpu,
                    (int)cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, gpu->stream),
                    "copying in its memory");
}

bool mf_gpu_finish(struct mf_gpu *gpu, struct mf_error *err)
{
    if (gpu->status == 0)
        mf_gpu_note(gpu, (int)cudaStreamSynchronize(gpu->stream), "computing");
    if (gpu->status == 0)
        return true;
    return mf_error_set(err, MF_ERR_INTERNAL, "GPU %d failed while %s: %s", gpu->number, gpu->what,
                        cudaGetErrorString((cudaError_t)gpu->status));
}
