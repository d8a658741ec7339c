/*
 * Query: C-FIND, C-GET and C-MOVE for the processes that must not speak DIMSE themselves.
 *
 * The process mf-query takes requests on a local address and runs each in a forked child, which
 * opens the association, sends what comes as messages (query_protocol.h) and ends. The client gives
 * up by closing its end: the child then cancels the operation (C-CANCEL). A child that dies costs
 * one request.
 */
#ifndef MF_SERVER_QUERY_H
#define MF_SERVER_QUERY_H

#include "core/error.h"
#include "core/json.h"
#include "dicom/net_query.h"
#include "server/config.h"

#ifdef __cplusplus
extern "C" {
#endif

/* --- the process --- */

struct mf_query_options {
    const struct mf_config *config;
    int listen_fd; /* from mf_process_listen(); borrowed */
    int ready_fd;  /* gets one byte when it accepts, and is closed; −1 = none */
};

/* Serves until SIGTERM or SIGINT (which it blocks and takes itself); requests under way are given
 * up then. Call it in a process without other threads. */
bool mf_query_run(const struct mf_query_options *options, struct mf_error *err) MF_CHECK_RESULT;

/* --- the client: any thread of any process of this user --- */

struct mf_query {
    const char *service; /* address of the process */
    const char *peer;    /* dicom(s)://AE@host:port */
    const char *level;   /* STUDY or SERIES */
    const struct mf_net_key *keys;
    size_t key_count;
    int timeout_s; /* for the whole of it */
};

/* The rows that match, an array of DICOM JSON objects; the caller owns it. Errors as mf_net_find()
 * has them, and MF_ERR_TIMEOUT. */
json_t *mf_query_find(const struct mf_query *query, struct mf_error *err) MF_CHECK_RESULT;

/* C-GET: objects go to `sink` as Part 10 files. True when the peer has ended the operation; *ret
 * tells what became of its sub-operations (also with MF_ERR_UNUSABLE, as far as known). */
bool mf_query_get(const struct mf_query *query, const struct mf_net_sink *sink, void *context,
                  struct mf_net_retrieved *ret, struct mf_error *err) MF_CHECK_RESULT;

/* C-MOVE to our own AE title: the objects come to the DIMSE process and are stored instances when
 * this returns. */
bool mf_query_move(const struct mf_query *query, struct mf_net_retrieved *ret,
                   struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
