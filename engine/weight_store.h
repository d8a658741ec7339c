/*
 * Packed weights that several engines share: a memory file (memfd_create(2)) for one bundle, filled
 * by the first engine that is made with it and sealed against writing; the others map it and pack
 * nothing. It serves one way of packing, told by a key; an engine that packs otherwise keeps its
 * weights to itself. Whoever dies while filling leaves the file empty for the next.
 */
#ifndef MF_ENGINE_WEIGHT_STORE_H
#define MF_ENGINE_WEIGHT_STORE_H

#include "core/auto.h"
#include "core/error.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mf_weight_store;

/* An empty memory file, to be inherited by the processes that share it; −1 where there is none. The
 * caller closes it when no more engines are to be made. */
int mf_weight_store_create(void);

/* Takes part in sharing `fd` for weights packed as `key` says (at most 127 bytes). Waits while
 * another engine fills it. `most`: more than what is going to be taken. NULL without an error when
 * the file holds other weights or cannot be used here: then nothing is shared. */
struct mf_weight_store *mf_weight_store_open(int fd, const char *key, size_t most);
/* Not before everything that was taken is out of use. */
void mf_weight_store_close(struct mf_weight_store *store);

/* The next `bytes` of the file, 64-byte aligned. *ret_filled: they hold what was written by the
 * engine that filled the file, which took the same sizes in the same order. NULL when that is not
 * so, or no room is left: then the caller makes memory of its own. */
void *mf_weight_store_take(struct mf_weight_store *store, size_t bytes, bool *ret_filled);

/* Everything is taken and written: what was filled is sealed and from now on read-only. False when
 * it cannot be sealed: then what was taken must not be used any more. */
bool mf_weight_store_seal(struct mf_weight_store *store);

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_weight_store, struct mf_weight_store *, mf_weight_store_close(*p))

#endif
