/*
 * Front: the process that speaks HTTP. It takes requests apart, streams payloads into packs, has
 * them scanned by a decoder, and talks to the store; it parses no DICOM, no zip and no FHIR and
 * touches no GPU.
 */
#ifndef MF_SERVER_FRONT_H
#define MF_SERVER_FRONT_H

#include "core/error.h"
#include "server/config.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Opens a listening socket for the address of a key (http.listen); url receives
 * "SCHEME://127.0.0.1:8080" with the port in use. The supervisor opens it once and hands it to
 * every process it starts for it, so that a restart keeps the port and the clients in its queue. −1
 * on failure. */
int mf_listen(const char *key, const char *scheme, const char *where, char *url, size_t url_size,
              struct mf_error *err) MF_CHECK_RESULT;
/* Whether a bound socket can be reached from this machine only (127.0.0.0/8 or ::1). */
bool mf_listens_on_loopback(int fd);

struct mf_worker_gauges;

struct mf_front_options {
    const struct mf_config *config;
    int listen_fd;      /* from mf_listen(); borrowed */
    int ready_fd;       /* gets one byte when requests are answered, and is closed; −1 = none */
    int64_t generation; /* successful reloads before it */
    int go_fd;          /* requests are taken only once a byte has come here; −1 = at once */
    const char *decoder_address;            /* of the decoders' zygote (decoder.h) */
    const struct mf_worker_gauges *gauges;  /* of the workers here (worker_gauges.h), or NULL */
    const struct mf_ups_gauges *ups_gauges; /* the courier's; NULL = none */
    const char *query_address;              /* of the process of query.h; NULL = none */
};

/* On SIGUSR1 it retires: another front accepts, whoever is connected here is answered and told to
 * connect anew, then it ends. Serves until SIGTERM or SIGINT (which it blocks and takes itself),
 * then drains: new work gets 503, running requests end, waiting ones get their 202 at once. Call it
 * in a process without other threads. */
bool mf_front_run(const struct mf_front_options *options, struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
