/* HTTP: the sockets. Requests come from the network into endpoints and their responses go back
 * (http.c). */
#ifndef MF_SERVER_HTTP_H
#define MF_SERVER_HTTP_H

#include "server/pool.h"
#include "server/services.h"
#include "server/tls.h"
#include "server/waiter.h"

#ifdef __cplusplus
extern "C" {
#endif

struct mf_http;

struct mf_http_options {
    int listen_fd;            /* borrowed */
    const struct mf_tls *tls; /* NULL = plain HTTP; borrowed */
    struct mf_services *services;
    struct mf_pool *pool;     /* runs what may block for a moment */
    struct mf_pool *slow;     /* runs endpoints that say they are slow */
    struct mf_waiter *waiter; /* for requests that wait for a job */
};

struct mf_http *mf_http_start(const struct mf_http_options *options,
                              struct mf_error *err) MF_CHECK_RESULT;
/* Accepts no more connections; those that are open are closed by the next response on each. */
void mf_http_retire(struct mf_http *http);
/* How many connections are open. */
int64_t mf_http_connections(const struct mf_http *http);
/* Accepts no more connections and waits until no request is under way, at most so long. */
void mf_http_drain(struct mf_http *http, int timeout_ms);
/* Closes all connections. The pool and the waiter must have ended what they had. */
void mf_http_stop(struct mf_http *http);

#ifdef __cplusplus
}
#endif

#endif
