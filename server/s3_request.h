/* Private to the S3 client: one request with its signature and its further attempts. */
#ifndef MF_SERVER_S3_REQUEST_H
#define MF_SERVER_S3_REQUEST_H

#include "core/buffer.h"
#include "server/s3_client.h"
#include "server/s3_settings.h"
#include "server/web_client.h"

#include <pthread.h>

enum { MF_S3_ETAG = 256, MF_S3_UPLOAD_ID = 1024, MF_S3_ANSWER = 8 << 20 };

struct mf_s3 {
    const struct mf_config *config;
    struct mf_s3_place place;
    struct mf_web_pool *pool;
    pthread_mutex_t lock; /* of the key, which is read anew when the server refuses it */
    struct mf_sigv4_key key;
};

struct mf_s3_call {
    const char *method;
    const char *name;    /* of the object; NULL: the bucket itself */
    const char *query;   /* as sigv4.h wants it; NULL = none */
    const char *sha256;  /* x-amz-meta-sha256, or NULL */
    const char *payload; /* hex digest of the body; NULL: it is empty */
    const char *body;    /* text; or */
    int file;            /* > 0: size bytes from offset */
    uint64_t offset, size;
    const char *range;      /* "bytes=0-9", or NULL */
    struct mf_buffer *text; /* receives the body of the answer; or */
    int memory;             /* > 0: receives it, at its place in the object */
};

struct mf_s3_answer {
    long status;
    char etag[MF_S3_ETAG], sha256[MF_SHA256_HEX];
    bool partial; /* it had a Content-Range that is understood: first … of total */
    uint64_t first, total;
    uint64_t received;
};

/* Sends it until it is answered with something that will not pass. MF_ERR_UNAVAILABLE: it was not,
 * or the server refuses us; 404 and 416 are answers. */
bool mf_s3_send(struct mf_s3 *s3, const struct mf_s3_call *call, struct mf_s3_answer *ret,
                struct mf_error *err) MF_CHECK_RESULT;

/* The hex SHA-256 of bytes of a file. */
bool mf_s3_digest(int fd, uint64_t offset, uint64_t size, char out[MF_SHA256_HEX],
                  struct mf_error *err) MF_CHECK_RESULT;

#endif
