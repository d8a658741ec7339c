/*
 * Courier: the process that carries things between the store and what is outside a request: stored
 * studies that are complete become jobs, results are stored back where the configuration says. It
 * parses no DICOM (decoders do) and touches no GPU.
 */
#ifndef MF_SERVER_COURIER_H
#define MF_SERVER_COURIER_H

#include "core/error.h"
#include "server/config.h"

#ifdef __cplusplus
extern "C" {
#endif

struct mf_ups_gauges;

struct mf_courier_options {
    const struct mf_config *config;
    int ready_fd;                     /* gets one byte when it works, and is closed; −1 = none */
    const char *decoder_address;      /* of the decoders' zygote (decoder.h) */
    const char *query_address;        /* of the process of query.h; NULL = none runs */
    struct mf_ups_gauges *ups_gauges; /* ups_gauges.h; NULL = nobody wants to know */
};

/* Works until SIGTERM or SIGINT (which it blocks and takes itself). Call it in a process without
 * other threads. */
bool mf_courier_run(const struct mf_courier_options *options, struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
