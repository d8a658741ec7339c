/* An engine's device as the place where its head adapts (engine/trust/adapt_device.h). */
#ifndef MF_ENGINE_ADAPT_DEVICE_H
#define MF_ENGINE_ADAPT_DEVICE_H

#include "engine/engine.h"
#include "engine/trust/adapt_device.h"

#ifdef __cplusplus
extern "C" {
#endif

/* False, and *ret is not to be used: the host is the place (the CPU; a head too wide for a block's
 * memory). `engine` outlives what uses it, and serves one thread at a time. */
bool mf_engine_adapt_device(struct mf_engine *engine, struct mf_adapt_device *ret);

#ifdef __cplusplus
}
#endif

#endif
