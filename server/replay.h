/*
 * What may be used only once: ids of client assertions (`jti`), until they expire. They are kept in
 * a file of the data directory, so that starting the front again does not make them fresh.
 */
#ifndef MF_SERVER_REPLAY_H
#define MF_SERVER_REPLAY_H

#include "core/auto.h"
#include "core/error.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mf_replay;

/* Reads what has not expired at `now` (seconds since 1970). */
struct mf_replay *mf_replay_open(const char *directory, int64_t now,
                                 struct mf_error *err) MF_CHECK_RESULT;
void mf_replay_close(struct mf_replay *replay);
/* Remembers an id of `owner`, durably, until `expires`. MF_ERR_UNAUTHORIZED: it was used before;
 * MF_ERR_BUSY: too many are remembered; MF_ERR_IO. From any thread. */
bool mf_replay_use(struct mf_replay *replay, const char *owner, const char *id, int64_t now,
                   int64_t expires, struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_replay, struct mf_replay *, mf_replay_close(*p))

#endif
