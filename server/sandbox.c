/*
 * Sandbox: a seccomp allow-list (built by libseccomp, once), resource limits, no new privileges.
 *
 * Under a sanitizer the run-time needs calls and address space that no decoder needs: there only
 * starting programs and making sockets are refused, and the address space is not limited, so that
 * the rest is still tested.
 */
#include "server/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define UNDER_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define UNDER_SANITIZER 1
#endif
#endif
#ifndef UNDER_SANITIZER
#define UNDER_SANITIZER 0
#endif

struct mf_sandbox {
    struct sock_fprog program;
};

bool mf_sandbox_is_strict(void)
{
    return !UNDER_SANITIZER;
}

/* Calls that are allowed whatever their arguments are: they work on what the process already holds.
 */
static const int ALLOWED[] = {
    SCMP_SYS(read),
    SCMP_SYS(pread64),
    SCMP_SYS(readv),
    SCMP_SYS(write),
    SCMP_SYS(pwrite64),
    SCMP_SYS(writev),
    SCMP_SYS(recvmsg),
    SCMP_SYS(recvfrom),
    SCMP_SYS(sendmsg),
    SCMP_SYS(sendto),
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    SCMP_SYS(close),
    SCMP_SYS(lseek),
    SCMP_SYS(fstat),
    SCMP_SYS(ftruncate),
    SCMP_SYS(memfd_create),
    SCMP_SYS(brk),
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(madvise),
    SCMP_SYS(futex),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(time),
    SCMP_SYS(getrandom),
    SCMP_SYS(getpid),
    SCMP_SYS(gettid),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
};

/* Calls that libraries make in passing: they fail politely. */
static const struct {
    int call, error;
} REFUSED[] = {
    {SCMP_SYS(open), EACCES},       {SCMP_SYS(openat), EACCES},
    {SCMP_SYS(access), EACCES},     {SCMP_SYS(faccessat), EACCES},
    {SCMP_SYS(faccessat2), EACCES}, {SCMP_SYS(stat), EACCES},
    {SCMP_SYS(lstat), EACCES},      {SCMP_SYS(statx), EACCES},
    {SCMP_SYS(readlink), EACCES},   {SCMP_SYS(readlinkat), EACCES},
    {SCMP_SYS(getcwd), EACCES},     {SCMP_SYS(sysinfo), ENOSYS},
    {SCMP_SYS(ioctl), ENOTTY},      {SCMP_SYS(sched_getaffinity), ENOSYS},
};

static int allow_with_arguments(scmp_filter_ctx filter)
{
    /* memory may be mapped and protected, but never executable */
    const scmp_datum_t exec = PROT_EXEC;
    int rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
                              SCMP_A2(SCMP_CMP_MASKED_EQ, exec, 0));
    rc |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
                           SCMP_A2(SCMP_CMP_MASKED_EQ, exec, 0));
    /* fstat(fd) of glibc ≥ 2.33 is newfstatat(fd, "", …, AT_EMPTY_PATH); other uses take a path */
    rc |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(newfstatat), 1,
                           SCMP_A3(SCMP_CMP_EQ, AT_EMPTY_PATH, 0));
    rc |= seccomp_rule_add(filter, SCMP_ACT_ERRNO(EACCES), SCMP_SYS(newfstatat), 1,
                           SCMP_A3(SCMP_CMP_NE, AT_EMPTY_PATH, 0));
    static const scmp_datum_t commands[] = {F_GETFD,     F_SETFD,     F_GETFL,
                                            F_ADD_SEALS, F_GET_SEALS, F_DUPFD_CLOEXEC};
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        rc |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 1,
                               SCMP_A1(SCMP_CMP_EQ, commands[i], 0));
    return rc;
}

static int add_rules(scmp_filter_ctx filter)
{
    int rc = 0;
    if (UNDER_SANITIZER) {
        rc |= seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(execve), 0);
        return rc | seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(socket), 0);
    }
    for (size_t i = 0; i < sizeof ALLOWED / sizeof *ALLOWED; i++)
        rc |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, ALLOWED[i], 0);
    for (size_t i = 0; i < sizeof REFUSED / sizeof *REFUSED; i++)
        rc |= seccomp_rule_add(filter, SCMP_ACT_ERRNO((uint16_t)REFUSED[i].error), REFUSED[i].call,
                               0);
    return rc | allow_with_arguments(filter);
}

/* libseccomp writes its program to a descriptor; it is read back to be installed without
 * libseccomp. */
static bool export_program(scmp_filter_ctx filter, struct sock_fprog *ret, struct mf_error *err)
{
    MF_AUTO(mf_fd) int fd = memfd_create("seccomp", MFD_CLOEXEC);
    if (fd < 0 || seccomp_export_bpf(filter, fd) != 0)
        return mf_error_set(err, MF_ERR_INTERNAL, "sandbox: the filter cannot be compiled");
    off_t size = lseek(fd, 0, SEEK_END);
    size_t count = size > 0 ? (size_t)size / sizeof(struct sock_filter) : 0;
    if (count == 0 || count > USHRT_MAX)
        return mf_error_set(err, MF_ERR_INTERNAL, "sandbox: a filter of %zu steps", count);
    struct sock_filter *steps = calloc(count, sizeof *steps);
    if (!steps)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "sandbox: out of memory");
    if (pread(fd, steps, count * sizeof *steps, 0) != (ssize_t)(count * sizeof *steps)) {
        free(steps);
        return mf_error_set(err, MF_ERR_INTERNAL, "sandbox: the filter cannot be read back");
    }
    *ret = (struct sock_fprog){(unsigned short)count, steps};
    return true;
}

struct mf_sandbox *mf_sandbox_new(struct mf_error *err)
{
    struct mf_sandbox *sandbox = calloc(1, sizeof *sandbox);
    if (!sandbox) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "sandbox: out of memory");
        return NULL;
    }
    scmp_filter_ctx filter = seccomp_init(UNDER_SANITIZER ? SCMP_ACT_ALLOW : SCMP_ACT_KILL_PROCESS);
    bool ok = false;
    if (!filter || add_rules(filter) != 0)
        mf_error_set(err, MF_ERR_INTERNAL, "sandbox: the filter cannot be built");
    else
        ok = export_program(filter, &sandbox->program, err);
    if (filter)
        seccomp_release(filter);
    if (ok)
        return sandbox;
    free(sandbox);
    return NULL;
}

void mf_sandbox_free(struct mf_sandbox *sandbox)
{
    if (!sandbox)
        return;
    free(sandbox->program.filter);
    free(sandbox);
}

static bool set_limit(int resource, rlim_t soft, rlim_t hard)
{
    return setrlimit((__rlimit_resource_t)resource, &(struct rlimit){soft, hard}) == 0;
}

/* Bytes of address space mapped now. */
static uint64_t mapped_bytes(void)
{
    char text[64] = "";
    MF_AUTO(mf_fd) int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, text, sizeof text - 1) <= 0)
        return 0;
    return strtoull(text, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE);
}

bool mf_sandbox_enter(const struct mf_sandbox *sandbox, const struct mf_sandbox_limits *limits,
                      struct mf_error *err)
{
    rlim_t memory = mapped_bytes() + limits->memory;
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    rlim_t cpu = (rlim_t)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) + limits->cpu_seconds + 1;
    bool ok = set_limit(RLIMIT_CORE, 0, 0) && set_limit(RLIMIT_CPU, cpu, cpu + 1) &&
              set_limit(RLIMIT_NOFILE, limits->files, limits->files) &&
              set_limit(RLIMIT_NPROC, 0, 0) &&
              set_limit(RLIMIT_FSIZE, limits->memory, limits->memory) &&
              (UNDER_SANITIZER || set_limit(RLIMIT_AS, memory, memory));
    ok = ok && prctl(PR_SET_DUMPABLE, 0) == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
    /* the last call: after it there is no way back */
    ok = ok && syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &sandbox->program) == 0;
    if (!ok)
        return mf_error_set(err, MF_ERR_INTERNAL, "sandbox: %s", strerror(errno));
    return true;
}
