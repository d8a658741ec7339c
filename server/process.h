/*
 * Processes of one program: starting them, and messages between them.
 *
 * A message is a small header and a payload over a stream socket, with descriptors passed beside
 * the header (SCM_RIGHTS). The receiver caps the payload and the number of descriptors, and every
 * wait has a deadline; waiting is poll(2), never a loop of sleeps.
 */
#ifndef MF_SERVER_PROCESS_H
#define MF_SERVER_PROCESS_H

#include "core/buffer.h"
#include "core/error.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Forks a child that runs main(context) and exits with its status. The child dies with its parent
 * (PR_SET_PDEATHSIG), has the default signal actions, nothing blocked, and `name` (at most 15
 * bytes) as its name in ps. Call it from a process with one thread. −1 on failure. */
pid_t mf_process_fork(const char *name, int (*main)(void *context), void *context,
                      struct mf_error *err);

/* Waits until the parent lets this process loose: true when a byte has come on `fd` (or fd is −1),
 * false when the other end was closed. Closes it. */
bool mf_process_wait_go(int fd);

/* Starts the program that the descriptor `program` is open on (O_PATH is enough) with the arguments
 * argv (NULL-terminated, argv[0] is the name in ps). The descriptors fds[i] become 3 + i in the
 * child, everything else but 0–2 is closed. It dies with its parent. −1 on failure. */
pid_t mf_process_spawn(int program, char *const argv[], const int fds[], size_t fd_count,
                       struct mf_error *err);

/* How a process ended, for messages: "exit status 3", "signal 11 (Segmentation fault)". Returns
 * `out`. */
enum { MF_PROCESS_END_TEXT = 64 };
const char *mf_process_end_text(int wait_status, char out[MF_PROCESS_END_TEXT]);

/* Local services: an address of a Unix socket that the kernel chooses ("@name", unix(7) autobind),
 * and a connection to one. −1 on failure; a service of another user is refused. */
enum { MF_PROCESS_ADDRESS = 64 };
int mf_process_listen(char ret_address[MF_PROCESS_ADDRESS], struct mf_error *err) MF_CHECK_RESULT;
int mf_process_connect(const char *address, struct mf_error *err) MF_CHECK_RESULT;
/* Whether the other end of a connection runs as this user. */
bool mf_process_peer_is_us(int socket);

enum { MF_MESSAGE_MAX_FDS = 128 };

struct mf_message {
    uint32_t kind;            /* meaning belongs to the two ends */
    struct mf_buffer payload; /* its ceiling is set before receiving */
    int fds[MF_MESSAGE_MAX_FDS];
    size_t fd_count;
};

/* An empty message whose payload may have at most `ceiling` bytes. */
void mf_message_init(struct mf_message *m, size_t ceiling);
/* Frees the payload and closes the descriptors received. */
void mf_message_free(struct mf_message *m);

/* Sends one message; the descriptors stay the caller's. `deadline_ns` is of the monotonic clock, 0
 * = none. MF_ERR_IO: the other end is gone; MF_ERR_TIMEOUT. */
bool mf_message_send(int socket, uint32_t kind, const void *payload, size_t len, const int *fds,
                     size_t fd_count, uint64_t deadline_ns, struct mf_error *err) MF_CHECK_RESULT;

/* Receives one message (after mf_message_init()). MF_ERR_IO: the other end is gone;
 * MF_ERR_TOO_LARGE: the payload passes its ceiling; MF_ERR_MALFORMED: the header is not one of
 * ours; MF_ERR_TIMEOUT. */
bool mf_message_receive(int socket, struct mf_message *m, uint64_t deadline_ns,
                        struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_message, struct mf_message, mf_message_free(p))

#endif
