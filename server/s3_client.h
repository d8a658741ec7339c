/*
 * S3: objects of one bucket (below one prefix) of an S3-compatible server, by libcurl with our own
 * signature (sigv4.h). Addresses are path-style (https://host/bucket/prefix/name), which every
 * server understands. What is put carries the SHA-256 of its bytes: signed, so that the server
 * refuses what it did not get whole, and kept beside the object, so that a whole object is checked
 * when it comes back. Large objects go in parts. What fails for a reason that may pass (no
 * connection, 408, 429, 5xx) is tried again a few times.
 */
#ifndef MF_SERVER_S3_CLIENT_H
#define MF_SERVER_S3_CLIENT_H

#include "core/auto.h"
#include "core/error.h"
#include "server/config.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mf_s3;

/* The bucket of payloads.s3. MF_ERR_USAGE says what is wrong with the configuration or the
 * credentials; nothing is asked of the server. */
struct mf_s3 *mf_s3_new(const struct mf_config *config, struct mf_error *err) MF_CHECK_RESULT;
void mf_s3_free(struct mf_s3 *s3);

/* Puts the `size` bytes of a file under this name. Once it returns true the object is kept. Any
 * number of threads. MF_ERR_UNAVAILABLE: it is not, or nobody knows. */
bool mf_s3_put(struct mf_s3 *s3, const char *name, int fd, uint64_t size,
               struct mf_error *err) MF_CHECK_RESULT;

/* Bytes [offset, offset + size) of an object that are wanted; offset UINT64_MAX: its last `size`.
 */
struct mf_s3_range {
    uint64_t offset, size;
};

/* A memory file as long as the object, with these ranges of it (those that lie behind its end are
 * left out) and zeros elsewhere. One range of UINT64_MAX bytes is the whole object, which is
 * compared with its digest. −1 with MF_ERR_NOT_FOUND, MF_ERR_IO (its bytes are not what was put) or
 * MF_ERR_UNAVAILABLE. */
int mf_s3_get(struct mf_s3 *s3, const char *name, const struct mf_s3_range *ranges, size_t n,
              struct mf_error *err) MF_CHECK_RESULT;

/* The whole object into an empty file that is open for reading and writing, compared with its
 * digest. MF_ERR_NOT_FOUND, MF_ERR_IO (its bytes are not what was put) or MF_ERR_UNAVAILABLE. */
bool mf_s3_fetch(struct mf_s3 *s3, const char *name, int file,
                 struct mf_error *err) MF_CHECK_RESULT;

/* Deleting what is not there succeeds. */
bool mf_s3_delete(struct mf_s3 *s3, const char *name, struct mf_error *err) MF_CHECK_RESULT;

/* Calls `visit` for each object of the bucket that was put more than min_age_s ago; false ends it.
 * Uploads in parts that were begun as long ago and never ended are removed. */
bool mf_s3_each(struct mf_s3 *s3, int64_t min_age_s,
                bool (*visit)(void *context, const char *name, struct mf_error *err), void *context,
                struct mf_error *err) MF_CHECK_RESULT;

/* Calls `visit` for every object of the bucket, however new; false ends it. Nothing is removed. */
bool mf_s3_all(struct mf_s3 *s3,
               bool (*visit)(void *context, const char *name, struct mf_error *err), void *context,
               struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_s3, struct mf_s3 *, mf_s3_free(*p))

#endif
