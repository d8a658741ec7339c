/* The monitor's figures as metrics: made from the newest results at most once a minute. */
#ifndef MF_SERVER_MONITOR_METRICS_H
#define MF_SERVER_MONITOR_METRICS_H

#include "core/auto.h"
#include "core/buffer.h"
#include "server/store.h"

#ifdef __cplusplus
extern "C" {
#endif

struct mf_services;
struct mf_monitor;

struct mf_monitor *mf_monitor_new(struct mf_error *err) MF_CHECK_RESULT;
void mf_monitor_free(struct mf_monitor *monitor);

/* Appends the metrics of all models, over all tenants. Any thread. */
bool mf_monitor_write(struct mf_monitor *monitor, const struct mf_services *services,
                      struct mf_store *store, struct mf_buffer *out,
                      struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_monitor, struct mf_monitor *, mf_monitor_free(*p))

#endif
