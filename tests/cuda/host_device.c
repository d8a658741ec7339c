/* Host memory in the place of a GPU (engine/cuda/device.h). */
#include "engine/cuda/device.h"

#include <stdlib.h>
#include <string.h>

struct mf_gpu {
    int status;
    const char *what;
};

int mf_gpu_count(void)
{
    return 1;
}

struct mf_gpu *mf_gpu_open(int number, struct mf_error *err)
{
    if (number == 0)
        return calloc(1, sizeof(struct mf_gpu));
    mf_error_set(err, MF_ERR_UNAVAILABLE,
                 "device \"cuda:%d\" is not available: this machine shows 1 GPUs", number);
    return NULL;
}

void mf_gpu_close(struct mf_gpu *gpu)
{
    free(gpu);
}

void mf_gpu_enter(const struct mf_gpu *gpu)
{
    (void)gpu;
}

void *mf_gpu_stream(const struct mf_gpu *gpu)
{
    (void)gpu;
    return NULL;
}

void *mf_gpu_alloc(struct mf_gpu *gpu, size_t bytes, struct mf_error *err)
{
    (void)gpu;
    void *memory = aligned_alloc(256, (bytes + 256) / 256 * 256);
    if (!memory)
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    else
        memset(memory, 0xFF, bytes); /* poison: NaN in either format */
    return memory;
}

void mf_gpu_release(struct mf_gpu *gpu, void *memory)
{
    (void)gpu;
    free(memory);
}

void mf_gpu_upload(struct mf_gpu *gpu, void *device, const void *host, size_t bytes)
{
    (void)gpu;
    if (bytes)
        memcpy(device, host, bytes);
}

void mf_gpu_download(struct mf_gpu *gpu, void *host, const void *device, size_t bytes)
{
    mf_gpu_upload(gpu, host, device, bytes);
}

void mf_gpu_copy(struct mf_gpu *gpu, void *to, const void *from, size_t bytes)
{
    mf_gpu_upload(gpu, to, from, bytes);
}

void mf_gpu_note(struct mf_gpu *gpu, int status, const char *what)
{
    if (status == 0 || gpu->status != 0)
        return;
    gpu->status = status;
    gpu->what = what;
}

bool mf_gpu_finish(struct mf_gpu *gpu, struct mf_error *err)
{
    return gpu->status == 0 || mf_error_set(err, MF_ERR_INTERNAL, "GPU 0 failed while %s: error %d",
                                            gpu->what, gpu->status);
}
