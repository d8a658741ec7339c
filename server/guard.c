/* Guard: a list, and a thread that sleeps while the list is empty. */
#include "server/guard.h"

#include "core/clock.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

enum { STACK_BYTES = 64 << 10 };

struct mf_guarded {
    struct mf_guarded *next, **link; /* *link points here */
    int socket;
    uint64_t deadline_ns; /* atomic */
};

struct mf_guard {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t thread;
    struct mf_guarded *list;
    bool ending;
};

static void *thread_main(void *argument)
{
    struct mf_guard *g = argument;
    pthread_mutex_lock(&g->lock);
    while (!g->ending) {
        if (!g->list) {
            pthread_cond_wait(&g->changed, &g->lock);
            continue;
        }
        uint64_t now = mf_clock_monotonic_ns();
        for (struct mf_guarded *c = g->list; c; c = c->next)
            if (__atomic_load_n(&c->deadline_ns, __ATOMIC_RELAXED) <= now)
                shutdown(c->socket, SHUT_RDWR);
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += 1;
        pthread_cond_timedwait(&g->changed, &g->lock, &until);
    }
    pthread_mutex_unlock(&g->lock);
    return NULL;
}

struct mf_guard *mf_guard_new(struct mf_error *err)
{
    struct mf_guard *g = calloc(1, sizeof *g);
    if (!g) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for connections");
        return NULL;
    }
    pthread_mutex_init(&g->lock, NULL);
    pthread_cond_init(&g->changed, NULL);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    int rc = pthread_create(&g->thread, &attributes, thread_main, g);
    pthread_attr_destroy(&attributes);
    if (rc != 0) {
        free(g);
        mf_error_set(err, MF_ERR_NO_MEMORY, "a thread cannot be started");
        return NULL;
    }
    return g;
}

void mf_guard_free(struct mf_guard *g)
{
    if (!g)
        return;
    pthread_mutex_lock(&g->lock);
    g->ending = true;
    pthread_cond_signal(&g->changed);
    pthread_mutex_unlock(&g->lock);
    pthread_join(g->thread, NULL);
    while (g->list)
        mf_guard_remove(g, g->list);
    pthread_cond_destroy(&g->changed);
    pthread_mutex_destroy(&g->lock);
    free(g);
}

struct mf_guarded *mf_guard_add(struct mf_guard *g, int socket)
{
    struct mf_guarded *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->socket = socket;
    c->deadline_ns = UINT64_MAX;
    pthread_mutex_lock(&g->lock);
    bool first = g->list == NULL;
    c->next = g->list;
    c->link = &g->list;
    if (c->next)
        c->next->link = &c->next;
    g->list = c;
    if (first)
        pthread_cond_signal(&g->changed);
    pthread_mutex_unlock(&g->lock);
    return c;
}

void mf_guard_remove(struct mf_guard *g, struct mf_guarded *c)
{
    if (!c)
        return;
    pthread_mutex_lock(&g->lock);
    *c->link = c->next;
    if (c->next)
        c->next->link = c->link;
    pthread_mutex_unlock(&g->lock);
    free(c);
}

void mf_guard_set_deadline(struct mf_guarded *c, uint64_t deadline_ns)
{
    __atomic_store_n(&c->deadline_ns, deadline_ns, __ATOMIC_RELAXED);
}
