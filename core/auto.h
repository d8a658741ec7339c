/*
 * Clean-up at the end of a scope: `MF_AUTO(mf_buffer) struct mf_buffer b = …;` calls
 * mf_buffer_auto(&b). A type offers it with MF_AUTO_DEFINE(name, type, expression on `p`, a pointer
 * to the variable). Destructors accept NULL and half-built objects, so declaring and failing early
 * is always safe.
 */
#ifndef MF_CORE_AUTO_H
#define MF_CORE_AUTO_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define MF_AUTO(name) __attribute__((cleanup(name##_auto)))

#define MF_AUTO_DEFINE(name, type, expression)                                                     \
    static inline void name##_auto(type *p)                                                        \
    {                                                                                              \
        expression;                                                                                \
    }

/* Moves a pointer out of an MF_AUTO variable: the only way to keep what it holds. */
#define MF_STEAL(p)                                                                                \
    __extension__({                                                                                \
        __typeof__(p) mf_stolen_ = (p);                                                            \
        (p) = NULL;                                                                                \
        mf_stolen_;                                                                                \
    })

/* MF_AUTO(mf_mem) char *s = …;   MF_AUTO(mf_fd) int fd = -1;   MF_AUTO(mf_file) FILE *f = NULL; */
static inline void mf_mem_auto(void *p)
{
    free(*(void **)p);
}
MF_AUTO_DEFINE(mf_fd, int, if (*p >= 0) close(*p))
MF_AUTO_DEFINE(mf_file, FILE *, if (*p) fclose(*p))

#endif
