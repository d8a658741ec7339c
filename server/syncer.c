/* Syncer: one thread that takes all waiting files at once. */
#include "server/syncer.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

enum { STACK_BYTES = 64 << 10 };

struct mf_syncer {
    pthread_mutex_t lock;
    pthread_cond_t work, done;
    struct mf_sync *waiting;
    pthread_t thread;
    bool started, ending;
};

static void sync_group(struct mf_sync *group)
{
    const struct mf_sync *before = NULL;
    for (struct mf_sync *f = group; f; before = f, f = f->next) {
        if (before && before->fd == f->fd)
            f->error = before->error;
        else
            f->error = fsync(f->fd) < 0 ? errno : 0;
    }
}

static void *thread_main(void *argument)
{
    struct mf_syncer *s = argument;
    pthread_mutex_lock(&s->lock);
    for (;;) {
        while (!s->waiting && !s->ending)
            pthread_cond_wait(&s->work, &s->lock);
        struct mf_sync *group = s->waiting;
        if (!group)
            break;
        s->waiting = NULL;
        pthread_mutex_unlock(&s->lock);
        sync_group(group);
        pthread_mutex_lock(&s->lock);
        for (struct mf_sync *f = group, *next; f; f = next) {
            next = f->next; /* its owner may let go of it once it is done */
            f->done = true;
        }
        pthread_cond_broadcast(&s->done);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

struct mf_syncer *mf_syncer_new(struct mf_error *err)
{
    struct mf_syncer *s = calloc(1, sizeof *s);
    if (!s) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the payload directory");
        return NULL;
    }
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
    pthread_cond_signal(&s->work);
    pthread_mutex_unlock(&s->lock);
    if (s->started)
        pthread_join(s->thread, NULL);
    pthread_cond_destroy(&s->work);
    pthread_cond_destroy(&s->done);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

static bool start_thread(struct mf_syncer *s)
{
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    bool ok = pthread_create(&s->thread, &attributes, thread_main, s) == 0;
    pthread_attr_destroy(&attributes);
    return ok;
}

bool mf_syncer_begin(struct mf_syncer *s, struct mf_sync *sync)
{
    sync->done = false;
    sync->error = 0;
    pthread_mutex_lock(&s->lock);
    s->started = s->started || start_thread(s);
    bool ok = s->started;
    if (ok) {
        sync->next = s->waiting;
        s->waiting = sync;
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
