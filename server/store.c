/* Store: names, ids, and the dispatch to an implementation's table of operations. */
#include "server/store_ops.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static const char *const STATES[MF_JOB_STATE_COUNT] = {"queued", "running", "succeeded", "failed",
                                                       "cancelled"};
static const char *const PRIORITIES[MF_PRIORITY_COUNT] = {"stat", "urgent", "routine"};

void mf_job_id_new(char out[MF_JOB_ID])
{
    static const char hex[] = "0123456789abcdef";
    unsigned char bytes[16];
    /* Up to 256 bytes are never cut short nor interrupted once the kernel's pool is seeded
     * (getrandom(2)). */
    while (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes) {
    }
    for (size_t i = 0; i < sizeof bytes; i++) {
        out[2 * i] = hex[bytes[i] >> 4];
        out[2 * i + 1] = hex[bytes[i] & 15];
    }
    out[32] = '\0';
}

bool mf_job_id_valid(const char *id)
{
    return id && strlen(id) == MF_JOB_ID - 1 && strspn(id, "0123456789abcdef") == MF_JOB_ID - 1;
}

bool mf_job_state_terminal(enum mf_job_state state)
{
    return state == MF_JOB_SUCCEEDED || state == MF_JOB_FAILED || state == MF_JOB_CANCELLED;
}

const char *mf_job_state_name(enum mf_job_state state)
{
    return (unsigned)state < MF_JOB_STATE_COUNT ? STATES[state] : "unknown";
}

bool mf_job_state_parse(const char *name, enum mf_job_state *ret)
{
    for (int i = 0; i < MF_JOB_STATE_COUNT; i++) {
        if (strcmp(name, STATES[i]) == 0) {
            *ret = (enum mf_job_state)i;
            return true;
        }
    }
    return false;
}

const char *mf_priority_name(enum mf_priority priority)
{
    return (unsigned)priority < MF_PRIORITY_COUNT ? PRIORITIES[priority] : "unknown";
}

bool mf_priority_parse(const char *name, enum mf_priority *ret)
{
    for (int i = 0; i < MF_PRIORITY_COUNT; i++) {
        if (strcmp(name, PRIORITIES[i]) == 0) {
            *ret = (enum mf_priority)i;
            return true;
        }
    }
    return false;
}

struct mf_store *mf_store_open(const char *directory, const struct mf_store_settings *settings,
                               struct mf_error *err)
{
    return settings->database ? mf_store_open_postgres(settings, err)
                              : mf_store_open_sqlite(directory, settings, err);
}

void mf_store_free(struct mf_store *store)
{
    if (store)
        store->ops->free(store);
}

bool mf_store_changes(struct mf_store *store, const char *tenant, int64_t after, int wait_ms,
                      struct mf_arena *arena, struct mf_changes *ret, struct mf_error *err)
{
    return store->ops->changes(store, tenant, after, wait_ms, arena, ret, err);
}

void mf_store_interrupt(struct mf_store *store)
{
    store->ops->interrupt(store);
}

bool mf_store_submit(struct mf_store *store, const struct mf_submission *s,
                     struct mf_submitted *ret, struct mf_error *err)
{
    return store->ops->submit(store, s, ret, err);
}

bool mf_store_claim(struct mf_store *store, const struct mf_claim_request *request,
                    struct mf_arena *arena, struct mf_claim **ret, size_t *ret_count,
                    struct mf_error *err)
{
    return store->ops->claim(store, request, arena, ret, ret_count, err);
}

bool mf_store_heartbeat(struct mf_store *store, struct mf_heartbeat *beats, size_t n,
                        struct mf_error *err)
{
    return store->ops->heartbeat(store, beats, n, err);
}

bool mf_store_finish(struct mf_store *store, struct mf_outcome *outcomes, size_t n,
                     struct mf_error *err)
{
    return store->ops->finish(store, outcomes, n, err);
}

bool mf_store_release(struct mf_store *store, const struct mf_job_ref *jobs, size_t n,
                      enum mf_attempt_end end, struct mf_error *err)
{
    return store->ops->release(store, jobs, n, end, err);
}

bool mf_store_worker_gone(struct mf_store *store, const char *worker, enum mf_attempt_end end,
                          struct mf_error *err)
{
    return store->ops->worker_gone(store, worker, end, err);
}

bool mf_store_hold(struct mf_store *store, int64_t ms, int64_t *ret_hold, struct mf_error *err)
{
    return store->ops->hold(store, ms, ret_hold, err);
}

bool mf_store_announce(struct mf_store *store, const struct mf_worker *worker, int ttl_s,
                       struct mf_error *err)
{
    return store->ops->announce(store, worker, ttl_s, err);
}

bool mf_store_workers(struct mf_store *store, struct mf_arena *arena, struct mf_worker **ret,
                      size_t *ret_count, struct mf_error *err)
{
    return store->ops->workers(store, arena, ret, ret_count, err);
}

bool mf_store_job(struct mf_store *store, const char *tenant, const char *id, struct mf_job *ret,
                  struct mf_error *err)
{
    return store->ops->job(store, tenant, id, ret, err);
}

bool mf_store_result(struct mf_store *store, const char *tenant, const char *id,
                     struct mf_job *ret_job, struct mf_buffer *ret_text,
                     struct mf_buffer *ret_index, struct mf_error *err)
{
    return store->ops->result(store, tenant, id, ret_job, ret_text, ret_index, err);
}

bool mf_store_record(struct mf_store *store, const char *tenant, const char *id,
                     struct mf_arena *arena, struct mf_job_record *ret, struct mf_error *err)
{
    return store->ops->record(store, tenant, id, arena, ret, err);
}

bool mf_store_list(struct mf_store *store, const struct mf_job_filter *filter,
                   struct mf_arena *arena, struct mf_job **ret, size_t *ret_count,
                   int64_t *ret_next, struct mf_error *err)
{
    return store->ops->list(store, filter, arena, ret, ret_count, ret_next, err);
}

bool mf_store_cancel(struct mf_store *store, const char *tenant, const char *id, struct mf_job *ret,
                     struct mf_error *err)
{
    return store->ops->cancel(store, tenant, id, ret, err);
}

bool mf_store_purge(struct mf_store *store, const char *tenant, const char *id,
                    struct mf_arena *arena, const char *const **ret_locators, size_t *ret_count,
                    struct mf_error *err)
{
    return store->ops->purge(store, tenant, id, arena, ret_locators, ret_count, err);
}

bool mf_store_locators_used(struct mf_store *store, const char *const *locators, size_t n,
                            bool *ret_used, struct mf_error *err)
{
    return store->ops->locators_used(store, locators, n, ret_used, err);
}

bool mf_store_counts(struct mf_store *store, struct mf_store_counts *ret, struct mf_error *err)
{
    return store->ops->counts(store, ret, err);
}

bool mf_store_wait_for_jobs(struct mf_store *store, const char (*ids)[MF_JOB_ID], size_t n,
                            int wait_ms, bool *ret_terminal, struct mf_ended_job *ended,
                            struct mf_error *err)
{
    return store->ops->wait_for_jobs(store, ids, n, wait_ms, ret_terminal, ended, err);
}
