/*
 * Landlock (Linux 5.13 and later): a process gives up the file system but for a few directories,
 * and, where the kernel can (6.7), TCP. For processes that cannot live under a seccomp list of few
 * calls (sandbox.h), but need little of the machine.
 */
#ifndef MF_SERVER_LANDLOCK_H
#define MF_SERVER_LANDLOCK_H

#include "core/error.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version of Landlock that this kernel has; 0 = none (or it is switched off). */
int mf_landlock_version(void);

/* What is left to a process. */
struct mf_landlock {
    const char *const *writable; /* directories and devices; they must be there */
    size_t writable_count;
    const char *const *readable; /* files and directories; they may be absent */
    size_t readable_count;
    bool connect; /* by TCP, to anywhere */
};

/* From now on this thread, and what it starts, can open, make and remove files beneath `writable`
 * only, read those in `readable`, start no program, not listen by TCP, nor connect unless it is
 * left, and gain no privileges. What the kernel does not know is not given up; with version 0, and
 * under sanitizers and coverage, whose run-time needs files of its own, nothing but privileges is.
 * On failure the process must end. */
bool mf_landlock_enter(const struct mf_landlock *left, struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
