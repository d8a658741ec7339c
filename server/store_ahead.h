/*
 * Private to the store: connections on which the frames of queued jobs were asked for ahead
 * (decoder.h). They are in memory only, a few at most, and an offer at most: a job without one asks
 * for its frames itself.
 */
#ifndef MF_SERVER_STORE_AHEAD_H
#define MF_SERVER_STORE_AHEAD_H

#include "server/store.h"

struct mf_store_ahead {
    struct {
        char job[MF_JOB_ID];
        int connection;
    } kept[MF_STORE_FRAMES_AHEAD];
    size_t count;
};

/* Keeps a copy of the descriptor for the job, if there is room. */
void mf_store_ahead_keep(struct mf_store_ahead *ahead, const char *job, int connection);
/* The job's descriptor, now the caller's; 0 = none. */
int mf_store_ahead_take(struct mf_store_ahead *ahead, const char *job);
/* Closes the job's, or all (`job` NULL). */
void mf_store_ahead_drop(struct mf_store_ahead *ahead, const char *job);

#endif
