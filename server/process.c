/* Processes: fork, re-execution, framed messages with descriptors. See process.h. */
#include "server/process.h"

#include "core/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FIRST_PASSED_FD = 3, PASSED_FDS = 8, BACKLOG = 128 };

static void reset_signals(void)
{
    for (int s = 1; s < NSIG; s++)
        if (s != SIGKILL && s != SIGSTOP)
            signal(s, SIG_DFL);
    signal(SIGPIPE, SIG_IGN);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* False when the parent was already gone before the death signal was armed. */
static bool die_with_parent(pid_t parent)
{
    return prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == parent;
}

pid_t mf_process_fork(const char *name, int (*main)(void *context), void *context,
                      struct mf_error *err)
{
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid < 0)
        mf_error_set(err, MF_ERR_INTERNAL, "cannot start process %s: %s", name, strerror(errno));
    if (pid != 0)
        return pid;
    reset_signals();
    prctl(PR_SET_NAME, name);
    if (!die_with_parent(parent))
        _exit(1);
    int status = main(context);
    fflush(NULL);
    _exit(status);
}

bool mf_process_wait_go(int fd)
{
    char byte;
    ssize_t n;
    if (fd < 0)
        return true;
    do
        n = read(fd, &byte, 1);
    while (n < 0 && errno == EINTR);
    close(fd);
    return n == 1;
}

/* In the child between fork and exec: only async-signal-safe calls. */
static void execute(int program, char *const argv[], const int fds[], size_t fd_count, pid_t parent)
{
    int moved[PASSED_FDS];
    reset_signals();
    if (!die_with_parent(parent))
        _exit(127);
    for (size_t i = 0; i < fd_count; i++) /* out of the way of the numbers they will get */
        if ((moved[i] = fcntl(fds[i], F_DUPFD, FIRST_PASSED_FD + PASSED_FDS)) < 0)
            _exit(127);
    if ((program = fcntl(program, F_DUPFD, FIRST_PASSED_FD + PASSED_FDS)) < 0)
        _exit(127);
    for (size_t i = 0; i < fd_count; i++)
        if (dup2(moved[i], FIRST_PASSED_FD + (int)i) < 0)
            _exit(127);
    close_range(FIRST_PASSED_FD + (unsigned)fd_count, ~0U, CLOSE_RANGE_CLOEXEC);
    execveat(program, "", argv, environ, AT_EMPTY_PATH);
    _exit(127);
}

pid_t mf_process_spawn(int program, char *const argv[], const int fds[], size_t fd_count,
                       struct mf_error *err)
{
    if (fd_count > PASSED_FDS) {
        mf_error_set(err, MF_ERR_INTERNAL, "%zu descriptors for a new process", fd_count);
        return -1;
    }
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0)
        execute(program, argv, fds, fd_count, parent);
    if (pid < 0)
        mf_error_set(err, MF_ERR_INTERNAL, "cannot start process %s: %s", argv[0], strerror(errno));
    return pid;
}

const char *mf_process_end_text(int wait_status, char out[MF_PROCESS_END_TEXT])
{
    if (WIFSIGNALED(wait_status))
        snprintf(out, MF_PROCESS_END_TEXT, "signal %d (%s)", WTERMSIG(wait_status),
                 strsignal(WTERMSIG(wait_status)));
    else
        snprintf(out, MF_PROCESS_END_TEXT, "exit status %d", WEXITSTATUS(wait_status));
    return out;
}

/* The header of every message. */
struct header {
    uint32_t magic, kind, fd_count, reserved;
    uint64_t len;
};

enum { HEADER_MAGIC = 0x4D464D31 }; /* "MFM1" */

union control {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int) * MF_MESSAGE_MAX_FDS)];
};

void mf_message_init(struct mf_message *m, size_t ceiling)
{
    m->kind = 0;
    m->fd_count = 0;
    mf_buffer_init(&m->payload, ceiling);
}

void mf_message_free(struct mf_message *m)
{
    if (!m)
        return;
    for (size_t i = 0; i < m->fd_count; i++)
        close(m->fds[i]);
    m->fd_count = 0;
    mf_buffer_free(&m->payload);
}

/* Waits until the socket is ready for `events` or the deadline passes. */
static bool wait_ready(int socket, short events, uint64_t deadline_ns, struct mf_error *err)
{
    for (;;) {
        int timeout = -1;
        if (deadline_ns) {
            uint64_t now = mf_clock_monotonic_ns();
            if (now >= deadline_ns)
                return mf_error_set(err, MF_ERR_TIMEOUT, "no answer in time");
            uint64_t ms = (deadline_ns - now + 999999) / 1000000;
            timeout = ms > 3600000 ? 3600000 : (int)ms;
        }
        struct pollfd p = {.fd = socket, .events = events};
        int n = poll(&p, 1, timeout);
        if (n > 0)
            return true;
        if (n < 0 && errno != EINTR)
            return mf_error_set(err, MF_ERR_IO, "socket: %s", strerror(errno));
    }
}

static bool send_bytes(int socket, const char *data, size_t len, uint64_t deadline_ns,
                       struct mf_error *err)
{
    while (len) {
        ssize_t n = send(socket, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n >= 0) {
            data += n;
            len -= (size_t)n;
        } else if (errno == EAGAIN) {
            if (!wait_ready(socket, POLLOUT, deadline_ns, err))
                return false;
        } else if (errno != EINTR) {
            return mf_error_set(err, MF_ERR_IO, "socket: %s", strerror(errno));
        }
    }
    return true;
}

/* Sends the header and, in one call with it, the descriptors and as much of the payload as the
 * socket takes. */
static ssize_t send_first(int socket, struct header *h, const void *payload, size_t len,
                          const int *fds, size_t fd_count)
{
    union control control;
    struct iovec iov[2] = {{h, sizeof *h}, {(void *)(uintptr_t)payload, len}};
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = len ? 2 : 1};
    if (fd_count) {
        memset(&control, 0, sizeof control);
        msg.msg_control = control.bytes;
        msg.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * fd_count);
    }
    return sendmsg(socket, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
}

bool mf_message_send(int socket, uint32_t kind, const void *payload, size_t len, const int *fds,
                     size_t fd_count, uint64_t deadline_ns, struct mf_error *err)
{
    if (fd_count > MF_MESSAGE_MAX_FDS)
        return mf_error_set(err, MF_ERR_INTERNAL, "%zu descriptors in one message", fd_count);
    struct header h = {HEADER_MAGIC, kind, (uint32_t)fd_count, 0, len};
    ssize_t n;
    while ((n = send_first(socket, &h, payload, len, fds, fd_count)) < 0) {
        if (errno == EAGAIN) {
            if (!wait_ready(socket, POLLOUT, deadline_ns, err))
                return false;
        } else if (errno != EINTR) {
            return mf_error_set(err, MF_ERR_IO, "socket: %s", strerror(errno));
        }
    }
    size_t sent = (size_t)n;
    if (sent < sizeof h) {
        if (!send_bytes(socket, (char *)&h + sent, sizeof h - sent, deadline_ns, err))
            return false;
        sent = sizeof h;
    }
    sent -= sizeof h;
    return send_bytes(socket, (const char *)payload + sent, len - sent, deadline_ns, err);
}

/* Keeps the descriptors that came with a header; surplus ones cannot arrive, the buffer has no room
 * for them. */
static void keep_fds(struct msghdr *msg, struct mf_message *m)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        int fd;
        for (size_t i = 0; i < n; i++) {
            memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
            if (m->fd_count < MF_MESSAGE_MAX_FDS)
                m->fds[m->fd_count++] = fd;
            else
                close(fd);
        }
    }
}

static bool receive_bytes(int socket, char *data, size_t len, struct mf_message *m,
                          uint64_t deadline_ns, struct mf_error *err)
{
    union control control;
    while (len) {
        struct iovec iov = {data, len};
        struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
        if (m) {
            msg.msg_control = control.bytes;
            msg.msg_controllen = sizeof control.bytes;
        }
        ssize_t n = recvmsg(socket, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
        if (n > 0) {
            if (m)
                keep_fds(&msg, m);
            data += n;
            len -= (size_t)n;
        } else if (n == 0) {
            return mf_error_set(err, MF_ERR_IO, "the other end closed the connection");
        } else if (errno == EAGAIN) {
            if (!wait_ready(socket, POLLIN, deadline_ns, err))
                return false;
        } else if (errno != EINTR) {
            return mf_error_set(err, MF_ERR_IO, "socket: %s", strerror(errno));
        }
    }
    return true;
}

bool mf_message_receive(int socket, struct mf_message *m, uint64_t deadline_ns,
                        struct mf_error *err)
{
    struct header h;
    if (!receive_bytes(socket, (char *)&h, sizeof h, m, deadline_ns, err))
        return false;
    if (h.magic != HEADER_MAGIC || h.fd_count != m->fd_count)
        return mf_error_set(err, MF_ERR_MALFORMED, "not a message of this program");
    if (h.len > m->payload.ceiling)
        return mf_error_set(err, MF_ERR_TOO_LARGE, "a message of %llu bytes, at most %zu allowed",
                            (unsigned long long)h.len, m->payload.ceiling);
    m->kind = h.kind;
    char *at = mf_buffer_reserve(&m->payload, (size_t)h.len, err);
    if (!at || !receive_bytes(socket, at, (size_t)h.len, NULL, deadline_ns, err))
        return false;
    m->payload.len += (size_t)h.len;
    m->payload.data[m->payload.len] = '\0';
    return true;
}

/* --- local services --- */

int mf_process_listen(char address[MF_PROCESS_ADDRESS], struct mf_error *err)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    socklen_t len = sizeof a;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof(sa_family_t)) == 0 &&
        listen(fd, BACKLOG) == 0 && getsockname(fd, (struct sockaddr *)&a, &len) == 0) {
        int name_len = (int)(len - offsetof(struct sockaddr_un, sun_path)) - 1;
        snprintf(address, MF_PROCESS_ADDRESS, "@%.*s", name_len, a.sun_path + 1);
        return fd;
    }
    mf_error_set(err, MF_ERR_INTERNAL, "a local socket: %s", strerror(errno));
    if (fd >= 0)
        close(fd);
    return -1;
}

bool mf_process_peer_is_us(int socket)
{
    struct ucred peer;
    socklen_t size = sizeof peer;
    return getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == geteuid();
}

int mf_process_connect(const char *address, struct mf_error *err)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    size_t len = strlen(address); /* abstract: a NUL in place of the '@' */
    if (len < 2 || len > MF_PROCESS_ADDRESS || address[0] != '@') {
        mf_error_set(err, MF_ERR_INTERNAL, "\"%.60s\" is no local address", address);
        return -1;
    }
    memcpy(a.sun_path + 1, address + 1, len - 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 &&
        connect(fd, (const struct sockaddr *)&a,
                (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) == 0 &&
        mf_process_peer_is_us(fd))
        return fd;
    mf_error_set(err, MF_ERR_UNAVAILABLE, "a local service cannot be reached: %s", strerror(errno));
    if (fd >= 0)
        close(fd);
    return -1;
}
