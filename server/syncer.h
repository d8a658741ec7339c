/*
 * Syncer: makes files durable in the background, so that a scan can run meanwhile. One syncer takes
 * the contents of files, another one their names, so that both are on their way to the disk at
 * once.
 */
#ifndef MF_SERVER_SYNCER_H
#define MF_SERVER_SYNCER_H

#include "core/error.h"

#ifdef __cplusplus
extern "C" {
#endif

struct mf_syncer;

/* One file (or directory) on its way to the disk, embedded in its owner, who keeps fd open until
 * the wait is over.
 */
struct mf_sync {
    int fd;
    int error; /* errno of the failure, 0 = durable */
    bool done;
    struct mf_sync *next; /* the syncer's */
};

/* The thread is started with the first file. */
struct mf_syncer *mf_syncer_new(struct mf_error *err) MF_CHECK_RESULT;
void mf_syncer_free(struct mf_syncer *syncer);
/* Begins; what was written to fd before this call is covered. Those of one descriptor that wait
 * together share one fsync. False: no thread could be started. */
bool mf_syncer_begin(struct mf_syncer *syncer, struct mf_sync *sync) MF_CHECK_RESULT;
/* Waits until it is over; true when it is durable. */
bool mf_syncer_wait(struct mf_syncer *syncer, struct mf_sync *sync);

#ifdef __cplusplus
}
#endif

#endif
