/* Private to the store: its Unix socket, "store.sock" in the data directory, whatever the length of
 * that path. */
#ifndef MF_SERVER_STORE_SOCKET_H
#define MF_SERVER_STORE_SOCKET_H

#include "core/error.h"

/* A connected stream socket, or −1. */
int mf_store_socket_connect(const char *directory, struct mf_error *err);
/* Whether the other end runs as this user or as root. */
bool mf_store_socket_trusted(int socket);

#endif
