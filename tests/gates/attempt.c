/*
 * A planted attempt, for LD_PRELOAD: on SIGUSR2 the thread that gets it tries what no process of
 * the daemon needs, and says on stderr what it could do. tests/integration/test_confine.py.
 *
 *   ATTEMPT_FILE   a file outside of everything that the configuration names
 *   ATTEMPT_PORT   of a listener on 127.0.0.1
 */
#include "calls.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static char file[512], made[520];
static int port;

static int can_open(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC, 0600);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

static int can_fork(int program)
{
    int status = 0;
    pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); /* fork() would wait for locks */
    if (pid == 0) {
        if (program)
            execl("/bin/true", "true", (char *)NULL);
        _exit(program);
    }
    return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
           WEXITSTATUS(status) == 0;
}

static int can_make_a_socket(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

static int can_listen(int binding)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int ok = binding ? bind(fd, (struct sockaddr *)&address, sizeof address) == 0
                     : listen(fd, 1) == 0; /* at a port of the kernel's choice */
    close(fd);
    return ok;
}

static int can_connect(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((unsigned short)port),
                                  .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int ok = connect(fd, (struct sockaddr *)&address, sizeof address) == 0;
    close(fd);
    return ok;
}

static void attempt(int number)
{
    char line[256];
    (void)number;
    int n = snprintf(
        line, sizeof line,
        "attempt %ld %ld read=%d write=%d program=%d process=%d bind=%d listen=%d connect=%d "
        "socket=%d signal=%d calls=%d\n",
        (long)getpid(), (long)syscall(SYS_gettid), can_open(file, O_RDONLY),
        can_open(made, O_RDWR | O_CREAT), can_fork(1) || programs_that_start(), can_fork(0),
        can_listen(1), can_listen(0), can_connect(), can_make_a_socket(), kill(getppid(), 0) == 0,
        calls_that_pass());
    if (write(2, line, (size_t)n) != n)
        abort();
}

/* In place of the C library's: a child of the supervisor resets all signals, and this one stays. */
sighandler_t signal(int number, sighandler_t handler)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART}, old;
    if (number == SIGUSR2)
        return SIG_DFL;
    return sigaction(number, &action, &old) == 0 ? old.sa_handler : SIG_ERR;
}

__attribute__((constructor)) static void plant(void)
{
    const char *path = getenv("ATTEMPT_FILE"), *number = getenv("ATTEMPT_PORT");
    struct sigaction action = {.sa_handler = attempt, .sa_flags = SA_RESTART};
    if (!path || !number)
        return;
    snprintf(file, sizeof file, "%s", path);
    snprintf(made, sizeof made, "%s.made", path);
    port = (int)strtol(number, NULL, 10);
    sigaction(SIGUSR2, &action, NULL);
}
