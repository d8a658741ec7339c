/*
 * Sealed packs: the encrypted form of a pack (blobs.h), AES-256-GCM in pieces that can be read each
 * by itself.
 *
 *   bytes 0–2047, 2048–4095   two places for the pack's wrapped key (vault.h): "MFPACK1", a serial
 *                             number (little-endian) and the wrapped key. The higher serial holds;
 *                             a new wrapping is written to the other place and synced, then the old
 *                             one is wiped, so that a crash in between leaves one that is good
 *   from 4096                 pieces of 64 KiB of plaintext and a tag of 16 bytes; the last one is
 *                             shorter, or empty
 *
 * A piece's nonce is its number: the key is the pack's own and each number is used once. Its
 * authenticated data are the pack's name and whether it is the last, so that pieces cannot be
 * moved, swapped between packs or cut off unseen.
 */
#ifndef MF_SERVER_SEALED_PACK_H
#define MF_SERVER_SEALED_PACK_H

#include "server/s3_client.h"
#include "server/vault.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mf_sealer;

/* Begins a pack of this name in an empty file, which stays the caller's. */
struct mf_sealer *mf_sealer_new(const struct mf_vault *vault, const char *name, int fd,
                                struct mf_error *err) MF_CHECK_RESULT;
void mf_sealer_free(struct mf_sealer *sealer);
bool mf_sealer_write(struct mf_sealer *sealer, const void *data, size_t len,
                     struct mf_error *err) MF_CHECK_RESULT;
/* Writes the last piece; nothing may be written after it. */
bool mf_sealer_finish(struct mf_sealer *sealer, struct mf_error *err) MF_CHECK_RESULT;

/* Whether the file begins as a sealed pack does; `id` receives the name of the wrapping key. */
bool mf_sealed_is(int fd, char id[MF_VAULT_ID]);

/* A memory file of the plaintext with the bytes of [offset, offset + size) at their places (all of
 * them: size UINT64_MAX); what lies outside may be missing or zeros. The caller closes it. −1 with
 * MF_ERR_IO, or MF_ERR_NO_MEMORY. */
int mf_sealed_open(const struct mf_vault *vault, const char *name, int fd, uint64_t offset,
                   uint64_t size, struct mf_error *err) MF_CHECK_RESULT;

/* The ranges of a sealed file that mf_sealed_open() reads for these bytes of the pack (of fewer,
 * where it ends before), in order; returns how many. */

enum { MF_SEALED_RANGES = 3 };
size_t mf_sealed_ranges(uint64_t offset, uint64_t size, struct mf_s3_range ret[MF_SEALED_RANGES]);

/* Wraps its key anew with the newest key of the vault, unless that is done; *ret_changed says. */
bool mf_sealed_rewrap(const struct mf_vault *vault, const char *name, int fd, bool *ret_changed,
                      struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_sealer, struct mf_sealer *, mf_sealer_free(*p))

#endif
