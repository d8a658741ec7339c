/*
 * What a worker tells the metrics: numbers in memory that supervisor, workers and front share. A
 * worker writes its own; the front reads whenever it is asked, without a lock. A worker that has
 * been started again goes on counting.
 */
#ifndef MF_SERVER_WORKER_GAUGES_H
#define MF_SERVER_WORKER_GAUGES_H

#include "core/error.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { MF_WORKER_GAUGES = 64 }; /* workers of one daemon, retired ones included */

struct mf_worker_gauges {
    uint32_t taken;            /* 1: a worker has this place (the supervisor's to say) */
    char device[16];           /* "" before the worker has loaded its models */
    uint64_t computing_ns;     /* time in which a network was at work */
    uint64_t batches, studies; /* computed: together, in all */
    uint64_t batch_most;       /* studies that may be claimed together */
    uint64_t memory_total, memory_available; /* bytes of the device; 0 on the CPU */
    uint64_t memory_taken;                   /* by the models of this worker */
};

/* Places for MF_WORKER_GAUGES workers in memory that processes made later share; it lasts as long
 * as they do. NULL on failure. */
struct mf_worker_gauges *mf_worker_gauges_new(struct mf_error *err) MF_CHECK_RESULT;
/* A place for a worker, or NULL when all are taken (or `all` is NULL); and its end. */
struct mf_worker_gauges *mf_worker_gauges_take(struct mf_worker_gauges *all);
void mf_worker_gauges_leave(struct mf_worker_gauges *place);

#define MF_GAUGE_ADD(gauge, n) __atomic_fetch_add(&(gauge), (n), __ATOMIC_RELAXED)
#define MF_GAUGE_SET(gauge, n) __atomic_store_n(&(gauge), (n), __ATOMIC_RELAXED)
#define MF_GAUGE_GET(gauge) __atomic_load_n(&(gauge), __ATOMIC_RELAXED)

#ifdef __cplusplus
}
#endif

#endif
