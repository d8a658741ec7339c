/*
 * Quotas: how many requests and bytes of upload each tenant may send, as token buckets in memory:
 * full at first, holding a minute's requests and an hour's bytes, refilled steadily.
 */
#ifndef MF_SERVER_QUOTA_H
#define MF_SERVER_QUOTA_H

#include "core/auto.h"
#include "core/error.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mf_quota;

/* 0 = no limit of this kind. */
struct mf_quota *mf_quota_new(int64_t requests_per_minute, int64_t bytes_per_hour,
                              struct mf_error *err) MF_CHECK_RESULT;
void mf_quota_free(struct mf_quota *quota);

/* Takes one request, and the bytes that it announces. MF_ERR_BUSY: there are not enough now,
 * *ret_retry_s says when there will be; MF_ERR_TOO_LARGE: there never will be. From any thread;
 * now_ns is monotonic. */
bool mf_quota_take(struct mf_quota *quota, const char *tenant, uint64_t bytes, uint64_t now_ns,
                   int *ret_retry_s, struct mf_error *err) MF_CHECK_RESULT;
/* Takes bytes that were not announced. */
bool mf_quota_take_bytes(struct mf_quota *quota, const char *tenant, uint64_t bytes,
                         uint64_t now_ns, int *ret_retry_s, struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_quota, struct mf_quota *, mf_quota_free(*p))

#endif
