/*
 * DIMSE: accepting, limits, children. Over a limit the peer gets an A-ASSOCIATE-RJ (transient,
 * local limit exceeded; PS3.8 9.3.4) and tries again later.
 */
#include "server/dimse.h"

#include "core/clock.h"
#include "core/log.h"
#include "server/process.h"
#include "server/signals.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_CHILDREN = 256, ADDRESS = 64, MAX_MEMORY = 512 << 20 };

static const uint64_t SECOND = 1000000000;

struct child {
    pid_t pid;
    char address[ADDRESS];
};

struct dimse {
    const struct mf_dimse_options *options;
    const struct mf_config *config;
    int signals;
    struct child children[MAX_CHILDREN];
    size_t count;
    uint64_t minute_ns; /* when the minute began in which … */
    int64_t accepted;   /* … so many were accepted */
};

/* --- limits --- */

static size_t from_address(const struct dimse *d, const char *address)
{
    size_t n = 0;
    for (size_t i = 0; i < d->count; i++)
        n += strcmp(d->children[i].address, address) == 0;
    return n;
}

/* The limit that one more association would pass; NULL = none. */
static const char *over_limit(struct dimse *d, const char *address)
{
    uint64_t now = mf_clock_monotonic_ns();
    if (now - d->minute_ns >= 60 * SECOND) {
        d->minute_ns = now;
        d->accepted = 0;
    }
    if (d->count >= (size_t)d->config->dimse.max_associations || d->count == MAX_CHILDREN)
        return "dimse.max_associations";
    if (from_address(d, address) >= (size_t)d->config->dimse.max_associations_per_ip)
        return "dimse.max_associations_per_ip";
    if (d->accepted >= d->config->dimse.max_per_minute)
        return "dimse.max_per_minute";
    return NULL;
}

static void reject(int fd)
{
    static const unsigned char pdu[] = {3, 0, 0, 0, 0, 4, 0, 2, 3, 2};
    ssize_t ignored = send(fd, pdu, sizeof pdu, MSG_NOSIGNAL | MSG_DONTWAIT);
    (void)ignored; /* a peer that is gone needs no answer */
    shutdown(fd, SHUT_WR);
}

/* --- children --- */

struct start {
    const struct dimse *d;
    int socket;
};

static int association_main(void *context)
{
    const struct start *start = context;
    const struct rlimit memory = {MAX_MEMORY, MAX_MEMORY};
    struct mf_error err = MF_ERROR_INIT;
    close(start->d->options->listen_fd);
    close(start->d->signals);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    setrlimit(RLIMIT_AS, &memory); /* the parser of commands has no other bound */
#else
    (void)memory;
#endif
    return mf_dimse_association_run(start->d->options, start->socket, &err) ? 0 : 1;
}

static bool peer_address(int fd, char out[ADDRESS])
{
    struct sockaddr_storage address = {.ss_family = AF_UNSPEC};
    socklen_t len = sizeof address;
    return getpeername(fd, (struct sockaddr *)&address, &len) == 0 &&
           getnameinfo((const struct sockaddr *)&address, len, out, ADDRESS, NULL, 0,
                       NI_NUMERICHOST) == 0;
}

static void accept_one(struct dimse *d)
{
    char address[ADDRESS] = "";
    struct mf_error err = MF_ERROR_INIT;
    int fd = accept4(d->options->listen_fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0)
        return;
    const char *limit = peer_address(fd, address) ? over_limit(d, address) : "address";
    if (limit) {
        mf_log(MF_LOG_WARN, "dimse.rejected", MF_LOG_S("limit", limit));
        reject(fd);
        close(fd);
        return;
    }
    struct start start = {d, fd};
    pid_t pid = mf_process_fork("mf-assoc", association_main, &start, &err);
    close(fd);
    if (pid < 0) {
        mf_log(MF_LOG_ERROR, "dimse.fork_failed", MF_LOG_S("reason", err.msg));
        return;
    }
    struct child *c = &d->children[d->count++];
    c->pid = pid;
    memcpy(c->address, address, sizeof c->address);
    d->accepted++;
}

static void reap(struct dimse *d)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        for (size_t i = 0; i < d->count; i++)
            if (d->children[i].pid == pid)
                d->children[i] = d->children[--d->count];
        if (WIFSIGNALED(status)) {
            char text[MF_PROCESS_END_TEXT];
            mf_log(MF_LOG_WARN, "dimse.association_died",
                   MF_LOG_S("end", mf_process_end_text(status, text)));
        }
    }
}

/* --- the loop --- */

/* True when it is time to stop. */
static bool take_signals(struct dimse *d)
{
    struct signalfd_siginfo info;
    bool stop = false;
    while (read(d->signals, &info, sizeof info) == (ssize_t)sizeof info)
        stop = stop || info.ssi_signo != SIGCHLD;
    reap(d);
    return stop;
}

static void drain(struct dimse *d)
{
    uint64_t until = mf_clock_monotonic_ns() + (uint64_t)d->config->http.drain_timeout_s * SECOND;
    for (uint64_t now = 0; d->count > 0 && (now = mf_clock_monotonic_ns()) < until;) {
        struct pollfd p = {.fd = d->signals, .events = POLLIN};
        if (poll(&p, 1, (int)((until - now) / 1000000 + 1)) > 0)
            (void)take_signals(d);
    }
    for (size_t i = 0; i < d->count; i++)
        kill(d->children[i].pid, SIGKILL);
}

bool mf_dimse_run(const struct mf_dimse_options *options, struct mf_error *err)
{
    struct dimse d = {.options = options, .config = options->config};
    d.signals = mf_signals_open(true);
    if (d.signals < 0)
        return mf_error_set(err, MF_ERR_IO, "signals: %s", strerror(errno));
    if (options->ready_fd >= 0) {
        ssize_t ignored = write(options->ready_fd, "1", 1);
        (void)ignored; /* whoever waited is gone */
        close(options->ready_fd);
    }
    for (bool stop = false; !stop;) {
        struct pollfd p[2] = {{.fd = d.signals, .events = POLLIN},
                              {.fd = options->listen_fd, .events = POLLIN}};
        if (poll(p, 2, -1) < 0 && errno != EINTR)
            return mf_error_set(err, MF_ERR_IO, "poll: %s", strerror(errno));
        if (p[0].revents)
            stop = take_signals(&d);
        if (p[1].revents && !stop)
            accept_one(&d);
    }
    drain(&d);
    close(d.signals);
    return true;
}
