/*
 * Packs: appending members to one file.
 *
 * Writes go through one buffer per pack so that the byte-sized pieces of a parser become large
 * writes; the digest is taken as bytes enter the buffer, or later.
 */
#include "server/blobs_private.h"

#include "server/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PACK_BUFFER = 64 << 10 };

struct mf_pack {
    const struct mf_blobs *blobs;
    char name[MF_BLOB_NAME];
    int fd;
    bool keep, failed, hash_later;
    bool syncing, naming; /* `content`, `named` have begun and nobody has waited for them yet */
    struct mf_sync content, named;
    uint64_t size; /* bytes appended, buffered ones included */
    uint64_t member_start;
    struct mf_sha256 *hash;
    size_t buffered;
    char buffer[PACK_BUFFER];
};

static struct mf_pack *create(const struct mf_blobs *blobs, struct mf_error *err)
{
    MF_AUTO(mf_pack) struct mf_pack *pack = malloc(sizeof *pack);
    if (!pack) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for an upload");
        return NULL;
    }
    memset(pack, 0, offsetof(struct mf_pack, buffer));
    pack->blobs = blobs;
    pack->fd = -1;
    pack->hash = mf_sha256_new();
    if (!pack->hash) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for an upload");
        return NULL;
    }
    mf_job_id_new(pack->name);
    pack->fd = openat(blobs->dir, pack->name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (pack->fd < 0) {
        mf_error_set(err, MF_ERR_IO, "an upload cannot be stored (%s)", strerror(errno));
        return NULL;
    }
    return MF_STEAL(pack);
}

static struct mf_pack *swap_spare(const struct mf_blobs *blobs, struct mf_pack *pack)
{
    return __atomic_exchange_n(blobs->spare, pack, __ATOMIC_ACQ_REL);
}

struct mf_pack *mf_pack_new(const struct mf_blobs *blobs, struct mf_error *err)
{
    struct mf_pack *pack = swap_spare(blobs, NULL);
    if (pack && futimens(pack->fd, NULL) == 0)
        return pack;
    mf_pack_free(pack);
    return create(blobs, err);
}

static void begin_naming(struct mf_pack *pack)
{
    pack->named.fd = pack->blobs->dir;
    pack->naming = mf_syncer_begin(pack->blobs->names, &pack->named);
}

void mf_blobs_prepare(const struct mf_blobs *blobs)
{
    if (__atomic_load_n(blobs->spare, __ATOMIC_RELAXED))
        return;
    struct mf_pack *pack = create(blobs, NULL); /* without one mf_pack_new() will say why */
    if (pack)
        begin_naming(pack);
    mf_pack_free(swap_spare(blobs, pack));
}

void mf_pack_drop_spare(const struct mf_blobs *blobs)
{
    mf_pack_free(swap_spare(blobs, NULL));
}

void mf_pack_free(struct mf_pack *pack)
{
    if (!pack)
        return;
    if (pack->syncing)
        (void)mf_syncer_wait(pack->blobs->contents, &pack->content);
    if (pack->naming)
        (void)mf_syncer_wait(pack->blobs->names, &pack->named);
    if (pack->fd >= 0) {
        close(pack->fd);
        if (!pack->keep)
            unlinkat(pack->blobs->dir, pack->name, 0);
    }
    mf_sha256_free(pack->hash);
    free(pack);
}

const char *mf_pack_name(const struct mf_pack *pack)
{
    return pack->name;
}

static bool write_out(struct mf_pack *pack, const char *data, size_t len, struct mf_error *err)
{
    while (len > 0) {
        ssize_t n = write(pack->fd, data, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            pack->failed = true;
            return mf_error_set(err, MF_ERR_IO, "an upload cannot be stored (%s)",
                                strerror(n < 0 ? errno : EIO));
        }
        data += n;
        len -= (size_t)n;
    }
    return true;
}

static bool write_buffer(struct mf_pack *pack, struct mf_error *err)
{
    if (pack->failed)
        return mf_error_set(err, MF_ERR_IO, "an upload could not be stored");
    size_t len = pack->buffered;
    pack->buffered = 0;
    return write_out(pack, pack->buffer, len, err);
}

bool mf_pack_begin(struct mf_pack *pack, struct mf_error *err)
{
    /* Members start at multiples of 8, so that readers can map and cast what is aligned inside
     * them. */
    static const char zeros[8];
    size_t padding = (size_t)(-pack->size & 7);
    if (pack->buffered + padding > PACK_BUFFER && !write_buffer(pack, err))
        return false;
    memcpy(pack->buffer + pack->buffered, zeros, padding);
    pack->buffered += padding;
    pack->size += padding;
    pack->member_start = pack->size;
    return true;
}

bool mf_pack_write(struct mf_pack *pack, const void *data, size_t len, struct mf_error *err)
{
    if (!pack->hash_later)
        mf_sha256_update(pack->hash, data, len);
    pack->size += len;
    if (pack->buffered + len > PACK_BUFFER && !write_buffer(pack, err))
        return false;
    if (len >= PACK_BUFFER)
        return write_out(pack, data, len, err);
    memcpy(pack->buffer + pack->buffered, data, len);
    pack->buffered += len;
    return true;
}

bool mf_pack_end(struct mf_pack *pack, struct mf_pack_member *ret, struct mf_error *err)
{
    if (pack->failed)
        return mf_error_set(err, MF_ERR_IO, "an upload could not be stored");
    ret->offset = pack->member_start;
    ret->size = pack->size - pack->member_start;
    if (pack->hash_later)
        memset(ret->sha256, 0, sizeof ret->sha256);
    else
        mf_sha256_final(pack->hash, ret->sha256);
    return true;
}

void mf_pack_hash_later(struct mf_pack *pack)
{
    pack->hash_later = true;
}

bool mf_pack_hash(struct mf_pack *pack, uint64_t offset, uint64_t size,
                  unsigned char ret_sha256[MF_SHA256_BYTES], struct mf_error *err)
{
    for (uint64_t done = 0; done < size;) {
        size_t want = size - done < PACK_BUFFER ? (size_t)(size - done) : PACK_BUFFER;
        ssize_t n = pread(pack->fd, pack->buffer, want, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            mf_sha256_final(pack->hash, ret_sha256); /* begins anew */
            return mf_error_set(err, MF_ERR_IO, "an upload cannot be read back (%s)",
                                n < 0 ? strerror(errno) : "it ends too soon");
        }
        mf_sha256_update(pack->hash, pack->buffer, (size_t)n);
        done += (uint64_t)n;
    }
    mf_sha256_final(pack->hash, ret_sha256);
    return true;
}

int mf_pack_flush(struct mf_pack *pack, struct mf_error *err)
{
    return write_buffer(pack, err) ? pack->fd : -1;
}

void mf_pack_begin_sync(struct mf_pack *pack)
{
    struct mf_error ignored = MF_ERROR_INIT; /* mf_pack_sync() will meet it again */
    if (pack->syncing || pack->failed || !write_buffer(pack, &ignored))
        return;
    pack->content.fd = pack->fd;
    pack->syncing = mf_syncer_begin(pack->blobs->contents, &pack->content);
    if (!pack->naming)
        begin_naming(pack);
}

bool mf_pack_sync(struct mf_pack *pack, struct mf_error *err)
{
    mf_pack_begin_sync(pack);
    if (!pack->syncing || !pack->naming)
        return mf_error_set(err, MF_ERR_UNAVAILABLE, "an upload cannot be stored; try again later");
    pack->syncing = pack->naming = false;
    bool named = mf_syncer_wait(pack->blobs->names, &pack->named);
    if (mf_syncer_wait(pack->blobs->contents, &pack->content) && named)
        return true;
    pack->failed = true;
    int reason = named ? pack->content.error : pack->named.error;
    return mf_error_set(err, reason == ENOSPC || reason == EDQUOT ? MF_ERR_UNAVAILABLE : MF_ERR_IO,
                        "an upload cannot be made durable (%s)", strerror(reason));
}

void mf_pack_keep(struct mf_pack *pack)
{
    pack->keep = true;
}
