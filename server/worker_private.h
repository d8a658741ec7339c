/* The inside of a worker, for the files behind worker.h. */
#ifndef MF_SERVER_WORKER_PRIVATE_H
#define MF_SERVER_WORKER_PRIVATE_H

#include "server/blobs.h"
#include "server/heartbeat.h"
#include "server/levels.h"
#include "server/pipeline.h"
#include "server/spans.h"
#include "server/worker.h"

enum {
    MF_WORKER_STORE_TRIES = 6, /* before a worker gives up: one minute without a store */
    MF_WORKER_MOST_CLAIMS = 256
};

struct worker {
    const struct mf_worker_options *options;
    struct mf_registry *registry;
    struct mf_decoder *decoder;
    struct mf_pipeline *pipeline;
    struct mf_blobs *blobs;
    struct mf_store *store;
    struct mf_levels *levels; /* NULL: sets do not follow feedback */
    struct mf_heartbeat_thread *heartbeat;
    char *models;                    /* JSON text for the announcement */
    struct mf_trace *trace;          /* NULL: none */
    struct mf_worker_gauges *gauges; /* what it tells the metrics; never NULL */
    struct mf_worker_gauges own_gauges;
};

/* Whether the worker was told to stop, and whether its time for that is over. */
bool mf_worker_stopping(void);
bool mf_worker_drained(const struct worker *w);

/* Claims jobs (waiting for the first) and runs them to their ends. False when the store cannot be
 * told or a device has failed: the worker must end. */
bool mf_worker_work(struct worker *w, struct mf_error *err);

/* Of claims: urgent ones first, among equals in their order; how many of the first ones run
 * together (those of one urgency; a solo job alone); whether all of them may wait for company. */
void mf_worker_sort(struct mf_claim *claims, size_t count);
size_t mf_worker_group(const struct mf_claim *claims, size_t count);
bool mf_worker_has_time(const struct mf_claim *claims, size_t count);

/* Runs claimed jobs [first, first + count): their networks together. */
bool mf_worker_run_jobs(struct worker *w, const struct mf_claim *claims, size_t first, size_t count,
                        struct mf_arena *arena, struct mf_error *err);
bool mf_worker_release(struct worker *w, const struct mf_job_ref *jobs, size_t n,
                       enum mf_attempt_end end, struct mf_error *err);

/* Repeats a call to the store through its restarts. */
#define MF_TRY_STORE(call)                                                                         \
    do {                                                                                           \
        for (int try_ = 0; try_ < MF_WORKER_STORE_TRIES; try_++) {                                 \
            mf_error_clear(err);                                                                   \
            if (call)                                                                              \
                return true;                                                                       \
            if (err->code != MF_ERR_IO)                                                            \
                break;                                                                             \
        }                                                                                          \
        return false;                                                                              \
    } while (0)

#endif
