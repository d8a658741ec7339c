/*
 * What the performer of work items tells the metrics: numbers in memory that supervisor, courier
 * and front share. The courier writes, the front reads, without a lock.
 */
#ifndef MF_SERVER_UPS_GAUGES_H
#define MF_SERVER_UPS_GAUGES_H

#include "core/buffer.h"
#include "core/error.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mf_ups_gauges {
    uint64_t held;                                          /* work items now */
    uint64_t claimed, lost, completed, canceled, withdrawn; /* ever; withdrawn: by the manager */
    uint64_t failures; /* requests to the manager that did not work out */
};

/* In memory that processes made later share; it lasts as long as they do. NULL on failure. */
struct mf_ups_gauges *mf_ups_gauges_new(struct mf_error *err) MF_CHECK_RESULT;

/* Prometheus text of them, appended; nothing when `gauges` is NULL. */
bool mf_ups_gauges_write(const struct mf_ups_gauges *gauges, struct mf_buffer *out,
                         struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
