/* Private to the two files that know libmicrohttpd. */
#ifndef MF_SERVER_HTTP_PRIVATE_H
#define MF_SERVER_HTTP_PRIVATE_H

#include "server/guard.h"
#include "server/http.h"

#include <pthread.h>

#ifdef __cplusplus
extern "C" {
#endif

struct MHD_Daemon;
struct MHD_Connection;

struct mf_http {
    struct MHD_Daemon *daemon;
    struct mf_http_options options;
    const struct mf_config *config;
    struct mf_guard *guard;
    pthread_mutex_t lock;
    pthread_cond_t idle;
    size_t active;       /* exchanges */
    int64_t connections; /* atomic */
    int retiring;        /* atomic: every response ends its connection */
};

enum mf_stage { MF_STAGE_NEW, MF_STAGE_BODY, MF_STAGE_REFUSED, MF_STAGE_RUNNING, MF_STAGE_ANSWER };

/* One request on its way through the library. */
struct mf_exchange {
    struct mf_http *http;
    struct MHD_Connection *connection;
    struct mf_connection *owner;
    struct mf_request *request;
    struct mf_error refusal; /* why the request is refused, once it is */
    enum mf_stage stage;
    bool unframed; /* refused because of its framing: where its body ends is anybody's guess */
    uint64_t body_start_ns;
    uint64_t followed_ns; /* when a body without an end began; 0 = it is another one */
    struct mf_task task;
    struct mf_wait wait;
};

/* One connection, from accept to close. */
struct mf_connection {
    struct mf_guarded *guarded;
    struct mf_exchange *exchange; /* under way */
};

/* The connection is closed unless something is heard of it within this time. */
void mf_http_set_deadline(struct mf_connection *c, int64_t seconds);
/* The response of the exchange's request, or the reason of its refusal, to the library: MHD_YES,
 * MHD_NO. */
int mf_http_send_response(struct mf_exchange *x);
int mf_http_send_problem(struct mf_exchange *x);

#ifdef __cplusplus
}
#endif

#endif
