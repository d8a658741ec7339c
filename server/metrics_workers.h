/* Private to the metrics: those of workers, and how a family of metrics begins. */
#ifndef MF_SERVER_METRICS_WORKERS_H
#define MF_SERVER_METRICS_WORKERS_H

#include "core/buffer.h"
#include "server/store.h"
#include "server/worker_gauges.h"

#ifdef __cplusplus
extern "C" {
#endif

/* HELP and TYPE of a family. */
bool mf_metrics_head(struct mf_buffer *out, const char *name, const char *type, const char *help,
                     struct mf_error *err) MF_CHECK_RESULT;
/* Workers: who is ready, those of this machine (`gauges`, or NULL), and the standalone ones, which
 * say their numbers when they announce themselves (worker_report.h). */
bool mf_metrics_workers(const struct mf_worker_gauges *gauges, const struct mf_worker *workers,
                        size_t n, struct mf_buffer *out, struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
