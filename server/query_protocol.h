/* Between the client of query.h and its process: kinds of messages (process.h) and their payloads.
 */
#ifndef MF_SERVER_QUERY_PROTOCOL_H
#define MF_SERVER_QUERY_PROTOCOL_H

enum mf_query_message {
    /* Requests: {"peer", "level", "keys": [[tag, value], …], "timeout_s"}. */
    MF_QUERY_FIND = 1,
    MF_QUERY_GET,
    MF_QUERY_MOVE,
    /* Answers. */
    MF_QUERY_ROW,   /* a DICOM JSON object */
    MF_QUERY_BEGIN, /* an object … */
    MF_QUERY_DATA,  /* … a piece of it … */
    MF_QUERY_END,   /* … and its end; no payloads but the data's */
    MF_QUERY_DONE   /* the last one: {"code", "message"} of a failure, and {"completed", "failed",
                       "warning", "status", "failed_uids"} of a retrieval */
};

enum { MF_QUERY_MESSAGE_BYTES = 8 << 20, MF_QUERY_MAX_KEYS = 32, MF_QUERY_MAX_ROWS = 200 };

#endif
