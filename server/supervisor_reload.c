/*
 * Reload: every process but the store and the decoders' zygote is replaced by one that has read the
 * configuration, and what it names, anew.
 *
 *   check    a child looks whether the new configuration can be served (preflight.h)
 *   load     new workers load their models and a new front opens its files, beside the old ones
 *   switch   old workers finish what they have in hand, the new ones begin; then the new front
 *            accepts, the old one answers who is connected to it and ends; the others follow
 *
 * Nothing has changed until all of the new ones are ready: whatever goes wrong before ends them,
 * and the old ones go on.
 */
#include "server/supervisor_children.h"

#include "core/clock.h"
#include "core/log.h"
#include "server/access.h"
#include "server/fetch_source.h"
#include "server/front.h"
#include "server/worker_device.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const uint64_t PATIENCE_NS = UINT64_C(900) * 1000000000;

/* --- the end --- */

/* A child writes to the audit trail what became of it: the supervisor waits for nobody. */
static void note(struct mf_supervisor *s)
{
    struct mf_error err = MF_ERROR_INIT;
    struct mf_child *c = mf_child_add(s, MF_CHILD_NOTE, MF_CHILD_RETIRED, &err);
    if (!c || !mf_child_start(s, c, &err))
        mf_log(MF_LOG_ERROR, "reload.not_noted", MF_LOG_S("reason", err.msg));
}

static void end(struct mf_supervisor *s, enum mf_reload_state state, const char *reason)
{
    struct mf_reload_status *r = &s->reload;
    r->state = state;
    r->ended_ms = mf_clock_wall_ms();
    snprintf(r->reason, sizeof r->reason, "%s", reason);
    bool ok = state == MF_RELOAD_SUCCEEDED;
    mf_log(ok ? MF_LOG_INFO : MF_LOG_ERROR, ok ? "reload.succeeded" : "reload.failed",
           MF_LOG_I("number", r->number), MF_LOG_I("ms", r->ended_ms - r->started_ms),
           MF_LOG_S("reason", reason));
}

static void fail(struct mf_supervisor *s, const char *reason)
{
    for (size_t i = 0; i < s->count; i++) {
        struct mf_child *c = &s->children[i];
        if (c->standing != MF_CHILD_NEXT)
            continue;
        c->standing = MF_CHILD_RETIRED;
        if (c->pid)
            kill(c->pid, SIGKILL); /* it has not been let loose: nobody relies on it */
    }
    end(s, MF_RELOAD_FAILED, reason);
    mf_generation_close(&s->next);
    if (!s->stopping)
        note(s);
}

/* --- the switch --- */

static void let_loose(struct mf_child *c)
{
    ssize_t told = write(c->go_fd, "g", 1);
    (void)told; /* it died meanwhile: SIGCHLD says so, and it is started again */
    close(c->go_fd);
    c->go_fd = -1;
}

/* Those of this kind that work retire; those that wait begin. */
static void replace(struct mf_supervisor *s, enum mf_child_kind kind, int signal_number)
{
    for (size_t i = 0; i < s->count; i++) {
        struct mf_child *c = &s->children[i];
        if (c->kind != kind || c->standing != MF_CHILD_CURRENT)
            continue;
        c->standing = MF_CHILD_RETIRED;
        if (c->pid)
            kill(c->pid, signal_number);
    }
    for (size_t i = 0; i < s->count; i++) {
        struct mf_child *c = &s->children[i];
        if (c->kind != kind || c->standing != MF_CHILD_NEXT)
            continue;
        c->standing = MF_CHILD_CURRENT;
        let_loose(c);
    }
}

/* Associations go on in the old process; the new one accepts from now on. */
static void replace_dimse(struct mf_supervisor *s)
{
    struct mf_error err = MF_ERROR_INIT;
    if (s->dimse_fd < 0)
        return;
    mf_children_signal(s, 1u << MF_CHILD_DIMSE, MF_CHILD_CURRENT, SIGTERM);
    for (size_t i = 0; i < s->count; i++)
        if (s->children[i].kind == MF_CHILD_DIMSE)
            s->children[i].standing = MF_CHILD_RETIRED;
    struct mf_child *c = mf_child_add(s, MF_CHILD_DIMSE, MF_CHILD_CURRENT, &err);
    if (!c || !mf_child_start(s, c, &err))
        mf_log(MF_LOG_ERROR, "process.start_failed", MF_LOG_S("reason", err.msg));
}

/* There is one courier at a time, and one that queries: the next one starts when this one has
 * ended.
 */
static void renew(struct mf_supervisor *s)
{
    for (size_t i = 0; i < s->count; i++) {
        struct mf_child *c = &s->children[i];
        if (c->kind != MF_CHILD_COURIER && c->kind != MF_CHILD_QUERY)
            continue;
        c->renewed = true;
        if (c->pid)
            kill(c->pid, SIGTERM);
    }
}

static void take_over(struct mf_supervisor *s)
{
    enum mf_log_level level = MF_LOG_INFO;
    replace(s, MF_CHILD_WORKER, SIGTERM);
    replace(s, MF_CHILD_FRONT, SIGUSR1);
    mf_generation_close(&s->current);
    s->current = s->next;
    s->next = (struct mf_generation){.config = NULL};
    mf_log_level_parse(s->current.config->log.level, &level);
    mf_log_setup(level, "supervisor");
    replace_dimse(s);
    renew(s);
    s->reload.generation++;
    end(s, MF_RELOAD_SUCCEEDED, "");
    note(s);
}

/* --- the way there --- */

static bool may_follow(const struct mf_supervisor *s, struct mf_error *err)
{
    const struct mf_config *wanted = s->next.config;
    if (!mf_config_check_reload(s->current.config, wanted, err) ||
        !mf_worker_devices_check(wanted->worker.device, (size_t)wanted->worker.count, err) ||
        (s->listen_fd >= 0 &&
         !mf_access_check_listen(wanted, mf_listens_on_loopback(s->listen_fd), err)))
        return false;
    return s->query_fd >= 0 || !mf_fetch_sources_need_query(wanted) ||
           mf_error_set(err, MF_ERR_USAGE,
                        "fetch.sources: the first source by DIMSE needs the daemon to start again");
}

static bool start_next(struct mf_supervisor *s, enum mf_child_kind kind, struct mf_error *err)
{
    struct mf_child *c = mf_child_add(s, kind, MF_CHILD_NEXT, err);
    return c && mf_child_start(s, c, err);
}

static bool load(struct mf_supervisor *s, struct mf_error *err)
{
    for (int64_t i = 0; i < s->next.config->worker.count; i++)
        if (!start_next(s, MF_CHILD_WORKER, err))
            return false;
    return s->options->what != MF_SUPERVISE_ALL || start_next(s, MF_CHILD_FRONT, err);
}

static bool all_ready(const struct mf_supervisor *s)
{
    for (size_t i = 0; i < s->count; i++)
        if (s->children[i].standing == MF_CHILD_NEXT && !s->children[i].was_ready)
            return false;
    return true;
}

bool mf_reload_begin(struct mf_supervisor *s)
{
    const struct mf_supervisor_options *o = s->options;
    struct mf_error err = MF_ERROR_INIT;
    if (s->next.config || s->stopping || !s->announced)
        return false;
    s->reload = (struct mf_reload_status){.state = MF_RELOAD_RUNNING,
                                          .number = s->reload.number + 1,
                                          .generation = s->reload.generation,
                                          .started_ms = mf_clock_wall_ms()};
    s->reload_until_ns = mf_clock_monotonic_ns() + PATIENCE_NS;
    mf_log(MF_LOG_INFO, "reload.began", MF_LOG_I("number", s->reload.number));
    s->next.config = s->next.owned = o->read(o->context, &err);
    if (!s->next.config) {
        end(s, MF_RELOAD_FAILED, err.msg);
        note(s);
    } else if (!may_follow(s, &err) || !mf_generation_open(&s->next, &err) ||
               !start_next(s, MF_CHILD_CHECK, &err)) {
        fail(s, err.msg);
    }
    return true;
}

void mf_reload_take(struct mf_supervisor *s, struct mf_child *c, bool ready, const char *reason)
{
    struct mf_error err = MF_ERROR_INIT;
    if (!ready) {
        fail(s, reason);
    } else if (c->kind == MF_CHILD_CHECK) {
        c->standing = MF_CHILD_RETIRED;
        if (!load(s, &err))
            fail(s, err.msg);
    } else if (all_ready(s)) {
        take_over(s);
    }
}

void mf_reload_step(struct mf_supervisor *s)
{
    if (s->next.config && mf_clock_monotonic_ns() >= s->reload_until_ns)
        fail(s, "the new processes did not become ready in time");
}

void mf_reload_abandon(struct mf_supervisor *s)
{
    if (s->next.config)
        fail(s, "the daemon was stopped");
}
