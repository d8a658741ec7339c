/* Store client: the verbs about instances and studies, as requests and the reading of answers. */
#include "server/store_client.h"

#include "server/store_wire_instances.h"

static struct mf_store_client *self(struct mf_store *store)
{
    return (struct mf_store_client *)store;
}

bool mf_client_instances_add(struct mf_store *store, const char *tenant, int64_t quiet_ms,
                             const struct mf_stored *instances, size_t n, struct mf_added *ret,
                             struct mf_error *err)
{
    struct mf_store_client *c = self(store);
    struct mf_wire_reader reply = {.at = NULL};
    struct mf_wire_writer w = mf_client_begin(c, MF_VERB_INSTANCES_ADD);
    mf_wire_put_text(&w, tenant);
    mf_wire_put_int(&w, quiet_ms);
    mf_wire_put_int(&w, (int64_t)n);
    for (size_t i = 0; i < n; i++)
        mf_wire_put_stored(&w, &instances[i]);
    if (!mf_client_call(c, &w, 0, &reply, err))
        return false;
    mf_wire_get(&reply, ret, n * sizeof *ret);
    return mf_client_check(&reply, err);
}

static bool copy_found(struct mf_wire_reader *r, struct mf_arena *arena, struct mf_found *ret,
                       struct mf_error *err)
{
    struct mf_stored *in = &ret->stored;
    mf_wire_get_stored(r, in);
    ret->series_count = mf_wire_get_int(r);
    ret->instance_count = mf_wire_get_int(r);
    ret->modalities = mf_wire_get_text(r);
    const char **texts[MF_ATTRIBUTE_COUNT + 4];
    size_t n = 0;
    for (int i = 0; i < MF_ATTRIBUTE_COUNT; i++)
        texts[n++] = &in->instance.values[i];
    texts[n++] = &in->instance.transfer_syntax;
    texts[n++] = &in->locator;
    texts[n++] = &in->source;
    texts[n++] = &ret->modalities;
    for (size_t i = 0; i < n && !r->failed; i++)
        if (*texts[i] && !(*texts[i] = mf_arena_strdup(arena, *texts[i], err)))
            return false;
    return mf_client_check(r, err);
}

bool mf_client_instances_search(struct mf_store *store, const struct mf_search *search,
                                struct mf_arena *arena, struct mf_found **ret, size_t *ret_count,
                                struct mf_error *err)
{
    struct mf_store_client *c = self(store);
    struct mf_wire_reader reply = {.at = NULL};
    struct mf_wire_writer w = mf_client_begin(c, MF_VERB_INSTANCES_SEARCH);
    mf_wire_put_search(&w, search);
    if (!mf_client_call(c, &w, 0, &reply, err))
        return false;
    size_t n = mf_wire_get_count(&reply, MF_SHA256_BYTES);
    struct mf_found *rows = mf_arena_alloc(arena, n + 1, sizeof *rows, err);
    if (!rows)
        return false;
    for (size_t i = 0; i < n; i++)
        if (!copy_found(&reply, arena, &rows[i], err))
            return false;
    *ret = rows;
    *ret_count = n;
    return mf_client_check(&reply, err);
}

/* What is due by now, rows of `size` bytes, and when the next of them will be. */
static bool due(struct mf_store *store, enum mf_store_verb verb,
                const struct mf_destinations *which, void *ret, size_t size, size_t max,
                size_t *ret_count, int64_t *ret_next_ms, struct mf_error *err)
{
    struct mf_store_client *c = self(store);
    struct mf_wire_reader reply = {.at = NULL};
    struct mf_wire_writer w = mf_client_begin(c, verb);
    mf_wire_put_int(&w, (int64_t)max);
    if (which) {
        mf_wire_put_text(&w, which->list);
        mf_wire_put_int(&w, which->others);
    }
    if (!mf_client_call(c, &w, 0, &reply, err))
        return false;
    *ret_next_ms = mf_wire_get_int(&reply);
    *ret_count = mf_wire_get_count(&reply, size);
    if (*ret_count > max)
        reply.failed = true;
    else
        mf_wire_get(&reply, ret, *ret_count * size);
    return mf_client_check(&reply, err);
}

bool mf_client_studies_due(struct mf_store *store, struct mf_due_study *ret, size_t max,
                           size_t *ret_count, int64_t *ret_next_ms, struct mf_error *err)
{
    return due(store, MF_VERB_STUDIES_DUE, NULL, ret, sizeof *ret, max, ret_count, ret_next_ms,
               err);
}

bool mf_client_deliveries_due(struct mf_store *store, const struct mf_destinations *which,
                              struct mf_delivery *ret, size_t max, size_t *ret_count,
                              int64_t *ret_next_ms, struct mf_error *err)
{
    return due(store, MF_VERB_DELIVERIES_DUE, which, ret, sizeof *ret, max, ret_count, ret_next_ms,
               err);
}

bool mf_client_delivery_settle(struct mf_store *store, int64_t id, const struct mf_error *problem,
                               int64_t retry_ms, struct mf_error *err)
{
    struct mf_store_client *c = self(store);
    struct mf_wire_reader reply = {.at = NULL};
    const struct mf_error none = MF_ERROR_INIT;
    struct mf_wire_writer w = mf_client_begin(c, MF_VERB_DELIVERY_SETTLE);
    mf_wire_put_int(&w, id);
    mf_wire_put(&w, problem ? problem : &none, sizeof none);
    mf_wire_put_int(&w, retry_ms);
    return mf_client_call(c, &w, 0, &reply, err);
}

bool mf_client_study_settle(struct mf_store *store, const struct mf_due_study *study,
                            const char *job, const struct mf_error *problem, int64_t retry_ms,
                            struct mf_error *err)
{
    struct mf_store_client *c = self(store);
    struct mf_wire_reader reply = {.at = NULL};
    const struct mf_error none = MF_ERROR_INIT;
    struct mf_wire_writer w = mf_client_begin(c, MF_VERB_STUDY_SETTLE);
    mf_wire_put(&w, study, sizeof *study);
    mf_wire_put_text(&w, job);
    mf_wire_put(&w, problem ? problem : &none, sizeof none);
    mf_wire_put_int(&w, retry_ms);
    return mf_client_call(c, &w, 0, &reply, err);
}

bool mf_client_study_hasten(struct mf_store *store, const char *tenant, const char *uid,
                            struct mf_error *err)
{
    struct mf_store_client *c = self(store);
    struct mf_wire_reader reply = {.at = NULL};
    struct mf_wire_writer w = mf_client_begin(c, MF_VERB_STUDY_HASTEN);
    mf_wire_put_text(&w, tenant);
    mf_wire_put_text(&w, uid);
    return mf_client_call(c, &w, 0, &reply, err);
}

bool mf_client_study(struct mf_store *store, const char *tenant, const char *uid,
                     struct mf_arena *arena, struct mf_study_state *ret, struct mf_error *err)
{
    struct mf_store_client *c = self(store);
    struct mf_wire_reader reply = {.at = NULL};
    struct mf_wire_writer w = mf_client_begin(c, MF_VERB_STUDY);
    mf_wire_put_text(&w, tenant);
    mf_wire_put_text(&w, uid);
    if (!mf_client_call(c, &w, 0, &reply, err))
        return false;
    mf_wire_get(&reply, ret, sizeof *ret);
    size_t n = mf_wire_get_count(&reply, MF_JOB_ID);
    char(*jobs)[MF_JOB_ID] = mf_arena_alloc(arena, n + 1, MF_JOB_ID, err);
    if (!jobs)
        return false;
    mf_wire_get(&reply, jobs, n * MF_JOB_ID);
    ret->jobs = (const char(*)[MF_JOB_ID])jobs;
    ret->job_count = n;
    return mf_client_check(&reply, err);
}
