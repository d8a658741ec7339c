/*
 * The store's socket. sun_path holds 107 bytes; longer paths are reached through /proc/self/fd of
 * the opened directory.
 */
#include "server/store_socket.h"

#include "server/store.h"

#include "core/auto.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static const char NAME[] = "store.sock";

enum { BACKLOG = 128 };

int mf_store_socket_address(const char *directory, const char *name, struct sockaddr_un *address,
                            struct mf_error *err)
{
    int dir = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0) {
        mf_error_set(err, MF_ERR_IO, "%s: cannot be opened (%s)", directory, strerror(errno));
        return -1;
    }
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    snprintf(address->sun_path, sizeof address->sun_path, "/proc/self/fd/%d/%s", dir, name);
    return dir;
}

int mf_store_socket_connect(const char *directory, struct mf_error *err)
{
    struct sockaddr_un address;
    MF_AUTO(mf_fd) int dir = mf_store_socket_address(directory, NAME, &address, err);
    if (dir < 0)
        return -1;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    mf_error_set(err, MF_ERR_IO, "the job store cannot be reached (%s)", strerror(errno));
    if (fd >= 0)
        close(fd);
    return -1;
}

bool mf_store_socket_trusted(int socket)
{
    struct ucred peer;
    socklen_t len = sizeof peer;
    return getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 &&
           (peer.uid == geteuid() || peer.uid == 0);
}

int mf_store_listen(const char *directory, struct mf_error *err)
{
    struct sockaddr_un address;
    if (mkdir(directory, 0700) < 0 && errno != EEXIST) {
        mf_error_set(err, MF_ERR_IO, "%s: cannot be created (%s)", directory, strerror(errno));
        return -1;
    }
    MF_AUTO(mf_fd) int dir = mf_store_socket_address(directory, NAME, &address, err);
    if (dir < 0)
        return -1;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    unlink(address.sun_path); /* of an earlier run; the database's lock keeps a second owner out */
    if (fd >= 0 && bind(fd, (const struct sockaddr *)&address, sizeof address) == 0 &&
        chmod(address.sun_path, 0600) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    mf_error_set(err, MF_ERR_IO, "%s: the store's socket cannot be opened (%s)", directory,
                 strerror(errno));
    if (fd >= 0)
        close(fd);
    return -1;
}

union control {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int))];
};

ssize_t mf_store_socket_send(int socket, const void *data, size_t len, int passed)
{
    union control control = {.bytes = {0}};
    struct iovec iov = {(void *)(uintptr_t)data, len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (passed > 0) {
        msg.msg_control = control.bytes;
        msg.msg_controllen = sizeof control.bytes;
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof passed);
        memcpy(CMSG_DATA(c), &passed, sizeof passed);
    }
    return sendmsg(socket, &msg, MSG_NOSIGNAL);
}

ssize_t mf_store_socket_receive(int socket, void *data, size_t len, int *passed)
{
    union control control;
    struct iovec iov = {data, len};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.bytes,
                         .msg_controllen = sizeof control.bytes};
    ssize_t n = recvmsg(socket, &msg, MSG_CMSG_CLOEXEC);
    struct cmsghdr *c = n >= 0 ? CMSG_FIRSTHDR(&msg) : NULL;
    if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
        c->cmsg_len == CMSG_LEN(sizeof *passed)) {
        if (*passed > 0)
            close(*passed);
        memcpy(passed, CMSG_DATA(c), sizeof *passed);
    }
    return n;
}
