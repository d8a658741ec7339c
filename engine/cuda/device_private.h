/* The inside of a GPU, for the files behind device.h. */
#ifndef MF_ENGINE_CUDA_DEVICE_PRIVATE_H
#define MF_ENGINE_CUDA_DEVICE_PRIVATE_H

#include "engine/cuda/device.h"
#include "engine/cuda/pool.h"

#include <cuda_runtime_api.h>

enum { MF_GPU_HALVES = 2 };

struct mf_gpu {
    int number, capability;
    cudaStream_t stream, copies;
    struct mf_gpu_pool pool;
    char *staging; /* pinned: MF_GPU_HALVES for uploads, one for downloads, of the same size */
    cudaEvent_t free[MF_GPU_HALVES];
    int next;
    struct {
        cudaEvent_t filled, used;
    } slots[MF_GPU_SLOTS];
    bool recording, spoilt; /* spoilt: something failed while recording */
    int status;             /* the first error; 0: none */
    const char *what;
};

#endif
