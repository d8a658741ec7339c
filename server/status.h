/*
 * Status page: a few counters in memory shared by all processes of one daemon.
 *
 * The supervisor maps it before it forks; each process writes its own fields and reads all. The front answers health
 * checks and metrics from it without asking anybody. Fields are read and written atomically, without a lock.
 */
#ifndef MF_SERVER_STATUS_H
#define MF_SERVER_STATUS_H

#include "core/error.h"

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { MF_STATUS_WORKERS = 64 };

enum mf_process_state {
    MF_PROCESS_ABSENT = 0, /* not configured */
    MF_PROCESS_STARTING,   /* started, not ready */
    MF_PROCESS_READY,
    MF_PROCESS_STOPPING,
    MF_PROCESS_FAILED      /* ended; the supervisor waits before it starts it again */
};

struct mf_status_process {
    int32_t state; /* enum mf_process_state; the process sets READY, the supervisor the others */
    int32_t pid;
    uint32_t restarts; /* starts after the first */
};

struct mf_status_worker {
    struct mf_status_process process;
    uint64_t jobs_succeeded, jobs_failed;
    uint64_t busy_ns;     /* time spent in jobs */
    int64_t job_since_ms; /* wall clock at the start of the job in hand; 0 = idle */
};

struct mf_status {
    int32_t draining; /* 1: stopping; the front refuses new jobs with 503 */
    uint32_t worker_count;
    struct mf_status_process store, front, zygote;
    struct mf_status_worker workers[MF_STATUS_WORKERS];
};

/* The only ways to touch a field: MF_STATUS_SET(&page->draining, 1), MF_STATUS_GET(&page->draining). */
#define MF_STATUS_GET(field) __atomic_load_n((field), __ATOMIC_ACQUIRE)
#define MF_STATUS_SET(field, value) __atomic_store_n((field), (value), __ATOMIC_RELEASE)
#define MF_STATUS_ADD(field, value) __atomic_fetch_add((field), (value), __ATOMIC_ACQ_REL)

/* Anonymous shared mapping, zeroed; kept until the process ends. */
struct mf_status *mf_status_new(struct mf_error *err);

/* Ready = store, front and zygote are ready, at least one worker exists and every worker is ready. */
bool mf_status_ready(const struct mf_status *status);

#ifdef __cplusplus
}
#endif

#endif
