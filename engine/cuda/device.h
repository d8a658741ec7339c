/*
 * One GPU: memory, copies and one stream on which everything runs in order. The fence around the
 * CUDA runtime (device.c); tests put host memory in its place.
 *
 * Errors of a GPU show late. The first one is kept: whatever is asked for afterwards does nothing,
 * and mf_gpu_finish() tells.
 */
#ifndef MF_ENGINE_CUDA_DEVICE_H
#define MF_ENGINE_CUDA_DEVICE_H

#include "core/error.h"

#include <stdbool.h>
#include <stddef.h>

struct mf_gpu;

/* How many GPUs this process sees; 0 also where the driver is missing. */
int mf_gpu_count(void);
/* The GPU with this number. MF_ERR_UNAVAILABLE when there is none, or it is too old. */
struct mf_gpu *mf_gpu_open(int number, struct mf_error *err) MF_CHECK_RESULT;
void mf_gpu_close(struct mf_gpu *gpu);
/* Makes it the calling thread's GPU. */
void mf_gpu_enter(const struct mf_gpu *gpu);
void *mf_gpu_stream(const struct mf_gpu *gpu); /* for kernels.h */

/* Device memory, aligned to 256 bytes. MF_ERR_NO_MEMORY. */
void *mf_gpu_alloc(struct mf_gpu *gpu, size_t bytes, struct mf_error *err);
void mf_gpu_release(struct mf_gpu *gpu, void *memory);
/* The host's memory may be used again when it returns; the copy need not be done yet. */
void mf_gpu_upload(struct mf_gpu *gpu, void *device, const void *host, size_t bytes);
/* Waits for all work before it. Zeros when the GPU has failed. */
void mf_gpu_download(struct mf_gpu *gpu, void *host, const void *device, size_t bytes);
void mf_gpu_copy(struct mf_gpu *gpu, void *to, const void *from, size_t bytes);

/* Keeps an error number of a launch or a library; 0 is none. `what` must be a literal. */
void mf_gpu_note(struct mf_gpu *gpu, int status, const char *what);
/* Waits for all work. MF_ERR_INTERNAL with the first error since the GPU was opened. */
bool mf_gpu_finish(struct mf_gpu *gpu, struct mf_error *err);

#endif
