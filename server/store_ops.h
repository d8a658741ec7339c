/* Private to the store: the table of operations that an implementation fills in (store.h says what
 * each does). */
#ifndef MF_SERVER_STORE_OPS_H
#define MF_SERVER_STORE_OPS_H

#include "server/store_audit.h"
#include "server/store_changes.h"
#include "server/store_dead_letters.h"
#include "server/store_feedback.h"
#include "server/store_instances.h"

struct mf_store_ops {
    void (*free)(struct mf_store *store);
    bool (*submit)(struct mf_store *store, const struct mf_submission *s, struct mf_submitted *ret,
                   struct mf_error *err);
    bool (*claim)(struct mf_store *store, const struct mf_claim_request *request,
                  struct mf_arena *arena, struct mf_claim **ret, size_t *ret_count,
                  struct mf_error *err);
    bool (*heartbeat)(struct mf_store *store, struct mf_heartbeat *beats, size_t n,
                      struct mf_error *err);
    bool (*finish)(struct mf_store *store, struct mf_outcome *outcomes, size_t n,
                   struct mf_error *err);
    bool (*release)(struct mf_store *store, const struct mf_job_ref *jobs, size_t n,
                    enum mf_attempt_end end, struct mf_error *err);
    bool (*worker_gone)(struct mf_store *store, const char *worker, enum mf_attempt_end end,
                        struct mf_error *err);
    bool (*announce)(struct mf_store *store, const struct mf_worker *worker, int ttl_s,
                     struct mf_error *err);
    bool (*workers)(struct mf_store *store, struct mf_arena *arena, struct mf_worker **ret,
                    size_t *ret_count, struct mf_error *err);
    bool (*job)(struct mf_store *store, const char *tenant, const char *id, struct mf_job *ret,
                struct mf_error *err);
    bool (*result)(struct mf_store *store, const char *tenant, const char *id,
                   struct mf_job *ret_job, struct mf_buffer *ret_text, struct mf_buffer *ret_index,
                   struct mf_error *err);
    bool (*record)(struct mf_store *store, const char *tenant, const char *id,
                   struct mf_arena *arena, struct mf_job_record *ret, struct mf_error *err);
    bool (*list)(struct mf_store *store, const struct mf_job_filter *filter, struct mf_arena *arena,
                 struct mf_job **ret, size_t *ret_count, int64_t *ret_next, struct mf_error *err);
    bool (*cancel)(struct mf_store *store, const char *tenant, const char *id, struct mf_job *ret,
                   struct mf_error *err);
    bool (*purge)(struct mf_store *store, const char *tenant, const char *id,
                  struct mf_arena *arena, const char *const **ret_locators, size_t *ret_count,
                  struct mf_error *err);
    bool (*locators_used)(struct mf_store *store, const char *const *locators, size_t n,
                          bool *ret_used, struct mf_error *err);
    bool (*counts)(struct mf_store *store, struct mf_store_counts *ret, struct mf_error *err);
    bool (*wait_for_jobs)(struct mf_store *store, const char (*ids)[MF_JOB_ID], size_t n,
                          int wait_ms, bool *ret_terminal, struct mf_ended_job *ended,
                          struct mf_error *err);
    bool (*changes)(struct mf_store *store, const char *tenant, int64_t after, int wait_ms,
                    struct mf_arena *arena, struct mf_changes *ret, struct mf_error *err);
    bool (*hold)(struct mf_store *store, int64_t ms, int64_t *ret_hold, struct mf_error *err);
    void (*interrupt)(struct mf_store *store);

    bool (*instances_add)(struct mf_store *store, const char *tenant, int64_t quiet_ms,
                          const struct mf_stored *instances, size_t n, struct mf_added *ret,
                          struct mf_error *err);
    bool (*instances_search)(struct mf_store *store, const struct mf_search *search,
                             struct mf_arena *arena, struct mf_found **ret, size_t *ret_count,
                             struct mf_error *err);
    bool (*studies_due)(struct mf_store *store, struct mf_due_study *ret, size_t max,
                        size_t *ret_count, int64_t *ret_next_ms, struct mf_error *err);
    bool (*study_settle)(struct mf_store *store, const struct mf_due_study *study, const char *job,
                         const struct mf_error *problem, int64_t retry_ms, struct mf_error *err);
    bool (*study_hasten)(struct mf_store *store, const char *tenant, const char *uid,
                         struct mf_error *err);
    bool (*study)(struct mf_store *store, const char *tenant, const char *uid,
                  struct mf_arena *arena, struct mf_study_state *ret, struct mf_error *err);
    bool (*deliveries_due)(struct mf_store *store, const struct mf_destinations *which,
                           struct mf_delivery *ret, size_t max, size_t *ret_count,
                           int64_t *ret_next_ms, struct mf_error *err);
    bool (*delivery_settle)(struct mf_store *store, int64_t id, const struct mf_error *problem,
                            int64_t retry_ms, struct mf_error *err);

    bool (*dead_letters)(struct mf_store *store, const struct mf_dead_letter_filter *filter,
                         int64_t cursor, size_t limit, struct mf_arena *arena,
                         struct mf_dead_letter **ret, size_t *ret_count, int64_t *ret_next,
                         struct mf_error *err);
    bool (*dead_letters_end)(struct mf_store *store, const struct mf_dead_letter_filter *filter,
                             enum mf_dead_letter_end end, const char *actor, int64_t *cursor,
                             int64_t *ret_count, struct mf_error *err);

    bool (*feedback)(struct mf_store *store, const char *tenant, const char *id,
                     struct mf_arena *arena, struct mf_observed *ret, struct mf_error *err);
    bool (*feedback_put)(struct mf_store *store, const struct mf_feedback_put *put, bool *ret_kept,
                         struct mf_error *err);
    bool (*state)(struct mf_store *store, const char *tenant, const char *key, int64_t known,
                  struct mf_arena *arena, const char **ret_text, int64_t *ret_version,
                  struct mf_error *err);
    bool (*observed)(struct mf_store *store, const char *tenant, const char *model, int64_t cursor,
                     size_t limit, struct mf_arena *arena, struct mf_observed **ret,
                     size_t *ret_count, int64_t *ret_next, struct mf_error *err);

    bool (*audit_add)(struct mf_store *store, const struct mf_audit_row *row, struct mf_error *err);
    bool (*audit_read)(struct mf_store *store, int64_t after, struct mf_arena *arena,
                       struct mf_audit_point *ret_base, struct mf_audit_row **ret,
                       size_t *ret_count, struct mf_error *err);
};

/* The first member of every implementation's struct. */
struct mf_store {
    const struct mf_store_ops *ops;
};

#endif
