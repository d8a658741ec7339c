/* Decoder client: connections and requests. See decoder.h, and decoder_protocol.h for what is said
 * on the wire; frames are in decoder_frames.c. */
#include "server/decoder_client.h"

#include "core/clock.h"
#include "server/config.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

/* How often a request is repeated when its decoder was killed from outside (kill -9, a zygote that
 * died). */
enum { OUTSIDE_KILLS = 5 };

static void fill_limits(struct mf_decoder_limits *l)
{
    l->memory = l->memory ? l->memory : 1ULL << 30;
    l->cpu_seconds = l->cpu_seconds ? l->cpu_seconds : 20;
    l->wall_seconds = l->wall_seconds ? l->wall_seconds : 3 * l->cpu_seconds;
    l->expanded_bytes = l->expanded_bytes ? l->expanded_bytes : 1ULL << 30;
    l->expansion_ratio = l->expansion_ratio ? l->expansion_ratio : 200;
    l->objects = l->objects ? l->objects : 10000;
    l->ehr_bytes = l->ehr_bytes ? l->ehr_bytes : 16 << 20;
}

struct mf_decoder_limits mf_decoder_limits_of(const struct mf_config *config)
{
    return (struct mf_decoder_limits){
        .memory = (uint64_t)config->decoder.memory_bytes,
        .cpu_seconds = (unsigned)config->decoder.cpu_s,
        .expanded_bytes = (uint64_t)config->decoder.max_total_bytes,
        .expansion_ratio = (unsigned)config->decoder.max_ratio,
        .objects = (unsigned)config->decoder.max_objects,
        .ehr_bytes = (uint64_t)config->http.max_ehr_bytes,
    };
}

struct mf_decoder *mf_decoder_new(const char *address, unsigned connections,
                                  const struct mf_decoder_limits *limits, struct mf_error *err)
{
    struct mf_decoder *d = calloc(1, sizeof *d);
    size_t len = strlen(address);
    if (!d || len < 2 || len >= MF_PROCESS_ADDRESS || address[0] != '@') {
        mf_error_set(err, d ? MF_ERR_USAGE : MF_ERR_NO_MEMORY,
                     d ? "decoder: not an address: %.40s" : "out of memory", address);
        free(d);
        return NULL;
    }
    d->address.sun_family = AF_UNIX; /* abstract: a NUL, then the name */
    memcpy(d->address.sun_path + 1, address + 1, len - 1);
    d->address_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
    if (limits)
        d->limits = *limits;
    fill_limits(&d->limits);
    d->connections = connections ? connections : 1;
    d->adopted = -1;
    d->spares_wanted = d->connections < MF_DECODER_SPARES ? d->connections : MF_DECODER_SPARES;
    pthread_mutex_init(&d->lock, NULL);
    pthread_cond_init(&d->slot_free, NULL);
    return d;
}

void mf_decoder_free(struct mf_decoder *d)
{
    if (!d)
        return;
    for (size_t i = 0; i < d->spare_count; i++)
        close(d->spares[i]);
    for (size_t i = 0; i < d->kept_count; i++)
        close(d->kept[i].fd);
    if (d->adopted >= 0)
        close(d->adopted);
    pthread_cond_destroy(&d->slot_free);
    pthread_mutex_destroy(&d->lock);
    free(d);
}

static bool peer_is_us(int fd, struct mf_error *err)
{
    return mf_process_peer_is_us(fd) ||
           mf_error_set(err, MF_ERR_UNAVAILABLE, "the decoder's address belongs to another user");
}

/* Connects, which makes a decoder, and tells it its limits; waits only while the zygote's backlog
 * is full. */
static int connect_new(const struct mf_decoder *d, int flags, struct mf_error *err)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&d->address, d->address_len) != 0)
        mf_error_set(err, MF_ERR_UNAVAILABLE, "the decoder cannot be reached: %s", strerror(errno));
    else if (peer_is_us(fd, err) &&
             mf_message_send(fd, MF_DECODER_LIMITS, &d->limits, sizeof d->limits, NULL, 0,
                             mf_clock_monotonic_ns() + 1000000000, err))
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

/* A connection of the sender's own decoder, or a fresh one; *ret says which of them it is. */
static void take_connection(struct mf_decoder *d, const char *sender, struct mf_kept_decoder *ret,
                            struct mf_error *err)
{
    size_t i = 0;
    pthread_mutex_lock(&d->lock);
    *ret = (struct mf_kept_decoder){.fd = d->spare_count ? d->spares[0] : -1};
    while (sender && i < d->kept_count && strcmp(d->kept[i].sender, sender) != 0)
        i++;
    if (sender && i < d->kept_count) {
        *ret = d->kept[i];
        memmove(d->kept + i, d->kept + i + 1, (--d->kept_count - i) * sizeof d->kept[0]);
    } else if (ret->fd >= 0) {
        memmove(d->spares, d->spares + 1, --d->spare_count * sizeof d->spares[0]);
    }
    pthread_mutex_unlock(&d->lock);
    if (ret->fd < 0)
        ret->fd = connect_new(d, 0, err);
}

/* Keeps the connection for the sender's next objects, in the place of the one that waits longest if
 * there is no other. */
static void keep_connection(struct mf_decoder *d, const char *sender, struct mf_kept_decoder *one)
{
    int out = -1;
    if (!sender || strlen(sender) >= sizeof one->sender ||
        ++one->described == MF_DECODER_DESCRIBES) {
        close(one->fd);
        return;
    }
    memcpy(one->sender, sender, strlen(sender) + 1);
    pthread_mutex_lock(&d->lock);
    if (d->kept_count == MF_DECODER_KEPT) {
        out = d->kept[0].fd;
        memmove(d->kept, d->kept + 1, --d->kept_count * sizeof d->kept[0]);
    }
    d->kept[d->kept_count++] = *one;
    pthread_mutex_unlock(&d->lock);
    if (out >= 0)
        close(out);
}

static void take_slot(struct mf_decoder *d)
{
    pthread_mutex_lock(&d->lock);
    while (d->in_use == d->connections)
        pthread_cond_wait(&d->slot_free, &d->lock);
    d->in_use++;
    pthread_mutex_unlock(&d->lock);
}

/* With the lock held: has decoders made until `count` wait. */
static void fill_spares(struct mf_decoder *d, size_t count)
{
    while (d->spare_count < count) {
        int fd = connect_new(d, SOCK_NONBLOCK, NULL);
        if (fd < 0)
            return;
        d->spares[d->spare_count++] = fd;
    }
}

void mf_decoder_prepare(struct mf_decoder *d)
{
    pthread_mutex_lock(&d->lock);
    d->prepared = true;
    fill_spares(d, d->spares_wanted);
    pthread_mutex_unlock(&d->lock);
}

static void release_slot(struct mf_decoder *d)
{
    pthread_mutex_lock(&d->lock);
    d->in_use--;
    if (!d->prepared && d->kept_count == 0)
        fill_spares(d, 1);
    pthread_cond_signal(&d->slot_free);
    pthread_mutex_unlock(&d->lock);
}

/* --- one request --- */

/* The slot of a descriptor among those passed; parts of one pack share one. */
static bool fd_slot(struct mf_decoder_wire *r, int fd, uint32_t *ret, struct mf_error *err)
{
    for (size_t i = r->fd_count; i-- > 0;)
        if (r->fds[i] == fd) {
            *ret = (uint32_t)i;
            return true;
        }
    if (r->fd_count == MF_DECODER_MAX_FDS)
        return mf_error_set(err, MF_ERR_TOO_LARGE, "more than %d files in one request",
                            MF_DECODER_MAX_FDS);
    *ret = (uint32_t)r->fd_count;
    r->fds[r->fd_count++] = fd;
    return true;
}

static bool append_parts(struct mf_decoder_wire *r, const struct mf_decoder_call *call,
                         struct mf_error *err)
{
    for (size_t i = 0; i < call->part_count; i++) {
        const struct mf_part *p = &call->parts[i];
        struct mf_wire_part wire = {(uint32_t)p->kind, 0, p->offset, p->size};
        if (!fd_slot(r, p->fd, &wire.fd_slot, err) ||
            !mf_buffer_append(&r->payload, &wire, sizeof wire, err))
            return false;
    }
    return true;
}

bool mf_decoder_build(const struct mf_decoder_call *call, struct mf_decoder_wire *r,
                      struct mf_error *err)
{
    struct mf_buffer *b = &r->payload;
    struct mf_decoder_head head = {.part_count = (uint32_t)call->part_count,
                                   .wanted_count = (uint32_t)call->wanted_count,
                                   .index_len = call->index_len};
    if (call->part_count > MF_DECODER_MAX_PARTS || call->wanted_count > MF_DECODER_MAX_PARTS)
        return mf_error_set(err, MF_ERR_TOO_LARGE, "more than %d parts", MF_DECODER_MAX_PARTS);
    mf_buffer_init(b, MF_DECODER_REQUEST_MAX);
    return mf_buffer_append(b, &head, sizeof head, err) && append_parts(r, call, err) &&
           mf_buffer_append(b, call->wanted, call->wanted_count * sizeof *call->wanted, err) &&
           mf_buffer_append(b, call->index, call->index_len, err);
}

/* What the decoder said went wrong, as untrusted as everything else it says. */
static bool take_error(const struct mf_message *answer, struct mf_error *err)
{
    struct mf_wire_error wire;
    if (answer->payload.len != sizeof wire)
        return mf_error_set(err, MF_ERR_CRASHED, "the decoder's answer makes no sense");
    memcpy(&wire, answer->payload.data, sizeof wire);
    wire.msg[sizeof wire.msg - 1] = '\0';
    for (char *c = wire.msg; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7F)
            *c = '?';
    bool known = wire.code > MF_OK && wire.code < MF_CODE_COUNT;
    return mf_error_set(err, known ? (enum mf_code)wire.code : MF_ERR_INTERNAL, "%s", wire.msg);
}

enum outcome { DONE, FAILED, KILLED_OUTSIDE };

/* Judges how a decoder ended: SIGKILL comes from outside, everything else is its own doing. */
static enum outcome judge_death(const struct mf_decoder *d, const struct mf_message *answer,
                                struct mf_error *err)
{
    int status = 0;
    char text[MF_PROCESS_END_TEXT];
    if (answer->payload.len == sizeof status)
        memcpy(&status, answer->payload.data, sizeof status);
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) {
        mf_error_set(err, MF_ERR_CRASHED, "the decoder was killed from outside");
        return KILLED_OUTSIDE;
    }
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGXCPU)
        mf_error_set(err, MF_ERR_TIMEOUT, "decoding took more than %u seconds of CPU time",
                     d->limits.cpu_seconds);
    else
        mf_error_set(err, MF_ERR_CRASHED, "decoding crashed: %s",
                     mf_process_end_text(status, text));
    return FAILED;
}

/* Sends the request over one connection and takes the answer. */
static enum outcome try_connection(const struct mf_decoder *d, int fd, uint32_t verb,
                                   const struct mf_decoder_wire *r,
                                   const struct mf_decoder_meanwhile *meanwhile,
                                   struct mf_message *answer, struct mf_error *err)
{
    uint64_t deadline = mf_clock_monotonic_ns() + d->limits.wall_seconds * 1000000000ULL;
    struct mf_error send_error = MF_ERROR_INIT, error = MF_ERROR_INIT;
    bool sent = mf_message_send(fd, verb, r->payload.data, r->payload.len, r->fds, r->fd_count,
                                deadline, &send_error);
    if (meanwhile)
        meanwhile->work(meanwhile->context);
    /* also after a failed send: the zygote may have said how the decoder ended */
    if (!mf_message_receive(fd, answer, sent ? deadline : mf_clock_monotonic_ns() + 1000000000,
                            &error)) {
        if (error.code == MF_ERR_TIMEOUT && sent) {
            mf_error_set(err, MF_ERR_TIMEOUT, "decoding took more than %u seconds",
                         d->limits.wall_seconds);
            return FAILED;
        }
        if (error.code == MF_ERR_IO || !sent) {
            mf_error_set(err, MF_ERR_CRASHED, "the decoder ended without an answer");
            return KILLED_OUTSIDE;
        }
        mf_error_set(err, MF_ERR_CRASHED, "the decoder's answer makes no sense: %s", error.msg);
        return FAILED;
    }
    if (answer->kind == MF_ANSWER_OK)
        return DONE;
    if (answer->kind == MF_ANSWER_DIED)
        return judge_death(d, answer, err);
    take_error(answer, err);
    return FAILED;
}

/* As mf_decoder_do(); the connection stays open when `ret_connection` is not NULL, and for the
 * sender when that is not. */
static bool do_call(struct mf_decoder *d, uint32_t verb, const char *sender,
                    const struct mf_decoder_wire *r, const struct mf_decoder_meanwhile *meanwhile,
                    struct mf_message *answer, int *ret_connection, struct mf_error *err)
{
    take_slot(d);
    enum outcome outcome = KILLED_OUTSIDE;
    struct mf_error error = MF_ERROR_INIT;
    for (int i = 0; i < OUTSIDE_KILLS && outcome == KILLED_OUTSIDE; i++) {
        mf_error_clear(&error);
        mf_message_free(answer);
        struct mf_kept_decoder one;
        take_connection(d, sender, &one, &error);
        if (one.fd < 0) /* MF_ERR_IO: the zygote died between accepting and listening to us */
            outcome = error.code == MF_ERR_IO ? KILLED_OUTSIDE : FAILED;
        else
            outcome = try_connection(d, one.fd, verb, r, meanwhile, answer, &error);
        if (one.fd >= 0)
            meanwhile = NULL; /* it is done */
        if (outcome == DONE && ret_connection)
            *ret_connection = one.fd;
        else if (one.fd >= 0)
            keep_connection(d, outcome == DONE ? sender : NULL, &one);
    }
    release_slot(d);
    return outcome == DONE || mf_error_set(err, error.code, "%s", error.msg);
}

bool mf_decoder_do(struct mf_decoder *d, const struct mf_decoder_call *call,
                   struct mf_message *answer, struct mf_error *err)
{
    MF_AUTO(mf_decoder_wire) struct mf_decoder_wire request = {.fd_count = 0};
    mf_message_init(answer, MF_DECODER_ANSWER_MAX);
    return mf_decoder_build(call, &request, err) &&
           do_call(d, call->verb, call->sender, &request, NULL, answer, NULL, err);
}

bool mf_decoder_send(struct mf_decoder *d, uint32_t verb, const struct mf_decoder_wire *request,
                     const struct mf_decoder_meanwhile *meanwhile, struct mf_message *answer,
                     int *ret_connection, struct mf_error *err)
{
    return do_call(d, verb, NULL, request, meanwhile, answer, ret_connection, err);
}
