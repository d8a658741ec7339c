/*
 * Signatures of bundles: Ed25519 (RFC 8032, OpenSSL's) over the bytes of manifest.json, 64 bytes in
 * manifest.sig. The manifest holds the SHA-256 of every other file.
 */
#ifndef MF_SERVER_SIGNATURE_H
#define MF_SERVER_SIGNATURE_H

#include "core/digest.h"
#include "core/error.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Whether one of these public keys (PEM files) signed the bundle in `dir`; `digest`, unless NULL,
 * is that of the manifest that was signed (a bundle's digest, engine/bundle.h). MF_ERR_MODEL: none
 * of them did, or there is no signature; MF_ERR_NOT_FOUND, MF_ERR_UNUSABLE: a key. */
bool mf_signature_verify(const char *dir, const char *const keys[], size_t count,
                         char digest[MF_SHA256_HEX], struct mf_error *err) MF_CHECK_RESULT;
/* Signs it with a private key (PEM file). */
bool mf_signature_write(const char *dir, const char *key, struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
