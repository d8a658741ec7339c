/* Private to the decoder client (decoder.c, decoder_scan.c, decoder_frames.c). */
#ifndef MF_SERVER_DECODER_CLIENT_H
#define MF_SERVER_DECODER_CLIENT_H

#include "server/decoder_protocol.h"

#include <pthread.h>
#include <sys/un.h>

enum { MF_DECODER_SPARES = 2, MF_DECODER_KEPT = 4 };

/* A decoder that has described objects of a sender, and may describe more of the same. */
struct mf_kept_decoder {
    int fd;
    unsigned described;
    char sender[MF_DECODER_SENDER];
};

struct mf_decoder {
    struct sockaddr_un address;
    socklen_t address_len;
    struct mf_decoder_limits limits;
    pthread_mutex_t lock;
    pthread_cond_t slot_free;
    unsigned connections, in_use;
    int spares[MF_DECODER_SPARES]; /* their decoders wait for a request; oldest first */
    size_t spare_count, spares_wanted;
    bool prepared;                                /* by mf_decoder_prepare() alone */
    struct mf_kept_decoder kept[MF_DECODER_KEPT]; /* the one that waits longest first */
    size_t kept_count;
    int adopted; /* a connection on which frames were asked for, or −1 */
};

/* A request as it goes over the wire; the descriptors are borrowed. */
struct mf_decoder_wire {
    struct mf_buffer payload;
    int fds[MF_DECODER_MAX_FDS];
    size_t fd_count;
};

MF_AUTO_DEFINE(mf_decoder_wire, struct mf_decoder_wire, mf_buffer_free(&p->payload))

bool mf_decoder_build(const struct mf_decoder_call *call, struct mf_decoder_wire *ret,
                      struct mf_error *err) MF_CHECK_RESULT;
/* Has a decoder carry it out; `answer` was initialised. `meanwhile` may be NULL, and so may
 * `ret_connection`: else it is the decoder's connection on success, the caller's from then on. */
bool mf_decoder_send(struct mf_decoder *decoder, uint32_t verb,
                     const struct mf_decoder_wire *request,
                     const struct mf_decoder_meanwhile *meanwhile, struct mf_message *answer,
                     int *ret_connection, struct mf_error *err) MF_CHECK_RESULT;

#endif
