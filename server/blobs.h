/*
 * Payloads: one append-only pack of members per request, in a directory that only this file knows,
 * or in a bucket.
 *
 * Streaming put, ranged read through a descriptor, delete. Names are made here (128 random bits),
 * never taken from outside. Members are hashed in the pass that writes them; mf_pack_sync() makes
 * the pack durable with one fsync of the file and one of the directory, of which the latter may
 * have been done ahead (mf_blobs_prepare()). A pack that is not kept is deleted with its handle;
 * what a killed process left behind is found by the sweep.
 */
#ifndef MF_SERVER_BLOBS_H
#define MF_SERVER_BLOBS_H

#include "core/auto.h"
#include "core/digest.h"
#include "core/error.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { MF_BLOB_NAME = 33 };

struct mf_blobs;
struct mf_pack;

struct mf_pack_member {
    uint64_t offset, size;
    unsigned char sha256[MF_SHA256_BYTES];
};

/* Opens (and creates) the payload directory below `directory`. min_free: bytes that must stay free.
 * keys: the key file (vault.h) with which packs are encrypted (sealed_pack.h), or "off". */
struct mf_blobs *mf_blobs_open(const char *directory, const char *keys, uint64_t min_free,
                               struct mf_error *err) MF_CHECK_RESULT;
/* The same by the configuration: with payloads.s3 packs are written to a staging directory, kept in
 * that bucket (s3_client.h) and read from there, or from the payload directory, if they were put
 * there before. */
struct mf_config;
struct mf_blobs *mf_blobs_open_configured(const struct mf_config *config, uint64_t min_free,
                                          struct mf_error *err) MF_CHECK_RESULT;
void mf_blobs_free(struct mf_blobs *blobs);

/* Makes the next packs, unless there are some, and begins to make their names durable, without
 * waiting: a server calls it when it has answered, so that the next uploads need not wait for that.
 */
void mf_blobs_prepare(const struct mf_blobs *blobs);

/* A descriptor to read the pack with pread or mmap; members lie at their offsets. Of a pack that is
 * encrypted it is a memory file with all of it in plain. −1 with MF_ERR_NOT_FOUND or MF_ERR_IO. The
 * caller closes it. */
int mf_blobs_open_pack(const struct mf_blobs *blobs, const char *name,
                       struct mf_error *err) MF_CHECK_RESULT;
/* The same where only these bytes will be read: only they are decrypted. */
int mf_blobs_open_part(const struct mf_blobs *blobs, const char *name, uint64_t offset,
                       uint64_t size, struct mf_error *err) MF_CHECK_RESULT;
/* Deleting what is not there succeeds. */
bool mf_blobs_delete(const struct mf_blobs *blobs, const char *name,
                     struct mf_error *err) MF_CHECK_RESULT;
/* Whether an upload of `expected` bytes (0 = unknown) leaves min_free bytes; else
 * MF_ERR_UNAVAILABLE. */
bool mf_blobs_have_room(const struct mf_blobs *blobs, uint64_t expected,
                        struct mf_error *err) MF_CHECK_RESULT;

/* Deletes packs older than min_age_s for which `used` says false. It is asked about up to 256 names
 * at a time. *ret_deleted counts them. */
bool mf_blobs_sweep(const struct mf_blobs *blobs, int64_t min_age_s,
                    bool (*used)(void *context, const char *const *names, size_t n, bool *ret_used,
                                 struct mf_error *err),
                    void *context, size_t *ret_deleted, struct mf_error *err) MF_CHECK_RESULT;

/* A new pack, open for appending. */
struct mf_pack *mf_pack_new(const struct mf_blobs *blobs, struct mf_error *err) MF_CHECK_RESULT;
/* Closes it, and deletes it unless kept. */
void mf_pack_free(struct mf_pack *pack);
const char *mf_pack_name(const struct mf_pack *pack);
/* Whether members may be added after a sync and synced in their turn: not where it is encrypted, or
 * goes to a bucket. */
bool mf_pack_goes_on(const struct mf_pack *pack);

bool mf_pack_begin(struct mf_pack *pack, struct mf_error *err) MF_CHECK_RESULT;
bool mf_pack_write(struct mf_pack *pack, const void *data, size_t len,
                   struct mf_error *err) MF_CHECK_RESULT;
bool mf_pack_end(struct mf_pack *pack, struct mf_pack_member *ret,
                 struct mf_error *err) MF_CHECK_RESULT;
/* Members are not hashed while they are written (their sha256 is zeros): for small packs, whose
 * owner has time to call mf_pack_hash() while something else is waited for. Before the first one.
 */
void mf_pack_hash_later(struct mf_pack *pack);
/* Members are hashed by threads of their own, each as soon as it has ended, and mf_pack_end() says
 * zeros: mf_pack_digest() waits for it. For owners whose one thread receives. Before the first one.
 */
void mf_pack_hash_apart(struct mf_pack *pack);
/* The digest of the n-th member. */
bool mf_pack_digest(struct mf_pack *pack, size_t n, unsigned char ret_sha256[MF_SHA256_BYTES],
                    struct mf_error *err) MF_CHECK_RESULT;
/* The digest of a member of a pack that has been flushed. */
bool mf_pack_hash(struct mf_pack *pack, uint64_t offset, uint64_t size,
                  unsigned char ret_sha256[MF_SHA256_BYTES], struct mf_error *err) MF_CHECK_RESULT;
/* Hands everything written so far to the kernel and returns the descriptor (the pack's own: do not
 * close) for readers; it is not durable yet. −1 on failure. */
int mf_pack_flush(struct mf_pack *pack, struct mf_error *err) MF_CHECK_RESULT;
/* Begins to make durable what is there so far, in the background; nothing may be written until
 * mf_pack_sync() has ended, and then only where mf_pack_goes_on() says so. */
void mf_pack_begin_sync(struct mf_pack *pack);
/* Makes it durable, or waits until what was begun is over. MF_ERR_UNAVAILABLE: the disk is full, or
 * the bucket did not take it.
 * MF_ERR_IO: the disk failed; what the kernel dropped is not known, so fsync is never tried again
 * and the process should accept nothing more. */
bool mf_pack_sync(struct mf_pack *pack, struct mf_error *err) MF_CHECK_RESULT;
/* The pack now belongs to a job: freeing the handle leaves the file. */
void mf_pack_keep(struct mf_pack *pack);

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_blobs, struct mf_blobs *, mf_blobs_free(*p))
MF_AUTO_DEFINE(mf_pack, struct mf_pack *, mf_pack_free(*p))

#endif
