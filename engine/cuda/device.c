/* The CUDA runtime behind device.h. Uploads go through two halves of a pinned buffer, so that the
 * next piece is copied by the host while the last one travels. */
#include "engine/cuda/device_private.h"

#include <stdlib.h>
#include <string.h>

enum { OLDEST = 80 }; /* compute capability 8.0 */

static const size_t HALF_BYTES = (size_t)8 << 20;

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

static const char *const OPENING = "it was opened";

static bool new_event(cudaEvent_t *event, struct mf_error *err)
{
    return check(cudaEventCreateWithFlags(event, cudaEventDisableTiming), OPENING, err);
}

static bool find_capability(struct mf_gpu *gpu, struct mf_error *err)
{
    int major = 0, minor = 0;
    if (!check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, gpu->number),
               OPENING, err) ||
        !check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, gpu->number),
               OPENING, err))
        return false;
    gpu->capability = 10 * major + minor;
    return gpu->capability >= OLDEST ||
           mf_error_set(err, MF_ERR_UNAVAILABLE,
                        "GPU %d has compute capability %d.%d, at least 8.0 is needed", gpu->number,
                        major, minor);
}

static bool start(struct mf_gpu *gpu, struct mf_error *err)
{
    if (!check(cudaSetDevice(gpu->number), OPENING, err) || !find_capability(gpu, err) ||
        !check(cudaStreamCreateWithFlags(&gpu->stream, cudaStreamNonBlocking), OPENING, err) ||
        !check(cudaStreamCreateWithFlags(&gpu->copies, cudaStreamNonBlocking), OPENING, err) ||
        !check(cudaMallocHost((void **)&gpu->staging, (MF_GPU_HALVES + 1) * HALF_BYTES), OPENING,
               err))
        return false;
    for (int i = 0; i < MF_GPU_HALVES; i++)
        if (!new_event(&gpu->free[i], err))
            return false;
    for (int i = 0; i < MF_GPU_SLOTS; i++)
        if (!new_event(&gpu->slots[i].filled, err) || !new_event(&gpu->slots[i].used, err))
            return false;
    return true;
}

/* Whether there is a GPU of this number. Why there is none is the driver's to say: it may be
 * missing, or older than the runtime that this program was built with. */
static bool is_there(int number, struct mf_error *err)
{
    int count = 0;
    cudaError_t status = cudaGetDeviceCount(&count);
    if (status != cudaSuccess) {
        cudaGetLastError();
        return mf_error_set(err, MF_ERR_UNAVAILABLE, "device \"cuda:%d\" is not available: %s",
                            number, cudaGetErrorString(status));
    }
    return (number >= 0 && number < count) ||
           mf_error_set(err, MF_ERR_UNAVAILABLE,
                        "device \"cuda:%d\" is not available: this machine shows %d GPUs", number,
                        count);
}

struct mf_gpu *mf_gpu_open(int number, struct mf_error *err)
{
    if (!is_there(number, err))
        return NULL;
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

static void free_event(cudaEvent_t event)
{
    if (event)
        cudaEventDestroy(event);
}

void mf_gpu_close(struct mf_gpu *gpu)
{
    if (!gpu)
        return;
    cudaSetDevice(gpu->number);
    mf_gpu_pool_free(&gpu->pool);
    for (int i = 0; i < MF_GPU_HALVES; i++)
        free_event(gpu->free[i]);
    for (int i = 0; i < MF_GPU_SLOTS; i++) {
        free_event(gpu->slots[i].filled);
        free_event(gpu->slots[i].used);
    }
    if (gpu->staging)
        cudaFreeHost(gpu->staging);
    if (gpu->copies)
        cudaStreamDestroy(gpu->copies);
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

int mf_gpu_capability(const struct mf_gpu *gpu)
{
    return gpu->capability;
}

void *mf_gpu_alloc(struct mf_gpu *gpu, size_t bytes, struct mf_error *err)
{
    int status;
    cudaSetDevice(gpu->number);
    void *memory = mf_gpu_pool_take(&gpu->pool, bytes, &status);
    if (!memory && status == cudaErrorMemoryAllocation)
        mf_error_set(err, MF_ERR_NO_MEMORY, "GPU %d has no %zu bytes left", gpu->number, bytes);
    else if (!memory)
        check((cudaError_t)status, "memory was taken", err);
    return memory;
}

void mf_gpu_release(struct mf_gpu *gpu, void *memory)
{
    cudaSetDevice(gpu->number);
    mf_gpu_pool_give(&gpu->pool, memory);
}

bool mf_gpu_memory(struct mf_gpu *gpu, struct mf_gpu_memory *ret)
{
    cudaSetDevice(gpu->number);
    *ret = (struct mf_gpu_memory){.reserved = gpu->pool.reserved};
    return cudaMemGetInfo(&ret->available, &ret->total) == cudaSuccess;
}

void mf_gpu_note(struct mf_gpu *gpu, int status, const char *what)
{
    if (status == 0 || gpu->status != 0)
        return;
    if (gpu->recording) { /* nothing was computed: the recording is worthless, not the GPU */
        gpu->spoilt = true;
        return;
    }
    gpu->status = status;
    gpu->what = what;
}

bool mf_gpu_failed(const struct mf_gpu *gpu)
{
    return gpu->status != 0;
}

/* Through the pinned halves, on either stream. */
static void send(struct mf_gpu *gpu, cudaStream_t stream, void *device, const void *host,
                 size_t bytes)
{
    static const char *const WHAT = "copying to it";
    for (size_t at = 0; at < bytes && gpu->status == 0; at += HALF_BYTES) {
        size_t n = bytes - at < HALF_BYTES ? bytes - at : HALF_BYTES;
        char *half = gpu->staging + (size_t)gpu->next * HALF_BYTES;
        mf_gpu_note(gpu, (int)cudaEventSynchronize(gpu->free[gpu->next]), WHAT);
        memcpy(half, (const char *)host + at, n);
        mf_gpu_note(
            gpu, (int)cudaMemcpyAsync((char *)device + at, half, n, cudaMemcpyHostToDevice, stream),
            WHAT);
        mf_gpu_note(gpu, (int)cudaEventRecord(gpu->free[gpu->next], stream), WHAT);
        gpu->next = (gpu->next + 1) % MF_GPU_HALVES;
    }
}

void mf_gpu_upload(struct mf_gpu *gpu, void *device, const void *host, size_t bytes)
{
    if (gpu->recording) /* the staging would be read whenever the recording is replayed */
        gpu->spoilt = true;
    else
        send(gpu, gpu->stream, device, host, bytes);
}

void mf_gpu_fill(struct mf_gpu *gpu, int slot, void *device, const void *host, size_t bytes)
{
    if (gpu->status == 0)
        mf_gpu_note(gpu, (int)cudaStreamWaitEvent(gpu->copies, gpu->slots[slot].used, 0),
                    "waiting to copy to it");
    send(gpu, gpu->copies, device, host, bytes);
    if (gpu->status == 0)
        mf_gpu_note(gpu, (int)cudaEventRecord(gpu->slots[slot].filled, gpu->copies),
                    "copying to it");
}

void mf_gpu_await(struct mf_gpu *gpu, int slot)
{
    if (gpu->status == 0)
        mf_gpu_note(gpu, (int)cudaStreamWaitEvent(gpu->stream, gpu->slots[slot].filled, 0),
                    "waiting for a copy");
}

void mf_gpu_used(struct mf_gpu *gpu, int slot)
{
    if (gpu->status == 0)
        mf_gpu_note(gpu, (int)cudaEventRecord(gpu->slots[slot].used, gpu->stream), "computing");
}

void mf_gpu_download(struct mf_gpu *gpu, void *host, const void *device, size_t bytes)
{
    char *staging = gpu->staging + MF_GPU_HALVES * HALF_BYTES;
    for (size_t at = 0; at < bytes && gpu->status == 0; at += HALF_BYTES) {
        size_t n = bytes - at < HALF_BYTES ? bytes - at : HALF_BYTES;
        mf_gpu_note(gpu,
                    (int)cudaMemcpyAsync(staging, (const char *)device + at, n,
                                         cudaMemcpyDeviceToHost, gpu->stream),
                    "copying from it");
        mf_gpu_note(gpu, (int)cudaStreamSynchronize(gpu->stream), "computing");
        memcpy((char *)host + at, staging, n);
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

/* A lack of memory leaves the GPU as it was; anything else is there to stay. */
static void get_over(struct mf_gpu *gpu)
{
    cudaGetLastError();
    if (gpu->status == cudaErrorMemoryAllocation &&
        cudaStreamSynchronize(gpu->stream) == cudaSuccess) {
        gpu->status = 0;
        gpu->what = NULL;
    }
}

bool mf_gpu_finish(struct mf_gpu *gpu, struct mf_error *err)
{
    if (gpu->status == 0)
        mf_gpu_note(gpu, (int)cudaStreamSynchronize(gpu->stream), "computing");
    if (gpu->status == 0) /* one that nobody awaited: its place may be used for something else */
        mf_gpu_note(gpu, (int)cudaStreamSynchronize(gpu->copies), "copying to it");
    if (gpu->status == 0)
        return true;
    mf_error_set(err, gpu->status == cudaErrorMemoryAllocation ? MF_ERR_NO_MEMORY : MF_ERR_INTERNAL,
                 "GPU %d failed while %s: %s", gpu->number, gpu->what,
                 cudaGetErrorString((cudaError_t)gpu->status));
    get_over(gpu);
    return false;
}
