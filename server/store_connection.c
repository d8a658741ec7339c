/* Connections of the store server: bytes and descriptors. */
#include "server/store_connection.h"

#include "server/store_socket.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { READ_CHUNK = 16 << 10, KEEP_BYTES = 1 << 20 };

bool mf_store_watch(int epoll, int fd, void *tag, uint32_t events, int operation)
{
    struct epoll_event event = {.events = events, .data.ptr = tag};
    return epoll_ctl(epoll, operation, fd, &event) == 0;
}

void mf_store_connection_accept(struct mf_store_connections *all, int listen_fd)
{
    int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    struct mf_store_connection *c = mf_store_socket_trusted(fd) ? calloc(1, sizeof *c) : NULL;
    if (!c || !mf_store_watch(all->epoll, fd, c, EPOLLIN, EPOLL_CTL_ADD)) {
        free(c);
        close(fd);
        return;
    }
    c->fd = fd;
    mf_buffer_init(&c->in, (size_t)MF_STORE_MESSAGE_MAX + 4096);
    mf_buffer_init(&c->out, 2 * (size_t)MF_STORE_MESSAGE_MAX);
    c->next = all->first;
    all->first = c;
}

void mf_store_connection_close_passed(int *passed)
{
    if (*passed > 0)
        close(*passed);
    *passed = 0;
}

void mf_store_connections_drop_closed(struct mf_store_connections *all)
{
    struct mf_store_connection **link = &all->first;
    while (*link) {
        struct mf_store_connection *c = *link;
        if (!c->closed) {
            link = &c->next;
            continue;
        }
        *link = c->next;
        close(c->fd);
        mf_store_connection_close_passed(&c->came);
        mf_store_connection_close_passed(&c->goes);
        mf_buffer_free(&c->in);
        mf_buffer_free(&c->out);
        free(c);
    }
}

void mf_store_connection_receive(struct mf_store_connection *c)
{
    for (;;) {
        char *at = mf_buffer_reserve(&c->in, READ_CHUNK, NULL);
        ssize_t n = at ? mf_store_socket_receive(c->fd, at, READ_CHUNK, &c->came) : 0;
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return;
        if (n <= 0) {
            c->closed = true;
            return;
        }
        c->in.len += (size_t)n;
        if (n < READ_CHUNK)
            return;
    }
}

static void release_memory(struct mf_buffer *b)
{
    if (b->len == 0 && b->capacity > KEEP_BYTES) {
        size_t ceiling = b->ceiling;
        mf_buffer_free(b);
        mf_buffer_init(b, ceiling);
    }
}

void mf_store_connection_send(const struct mf_store_connections *all, struct mf_store_connection *c)
{
    while (!c->closed && c->sent < c->out.len) {
        ssize_t n =
            mf_store_socket_send(c->fd, c->out.data + c->sent, c->out.len - c->sent, c->goes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            c->blocked = mf_store_watch(all->epoll, c->fd, c, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
            return;
        }
        if (n <= 0) {
            c->closed = true;
            return;
        }
        mf_store_connection_close_passed(&c->goes);
        c->sent += (size_t)n;
    }
    if (c->out.len > 0) {
        c->sent = 0;
        mf_buffer_clear(&c->out);
        release_memory(&c->out);
    }
    if (c->blocked && !c->closed)
        c->blocked = !mf_store_watch(all->epoll, c->fd, c, EPOLLIN, EPOLL_CTL_MOD);
}

bool mf_store_connection_peek(struct mf_store_connection *c, size_t offset,
                              struct mf_wire_header *ret)
{
    if (c->in.len < offset + sizeof *ret)
        return false;
    memcpy(ret, c->in.data + offset, sizeof *ret);
    if (ret->magic != mf_wire_magic() || ret->len > MF_STORE_MESSAGE_MAX) {
        c->closed = true;
        return false;
    }
    return c->in.len - offset - sizeof *ret >= ret->len;
}

void mf_store_connection_consume(struct mf_store_connection *c, const struct mf_wire_header *header)
{
    size_t len = sizeof *header + (size_t)header->len;
    memmove(c->in.data, c->in.data + len, c->in.len - len);
    c->in.len -= len;
    release_memory(&c->in);
}
