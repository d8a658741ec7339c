/*
 * Heartbeat: the worker's second thread. It renews the leases of the jobs in hand, hears of
 * cancellation and lost leases, keeps the worker announced, and ends the process when a job hangs.
 */
#ifndef MF_SERVER_HEARTBEAT_H
#define MF_SERVER_HEARTBEAT_H

#include "core/error.h"
#include "server/store.h"
#include "server/worker_gauges.h"

#ifdef __cplusplus
extern "C" {
#endif

struct mf_heartbeat_thread;

struct mf_heartbeat_options {
    const char *directory;   /* of the store */
    struct mf_worker worker; /* announced now and then; its strings must outlive the thread */
    int64_t lease_s, job_timeout_s;
    /* Announced with it (worker_report.h), under this name; NULL: a front beside it shows them. */
    const struct mf_worker_gauges *gauges;
    const char *name;
};

/* Announces the worker, then starts the thread. */
struct mf_heartbeat_thread *mf_heartbeat_start(const struct mf_heartbeat_options *options,
                                               struct mf_error *err) MF_CHECK_RESULT;
/* Stops the thread; NULL-safe. */
void mf_heartbeat_stop(struct mf_heartbeat_thread *thread);

/* From the worker's main thread: these jobs are in hand now (at most 256; count 0 = none), and
 * `count` of them from `first` on run together (0 = none). */
void mf_heartbeat_hold(struct mf_heartbeat_thread *thread, const struct mf_job_ref *jobs,
                       size_t count);
void mf_heartbeat_running(struct mf_heartbeat_thread *thread, size_t first, size_t count);
void mf_heartbeat_progress(struct mf_heartbeat_thread *thread, size_t job, double done);
/* What the store said last about a job in hand. */
enum mf_lease mf_heartbeat_lease(struct mf_heartbeat_thread *thread, size_t job);

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_heartbeat_thread, struct mf_heartbeat_thread *, mf_heartbeat_stop(*p))

#endif
