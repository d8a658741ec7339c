/* Decoder client: see decoder.h, and decoder_protocol.h for what is said on the wire. */
#include "server/decoder.h"

#include "core/clock.h"
#include "server/config.h"
#include "server/decoder_protocol.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

/* How often a request is repeated when its decoder was killed from outside (kill -9, a zygote that
 * died). */
enum { OUTSIDE_KILLS = 5, MAX_SPARES = 2, AHEAD_SEND_NS = 100000000 };

struct mf_decoder {
    struct sockaddr_un address;
    socklen_t address_len;
    struct mf_decoder_limits limits;
    pthread_mutex_t lock;
    pthread_cond_t slot_free;
    unsigned connections, in_use;
    int spares[MAX_SPARES]; /* connections whose decoders wait for a request, oldest first */
    size_t spare_count, spares_wanted;
    bool prepared; /* by mf_decoder_prepare() alone */
    int adopted;   /* a connection on which frames were asked for, or −1 */
};

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
    if (!d || len < 2 || len >= MF_DECODER_ADDRESS || address[0] != '@') {
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
    d->spares_wanted = d->connections < MAX_SPARES ? d->connections : MAX_SPARES;
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
    if (d->adopted >= 0)
        close(d->adopted);
    pthread_cond_destroy(&d->slot_free);
    pthread_mutex_destroy(&d->lock);
    free(d);
}

static bool peer_is_us(int fd, struct mf_error *err)
{
    struct ucred peer;
    socklen_t size = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == geteuid())
        return true;
    return mf_error_set(err, MF_ERR_UNAVAILABLE, "the decoder's address belongs to another user");
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

static int take_connection(struct mf_decoder *d, struct mf_error *err)
{
    pthread_mutex_lock(&d->lock);
    int fd = d->spare_count ? d->spares[0] : -1;
    if (fd >= 0)
        memmove(d->spares, d->spares + 1, --d->spare_count * sizeof d->spares[0]);
    pthread_mutex_unlock(&d->lock);
    return fd >= 0 ? fd : connect_new(d, 0, err);
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
    if (!d->prepared)
        fill_spares(d, 1);
    pthread_cond_signal(&d->slot_free);
    pthread_mutex_unlock(&d->lock);
}

/* --- one request --- */

/* A request as it goes over the wire; the descriptors are borrowed. */
struct request {
    struct mf_buffer payload;
    int fds[MF_DECODER_MAX_FDS];
    size_t fd_count;
};

MF_AUTO_DEFINE(request, struct request, mf_buffer_free(&p->payload))

/* The slot of a descriptor among those passed; parts of one pack share one. */
static bool fd_slot(struct request *r, int fd, uint32_t *ret, struct mf_error *err)
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

static bool append_parts(struct request *r, const struct mf_decoder_call *call,
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

static bool build_request(const struct mf_decoder_call *call, struct request *r,
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
                                   const struct request *r,
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

/* As mf_decoder_do(); the connection stays open when `ret_connection` is not NULL. */
static bool do_call(struct mf_decoder *d, uint32_t verb, const struct request *r,
                    const struct mf_decoder_meanwhile *meanwhile, struct mf_message *answer,
                    int *ret_connection, struct mf_error *err)
{
    take_slot(d);
    enum outcome outcome = KILLED_OUTSIDE;
    struct mf_error error = MF_ERROR_INIT;
    for (int i = 0; i < OUTSIDE_KILLS && outcome == KILLED_OUTSIDE; i++) {
        mf_error_clear(&error);
        mf_message_free(answer);
        int fd = take_connection(d, &error);
        if (fd < 0) /* MF_ERR_IO: the zygote died between accepting and listening to us */
            outcome = error.code == MF_ERR_IO ? KILLED_OUTSIDE : FAILED;
        else
            outcome = try_connection(d, fd, verb, r, meanwhile, answer, &error);
        if (fd >= 0)
            meanwhile = NULL; /* it is done */
        if (outcome == DONE && ret_connection)
            *ret_connection = fd;
        else if (fd >= 0)
            close(fd);
    }
    release_slot(d);
    return outcome == DONE || mf_error_set(err, error.code, "%s", error.msg);
}

bool mf_decoder_do(struct mf_decoder *d, const struct mf_decoder_call *call,
                   struct mf_message *answer, struct mf_error *err)
{
    MF_AUTO(request) struct request request = {.fd_count = 0};
    mf_message_init(answer, MF_DECODER_ANSWER_MAX);
    return build_request(call, &request, err) &&
           do_call(d, call->verb, &request, NULL, answer, NULL, err);
}

static bool scan(struct mf_decoder *d, const struct mf_part *parts, size_t part_count,
                 const struct mf_decoder_meanwhile *meanwhile, struct mf_buffer *ret_index,
                 int *ret_connection, struct mf_error *err)
{
    struct mf_decoder_call call = {.verb = MF_VERB_SCAN, .parts = parts, .part_count = part_count};
    MF_AUTO(request) struct request request = {.fd_count = 0};
    MF_AUTO(mf_message) struct mf_message answer;
    MF_AUTO(mf_fd) int connection = -1;
    mf_message_init(&answer, MF_DECODER_ANSWER_MAX);
    if (!build_request(&call, &request, err) ||
        !do_call(d, call.verb, &request, meanwhile, &answer, ret_connection ? &connection : NULL,
                 err) ||
        !mf_buffer_append(ret_index, answer.payload.data, answer.payload.len, err))
        return false;
    if (ret_connection) {
        *ret_connection = connection;
        connection = -1;
    }
    return true;
}

bool mf_decoder_scan(struct mf_decoder *d, const struct mf_part *parts, size_t part_count,
                     struct mf_buffer *ret_index, struct mf_error *err)
{
    return scan(d, parts, part_count, NULL, ret_index, NULL, err);
}

bool mf_decoder_scan_and_stay(struct mf_decoder *d, const struct mf_part *parts, size_t part_count,
                              const struct mf_decoder_meanwhile *meanwhile,
                              struct mf_buffer *ret_index, int *ret_connection,
                              struct mf_error *err)
{
    return scan(d, parts, part_count, meanwhile, ret_index, ret_connection, err);
}

/* --- frames --- */

/* Maps a memfd that nobody can change any more. */
static bool map_sealed(int fd, struct mf_frame_set *set, struct mf_error *err)
{
    const int sealed = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL;
    struct stat st;
    if ((fcntl(fd, F_GET_SEALS) & sealed) != sealed || fstat(fd, &st) != 0 || st.st_size <= 0)
        return mf_error_set(err, MF_ERR_CRASHED, "the decoder's frames are not sealed");
    void *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "frames: %s", strerror(errno));
    set->map = map;
    set->map_size = (size_t)st.st_size;
    return true;
}

/* `skip`: bytes of the answer before what it says of the frames. */
static bool unpack_frames(const struct mf_message *answer, size_t skip, size_t wanted,
                          struct mf_frame_set *set, struct mf_error *err)
{
    struct mf_wire_frame wire;
    if (answer->fd_count != 1 || answer->payload.len != skip + wanted * sizeof wire)
        return mf_error_set(err, MF_ERR_CRASHED, "the decoder's answer makes no sense");
    if (!map_sealed(answer->fds[0], set, err))
        return false;
    set->frames = calloc(wanted, sizeof *set->frames);
    if (!set->frames)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    for (size_t i = 0; i < wanted; i++) {
        memcpy(&wire, answer->payload.data + skip + i * sizeof wire, sizeof wire);
        if (wire.offset % 64 || wire.offset > set->map_size ||
            wire.size > set->map_size - wire.offset)
            return mf_error_set(err, MF_ERR_CRASHED, "the decoder's answer makes no sense");
        if (!mf_frame_unpack((const char *)set->map + wire.offset, (size_t)wire.size,
                             &set->frames[i], err))
            return false;
        set->count++;
    }
    return true;
}

static bool build_frames_request(const struct mf_frames_wanted *wanted, struct request *r,
                                 struct mf_error *err)
{
    struct mf_part parts[MF_DECODER_MAX_FDS];
    if (wanted->fd_count > MF_DECODER_MAX_FDS || wanted->frame_count == 0)
        return mf_error_set(err, MF_ERR_INTERNAL, "frames: %zu descriptors, %zu frames",
                            wanted->fd_count, wanted->frame_count);
    for (size_t i = 0; i < wanted->fd_count; i++)
        parts[i] = (struct mf_part){.kind = MF_PART_DICOM, .fd = wanted->fds[i]};
    const struct mf_decoder_call call = {.verb = MF_VERB_FRAMES,
                                         .parts = parts,
                                         .part_count = wanted->fd_count,
                                         .wanted = wanted->frames,
                                         .wanted_count = wanted->frame_count,
                                         .index = wanted->index,
                                         .index_len = wanted->index_len};
    return build_request(&call, r, err);
}

/* The frames that were asked for ahead, if there are any and they are those of this request. */
static bool take_adopted(struct mf_decoder *d, const struct request *r, size_t wanted,
                         struct mf_frame_set *set)
{
    pthread_mutex_lock(&d->lock);
    MF_AUTO(mf_fd) int fd = d->adopted;
    d->adopted = -1;
    pthread_mutex_unlock(&d->lock);
    if (fd < 0)
        return false;
    uint64_t deadline = mf_clock_monotonic_ns() + d->limits.wall_seconds * 1000000000ULL;
    MF_AUTO(mf_message) struct mf_message answer;
    mf_message_init(&answer, MF_DECODER_ANSWER_MAX);
    return mf_message_receive(fd, &answer, deadline, NULL) && answer.kind == MF_ANSWER_OK &&
           answer.payload.len > r->payload.len &&
           memcmp(answer.payload.data, r->payload.data, r->payload.len) == 0 &&
           unpack_frames(&answer, r->payload.len, wanted, set, NULL);
}

bool mf_decoder_frames(struct mf_decoder *d, const struct mf_frames_wanted *wanted,
                       struct mf_frame_set *ret, struct mf_error *err)
{
    MF_AUTO(request) struct request request = {.fd_count = 0};
    MF_AUTO(mf_message) struct mf_message answer;
    MF_AUTO(mf_frame_set) struct mf_frame_set set = {0};
    mf_message_init(&answer, MF_DECODER_ANSWER_MAX);
    if (!build_frames_request(wanted, &request, err))
        return false;
    if (!take_adopted(d, &request, wanted->frame_count, &set)) {
        mf_frame_set_free(&set);
        if (!do_call(d, MF_VERB_FRAMES, &request, NULL, &answer, NULL, err) ||
            !unpack_frames(&answer, 0, wanted->frame_count, &set, err))
            return false;
    }
    *ret = set;
    set = (struct mf_frame_set){0};
    return true;
}

bool mf_decoder_frames_ahead(int connection, const struct mf_frames_wanted *wanted,
                             struct mf_error *err)
{
    MF_AUTO(request) struct request request = {.fd_count = 0};
    return build_frames_request(wanted, &request, err) &&
           mf_message_send(connection, MF_VERB_FRAMES_AHEAD, request.payload.data,
                           request.payload.len, request.fds, request.fd_count,
                           mf_clock_monotonic_ns() + AHEAD_SEND_NS, err);
}

void mf_decoder_adopt(struct mf_decoder *d, int connection)
{
    pthread_mutex_lock(&d->lock);
    if (d->adopted >= 0)
        close(d->adopted);
    d->adopted = connection;
    pthread_mutex_unlock(&d->lock);
}

void mf_frame_set_free(struct mf_frame_set *set)
{
    if (!set)
        return;
    for (size_t i = 0; i < set->count; i++)
        mf_frame_free(&set->frames[i]);
    free(set->frames);
    if (set->map)
        munmap(set->map, set->map_size);
    *set = (struct mf_frame_set){0};
}
