/*
 * Web client: requests to configured DICOMweb, FHIR and authorization servers, behind a fence
 * around libcurl. Addresses come from the configuration only, never from a request; redirects are
 * not followed, only http and https are spoken, and every exchange has a deadline and a ceiling of
 * bytes.
 */
#ifndef MF_SERVER_WEB_CLIENT_H
#define MF_SERVER_WEB_CLIENT_H

#include "core/buffer.h"
#include "core/error.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mf_web_pool;

struct mf_web_request {
    const char *url, *accept;
    const char *method;       /* NULL: POST with a content_type, else GET */
    const char *content_type; /* of `body`, or NULL */
    const void *body;
    size_t body_len;
    int file; /* > 0: body_len bytes of this descriptor from file_offset are the body instead */
    uint64_t file_offset;
    const char *authorization; /* of the header field, or NULL */
    const char *const *fields; /* further header fields, "name: value"; NULL at the end, or NULL */
    const char *ca_file;       /* PEM; NULL = the system's authorities */
    int timeout_s;
    uint64_t max_bytes; /* of the answer; 0 = 16 MiB */
    /* Takes the answer's body as it comes; false stops with the error. `content_type` is that of
     * the answer. */
    bool (*data)(void *context, const char *content_type, const void *data, size_t len,
                 struct mf_error *err);
    /* Is told of every header field of the answer; NULL: nobody. */
    void (*field)(void *context, const char *name, const char *value);
    void *context;
    struct mf_web_pool *pool; /* connections to go on with; NULL: a new one */
};

/* Connections that stay open from one request to the next, for any number of threads. */
struct mf_web_pool *mf_web_pool_new(struct mf_error *err) MF_CHECK_RESULT;
void mf_web_pool_free(struct mf_web_pool *pool);

/* `text` appended with everything that is not unreserved (RFC 3986) percent-encoded. */
bool mf_web_encode(struct mf_buffer *out, const char *text, struct mf_error *err) MF_CHECK_RESULT;
/* A `data` that appends to the mf_buffer `context`. */
bool mf_web_keep(void *context, const char *content_type, const void *data, size_t len,
                 struct mf_error *err);

/* Whether a URL is http or https with a host, and has no user, query or fragment. */
bool mf_web_url_plain(const char *url);
/* Whether what is sent to such a URL cannot be read on the way: https, or this machine itself. */
bool mf_web_url_protected(const char *url);

struct sockaddr;
/* Whether requests may go to this address: not to link-local ones (where clouds keep credentials),
 * multicast, broadcast and unspecified ones, in any of their spellings in IPv6. Every connection is
 * checked. */
bool mf_web_address_allowed(const struct sockaddr *address);

/* Sends it; *ret_status is the answer's. Only bodies of 2xx answers go to `data`. False: MF_ERR_IO,
 * MF_ERR_TIMEOUT, MF_ERR_TOO_LARGE, or what `data` set. Thread-safe after the first call. */
bool mf_web_send(const struct mf_web_request *request, long *ret_status,
                 struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
