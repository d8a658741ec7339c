/*
 * DIMSE: the process that takes DICOM associations (C-ECHO, C-STORE, storage commitment). It
 * accepts connections, keeps the limits, and serves each association in a forked child: what a peer
 * does to one cannot reach the next, and a child that is killed loses nothing that it answered with
 * success.
 */
#ifndef MF_SERVER_DIMSE_H
#define MF_SERVER_DIMSE_H

#include "core/error.h"
#include "server/config.h"

#ifdef __cplusplus
extern "C" {
#endif

struct mf_dimse_options {
    const struct mf_config *config;
    int listen_fd;               /* borrowed */
    int ready_fd;                /* gets one byte when it accepts, and is closed; −1 = none */
    const char *decoder_address; /* of the decoders' zygote (decoder.h) */
};

/* Serves until SIGTERM or SIGINT (which it blocks and takes itself): then nothing new is accepted,
 * and associations have http.drain_timeout_s to end. Call it in a process without other threads. */
bool mf_dimse_run(const struct mf_dimse_options *options, struct mf_error *err) MF_CHECK_RESULT;

/* Serves one association on a connected socket (taken over), in a process of its own. */
bool mf_dimse_association_run(const struct mf_dimse_options *options, int socket,
                              struct mf_error *err) MF_CHECK_RESULT;

/* Whether dimse.allow names this AE title at this address: entries are "*", "AE" or "AE@address".
 */
bool mf_dimse_allowed(const struct mf_string_list *allow, const char *ae, const char *address);

#ifdef __cplusplus
}
#endif

#endif
