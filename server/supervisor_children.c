/* The supervisor's children: what each kind does, and starting them. */
#include "server/supervisor_children.h"

#include "core/clock.h"
#include "core/log.h"
#include "engine/weight_store.h"
#include "server/confine.h"
#include "server/courier.h"
#include "server/decoder.h"
#include "server/dimse.h"
#include "server/front.h"
#include "server/preflight.h"
#include "server/process.h"
#include "server/query.h"
#include "server/vault.h"
#include "server/worker.h"
#include "server/worker_device.h"
#include "server/worker_report.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const NAMES[MF_CHILD_KINDS] = {"mf-store",  "mf-worker",  "mf-front",
                                                  "mf-zygote", "mf-courier", "mf-dimse",
                                                  "mf-query",  "mf-check",   "mf-note"};

enum { FIRST_PAUSE_MS = 100 };

const char *mf_child_name(enum mf_child_kind kind)
{
    return NAMES[kind];
}

/* --- what the children do: each runs in a forked child --- */

struct start {
    const struct mf_supervisor *supervisor;
    const struct mf_config *config;
    const int *weights;
    const struct mf_child *child;
    int ready_fd, go_fd;
};

static bool store_main(const struct start *start, struct mf_error *err)
{
    const struct mf_config *config = start->config;
    struct mf_error unreadable = MF_ERROR_INIT;
    MF_AUTO(mf_vault) struct mf_vault *vault = mf_vault_open(config->data.keys, &unreadable);
    if (unreadable.code != MF_OK)
        return mf_error_set(err, unreadable.code, "data.keys: %s", unreadable.msg);
    MF_AUTO(mf_mem) char *database = NULL;
    if (!mf_config_database(config, &database, err))
        return false;
    const struct mf_store_server server = {
        .directory = config->data.directory,
        .settings = {.lease_s = config->jobs.lease_s,
                     .max_crashes = config->jobs.max_crashes,
                     .max_losses = config->jobs.max_losses,
                     .retention_s = config->jobs.retention_s,
                     .audit_retention_s = config->audit.retention_s,
                     .destinations = config->outbox.destinations,
                     .shares = config->jobs.shares,
                     .vault = vault,
                     .database = database,
                     .fresh_start = start->child->starts == 1},
        .listen_fd = start->supervisor->store_fd,
        .stop_fd = -1,
        .ready_fd = start->ready_fd};
    return mf_confine(config, MF_CONFINED_STORE, err) && mf_store_server_run(&server, err);
}

/* Cores are divided among the workers unless the configuration says how many threads each has. */
static unsigned worker_threads(const struct mf_config *config)
{
    cpu_set_t cores;
    unsigned workers = (unsigned)config->worker.count;
    if (config->worker.threads || workers <= 1 || sched_getaffinity(0, sizeof cores, &cores) != 0)
        return (unsigned)config->worker.threads;
    unsigned share = (unsigned)CPU_COUNT(&cores) / workers;
    return share ? share : 1;
}

static bool worker_main(const struct start *start, struct mf_error *err)
{
    const struct mf_child *child = start->child;
    const struct mf_supervisor *s = start->supervisor;
    const bool told = s->options->what == MF_SUPERVISE_WORKER && child->gauges;
    char device[MF_WORKER_DEVICE], name[MF_WORKER_NAME];
    if (told)
        mf_worker_name((size_t)(child->gauges - s->gauges), name);
    const struct mf_worker_options options = {
        .config = start->config,
        .device = mf_worker_device(start->config->worker.device, child->number, device),
        .threads = worker_threads(start->config),
        .weights = start->weights,
        .go_fd = start->go_fd,
        .decoder_address = mf_zygote_address(start->supervisor->zygote),
        .id = child->id,
        .predecessor = child->unreported[0] ? child->unreported : NULL,
        .predecessor_end = child->unreported_end,
        .gauges = child->gauges,
        .name = told ? name : NULL,
        .ready_fd = start->ready_fd};
    return mf_worker_run(&options, err);
}

/* NULL: it does not run. */
static const char *query_address(const struct mf_supervisor *s)
{
    return s->query_fd >= 0 ? s->query_address : NULL;
}

static bool front_main(const struct start *start, struct mf_error *err)
{
    const struct mf_front_options options = {
        .config = start->config,
        .listen_fd = start->supervisor->listen_fd,
        .gauges = start->supervisor->gauges,
        .ups_gauges = start->supervisor->ups_gauges,
        .ready_fd = start->ready_fd,
        .generation =
            start->supervisor->reload.generation + (start->child->standing == MF_CHILD_NEXT),
        .go_fd = start->go_fd,
        .query_address = query_address(start->supervisor),
        .decoder_address = mf_zygote_address(start->supervisor->zygote)};
    return mf_front_run(&options, err);
}

static bool courier_main(const struct start *start, struct mf_error *err)
{
    const struct mf_courier_options options = {.config = start->config,
                                               .ready_fd = start->ready_fd,
                                               .query_address = query_address(start->supervisor),
                                               .ups_gauges = start->supervisor->ups_gauges,
                                               .decoder_address =
                                                   mf_zygote_address(start->supervisor->zygote)};
    return mf_courier_run(&options, err);
}

static bool dimse_main(const struct start *start, struct mf_error *err)
{
    const struct mf_dimse_options options = {.config = start->config,
                                             .listen_fd = start->supervisor->dimse_fd,
                                             .ready_fd = start->ready_fd,
                                             .decoder_address =
                                                 mf_zygote_address(start->supervisor->zygote)};
    return mf_dimse_run(&options, err);
}

static bool query_main(const struct start *start, struct mf_error *err)
{
    const struct mf_query_options options = {.config = start->config,
                                             .listen_fd = start->supervisor->query_fd,
                                             .ready_fd = start->ready_fd};
    return mf_query_run(&options, err);
}

static bool check_main(const struct start *start, struct mf_error *err)
{
    if (!start->supervisor->options->check(start->config, err))
        return false;
    ssize_t told = write(start->ready_fd, "r", 1);
    (void)told; /* a supervisor that is gone takes us with it */
    close(start->ready_fd);
    return true;
}

static bool note_main(const struct start *start, struct mf_error *err)
{
    const struct mf_reload_status *reload = &start->supervisor->reload;
    close(start->ready_fd);
    return mf_preflight_note(start->config,
                             reload->state == MF_RELOAD_SUCCEEDED ? NULL : reload->reason, err);
}

static void close_fd(int fd)
{
    if (fd >= 0)
        close(fd);
}

static void close_weights(const struct mf_generation *g)
{
    for (size_t i = 0; g->weights && i < g->config->models.directories.count; i++)
        if (g->weights[i] > 0)
            close(g->weights[i]);
}

/* What a child of this kind does not need. */
static void close_inherited(const struct start *start)
{
    const struct mf_supervisor *s = start->supervisor;
    enum mf_child_kind kind = start->child->kind;
    close(s->signals);
    if (kind != MF_CHILD_FRONT)
        close_fd(s->listen_fd);
    if (kind != MF_CHILD_DIMSE)
        close_fd(s->dimse_fd);
    if (kind != MF_CHILD_QUERY)
        close_fd(s->query_fd);
    if (kind != MF_CHILD_STORE)
        close_fd(s->store_fd);
    close_fd(s->control_fd);
    close_fd(s->lock_fd); /* the lock is the supervisor's alone */
    for (size_t i = 0; i < s->count; i++)
        close_fd(s->children[i].go_fd);
    if (s->next.config && (kind != MF_CHILD_WORKER || start->weights != s->next.weights))
        close_weights(&s->next);
    if (kind != MF_CHILD_WORKER || start->weights != s->current.weights)
        close_weights(&s->current);
}

/* Why a child ends; heard only if it never became ready. */
static void tell_failure(int fd, const struct mf_error *err)
{
    char text[1 + sizeof err->msg];
    mf_log(MF_LOG_ERROR, "process.failed", MF_LOG_S("reason", err->msg));
    int n = snprintf(text, sizeof text, "%c%s", MF_CHILD_FAILED, err->msg);
    ssize_t told = fd >= 0 ? write(fd, text, (size_t)n) : 0;
    (void)told; /* nobody listens any more */
}

/* The store confines itself, when it has read its keys and where its database is, and the zygote,
 * which is a program of its own; what a reload runs for a moment has what the supervisor has. */
static bool confine(const struct start *start, struct mf_error *err)
{
    switch (start->child->kind) {
    case MF_CHILD_FRONT:
        return mf_confine(start->config, MF_CONFINED_FRONT, err);
    case MF_CHILD_WORKER:
        return mf_confine(start->config, MF_CONFINED_WORKER, err);
    case MF_CHILD_COURIER:
        return mf_confine(start->config, MF_CONFINED_COURIER, err);
    case MF_CHILD_DIMSE:
    case MF_CHILD_QUERY:
        return mf_confine(start->config, MF_CONFINED_FORKING, err);
    default:
        return true;
    }
}

static int child_main(void *context)
{
    static bool (*const MAINS[MF_CHILD_KINDS])(const struct start *, struct mf_error *) = {
        [MF_CHILD_STORE] = store_main, [MF_CHILD_WORKER] = worker_main,
        [MF_CHILD_FRONT] = front_main, [MF_CHILD_COURIER] = courier_main,
        [MF_CHILD_DIMSE] = dimse_main, [MF_CHILD_QUERY] = query_main,
        [MF_CHILD_CHECK] = check_main, [MF_CHILD_NOTE] = note_main,
    };
    const struct start *start = context;
    struct mf_error err = MF_ERROR_INIT;
    enum mf_log_level level = MF_LOG_INFO;
    signal(SIGHUP, SIG_IGN); /* the supervisor's to understand */
    mf_log_level_parse(start->config->log.level, &level);
    mf_log_setup(level, NAMES[start->child->kind] + strlen("mf-"));
    close_inherited(start);
    int why = fcntl(start->ready_fd, F_DUPFD_CLOEXEC, 0);
    bool ok = confine(start, &err) && MAINS[start->child->kind](start, &err);
    if (!ok)
        tell_failure(why, &err);
    return ok ? 0 : 1;
}

/* --- starting --- */

static void new_worker_id(struct mf_child *c)
{
    char id[MF_JOB_ID];
    mf_job_id_new(id);
    snprintf(c->id, sizeof c->id, "worker-%s", id);
}

static bool start_zygote(struct mf_supervisor *s, struct mf_child *c, struct mf_error *err)
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

/* The pipes of a child: what it says when it is ready, and for one that comes beside another of its
 * kind, what lets it loose. */
static bool open_pipes(const struct mf_child *c, int ready[2], int go[2], struct mf_error *err)
{
    bool waits = c->standing == MF_CHILD_NEXT;
    go[0] = go[1] = -1;
    if (pipe2(ready, O_CLOEXEC) != 0)
        return mf_error_set(err, MF_ERR_INTERNAL, "%s: %s", NAMES[c->kind], strerror(errno));
    if (!waits || pipe2(go, O_CLOEXEC) == 0)
        return true;
    mf_error_set(err, MF_ERR_INTERNAL, "%s: %s", NAMES[c->kind], strerror(errno));
    close(ready[0]);
    close(ready[1]);
    return false;
}

static bool start_forked(struct mf_supervisor *s, struct mf_child *c, struct mf_error *err)
{
    int ready[2], go[2];
    const struct mf_generation *g =
        c->standing == MF_CHILD_NEXT && s->next.config ? &s->next : &s->current;
    if (!open_pipes(c, ready, go, err))
        return false;
    if (c->kind == MF_CHILD_WORKER)
        new_worker_id(c);
    struct start start = {.supervisor = s,
                          .config = g->config,
                          .weights = g->weights,
                          .child = c,
                          .ready_fd = ready[1],
                          .go_fd = go[0]};
    c->go_fd = go[1];
    c->pid = mf_process_fork(NAMES[c->kind], child_main, &start, err);
    close(ready[1]);
    close_fd(go[0]);
    if (c->pid < 0) {
        close(ready[0]);
        close_fd(go[1]);
        c->go_fd = -1;
        c->pid = 0;
        return false;
    }
    c->ready_fd = ready[0];
    return true;
}

bool mf_child_start(struct mf_supervisor *s, struct mf_child *c, struct mf_error *err)
{
    c->started_ns = mf_clock_monotonic_ns();
    c->starts++;
    bool ok = c->kind == MF_CHILD_ZYGOTE ? start_zygote(s, c, err) : start_forked(s, c, err);
    if (ok && c->starts > 1 && !c->renewed)
        mf_log(MF_LOG_WARN, "process.restarted", MF_LOG_S("name", NAMES[c->kind]),
               MF_LOG_I("pid", c->pid));
    c->renewed = false;
    return ok;
}

struct mf_child *mf_child_add(struct mf_supervisor *s, enum mf_child_kind kind,
                              enum mf_child_standing standing, struct mf_error *err)
{
    if (s->count == MF_MAX_CHILDREN) {
        mf_error_set(err, MF_ERR_BUSY, "too many processes of earlier reloads have not ended yet");
        return NULL;
    }
    size_t number = 0;
    for (size_t i = 0; i < s->count; i++)
        number += s->children[i].kind == kind && s->children[i].standing == standing;
    struct mf_child *c = &s->children[s->count++];
    *c = (struct mf_child){.kind = kind,
                           .standing = standing,
                           .number = number,
                           .ready_fd = -1,
                           .go_fd = -1,
                           .pause_ms = FIRST_PAUSE_MS};
    if (kind == MF_CHILD_WORKER)
        c->gauges = mf_worker_gauges_take(s->gauges);
    return c;
}

void mf_children_tidy(struct mf_supervisor *s)
{
    size_t kept = 0;
    for (size_t i = 0; i < s->count; i++) {
        struct mf_child *c = &s->children[i];
        bool over = c->standing != MF_CHILD_CURRENT && c->pid == 0 && c->ready_fd < 0;
        if (over) {
            close_fd(c->go_fd);
            mf_worker_gauges_leave(c->gauges);
        } else {
            s->children[kept++] = *c;
        }
    }
    s->count = kept;
}

static bool meant(const struct mf_child *c, unsigned kinds, int standing)
{
    return c->pid && (kinds >> c->kind & 1) && (standing < 0 || (int)c->standing == standing);
}

void mf_children_signal(const struct mf_supervisor *s, unsigned kinds, int standing,
                        int signal_number)
{
    for (size_t i = 0; i < s->count; i++)
        if (meant(&s->children[i], kinds, standing))
            kill(s->children[i].pid, signal_number);
}

bool mf_children_any(const struct mf_supervisor *s, unsigned kinds, int standing)
{
    for (size_t i = 0; i < s->count; i++)
        if (meant(&s->children[i], kinds, standing))
            return true;
    return false;
}

/* --- generations --- */

bool mf_generation_open(struct mf_generation *g, struct mf_error *err)
{
    size_t count = g->config->models.directories.count;
    g->weights = calloc(count + 1, sizeof *g->weights);
    for (size_t i = 0; g->weights && i < count; i++) {
        int fd = mf_weight_store_create();
        g->weights[i] = fd > 0 ? fd : 0;
    }
    return g->weights || mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
}

void mf_generation_close(struct mf_generation *g)
{
    close_weights(g);
    free(g->weights);
    mf_config_free(g->owned);
    *g = (struct mf_generation){.config = NULL};
}
