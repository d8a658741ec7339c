/*
 * AES-256-GCM (NIST SP 800-38D) behind a fence around OpenSSL: one key, many messages. Whoever
 * calls sees to it that no nonce is used twice with a key.
 */
#ifndef MF_SERVER_GCM_H
#define MF_SERVER_GCM_H

#include "core/auto.h"
#include "core/error.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { MF_GCM_KEY = 32, MF_GCM_NONCE = 12, MF_GCM_TAG = 16 };

struct mf_gcm;

/* NULL when out of memory. The key is copied, and wiped when it is freed. One thread at a time. */
struct mf_gcm *mf_gcm_new(const unsigned char key[MF_GCM_KEY]);
void mf_gcm_free(struct mf_gcm *gcm);

/* `len` bytes into `out`, which may be `in`, and their tag. False: the library failed. */
bool mf_gcm_seal(struct mf_gcm *gcm, const unsigned char nonce[MF_GCM_NONCE], const void *aad,
                 size_t aad_len, const void *in, size_t len, void *out,
                 unsigned char tag[MF_GCM_TAG]) MF_CHECK_RESULT;
/* The way back. False: not what was sealed, or with another key, nonce or aad; what is in `out`
 * then must not be used. */
bool mf_gcm_open(struct mf_gcm *gcm, const unsigned char nonce[MF_GCM_NONCE], const void *aad,
                 size_t aad_len, const void *in, size_t len, void *out,
                 const unsigned char tag[MF_GCM_TAG]) MF_CHECK_RESULT;

/* Random bytes from the kernel. */
void mf_random_bytes(void *out, size_t len);

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_gcm, struct mf_gcm *, mf_gcm_free(*p))

#endif
