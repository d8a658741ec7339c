/*
 * Supervisor: the parent of all processes of one daemon.
 *
 * It binds the HTTP socket (so that the address stays when the front
 * is restarted and connections wait in the backlog meanwhile), starts the decoders' zygote, the store, the workers and the front, and
 * starts again what dies, at once the first time and with doubling pauses up to 10 s when it dies young. It parses nothing,
 * has one thread and holds no model. SIGTERM/SIGINT: the front drains, the workers finish or return their
 * jobs, the store closes, in this order.
 *
 * Store, front and workers are forked without exec: they inherit the configuration as it was read once and share
 * the program's relocated pages. The zygote alone is re-executed: nothing that decodes hostile bytes shares memory with secrets.
 */
#ifndef MF_SERVER_SUPERVISOR_H
#define MF_SERVER_SUPERVISOR_H

#include "core/error.h"

#ifdef __cplusplus
extern "C" {
#endif

struct mf_config;

/* Runs the daemon until it is told to stop; true after a clean stop. */
bool mf_supervisor_run(const struct mf_config *config, struct mf_error *err);

#ifdef __cplusplus
}
#endif

#endif
