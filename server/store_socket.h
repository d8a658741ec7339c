/* Private to the store: its Unix socket, "store.sock" in the data directory, whatever the length of
 * that path. */
#ifndef MF_SERVER_STORE_SOCKET_H
#define MF_SERVER_STORE_SOCKET_H

#include "core/error.h"

#include <sys/types.h>

struct sockaddr_un;

/* The address of a socket of this name in a directory. The descriptor that is returned (−1 on
 * failure) must stay open while the address is used, and is the caller's to close. */
int mf_store_socket_address(const char *directory, const char *name, struct sockaddr_un *address,
                            struct mf_error *err);

/* A connected stream socket, or −1. */
int mf_store_socket_connect(const char *directory, struct mf_error *err);
/* Whether the other end runs as this user or as root. */
bool mf_store_socket_trusted(int socket);

/* send(2), with a descriptor beside the bytes when `passed` > 0; and recv(2): a descriptor that
 * comes is the caller's in *passed, whatever was there (> 0) is closed. */
ssize_t mf_store_socket_send(int socket, const void *data, size_t len, int passed);
ssize_t mf_store_socket_receive(int socket, void *data, size_t len, int *passed);

#endif
