/* Supervisor: see supervisor.h. One poll loop over signals, questions and the children's ready
 * pipes. */
#include "server/supervisor.h"

#include "core/clock.h"
#include "core/log.h"
#include "server/access.h"
#include "server/confine.h"
#include "server/decoder.h"
#include "server/fetch_source.h"
#include "server/front.h"
#include "server/process.h"
#include "server/supervisor_children.h"
#include "server/tls.h"
#include "server/ups_gauges.h"
#include "server/worker_device.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    YOUNG_S = 10, /* a process that lived longer starts again at once */
    FIRST_PAUSE_MS = 100,
    LAST_PAUSE_MS = 10000,
    GRACE_S = 5
};

static const uint64_t MS = 1000000;

/* --- starting --- */

/* A second daemon in the same directory would take the store's address from the first. */
static int lock_directory(const char *directory, struct mf_error *err)
{
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
        return fd;
    if (fd >= 0 && errno == EWOULDBLOCK)
        mf_error_set(err, MF_ERR_CONFLICT, "data.directory: another daemon works in %s", directory);
    else
        mf_error_set(err, MF_ERR_IO, "data.directory: %s: %s", directory, strerror(errno));
    if (fd >= 0)
        close(fd);
    return -1;
}

static bool open_dimse(struct mf_supervisor *s, struct mf_error *err)
{
    char url[sizeof s->url];
    const char *where = s->current.config->dimse.listen;
    if (strcmp(where, "off") == 0)
        return true;
    s->dimse_fd = mf_listen("dimse.listen", "dicom", where, url, sizeof url, err);
    if (s->dimse_fd >= 0)
        mf_log(MF_LOG_INFO, "dimse.listening", MF_LOG_S("address", url + strlen("dicom://")),
               MF_LOG_S("ae_title", s->current.config->dimse.ae_title));
    return s->dimse_fd >= 0;
}

static bool open_query(struct mf_supervisor *s, struct mf_error *err)
{
    return !mf_fetch_sources_need_query(s->current.config) ||
           (s->query_fd = mf_process_listen(s->query_address, err)) >= 0;
}

/* A worker with a database of many hosts brings its own store process, unless a daemon has one. */
static bool open_store(struct mf_supervisor *s, struct mf_error *err)
{
    struct mf_error taken = MF_ERROR_INIT;
    const char *directory = s->current.config->data.directory;
    if (!mf_config_has_database(s->current.config))
        return true;
    if (mkdir(directory, 0700) != 0 && errno != EEXIST)
        return mf_error_set(err, MF_ERR_IO, "data.directory: %s: %s", directory, strerror(errno));
    s->lock_fd = lock_directory(directory, &taken);
    if (s->lock_fd < 0)
        return taken.code == MF_ERR_CONFLICT || mf_error_set(err, taken.code, "%s", taken.msg);
    s->store_fd = mf_store_listen(directory, err);
    return s->store_fd >= 0;
}

static bool open_sockets(struct mf_supervisor *s, struct mf_error *err)
{
    const struct mf_config *config = s->current.config;
    const char *directory = config->data.directory;
    const char *scheme = mf_tls_wanted(config) ? "https" : "http";
    return (s->listen_fd = mf_listen("http.listen", scheme, config->http.listen, s->url,
                                     sizeof s->url, err)) >= 0 &&
           mf_access_check_listen(config, mf_listens_on_loopback(s->listen_fd), err) &&
           open_dimse(s, err) && open_query(s, err) &&
           (s->lock_fd = lock_directory(directory, err)) >= 0 &&
           (s->store_fd = mf_store_listen(directory, err)) >= 0 &&
           (s->control_fd = mf_control_listen(directory, err)) >= 0;
}

static bool add(struct mf_supervisor *s, enum mf_child_kind kind, struct mf_error *err)
{
    return mf_child_add(s, kind, MF_CHILD_CURRENT, err) != NULL;
}

static bool add_all(struct mf_supervisor *s, struct mf_error *err)
{
    bool all = s->options->what == MF_SUPERVISE_ALL;
    if (!add(s, MF_CHILD_ZYGOTE, err) /* first: the others need its address */ ||
        (s->store_fd >= 0 && !add(s, MF_CHILD_STORE, err)))
        return false;
    for (int64_t i = 0; i < s->current.config->worker.count; i++)
        if (!add(s, MF_CHILD_WORKER, err))
            return false;
    return !all || (add(s, MF_CHILD_FRONT, err) && add(s, MF_CHILD_COURIER, err) &&
                    (s->dimse_fd < 0 || add(s, MF_CHILD_DIMSE, err)) &&
                    (s->query_fd < 0 || add(s, MF_CHILD_QUERY, err)));
}

static bool start_all(struct mf_supervisor *s, struct mf_error *err)
{
    if (!mf_generation_open(&s->current, err) ||
        !(s->options->what == MF_SUPERVISE_ALL ? open_sockets(s, err) : open_store(s, err)) ||
        !add_all(s, err))
        return false;
    for (size_t i = 0; i < s->count; i++)
        if (!mf_child_start(s, &s->children[i], err))
            return false;
    return true;
}

/* --- becoming ready, dying, starting again --- */

static void announce_when_ready(struct mf_supervisor *s)
{
    for (size_t i = 0; i < s->count; i++)
        if (!s->children[i].was_ready)
            return;
    if (s->announced)
        return;
    s->announced = true;
    mf_log(MF_LOG_INFO, "daemon.ready", MF_LOG_S("url", s->url));
    if (s->options->what == MF_SUPERVISE_ALL) {
        printf("medfusion is ready at %s\n", s->url);
        fflush(stdout);
    }
}

/* What a child says: that it is ready, or why it cannot be. */
static void take_ready(struct mf_supervisor *s, struct mf_child *c)
{
    char text[1 + sizeof s->failure.msg] = "";
    ssize_t n = read(c->ready_fd, text, sizeof text - 1);
    close(c->ready_fd);
    c->ready_fd = -1;
    bool failed = n > 0 && text[0] == MF_CHILD_FAILED;
    if (n > 0 && !failed) {
        c->was_ready = true;
        c->unreported[0] = '\0'; /* a worker reports its predecessor before it is ready */
        announce_when_ready(s);
    }
    if (n > 0 && c->standing == MF_CHILD_NEXT)
        mf_reload_take(s, c, !failed, text + 1);
    /* else it died: SIGCHLD says how */
}

/* Whose fault a worker's end is, for the jobs it had in hand. */
static enum mf_attempt_end judge_end(int status)
{
    bool outside =
        WIFSIGNALED(status) && (WTERMSIG(status) == SIGKILL || WTERMSIG(status) == SIGTERM);
    return WIFSIGNALED(status) && !outside ? MF_END_CRASHED : MF_END_LOST;
}

static void begin_stop(struct mf_supervisor *s);

static void plan_restart(struct mf_supervisor *s, struct mf_child *c, int status)
{
    char text[MF_PROCESS_END_TEXT];
    mf_process_end_text(status, text);
    uint64_t now = mf_clock_monotonic_ns();
    mf_log(MF_LOG_ERROR, "process.died", MF_LOG_S("name", mf_child_name(c->kind)),
           MF_LOG_S("end", text));
    if (!c->was_ready && WIFEXITED(status)) {
        mf_error_set(&s->failure, MF_ERR_UNAVAILABLE, "%s cannot start, its reason is above (%s)",
                     mf_child_name(c->kind), text);
        begin_stop(s);
        return;
    }
    if (now - c->started_ns > YOUNG_S * 1000 * MS)
        c->pause_ms = 0;
    /* Killed from outside after it had been ready: no loop of its own making, no growing pauses. */
    if (c->was_ready && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL &&
        c->pause_ms > FIRST_PAUSE_MS)
        c->pause_ms = FIRST_PAUSE_MS;
    c->restart_ns = now + (c->starts == 1 ? 0 : c->pause_ms * MS);
    c->pause_ms = c->pause_ms ? c->pause_ms * 2 : FIRST_PAUSE_MS;
    if (c->pause_ms > LAST_PAUSE_MS)
        c->pause_ms = LAST_PAUSE_MS;
}

static void take_death(struct mf_supervisor *s, struct mf_child *c, int status)
{
    char text[MF_PROCESS_END_TEXT];
    if (c->ready_fd >= 0)
        take_ready(s, c); /* it may have become ready and died between two looks */
    c->pid = 0;
    mf_process_end_text(status, text);
    if (c->standing == MF_CHILD_NEXT) {
        mf_reload_take(s, c, false, text);
    } else if (c->standing == MF_CHILD_RETIRED) {
        if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL)
            mf_log(MF_LOG_ERROR, "process.died", MF_LOG_S("name", mf_child_name(c->kind)),
                   MF_LOG_S("end", text));
    } else if (c->renewed && WIFEXITED(status)) {
        c->restart_ns = 0;
    } else {
        if (c->kind == MF_CHILD_WORKER && !c->unreported[0]) {
            memcpy(c->unreported, c->id, sizeof c->unreported);
            c->unreported_end = judge_end(status);
        }
        if (!s->stopping)
            plan_restart(s, c, status);
    }
}

static void take_signals(struct mf_supervisor *s)
{
    struct signalfd_siginfo info;
    int status;
    pid_t pid;
    while (read(s->signals, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGHUP && !mf_reload_begin(s))
            mf_log(MF_LOG_WARN, "reload.refused", MF_LOG_S("reason", "one is under way"));
        else if (info.ssi_signo != SIGCHLD && info.ssi_signo != SIGHUP)
            begin_stop(s);
    }
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        for (size_t i = 0; i < s->count; i++)
            if (s->children[i].pid == pid)
                take_death(s, &s->children[i], status);
}

static void take_questions(struct mf_supervisor *s)
{
    struct mf_control_question question;
    while (mf_control_take(s->control_fd, &question)) {
        bool refused = question.what == MF_CONTROL_RELOAD && !mf_reload_begin(s);
        struct mf_reload_status status = s->reload;
        status.refused = refused;
        mf_control_answer(s->control_fd, &question, &status);
    }
}

static void restart_due(struct mf_supervisor *s)
{
    uint64_t now = mf_clock_monotonic_ns();
    for (size_t i = 0; i < s->count && !s->stopping; i++) {
        struct mf_child *c = &s->children[i];
        struct mf_error err = MF_ERROR_INIT;
        if (c->standing != MF_CHILD_CURRENT || c->pid || now < c->restart_ns ||
            mf_child_start(s, c, &err))
            continue;
        mf_log(MF_LOG_ERROR, "process.start_failed", MF_LOG_S("reason", err.msg));
        c->restart_ns = now + LAST_PAUSE_MS * MS;
    }
}

/* --- stopping --- */

static const unsigned USERS = 1u << MF_CHILD_FRONT | 1u << MF_CHILD_WORKER |
                              1u << MF_CHILD_COURIER | 1u << MF_CHILD_DIMSE |
                              1u << MF_CHILD_QUERY; /* of the rest */

static const unsigned STORE = 1u << MF_CHILD_STORE;

static void begin_stop(struct mf_supervisor *s)
{
    if (s->stopping)
        return;
    if (s->count) /* else nothing was started: the error says all */
        mf_log(MF_LOG_INFO, "daemon.stopping",
               MF_LOG_I("drain_s", s->current.config->http.drain_timeout_s));
    s->stopping = true;
    mf_reload_abandon(s);
    s->kill_ns = mf_clock_monotonic_ns() +
                 (uint64_t)(s->current.config->http.drain_timeout_s + GRACE_S) * 1000 * MS;
    mf_children_signal(s, USERS, -1, SIGTERM);
    if (!mf_children_any(s, USERS, -1))
        mf_children_signal(s, STORE, -1, SIGTERM);
}

/* True when everything but the zygote has ended. */
static bool stop_step(struct mf_supervisor *s)
{
    if (mf_clock_monotonic_ns() >= s->kill_ns)
        mf_children_signal(s, USERS | STORE, -1, SIGKILL);
    if (!mf_children_any(s, USERS, -1))
        mf_children_signal(s, STORE, -1, SIGTERM); /* again does no harm */
    return !mf_children_any(s, USERS | STORE, -1);
}

/* --- the loop --- */

static int wait_ms(const struct mf_supervisor *s)
{
    uint64_t now = mf_clock_monotonic_ns(), until = UINT64_MAX;
    if (s->stopping)
        until = s->kill_ns > now ? s->kill_ns : now + 100 * MS;
    for (size_t i = 0; i < s->count && !s->stopping; i++)
        if (!s->children[i].pid && s->children[i].standing == MF_CHILD_CURRENT &&
            s->children[i].restart_ns < until)
            until = s->children[i].restart_ns;
    if (s->next.config && s->reload_until_ns < until)
        until = s->reload_until_ns;
    if (until == UINT64_MAX)
        return -1;
    return until <= now ? 0 : (int)((until - now + MS - 1) / MS);
}

static void wait_for_events(struct mf_supervisor *s)
{
    struct pollfd p[2 + MF_MAX_CHILDREN];
    size_t n = s->count;
    p[0] = (struct pollfd){.fd = s->signals, .events = POLLIN};
    p[1] = (struct pollfd){.fd = s->control_fd, .events = POLLIN};
    for (size_t i = 0; i < n; i++)
        p[2 + i] = (struct pollfd){.fd = s->children[i].ready_fd, .events = POLLIN};
    if (poll(p, 2 + n, wait_ms(s)) <= 0)
        return;
    for (size_t i = 0; i < n; i++) /* more may be added meanwhile, none goes */
        if (p[2 + i].revents && s->children[i].ready_fd >= 0)
            take_ready(s, &s->children[i]);
    if (p[0].revents)
        take_signals(s);
    if (p[1].revents)
        take_questions(s);
}

static int open_signals(struct mf_error *err)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    signal(SIGPIPE, SIG_IGN);
    int fd = sigprocmask(SIG_BLOCK, &set, NULL) == 0
                 ? signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK)
                 : -1;
    if (fd < 0)
        mf_error_set(err, MF_ERR_INTERNAL, "signals: %s", strerror(errno));
    return fd;
}

/* What every process inherits: a core file would hold patient data and keys, and no program that is
 * started may gain rights. */
static bool give_up_rights(struct mf_error *err)
{
    const struct rlimit none = {0, 0};
    return (setrlimit(RLIMIT_CORE, &none) == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0) ||
           mf_error_set(err, MF_ERR_INTERNAL, "core files cannot be turned off: %s",
                        strerror(errno));
}

static void close_sockets(const struct mf_supervisor *s)
{
    const int fds[] = {s->listen_fd, s->dimse_fd,   s->query_fd,
                       s->store_fd,  s->control_fd, s->lock_fd};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

bool mf_supervisor_run(const struct mf_supervisor_options *options, struct mf_error *err)
{
    struct mf_supervisor s = {.options = options,
                              .current = {.config = options->config},
                              .listen_fd = -1,
                              .dimse_fd = -1,
                              .store_fd = -1,
                              .query_fd = -1,
                              .control_fd = -1,
                              .lock_fd = -1};
    enum mf_log_level level = MF_LOG_INFO;
    mf_log_level_parse(options->config->log.level, &level);
    mf_log_setup(level, "supervisor");
    if (!mf_worker_devices_check(options->config->worker.device,
                                 (size_t)options->config->worker.count, err) ||
        !give_up_rights(err) || !mf_confine(options->config, MF_CONFINED_SUPERVISOR, err) ||
        (s.signals = open_signals(err)) < 0 || !(s.gauges = mf_worker_gauges_new(err)) ||
        !(s.ups_gauges = mf_ups_gauges_new(err)))
        return false;
    if (!start_all(&s, &s.failure))
        begin_stop(&s);
    while (!s.stopping || !stop_step(&s)) {
        wait_for_events(&s);
        restart_due(&s);
        mf_reload_step(&s);
        mf_children_tidy(&s);
    }
    mf_zygote_stop(s.zygote);
    close_sockets(&s);
    mf_generation_close(&s.current);
    close(s.signals);
    if (s.count)
        mf_log(MF_LOG_INFO, "daemon.stopped");
    return s.failure.code == MF_OK || mf_error_set(err, s.failure.code, "%s", s.failure.msg);
}
