/*
 * What a worker without a front beside it (`medfusion worker`) tells the metrics: its numbers
 * travel with its announcement, behind its models, and every front of the same store shows them.
 * Programs that know nothing of it see an entry that is no model.
 */
#ifndef MF_SERVER_WORKER_REPORT_H
#define MF_SERVER_WORKER_REPORT_H

#include "server/worker_gauges.h"

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { MF_WORKER_NAME = 80 };

/* "HOST-2": this machine's name, of letters, digits, dots and hyphens, and the worker's place on
 * it: the same after a restart. */
void mf_worker_name(size_t place, char out[MF_WORKER_NAME]);

/* The text of an announcement (struct mf_worker, `models`) with the numbers behind it; the caller
 * frees it. NULL: `models` is no list, or out of memory. */
char *mf_worker_report(const char *models, const struct mf_worker_gauges *gauges, const char *name);
/* The numbers of an announcement; false: it has none, or none that make sense. */
bool mf_worker_reported(const char *models, struct mf_worker_gauges *ret,
                        char name[MF_WORKER_NAME]);

#ifdef __cplusplus
}
#endif

#endif
