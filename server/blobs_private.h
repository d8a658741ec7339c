/* Private to blobs.c and pack.c. */
#ifndef MF_SERVER_BLOBS_PRIVATE_H
#define MF_SERVER_BLOBS_PRIVATE_H

#include "server/blobs.h"
#include "server/syncer.h"

struct mf_blobs {
    int dir; /* descriptor of the payload directory: every path is relative to it */
    uint64_t min_free;
    struct mf_syncer *contents, *names;
};

#endif
