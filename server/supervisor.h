/*
 * Supervisor: the parent of all processes of one daemon.
 *
 * It opens the HTTP socket (so that the address stays, and clients wait in its queue, while a front
 * is restarted), starts the decoders' zygote, the store, the workers and the front, and starts
 * again what dies: at once the first time, with doubling pauses up to 10 s when it dies young. A
 * process that fails before it was ever ready ends the daemon, with its reason on stderr. The
 * supervisor parses nothing, has one thread and holds no model. On SIGTERM or SIGINT the front
 * drains and the workers finish or return their jobs, then the store closes; what takes longer than
 * http.drain_timeout_s and 5 s is killed.
 *
 * On SIGHUP, or when it is asked to (control.h), everything but the store and the zygote is
 * replaced by processes that have read the configuration, bundles, certificates and keys anew, once
 * all of the new ones are ready (supervisor_reload.c).
 *
 * Store, front and workers are forked without exec: they inherit the configuration as it was read
 * and share the program's relocated pages. The zygote alone is re-executed: nothing that
 * decodes hostile bytes shares memory with secrets.
 *
 * A worker's death is told to the store by the next worker before it claims anything: the
 * supervisor itself waits for nobody. Death by SIGKILL or SIGTERM, or an orderly failure, is no
 * job's fault; another signal is a crash.
 */
#ifndef MF_SERVER_SUPERVISOR_H
#define MF_SERVER_SUPERVISOR_H

#include "core/error.h"
#include "server/config.h"

#ifdef __cplusplus
extern "C" {
#endif

enum mf_supervise {
    MF_SUPERVISE_ALL,   /* `medfusion serve` */
    MF_SUPERVISE_WORKER /* `medfusion worker`: a worker and its decoders, beside a store that runs
                           elsewhere */
};

struct mf_supervisor_options {
    const struct mf_config *config; /* borrowed */
    enum mf_supervise what;
    /* For a reload: the configuration as it is written now (the supervisor's to free), and whether
     * it could be served, which may take its time: it runs in a child. */
    struct mf_config *(*read)(void *context, struct mf_error *err);
    bool (*check)(const struct mf_config *config, struct mf_error *err);
    void *context;
};

/* Runs until it is told to stop: true after a clean stop. Prints "medfusion is ready at URL" on
 * stdout when all processes have become ready for the first time (MF_SUPERVISE_ALL). */
bool mf_supervisor_run(const struct mf_supervisor_options *options,
                       struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
