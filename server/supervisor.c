/* Supervisor: see supervisor.h. One poll loop over signals and the children's ready pipes. */
#include "server/supervisor.h"

#include "core/clock.h"
#include "core/log.h"
#include "engine/weight_store.h"
#include "server/access.h"
#include "server/courier.h"
#include "server/decoder.h"
#include "server/dimse.h"
#include "server/front.h"
#include "server/landlock.h"
#include "server/process.h"
#include "server/store.h"
#include "server/tls.h"
#include "server/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

enum kind { STORE, WORKER, FRONT, ZYGOTE, COURIER, DIMSE, KINDS };

static const char *const NAMES[KINDS] = {"mf-store",  "mf-worker",  "mf-front",
                                         "mf-zygote", "mf-courier", "mf-dimse"};

enum {
    MAX_WORKERS = 16, /* worker.count */
    MAX_CHILDREN = MAX_WORKERS + 5,
    YOUNG_S = 10, /* a process that lived longer starts again at once */
    FIRST_PAUSE_MS = 100,
    LAST_PAUSE_MS = 10000,
    GRACE_S = 5
};

static const uint64_t MS = 1000000;

struct child {
    enum kind kind;
    pid_t pid;                       /* 0: not running */
    int ready_fd;                    /* −1: ready, or not running */
    bool was_ready;                  /* ever */
    uint64_t started_ns, restart_ns; /* restart_ns: when to start it, while it is not running */
    unsigned pause_ms;               /* of the next restart */
    unsigned starts;
    char id[MF_WORKER_ID];         /* of a worker */
    char unreported[MF_WORKER_ID]; /* a worker whose end the store was not told; "" = none */
    enum mf_attempt_end unreported_end;
};

struct supervisor {
    const struct mf_config *config;
    enum mf_supervise what;
    struct mf_zygote *zygote;
    int listen_fd, dimse_fd, store_fd, lock_fd;
    int *weights; /* a memory file a bundle, for the workers; 0 = none */
    char url[128];
    int signals;
    struct child children[MAX_CHILDREN];
    size_t count;
    bool announced;
    bool stopping;
    uint64_t kill_ns;        /* while stopping: when patience ends */
    struct mf_error failure; /* why a process could never become ready */
};

/* --- what the children do --- */

/* Runs in a forked child. */
struct start {
    const struct supervisor *supervisor;
    const struct child *child;
    int ready_fd;
};

static bool store_main(const struct start *start, struct mf_error *err)
{
    const struct supervisor *s = start->supervisor;
    const struct mf_store_server server = {
        .directory = s->config->data.directory,
        .settings = {.lease_s = s->config->jobs.lease_s,
                     .max_crashes = s->config->jobs.max_crashes,
                     .max_losses = s->config->jobs.max_losses,
                     .retention_s = s->config->jobs.retention_s,
                     .audit_retention_s = s->config->audit.retention_s,
                     .destinations = s->config->outbox.destinations,
                     .fresh_start = start->child->starts == 1},
        .listen_fd = s->store_fd,
        .stop_fd = -1,
        .ready_fd = start->ready_fd};
    /* SQLite seeds its random numbers from there */
    const char *const directory[] = {s->config->data.directory}, *const random[] = {"/dev/urandom"};
    return mf_landlock_enter(directory, 1, random, 1, err) && mf_store_server_run(&server, err);
}

/* Cores are divided among the workers unless the configuration says how many threads each has. */
static unsigned worker_threads(const struct mf_config *config)
{
    cpu_set_t cores;
    unsigned workers = (unsigned)config->worker.count;
    if (config->worker.threads || workers == 1 || sched_getaffinity(0, sizeof cores, &cores) != 0)
        return (unsigned)config->worker.threads;
    unsigned share = (unsigned)CPU_COUNT(&cores) / workers;
    return share ? share : 1;
}

static bool worker_main(const struct start *start, struct mf_error *err)
{
    const struct supervisor *s = start->supervisor;
    const struct child *child = start->child;
    const char *device = s->config->worker.device;
    const struct mf_worker_options options = {.config = s->config,
                                              .device = strcmp(device, "auto") == 0 ? NULL : device,
                                              .threads = worker_threads(s->config),
                                              .weights = s->weights,
                                              .decoder_address = mf_zygote_address(s->zygote),
                                              .id = child->id,
                                              .predecessor =
                                                  child->unreported[0] ? child->unreported : NULL,
                                              .predecessor_end = child->unreported_end,
                                              .ready_fd = start->ready_fd};
    return mf_worker_run(&options, err);
}

static bool front_main(const struct start *start, struct mf_error *err)
{
    const struct supervisor *s = start->supervisor;
    const struct mf_front_options options = {.config = s->config,
                                             .listen_fd = s->listen_fd,
                                             .ready_fd = start->ready_fd,
                                             .decoder_address = mf_zygote_address(s->zygote)};
    return mf_front_run(&options, err);
}

static bool courier_main(const struct start *start, struct mf_error *err)
{
    const struct supervisor *s = start->supervisor;
    const struct mf_courier_options options = {.config = s->config,
                                               .ready_fd = start->ready_fd,
                                               .decoder_address = mf_zygote_address(s->zygote)};
    return mf_courier_run(&options, err);
}

static bool dimse_main(const struct start *start, struct mf_error *err)
{
    const struct supervisor *s = start->supervisor;
    const struct mf_dimse_options options = {.config = s->config,
                                             .listen_fd = s->dimse_fd,
                                             .ready_fd = start->ready_fd,
                                             .decoder_address = mf_zygote_address(s->zygote)};
    return mf_dimse_run(&options, err);
}

static void close_weights(const struct supervisor *s)
{
    for (size_t i = 0; s->weights && i < s->config->models.directories.count; i++)
        if (s->weights[i] > 0)
            close(s->weights[i]);
}

static int child_main(void *context)
{
    const struct start *start = context;
    const enum kind kind = start->child->kind;
    struct mf_error err = MF_ERROR_INIT;
    enum mf_log_level level = MF_LOG_INFO;
    mf_log_level_parse(start->supervisor->config->log.level, &level);
    mf_log_setup(level, NAMES[kind] + strlen("mf-"));
    close(start->supervisor->signals);
    if (kind != FRONT && start->supervisor->listen_fd >= 0)
        close(start->supervisor->listen_fd);
    if (kind != DIMSE && start->supervisor->dimse_fd >= 0)
        close(start->supervisor->dimse_fd);
    if (kind != STORE && start->supervisor->store_fd >= 0)
        close(start->supervisor->store_fd);
    if (start->supervisor->lock_fd >= 0)
        close(start->supervisor->lock_fd); /* the lock is the supervisor's alone */
    if (kind != WORKER)
        close_weights(start->supervisor);
    bool ok = kind == STORE     ? store_main(start, &err)
              : kind == WORKER  ? worker_main(start, &err)
              : kind == COURIER ? courier_main(start, &err)
              : kind == DIMSE   ? dimse_main(start, &err)
                                : front_main(start, &err);
    if (!ok)
        mf_log(MF_LOG_ERROR, "process.failed", MF_LOG_S("reason", err.msg));
    return ok ? 0 : 1;
}

/* --- starting --- */

static void new_worker_id(struct child *c)
{
    char id[MF_JOB_ID];
    mf_job_id_new(id);
    snprintf(c->id, sizeof c->id, "worker-%s", id);
}

static bool start_zygote(struct supervisor *s, struct child *c, struct mf_error *err)
{
    if (s->zygote) {
        if (!mf_zygote_restart(s->zygote, err))
            return false;
    } else if (!(s->zygote = mf_zygote_start(err))) {
        return false;
    }
    c->pid = mf_zygote_pid(s->zygote);
    c->was_ready = true;
    return true;
}

static bool start_forked(struct supervisor *s, struct child *c, struct mf_error *err)
{
    int ready[2];
    if (pipe2(ready, O_CLOEXEC) != 0)
        return mf_error_set(err, MF_ERR_INTERNAL, "%s: %s", NAMES[c->kind], strerror(errno));
    if (c->kind == WORKER)
        new_worker_id(c);
    struct start start = {s, c, ready[1]};
    c->pid = mf_process_fork(NAMES[c->kind], child_main, &start, err);
    close(ready[1]);
    if (c->pid < 0) {
        close(ready[0]);
        c->pid = 0;
        return false;
    }
    c->ready_fd = ready[0];
    return true;
}

static bool start_child(struct supervisor *s, struct child *c, struct mf_error *err)
{
    c->started_ns = mf_clock_monotonic_ns();
    c->starts++;
    bool ok = c->kind == ZYGOTE ? start_zygote(s, c, err) : start_forked(s, c, err);
    if (ok && c->starts > 1)
        mf_log(MF_LOG_WARN, "process.restarted", MF_LOG_S("name", NAMES[c->kind]),
               MF_LOG_I("pid", c->pid));
    return ok;
}

static void add_child(struct supervisor *s, enum kind kind)
{
    s->children[s->count++] =
        (struct child){.kind = kind, .ready_fd = -1, .pause_ms = FIRST_PAUSE_MS};
}

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

static bool open_dimse(struct supervisor *s, struct mf_error *err)
{
    char url[sizeof s->url];
    const char *where = s->config->dimse.listen;
    if (strcmp(where, "off") == 0)
        return true;
    s->dimse_fd = mf_listen("dimse.listen", "dicom", where, url, sizeof url, err);
    if (s->dimse_fd >= 0)
        mf_log(MF_LOG_INFO, "dimse.listening", MF_LOG_S("address", url + strlen("dicom://")),
               MF_LOG_S("ae_title", s->config->dimse.ae_title));
    return s->dimse_fd >= 0;
}

static bool open_sockets(struct supervisor *s, struct mf_error *err)
{
    const char *directory = s->config->data.directory;
    const char *scheme = mf_tls_wanted(s->config) ? "https" : "http";
    return (s->listen_fd = mf_listen("http.listen", scheme, s->config->http.listen, s->url,
                                     sizeof s->url, err)) >= 0 &&
           mf_access_check_listen(s->config, mf_listens_on_loopback(s->listen_fd), err) &&
           open_dimse(s, err) && (s->lock_fd = lock_directory(directory, err)) >= 0 &&
           (s->store_fd = mf_store_listen(directory, err)) >= 0;
}

/* Where workers on the CPU pack weights once for all of them, and for those that come after one
 * that died. */
static bool open_weights(struct supervisor *s, struct mf_error *err)
{
    size_t count = s->config->models.directories.count;
    s->weights = calloc(count + 1, sizeof *s->weights);
    for (size_t i = 0; s->weights && i < count; i++) {
        int fd = mf_weight_store_create();
        s->weights[i] = fd > 0 ? fd : 0;
    }
    return s->weights || mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
}

static bool start_all(struct supervisor *s, struct mf_error *err)
{
    if (!open_weights(s, err))
        return false;
    if (s->what == MF_SUPERVISE_ALL && !open_sockets(s, err))
        return false;
    add_child(s, ZYGOTE); /* first: the others need its address */
    if (s->what == MF_SUPERVISE_ALL)
        add_child(s, STORE);
    for (long long i = 0; i < s->config->worker.count; i++)
        add_child(s, WORKER);
    if (s->what == MF_SUPERVISE_ALL) {
        add_child(s, FRONT);
        add_child(s, COURIER);
        if (s->dimse_fd >= 0)
            add_child(s, DIMSE);
    }
    for (size_t i = 0; i < s->count; i++)
        if (!start_child(s, &s->children[i], err))
            return false;
    return true;
}

/* --- becoming ready, dying, starting again --- */

static void announce_when_ready(struct supervisor *s)
{
    for (size_t i = 0; i < s->count; i++)
        if (!s->children[i].was_ready)
            return;
    if (s->announced)
        return;
    s->announced = true;
    mf_log(MF_LOG_INFO, "daemon.ready", MF_LOG_S("url", s->url));
    if (s->what == MF_SUPERVISE_ALL) {
        printf("medfusion is ready at %s\n", s->url);
        fflush(stdout);
    }
}

static void take_ready(struct supervisor *s, struct child *c)
{
    char byte;
    bool ready = read(c->ready_fd, &byte, 1) == 1;
    close(c->ready_fd);
    c->ready_fd = -1;
    if (!ready)
        return; /* it died: SIGCHLD says how */
    c->was_ready = true;
    c->unreported[0] = '\0'; /* a worker reports its predecessor before it is ready */
    announce_when_ready(s);
}

/* Whose fault a worker's end is, for the jobs it had in hand. */
static enum mf_attempt_end judge_end(int status)
{
    bool outside =
        WIFSIGNALED(status) && (WTERMSIG(status) == SIGKILL || WTERMSIG(status) == SIGTERM);
    return WIFSIGNALED(status) && !outside ? MF_END_CRASHED : MF_END_LOST;
}

static void begin_stop(struct supervisor *s);

static void plan_restart(struct supervisor *s, struct child *c, int status)
{
    char text[MF_PROCESS_END_TEXT];
    mf_process_end_text(status, text);
    uint64_t now = mf_clock_monotonic_ns();
    mf_log(MF_LOG_ERROR, "process.died", MF_LOG_S("name", NAMES[c->kind]), MF_LOG_S("end", text));
    if (!c->was_ready && WIFEXITED(status)) {
        mf_error_set(&s->failure, MF_ERR_UNAVAILABLE, "%s cannot start, its reason is above (%s)",
                     NAMES[c->kind], text);
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

static void take_death(struct supervisor *s, struct child *c, int status)
{
    if (c->ready_fd >= 0)
        take_ready(s, c); /* it may have become ready and died between two looks */
    c->pid = 0;
    if (c->kind == WORKER && !c->unreported[0]) {
        memcpy(c->unreported, c->id, sizeof c->unreported);
        c->unreported_end = judge_end(status);
    }
    if (!s->stopping)
        plan_restart(s, c, status);
}

static void take_signals(struct supervisor *s)
{
    struct signalfd_siginfo info;
    int status;
    pid_t pid;
    while (read(s->signals, &info, sizeof info) == (ssize_t)sizeof info)
        if (info.ssi_signo != SIGCHLD)
            begin_stop(s);
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        for (size_t i = 0; i < s->count; i++)
            if (s->children[i].pid == pid)
                take_death(s, &s->children[i], status);
}

static void restart_due(struct supervisor *s)
{
    uint64_t now = mf_clock_monotonic_ns();
    for (size_t i = 0; i < s->count && !s->stopping; i++) {
        struct child *c = &s->children[i];
        struct mf_error err = MF_ERROR_INIT;
        if (c->pid || now < c->restart_ns || start_child(s, c, &err))
            continue;
        mf_log(MF_LOG_ERROR, "process.start_failed", MF_LOG_S("reason", err.msg));
        c->restart_ns = now + LAST_PAUSE_MS * MS;
    }
}

/* --- stopping --- */

static void signal_children(struct supervisor *s, unsigned kinds, int signal_number)
{
    for (size_t i = 0; i < s->count; i++)
        if (s->children[i].pid && (kinds >> s->children[i].kind & 1))
            kill(s->children[i].pid, signal_number);
}

static bool any_running(const struct supervisor *s, unsigned kinds)
{
    for (size_t i = 0; i < s->count; i++)
        if (s->children[i].pid && (kinds >> s->children[i].kind & 1))
            return true;
    return false;
}

static const unsigned USERS =
    1u << FRONT | 1u << WORKER | 1u << COURIER | 1u << DIMSE; /* of the store and the decoders */

static void begin_stop(struct supervisor *s)
{
    if (s->stopping)
        return;
    if (s->count) /* else nothing was started: the error says all */
        mf_log(MF_LOG_INFO, "daemon.stopping",
               MF_LOG_I("drain_s", s->config->http.drain_timeout_s));
    s->stopping = true;
    s->kill_ns =
        mf_clock_monotonic_ns() + (uint64_t)(s->config->http.drain_timeout_s + GRACE_S) * 1000 * MS;
    signal_children(s, USERS, SIGTERM);
    if (!any_running(s, USERS))
        signal_children(s, 1u << STORE, SIGTERM);
}

/* True when everything but the zygote has ended. */
static bool stop_step(struct supervisor *s)
{
    if (mf_clock_monotonic_ns() >= s->kill_ns)
        signal_children(s, USERS | 1u << STORE, SIGKILL);
    if (!any_running(s, USERS))
        signal_children(s, 1u << STORE, SIGTERM); /* again does no harm */
    return !any_running(s, USERS | 1u << STORE);
}

/* --- the loop --- */

static int wait_ms(const struct supervisor *s)
{
    uint64_t now = mf_clock_monotonic_ns(), until = UINT64_MAX;
    if (s->stopping)
        until = s->kill_ns > now ? s->kill_ns : now + 100 * MS;
    for (size_t i = 0; i < s->count && !s->stopping; i++)
        if (!s->children[i].pid && s->children[i].restart_ns < until)
            until = s->children[i].restart_ns;
    if (until == UINT64_MAX)
        return -1;
    return until <= now ? 0 : (int)((until - now + MS - 1) / MS);
}

static void wait_for_events(struct supervisor *s)
{
    struct pollfd p[1 + MAX_CHILDREN];
    p[0] = (struct pollfd){.fd = s->signals, .events = POLLIN};
    for (size_t i = 0; i < s->count; i++)
        p[1 + i] = (struct pollfd){.fd = s->children[i].ready_fd, .events = POLLIN};
    if (poll(p, 1 + s->count, wait_ms(s)) <= 0)
        return;
    for (size_t i = 0; i < s->count; i++)
        if (p[1 + i].revents && s->children[i].ready_fd >= 0)
            take_ready(s, &s->children[i]);
    if (p[0].revents)
        take_signals(s);
}

static int open_signals(struct mf_error *err)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
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

bool mf_supervisor_run(const struct mf_config *config, enum mf_supervise what, struct mf_error *err)
{
    struct supervisor s = {.config = config,
                           .what = what,
                           .listen_fd = -1,
                           .dimse_fd = -1,
                           .store_fd = -1,
                           .lock_fd = -1};
    enum mf_log_level level = MF_LOG_INFO;
    mf_log_level_parse(config->log.level, &level);
    mf_log_setup(level, "supervisor");
    if (!give_up_rights(err) || (s.signals = open_signals(err)) < 0)
        return false;
    if (!start_all(&s, &s.failure))
        begin_stop(&s);
    while (!s.stopping || !stop_step(&s)) {
        wait_for_events(&s);
        restart_due(&s);
    }
    mf_zygote_stop(s.zygote);
    const int fds[] = {s.listen_fd, s.dimse_fd, s.store_fd, s.lock_fd};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    close_weights(&s);
    free(s.weights);
    close(s.signals);
    if (s.count)
        mf_log(MF_LOG_INFO, "daemon.stopped");
    return s.failure.code == MF_OK || mf_error_set(err, s.failure.code, "%s", s.failure.msg);
}
