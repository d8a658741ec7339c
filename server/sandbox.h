/*
 * Sandbox: what a process that reads hostile bytes gives up before it reads the first one.
 *
 * After mf_sandbox_enter() the process can read and write the descriptors it holds, map memory that
 * is not executable, make memfds and end. It cannot open files, make sockets, start processes or
 * threads, gain privileges, or leave a core dump. A call outside the list (execve, socket, clone,
 * …) kills it with SIGSYS; opening and looking up files fails with EACCES instead, because
 * libraries probe for optional files.
 */
#ifndef MF_SERVER_SANDBOX_H
#define MF_SERVER_SANDBOX_H

#include "core/auto.h"
#include "core/error.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mf_sandbox; /* a compiled filter; compile once, enter in many children */

struct mf_sandbox_limits {
    uint64_t memory;      /* address space on top of what is mapped now, bytes */
    unsigned cpu_seconds; /* CPU time from now on; SIGXCPU ends the process */
    unsigned files;       /* descriptors at once */
};

/* False in builds with a sanitizer, whose run-time needs more than the list allows. */
bool mf_sandbox_is_strict(void);

struct mf_sandbox *mf_sandbox_new(struct mf_error *err);
void mf_sandbox_free(struct mf_sandbox *sandbox);

/* Gives up everything but the above, for ever. On failure the process must end: it may be half
 * confined. */
bool mf_sandbox_enter(const struct mf_sandbox *sandbox, const struct mf_sandbox_limits *limits,
                      struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_sandbox, struct mf_sandbox *, mf_sandbox_free(*p))

#endif
