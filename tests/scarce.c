/* Allocators that can fail: see scarce.h. */
#include "tests/scarce.h"

struct scarce scarce = {.countdown = -1};

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);

static bool fails(void)
{
    if (scarce.countdown != 0) {
        scarce.countdown -= scarce.countdown > 0;
        return false;
    }
    scarce.fired = true;
    if (!scarce.persistent)
        scarce.countdown = -1;
    return true;
}

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
    return fails() ? NULL : __real_realloc(p, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    return fails() ? NULL : __real_aligned_alloc(alignment, size);
}
