/*
 * System calls that no process of the daemon needs, with arguments that do no harm: where nothing
 * stands in the way they succeed without doing anything, or fail with an error of their arguments.
 */
#ifndef MF_TESTS_GATES_CALLS_H
#define MF_TESTS_GATES_CALLS_H

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { DETACH = 17, NONSENSE = -1, NEITHER = 3 /* of the clocks' two flags */ };

/* How many of them go through. EPERM and ENOSYS are what a filter says, or a kernel that does not
 * have it or gives it to root alone. */
static int calls_that_pass(void)
{
    const long self = (long)getpid(), bad = NONSENSE;
    const long calls[][6] = {
        {SYS_ptrace, DETACH, self, 0, 0},
        {SYS_process_vm_readv, self, 0, 0, 0, 0},
        {SYS_process_vm_writev, self, 0, 0, 0, 0},
        {SYS_personality, 0xffffffff},
        {SYS_kcmp, self, self, 0, bad, bad},
        {SYS_pidfd_getfd, bad, bad, 0},
        {SYS_perf_event_open, 0, 0, bad, bad, 0},
        {SYS_mount, 0, 0, 0, 0, 0},
        {SYS_umount2, 0, bad},
        {SYS_setns, bad, 0},
        {SYS_unshare, 1},
        {SYS_pivot_root, 0, 0},
        {SYS_chroot, 0},
        {SYS_mknodat, bad, 0, 0, 0},
        {SYS_open_by_handle_at, bad, 0, bad},
        {SYS_fanotify_init, bad, bad},
        {SYS_bpf, bad, 0, 0},
        {SYS_userfaultfd, bad},
        {SYS_io_uring_setup, 0, 0},
        {SYS_io_uring_enter, bad, 0, 0, bad, 0},
        {SYS_add_key, 0, 0, 0, 0, 0},
        {SYS_request_key, 0, 0, 0, 0},
        {SYS_keyctl, bad, 0, 0, 0, 0},
        {SYS_clock_settime, NEITHER, 0},
        {SYS_settimeofday, 1, 0},
        {SYS_adjtimex, 0},
        {SYS_kexec_load, 0, 0, 0, bad},
        {SYS_init_module, 0, 0, 0},
        {SYS_finit_module, bad, 0, bad},
        {SYS_delete_module, 0, bad},
        {SYS_reboot, 0, 0, 0, 0},
        {SYS_swapon, 0, bad},
        {SYS_swapoff, 0},
        {SYS_sethostname, 0, bad},
        {SYS_setuid, (long)getuid()},
        {SYS_setresuid, bad, bad, bad},
        {SYS_setresgid, bad, bad, bad},
        {SYS_setgroups, bad, 0},
        {SYS_capset, 0, 0},
        {SYS_clone3, 0, 0},
    };
    int passed = 0;
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        const long *c = calls[i];
        passed +=
            syscall(c[0], c[1], c[2], c[3], c[4], c[5]) >= 0 || (errno != EPERM && errno != ENOSYS);
    }
    return passed;
}

/* To start a program: of no name, so none is. */
static int programs_that_start(void)
{
    int passed = syscall(SYS_execve, 0, 0, 0) >= 0 || (errno != EPERM && errno != ENOSYS);
    return passed + (syscall(SYS_execveat, NONSENSE, 0, 0, 0, 0) >= 0 ||
                     (errno != EPERM && errno != ENOSYS));
}

#endif
