/*
 * Store: which jobs changed, for those who follow them. Changes are numbered; the numbers grow as
 * long as the store's clock does, also over its restarts. The store keeps them in memory, the last
 * MF_CHANGES_KEPT since it started: who asks for what is no longer there is told so, and lists the
 * jobs anew.
 */
#ifndef MF_SERVER_STORE_CHANGES_H
#define MF_SERVER_STORE_CHANGES_H

#include "server/store.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { MF_CHANGES_KEPT = 10000, MF_CHANGES_PAGE = 64 };

/* A job as it is now, under the number of its last change. */
struct mf_job_change {
    int64_t number;
    struct mf_job job;
};

struct mf_changes {
    struct mf_job_change *list; /* in the order of their numbers; memory of the arena */
    size_t count;
    int64_t head; /* ask again with this as `after`: the last number of a full page, else the last
                     there is */
    bool lost;    /* what came after `after` is not known any more; the list is empty */
};

/* Jobs that are new or whose state, progress, cancellation or purge changed after number `after`,
 * each once; of this tenant, or of all (NULL). Waits until there is one, at most wait_ms (−1 =
 * until interrupted). after −1: nothing but `head`, without waiting. */
bool mf_store_changes(struct mf_store *store, const char *tenant, int64_t after, int wait_ms,
                      struct mf_arena *arena, struct mf_changes *ret,
                      struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
