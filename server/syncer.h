/*
 * Syncer: makes files durable in the background, so that a scan can run meanwhile. Files that are
 * waiting together share one fsync of their directory.
 */
#ifndef MF_SERVER_SYNCER_H
#define MF_SERVER_SYNCER_H

#include "core/error.h"

#ifdef __cplusplus
extern "C" {
#endif

struct mf_syncer;

/* One file on its way to the disk, embedded in its owner, who keeps fd open until the wait is over.
 */
struct mf_sync {
    int fd;
    int error; /* errno of the failure, 0 = durable */
    bool done;
    struct mf_sync *next; /* the syncer's */
};

/* directory: descriptor of where the files lie, borrowed. The thread is started with the first
 * file. */
struct mf_syncer *mf_syncer_new(int directory, struct mf_error *err) MF_CHECK_RESULT;
void mf_syncer_free(struct mf_syncer *syncer);
/* Begins; what was written to fd before this call is covered. False: no thread could be started. */
bool mf_syncer_begin(struct mf_syncer *syncer, struct mf_sync *sync) MF_CHECK_RESULT;
/* Waits until it is over; true when the file and its name are durable. */
bool mf_syncer_wait(struct mf_syncer *syncer, struct mf_sync *sync);

#ifdef __cplusplus
}
#endif

#endif
