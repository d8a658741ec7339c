/*
 * Guard: absolute deadlines of connections. The HTTP library's own time-out starts anew with every
 * byte, so a client that sends one byte now and then would live for ever; here a connection past
 * its deadline is shut down.
 */
#ifndef MF_SERVER_GUARD_H
#define MF_SERVER_GUARD_H

#include "core/auto.h"
#include "core/error.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mf_guard;
struct mf_guarded;

struct mf_guard *mf_guard_new(struct mf_error *err) MF_CHECK_RESULT;
void mf_guard_free(struct mf_guard *guard);

/* Watches a socket until it is taken out, which must happen before the socket is closed. NULL = out
 * of memory. */
struct mf_guarded *mf_guard_add(struct mf_guard *guard, int socket);
void mf_guard_remove(struct mf_guard *guard, struct mf_guarded *guarded);
/* Monotonic ns; UINT64_MAX = none. Looked at once a second. */
void mf_guard_set_deadline(struct mf_guarded *guarded, uint64_t deadline_ns);

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_guard, struct mf_guard *, mf_guard_free(*p))

#endif
