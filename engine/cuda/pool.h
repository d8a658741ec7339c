/*
 * Device memory in few large pieces. Networks keep thousands of small arrays; each would be an
 * allocation of its own, rounded up and slow. Pieces are taken while a model loads and given back
 * when nothing in them is used any more; the GPU's current device must be the caller's. Not for
 * several threads.
 */
#ifndef MF_ENGINE_CUDA_POOL_H
#define MF_ENGINE_CUDA_POOL_H

#include <stdbool.h>
#include <stddef.h>

struct mf_gpu_pool_piece;

struct mf_gpu_pool {
    struct mf_gpu_pool_piece *pieces;
    size_t reserved; /* bytes taken from the GPU */
};

/* `bytes` aligned to 256, or NULL with a CUDA error's number in *ret_status. */
void *mf_gpu_pool_take(struct mf_gpu_pool *pool, size_t bytes, int *ret_status);
/* NULL, and what is not the pool's, is ignored. */
void mf_gpu_pool_give(struct mf_gpu_pool *pool, const void *memory);
void mf_gpu_pool_free(struct mf_gpu_pool *pool);

#endif
