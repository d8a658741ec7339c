/*
 * Store server: the loop of the process that owns the database, or speaks to it for its host.
 *
 * One thread. Each turn takes every request that has arrived, carries them out in one transaction,
 * lets waiting claims share it, commits once, and only then answers: so a submit and the claim that
 * was waiting for it cost one fsync together, and load makes groups larger instead of waits longer.
 * Claims alone are answered before the commit, so that a worker begins while the disk writes:
 * should the commit fail, the claim has never happened, and its fence or state refuses what the
 * worker says of it (store.h). Claims and waits with nothing to answer stay in their connection's
 * input (parked) until a later turn can answer them or their time is over.
 *
 * With a database that others share, a group may fail for reasons that are nobody's fault here (the
 * database was restarted, a deadlock, two hosts with one key): then the connections whose requests
 * were in it are closed, and the clients, who may repeat every verb, ask again. For a while groups
 * are single requests, so that one that can never succeed fails alone. While there is no database,
 * requests wait for it for HOLD_MS, and are then told so; workers wait on.
 */
#include "server/store_server.h"

#include "server/signals.h"
#include "server/store_connection.h"

#include "core/clock.h"
#include "core/log.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum {
    EVENTS = 64,
    IDLE_MS = 2000, /* without requests for so long: checkpoint */
    EXPIRE_EVERY_MS = 3600 * 1000,
    EXPIRE_BATCH = 200,
    HOLD_MS = 3000,
    START_MS = 30000,
    SINGLE_TURNS = 64 /* after a group that failed */
};

struct server {
    struct mf_sql_store *s;
    struct mf_store_connections all;
    int signals;
    const struct mf_store_server *options;
    uint64_t park_counter;
    uint64_t next_expiry_ns; /* of jobs past their retention */
    bool busy;               /* something was written since the last checkpoint */
    uint64_t lost_ns;        /* since when there is no database; 0 = there is one */
    unsigned singly;         /* turns that still take one request each */
    bool full;               /* this turn has taken its one request */
};

/* --- requests --- */

/* Answers the frame at the head of the input, or parks it. */
static void serve_head(struct server *v, struct mf_store_connection *c,
                       const struct mf_wire_header *header, bool final)
{
    int wait_ms = 0;
    c->reply = c->answered ? c->reply : c->out.len;
    int passed = c->came;
    enum mf_served served = mf_store_serve(v->s, header->kind, c->in.data + sizeof *header,
                                           (size_t)header->len, final, &c->out, &passed, &wait_ms);
    mf_store_connection_close_passed(&c->came);
    mf_store_connection_close_passed(&c->goes);
    c->goes = passed;
    if (served == MF_SERVED_LATER) {
        if (!c->parked) {
            c->park_deadline_ns =
                wait_ms < 0 ? UINT64_MAX : mf_clock_monotonic_ns() + (uint64_t)wait_ms * 1000000;
            c->park_order = ++v->park_counter;
        }
        c->parked = true;
        return;
    }
    c->parked = false;
    v->full = v->singly > 0;
    c->claimed = !c->answered && header->kind == MF_VERB_CLAIM;
    c->answered = true;
    mf_store_connection_consume(c, header);
}

/* Takes all whole frames of one connection. While one is parked only an interrupt is expected
 * behind it. */
static void serve_input(struct server *v, struct mf_store_connection *c)
{
    struct mf_wire_header header = {0}, next = {0};
    while (!v->full && mf_store_connection_peek(c, 0, &header)) {
        if (c->closed && header.kind == MF_VERB_CLAIM) /* nobody is left to run it */
            return;
        if (header.kind == MF_VERB_INTERRUPT) { /* came after its request had been answered */
            mf_store_connection_consume(c, &header);
            continue;
        }
        if (!c->parked) {
            serve_head(v, c, &header, false);
            if (!c->parked)
                continue;
        }
        if (!mf_store_connection_peek(c, sizeof header + (size_t)header.len, &next))
            return;
        serve_head(v, c, &header, true);
    }
}

static struct mf_store_connection *next_parked(struct server *v, uint32_t verb, uint64_t after)
{
    struct mf_store_connection *best = NULL;
    for (struct mf_store_connection *c = v->all.first; c; c = c->next) {
        struct mf_wire_header header = {0};
        if (c->parked && !c->closed && c->park_order > after &&
            mf_store_connection_peek(c, 0, &header) && header.kind == verb &&
            (!best || c->park_order < best->park_order))
            best = c;
    }
    return best;
}

static void serve_waits(struct server *v, bool changed)
{
    struct mf_wire_header header = {0};
    for (struct mf_store_connection *c = v->all.first; c; c = c->next) {
        if (!c->parked || c->closed || !mf_store_connection_peek(c, 0, &header))
            continue;
        if (header.kind == MF_VERB_CHANGES
                ? changed
                : header.kind == MF_VERB_WAIT_FOR_JOBS &&
                      (v->s->missed || mf_store_wait_concerned(v->s, c->in.data + sizeof header,
                                                               (size_t)header.len)))
            serve_head(v, c, &header, false);
    }
}

/* Lets the parked requests see what this turn changed: claims in the order they came, then waits.
 * `before`: how many changes there were when the turn began. */
static void serve_parked(struct server *v, uint64_t before)
{
    struct mf_wire_header header = {0};
    struct mf_store_connection *c = NULL;
    for (uint64_t after = 0; v->s->work_changed; after = c->park_order) {
        c = next_parked(v, MF_VERB_CLAIM, after);
        if (!c)
            break;
        mf_store_connection_peek(c, 0, &header);
        serve_head(v, c, &header, false);
    }
    serve_waits(v, v->s->heard || v->s->missed || v->s->changes != before);
}

static void serve_overdue(struct server *v, uint64_t now)
{
    struct mf_wire_header header = {0};
    for (struct mf_store_connection *c = v->all.first; c; c = c->next)
        if (c->parked && !c->closed && c->park_deadline_ns <= now &&
            mf_store_connection_peek(c, 0, &header))
            serve_head(v, c, &header, true);
}

/* --- a turn --- */

/* Answers claims ahead of the commit. They are no longer among what a failed commit refuses. */
static void send_claims(struct server *v)
{
    for (struct mf_store_connection *c = v->all.first; c; c = c->next) {
        if (!c->answered || !c->claimed)
            continue;
        mf_store_connection_send(&v->all, c);
        c->answered = false;
    }
}

/* Replaces what this turn would have answered: nothing of it is durable. */
static void refuse_all(struct server *v, const struct mf_error *reason)
{
    for (struct mf_store_connection *c = v->all.first; c; c = c->next) {
        if (!c->answered)
            continue;
        c->out.len = c->reply;
        struct mf_wire_writer w = {&c->out, false};
        size_t begin = mf_wire_begin(&w, MF_REPLY_ERROR);
        mf_wire_put(&w, reason, sizeof *reason);
        mf_wire_end(&w, begin);
    }
}

/* Lets those whose requests were in a group that never happened ask again. */
static void break_answered(struct server *v)
{
    for (struct mf_store_connection *c = v->all.first; c; c = c->next)
        c->closed = c->closed || c->answered;
    v->singly = SINGLE_TURNS;
}

/* A worker's request: it is better off waiting, its result is worth more than an answer. */
static bool is_patient(uint32_t verb)
{
    return verb == MF_VERB_CLAIM || verb == MF_VERB_HEARTBEAT || verb == MF_VERB_FINISH ||
           verb == MF_VERB_RELEASE || verb == MF_VERB_WORKER_GONE || verb == MF_VERB_ANNOUNCE;
}

/* There is no database: after HOLD_MS requests are told so. The code is that of an answer which
 * never came: what was asked before, over a connection that broke, may have been committed. */
static void hold(struct server *v, const struct mf_error *reason)
{
    struct mf_wire_header header = {0};
    struct mf_error told = MF_ERROR_INIT;
    uint64_t now = mf_clock_monotonic_ns();
    mf_error_set(&told, MF_ERR_IO, "%s", reason->msg);
    if (v->lost_ns == 0)
        v->lost_ns = now;
    if (now - v->lost_ns < HOLD_MS * UINT64_C(1000000))
        return;
    for (struct mf_store_connection *c = v->all.first; c; c = c->next) {
        if (c->parked || c->closed || !mf_store_connection_peek(c, 0, &header) ||
            is_patient(header.kind))
            continue;
        c->reply = c->out.len;
        c->answered = true;
        mf_store_connection_consume(c, &header);
    }
    refuse_all(v, &told);
}

/* Tells the head of the audit trail, so that it is kept where the log goes. */
static bool log_head(struct mf_sql_store *s, struct mf_error *err)
{
    char text[MF_AUDIT_POINT_TEXT];
    struct mf_audit_point head;
    if (!mf_sql_audit_head(s, &head, err))
        return false;
    mf_log(MF_LOG_INFO, "audit.head", MF_LOG_S("head", mf_audit_point_format(&head, text)));
    return true;
}

static bool run_timers(struct server *v, uint64_t now, struct mf_error *err)
{
    serve_overdue(v, now);
    if (v->s->engine->next_lease_ns(v->s) <= now && !mf_sql_expire_leases(v->s, err))
        return false;
    if (v->next_expiry_ns > now)
        return true;
    int removed = 0, studies = 0;
    if (!mf_sql_expire_jobs(v->s, EXPIRE_BATCH, &removed, err) ||
        !mf_sql_expire_studies(v->s, EXPIRE_BATCH, &studies, err) ||
        !mf_sql_expire_audit(v->s, err) || !log_head(v->s, err))
        return false;
    removed = studies > removed ? studies : removed;
    v->next_expiry_ns =
        now + (removed == EXPIRE_BATCH ? 1000 : EXPIRE_EVERY_MS) * UINT64_C(1000000);
    return true;
}

/* Carries out what has arrived in one group. */
static enum mf_sql_commit group(struct server *v, struct mf_error *failure)
{
    const struct mf_sql_engine *engine = v->s->engine;
    v->full = false;
    v->s->singly = v->singly > 0;
    if (!engine->begin(v->s, failure))
        return MF_SQL_FATAL;
    uint64_t changes = v->s->changes, writes = v->s->writes;
    for (struct mf_store_connection *c = v->all.first; c; c = c->next)
        serve_input(v, c);
    bool ok = v->singly > 0 || run_timers(v, mf_clock_monotonic_ns(), failure);
    if (v->singly == 0)
        serve_parked(v, changes);
    if (ok && engine->healthy(v->s))
        send_claims(v);
    v->busy = v->busy || v->s->writes != writes;
    enum mf_sql_commit end = engine->commit(v->s, failure);
    return end == MF_SQL_COMMITTED && !ok ? MF_SQL_REFUSED : end;
}

/* One transaction with all that is to be done. False: the disk failed, stop. */
static bool turn(struct server *v, struct mf_error *err)
{
    struct mf_error failure = MF_ERROR_INIT;
    enum mf_sql_commit end = MF_SQL_COMMITTED;
    for (struct mf_store_connection *c = v->all.first; c; c = c->next)
        c->answered = false;
    if (v->s->engine->ready(v->s, &failure)) {
        v->lost_ns = 0;
        end = group(v, &failure);
        v->singly -= v->singly > 0;
        if (end == MF_SQL_AGAIN)
            break_answered(v);
        else if (end != MF_SQL_COMMITTED)
            refuse_all(v, &failure);
        if (end != MF_SQL_AGAIN && !v->s->singly) /* else they are still to be told */
            mf_sql_events_clear(v->s);
    } else {
        hold(v, &failure);
    }
    for (struct mf_store_connection *c = v->all.first; c; c = c->next)
        mf_store_connection_send(&v->all, c);
    mf_store_connections_drop_closed(&v->all);
    return end != MF_SQL_FATAL || mf_error_set(err, failure.code, "%s", failure.msg);
}

static int sleep_ms(struct server *v)
{
    uint64_t wake = v->next_expiry_ns, now = mf_clock_monotonic_ns();
    uint64_t lease = v->s->engine->next_lease_ns(v->s);
    if (v->singly > 0) /* the next request may have arrived long ago */
        return 0;
    if (lease < wake)
        wake = lease;
    for (const struct mf_store_connection *c = v->all.first; c; c = c->next)
        if (c->parked && c->park_deadline_ns < wake)
            wake = c->park_deadline_ns;
    uint64_t ms = wake <= now ? 0 : (wake - now) / 1000000 + 1;
    if (v->busy && ms > IDLE_MS)
        ms = IDLE_MS;
    return ms > 3600000 ? 3600000 : (int)ms;
}

/* False when it is time to stop. */
static bool take_events(struct server *v, const struct epoll_event *events, int n)
{
    bool go_on = true;
    for (int i = 0; i < n; i++) {
        void *tag = events[i].data.ptr;
        if (tag == &v->options->listen_fd)
            mf_store_connection_accept(&v->all, v->options->listen_fd);
        else if (tag == &v->signals || tag == &v->options->stop_fd)
            go_on = false;
        else if (tag == v->s)
            continue; /* ready() looks */
        else
            mf_store_connection_receive(tag);
    }
    return go_on;
}

static bool loop(struct server *v, struct mf_error *err)
{
    v->s->engine->idle(v->s); /* the other processes are starting, too */
    for (bool go_on = true; go_on;) {
        struct epoll_event events[EVENTS];
        int others = v->s->engine->descriptor(v->s); /* another one with every new connection */
        if (others >= 0 && !mf_store_watch(v->all.epoll, others, v->s, EPOLLIN, EPOLL_CTL_ADD) &&
            errno != EEXIST)
            return mf_error_set(err, MF_ERR_IO, "the job store cannot wait (%s)", strerror(errno));
        int n = epoll_wait(v->all.epoll, events, EVENTS, sleep_ms(v));
        if (n < 0 && errno != EINTR)
            return mf_error_set(err, MF_ERR_IO, "the job store cannot wait (%s)", strerror(errno));
        if (n == 0 && v->busy) {
            v->s->engine->idle(v->s);
            v->busy = false;
        }
        go_on = take_events(v, events, n > 0 ? n : 0);
        if (!turn(v, err))
            return false;
    }
    return true;
}

/* --- starting and stopping --- */

static bool start(struct server *v, struct mf_error *err)
{
    const struct mf_store_server *o = v->options;
    v->all.epoll = epoll_create1(EPOLL_CLOEXEC);
    v->signals = mf_signals_open(false);
    if (v->all.epoll < 0 || v->signals < 0 ||
        !mf_store_watch(v->all.epoll, v->signals, &v->signals, EPOLLIN, EPOLL_CTL_ADD) ||
        !mf_store_watch(v->all.epoll, o->listen_fd, (void *)&o->listen_fd, EPOLLIN,
                        EPOLL_CTL_ADD) ||
        (o->stop_fd >= 0 &&
         !mf_store_watch(v->all.epoll, o->stop_fd, (void *)&o->stop_fd, EPOLLIN, EPOLL_CTL_ADD)))
        return mf_error_set(err, MF_ERR_IO, "the job store cannot start (%s)", strerror(errno));
    if (o->ready_fd >= 0) {
        ssize_t ignored = write(o->ready_fd, "1", 1);
        (void)ignored; /* whoever waited is gone */
        close(o->ready_fd);
    }
    return true;
}

/* The database may be starting, too. */
static struct mf_store *open_patiently(const struct mf_store_server *o, struct mf_error *err)
{
    const uint64_t end = mf_clock_monotonic_ns() + START_MS * UINT64_C(1000000);
    for (;;) {
        struct mf_error why = MF_ERROR_INIT;
        struct mf_store *store = mf_store_open(o->directory, &o->settings, &why);
        if (store)
            return store;
        if (why.code != MF_ERR_UNAVAILABLE || mf_clock_monotonic_ns() >= end) {
            mf_error_set(err, why.code, "%s", why.msg);
            return NULL;
        }
        poll(NULL, 0, HOLD_MS / 10);
    }
}

bool mf_store_server_run(const struct mf_store_server *options, struct mf_error *err)
{
    MF_AUTO(mf_store)
    struct mf_store *store = open_patiently(options, err);
    if (!store)
        return false;
    struct server v = {
        .s = (struct mf_sql_store *)store, .all = {.epoll = -1}, .signals = -1, .options = options};
    bool ok = start(&v, err) && loop(&v, err);
    for (struct mf_store_connection *c = v.all.first; c; c = c->next)
        c->closed = true;
    mf_store_connections_drop_closed(&v.all);
    if (v.all.epoll >= 0)
        close(v.all.epoll);
    if (v.signals >= 0)
        close(v.signals);
    return ok;
}
