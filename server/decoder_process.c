/*
 * The zygote and the life of one decoder. See decoder_process.h.
 *
 * A decoder: fork → limits → sandbox → receive a request → verb → answer → exit; after a scan it
 * waits for one request more, for the frames of what it scanned, and after a description for more
 * of the same sender's. The zygote keeps a copy of every connection: when the client closes its end
 * early the decoder is killed, and when the decoder dies the client is told how.
 */
#include "server/decoder_process.h"

#include "dicom/dicom.h"
#include "server/landlock.h"
#include "server/sandbox.h"
#include "server/syscalls.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

enum {
    MAX_DECODERS = 64,
    CHILD_FDS = MF_MESSAGE_MAX_FDS + 16,
    WARM_BYTES = 640 << 10, /* of heap: what a radiograph needs */
    MMAP_BYTES = 4 << 20    /* larger blocks are mapped, and given back when they are freed */
};

struct child {
    pid_t pid;
    int socket; /* our copy of its connection */
    bool over;  /* its client is gone: it was killed and waits to be reaped */
};

struct zygote {
    struct mf_sandbox *sandbox;
    const mf_decoder_verb *extra;
    size_t extra_count;
    int signals; /* signalfd of SIGCHLD */
    int nowhere; /* /dev/null */
    struct child children[MAX_DECODERS];
    size_t count;
};

/* --- one decoder --- */

static bool slots_are_right(const struct mf_message *m, const struct mf_wire_part *parts, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (parts[i].fd_slot >= m->fd_count || parts[i].kind > MF_PART_EHR)
            return false;
    return true;
}

/* Finds the members of a request in its message; `parts` are copied out, because their descriptors
 * are new. */
static bool read_request(const struct mf_message *m, struct mf_decoder_request *r,
                         struct mf_error *err)
{
    const struct mf_decoder_head *head = (const void *)m->payload.data;
    size_t len = m->payload.len;
    if (len < sizeof *head || head->part_count > MF_DECODER_MAX_PARTS ||
        head->wanted_count > MF_DECODER_MAX_PARTS || head->index_len > len)
        return mf_error_set(err, MF_ERR_INTERNAL, "decoder: a request of the wrong shape");
    size_t parts_size = head->part_count * sizeof(struct mf_wire_part);
    size_t wanted_size = head->wanted_count * sizeof(struct mf_frame_request);
    const char *at = m->payload.data + sizeof *head;
    const struct mf_wire_part *parts = (const void *)at;
    if (len != sizeof *head + parts_size + wanted_size + head->index_len ||
        !slots_are_right(m, parts, head->part_count))
        return mf_error_set(err, MF_ERR_INTERNAL, "decoder: a request of the wrong shape");
    r->part_count = head->part_count;
    r->parts = calloc(head->part_count + 1, sizeof *r->parts);
    if (!r->parts)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "decoder: out of memory");
    for (size_t i = 0; i < head->part_count; i++)
        r->parts[i] = (struct mf_part){(enum mf_part_kind)parts[i].kind, m->fds[parts[i].fd_slot],
                                       parts[i].offset, parts[i].size};
    r->wanted = (const void *)(at + parts_size);
    r->wanted_count = head->wanted_count;
    r->index = at + parts_size + wanted_size;
    r->index_len = head->index_len;
    return true;
}

static mf_decoder_verb find_verb(const struct zygote *z, uint32_t kind)
{
    if (kind == MF_VERB_SCAN)
        return mf_decoder_verb_scan;
    if (kind == MF_VERB_FRAMES || kind == MF_VERB_FRAMES_AHEAD)
        return mf_decoder_verb_frames;
    if (kind == MF_VERB_DESCRIBE)
        return mf_decoder_verb_describe;
    if (kind == MF_VERB_METADATA)
        return mf_decoder_verb_metadata;
    if (kind == MF_VERB_DEIDENTIFY)
        return mf_decoder_verb_deidentify;
    if (kind >= MF_VERB_EXTRA && kind - MF_VERB_EXTRA < z->extra_count)
        return z->extra[kind - MF_VERB_EXTRA];
    return NULL;
}

static bool send_error(int socket, const struct mf_decoder_limits *limits, struct mf_error *err)
{
    struct mf_wire_error wire = {.code = (uint32_t)err->code};
    if (err->code == MF_ERR_NO_MEMORY &&
        limits) { /* its limit, not the machine's, is what it met */
        wire.code = MF_ERR_TOO_LARGE;
        snprintf(wire.msg, sizeof wire.msg, "decoding takes more than the allowed %llu MiB",
                 (unsigned long long)(limits->memory >> 20));
    } else {
        memcpy(wire.msg, err->msg, sizeof wire.msg);
    }
    return mf_message_send(socket, MF_ANSWER_ERROR, &wire, sizeof wire, NULL, 0, 0, NULL);
}

/* Takes the limits and gives everything else up. False when that was not possible: the process
 * ends. */
static bool confine(const struct zygote *z, int socket, struct mf_decoder_limits *ret)
{
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_message) struct mf_message m;
    mf_message_init(&m, sizeof *ret);
    if (!mf_message_receive(socket, &m, 0, NULL) || m.kind != MF_DECODER_LIMITS ||
        m.payload.len != sizeof *ret)
        return false;
    memcpy(ret, m.payload.data, sizeof *ret);
    const struct mf_sandbox_limits limits = {ret->memory, ret->cpu_seconds, CHILD_FDS};
    if (mf_sandbox_enter(z->sandbox, &limits, &err))
        return true;
    bool told = send_error(socket, NULL, &err);
    (void)told;
    return false;
}

/* Has the kernel give the memory that a small request needs while there is no request yet. */
static void warm_heap(void)
{
    char *block = malloc(WARM_BYTES);
    uintptr_t page = ((uintptr_t)block + 4095) & ~(uintptr_t)4095;
    if (block && madvise((void *)page, WARM_BYTES - 4096, MADV_POPULATE_WRITE) != 0)
        memset(block, 0, WARM_BYTES); /* a kernel before 5.14 */
    free(block);
}

/* Carries out one request and answers it. False when the answer could not be sent. */
static bool answer(const struct zygote *z, int socket, const struct mf_decoder_limits *limits,
                   const struct mf_message *m)
{
    struct mf_error err = MF_ERROR_INIT;
    struct mf_decoder_request request = {.limits = limits};
    struct mf_decoder_reply reply = {.fd = -1};
    mf_buffer_init(&reply.payload, MF_DECODER_ANSWER_MAX);
    mf_decoder_verb verb = find_verb(z, m->kind);
    bool ok = verb || mf_error_set(&err, MF_ERR_INTERNAL, "decoder: unknown verb %u", m->kind);
    if (ok && m->kind == MF_VERB_FRAMES_AHEAD)
        ok = mf_buffer_append(&reply.payload, m->payload.data, m->payload.len, &err);
    ok = ok && verb && read_request(m, &request, &err) && verb(&request, &reply, &err);
    bool sent = ok ? mf_message_send(socket, MF_ANSWER_OK, reply.payload.data, reply.payload.len,
                                     &reply.fd, reply.fd >= 0 ? 1 : 0, 0, NULL)
                   : send_error(socket, limits, &err);
    if (reply.fd >= 0)
        close(reply.fd);
    free(request.parts);
    mf_buffer_free(&reply.payload);
    return sent;
}

/* Whether a decoder that has answered its n-th request, of this kind, waits for another one. */
static bool serves_more(uint32_t kind, unsigned n)
{
    return (kind == MF_VERB_SCAN && n < 2) ||
           (kind == MF_VERB_DESCRIBE && n < MF_DECODER_DESCRIBES);
}

/* Serves a connection: one request, a scan and one request more, or descriptions. The exit status.
 */
static int serve(const struct zygote *z, int socket)
{
    struct mf_decoder_limits limits;
    uint32_t kind = MF_VERB_SCAN;
    if (!confine(z, socket, &limits))
        return 0;
    warm_heap();
    for (unsigned n = 0; n == 0 || serves_more(kind, n); n++) {
        MF_AUTO(mf_message) struct mf_message m;
        mf_message_init(&m, MF_DECODER_REQUEST_MAX);
        if (!mf_message_receive(socket, &m, 0, NULL))
            return 0; /* the client wants no more */
        kind = m.kind;
        if (!answer(z, socket, &limits, &m))
            return 1;
    }
    return 0;
}

static void decoder_main(const struct zygote *z, int connection, pid_t parent)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGXFSZ, SIG_IGN); /* a file that grows too large is an error, not a death */
    prctl(PR_SET_NAME, "mf-decoder");
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent)
        _exit(1);
    if (mf_sandbox_is_strict()) { /* a sanitizer's report needs stderr, nothing else does */
        dup2(z->nowhere, STDOUT_FILENO);
        dup2(z->nowhere, STDERR_FILENO);
    }
    if (dup2(connection, 3) < 0 || close_range(4, ~0U, 0) != 0)
        _exit(1);
    _exit(serve(z, 3));
}

/* --- the zygote --- */

/* Only processes of the same user may have files decoded. */
static void start_decoder(struct zygote *z)
{
    int connection = accept4(MF_ZYGOTE_LISTEN_FD, NULL, NULL, SOCK_CLOEXEC);
    if (connection < 0)
        return;
    pid_t parent = getpid();
    pid_t pid = mf_process_peer_is_us(connection) ? fork() : -1;
    if (pid == 0)
        decoder_main(z, connection, parent);
    if (pid < 0)
        close(connection); /* the client sees the end and tries again */
    else
        z->children[z->count++] = (struct child){pid, connection, false};
}

/* Tells a client how its decoder ended; one that does not listen is on its own. */
static void tell_end(int socket, int status)
{
    bool told = mf_message_send(socket, MF_ANSWER_DIED, &status, sizeof status, NULL, 0, 1, NULL);
    (void)told;
}

/* Forgets the decoders that ended. */
static void reap(struct zygote *z)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        for (size_t i = 0; i < z->count; i++) {
            if (z->children[i].pid != pid)
                continue;
            if (status != 0)
                tell_end(z->children[i].socket, status);
            close(z->children[i].socket);
            z->children[i] = z->children[--z->count];
            break;
        }
}

static void take_signals(struct zygote *z)
{
    struct signalfd_siginfo info;
    while (read(z->signals, &info, sizeof info) == (ssize_t)sizeof info) {
    }
    reap(z);
}

static void run(struct zygote *z)
{
    struct pollfd p[2 + MAX_DECODERS];
    for (;;) {
        size_t n = z->count;
        p[0] = (struct pollfd){.fd = z->signals, .events = POLLIN};
        p[1] = (struct pollfd){.fd = n < MAX_DECODERS ? MF_ZYGOTE_LISTEN_FD : -1, .events = POLLIN};
        for (size_t i = 0; i < n; i++) /* POLLHUP alone: the client closed its end */
            p[2 + i] = (struct pollfd){.fd = z->children[i].over ? -1 : z->children[i].socket};
        if (poll(p, 2 + n, -1) < 0)
            continue;
        for (size_t i = 0; i < n; i++)
            if (p[2 + i].revents & (POLLHUP | POLLERR)) {
                kill(z->children[i].pid, SIGKILL);
                z->children[i].over = true;
            }
        if (p[1].revents)
            start_decoder(z);
        if (p[0].revents)
            take_signals(z);
    }
}

/* It opens nothing more, but for what the kernel tells a decoder of its memory, and only makes
 * decoders. */
static bool confine_zygote(struct mf_error *err)
{
    static const char *const kernel[] = {"/proc"};
    const struct mf_landlock files = {.readable = kernel, .readable_count = 1};
    const struct mf_syscalls_left calls = {.processes = true};
    return mf_landlock_enter(&files, err) && mf_syscalls_enter(&calls, err);
}

static bool prepare(struct zygote *z, struct mf_error *err)
{
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    prctl(PR_SET_NAME, "mf-zygote");
    if (sigprocmask(SIG_BLOCK, &child, NULL) != 0 ||
        (z->signals = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK)) < 0 ||
        (z->nowhere = open("/dev/null", O_RDWR | O_CLOEXEC)) < 0 ||
        fcntl(MF_ZYGOTE_LISTEN_FD, F_SETFL, O_NONBLOCK) != 0)
        return mf_error_set(err, MF_ERR_INTERNAL, "decoder: %s", strerror(errno));
    if (!mf_dicom_init(err) || !(z->sandbox = mf_sandbox_new(err)))
        return false;
    mallopt(M_MMAP_THRESHOLD, MMAP_BYTES);
    mallopt(M_TRIM_THRESHOLD, 2 * MMAP_BYTES);
    malloc_trim(0); /* tidies its lists once, instead of in every decoder */
    return confine_zygote(err);
}

int mf_zygote_main(const mf_decoder_verb extra[], size_t extra_count)
{
    struct zygote z = {.extra = extra, .extra_count = extra_count};
    struct mf_error err = MF_ERROR_INIT;
    if (!prepare(&z, &err)) {
        fprintf(stderr, "medfusion: %s\n", err.msg);
        return 1;
    }
    ssize_t told = write(MF_ZYGOTE_READY_FD, "r", 1);
    close(MF_ZYGOTE_READY_FD);
    if (told == 1)
        run(&z);
    return 1;
}
