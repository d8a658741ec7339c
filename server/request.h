/*
 * One request and its response, without a socket: what endpoints see. http.c fills requests from
 * the network, tests from text. All memory of a request lies in its arena and lives until the
 * response has been sent.
 *
 * The way of a request: begin (headers are in, must not block) → data… (its body) → handle (may
 * block; runs on a pool thread, with a store) → response; or handle leaves it waiting for a job,
 * and resume follows when the job is terminal or the time is over. Whatever fails turns into a
 * problem document (RFC 9457).
 */
#ifndef MF_SERVER_REQUEST_H
#define MF_SERVER_REQUEST_H

#include "core/arena.h"
#include "core/auto.h"
#include "core/error.h"
#include "core/json.h"
#include "server/store.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    MF_REQUEST_FIELDS = 100,  /* header fields, and query parameters */
    MF_REQUEST_TARGET = 2048, /* bytes of the request target */
    MF_PATH_PARAMETERS = 4,
    MF_RESPONSE_FIELDS = 12
};

struct mf_field {
    const char *name, *value;
};

/* How a connection waits for more of a body that is still being made (http.c gives it). `pause`
 * before `wake`; the maker of the body may hold its own lock meanwhile. */
struct mf_rest {
    void (*pause)(void *connection);
    void (*wake)(void *connection);
    void *connection;
};

struct mf_response {
    int status; /* 0 = none yet */
    const char *content_type;
    struct mf_field fields[MF_RESPONSE_FIELDS];
    size_t field_count;
    const char *body;
    size_t body_len;
    char *owned; /* freed with the request; the body, unless that is static */
    /* A body that is read piece by piece while it is sent, body_len bytes; NULL = `body`. */
    ssize_t (*read)(void *context, uint64_t position, char *out, size_t max);
    void *read_context;
    /* A body without a known end: gives what there is, −1 at its end; or 0 after it has paused the
     * connection, which it will wake. */
    ssize_t (*follow)(void *context, const struct mf_rest *rest, char *out, size_t max);
};

struct mf_request;
struct mf_services;
struct mf_principal;

/* An endpoint: constant data. Any function may be NULL. On false the error becomes the response. */
struct mf_endpoint {
    const char *method;  /* "GET" also serves HEAD */
    const char *pattern; /* "/v1/jobs/{id}": {…} takes one segment */
    bool quick;          /* handle neither blocks nor uses the store: it runs on the event loop */
    bool slow;           /* handle may take seconds: it runs apart, so that others need not wait */
    bool (*begin)(struct mf_request *request, struct mf_error *err);
    bool (*data)(struct mf_request *request, const void *data, size_t len, struct mf_error *err);
    bool (*handle)(struct mf_request *request, struct mf_error *err);
    bool (*resume)(struct mf_request *request, struct mf_error *err);
    void (*dispose)(struct mf_request *request); /* frees what `state` holds outside the arena */
    /* Runs on the pool once a response is on its way: makes ready what the next request needs. */
    void (*after)(struct mf_services *services);
};

struct mf_request {
    struct mf_arena *arena;
    struct mf_services *services;
    struct mf_store *store;               /* set while handle and resume run */
    const char *tenant;                   /* whose data it may see */
    const struct mf_principal *principal; /* who sends it; NULL: nobody has to authenticate */
    const struct mf_endpoint *endpoint;
    const char *method, *path;                  /* path: without the query, escapes as they came */
    const char *parameters[MF_PATH_PARAMETERS]; /* what the pattern's {…} took, decoded */
    struct mf_field headers[MF_REQUEST_FIELDS], query[MF_REQUEST_FIELDS];
    size_t header_count, query_count;
    bool has_length;
    uint64_t content_length; /* as announced */
    uint64_t body_bytes;     /* as received */
    uint64_t started_ns;
    void *state; /* the endpoint's */
    struct mf_response response;

    /* Set by handle when the response has to wait for this job. */
    char wait_for[MF_JOB_ID];
    uint64_t wait_until_ns;
    bool wait_plain;            /* resume needs no store when it is given … */
    struct mf_ended_job *ended; /* … the job and its result (or NULL), while it runs */
};

struct mf_request *mf_request_new(struct mf_services *services,
                                  struct mf_error *err) MF_CHECK_RESULT;
void mf_request_free(struct mf_request *request);

/* Splits and decodes the target of the request line ("/v1/jobs?limit=3"). MF_ERR_MALFORMED: a
 * percent escape that is incomplete or NUL, a control character, or a segment "." or "..";
 * MF_ERR_TOO_LARGE: too long. */
bool mf_request_set_target(struct mf_request *request, const char *target,
                           struct mf_error *err) MF_CHECK_RESULT;
/* Adds the parameters of a query, or of a form (application/x-www-form-urlencoded), which is
 * decoded in place. MF_ERR_MALFORMED. */
bool mf_request_add_query(struct mf_request *request, char *text,
                          struct mf_error *err) MF_CHECK_RESULT;
/* Adds a header field. MF_ERR_HEADERS when there are too many. The strings are copied. */
bool mf_request_add_header(struct mf_request *request, const char *name, const char *value,
                           struct mf_error *err) MF_CHECK_RESULT;
/* Checks the framing fields once all are in: one Host, one Content-Length of digits, never with
 * Transfer-Encoding, which is "chunked" if anything; no Content-Encoding. */
bool mf_request_check_headers(struct mf_request *request, struct mf_error *err) MF_CHECK_RESULT;

/* The first header field of this name (any case), or NULL; how many there are. */
const char *mf_request_header(const struct mf_request *request, const char *name);
size_t mf_request_header_count(const struct mf_request *request, const char *name);
const char *mf_request_query(const struct mf_request *request, const char *name);
/* Refuses query parameters that are not in the NULL-terminated list, and repeated ones. */
bool mf_request_only_query(const struct mf_request *request, const char *const names[],
                           struct mf_error *err) MF_CHECK_RESULT;
/* Whether the client takes the one media type that there is ("type/subtype"); else
 * MF_ERR_NOT_ACCEPTABLE. */
bool mf_request_accepts(const struct mf_request *request, const char *type,
                        struct mf_error *err) MF_CHECK_RESULT;

/* `Prefer: wait=n` (RFC 7240) in seconds, at most 60; 0 without one, and for one that is not
 * understood. */
int mf_request_wait_seconds(const struct mf_request *request);

/* --- responses --- */

/* Adds a field; the value is formatted into the arena. */
bool mf_respond_field(struct mf_request *request, struct mf_error *err, const char *name,
                      const char *format, ...) MF_PRINTF(4, 5);
/* A body that is not copied: `text` is static, or belongs to the arena. */
void mf_respond_static(struct mf_request *request, int status, const char *content_type,
                       const char *text, size_t len);
/* A body that is given away (malloc). */
void mf_respond_take(struct mf_request *request, int status, const char *content_type, char *text,
                     size_t len);
/* A body of `len` bytes that `read` gives from any position on, at least one byte a call, −1 when
 * it cannot; it runs on the event loop until the request is freed. */
void mf_respond_stream(struct mf_request *request, int status, const char *content_type,
                       ssize_t (*read)(void *context, uint64_t position, char *out, size_t max),
                       void *context, uint64_t len);
/* A body that `follow` gives until its end (see struct mf_response); it runs on the event loop
 * until the request is freed. */
void mf_respond_follow(struct mf_request *request, int status, const char *content_type,
                       ssize_t (*follow)(void *context, const struct mf_rest *rest, char *out,
                                         size_t max),
                       void *context);
/* A JSON body; the reference is given away. */
bool mf_respond_json_take(struct mf_request *request, int status, const char *content_type,
                          json_t *value, struct mf_error *err) MF_CHECK_RESULT;
void mf_respond_empty(struct mf_request *request, int status);
/* A problem document with the error's status, and Retry-After for 429 and 503. `job` may be NULL.
 * It cannot fail: without memory it is a fixed text. A body that was prepared before is dropped,
 * fields stay. */
void mf_respond_problem(struct mf_request *request, const struct mf_error *problem,
                        const char *job);

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_request, struct mf_request *, mf_request_free(*p))

#endif
