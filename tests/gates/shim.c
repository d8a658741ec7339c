/*
 * Faults for a program, by LD_PRELOAD: the n-th allocation or system call after mf_faults_begin()
 * fails, once or from there on.
 *
 *   MF_FAULT=KIND:N[+]   KIND malloc | eio | enospc | short | fsync | power; N from 1; "+": this
 *                        one and all later
 *   MF_FAULT_FIRED=FD    a descriptor that gets one byte when the fault was reached
 *   MF_SYNCED=DIRECTORY  of power: what has been synced is kept there (power.c)
 *
 * eio: every call; enospc: what needs room; short: writes that take half; fsync: fsync and
 * fdatasync; power: the process ends before the call, with status 77.
 */
#include "power.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t size);
void mf_faults_begin(void);

enum { MALLOC, EIO_ANY, NO_SPACE, SHORT_WRITE, SYNC, POWER, KINDS };

static const char *const NAMES[KINDS] = {"malloc", "eio", "enospc", "short", "fsync", "power"};

static int kind = -1, fired_fd = -1;
static long target;
static bool lasting;
static atomic_bool begun;
static atomic_long counted;

/* Called by the program once it is up: what comes before main() is not ours. */
void mf_faults_begin(void)
{
    const char *fault = getenv("MF_FAULT"), *fired = getenv("MF_FAULT_FIRED");
    const char *colon = fault ? strchr(fault, ':') : NULL;
    for (int i = 0; colon && i < KINDS; i++)
        if (strlen(NAMES[i]) == (size_t)(colon - fault) &&
            strncmp(fault, NAMES[i], strlen(NAMES[i])) == 0)
            kind = i;
    if (colon) {
        target = atol(colon + 1);
        lasting = strchr(colon, '+') != NULL;
    }
    fired_fd = fired ? atoi(fired) : -1;
    atomic_store(&begun, true);
}

static bool fails(int what)
{
    if (!atomic_load(&begun) || what != kind)
        return false;
    long n = atomic_fetch_add(&counted, 1) + 1;
    if (n == target && fired_fd >= 0) {
        static ssize_t (*real)(int, const void *, size_t);
        if (!real)
            real = (ssize_t(*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
        ssize_t ignored = real(fired_fd, "x", 1);
        (void)ignored;
    }
    return lasting ? n >= target : n == target;
}

/* --- memory --- */

void *malloc(size_t size)
{
    return fails(MALLOC) ? (errno = ENOMEM, NULL) : __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
    return fails(MALLOC) ? (errno = ENOMEM, NULL) : __libc_calloc(n, size);
}

void *realloc(void *p, size_t size)
{
    return fails(MALLOC) ? (errno = ENOMEM, NULL) : __libc_realloc(p, size);
}

/* --- system calls --- */

#define REAL(name, type)                                                                           \
    static type real;                                                                              \
    if (!real)                                                                                     \
    real = (type)dlsym(RTLD_NEXT, name)

typedef ssize_t (*write_fn)(int, const void *, size_t);
typedef ssize_t (*pwrite_fn)(int, const void *, size_t, off64_t);
typedef ssize_t (*pread_fn)(int, void *, size_t, off64_t);
typedef int (*fd_fn)(int);
typedef int (*truncate_fn)(int, off64_t);
typedef int (*openat_fn)(int, const char *, int, ...);
typedef int (*open_fn)(const char *, int, ...);
typedef int (*rename_fn)(const char *, const char *);

static void perhaps_lose_power(void)
{
    if (fails(POWER))
        _exit(POWER_LOST);
}

/* Standard error must be able to say what went wrong. */
static bool write_fails(int fd)
{
    if (fd <= STDERR_FILENO)
        return false;
    perhaps_lose_power();
    bool full = fails(NO_SPACE), broken = fails(EIO_ANY);
    if (full || broken)
        errno = full ? ENOSPC : EIO;
    return full || broken;
}

ssize_t write(int fd, const void *data, size_t len)
{
    REAL("write", write_fn);
    if (write_fails(fd))
        return -1;
    return real(fd, data, fd > STDERR_FILENO && len > 1 && fails(SHORT_WRITE) ? len / 2 : len);
}

static ssize_t positioned(pwrite_fn real, int fd, const void *data, size_t len, off64_t at)
{
    if (write_fails(fd))
        return -1;
    return real(fd, data, len > 1 && fails(SHORT_WRITE) ? len / 2 : len, at);
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t at)
{
    REAL("pwrite64", pwrite_fn);
    return positioned(real, fd, data, len, at);
}

ssize_t pwrite64(int fd, const void *data, size_t len, off64_t at)
{
    REAL("pwrite64", pwrite_fn);
    return positioned(real, fd, data, len, at);
}

static bool breaks(int error, int what)
{
    if (!fails(what))
        return false;
    errno = error;
    return true;
}

ssize_t pread(int fd, void *data, size_t len, off_t at)
{
    REAL("pread64", pread_fn);
    return breaks(EIO, EIO_ANY) ? -1 : real(fd, data, len, at);
}

ssize_t pread64(int fd, void *data, size_t len, off64_t at)
{
    REAL("pread64", pread_fn);
    return breaks(EIO, EIO_ANY) ? -1 : real(fd, data, len, at);
}

static int sync_by(fd_fn real, int fd)
{
    perhaps_lose_power();
    if (breaks(EIO, SYNC) || breaks(EIO, EIO_ANY) || real(fd) != 0)
        return -1;
    if (kind == POWER && atomic_load(&begun))
        mf_power_keep(fd);
    return 0;
}

int fsync(int fd)
{
    REAL("fsync", fd_fn);
    return sync_by(real, fd);
}

int fdatasync(int fd)
{
    REAL("fdatasync", fd_fn);
    return sync_by(real, fd);
}

int ftruncate64(int fd, off64_t size)
{
    REAL("ftruncate64", truncate_fn);
    return breaks(ENOSPC, NO_SPACE) || breaks(EIO, EIO_ANY) ? -1 : real(fd, size);
}

static mode_t mode_of(int flags, va_list ap)
{
    return flags & O_CREAT ? va_arg(ap, mode_t) : 0;
}

static bool open_fails(int flags)
{
    return (flags & O_CREAT && breaks(ENOSPC, NO_SPACE)) || breaks(EIO, EIO_ANY);
}

int openat(int dir, const char *path, int flags, ...)
{
    REAL("openat", openat_fn);
    va_list ap;
    va_start(ap, flags);
    mode_t mode = mode_of(flags, ap);
    va_end(ap);
    return open_fails(flags) ? -1 : real(dir, path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    REAL("open64", open_fn);
    va_list ap;
    va_start(ap, flags);
    mode_t mode = mode_of(flags, ap);
    va_end(ap);
    return open_fails(flags) ? -1 : real(path, flags, mode);
}

int open(const char *path, int flags, ...)
{
    REAL("open", open_fn);
    va_list ap;
    va_start(ap, flags);
    mode_t mode = mode_of(flags, ap);
    va_end(ap);
    return open_fails(flags) ? -1 : real(path, flags, mode);
}

int rename(const char *from, const char *to)
{
    REAL("rename", rename_fn);
    perhaps_lose_power();
    return breaks(ENOSPC, NO_SPACE) || breaks(EIO, EIO_ANY) ? -1 : real(from, to);
}
