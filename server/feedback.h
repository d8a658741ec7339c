/*
 * Feedback: what readers say about a result, and what adaptive conformal inference learns from it.
 *
 * A statement names labels as present, absent or unknown. A label's truth is what all readers that
 * know it agree on; where they do not agree nothing is known. Only sets that were issued by learnt
 * levels (method adaptive_conformal) teach: the level that judged is the one that learns, each
 * study once, and a corrected truth takes the earlier step back (engine/trust/aci.h).
 */
#ifndef MF_SERVER_FEEDBACK_H
#define MF_SERVER_FEEDBACK_H

#include "core/json.h"
#include "server/store_feedback.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The reader of a statement that names none and comes from nobody. */
#define MF_READER_DEFAULT "anonymous"

/* Truth of each of the result's `predictions` (count) by what the readers say: 1 present, 0 absent,
 * −1 not known or not agreed upon. */
bool mf_feedback_truth(const struct mf_observed *observed, const json_t *predictions,
                       int8_t *ret_truth, struct mf_error *err);

/* Keeps a reader's statement, {"reader": name, "labels": {id: "present"|"absent"|"unknown"}}, about
 * the job's result; again the same changes nothing. `by` is who authenticated, or NULL: readers are
 * known under that name ("by", or "by/reader"), so that nobody speaks for somebody else's. `ret` is
 * what is there afterwards, memory of the arena. MF_ERR_MALFORMED, MF_ERR_UNUSABLE: the statement;
 * MF_ERR_CONFLICT, MF_ERR_GONE: there is no result. */
bool mf_feedback_give(struct mf_store *store, const char *tenant, const char *by, const char *id,
                      const char *text, size_t len, struct mf_arena *arena, struct mf_observed *ret,
                      struct mf_error *err) MF_CHECK_RESULT;
/* What is there; the same errors. */
bool mf_feedback_read(struct mf_store *store, const char *tenant, const char *id,
                      struct mf_arena *arena, struct mf_observed *ret,
                      struct mf_error *err) MF_CHECK_RESULT;

/* `medfusion.feedback/1`: {"schema", "job", "feedback": [{"reader", "time", "labels"}], "agreed":
 * {id: "present"|"absent"}}. NULL on failure. */
json_t *mf_feedback_to_json(const struct mf_observed *observed, struct mf_error *err);

#ifdef __cplusplus
}
#endif

#endif
