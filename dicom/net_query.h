/*
 * Query/Retrieve as SCU (PS3.4 annex C, Study Root): C-FIND, C-GET and C-MOVE. Behind DCMTK's fence
 * (dcmtk_net_query.cpp). Answers go to the caller as they come; of objects nothing is parsed but
 * the commands that announce them, identifiers of C-FIND become DICOM JSON after the pre-scan.
 *
 * For a process of its own: it blocks, and what a peer sends is read in it.
 */
#ifndef MF_DICOM_NET_QUERY_H
#define MF_DICOM_NET_QUERY_H

#include "dicom/net.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { MF_NET_FAILED = 32 }; /* failed objects that are remembered by name */

/* An attribute of a request: a matching key, or ("") one to be returned. */
struct mf_net_key {
    uint32_t tag; /* group << 16 | element */
    const char *value;
};

struct mf_net_query {
    const struct mf_net_peer *peer;
    const char *level; /* STUDY, SERIES or IMAGE */
    const struct mf_net_key *keys;
    size_t key_count;
    size_t max_rows; /* of C-FIND; what goes beyond is cancelled and left out */
    int cancel_fd;   /* once it is readable (or closed by its other end) the operation is cancelled
                        (C-CANCEL); −1 = never */
    void *context;   /* of the functions that take what comes */
};

/* Takes one identifier of a C-FIND as a DICOM JSON object (PS3.18 annex F). */
typedef bool mf_net_row(void *context, const char *json, size_t len, struct mf_error *err);

/* Takes the objects of a C-GET: Part 10 files in pieces. False ends the operation. */
struct mf_net_sink {
    bool (*begin)(void *context, struct mf_error *err);
    bool (*data)(void *context, const void *data, size_t len, struct mf_error *err);
    bool (*end)(void *context, struct mf_error *err);
};

/* How the sub-operations of a C-GET or C-MOVE ended. */
struct mf_net_retrieved {
    unsigned completed, failed, warning;
    uint16_t status;                             /* of the last response */
    char failed_uids[MF_NET_FAILED][MF_NET_UID]; /* as far as the peer names them */
    size_t failed_uid_count;
};

/* C-FIND. MF_ERR_UNUSABLE: the peer does not offer it, or answered a failure (with the status);
 * MF_ERR_IO, MF_ERR_TIMEOUT, MF_ERR_MALFORMED: the association; MF_ERR_CONFLICT: cancelled; what
 * `row` set. */
bool mf_net_find(const struct mf_net_query *query, mf_net_row *row,
                 struct mf_error *err) MF_CHECK_RESULT;

/* C-GET: the objects come over the same association. True when the peer has ended the operation,
 * with success or with sub-operations that failed: *ret tells. Errors as above. */
bool mf_net_get(const struct mf_net_query *query, const struct mf_net_sink *sink,
                struct mf_net_retrieved *ret, struct mf_error *err) MF_CHECK_RESULT;

/* C-MOVE: the peer sends the objects to the AE title `destination`, which it must know. */
bool mf_net_move(const struct mf_net_query *query, const char *destination,
                 struct mf_net_retrieved *ret, struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
