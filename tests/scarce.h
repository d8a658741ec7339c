/*
 * Memory that runs out when a test says so: link mf_scarce, and malloc(), calloc(), realloc() and
 * aligned_alloc() of our own code can fail. Libraries keep theirs, unless they are given these
 * (json_set_alloc_funcs(__wrap_malloc, free)).
 */
#ifndef MF_TESTS_SCARCE_H
#define MF_TESTS_SCARCE_H

#include <stdbool.h>
#include <stddef.h>

struct scarce {
    long countdown;  /* so many allocations succeed, then one fails; -1: none fails */
    bool persistent; /* all that follow fail too */
    bool fired;      /* one has failed */
};

extern struct scarce scarce;

/* The allocation after n more fails, or all from there. */
static inline void scarce_after(long n, bool persistent)
{
    scarce = (struct scarce){.countdown = n, .persistent = persistent};
}

/* From here none fails; whether one did. */
static inline bool scarce_end(void)
{
    scarce.countdown = -1;
    return scarce.fired;
}

/* What the linker calls in place of each (-Wl,--wrap). */
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);

#endif
