/* Private to blobs.c and pack.c. */
#ifndef MF_SERVER_BLOBS_PRIVATE_H
#define MF_SERVER_BLOBS_PRIVATE_H

#include "server/blobs.h"
#include "server/syncer.h"

struct mf_blobs {
    int dir; /* descriptor of the payload directory: every path is relative to it */
    uint64_t min_free;
    struct mf_syncer *contents, *names;
    struct mf_pack **spare; /* atomic: the next pack, or NULL */
};

/* Deletes the pack that was made ahead, if there is one. */
void mf_pack_drop_spare(const struct mf_blobs *blobs);

#endif
