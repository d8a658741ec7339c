/*
 * The zygote as its parent sees it: see decoder.h.
 *
 * It runs the program medfusion-decoder, which has what decoding needs and nothing else: no HTTP,
 * no TLS, no engine. A program that has none beside it (a test, a copy of medfusion alone) plays
 * the part itself.
 */
#include "server/decoder_protocol.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { START_MS = 20000 };

struct mf_zygote {
    int program; /* opened once: an update on the disk is for the next start of the daemon */
    int listen_fd;
    pid_t pid;
    char address[MF_PROCESS_ADDRESS];
};

static char main_program[PATH_MAX] = "/proc/self/exe";

bool mf_zygote_set_program(const char *path, struct mf_error *err)
{
    size_t len = strlen(path);
    if (len >= sizeof main_program)
        return mf_error_set(err, MF_ERR_USAGE, "%.80s…: the path is too long", path);
    memcpy(main_program, path, len + 1);
    return true;
}

/* FOLDER/relative, FOLDER being that of the program; −1 when it is not there. */
static int open_beside(const char *relative)
{
    char path[PATH_MAX], *slash;
    size_t len = strlen(relative) + 1;
    if (!realpath(main_program, path) || !(slash = strrchr(path, '/')) ||
        len > sizeof path - (size_t)(slash + 1 - path))
        return -1;
    memcpy(slash + 1, relative, len);
    return access(path, X_OK) == 0 ? open(path, O_PATH | O_CLOEXEC) : -1;
}

static int open_program(struct mf_error *err)
{
    int fd = open_beside("medfusion-decoder");
    if (fd < 0)
        fd = open_beside("../libexec/medfusion/medfusion-decoder");
    if (fd < 0)
        fd = open(main_program, O_PATH | O_CLOEXEC);
    if (fd < 0)
        mf_error_set(err, MF_ERR_INTERNAL, "%s: %s", main_program, strerror(errno));
    return fd;
}

/* Waits for the byte that says that the zygote is prepared. */
static bool wait_for_byte(int fd, struct mf_error *err)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    char byte;
    int n;
    while ((n = poll(&p, 1, START_MS)) < 0 && errno == EINTR) {
    }
    if (n <= 0 || read(fd, &byte, 1) != 1)
        return mf_error_set(err, MF_ERR_INTERNAL, "the decoder process did not start");
    return true;
}

bool mf_zygote_restart(struct mf_zygote *z, struct mf_error *err)
{
    char name[] = "medfusion", role[] = MF_ZYGOTE_ROLE;
    char *const argv[] = {name, role, NULL};
    int ready[2];
    if (pipe2(ready, O_CLOEXEC) != 0)
        return mf_error_set(err, MF_ERR_INTERNAL, "decoder: %s", strerror(errno));
    const int fds[] = {z->listen_fd, ready[1]};
    z->pid = mf_process_spawn(z->program, argv, fds, 2, err);
    close(ready[1]);
    bool ok = z->pid > 0 && wait_for_byte(ready[0], err);
    close(ready[0]);
    return ok;
}

struct mf_zygote *mf_zygote_start(struct mf_error *err)
{
    struct mf_zygote *z = calloc(1, sizeof *z);
    if (!z) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
        return NULL;
    }
    z->program = open_program(err);
    z->listen_fd = z->program < 0 ? -1 : mf_process_listen(z->address, err);
    if (z->listen_fd >= 0 && mf_zygote_restart(z, err))
        return z;
    mf_zygote_stop(z);
    return NULL;
}

const char *mf_zygote_address(const struct mf_zygote *z)
{
    return z->address;
}

int mf_zygote_pid(const struct mf_zygote *z)
{
    return z->pid;
}

void mf_zygote_stop(struct mf_zygote *z)
{
    if (!z)
        return;
    if (z->pid > 0 && kill(z->pid, SIGKILL) == 0) /* it holds nothing that needs an orderly end */
        while (waitpid(z->pid, NULL, 0) < 0 && errno == EINTR) {
        }
    if (z->listen_fd >= 0)
        close(z->listen_fd);
    if (z->program >= 0)
        close(z->program);
    free(z);
}
