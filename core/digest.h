/* SHA-256 (FIPS 180-4, OpenSSL's implementation), incremental and at once, with lower-case hex. */
#ifndef MF_CORE_DIGEST_H
#define MF_CORE_DIGEST_H

#include "core/auto.h"
#include "core/error.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { MF_SHA256_BYTES = 32, MF_SHA256_HEX = 65 };

struct mf_sha256; /* a running digest */

struct mf_sha256 *mf_sha256_new(void); /* NULL when out of memory */
void mf_sha256_free(struct mf_sha256 *h);
void mf_sha256_update(struct mf_sha256 *h, const void *data, size_t len);
/* Finishes and starts anew. */
void mf_sha256_final(struct mf_sha256 *h, unsigned char out[MF_SHA256_BYTES]);

void mf_sha256(const void *data, size_t len, unsigned char out[MF_SHA256_BYTES]);
/* HMAC (RFC 2104) with SHA-256; false without memory. */
bool mf_hmac_sha256(const void *key, size_t key_len, const void *data, size_t len,
                    unsigned char out[MF_SHA256_BYTES]) MF_CHECK_RESULT;
const char *mf_sha256_to_hex(const unsigned char digest[MF_SHA256_BYTES], char out[MF_SHA256_HEX]);
bool mf_sha256_file(const char *path, unsigned char out[MF_SHA256_BYTES], struct mf_error *err);

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_sha256, struct mf_sha256 *, mf_sha256_free(*p))

#endif
