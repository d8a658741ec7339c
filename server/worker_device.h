/* Which device a worker gets: worker.device names one for all of them, or several that they take by
 * turns. */
#ifndef MF_SERVER_WORKER_DEVICE_H
#define MF_SERVER_WORKER_DEVICE_H

#include "core/error.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { MF_WORKER_DEVICE = 32 };

/* Of worker `number` (from 0): item number % count of `list`, names separated by commas. The value
 * is `ret`, or NULL for "auto" and nothing: the best that works. A name too long is cut, and then
 * names no device. */
const char *mf_worker_device(const char *list, size_t number, char ret[MF_WORKER_DEVICE]);

/* Whether `count` workers can share `list`: a GPU that is named has one, so that its memory holds
 * the weights once. MF_ERR_USAGE. */
bool mf_worker_devices_check(const char *list, size_t count, struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
