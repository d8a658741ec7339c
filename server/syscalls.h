/*
 * System calls: what a process of the daemon asks of the kernel no more (seccomp). It goes with
 * landlock.h, which takes files and TCP away, and also where that does not: in the supervisor, in
 * workers of a GPU, in a store on PostgreSQL, and on kernels without Landlock.
 *
 * Most processes have a list of what is refused (as container run-times have): their libraries
 * (TLS, DCMTK, libpq, libcurl, OpenMP, a GPU's driver) come from the system and ask for whatever
 * their version likes, so a list of what is allowed would break a hospital's service at the next
 * update, while what an intruder wants is well known: other processes' memory, programs, mounts,
 * name spaces, other users, the kernel's less used doors. Only the store on SQLite lives by a list
 * of what is allowed, with all that is open to it and nothing else: its libraries are few and what
 * they do is narrow, and it has everybody's data. Decoders have a shorter one still (sandbox.h).
 *
 * What is refused fails with EPERM, what the list of the store does not have with ENOSYS, as on a
 * kernel that does not know it: libraries then do without. Filters add up and children inherit
 * them. Calls of another architecture (32 bits, x32) kill.
 */
#ifndef MF_SERVER_SYSCALLS_H
#define MF_SERVER_SYSCALLS_H

#include "core/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What is left to a process, beyond what all have. */
struct mf_syscalls_left {
    bool programs;  /* to start them */
    bool processes; /* to fork, to signal others */
    bool listening; /* to make a socket listen */
    bool network;   /* sockets of IP; else Unix sockets only */
    bool netlink;   /* without IP: what a GPU's driver asks of the kernel; with IP it is left */
    bool listed;    /* by the store's list of what is allowed */
};

/* From now on, for this thread and what it starts, so before there are others. Under sanitizers,
 * whose run-time traces itself and starts a program that names lines, those two stay, and there is
 * no list of what is allowed. On failure the process must end. */
bool mf_syscalls_enter(const struct mf_syscalls_left *left, struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
