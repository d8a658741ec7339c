/* Private to blobs.c and pack.c. */
#ifndef MF_SERVER_BLOBS_PRIVATE_H
#define MF_SERVER_BLOBS_PRIVATE_H

#include "server/blobs.h"
#include "server/s3_client.h"
#include "server/syncer.h"
#include "server/vault.h"

enum { MF_PACK_SPARES = 8 };

struct mf_blobs {
    int dir; /* descriptor of the directory that packs are written to: every path is relative */
    struct mf_s3 *s3; /* where they go from there; NULL: they stay */
    int before;       /* with a bucket: the payload directory of earlier packs, or −1 */
    uint64_t min_free;
    struct mf_vault *vault; /* NULL: packs are as they came */
    struct mf_syncer *contents, *names, *digests;
    struct mf_pack **spares; /* atomic, MF_PACK_SPARES: packs made ahead, or NULL */
};

/* Deletes the packs that were made ahead. */
void mf_pack_drop_spares(const struct mf_blobs *blobs);

#endif
