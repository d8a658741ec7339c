/* Metrics of the HTTP side, and the Prometheus text format (0.0.4) for all of them. */
#ifndef MF_SERVER_METRICS_H
#define MF_SERVER_METRICS_H

#include "core/auto.h"
#include "core/buffer.h"
#include "core/error.h"
#include "server/store.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mf_endpoint;
struct mf_metrics;
struct mf_worker_gauges;

/* `gauges`: MF_WORKER_GAUGES of the workers on this machine (worker_gauges.h), borrowed; or NULL.
 */
struct mf_metrics *mf_metrics_new(const struct mf_worker_gauges *gauges,
                                  struct mf_error *err) MF_CHECK_RESULT;
void mf_metrics_free(struct mf_metrics *metrics);

/* One request has been answered; endpoint NULL = none fitted. Any thread. */
void mf_metrics_request(struct mf_metrics *metrics, const struct mf_endpoint *endpoint, int status,
                        double seconds, uint64_t body_bytes);
/* A connection was opened (+1) or closed (−1). */
void mf_metrics_connection(struct mf_metrics *metrics, int change);

/* Appends everything. `workers` may be empty. */
bool mf_metrics_write(const struct mf_metrics *metrics, const struct mf_store_counts *counts,
                      const struct mf_worker *workers, size_t worker_count, struct mf_buffer *out,
                      struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_metrics, struct mf_metrics *, mf_metrics_free(*p))

#endif
