/*
 * Store: what readers say about results, the states that are learnt from it, and results as the
 * monitor looks at them. The rules of store.h hold.
 *
 * Feedback belongs to a job that succeeded and is purged with it; each reader has one statement a
 * job, which a later one replaces. States are immutable versions under a key: making version n + 1
 * of what was n is the compare-and-swap.
 */
#ifndef MF_SERVER_STORE_FEEDBACK_H
#define MF_SERVER_STORE_FEEDBACK_H

#include "server/store.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { MF_READER = 129, MF_STATE_KEY = 512, MF_OBSERVED_MAX = 200 };

/* What one reader says: JSON text, opaque to the store. */
struct mf_feedback {
    const char *reader;
    int64_t time_ms; /* the store's */
    const char *body;
};

/* One result with the options it was asked with and all that was said about it. */
struct mf_observed {
    struct mf_job job;
    const char *options, *result; /* result NULL unless succeeded and not purged */
    size_t result_len;
    const struct mf_feedback *feedback; /* by time */
    size_t feedback_count;
    int64_t revision; /* grows with every change of the feedback; 0 = none yet */
};

/* Memory of the arena. MF_ERR_NOT_FOUND as for mf_store_job(). */
bool mf_store_feedback(struct mf_store *store, const char *tenant, const char *id,
                       struct mf_arena *arena, struct mf_observed *ret,
                       struct mf_error *err) MF_CHECK_RESULT;

/* A statement to be kept, and the state that comes of it. */
struct mf_feedback_put {
    const char *tenant;
    char job[MF_JOB_ID];
    const char *reader, *body;
    int64_t revision;      /* of the feedback that was read before */
    const char *state_key; /* NULL: no state changes */
    int64_t state_version; /* of `state`: one more than the version that was read */
    const char *state;     /* JSON text */
};

/* Keeps both, or neither: *ret_kept is false when the feedback or the state has changed meanwhile
 * (or this very call was carried out already): read again. MF_ERR_CONFLICT unless the job has
 * succeeded, MF_ERR_GONE when it was purged. */
bool mf_store_feedback_put(struct mf_store *store, const struct mf_feedback_put *put,
                           bool *ret_kept, struct mf_error *err) MF_CHECK_RESULT;

/* The newest version of a state unless it is `known`: then, and when there is none, *ret_text is
 * NULL. *ret_version 0 = none. */
bool mf_store_state(struct mf_store *store, const char *tenant, const char *key, int64_t known,
                    struct mf_arena *arena, const char **ret_text, int64_t *ret_version,
                    struct mf_error *err) MF_CHECK_RESULT;

/* Results of one model, newest first, up to `limit` (1 … MF_OBSERVED_MAX); tenant NULL: of all.
 * Cursor and *ret_next as for mf_store_list(). */
bool mf_store_observed(struct mf_store *store, const char *tenant, const char *model,
                       int64_t cursor, size_t limit, struct mf_arena *arena,
                       struct mf_observed **ret, size_t *ret_count, int64_t *ret_next,
                       struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
