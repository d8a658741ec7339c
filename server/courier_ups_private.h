/* Private to courier_ups*.c. */
#ifndef MF_SERVER_COURIER_UPS_PRIVATE_H
#define MF_SERVER_COURIER_UPS_PRIVATE_H

#include "server/courier_collect.h"
#include "server/courier_outbox.h"
#include "server/ups_client.h"
#include "server/ups_gauges.h"
#include "server/ups_journal.h"
#include "server/worker_gauges.h"

#include <pthread.h>

enum { MF_UPS_HELD = 64 };

struct mf_courier_ups {
    const struct mf_config *config;
    struct mf_courier_tools tools;
    struct mf_courier_outbox outbox;
    struct mf_ups_gauges *gauges, own_gauges;
    struct mf_ups_entry held[MF_UPS_HELD];
    size_t count;
    uint64_t search_ns; /* the next search is not before it */
    int64_t pause_ms;   /* between searches */
    int stop;           /* eventfd */
    bool started;
    pthread_t thread;
};

/* What a step made of a work item. */
enum mf_ups_step {
    MF_UPS_STEP_WAIT,  /* nothing to do just now */
    MF_UPS_STEP_ON,    /* it went on: the next step may be done at once */
    MF_UPS_STEP_OVER,  /* it is not ours any more */
    MF_UPS_STEP_FAILED /* `err` says why; to be tried again later */
};

/* Does what is next for one that is held. */
enum mf_ups_step mf_courier_ups_step(struct mf_courier_ups *u, struct mf_ups_entry *e,
                                     struct mf_error *err);

/* Makes a job of the inputs of a claimed work item; its id. Errors are those of fetching, judging
 * and submitting. */
bool mf_courier_ups_job(const struct mf_courier_ups *u, const struct mf_ups_item *item,
                        char ret_job[MF_JOB_ID], struct mf_error *err) MF_CHECK_RESULT;

#endif
