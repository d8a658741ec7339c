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

#ifdef __cplusplus
extern "C" {
#endif

/* Opens the listening socket of http.listen; url receives "http://127.0.0.1:8080" with the port in
 * use. The supervisor opens it once and hands it to every front it starts, so that a restart keeps
 * the port and the clients in its queue. −1 on failure. */
int mf_front_listen(const char *listen, char *url, size_t url_size,
                    struct mf_error *err) MF_CHECK_RESULT;

/* The same for the address of any key. */
int mf_listen(const char *key, const char *where, char *url, size_t url_size,
              struct mf_error *err) MF_CHECK_RESULT;

struct mf_front_options {
    const struct mf_config *config;
    int listen_fd; /* from mf_front_listen(); borrowed */
    int ready_fd;  /* gets one byte when requests are answered, and is closed; −1 = none */
    const char *decoder_address; /* of the decoders' zygote (decoder.h) */
};

/* Serves until SIGTERM or SIGINT (which it blocks and takes itself), then drains: new work gets
 * 503, running requests end, waiting ones get their 202 at once. Call it in a process without other
 * threads. */
bool mf_front_run(const struct mf_front_options *options, struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
