/*
 * Arena: many small allocations with one lifetime (a request, an index, a parsed configuration).
 * Memory comes in blocks, is zeroed, and is released all at once. An arena has a ceiling: an
 * allocation that would pass it fails with MF_ERR_TOO_LARGE, so hostile input cannot grow a request
 * without bound. Not thread-safe; one owner.
 */
#ifndef MF_CORE_ARENA_H
#define MF_CORE_ARENA_H

#include "core/auto.h"
#include "core/error.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mf_arena;

/* ceiling: the most bytes the arena may ever hold (0 = 64 MiB). NULL when out of memory. */
struct mf_arena *mf_arena_new(size_t ceiling);
void mf_arena_free(struct mf_arena *arena);

/* Zeroed, 16-byte aligned memory that lives as long as the arena. n·size is checked for overflow.
 */
void *mf_arena_alloc(struct mf_arena *arena, size_t n, size_t size,
                     struct mf_error *err) MF_CHECK_RESULT;
/* Copies of a string; `mf_arena_strndup` stops at `len` bytes. */
char *mf_arena_strdup(struct mf_arena *arena, const char *s, struct mf_error *err) MF_CHECK_RESULT;
char *mf_arena_strndup(struct mf_arena *arena, const char *s, size_t len,
                       struct mf_error *err) MF_CHECK_RESULT;
char *mf_arena_printf(struct mf_arena *arena, struct mf_error *err, const char *fmt, ...)
    MF_PRINTF(3, 4);

/* Where an arena stands; rewinding to it gives back all that was allocated since, for work in
 * steps. Marks are rewound to in reverse order; memory from before the mark stays. */
struct mf_arena_mark {
    void *block, *big;
    size_t block_used, used;
};
struct mf_arena_mark mf_arena_position(const struct mf_arena *arena);
void mf_arena_rewind(struct mf_arena *arena, const struct mf_arena_mark *mark);

/* Bytes handed out so far. */
size_t mf_arena_used(const struct mf_arena *arena);

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_arena, struct mf_arena *, mf_arena_free(*p))

#endif
