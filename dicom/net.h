/*
 * DICOM associations (PS3.7, PS3.8). Behind DCMTK's fence (dcmtk_net_scp.cpp, dcmtk_net_scu.cpp).
 *
 * The accepting side: one call serves one association on a connected socket: negotiation, C-ECHO,
 * C-STORE, storage commitment. Objects go to the handler in pieces as they arrive; nothing is
 * parsed here but commands and commitments.
 */
#ifndef MF_DICOM_NET_H
#define MF_DICOM_NET_H

#include "dicom/commitment.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { MF_NET_AE = 17, MF_NET_UID = 65 }; /* bytes with the NUL */

/* PS3.15 B.9 (BCP 195, non-downgrading): PEM files; all NULL = no TLS. */
struct mf_net_tls {
    const char *certificate, *key;
    const char *ca; /* peers must have a certificate of these */
};

enum mf_net_admission {
    MF_NET_ADMIT,
    MF_NET_REJECT_CALLING, /* calling AE title not recognised */
    MF_NET_REJECT_CALLED   /* called AE title not recognised */
};

/* What a C-STORE request announced. */
struct mf_net_object {
    char sop_class[MF_NET_UID], sop_instance[MF_NET_UID], transfer_syntax[MF_NET_UID];
    char move_originator[MF_NET_AE]; /* AE title that asked for it by C-MOVE; "" = none */
};

struct mf_net_handler {
    enum mf_net_admission (*admit)(void *context, const char *calling, const char *called);
    /* One object: begin, its data set in pieces, end, which gives the status of the response.
     * `whole`: the data set is complete; false: the association broke, there is no response.
     * ret_reason: set where the object is refused; the handler's, until the next object begins. */
    void (*store_begin)(void *context, const struct mf_net_object *object);
    void (*store_data)(void *context, const void *data, size_t len);
    uint16_t (*store_end)(void *context, bool whole, const char **ret_reason);
    /* Storage commitment (PS3.4 annex J): sets the reason of each item that is not committed.
     * False: nothing can be said now (the request is answered with a processing failure). */
    bool (*commit)(void *context, struct mf_commitment *commitment);
    /* After the response: sends the report elsewhere. False: it goes out on this association. */
    bool (*report)(void *context, const struct mf_commitment *commitment);
    /* The peer has answered a report on this association with this status. */
    void (*reported)(void *context, uint16_t status);
    /* A report of what we asked a peer to commit; the status of the answer. */
    uint16_t (*event)(void *context, const struct mf_commitment *commitment);
};

struct mf_net_options {
    uint32_t max_pdu;      /* bytes that we are willing to receive, 4096 … 131072 */
    int timeout_s;         /* without anything from the peer, and for the negotiation */
    int64_t min_byte_rate; /* of a data set, averaged, after its first timeout_s */
    struct mf_net_tls tls;
};

/* Serves the association on `socket` (taken over and closed) until it is released or aborted. True
 * after a release. False: MF_ERR_FORBIDDEN rejected, MF_ERR_TIMEOUT, MF_ERR_MALFORMED, MF_ERR_IO.
 * For a process of its own: DCMTK takes the socket from a global, and a peer that trickles bytes
 * inside one PDU is ended by SIGALRM. */
bool mf_net_serve(int socket, const struct mf_net_options *options,
                  const struct mf_net_handler *handler, void *context, struct mf_error *err);

/* --- the requesting side --- */

struct mf_net_peer {
    const char *host;
    int port;
    const char *called, *calling; /* AE titles */
    int timeout_s;
    bool secure;           /* with TLS: the peer must show a certificate of tls.ca, … */
    struct mf_net_tls tls; /* … and gets ours, if any */
};

/* A Part 10 file in memory. */
struct mf_net_file {
    const void *data;
    size_t len;
};

/* Reports the outcome of a storage commitment (N-EVENT-REPORT, as SCP) over an association of its
 * own. MF_ERR_IO, MF_ERR_TIMEOUT: the peer cannot be reached or broke off; MF_ERR_UNUSABLE: it does
 * not take reports, or refused this one. */
bool mf_net_report(const struct mf_net_peer *peer, const struct mf_commitment *commitment,
                   struct mf_error *err) MF_CHECK_RESULT;

/* Asks for storage commitment (N-ACTION, as SCU) over an association of its own, and keeps it open
 * for at most wait_s for the report; *ret is the report, memory of the arena, its count 0 when it
 * has not come: then it comes later, on an association that the peer opens (mf_net_serve). Errors
 * as of mf_net_report(). */
bool mf_net_commit(const struct mf_net_peer *peer, const struct mf_commitment *asked, int wait_s,
                   struct mf_arena *arena, struct mf_commitment *ret,
                   struct mf_error *err) MF_CHECK_RESULT;

/* Sends the files by C-STORE over one association. True when the peer has answered success or a
 * warning for each. MF_ERR_IO, MF_ERR_TIMEOUT: the peer cannot be reached or broke off;
 * MF_ERR_UNUSABLE: it refused one of them, with the status; MF_ERR_MALFORMED: a file of ours cannot
 * be read. */
bool mf_net_store(const struct mf_net_peer *peer, const struct mf_net_file *files, size_t n,
                  struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
