/* Control: see control.h. unix(7): the asking socket gets an address of its own from the kernel. */
#include "server/control.h"

#include "server/store_socket.h"

#include "core/auto.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

static const char NAME[] = "control.sock";

enum { ANSWER_S = 5 };

const char *mf_reload_state_name(enum mf_reload_state state)
{
    static const char *const NAMES[] = {"none", "running", "succeeded", "failed"};
    return NAMES[state];
}

/* --- the supervisor's side --- */

int mf_control_listen(const char *directory, struct mf_error *err)
{
    struct sockaddr_un address;
    MF_AUTO(mf_fd) int dir = mf_store_socket_address(directory, NAME, &address, err);
    if (dir < 0)
        return -1;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    unlink(address.sun_path); /* of an earlier run; the directory's lock keeps a second owner out */
    if (fd >= 0 && bind(fd, (const struct sockaddr *)&address, sizeof address) == 0 &&
        chmod(address.sun_path, 0600) == 0)
        return fd;
    mf_error_set(err, MF_ERR_IO, "%s/%s: cannot be opened (%s)", directory, NAME, strerror(errno));
    if (fd >= 0)
        close(fd);
    return -1;
}

bool mf_control_take(int fd, struct mf_control_question *q)
{
    socklen_t len = sizeof q->from;
    ssize_t n = recvfrom(fd, &q->what, sizeof q->what, 0, (struct sockaddr *)(void *)q->from, &len);
    q->from_len = len;
    return n == (ssize_t)sizeof q->what;
}

void mf_control_answer(int fd, const struct mf_control_question *q,
                       const struct mf_reload_status *status)
{
    ssize_t sent = sendto(fd, status, sizeof *status, MSG_NOSIGNAL,
                          (const struct sockaddr *)(const void *)q->from, q->from_len);
    (void)sent; /* whoever asked is gone */
}

/* --- those who ask --- */

static bool exchange(int fd, const struct sockaddr_un *address, enum mf_control what,
                     struct mf_reload_status *ret)
{
    const struct timeval patience = {.tv_sec = ANSWER_S};
    const struct sockaddr_un own = {.sun_family = AF_UNIX};
    unsigned char question = (unsigned char)what;
    return bind(fd, (const struct sockaddr *)&own, sizeof own.sun_family) == 0 &&
           connect(fd, (const struct sockaddr *)address, sizeof *address) == 0 &&
           setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) == 0 &&
           send(fd, &question, sizeof question, MSG_NOSIGNAL) == (ssize_t)sizeof question &&
           recv(fd, ret, sizeof *ret, 0) == (ssize_t)sizeof *ret;
}

bool mf_control_ask(const char *directory, enum mf_control what, struct mf_reload_status *ret,
                    struct mf_error *err)
{
    struct sockaddr_un address;
    MF_AUTO(mf_fd) int dir = mf_store_socket_address(directory, NAME, &address, err);
    if (dir < 0)
        return false;
    MF_AUTO(mf_fd) int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    errno = 0;
    return (fd >= 0 && exchange(fd, &address, what, ret)) ||
           mf_error_set(err, MF_ERR_UNAVAILABLE, "%s: no daemon answers there (%s)", directory,
                        errno ? strerror(errno) : "its answer is of another version");
}
