/*
 * Pool: a few threads, each with its own connection to the store, that run what may block.
 */
#ifndef MF_SERVER_POOL_H
#define MF_SERVER_POOL_H

#include "server/store.h"

#ifdef __cplusplus
extern "C" {
#endif

struct mf_pool;

/* A piece of work, embedded in whatever it works on; run once, by one thread. */
struct mf_task {
    void (*run)(struct mf_task *task, struct mf_store *store);
    struct mf_task *next; /* the pool's */
};

/* Starts the threads; each connects to the store in `directory` on first use. */
struct mf_pool *mf_pool_new(size_t threads, const char *directory, int patience_ms,
                            struct mf_error *err) MF_CHECK_RESULT;
/* Runs what is queued, then ends the threads. */
void mf_pool_free(struct mf_pool *pool);
/* Never blocks and cannot fail. */
void mf_pool_run(struct mf_pool *pool, struct mf_task *task);

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_pool, struct mf_pool *, mf_pool_free(*p))

#endif
