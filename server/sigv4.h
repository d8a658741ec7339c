/*
 * AWS Signature Version 4 (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html):
 * the Authorization field of a request to an S3-compatible server. libcurl 7.88 of Debian 12 has an
 * implementation, too, which signs neither x-amz-* fields nor what stands in the query as S3 wants
 * it.
 */
#ifndef MF_SERVER_SIGV4_H
#define MF_SERVER_SIGV4_H

#include "core/digest.h"
#include "core/error.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { MF_SIGV4_KEY = 256, MF_SIGV4_TOKEN = 4096, MF_SIGV4_FIELDS = 8, MF_SIGV4_TEXT = 1024 };

struct mf_sigv4_key {
    char id[MF_SIGV4_KEY], secret[MF_SIGV4_KEY], token[MF_SIGV4_TOKEN]; /* token: "" = none */
};

struct mf_sigv4_request {
    const char *method, *region, *service;
    const char *path;  /* as sent, percent-encoded */
    const char *query; /* as sent, in the order of the names, each with '='; "" = none */
    /* The fields that are signed, "name:value", in lower case and order; host among them. */
    const char *fields[MF_SIGV4_FIELDS];
    size_t field_count;
    const char *payload; /* hex SHA-256 of the body, as in x-amz-content-sha256 */
    const char *time;    /* as in x-amz-date */
};

/* "20130524T000000Z" of a wall time. */
enum { MF_SIGV4_TIME = 17 };
const char *mf_sigv4_time(int64_t wall_ms, char out[MF_SIGV4_TIME]);

/* The value of the Authorization field. MF_ERR_NO_MEMORY, or MF_ERR_TOO_LARGE for a request that
 * none of ours is. */
bool mf_sigv4_authorization(const struct mf_sigv4_request *request, const struct mf_sigv4_key *key,
                            char out[MF_SIGV4_TEXT], struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
