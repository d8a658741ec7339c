/*
 * Waiter: one thread that waits for the jobs of all requests with `Prefer: wait`, so that a waiting
 * request costs a little memory and no thread.
 */
#ifndef MF_SERVER_WAITER_H
#define MF_SERVER_WAITER_H

#include "server/store.h"

#ifdef __cplusplus
extern "C" {
#endif

struct mf_waiter;

/* What waits, embedded in its owner. `done` is called once, on the waiter's thread: the job is
 * terminal, or the time is over, or the waiter is stopping. It must not block. `ended`: the job and
 * its result, when they came with the news (else NULL); its text may be taken. */
struct mf_wait {
    char job[MF_JOB_ID];
    const char *tenant; /* the job's */
    uint64_t until_ns;  /* monotonic */
    void (*done)(struct mf_wait *wait, struct mf_ended_job *ended);
    struct mf_wait *next; /* the waiter's */
};

/* capacity: the most jobs waited for at once; more are only noticed when others are over. */
struct mf_waiter *mf_waiter_new(const char *directory, int patience_ms, size_t capacity,
                                struct mf_error *err) MF_CHECK_RESULT;
/* Ends all waits, then the thread. */
void mf_waiter_free(struct mf_waiter *waiter);
/* Ends all waits now and every later one at once (draining). */
void mf_waiter_stop(struct mf_waiter *waiter);
void mf_waiter_add(struct mf_waiter *waiter, struct mf_wait *wait);

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_waiter, struct mf_waiter *, mf_waiter_free(*p))

#endif
