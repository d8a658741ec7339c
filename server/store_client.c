/*
 * Store client: the verbs over a Unix socket to the store process.
 *
 * One request is under way at a time. When the connection breaks the request is sent again over a
 * new one, which is harmless for every verb (store.h), until patience_ms have passed without an
 * answer.
 */
#include "server/store_client.h"

#include "server/store_socket.h"

#include "core/clock.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    RETRY_PAUSE_MS = 20,
    READ_CHUNK = 4096,
    KEEP_BYTES = 1 << 20,
    MESSAGE_ROOM = MF_STORE_MESSAGE_MAX + READ_CHUNK * 2
};

static struct mf_store_client *self(struct mf_store *store)
{
    return (struct mf_store_client *)store;
}

/* --- one request and its reply --- */

static void disconnect(struct mf_store_client *c)
{
    if (c->socket >= 0)
        close(c->socket);
    c->socket = -1;
}

/* What came with an earlier answer, or with half of one. */
static void drop_passed(struct mf_store_client *c)
{
    if (c->passed > 0)
        close(c->passed);
    c->passed = 0;
}

static bool send_all(struct mf_store_client *c, const char *data, size_t len, int passing)
{
    while (len > 0) {
        ssize_t n = mf_store_socket_send(c->socket, data, len, passing);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        passing = 0;
        data += n;
        len -= (size_t)n;
    }
    return true;
}

static int remaining_ms(uint64_t deadline_ns)
{
    if (deadline_ns == UINT64_MAX)
        return -1;
    uint64_t now = mf_clock_monotonic_ns();
    return now >= deadline_ns ? 0 : (int)((deadline_ns - now) / 1000000 + 1);
}

/* Passes an interrupt on to the server, whose reply to the waiting request then follows at once. */
static bool pass_interrupt(struct mf_store_client *c)
{
    uint64_t n;
    struct mf_wire_header header = {mf_wire_magic(), MF_VERB_INTERRUPT, 0};
    c->interrupt_passed = true;
    return read(c->interrupt, &n, sizeof n) == (ssize_t)sizeof n &&
           send_all(c, (const char *)&header, sizeof header, 0);
}

/* Reads on until c->in holds `need` bytes. `waiting`: an interrupt may end the wait. */
static bool receive(struct mf_store_client *c, size_t need, bool waiting, uint64_t deadline_ns)
{
    while (c->in.len < need) {
        struct pollfd fds[2] = {{c->socket, POLLIN, 0}, {waiting ? c->interrupt : -1, POLLIN, 0}};
        int ready = poll(fds, 2, remaining_ms(deadline_ns));
        if (ready < 0 && errno == EINTR)
            continue;
        if (ready <= 0 || (fds[1].revents && !pass_interrupt(c)))
            return false;
        if (!fds[0].revents)
            continue;
        size_t room = need - c->in.len < READ_CHUNK ? READ_CHUNK : need - c->in.len;
        char *at = mf_buffer_reserve(&c->in, room, NULL);
        ssize_t n = at ? mf_store_socket_receive(c->socket, at, room, &c->passed) : 0;
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        c->in.len += (size_t)n;
    }
    return true;
}

/* The whole reply in c->in; false when the connection is of no use any more. */
static bool exchange(struct mf_store_client *c, bool waiting, uint64_t deadline_ns,
                     uint32_t *ret_kind)
{
    struct mf_wire_header header;
    mf_buffer_clear(&c->in);
    drop_passed(c);
    if (!send_all(c, c->out.data, c->out.len, c->passing) ||
        !receive(c, sizeof header, waiting, deadline_ns))
        return false;
    memcpy(&header, c->in.data, sizeof header);
    *ret_kind = header.kind;
    return header.magic == mf_wire_magic() && header.len <= MF_STORE_MESSAGE_MAX &&
           receive(c, sizeof header + (size_t)header.len, false, deadline_ns);
}

static void trim(struct mf_buffer *b)
{
    if (b->capacity <= KEEP_BYTES)
        return;
    mf_buffer_free(b);
    mf_buffer_init(b, MESSAGE_ROOM);
}

static bool no_answer(struct mf_error *err)
{
    return mf_error_set(err, MF_ERR_IO, "the job store does not answer; try again later");
}

static void client_interrupt(struct mf_store *store)
{
    uint64_t one = 1;
    ssize_t ignored = write(self(store)->interrupt, &one, sizeof one);
    (void)ignored; /* a full counter has been interrupted already */
}

/* Sends the frame in c->out until it is answered. wait_ms: how long the server may hold the answer
 * back. */
static bool call(struct mf_store_client *c, int wait_ms, struct mf_wire_reader *reply,
                 struct mf_error *err)
{
    uint64_t patience = (uint64_t)c->patience_ms * 1000000;
    uint64_t give_up = mf_clock_monotonic_ns() + patience;
    for (;;) {
        uint64_t now = mf_clock_monotonic_ns();
        uint64_t deadline = wait_ms < 0 ? UINT64_MAX : now + patience + (uint64_t)wait_ms * 1000000;
        uint32_t kind = 0;
        bool connected = c->socket >= 0;
        if (!connected)
            c->socket = mf_store_socket_connect(c->directory, NULL);
        if (c->socket >= 0 && exchange(c, wait_ms != 0, deadline, &kind)) {
            c->interrupt_passed = false;
            const size_t head = sizeof(struct mf_wire_header);
            *reply = (struct mf_wire_reader){c->in.data + head, c->in.len - head, false};
            if (kind == MF_REPLY_OK)
                return true;
            struct mf_error remote = MF_ERROR_INIT;
            mf_wire_get(reply, &remote, sizeof remote);
            remote.msg[sizeof remote.msg - 1] = '\0';
            return mf_error_set(err, remote.code, "%s", remote.msg);
        }
        disconnect(c);
        if (c->interrupt_passed) /* it went down with the connection: once more */
            client_interrupt(&c->base);
        c->interrupt_passed = false;
        if (connected) /* the store was restarted: patience starts now */
            give_up = mf_clock_monotonic_ns() + patience;
        else if (mf_clock_monotonic_ns() >= give_up)
            return no_answer(err);
        else
            poll(NULL, 0, RETRY_PAUSE_MS);
    }
}

struct mf_wire_writer mf_client_begin(struct mf_store_client *c, enum mf_store_verb verb)
{
    trim(&c->out);
    mf_buffer_clear(&c->out);
    struct mf_wire_writer w = {&c->out, false};
    mf_wire_begin(&w, verb);
    return w;
}

bool mf_client_call(struct mf_store_client *c, struct mf_wire_writer *w, int wait_ms,
                    struct mf_wire_reader *reply, struct mf_error *err)
{
    mf_wire_end(w, 0);
    if (w->failed)
        return mf_error_set(err, MF_ERR_TOO_LARGE, "a message to the job store is too large");
    trim(&c->in);
    bool ok = call(c, wait_ms, reply, err);
    c->passing = 0;
    return ok;
}

bool mf_client_check(const struct mf_wire_reader *reply, struct mf_error *err)
{
    if (reply->failed)
        return mf_error_set(err, MF_ERR_INTERNAL, "the job store gave an unexpected answer");
    return true;
}

static void client_free(struct mf_store *store)
{
    struct mf_store_client *c = self(store);
    disconnect(c);
    drop_passed(c);
    if (c->interrupt >= 0)
        close(c->interrupt);
    mf_buffer_free(&c->out);
    mf_buffer_free(&c->in);
    free(c->directory);
    free(c);
}

struct mf_store *mf_store_connect(const char *directory, int patience_ms, struct mf_error *err)
{
    struct mf_store_client *c = calloc(1, sizeof *c);
    if (!c) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a connection to the job store");
        return NULL;
    }
    c->ops = mf_client_verbs;
    c->ops.free = client_free;
    c->ops.interrupt = client_interrupt;
    c->base.ops = &c->ops;
    c->socket = -1;
    c->patience_ms = patience_ms;
    mf_buffer_init(&c->out, MESSAGE_ROOM);
    mf_buffer_init(&c->in, MESSAGE_ROOM);
    c->directory = strdup(directory);
    c->interrupt = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (!c->directory || c->interrupt < 0) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a connection to the job store");
        client_free(&c->base);
        return NULL;
    }
    return &c->base;
}
