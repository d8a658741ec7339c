/* Arena: a list of zeroed blocks, released together. */
#include "core/arena.h"

#include <stdalign.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { BLOCK_BYTES = 16 * 1024, ALIGNMENT = 16, DEFAULT_CEILING = 64 << 20 };

struct block {
    struct block *next;
    size_t used, size;
    alignas(ALIGNMENT) unsigned char data[];
};

struct mf_arena {
    struct block *blocks; /* newest first; only the first is allocated from */
    size_t used, ceiling;
};

struct mf_arena *mf_arena_new(size_t ceiling)
{
    struct mf_arena *arena = calloc(1, sizeof *arena);
    if (arena)
        arena->ceiling = ceiling ? ceiling : DEFAULT_CEILING;
    return arena;
}

void mf_arena_free(struct mf_arena *arena)
{
    if (!arena)
        return;
    for (struct block *b = arena->blocks, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    free(arena);
}

static struct block *add_block(struct mf_arena *arena, size_t bytes)
{
    size_t size = bytes > BLOCK_BYTES ? bytes : BLOCK_BYTES;
    struct block *b = calloc(1, sizeof *b + size);
    if (!b)
        return NULL;
    b->size = size;
    if (bytes > BLOCK_BYTES / 2 && arena->blocks) { /* a big one: keep filling the current block */
        b->next = arena->blocks->next;
        arena->blocks->next = b;
    } else {
        b->next = arena->blocks;
        arena->blocks = b;
    }
    return b;
}

void *mf_arena_alloc(struct mf_arena *arena, size_t n, size_t size, struct mf_error *err)
{
    if (size && n > SIZE_MAX / size / 2) {
        mf_error_set(err, MF_ERR_TOO_LARGE, "an allocation of %zu items of %zu bytes is absurd", n,
                     size);
        return NULL;
    }
    size_t bytes = (n * size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (bytes == 0)
        bytes = ALIGNMENT;
    if (bytes > arena->ceiling - arena->used) {
        mf_error_set(err, MF_ERR_TOO_LARGE, "the request needs more than its %zu bytes of memory",
                     arena->ceiling);
        return NULL;
    }
    struct block *b = arena->blocks;
    if (!b || b->size - b->used < bytes)
        b = add_block(arena, bytes);
    if (!b) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for %zu bytes", bytes);
        return NULL;
    }
    void *p = b->data + b->used;
    b->used += bytes;
    arena->used += bytes;
    return p;
}

struct mf_arena_mark mf_arena_position(const struct mf_arena *arena)
{
    struct block *b = arena->blocks;
    return (struct mf_arena_mark){b, b ? b->next : NULL, b ? b->used : 0, arena->used};
}

/* Frees blocks from `b` up to `stop`, which is returned. */
static struct block *drop_blocks(struct block *b, struct block *stop)
{
    while (b != stop) {
        struct block *next = b->next;
        free(b);
        b = next;
    }
    return stop;
}

void mf_arena_rewind(struct mf_arena *arena, const struct mf_arena_mark *mark)
{
    struct block *b = arena->blocks = drop_blocks(arena->blocks, mark->block);
    if (b) { /* big blocks were put behind the current one */
        b->next = drop_blocks(b->next, mark->big);
        memset(b->data + mark->block_used, 0, b->used - mark->block_used);
        b->used = mark->block_used;
    }
    arena->used = mark->used;
}

char *mf_arena_strndup(struct mf_arena *arena, const char *s, size_t len, struct mf_error *err)
{
    size_t n = strnlen(s, len);
    char *copy = mf_arena_alloc(arena, n + 1, 1, err);
    if (copy)
        memcpy(copy, s, n);
    return copy;
}

char *mf_arena_strdup(struct mf_arena *arena, const char *s, struct mf_error *err)
{
    return mf_arena_strndup(arena, s, strlen(s), err);
}

char *mf_arena_printf(struct mf_arena *arena, struct mf_error *err, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *s = n < 0 ? NULL : mf_arena_alloc(arena, (size_t)n + 1, 1, err);
    if (s)
        vsnprintf(s, (size_t)n + 1, fmt, again);
    va_end(again);
    return s;
}

size_t mf_arena_used(const struct mf_arena *arena)
{
    return arena->used;
}
