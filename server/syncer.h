/*
 * Syncer: makes files durable in the background, so that a scan can run meanwhile. One syncer takes
 * the contents of files, another one their names, so that both are on their way to the disk at
 * once. Files that several threads sync at once share what the file system writes about them (one
 * transaction of its journal instead of one a file).
 */
#ifndef MF_SERVER_SYNCER_H
#define MF_SERVER_SYNCER_H

#include "core/error.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mf_syncer;

/* One file (or directory) on its way to the disk, or other work on it, embedded in its owner, who
 * keeps fd open until the wait is over.
 */
struct mf_sync {
    int fd;
    int (*work)(struct mf_sync *sync); /* what to do in place of fsync: 0 or errno; NULL = fsync */
    int error;                         /* errno of the failure, 0 = durable */
    bool done;
    struct mf_sync *next; /* the syncer's */
};

/* With at most so many threads, 1 to 8, which are started when files wait. */
struct mf_syncer *mf_syncer_new(size_t threads, struct mf_error *err) MF_CHECK_RESULT;
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
