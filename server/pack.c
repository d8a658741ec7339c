/*
 * Packs: appending members to one file.
 *
 * Writes go through one buffer per pack so that the byte-sized pieces of a parser become large
 * writes; the digest is taken as bytes enter the buffer, or later. With a key file the pack that is
 * kept is encrypted (sealed_pack.h), and its plaintext is in memory until the handle is freed.
 */
#include "server/blobs_private.h"

#include "server/sealed_pack.h"
#include "server/store.h"

#include "core/file_range.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PACK_BUFFER = 64 << 10, WRITE_BEHIND = 2 << 20 };

/* A member whose digest is made apart. */
struct digest {
    struct mf_sync work;
    uint64_t offset, size;
    unsigned char sha256[MF_SHA256_BYTES];
};

struct mf_pack {
    const struct mf_blobs *blobs;
    char name[MF_BLOB_NAME];
    int fd;   /* what is written and kept */
    int read; /* what is read back: the same, or a memory file while that is encrypted */
    struct mf_sealer *sealer; /* NULL: what is kept is plain */
    bool keep, failed, hash_later, hash_apart;
    bool put;                    /* the bucket may have it */
    struct digest **digests;     /* of its members, with hash_apart */
    size_t digest_count, waited; /* waited: how many of them were waited for */
    bool syncing, naming; /* `content`, `named` have begun and nobody has waited for them yet */
    bool name_durable;    /* once is enough, however often content is added */
    struct mf_sync content, named;
    uint64_t size;   /* bytes appended, buffered ones included */
    uint64_t behind; /* how far they are on their way to the disk */
    uint64_t member_start;
    struct mf_sha256 *hash;
    size_t buffered;
    char buffer[PACK_BUFFER];
};

/* Its plaintext stays in memory for as long as the handle, for those who look at the upload. */
static bool start_sealing(struct mf_pack *pack, struct mf_error *err)
{
    pack->read = memfd_create("upload", MFD_CLOEXEC);
    if (pack->read < 0)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for an upload");
    pack->sealer = mf_sealer_new(pack->blobs->vault, pack->name, pack->fd, err);
    return pack->sealer != NULL;
}

static struct mf_pack *create(const struct mf_blobs *blobs, struct mf_error *err)
{
    MF_AUTO(mf_pack) struct mf_pack *pack = malloc(sizeof *pack);
    if (!pack) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for an upload");
        return NULL;
    }
    memset(pack, 0, offsetof(struct mf_pack, buffer));
    pack->blobs = blobs;
    pack->fd = pack->read = -1;
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
    pack->read = pack->fd;
    return blobs->vault ? start_sealing(pack, err) ? MF_STEAL(pack) : NULL : MF_STEAL(pack);
}

static struct mf_pack *take_spare(const struct mf_blobs *blobs)
{
    struct mf_pack *pack = NULL;
    for (size_t i = 0; i < MF_PACK_SPARES && !pack; i++)
        pack = __atomic_exchange_n(&blobs->spares[i], NULL, __ATOMIC_ACQ_REL);
    return pack;
}

struct mf_pack *mf_pack_new(const struct mf_blobs *blobs, struct mf_error *err)
{
    struct mf_pack *pack = take_spare(blobs);
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

/* They are made several at a time, because one fsync of the directory is enough for all. */
void mf_blobs_prepare(const struct mf_blobs *blobs)
{
    size_t there = 0;
    for (size_t i = 0; i < MF_PACK_SPARES; i++)
        there += __atomic_load_n(&blobs->spares[i], __ATOMIC_RELAXED) != NULL;
    for (size_t i = 0; i < MF_PACK_SPARES && there <= MF_PACK_SPARES / 4; i++) {
        if (__atomic_load_n(&blobs->spares[i], __ATOMIC_RELAXED))
            continue;
        struct mf_pack *pack = create(blobs, NULL);
        if (!pack)
            return; /* without one mf_pack_new() will say why */
        if (!blobs->s3)
            begin_naming(pack);
        mf_pack_free(__atomic_exchange_n(&blobs->spares[i], pack, __ATOMIC_ACQ_REL));
    }
}

void mf_pack_drop_spares(const struct mf_blobs *blobs)
{
    for (struct mf_pack *pack; (pack = take_spare(blobs));)
        mf_pack_free(pack);
}

/* What stays in the bucket is found by the sweep. */
static void take_back(const struct mf_pack *pack)
{
    struct mf_error ignored = MF_ERROR_INIT;
    const bool gone = mf_s3_delete(pack->blobs->s3, pack->name, &ignored);
    (void)gone;
}

void mf_pack_free(struct mf_pack *pack)
{
    if (!pack)
        return;
    for (size_t i = 0; i < pack->digest_count; i++) {
        if (i >= pack->waited)
            (void)mf_syncer_wait(pack->blobs->digests, &pack->digests[i]->work);
        free(pack->digests[i]);
    }
    free(pack->digests);
    if (pack->syncing)
        (void)mf_syncer_wait(pack->blobs->contents, &pack->content);
    if (pack->naming)
        (void)mf_syncer_wait(pack->blobs->names, &pack->named);
    if (pack->read != pack->fd && pack->read >= 0)
        close(pack->read);
    mf_sealer_free(pack->sealer);
    if (pack->fd >= 0) {
        close(pack->fd);
        if (!pack->keep || pack->blobs->s3)
            unlinkat(pack->blobs->dir, pack->name, 0);
    }
    if (pack->put && !pack->keep)
        take_back(pack);
    mf_sha256_free(pack->hash);
    free(pack);
}

bool mf_pack_goes_on(const struct mf_pack *pack)
{
    return !pack->blobs->vault && !pack->blobs->s3;
}

const char *mf_pack_name(const struct mf_pack *pack)
{
    return pack->name;
}

static bool write_out(struct mf_pack *pack, const char *data, size_t len, struct mf_error *err)
{
    if (pack->sealer && !mf_sealer_write(pack->sealer, data, len, err)) {
        pack->failed = true;
        return false;
    }
    while (len > 0) {
        ssize_t n = write(pack->read, data, len);
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

/* Members are on their way to the disk while the next ones come; mf_pack_sync() waits for what is
 * left, and says whether it worked. */
static void write_behind(struct mf_pack *pack)
{
    const uint64_t written = pack->size - pack->buffered;
    if (pack->sealer || pack->blobs->s3 || written - pack->behind < WRITE_BEHIND)
        return;
    (void)sync_file_range(pack->fd, (off_t)pack->behind, (off_t)(written - pack->behind),
                          SYNC_FILE_RANGE_WRITE);
    pack->behind = written;
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
    write_behind(pack);
    memcpy(pack->buffer + pack->buffered, zeros, padding);
    pack->buffered += padding;
    pack->size += padding;
    pack->member_start = pack->size;
    return true;
}

bool mf_pack_write(struct mf_pack *pack, const void *data, size_t len, struct mf_error *err)
{
    if (!pack->hash_later && !pack->hash_apart)
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

/* Feeds bytes of the file to a digest. 0, or a status of mf_read_at(). */
static int hash_range(int fd, uint64_t offset, uint64_t size, char *buffer, struct mf_sha256 *hash)
{
    for (uint64_t done = 0; done < size;) {
        size_t n = size - done < PACK_BUFFER ? (size_t)(size - done) : PACK_BUFFER;
        int error = mf_read_at(fd, offset + done, buffer, n);
        if (error != 0)
            return error;
        mf_sha256_update(hash, buffer, n);
        done += n;
    }
    return 0;
}

static int make_digest(struct mf_sync *work)
{
    struct digest *d = (struct digest *)(void *)work; /* its first member */
    MF_AUTO(mf_sha256) struct mf_sha256 *hash = mf_sha256_new();
    MF_AUTO(mf_mem) char *buffer = malloc(PACK_BUFFER);
    if (!hash || !buffer)
        return ENOMEM;
    int error = hash_range(work->fd, d->offset, d->size, buffer, hash);
    mf_sha256_final(hash, d->sha256);
    return error;
}

/* Has the digest of a member made that has just ended. */
static bool begin_digest(struct mf_pack *pack, const struct mf_pack_member *member,
                         struct mf_error *err)
{
    size_t n = pack->digest_count;
    if ((n & (n - 1)) == 0) { /* the capacity is the next power of two */
        struct digest **more = realloc(pack->digests, (n ? 2 * n : 1) * sizeof(struct digest *));
        if (!more)
            return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for an upload");
        pack->digests = more;
    }
    if (!write_buffer(pack, err))
        return false;
    MF_AUTO(mf_mem) struct digest *d = calloc(1, sizeof *d);
    if (!d)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for an upload");
    *d = (struct digest){.work = {.fd = pack->read, .work = make_digest},
                         .offset = member->offset,
                         .size = member->size};
    if (!mf_syncer_begin(pack->blobs->digests, &d->work))
        return mf_error_set(err, MF_ERR_UNAVAILABLE, "an upload cannot be hashed; try again later");
    pack->digests[pack->digest_count++] = MF_STEAL(d);
    return true;
}

bool mf_pack_end(struct mf_pack *pack, struct mf_pack_member *ret, struct mf_error *err)
{
    if (pack->failed)
        return mf_error_set(err, MF_ERR_IO, "an upload could not be stored");
    ret->offset = pack->member_start;
    ret->size = pack->size - pack->member_start;
    memset(ret->sha256, 0, sizeof ret->sha256);
    if (pack->hash_apart)
        return begin_digest(pack, ret, err);
    if (!pack->hash_later)
        mf_sha256_final(pack->hash, ret->sha256);
    return true;
}

void mf_pack_hash_apart(struct mf_pack *pack)
{
    pack->hash_apart = true;
}

bool mf_pack_digest(struct mf_pack *pack, size_t n, unsigned char ret_sha256[MF_SHA256_BYTES],
                    struct mf_error *err)
{
    if (n >= pack->digest_count)
        return mf_error_set(err, MF_ERR_INTERNAL, "an upload has no member %zu", n);
    for (; pack->waited <= n; pack->waited++)
        (void)mf_syncer_wait(pack->blobs->digests, &pack->digests[pack->waited]->work);
    const struct digest *d = pack->digests[n];
    memcpy(ret_sha256, d->sha256, MF_SHA256_BYTES);
    return d->work.error == 0 || mf_file_range_failed("an upload", d->work.error, err);
}

void mf_pack_hash_later(struct mf_pack *pack)
{
    pack->hash_later = true;
}

bool mf_pack_hash(struct mf_pack *pack, uint64_t offset, uint64_t size,
                  unsigned char ret_sha256[MF_SHA256_BYTES], struct mf_error *err)
{
    int error = hash_range(pack->read, offset, size, pack->buffer, pack->hash);
    mf_sha256_final(pack->hash, ret_sha256); /* begins anew */
    return error == 0 || mf_file_range_failed("an upload", error, err);
}

int mf_pack_flush(struct mf_pack *pack, struct mf_error *err)
{
    return write_buffer(pack, err) ? pack->read : -1;
}

/* Writes the end of an encrypted pack, once. */
static bool end_sealing(struct mf_pack *pack)
{
    struct mf_error ignored = MF_ERROR_INIT;
    if (!pack->sealer)
        return true;
    pack->failed = !mf_sealer_finish(pack->sealer, &ignored);
    mf_sealer_free(pack->sealer);
    pack->sealer = NULL;
    return !pack->failed;
}

void mf_pack_begin_sync(struct mf_pack *pack)
{
    struct mf_error ignored = MF_ERROR_INIT; /* mf_pack_sync() will meet it again */
    if (pack->syncing || pack->failed || pack->blobs->s3 || !write_buffer(pack, &ignored) ||
        !end_sealing(pack))
        return;
    pack->content.fd = pack->fd;
    pack->syncing = mf_syncer_begin(pack->blobs->contents, &pack->content);
    if (!pack->naming && !pack->name_durable)
        begin_naming(pack);
}

/* Gives it to the bucket, once. */
static bool put(struct mf_pack *pack, struct mf_error *err)
{
    struct stat st;
    if (pack->put)
        return true;
    if (!write_buffer(pack, err))
        return false;
    if (!end_sealing(pack) || fstat(pack->fd, &st) < 0)
        return mf_error_set(err, MF_ERR_UNAVAILABLE, "an upload cannot be stored; try again later");
    pack->put = true;
    pack->failed = !mf_s3_put(pack->blobs->s3, pack->name, pack->fd, (uint64_t)st.st_size, err);
    return !pack->failed;
}

/* Waits for the name, unless that has been done before. */
static bool finish_naming(struct mf_pack *pack)
{
    if (pack->naming)
        pack->name_durable = mf_syncer_wait(pack->blobs->names, &pack->named);
    pack->naming = false;
    return pack->name_durable;
}

bool mf_pack_sync(struct mf_pack *pack, struct mf_error *err)
{
    if (pack->blobs->s3)
        return put(pack, err);
    mf_pack_begin_sync(pack);
    if (!pack->syncing || !(pack->naming || pack->name_durable))
        return mf_error_set(err, MF_ERR_UNAVAILABLE, "an upload cannot be stored; try again later");
    pack->syncing = false;
    bool named = finish_naming(pack);
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
