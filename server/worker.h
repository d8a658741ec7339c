/*
 * Worker: claims jobs from the store, runs the pipeline on them, finishes them. One process per
 * device.
 *
 * A claim carries a lease and a fence; a heartbeat thread renews the leases while jobs run. A lost
 * lease or a cancelled job stops the work at the next stage. The attempt is counted by the claim,
 * before the run, so a job that kills its worker cannot do so for ever. A job that runs longer than
 * worker.job_timeout_s fails, and the process ends, because nothing else stops an engine that
 * hangs; of jobs that run together each is tried alone then. On SIGTERM the job in hand is finished
 * within http.drain_timeout_s, else it goes back to the queue uncounted; what was claimed beside it
 * goes back at once.
 */
#ifndef MF_SERVER_WORKER_H
#define MF_SERVER_WORKER_H

#include "core/error.h"
#include "server/config.h"
#include "server/store.h"
#include "server/worker_gauges.h"

#ifdef __cplusplus
extern "C" {
#endif

struct mf_worker_options {
    const struct mf_config *config;
    const char *device;          /* "cpu", "cuda:0"; NULL = the best that works */
    unsigned threads;            /* of the CPU backend; 0 = one for each core */
    const int *weights;          /* shared by the workers, as in struct mf_registry_device */
    const char *decoder_address; /* where the zygote listens */
    const char *id;              /* unique for each start of a worker */
    /* A worker whose end the store does not know of yet, and how it ended; reported before
     * anything is loaded. NULL = none. */
    const char *predecessor;
    enum mf_attempt_end predecessor_end;
    struct mf_worker_gauges *gauges; /* what it tells the metrics; NULL = nobody */
    const char *name; /* under which any front tells them (worker_report.h); NULL = one here does */
    int ready_fd; /* gets one byte when jobs are (or could be) taken, and is closed; −1 = none */
    int go_fd;    /* jobs are taken only once a byte has come here; −1 = at once */
};

/* Runs until SIGTERM or SIGINT (true), or until it cannot go on (false). */
bool mf_worker_run(const struct mf_worker_options *options, struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
