/*
 * Waiter: holds one wait_for_jobs at the store for all that wait. A newcomer interrupts it, and the
 * next one includes the newcomer; a job that ended in between is seen at once, because the store
 * answers what is already terminal.
 */
#include "server/waiter.h"

#include "core/clock.h"

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { STACK_BYTES = 256 << 10, RETRY_MS = 100 };

struct mf_waiter {
    pthread_mutex_t lock;
    pthread_cond_t added;
    struct mf_wait *waits;
    struct mf_store *store;
    pthread_t thread;
    bool stopping, ending;
    /* Of the thread alone: the jobs asked about, and the answer. */
    size_t capacity;
    char (*ids)[MF_JOB_ID];
    bool *terminal;
    char tenant[MF_TENANT];
    struct mf_ended_job ended;
};

/* Copies the jobs to ask about; returns how many, and how long to ask at most. */
static size_t collect(struct mf_waiter *w, int *ret_wait_ms)
{
    uint64_t now = mf_clock_monotonic_ns(), first = UINT64_MAX;
    size_t n = 0;
    for (struct mf_wait *wait = w->waits; wait && n < w->capacity; wait = wait->next) {
        memcpy(w->ids[n++], wait->job, MF_JOB_ID);
        /* A result comes with the news for one tenant's jobs; the others read theirs then. */
        snprintf(w->tenant, sizeof w->tenant, "%s", wait->tenant);
        if (wait->until_ns < first)
            first = wait->until_ns;
    }
    *ret_wait_ms = first <= now ? 0 : (int)((first - now) / 1000000 + 1);
    return n;
}

static bool is_terminal(const struct mf_waiter *w, const char *job, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (memcmp(w->ids[i], job, MF_JOB_ID) == 0)
            return w->terminal[i];
    return false;
}

/* Takes the waits that are over out of the list. */
static struct mf_wait *take_over(struct mf_waiter *w, size_t n)
{
    uint64_t now = mf_clock_monotonic_ns();
    struct mf_wait *over = NULL, **link = &w->waits;
    while (*link) {
        struct mf_wait *wait = *link;
        if (w->stopping || wait->until_ns <= now || is_terminal(w, wait->job, n)) {
            *link = wait->next;
            wait->next = over;
            over = wait;
        } else {
            link = &wait->next;
        }
    }
    return over;
}

static void *thread_main(void *argument)
{
    struct mf_waiter *w = argument;
    pthread_mutex_lock(&w->lock);
    for (;;) {
        while (!w->waits && !w->ending)
            pthread_cond_wait(&w->added, &w->lock);
        if (!w->waits)
            break;
        int wait_ms = 0;
        size_t n = w->stopping ? 0 : collect(w, &wait_ms);
        pthread_mutex_unlock(&w->lock);
        struct mf_error ignored = MF_ERROR_INIT; /* the store is down: deadlines still hold */
        memset(w->terminal, 0, w->capacity);
        w->ended.known = false;
        mf_buffer_clear(&w->ended.text);
        if (n > 0 && !mf_store_wait_for_jobs(w->store, (const char(*)[MF_JOB_ID])w->ids, n, wait_ms,
                                             w->terminal, &w->ended, &ignored))
            poll(NULL, 0, RETRY_MS);
        pthread_mutex_lock(&w->lock);
        struct mf_wait *over = take_over(w, n);
        pthread_mutex_unlock(&w->lock);
        while (over) {
            struct mf_wait *next = over->next;
            bool known = w->ended.known && strcmp(over->job, w->ended.job.id) == 0;
            over->done(over, known ? &w->ended : NULL);
            over = next;
        }
        pthread_mutex_lock(&w->lock);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

static void release(struct mf_waiter *w)
{
    mf_store_free(w->store);
    pthread_cond_destroy(&w->added);
    pthread_mutex_destroy(&w->lock);
    mf_buffer_free(&w->ended.text);
    free(w->ids);
    free(w->terminal);
    free(w);
}

struct mf_waiter *mf_waiter_new(const char *directory, int patience_ms, size_t capacity,
                                struct mf_error *err)
{
    struct mf_waiter *w = calloc(1, sizeof *w);
    if (!w) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the waiter");
        return NULL;
    }
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->added, NULL);
    w->capacity = capacity;
    w->ended.tenant = w->tenant;
    mf_buffer_init(&w->ended.text, MF_STORE_MESSAGE_MAX);
    w->ids = calloc(capacity, sizeof *w->ids);
    w->terminal = calloc(capacity, sizeof *w->terminal);
    w->store = mf_store_connect(directory, patience_ms, err);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    bool ok = w->ids && w->terminal && w->store &&
              pthread_create(&w->thread, &attributes, thread_main, w) == 0;
    pthread_attr_destroy(&attributes);
    if (!ok) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "the waiter's thread cannot be started");
        release(w);
        return NULL;
    }
    return w;
}

void mf_waiter_stop(struct mf_waiter *w)
{
    pthread_mutex_lock(&w->lock);
    w->stopping = true;
    pthread_cond_signal(&w->added);
    pthread_mutex_unlock(&w->lock);
    mf_store_interrupt(w->store);
}

void mf_waiter_free(struct mf_waiter *w)
{
    if (!w)
        return;
    pthread_mutex_lock(&w->lock);
    w->ending = true;
    pthread_mutex_unlock(&w->lock);
    mf_waiter_stop(w);
    pthread_join(w->thread, NULL);
    release(w);
}

void mf_waiter_add(struct mf_waiter *w, struct mf_wait *wait)
{
    pthread_mutex_lock(&w->lock);
    bool asking = w->waits != NULL;
    wait->next = w->waits;
    w->waits = wait;
    pthread_mutex_unlock(&w->lock);
    pthread_cond_signal(&w->added);
    if (asking)
        mf_store_interrupt(w->store);
}
