/*
 * Store: dead letters, the deliveries of the outbox that have failed for good (store_instances.h):
 * they used up outbox.max_attempts, or their destination will never take them. They stay, with the
 * last reason, for as long as their job does, until somebody has them tried again or drops them.
 *
 * These verbs are the administrator's, who is above tenants.
 */
#ifndef MF_SERVER_STORE_DEAD_LETTERS_H
#define MF_SERVER_STORE_DEAD_LETTERS_H

#include "server/store_instances.h"

#ifdef __cplusplus
extern "C" {
#endif

struct mf_dead_letter {
    int64_t id, attempts, failed_ms; /* failed_ms: when it was given up */
    char tenant[MF_TENANT], job[MF_JOB_ID], destination[MF_DESTINATION];
    char reason[sizeof((struct mf_error *)NULL)->msg]; /* of the last attempt */
};

/* Which dead letters: all that fit. */
struct mf_dead_letter_filter {
    int64_t id;                       /* 0 = any */
    const char *tenant, *destination; /* NULL = any */
};

/* Oldest first, up to `limit` (1 … MF_STORE_BATCH) behind `cursor` (0 = from the beginning);
 * *ret_next: the cursor of what follows, 0 at the end. Memory of the arena. */
bool mf_store_dead_letters(struct mf_store *store, const struct mf_dead_letter_filter *filter,
                           int64_t cursor, size_t limit, struct mf_arena *arena,
                           struct mf_dead_letter **ret, size_t *ret_count, int64_t *ret_next,
                           struct mf_error *err) MF_CHECK_RESULT;

enum mf_dead_letter_end {
    MF_DEAD_LETTER_RETRY, /* it is due now, with all its attempts before it */
    MF_DEAD_LETTER_DROP   /* it is forgotten */
};

/* Ends up to MF_STORE_BATCH of those that fit, and says so in the audit trail with each one's
 * destination and who asked for it (`actor`, may be NULL). *cursor goes in as 0 or as it came out,
 * and comes out as 0 when there are no more; *ret_count: how many were ended by this call. */
bool mf_store_dead_letters_end(struct mf_store *store, const struct mf_dead_letter_filter *filter,
                               enum mf_dead_letter_end end, const char *actor, int64_t *cursor,
                               int64_t *ret_count, struct mf_error *err) MF_CHECK_RESULT;

/* The same with all that fit now. MF_ERR_NOT_FOUND when filter->id names none. */
bool mf_store_dead_letters_end_all(struct mf_store *store,
                                   const struct mf_dead_letter_filter *filter,
                                   enum mf_dead_letter_end end, const char *actor,
                                   int64_t *ret_count, struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
