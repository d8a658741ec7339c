/* Syncer: threads that take waiting files. */
#include "server/syncer.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

enum { STACK_BYTES = 64 << 10, MAX_THREADS = 8 };

struct mf_syncer {
    pthread_mutex_t lock;
    pthread_cond_t work, done;
    struct mf_sync *first, **last; /* those that wait, in the order they came */
    pthread_t threads[MAX_THREADS];
    size_t count, most, idle; /* threads that run, that may run, that have nothing to do */
    bool ending;
};

/* With the lock held: takes the first out of the queue, and what else one fsync is enough for. */
static struct mf_sync *take(struct mf_syncer *s)
{
    struct mf_sync *group = NULL, **end = &group, *first = s->first;
    for (struct mf_sync **link = &s->first, *f; (f = *link);) {
        if (f != first && (f->fd != first->fd || f->work || first->work)) {
            link = &f->next;
            continue;
        }
        *link = f->next;
        *end = f;
        end = &f->next;
        f->next = NULL;
    }
    s->last = &s->first;
    while (*s->last)
        s->last = &(*s->last)->next;
    return group;
}

static void *thread_main(void *argument)
{
    struct mf_syncer *s = argument;
    pthread_mutex_lock(&s->lock);
    for (;;) {
        s->idle++;
        while (!s->first && !s->ending)
            pthread_cond_wait(&s->work, &s->lock);
        s->idle--;
        if (!s->first)
            break;
        struct mf_sync *group = take(s);
        pthread_mutex_unlock(&s->lock);
        int error = group->work ? group->work(group) : fsync(group->fd) < 0 ? errno : 0;
        pthread_mutex_lock(&s->lock);
        for (struct mf_sync *f = group, *next; f; f = next) {
            next = f->next; /* its owner may let go of it once it is done */
            f->error = error;
            f->done = true;
        }
        pthread_cond_broadcast(&s->done);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

struct mf_syncer *mf_syncer_new(size_t threads, struct mf_error *err)
{
    struct mf_syncer *s = calloc(1, sizeof *s);
    if (!s) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the payload directory");
        return NULL;
    }
    s->last = &s->first;
    s->most = threads < MAX_THREADS ? threads : MAX_THREADS;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->work, NULL);
    pthread_cond_init(&s->done, NULL);
    return s;
}

void mf_syncer_free(struct mf_syncer *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    s->ending = true;
    pthread_cond_broadcast(&s->work);
    pthread_mutex_unlock(&s->lock);
    for (size_t i = 0; i < s->count; i++)
        pthread_join(s->threads[i], NULL);
    pthread_cond_destroy(&s->work);
    pthread_cond_destroy(&s->done);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

/* With the lock held: one more thread, if those that run are busy. False when none runs. */
static bool need_thread(struct mf_syncer *s)
{
    if (s->count < s->most && s->idle == 0) {
        pthread_attr_t attributes;
        pthread_attr_init(&attributes);
        pthread_attr_setstacksize(&attributes, STACK_BYTES);
        s->count += pthread_create(&s->threads[s->count], &attributes, thread_main, s) == 0;
        pthread_attr_destroy(&attributes);
    }
    return s->count > 0;
}

bool mf_syncer_begin(struct mf_syncer *s, struct mf_sync *sync)
{
    sync->done = false;
    sync->error = 0;
    sync->next = NULL;
    pthread_mutex_lock(&s->lock);
    bool ok = need_thread(s);
    if (ok) {
        *s->last = sync;
        s->last = &sync->next;
        pthread_cond_signal(&s->work);
    }
    pthread_mutex_unlock(&s->lock);
    return ok;
}

bool mf_syncer_wait(struct mf_syncer *s, struct mf_sync *sync)
{
    pthread_mutex_lock(&s->lock);
    while (!sync->done)
        pthread_cond_wait(&s->done, &s->lock);
    pthread_mutex_unlock(&s->lock);
    return sync->error == 0;
}
