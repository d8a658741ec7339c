/*
 * One GPU: memory, copies, and a stream on which everything is computed in order. The fence around
 * the CUDA runtime (device.c, graph.c, pool.c); tests put a made-up runtime in its place.
 *
 * Errors of a GPU show late. The first one is kept: whatever is asked for afterwards does nothing,
 * and mf_gpu_finish() tells. All but a lack of memory stay until the process ends.
 */
#ifndef MF_ENGINE_CUDA_DEVICE_H
#define MF_ENGINE_CUDA_DEVICE_H

#include "core/error.h"

#include <stdbool.h>
#include <stddef.h>

struct mf_gpu;
struct mf_gpu_graph;

/* How many GPUs this process sees; 0 also where the driver is missing. */
int mf_gpu_count(void);
/* The GPU with this number. MF_ERR_UNAVAILABLE when there is none, or it is too old. */
struct mf_gpu *mf_gpu_open(int number, struct mf_error *err) MF_CHECK_RESULT;
void mf_gpu_close(struct mf_gpu *gpu);
/* Makes it the calling thread's GPU. */
void mf_gpu_enter(const struct mf_gpu *gpu);
void *mf_gpu_stream(const struct mf_gpu *gpu);   /* for kernels.h */
int mf_gpu_capability(const struct mf_gpu *gpu); /* 10 · major + minor: 80, 89, 90 … */

/* Device memory, aligned to 256 bytes, of the GPU's pool (pool.h). MF_ERR_NO_MEMORY. */
void *mf_gpu_alloc(struct mf_gpu *gpu, size_t bytes, struct mf_error *err);
void mf_gpu_release(struct mf_gpu *gpu, void *memory);
/* Bytes: of the whole GPU, free on it (whoever uses the rest), taken by this pool. */
struct mf_gpu_memory {
    size_t total, available, reserved;
};
bool mf_gpu_memory(struct mf_gpu *gpu, struct mf_gpu_memory *ret);

/* The host's memory may be used again when it returns; the copy need not be done yet. */
void mf_gpu_upload(struct mf_gpu *gpu, void *device, const void *host, size_t bytes);
/* Waits for all work before it. Zeros when the GPU has failed. */
void mf_gpu_download(struct mf_gpu *gpu, void *host, const void *device, size_t bytes);
void mf_gpu_copy(struct mf_gpu *gpu, void *to, const void *from, size_t bytes);

/* Uploads beside the work in hand, on a stream of their own. A slot is a place in device memory
 * that is filled again and again, by turns with the others:
 *   fill    copies to it, once the work that read its last filling is done
 *   await   what is asked for from now on sees the filling
 *   used    what was asked for until now is all that reads it */
enum { MF_GPU_SLOTS = 2 };
void mf_gpu_fill(struct mf_gpu *gpu, int slot, void *device, const void *host, size_t bytes);
void mf_gpu_await(struct mf_gpu *gpu, int slot);
void mf_gpu_used(struct mf_gpu *gpu, int slot);

/* Work that is asked for again and again, with the same addresses. Between record and recorded
 * nothing is computed and nothing may be waited for or allocated. NULL: it cannot be recorded, and
 * must be asked for as usual. */
bool mf_gpu_record(struct mf_gpu *gpu);
struct mf_gpu_graph *mf_gpu_recorded(struct mf_gpu *gpu);
void mf_gpu_replay(struct mf_gpu *gpu, struct mf_gpu_graph *graph);
void mf_gpu_graph_free(struct mf_gpu_graph *graph);

/* Keeps an error number of a launch or a library; 0 is none. `what` must be a literal. */
void mf_gpu_note(struct mf_gpu *gpu, int status, const char *what);
/* Whether an error is kept: what kernels would read may not be there. */
bool mf_gpu_failed(const struct mf_gpu *gpu);
/* Waits for all work. MF_ERR_INTERNAL with the first error since the GPU was opened;
 * MF_ERR_NO_MEMORY when it was a lack of memory, which is over then: the work may be tried again.
 */
bool mf_gpu_finish(struct mf_gpu *gpu, struct mf_error *err);

#endif
