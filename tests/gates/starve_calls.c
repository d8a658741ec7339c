/* The calls that can fail, each in place of the library's: starve.c says when they do. */
#include "starve.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void __libc_free(void *p);

/* --- memory --- */

static void *counted(void *p)
{
    if (p)
        mf_starve_count(1);
    return p;
}

void *malloc(size_t size)
{
    return mf_starve_fails("malloc", ENOMEM) ? NULL : counted(__libc_malloc(size));
}

void *calloc(size_t n, size_t size)
{
    return mf_starve_fails("calloc", ENOMEM) ? NULL : counted(__libc_calloc(n, size));
}

void *realloc(void *p, size_t size)
{
    if (mf_starve_fails("realloc", ENOMEM))
        return NULL;
    void *new = __libc_realloc(p, size);
    return p ? new : counted(new);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return mf_starve_fails("aligned_alloc", ENOMEM) ? NULL
                                                    : counted(__libc_memalign(alignment, size));
}

int posix_memalign(void **ret, size_t alignment, size_t size)
{
    if (mf_starve_fails("posix_memalign", ENOMEM) ||
        !(*ret = counted(__libc_memalign(alignment, size))))
        return ENOMEM;
    return 0;
}

void free(void *p)
{
    if (p)
        mf_starve_count(-1);
    __libc_free(p);
}

/* --- calls that all look alike --- */

#define REAL(type, name, parameters)                                                               \
    static type(*real) parameters;                                                                 \
    if (!real)                                                                                     \
    *(void **)&real = dlsym(RTLD_NEXT, #name)

#define CALL(type, name, parameters, arguments, failed, error)                                     \
    type name parameters                                                                           \
    {                                                                                              \
        REAL(type, name, parameters);                                                              \
        return mf_starve_fails(#name, error) ? failed : real arguments;                            \
    }

/* One that may be interrupted; error 0: and does not fail otherwise. */
#define SLOW(type, name, parameters, arguments, error)                                             \
    type name parameters                                                                           \
    {                                                                                              \
        REAL(type, name, parameters);                                                              \
        return mf_starve_interrupts(#name, error) ? -1 : real arguments;                           \
    }

SLOW(ssize_t, read, (int fd, void *p, size_t n), (fd, p, n), EIO)
SLOW(ssize_t, pread, (int fd, void *p, size_t n, off_t at), (fd, p, n, at), EIO)
SLOW(ssize_t, pread64, (int fd, void *p, size_t n, off64_t at), (fd, p, n, at), EIO)
SLOW(ssize_t, pwrite, (int fd, const void *p, size_t n, off_t at), (fd, p, n, at), ENOSPC)
SLOW(ssize_t, pwrite64, (int fd, const void *p, size_t n, off64_t at), (fd, p, n, at), ENOSPC)
SLOW(ssize_t, recv, (int fd, void *p, size_t n, int flags), (fd, p, n, flags), ECONNRESET)
SLOW(ssize_t, send, (int fd, const void *p, size_t n, int flags), (fd, p, n, flags), EPIPE)
SLOW(ssize_t, recvmsg, (int fd, struct msghdr *m, int flags), (fd, m, flags), ECONNRESET)
SLOW(ssize_t, sendmsg, (int fd, const struct msghdr *m, int flags), (fd, m, flags), EPIPE)
SLOW(ssize_t, getrandom, (void *p, size_t n, unsigned flags), (p, n, flags), ENOSYS)
SLOW(int, poll, (struct pollfd * p, nfds_t n, int ms), (p, n, ms), ENOMEM)
SLOW(int, epoll_wait, (int fd, struct epoll_event *e, int n, int ms), (fd, e, n, ms), 0)
SLOW(int, accept4, (int fd, __SOCKADDR_ARG a, socklen_t *restrict n, int flags), (fd, a, n, flags),
     EMFILE)

CALL(int, connect, (int fd, __CONST_SOCKADDR_ARG a, socklen_t n), (fd, a, n), -1, ECONNREFUSED)
CALL(int, bind, (int fd, __CONST_SOCKADDR_ARG a, socklen_t n), (fd, a, n), -1, EADDRINUSE)
CALL(int, listen, (int fd, int n), (fd, n), -1, EADDRINUSE)
CALL(int, socket, (int domain, int type, int protocol), (domain, type, protocol), -1, EMFILE)
CALL(int, socketpair, (int domain, int type, int protocol, int fds[2]),
     (domain, type, protocol, fds), -1, EMFILE)
CALL(int, getsockname, (int fd, __SOCKADDR_ARG a, socklen_t *restrict n), (fd, a, n), -1, ENOBUFS)
CALL(int, getsockopt, (int fd, int level, int name, void *restrict p, socklen_t *restrict n),
     (fd, level, name, p, n), -1, ENOBUFS)
CALL(int, setsockopt, (int fd, int level, int name, const void *p, socklen_t n),
     (fd, level, name, p, n), -1, ENOBUFS)
CALL(int, getaddrinfo,
     (const char *restrict host, const char *restrict port, const struct addrinfo *restrict hints,
      struct addrinfo **restrict ret),
     (host, port, hints, ret), EAI_MEMORY, ENOMEM)
CALL(int, epoll_create1, (int flags), (flags), -1, EMFILE)
CALL(int, epoll_ctl, (int fd, int op, int on, struct epoll_event *e), (fd, op, on, e), -1, ENOMEM)
CALL(int, eventfd, (unsigned count, int flags), (count, flags), -1, EMFILE)
CALL(int, timerfd_create, (clockid_t clock, int flags), (clock, flags), -1, EMFILE)
CALL(int, signalfd, (int fd, const sigset_t *set, int flags), (fd, set, flags), -1, EMFILE)
CALL(int, memfd_create, (const char *name, unsigned flags), (name, flags), -1, EMFILE)
CALL(int, pipe2, (int fds[2], int flags), (fds, flags), -1, EMFILE)
CALL(int, dup, (int fd), (fd), -1, EMFILE)
CALL(int, dup2, (int fd, int as), (fd, as), -1, EMFILE)
CALL(pid_t, fork, (void), (), -1, EAGAIN)
CALL(int, pthread_create,
     (pthread_t *restrict t, const pthread_attr_t *restrict a, void *(*f)(void *),
      void *restrict context),
     (t, a, f, context), EAGAIN, EAGAIN)
CALL(void *, mmap, (void *at, size_t n, int protection, int flags, int fd, off_t from),
     (at, n, protection, flags, fd, from), MAP_FAILED, ENOMEM)
CALL(void *, mmap64, (void *at, size_t n, int protection, int flags, int fd, off64_t from),
     (at, n, protection, flags, fd, from), MAP_FAILED, ENOMEM)

CALL(int, fsync, (int fd), (fd), -1, EIO)
CALL(int, fdatasync, (int fd), (fd), -1, EIO)
CALL(int, syncfs, (int fd), (fd), -1, EIO)
CALL(int, ftruncate, (int fd, off_t size), (fd, size), -1, ENOSPC)
CALL(int, ftruncate64, (int fd, off64_t size), (fd, size), -1, ENOSPC)
CALL(off_t, lseek, (int fd, off_t at, int whence), (fd, at, whence), -1, EIO)
CALL(off64_t, lseek64, (int fd, off64_t at, int whence), (fd, at, whence), -1, EIO)
CALL(int, stat, (const char *restrict path, struct stat *restrict s), (path, s), -1, EIO)
CALL(int, stat64, (const char *restrict path, struct stat64 *restrict s), (path, s), -1, EIO)
CALL(int, lstat, (const char *restrict path, struct stat *restrict s), (path, s), -1, EIO)
CALL(int, fstat, (int fd, struct stat *s), (fd, s), -1, EIO)
CALL(int, fstat64, (int fd, struct stat64 *s), (fd, s), -1, EIO)
CALL(int, fstatat, (int fd, const char *restrict path, struct stat *restrict s, int flags),
     (fd, path, s, flags), -1, EIO)
CALL(int, fstatvfs, (int fd, struct statvfs *s), (fd, s), -1, EIO)
CALL(int, statvfs, (const char *restrict path, struct statvfs *restrict s), (path, s), -1, EIO)
CALL(int, access, (const char *path, int mode), (path, mode), -1, EACCES)
CALL(int, mkdir, (const char *path, mode_t mode), (path, mode), -1, ENOSPC)
CALL(int, mkdirat, (int fd, const char *path, mode_t mode), (fd, path, mode), -1, ENOSPC)
CALL(int, unlink, (const char *path), (path), -1, EIO)
CALL(int, unlinkat, (int fd, const char *path, int flags), (fd, path, flags), -1, EIO)
CALL(int, link, (const char *from, const char *to), (from, to), -1, ENOSPC)
CALL(int, rename, (const char *from, const char *to), (from, to), -1, ENOSPC)
CALL(int, renameat, (int a, const char *from, int b, const char *to), (a, from, b, to), -1, ENOSPC)
CALL(int, chmod, (const char *path, mode_t mode), (path, mode), -1, EPERM)
CALL(int, futimens, (int fd, const struct timespec times[2]), (fd, times), -1, EIO)
CALL(int, flock, (int fd, int how), (fd, how), -1, ENOLCK)
CALL(char *, realpath, (const char *restrict path, char *restrict ret), (path, ret), NULL, EIO)
CALL(DIR *, opendir, (const char *path), (path), NULL, EMFILE)
CALL(DIR *, fdopendir, (int fd), (fd), NULL, ENOMEM)
CALL(struct dirent *, readdir, (DIR * d), (d), NULL, EIO)
CALL(struct dirent64 *, readdir64, (DIR * d), (d), NULL, EIO)
CALL(FTS *, fts_open, (char *const *paths, int flags, int (*f)(const FTSENT **, const FTSENT **)),
     (paths, flags, f), NULL, EMFILE)
CALL(FILE *, fopen, (const char *restrict path, const char *restrict mode), (path, mode), NULL,
     EMFILE)
CALL(FILE *, fopen64, (const char *restrict path, const char *restrict mode), (path, mode), NULL,
     EMFILE)
CALL(FILE *, fdopen, (int fd, const char *mode), (fd, mode), NULL, ENOMEM)
CALL(int, fflush, (FILE * f), (f), EOF, ENOSPC)
CALL(int, fseek, (FILE * f, long at, int whence), (f, at, whence), -1, EIO)
CALL(long, ftell, (FILE * f), (f), -1, EIO)
CALL(int, getrlimit, (__rlimit_resource_t what, struct rlimit *l), (what, l), -1, EPERM)
CALL(int, setrlimit, (__rlimit_resource_t what, const struct rlimit *l), (what, l), -1, EPERM)
CALL(int, gethostname, (char *p, size_t n), (p, n), -1, ENAMETOOLONG)
CALL(int, RAND_bytes, (unsigned char *p, int n), (p, n), 0, EIO)

/* --- calls that do not --- */

int RAND_bytes(unsigned char *p, int n);

/* Standard output and error must be able to say what went wrong; and what wakes another thread or
 * process does not fail while there is room. */
static bool is_for_data(int fd)
{
    struct stat s;
    return fd > STDERR_FILENO && syscall(SYS_fstat, fd, &s) == 0 && s.st_mode & S_IFMT &&
           !S_ISFIFO(s.st_mode);
}

ssize_t write(int fd, const void *p, size_t n)
{
    REAL(ssize_t, write, (int, const void *, size_t));
    return is_for_data(fd) && mf_starve_interrupts("write", ENOSPC) ? -1 : real(fd, p, n);
}

/* What has failed has told the stream so. */
#define STREAM(name, buffer, error)                                                                \
    size_t name(buffer *restrict p, size_t size, size_t n, FILE *restrict f)                       \
    {                                                                                              \
        enum { SEEN = 0x20 }; /* ferror() */                                                       \
        REAL(size_t, name, (buffer *, size_t, size_t, FILE *));                                    \
        if (fileno(f) <= STDERR_FILENO || !mf_starve_fails(#name, error))                          \
            return real(p, size, n, f);                                                            \
        f->_flags |= SEEN;                                                                         \
        return 0;                                                                                  \
    }

STREAM(fread, void, EIO)
STREAM(fwrite, const void, ENOSPC)

pid_t waitpid(pid_t pid, int *status, int options)
{
    REAL(pid_t, waitpid, (pid_t, int *, int));
    if (!(options & WNOHANG) && mf_starve_interrupts("waitpid", 0))
        return -1;
    return real(pid, status, options);
}

int fclose(FILE *f)
{
    REAL(int, fclose, (FILE *));
    bool failed = mf_starve_fails("fclose", ENOSPC);
    int status = real(f);
    return failed ? EOF : status;
}

int prctl(int option, ...)
{
    REAL(int, prctl, (int, ...));
    va_list ap;
    unsigned long words[4];
    va_start(ap, option);
    for (int i = 0; i < 4; i++)
        words[i] = va_arg(ap, unsigned long);
    va_end(ap);
    if (option == PR_SET_NAME)
        mf_starve_name((const char *)words[0]);
    else if (mf_starve_fails("prctl", EPERM))
        return -1;
    return real(option, words[0], words[1], words[2], words[3]);
}

#define VARIADIC(name, parameters, arguments, last)                                                \
    int name parameters                                                                            \
    {                                                                                              \
        REAL(int, name, parameters);                                                               \
        va_list ap;                                                                                \
        va_start(ap, last);                                                                        \
        long more = va_arg(ap, long);                                                              \
        va_end(ap);                                                                                \
        return mf_starve_fails(#name, EMFILE) ? -1 : real arguments;                               \
    }

VARIADIC(open, (const char *path, int flags, ...), (path, flags, more), flags)
VARIADIC(open64, (const char *path, int flags, ...), (path, flags, more), flags)
VARIADIC(openat, (int dir, const char *path, int flags, ...), (dir, path, flags, more), flags)
VARIADIC(openat64, (int dir, const char *path, int flags, ...), (dir, path, flags, more), flags)
VARIADIC(fcntl, (int fd, int command, ...), (fd, command, more), command)
VARIADIC(fcntl64, (int fd, int command, ...), (fd, command, more), command)
