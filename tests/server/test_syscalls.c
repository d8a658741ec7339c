/* server/syscalls.c: what a process that gave up system calls can still do, and what it cannot. */
#include "tests/expect.h"
#include "tests/gates/calls.h"

#include "server/sandbox.h"
#include "server/syscalls.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

/* What a process could do, a bit each. */
enum {
    NEVER = 1,
    PROGRAM = 2,
    PROCESS = 4,
    LISTEN = 8,
    IP = 16,
    NETLINK = 32,
    OTHER = 64,
    SIGNAL = 128
};

static bool can_make(int family, int type)
{
    int fd = socket(family, type | SOCK_CLOEXEC, 0);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

/* A family of more bits than an int, of which the kernel would take the lower ones. */
static bool can_disguise(void)
{
    long fd = syscall(SYS_socket, 1L << 32 | AF_INET, SOCK_STREAM, 0);
    if (fd >= 0)
        close((int)fd);
    return fd >= 0;
}

static bool can_fork(void)
{
    int status = 0;
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    return pid > 0 && waitpid(pid, &status, 0) == pid;
}

static bool can_clone(unsigned long flags)
{
    int status = 0;
    long pid = syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0)
        _exit(0);
    return pid > 0 && waitpid((pid_t)pid, &status, 0) == pid;
}

static int powers(int unbound)
{
    int found = calls_that_pass() ? NEVER : 0;
    found |= programs_that_start() ? PROGRAM : 0;
    found |= can_fork() || can_clone(0) ? PROCESS : 0;
    found |= listen(unbound, 1) == 0 ? LISTEN : 0;
    found |=
        can_make(AF_INET, SOCK_STREAM) || can_make(AF_INET6, SOCK_DGRAM) || can_disguise() ? IP : 0;
    found |= can_make(AF_NETLINK, SOCK_RAW) ? NETLINK : 0;
    found |= can_make(AF_ALG, SOCK_SEQPACKET) || can_make(AF_VSOCK, SOCK_STREAM) ||
                     can_make(AF_PACKET, SOCK_RAW) || can_clone(CLONE_NEWUSER)
                 ? OTHER
                 : 0;
    return found | (kill(getppid(), 0) == 0 ? SIGNAL : 0);
}

static void *run_thread(void *context)
{
    *(int *)context = 1;
    return NULL;
}

/* What every process goes on doing. */
static bool lives(void)
{
    int ran = 0, pair[2];
    pthread_t thread;
    void *p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED || pthread_create(&thread, NULL, run_thread, &ran) != 0 ||
        pthread_join(thread, NULL) != 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
        return false;
    return ran == 1 && write(pair[0], "x", 1) == 1 && close(pair[0]) == 0 && close(pair[1]) == 0 &&
           munmap(p, 1 << 20) == 0 && kill(getpid(), 0) == 0 && access("/", F_OK) == 0;
}

/* In a child, whose status says what it could do afterwards; 255 = it did not get there. */
static int powers_left(const struct mf_syscalls_left *left)
{
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        struct mf_error err = MF_ERROR_INIT;
        int unbound = socket(AF_INET, SOCK_STREAM, 0);
        if (left && (!mf_syscalls_enter(left, &err) || !lives()))
            _exit(255);
        _exit(powers(unbound));
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void test_the_control(void **state)
{
    (void)state;
    const int all = NEVER | PROGRAM | PROCESS | LISTEN | IP | NETLINK | SIGNAL;
    assert_int_equal(powers_left(NULL) & all, all);
    int natural = calls_that_pass();
    assert_true(natural >= 10); /* of which a user may make fewer than root */
}

static void test_what_is_left(void **state)
{
    (void)state;
    const struct {
        struct mf_syscalls_left left;
        int powers;
    } cases[] = {
        {{.programs = true, .processes = true, .listening = true, .network = true},
         PROGRAM | PROCESS | LISTEN | IP | NETLINK | SIGNAL},
        {{.processes = true, .network = true}, PROCESS | IP | NETLINK | SIGNAL},
        {{.processes = true}, PROCESS | SIGNAL},
        {{.network = true}, IP | NETLINK},
        {{.netlink = true}, NETLINK},
        {{.programs = false}, 0},
        {{.listed = true}, 0},
    };
    if (!mf_sandbox_is_strict()) {
        printf("skipped: a sanitizer's run-time keeps most of it\n");
        return;
    }
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(powers_left(&cases[i].left), cases[i].powers);
}

/* One filter upon another: what the first took stays taken. */
static void test_they_add_up(void **state)
{
    int status = 0;
    (void)state;
    pid_t pid = fork();
    if (pid == 0) {
        struct mf_error err = MF_ERROR_INIT;
        const struct mf_syscalls_left first = {.programs = true, .processes = true},
                                      second = {.programs = true, .network = true};
        if (!mf_syscalls_enter(&first, &err) || !mf_syscalls_enter(&second, &err) || !lives())
            _exit(1);
        _exit(can_make(AF_INET, SOCK_STREAM) || listen(0, 1) == 0 || errno != EPERM);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_control),
        cmocka_unit_test(test_what_is_left),
        cmocka_unit_test(test_they_add_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
