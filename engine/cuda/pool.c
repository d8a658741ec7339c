/* See pool.h. Within a piece memory is handed out upwards; a piece that has become empty starts
 * again, or goes back where it was made for one large array. */
#include "engine/cuda/pool.h"

#include <cuda_runtime_api.h>
#include <stdint.h>
#include <stdlib.h>

enum { ALIGNMENT = 256 };

static const size_t PIECE = (size_t)32 << 20;

struct mf_gpu_pool_piece {
    struct mf_gpu_pool_piece *next;
    char *base;
    size_t size, top; /* bytes; handed out below `top` */
    size_t arrays;    /* in use */
};

static size_t rounded(size_t bytes)
{
    return ((bytes ? bytes : 1) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static struct mf_gpu_pool_piece *new_piece(struct mf_gpu_pool *pool, size_t size, int *ret_status)
{
    struct mf_gpu_pool_piece *piece = calloc(1, sizeof *piece);
    *ret_status = piece ? cudaMalloc((void **)&piece->base, size) : cudaErrorMemoryAllocation;
    if (*ret_status != cudaSuccess) {
        cudaGetLastError(); /* one that can be got over is told only once */
        free(piece);
        return NULL;
    }
    piece->size = size;
    piece->next = pool->pieces;
    pool->pieces = piece;
    pool->reserved += size;
    return piece;
}

void *mf_gpu_pool_take(struct mf_gpu_pool *pool, size_t bytes, int *ret_status)
{
    bytes = rounded(bytes);
    *ret_status = cudaSuccess;
    struct mf_gpu_pool_piece *p = pool->pieces;
    while (p && p->size - p->top < bytes)
        p = p->next;
    if (!p && bytes < PIECE / 2)
        p = new_piece(pool, PIECE, ret_status);
    if (!p) /* a large array, or little memory left */
        p = new_piece(pool, bytes, ret_status);
    if (!p)
        return NULL;
    void *memory = p->base + p->top;
    p->top += bytes;
    p->arrays++;
    return memory;
}

static void drop(struct mf_gpu_pool *pool, struct mf_gpu_pool_piece **where)
{
    struct mf_gpu_pool_piece *piece = *where;
    *where = piece->next;
    pool->reserved -= piece->size;
    cudaFree(piece->base); /* waits for the work that may use it */
    free(piece);
}

void mf_gpu_pool_give(struct mf_gpu_pool *pool, const void *memory)
{
    uintptr_t at = (uintptr_t)memory;
    for (struct mf_gpu_pool_piece **p = &pool->pieces; memory && *p; p = &(*p)->next) {
        uintptr_t base = (uintptr_t)(*p)->base;
        if (at < base || at >= base + (*p)->size)
            continue;
        if (--(*p)->arrays == 0) {
            (*p)->top = 0;
            if ((*p)->size != PIECE)
                drop(pool, p);
        }
        return;
    }
}

void mf_gpu_pool_free(struct mf_gpu_pool *pool)
{
    while (pool->pieces)
        drop(pool, &pool->pieces);
}
