/*
 * Feed: one thread asks the store what changed and passes it on. A new subscription interrupts it;
 * it is greeted, told what it missed, and follows from there on. All changes up to the cursor have
 * been passed on to those that were greeted.
 */
#include "server/feed.h"

#include "server/job_response.h"
#include "server/store_changes.h"

#include "core/clock.h"

#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
    STACK_BYTES = 256 << 10,
    ARENA_BYTES = 16 << 20,
    PENDING_BYTES = 128 << 10, /* of one subscription */
    PING_MS = 15000,           /* a comment, so that a client that is gone is noticed */
    LIFE_S = 300,
    RETRY_MS = 200 /* after the store did not answer */
};

/* What a subscription is for. */
struct interest {
    char tenant[MF_TENANT], job[MF_JOB_ID]; /* job "" = all of the tenant's */
    int64_t after;
    uint64_t serial;
};

struct mf_subscription {
    struct mf_feed *feed;
    struct interest interest;
    bool greeted, ended;
    struct mf_buffer pending;
    size_t sent; /* of pending */
    bool resting;
    struct mf_rest rest;
    uint64_t until_ns;
    struct mf_subscription *next;
};

struct mf_feed {
    pthread_mutex_t lock;
    pthread_cond_t subscribed;
    struct mf_subscription *list;
    size_t count, most;
    uint64_t serial;
    bool stopping, started;
    pthread_t thread;
    /* Of the thread alone. */
    struct mf_store *store;
    int64_t cursor; /* −1 = not known */
    uint64_t next_ping_ns;
};

/* --- one subscription; the feed is locked --- */

static void wake(struct mf_subscription *s)
{
    if (!s->resting || (s->sent == s->pending.len && !s->ended))
        return;
    s->resting = false;
    s->rest.wake(s->rest.connection);
}

/* What does not fit ends it after what did. */
static void put(struct mf_subscription *s, const char *event, int64_t number, const char *data)
{
    struct mf_error full = MF_ERROR_INIT;
    size_t before = s->pending.len;
    if (s->ended)
        return;
    if (!mf_buffer_printf(&s->pending, &full, "id: %" PRId64 "\nevent: %s\ndata: ", number,
                          event) ||
        !mf_buffer_append_str(&s->pending, data, &full) ||
        !mf_buffer_append_str(&s->pending, "\n\n", &full)) {
        s->pending.len = before;
        s->ended = true;
    }
}

static void put_begin(struct mf_subscription *s, int64_t number, bool lost)
{
    struct mf_error full = MF_ERROR_INIT;
    if (!mf_buffer_append_str(&s->pending, "retry: 2000\n", &full))
        s->ended = true;
    put(s, "begin", number, lost ? "{\"lost\":true}" : "{\"lost\":false}");
}

/* A job's last event ends what follows that job alone. */
static void put_job(struct mf_subscription *s, const struct mf_job_change *change)
{
    MF_AUTO(mf_json) json_t *document = mf_job_to_json(&change->job);
    MF_AUTO(mf_mem) char *text = document ? mf_json_text(document, 0) : NULL;
    if (text)
        put(s, "job", change->number, text);
    if (!text || (s->interest.job[0] && mf_job_state_terminal(change->job.state)))
        s->ended = true;
}

static bool concerns(const struct mf_subscription *s, const struct mf_job *job)
{
    return s->greeted && strcmp(s->interest.tenant, job->tenant) == 0 &&
           (!s->interest.job[0] || strcmp(s->interest.job, job->id) == 0);
}

static struct mf_subscription *find(struct mf_feed *f, uint64_t serial)
{
    struct mf_subscription *s = f->list;
    while (s && s->interest.serial != serial)
        s = s->next;
    return s;
}

/* --- greeting: on the feed's thread, not locked --- */

/* The job as it is. */
static bool greet_job(struct mf_feed *f, const struct interest *i, struct mf_error *err)
{
    struct mf_error unknown = MF_ERROR_INIT;
    struct mf_job_change now = {.number = f->cursor};
    bool known = mf_store_job(f->store, i->tenant, i->job, &now.job, &unknown);
    if (!known && unknown.code != MF_ERR_NOT_FOUND)
        return mf_error_set(err, unknown.code, "%s", unknown.msg);
    pthread_mutex_lock(&f->lock);
    struct mf_subscription *s = find(f, i->serial);
    if (s && known) {
        put_begin(s, f->cursor, false);
        put_job(s, &now);
    } else if (s) {
        s->ended = true; /* removed in between */
    }
    pthread_mutex_unlock(&f->lock);
    return true;
}

/* What it missed, up to the cursor; what is after that comes to all. */
static bool greet_tenant(struct mf_feed *f, const struct interest *i, struct mf_error *err)
{
    struct mf_changes missed = {.head = i->after};
    bool begun = false, more = i->after >= 0;
    do {
        MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(ARENA_BYTES);
        int64_t after = missed.head;
        if (!arena)
            return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a feed");
        if (more && !mf_store_changes(f->store, i->tenant, after, 0, arena, &missed, err))
            return false;
        pthread_mutex_lock(&f->lock);
        struct mf_subscription *s = find(f, i->serial);
        if (s && !begun)
            put_begin(s, more && !missed.lost ? after : f->cursor, missed.lost);
        begun = true;
        for (size_t k = 0; s && k < missed.count && missed.list[k].number <= f->cursor; k++)
            put_job(s, &missed.list[k]);
        more = s && !s->ended && missed.count == MF_CHANGES_PAGE && missed.head < f->cursor;
        pthread_mutex_unlock(&f->lock);
    } while (more);
    return true;
}

static bool greet(struct mf_feed *f, const struct interest *i, struct mf_error *err)
{
    if (i->job[0] ? !greet_job(f, i, err) : !greet_tenant(f, i, err))
        return false;
    pthread_mutex_lock(&f->lock);
    struct mf_subscription *s = find(f, i->serial);
    if (s) {
        s->greeted = true;
        wake(s);
    }
    pthread_mutex_unlock(&f->lock);
    return true;
}

/* --- passing on --- */

/* The store has started anew: nobody knows what happened meanwhile. */
static void restart(struct mf_feed *f, int64_t head)
{
    for (struct mf_subscription *s = f->list; s; s = s->next) {
        if (s->interest.job[0])
            s->greeted = false;
        else if (s->greeted)
            put_begin(s, head, true);
    }
}

static void pass_on(struct mf_feed *f, const struct mf_changes *changes)
{
    uint64_t now = mf_clock_monotonic_ns();
    bool ping = f->next_ping_ns <= now;
    if (ping)
        f->next_ping_ns = now + (uint64_t)PING_MS * 1000000;
    pthread_mutex_lock(&f->lock);
    if (changes->lost)
        restart(f, changes->head);
    for (struct mf_subscription *s = f->list; s; s = s->next) {
        struct mf_error full = MF_ERROR_INIT;
        for (size_t i = 0; i < changes->count; i++)
            if (concerns(s, &changes->list[i].job))
                put_job(s, &changes->list[i]);
        if (ping && s->pending.len == 0 && !mf_buffer_append_str(&s->pending, ":\n\n", &full))
            s->ended = true;
        s->ended = s->ended || s->until_ns <= now;
        wake(s);
    }
    pthread_mutex_unlock(&f->lock);
}

/* Waits for the next changes, but for a ping at most. */
static bool follow(struct mf_feed *f, struct mf_error *err)
{
    uint64_t now = mf_clock_monotonic_ns();
    int wait_ms = f->next_ping_ns <= now ? 0 : (int)((f->next_ping_ns - now) / 1000000 + 1);
    struct mf_changes changes;
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(ARENA_BYTES);
    if (!arena)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a feed");
    if (!mf_store_changes(f->store, NULL, f->cursor, wait_ms, arena, &changes, err))
        return false;
    pass_on(f, &changes);
    f->cursor = changes.head;
    return true;
}

static bool find_cursor(struct mf_feed *f, struct mf_error *err)
{
    struct mf_changes changes;
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(ARENA_BYTES);
    if (!arena)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a feed");
    if (!mf_store_changes(f->store, NULL, -1, 0, arena, &changes, err))
        return false;
    f->cursor = changes.head;
    f->next_ping_ns = mf_clock_monotonic_ns() + (uint64_t)PING_MS * 1000000;
    return true;
}

/* --- the thread --- */

/* Who is to be greeted next; locked. */
static bool next_newcomer(const struct mf_feed *f, struct interest *ret)
{
    for (const struct mf_subscription *s = f->list; s; s = s->next)
        if (!s->greeted && !s->ended) {
            *ret = s->interest;
            return true;
        }
    return false;
}

static void *thread_main(void *argument)
{
    struct mf_feed *f = argument;
    pthread_mutex_lock(&f->lock);
    while (!f->stopping) {
        struct interest newcomer;
        struct mf_error err = MF_ERROR_INIT;
        if (!f->list) {
            f->cursor = -1;
            pthread_cond_wait(&f->subscribed, &f->lock);
            continue;
        }
        bool fresh = next_newcomer(f, &newcomer);
        pthread_mutex_unlock(&f->lock);
        bool ok = (f->cursor >= 0 || find_cursor(f, &err)) &&
                  (fresh ? greet(f, &newcomer, &err) : follow(f, &err));
        if (!ok)
            poll(NULL, 0, RETRY_MS);
        pthread_mutex_lock(&f->lock);
    }
    for (struct mf_subscription *s = f->list; s; s = s->next) {
        s->ended = true;
        wake(s);
    }
    pthread_mutex_unlock(&f->lock);
    return NULL;
}

struct mf_feed *mf_feed_new(const char *directory, int patience_ms, size_t most,
                            struct mf_error *err)
{
    MF_AUTO(mf_feed) struct mf_feed *f = calloc(1, sizeof *f);
    if (!f) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a feed");
        return NULL;
    }
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->subscribed, NULL);
    f->most = most;
    if (!(f->store = mf_store_connect(directory, patience_ms, err)))
        return NULL;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    f->started = pthread_create(&f->thread, &attributes, thread_main, f) == 0;
    pthread_attr_destroy(&attributes);
    if (!f->started) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "the feed's thread cannot be started");
        return NULL;
    }
    return MF_STEAL(f);
}

void mf_feed_stop(struct mf_feed *f)
{
    pthread_mutex_lock(&f->lock);
    f->stopping = true;
    pthread_mutex_unlock(&f->lock);
    pthread_cond_signal(&f->subscribed);
    mf_store_interrupt(f->store);
}

void mf_feed_free(struct mf_feed *f)
{
    if (!f)
        return;
    if (f->started) {
        mf_feed_stop(f);
        pthread_join(f->thread, NULL);
    }
    mf_store_free(f->store);
    pthread_cond_destroy(&f->subscribed);
    pthread_mutex_destroy(&f->lock);
    free(f);
}

/* --- subscribing --- */

/* Whether there is room for one more of this tenant; locked. */
static bool has_room(const struct mf_feed *f, const char *tenant)
{
    size_t theirs = 0;
    for (const struct mf_subscription *s = f->list; s; s = s->next)
        theirs += strcmp(s->interest.tenant, tenant) == 0;
    return f->count < f->most && theirs < (f->most + 1) / 2;
}

struct mf_subscription *mf_feed_subscribe(struct mf_feed *f, const char *tenant, const char *job,
                                          int64_t after, struct mf_error *err)
{
    struct mf_subscription *s = calloc(1, sizeof *s);
    if (!s) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a stream of events");
        return NULL;
    }
    s->feed = f;
    s->interest.after = after;
    s->until_ns = mf_clock_monotonic_ns() + (uint64_t)LIFE_S * 1000000000;
    snprintf(s->interest.tenant, sizeof s->interest.tenant, "%s", tenant);
    snprintf(s->interest.job, sizeof s->interest.job, "%s", job ? job : "");
    mf_buffer_init(&s->pending, PENDING_BYTES);
    pthread_mutex_lock(&f->lock);
    bool room = has_room(f, tenant);
    if (room) {
        s->interest.serial = ++f->serial;
        s->ended = f->stopping;
        s->next = f->list;
        f->list = s;
        f->count++;
    }
    pthread_mutex_unlock(&f->lock);
    if (!room) {
        free(s);
        mf_error_set(err, MF_ERR_BUSY, "too many streams of events are open");
        return NULL;
    }
    pthread_cond_signal(&f->subscribed);
    mf_store_interrupt(f->store);
    return s;
}

void mf_feed_unsubscribe(struct mf_subscription *s)
{
    if (!s)
        return;
    struct mf_feed *f = s->feed;
    pthread_mutex_lock(&f->lock);
    struct mf_subscription **link = &f->list;
    while (*link != s)
        link = &(*link)->next;
    *link = s->next;
    f->count--;
    pthread_mutex_unlock(&f->lock);
    mf_buffer_free(&s->pending);
    free(s);
}

ssize_t mf_subscription_follow(void *subscription, const struct mf_rest *rest, char *out,
                               size_t max)
{
    struct mf_subscription *s = subscription;
    ssize_t given = 0;
    pthread_mutex_lock(&s->feed->lock);
    size_t left = s->pending.len - s->sent;
    if (left > 0) {
        given = (ssize_t)(left < max ? left : max);
        memcpy(out, s->pending.data + s->sent, (size_t)given);
        s->sent += (size_t)given;
        if (s->sent == s->pending.len) {
            mf_buffer_clear(&s->pending);
            s->sent = 0;
        }
    } else if (s->ended) {
        given = -1;
    } else {
        s->rest = *rest;
        s->resting = true;
        rest->pause(rest->connection);
    }
    pthread_mutex_unlock(&s->feed->lock);
    return given;
}
