/* Decoder client: frames, decoded now or asked for ahead. What a decoder answers is mapped only
 * when nobody can change it any more, and checked before it is used. */
#include "server/decoder_client.h"

#include "core/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { AHEAD_SEND_NS = 100000000 };

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

static bool build_frames_request(const struct mf_frames_wanted *wanted, struct mf_decoder_wire *r,
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
    return mf_decoder_build(&call, r, err);
}

/* The frames that were asked for ahead, if there are any and they are those of this request. */
static bool take_adopted(struct mf_decoder *d, const struct mf_decoder_wire *r, size_t wanted,
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
    MF_AUTO(mf_decoder_wire) struct mf_decoder_wire request = {.fd_count = 0};
    MF_AUTO(mf_message) struct mf_message answer;
    MF_AUTO(mf_frame_set) struct mf_frame_set set = {0};
    mf_message_init(&answer, MF_DECODER_ANSWER_MAX);
    if (!build_frames_request(wanted, &request, err))
        return false;
    if (!take_adopted(d, &request, wanted->frame_count, &set)) {
        mf_frame_set_free(&set);
        if (!mf_decoder_send(d, MF_VERB_FRAMES, &request, NULL, &answer, NULL, err) ||
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
    MF_AUTO(mf_decoder_wire) struct mf_decoder_wire request = {.fd_count = 0};
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
