/*
 * Status page: a few counters in memory shared by all processes of one daemon.
 *
 * The supervisor maps it before it forks; each process writes its own fields and reads all. The front answers health
 * checks and metrics from it without asking anybody. Fields are atomics; there is no lock.
 */
#ifndef MF_SERVER_STATUS_H
#define MF_SERVER_STATUS_H

#include "core/error.h"

#include <stdatomic.h>
#include <stdint.h>

enum { MF_STATUS_WORKERS = 64 };

enum mf_process_state {
    MF_PROCESS_ABSENT = 0, /* not configured */
    MF_PROCESS_STARTING,   /* started, not ready */
    MF_PROCESS_READY,
    MF_PROCESS_STOPPING,
    MF_PROCESS_FAILED      /* ended; the supervisor waits before it starts it again */
};

struct mf_status_process {
    _Atomic int32_t state; /* enum mf_process_state; the process sets READY, the supervisor the others */
    _Atomic int32_t pid;
    _Atomic uint32_t restarts; /* starts after the first */
};

struct mf_status_worker {
    struct mf_status_process process;
    _Atomic uint64_t jobs_succeeded, jobs_failed;
    _Atomic uint64_t busy_ns; /* time spent in jobs */
    _Atomic int64_t job_since_ms; /* wall clock at the start of the job in hand; 0 = idle */
};

struct mf_status {
    _Atomic int32_t draining; /* 1: stopping; the front refuses new jobs with 503 */
    _Atomic uint32_t worker_count;
    struct mf_status_process store, front, zygote;
    _Atomic uint64_t decoder_crashes, decoder_timeouts; /* counted by the zygote's parent's clients */
    struct mf_status_worker workers[MF_STATUS_WORKERS];
};

/* Anonymous shared mapping, zeroed; kept until the process ends. */
struct mf_status *mf_status_new(struct mf_error *err);

/* Ready = store, front and zygote are ready, at least one worker exists and every worker is ready. */
bool mf_status_ready(const struct mf_status *status);

#endif
