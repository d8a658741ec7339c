/* System calls: the lists, and libseccomp's filters of them. */
#include "server/syscalls.h"

#include "server/sandbox.h"

#include <asm/ioctls.h>
#include <errno.h>
#include <sched.h>
#include <seccomp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define COUNT(list) (sizeof(list) / sizeof *(list))

/* Nobody's business here, the supervisor's neither. */
static const int NEVER[] = {
    /* other processes */
    SCMP_SYS(process_madvise),
    SCMP_SYS(process_mrelease),
    SCMP_SYS(kcmp),
    SCMP_SYS(pidfd_getfd),
    SCMP_SYS(perf_event_open),
    /* mounts, and files without their paths */
    SCMP_SYS(mount),
    SCMP_SYS(umount2),
    SCMP_SYS(mount_setattr),
    SCMP_SYS(move_mount),
    SCMP_SYS(open_tree),
    SCMP_SYS(fsopen),
    SCMP_SYS(fsconfig),
    SCMP_SYS(fsmount),
    SCMP_SYS(fspick),
    SCMP_SYS(pivot_root),
    SCMP_SYS(chroot),
    SCMP_SYS(open_by_handle_at),
    SCMP_SYS(mknod),
    SCMP_SYS(mknodat),
    SCMP_SYS(quotactl),
    SCMP_SYS(quotactl_fd),
    SCMP_SYS(fanotify_init),
    /* name spaces, other users */
    SCMP_SYS(setns),
    SCMP_SYS(unshare),
    SCMP_SYS(setuid),
    SCMP_SYS(setgid),
    SCMP_SYS(setreuid),
    SCMP_SYS(setregid),
    SCMP_SYS(setresuid),
    SCMP_SYS(setresgid),
    SCMP_SYS(setfsuid),
    SCMP_SYS(setfsgid),
    SCMP_SYS(setgroups),
    SCMP_SYS(capset),
    /* the machine */
    SCMP_SYS(kexec_load),
    SCMP_SYS(kexec_file_load),
    SCMP_SYS(init_module),
    SCMP_SYS(finit_module),
    SCMP_SYS(delete_module),
    SCMP_SYS(reboot),
    SCMP_SYS(swapon),
    SCMP_SYS(swapoff),
    SCMP_SYS(acct),
    SCMP_SYS(syslog),
    SCMP_SYS(sethostname),
    SCMP_SYS(setdomainname),
    SCMP_SYS(vhangup),
    SCMP_SYS(iopl),
    SCMP_SYS(ioperm),
    SCMP_SYS(clock_settime),
    SCMP_SYS(settimeofday),
    SCMP_SYS(adjtimex),
    SCMP_SYS(clock_adjtime),
    /* doors with a history */
    SCMP_SYS(bpf),
    SCMP_SYS(userfaultfd),
    SCMP_SYS(io_uring_setup),
    SCMP_SYS(io_uring_enter),
    SCMP_SYS(io_uring_register),
    SCMP_SYS(add_key),
    SCMP_SYS(request_key),
    SCMP_SYS(keyctl),
    SCMP_SYS(modify_ldt),
    SCMP_SYS(uselib),
    SCMP_SYS(_sysctl),
    SCMP_SYS(lookup_dcookie),
};

/* The same, but a sanitizer's run-time does it. */
static const int TRACING[] = {SCMP_SYS(ptrace), SCMP_SYS(process_vm_readv),
                              SCMP_SYS(process_vm_writev), SCMP_SYS(personality)};

static const int PROGRAMS[] = {SCMP_SYS(execve), SCMP_SYS(execveat)};

static const int PROCESSES[] = {SCMP_SYS(fork), SCMP_SYS(vfork), SCMP_SYS(pidfd_open),
                                SCMP_SYS(pidfd_send_signal)};

static const int SIGNALS[] = {SCMP_SYS(kill), SCMP_SYS(tkill), SCMP_SYS(tgkill),
                              SCMP_SYS(rt_sigqueueinfo), SCMP_SYS(rt_tgsigqueueinfo)};

static const scmp_datum_t NAME_SPACES[] = {CLONE_NEWNS,  CLONE_NEWCGROUP, CLONE_NEWUTS,
                                           CLONE_NEWIPC, CLONE_NEWUSER,   CLONE_NEWPID,
                                           CLONE_NEWNET};

/* What SQLite, libcrypto, the C library and threads do with files beneath the data directory and
 * with connections that were accepted. */
static const int STORE[] = {
    SCMP_SYS(open),
    SCMP_SYS(openat),
    SCMP_SYS(close),
    SCMP_SYS(close_range),
    SCMP_SYS(read),
    SCMP_SYS(pread64),
    SCMP_SYS(readv),
    SCMP_SYS(preadv),
    SCMP_SYS(write),
    SCMP_SYS(pwrite64),
    SCMP_SYS(writev),
    SCMP_SYS(pwritev),
    SCMP_SYS(lseek),
    SCMP_SYS(stat),
    SCMP_SYS(lstat),
    SCMP_SYS(fstat),
    SCMP_SYS(newfstatat),
    SCMP_SYS(statx),
    SCMP_SYS(statfs),
    SCMP_SYS(fstatfs),
    SCMP_SYS(access),
    SCMP_SYS(faccessat),
    SCMP_SYS(faccessat2),
    SCMP_SYS(readlink),
    SCMP_SYS(readlinkat),
    SCMP_SYS(getcwd),
    SCMP_SYS(getdents64),
    SCMP_SYS(fsync),
    SCMP_SYS(fdatasync),
    SCMP_SYS(sync_file_range),
    SCMP_SYS(truncate),
    SCMP_SYS(ftruncate),
    SCMP_SYS(fallocate),
    SCMP_SYS(fadvise64),
    SCMP_SYS(flock),
    SCMP_SYS(fcntl),
    SCMP_SYS(link),
    SCMP_SYS(linkat),
    SCMP_SYS(unlink),
    SCMP_SYS(unlinkat),
    SCMP_SYS(rename),
    SCMP_SYS(renameat),
    SCMP_SYS(renameat2),
    SCMP_SYS(mkdir),
    SCMP_SYS(mkdirat),
    SCMP_SYS(rmdir),
    SCMP_SYS(chmod),
    SCMP_SYS(fchmod),
    SCMP_SYS(fchmodat),
    SCMP_SYS(fchown),
    SCMP_SYS(umask),
    SCMP_SYS(utimensat),
    SCMP_SYS(dup),
    SCMP_SYS(dup2),
    SCMP_SYS(dup3),
    SCMP_SYS(pipe2),
    SCMP_SYS(eventfd2),
    SCMP_SYS(memfd_create),
    SCMP_SYS(signalfd4),
    SCMP_SYS(timerfd_create),
    SCMP_SYS(timerfd_settime),
    /* memory */
    SCMP_SYS(brk),
    SCMP_SYS(mmap),
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(mprotect),
    SCMP_SYS(madvise),
    SCMP_SYS(msync),
    SCMP_SYS(mlock),
    SCMP_SYS(mlock2),
    SCMP_SYS(munlock),
    /* threads, signals, time */
    SCMP_SYS(set_robust_list),
    SCMP_SYS(get_robust_list),
    SCMP_SYS(set_tid_address),
    SCMP_SYS(rseq),
    SCMP_SYS(arch_prctl),
    SCMP_SYS(prctl),
    SCMP_SYS(futex),
    SCMP_SYS(membarrier),
    SCMP_SYS(sched_yield),
    SCMP_SYS(sched_getaffinity),
    SCMP_SYS(getpid),
    SCMP_SYS(getppid),
    SCMP_SYS(gettid),
    SCMP_SYS(kill),
    SCMP_SYS(tgkill),
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigpending),
    SCMP_SYS(rt_sigtimedwait),
    SCMP_SYS(rt_sigsuspend),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(sigaltstack),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(pause),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_getres),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(nanosleep),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(time),
    SCMP_SYS(times),
    /* what it may know of itself and the machine */
    SCMP_SYS(getrandom),
    SCMP_SYS(getuid),
    SCMP_SYS(geteuid),
    SCMP_SYS(getgid),
    SCMP_SYS(getegid),
    SCMP_SYS(getgroups),
    SCMP_SYS(getrlimit),
    SCMP_SYS(prlimit64),
    SCMP_SYS(getrusage),
    SCMP_SYS(uname),
    SCMP_SYS(sysinfo),
    /* connections */
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    SCMP_SYS(select),
    SCMP_SYS(pselect6),
    SCMP_SYS(epoll_create1),
    SCMP_SYS(epoll_ctl),
    SCMP_SYS(epoll_wait),
    SCMP_SYS(epoll_pwait),
    SCMP_SYS(accept),
    SCMP_SYS(accept4),
    SCMP_SYS(socketpair),
    SCMP_SYS(recvfrom),
    SCMP_SYS(recvmsg),
    SCMP_SYS(recvmmsg),
    SCMP_SYS(sendto),
    SCMP_SYS(sendmsg),
    SCMP_SYS(sendmmsg),
    SCMP_SYS(shutdown),
    SCMP_SYS(getsockopt),
    SCMP_SYS(setsockopt),
    SCMP_SYS(getsockname),
    SCMP_SYS(getpeername),
};

static const scmp_datum_t ASKING[] = {TCGETS, FIONREAD, FIONBIO}; /* the store's ioctls */

/* --- filters --- */

static int refuse(scmp_filter_ctx filter, const int calls[], size_t count)
{
    int rc = 0;
    for (size_t i = 0; i < count; i++)
        rc |= seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), calls[i], 0);
    return rc;
}

/* Sockets of other families than these. A family is an int, so what has more bits is refused, too:
 * it is greater than all families. */
static int refuse_families(scmp_filter_ctx filter, const struct mf_syscalls_left *left)
{
    const uint32_t refused = SCMP_ACT_ERRNO(EAFNOSUPPORT);
    int rc =
        seccomp_rule_add(filter, refused, SCMP_SYS(socket), 1, SCMP_A0(SCMP_CMP_GT, AF_NETLINK));
    for (scmp_datum_t family = 0; family <= AF_NETLINK; family++) {
        const bool ip = family == AF_INET || family == AF_INET6;
        const bool netlink = family == AF_NETLINK && (left->netlink || left->network);
        if (family != AF_UNIX && !(ip && left->network) && !netlink)
            rc |= seccomp_rule_add(filter, refused, SCMP_SYS(socket), 1,
                                   SCMP_A0(SCMP_CMP_EQ, family));
    }
    return rc;
}

/* Threads are made, processes are not; signals go to ourselves only. */
static int refuse_processes(scmp_filter_ctx filter)
{
    const scmp_datum_t thread = CLONE_THREAD, self = (scmp_datum_t)getpid();
    int rc = refuse(filter, PROCESSES, COUNT(PROCESSES)) |
             seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1,
                              SCMP_A0(SCMP_CMP_MASKED_EQ, thread, 0));
    for (size_t i = 0; i < COUNT(SIGNALS); i++)
        rc |= seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SIGNALS[i], 1,
                               SCMP_A0(SCMP_CMP_NE, self));
    return rc;
}

static int add_refused(scmp_filter_ctx filter, const struct mf_syscalls_left *left)
{
    int rc = refuse(filter, NEVER, COUNT(NEVER)) | refuse_families(filter, left);
    /* the new clone has its flags in memory, where a filter does not see them: the C library then
     * uses the old one */
    rc |= seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    for (size_t i = 0; i < COUNT(NAME_SPACES); i++)
        rc |= seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1,
                               SCMP_A0(SCMP_CMP_MASKED_EQ, NAME_SPACES[i], NAME_SPACES[i]));
    if (!left->listening)
        rc |= seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(listen), 0);
    if (!mf_sandbox_is_strict())
        return rc;
    rc |= refuse(filter, TRACING, COUNT(TRACING));
    if (!left->programs)
        rc |= refuse(filter, PROGRAMS, COUNT(PROGRAMS));
    return left->processes ? rc : rc | refuse_processes(filter);
}

static int add_listed(scmp_filter_ctx filter)
{
    const scmp_datum_t thread = CLONE_THREAD;
    int rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
                              SCMP_A0(SCMP_CMP_MASKED_EQ, thread, thread));
    for (size_t i = 0; i < COUNT(STORE); i++)
        rc |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, STORE[i], 0);
    for (size_t i = 0; i < COUNT(ASKING); i++)
        rc |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
                               SCMP_A1(SCMP_CMP_EQ, ASKING[i]));
    return rc;
}

/* `allowed`: by the store's list, else what is refused by the others. */
static bool load(const struct mf_syscalls_left *left, bool allowed, struct mf_error *err)
{
    scmp_filter_ctx filter = seccomp_init(allowed ? SCMP_ACT_ERRNO(ENOSYS) : SCMP_ACT_ALLOW);
    int rc = filter ? 0 : -ENOMEM;
    if (filter)
        rc = allowed ? add_listed(filter) : add_refused(filter, left);
    if (filter && rc == 0)
        rc = seccomp_load(filter);
    if (filter)
        seccomp_release(filter);
    return rc == 0 || mf_error_set(err, MF_ERR_INTERNAL,
                                   "system calls cannot be given up: seccomp takes no filter (%s)",
                                   strerror(-rc));
}

bool mf_syscalls_enter(const struct mf_syscalls_left *left, struct mf_error *err)
{
    return load(left, false, err) &&
           (!left->listed || !mf_sandbox_is_strict() || load(left, true, err));
}
