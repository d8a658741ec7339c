/*
 * Worker: claims jobs from the store, runs the pipeline on them, finishes them. One process per device.
 *
 * A claim carries a lease and a fencing token; a heartbeat thread renews the lease while the job runs. A lost
 * lease (or a cancelled job) stops the work at the next stage and writes nothing. The attempt is counted by
 * the claim, before the run, so a job that kills its worker cannot do so for ever. On SIGTERM the job in hand is finished within
 * `drain_seconds`, else returned to the queue uncounted.
 */
#ifndef MF_SERVER_WORKER_H
#define MF_SERVER_WORKER_H

#include "core/error.h"

#ifdef __cplusplus
extern "C" {
#endif

struct mf_config;
struct mf_status_worker;

struct mf_worker_options {
    const struct mf_config *config;
    const char *device;          /* "cpu", "cuda:0"; NULL = choose */
    const char *decoder_address; /* where the zygote listens */
    struct mf_status_worker *status; /* NULL for a worker on its own */
};

/* Runs until SIGTERM/SIGINT (true) or until it cannot go on (false). */
bool mf_worker_run(const struct mf_worker_options *options, struct mf_error *err);

#ifdef __cplusplus
}
#endif

#endif
