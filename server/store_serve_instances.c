/* Store server: from a request's body to its reply, the verbs about instances and studies. */
#include "server/store_server.h"
#include "server/store_wire_instances.h"

static bool incomplete(struct mf_error *err)
{
    return mf_error_set(err, MF_ERR_INTERNAL, "the job store got an incomplete request");
}

static bool whole(const struct mf_stored *in)
{
    const char *const *v = in->instance.values;
    return v[MF_STUDY_UID] && v[MF_SERIES_UID] && v[MF_SOP_CLASS_UID] && v[MF_SOP_INSTANCE_UID] &&
           in->instance.transfer_syntax && in->locator && in->source;
}

static bool serve_add(struct mf_store *store, struct mf_store_exchange *x, struct mf_error *err)
{
    const char *tenant = mf_wire_get_text(x->in);
    int64_t quiet_ms = mf_wire_get_int(x->in);
    size_t n = mf_wire_get_count(x->in, MF_SHA256_BYTES);
    struct mf_stored *instances = mf_arena_alloc(x->arena, n + 1, sizeof *instances, err);
    struct mf_added *added = mf_arena_alloc(x->arena, n + 1, sizeof *added, err);
    if (!instances || !added)
        return false;
    for (size_t i = 0; i < n; i++) {
        mf_wire_get_stored(x->in, &instances[i]);
        if (x->in->failed || !whole(&instances[i]))
            return incomplete(err);
    }
    if (!tenant || !mf_store_instances_add(store, tenant, quiet_ms, instances, n, added, err))
        return tenant ? false : incomplete(err);
    mf_wire_put(x->out, added, n * sizeof *added);
    return true;
}

static bool serve_search(struct mf_store *store, struct mf_store_exchange *x, struct mf_error *err)
{
    struct mf_search search = {.tenant = NULL};
    struct mf_found *rows = NULL;
    size_t n = 0;
    if (!mf_wire_get_search(x->in, x->arena, &search, err) ||
        !mf_store_instances_search(store, &search, x->arena, &rows, &n, err))
        return false;
    mf_wire_put_int(x->out, (int64_t)n);
    for (size_t i = 0; i < n; i++) {
        mf_wire_put_stored(x->out, &rows[i].stored);
        mf_wire_put_int(x->out, rows[i].series_count);
        mf_wire_put_int(x->out, rows[i].instance_count);
        mf_wire_put_text(x->out, rows[i].modalities);
    }
    return true;
}

static bool serve_due(struct mf_store *store, struct mf_store_exchange *x, struct mf_error *err)
{
    size_t n = 0, max = (size_t)mf_wire_get_int(x->in);
    int64_t next_ms = -1;
    if (x->in->failed)
        return incomplete(err);
    max = max > MF_STORE_BATCH ? MF_STORE_BATCH : max;
    struct mf_due_study *due = mf_arena_alloc(x->arena, max + 1, sizeof *due, err);
    if (!due || !mf_store_studies_due(store, due, max, &n, &next_ms, err))
        return false;
    mf_wire_put_int(x->out, next_ms);
    mf_wire_put_int(x->out, (int64_t)n);
    mf_wire_put(x->out, due, n * sizeof *due);
    return true;
}

static bool serve_settle(struct mf_store *store, struct mf_store_exchange *x, struct mf_error *err)
{
    struct mf_due_study study;
    struct mf_error problem;
    mf_wire_get(x->in, &study, sizeof study);
    const char *job = mf_wire_get_text(x->in);
    mf_wire_get(x->in, &problem, sizeof problem);
    int64_t retry_ms = mf_wire_get_int(x->in);
    if (x->in->failed)
        return incomplete(err);
    study.tenant[sizeof study.tenant - 1] = study.uid[sizeof study.uid - 1] = '\0';
    problem.msg[sizeof problem.msg - 1] = '\0';
    return mf_store_study_settle(store, &study, job, problem.code ? &problem : NULL, retry_ms, err);
}

static bool serve_hasten(struct mf_store *store, struct mf_store_exchange *x, struct mf_error *err)
{
    const char *tenant = mf_wire_get_text(x->in), *uid = mf_wire_get_text(x->in);
    return tenant && uid ? mf_store_study_hasten(store, tenant, uid, err) : incomplete(err);
}

static bool serve_study(struct mf_store *store, struct mf_store_exchange *x, struct mf_error *err)
{
    const char *tenant = mf_wire_get_text(x->in), *uid = mf_wire_get_text(x->in);
    struct mf_study_state state;
    if (!tenant || !uid)
        return incomplete(err);
    if (!mf_store_study(store, tenant, uid, x->arena, &state, err))
        return false;
    mf_wire_put(x->out, &state, sizeof state);
    mf_wire_put_int(x->out, (int64_t)state.job_count);
    mf_wire_put(x->out, state.jobs, state.job_count * MF_JOB_ID);
    return true;
}

static bool serve_deliveries(struct mf_store *store, struct mf_store_exchange *x,
                             struct mf_error *err)
{
    size_t n = 0, max = (size_t)mf_wire_get_int(x->in);
    int64_t next_ms = -1;
    struct mf_destinations which = {.list = mf_wire_get_text(x->in)};
    which.others = mf_wire_get_int(x->in) != 0;
    if (x->in->failed || !which.list)
        return incomplete(err);
    max = max > MF_STORE_BATCH ? MF_STORE_BATCH : max;
    struct mf_delivery *due = mf_arena_alloc(x->arena, max + 1, sizeof *due, err);
    if (!due || !mf_store_deliveries_due(store, &which, due, max, &n, &next_ms, err))
        return false;
    mf_wire_put_int(x->out, next_ms);
    mf_wire_put_int(x->out, (int64_t)n);
    mf_wire_put(x->out, due, n * sizeof *due);
    return true;
}

static bool serve_delivery(struct mf_store *store, struct mf_store_exchange *x,
                           struct mf_error *err)
{
    struct mf_error problem;
    int64_t id = mf_wire_get_int(x->in);
    mf_wire_get(x->in, &problem, sizeof problem);
    int64_t retry_ms = mf_wire_get_int(x->in);
    if (x->in->failed)
        return incomplete(err);
    problem.msg[sizeof problem.msg - 1] = '\0';
    return mf_store_delivery_settle(store, id, problem.code ? &problem : NULL, retry_ms, err);
}

bool mf_store_serve_instances(struct mf_store *store, uint32_t verb, struct mf_store_exchange *x,
                              struct mf_error *err)
{
    switch (verb) {
    case MF_VERB_INSTANCES_ADD:
        return serve_add(store, x, err);
    case MF_VERB_INSTANCES_SEARCH:
        return serve_search(store, x, err);
    case MF_VERB_STUDIES_DUE:
        return serve_due(store, x, err);
    case MF_VERB_STUDY_SETTLE:
        return serve_settle(store, x, err);
    case MF_VERB_STUDY_HASTEN:
        return serve_hasten(store, x, err);
    case MF_VERB_STUDY:
        return serve_study(store, x, err);
    case MF_VERB_DELIVERIES_DUE:
        return serve_deliveries(store, x, err);
    case MF_VERB_DELIVERY_SETTLE:
        return serve_delivery(store, x, err);
    default:
        return mf_error_set(err, MF_ERR_INTERNAL, "the job store does not know this request");
    }
}
