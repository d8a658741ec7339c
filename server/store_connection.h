/*
 * Connections of the store server: what has arrived whole, what is to be sent, and the descriptors
 * that pass beside both. Nothing here knows what a request means.
 */
#ifndef MF_SERVER_STORE_CONNECTION_H
#define MF_SERVER_STORE_CONNECTION_H

#include "core/buffer.h"
#include "server/store_wire.h"

#include <stdbool.h>
#include <stdint.h>

struct mf_store_connection {
    int fd;
    struct mf_buffer in, out;
    size_t sent;  /* of out */
    size_t reply; /* where in `out` the answer of this turn begins */
    bool parked, closed, answered;
    bool claimed;   /* the answer of this turn is a claim's, and the only one */
    bool blocked;   /* the socket takes no more: EPOLLOUT is watched */
    int came, goes; /* descriptors: with the input, and with the answer of this turn; 0 = none */
    uint64_t park_deadline_ns;
    uint64_t park_order;
    struct mf_store_connection *next;
};

/* All of them, and the epoll descriptor that tells of their input (epoll_data: the connection). */
struct mf_store_connections {
    int epoll;
    struct mf_store_connection *first;
};

/* epoll_ctl(2). */
bool mf_store_watch(int epoll, int fd, void *tag, uint32_t events, int operation);

/* Takes one that waits at the socket, if it is a process of this user or of root. */
void mf_store_connection_accept(struct mf_store_connections *all, int listen_fd);
/* Ends those that are marked as closed. */
void mf_store_connections_drop_closed(struct mf_store_connections *all);
/* Reads what is there. */
void mf_store_connection_receive(struct mf_store_connection *c);
/* Sends what the socket takes; the rest when it takes more. */
void mf_store_connection_send(const struct mf_store_connections *all,
                              struct mf_store_connection *c);
/* Closes a descriptor that was passed, if there is one (> 0). */
void mf_store_connection_close_passed(int *passed);

/* The frame at `offset` of the input, if it is whole. A frame that is not ours closes the
 * connection. */
bool mf_store_connection_peek(struct mf_store_connection *c, size_t offset,
                              struct mf_wire_header *ret);
/* Removes the frame at the head of the input. */
void mf_store_connection_consume(struct mf_store_connection *c,
                                 const struct mf_wire_header *header);

#endif
