/* Pool: one queue, one condition variable. */
#include "server/pool.h"

#include <pthread.h>
#include <stdlib.h>

enum { STACK_BYTES = 256 << 10 };

struct thread {
    struct mf_pool *pool;
    struct mf_store *store;
    pthread_t id;
};

struct mf_pool {
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct mf_task *first, **last;
    bool stopping;
    size_t count; /* of threads that run */
    struct thread threads[];
};

static struct mf_task *take(struct mf_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    while (!pool->first && !pool->stopping)
        pthread_cond_wait(&pool->work, &pool->lock);
    struct mf_task *task = pool->first;
    if (task) {
        pool->first = task->next;
        if (!pool->first)
            pool->last = &pool->first;
    }
    pthread_mutex_unlock(&pool->lock);
    return task;
}

static void *thread_main(void *argument)
{
    struct thread *t = argument;
    struct mf_task *task;
    while ((task = take(t->pool)))
        task->run(task, t->store);
    return NULL;
}

static bool start_thread(struct mf_pool *pool, const char *directory, int patience_ms,
                         struct mf_error *err)
{
    struct thread *t = &pool->threads[pool->count];
    t->pool = pool;
    t->store = mf_store_connect(directory, patience_ms, err);
    if (!t->store)
        return false;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    int rc = pthread_create(&t->id, &attributes, thread_main, t);
    pthread_attr_destroy(&attributes);
    if (rc != 0) {
        mf_store_free(t->store);
        return mf_error_set(err, MF_ERR_NO_MEMORY, "a thread cannot be started");
    }
    pool->count++;
    return true;
}

struct mf_pool *mf_pool_new(size_t threads, const char *directory, int patience_ms,
                            struct mf_error *err)
{
    struct mf_pool *pool = calloc(1, sizeof *pool + threads * sizeof pool->threads[0]);
    if (!pool) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for threads");
        return NULL;
    }
    pool->last = &pool->first;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->work, NULL);
    for (size_t i = 0; i < threads; i++) {
        if (!start_thread(pool, directory, patience_ms, err)) {
            mf_pool_free(pool);
            return NULL;
        }
    }
    return pool;
}

void mf_pool_free(struct mf_pool *pool)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->stopping = true;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
    for (size_t i = 0; i < pool->count; i++) {
        pthread_join(pool->threads[i].id, NULL);
        mf_store_free(pool->threads[i].store);
    }
    pthread_cond_destroy(&pool->work);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

void mf_pool_run(struct mf_pool *pool, struct mf_task *task)
{
    task->next = NULL;
    pthread_mutex_lock(&pool->lock);
    *pool->last = task;
    pool->last = &task->next;
    pthread_mutex_unlock(&pool->lock);
    pthread_cond_signal(&pool->work); /* without the lock, which the thread takes first */
}
