/* Store: the dispatch of the verbs about instances and studies. */
#include "server/store_ops.h"

bool mf_store_instances_add(struct mf_store *store, const char *tenant, int64_t quiet_ms,
                            const struct mf_stored *instances, size_t n, struct mf_added *ret,
                            struct mf_error *err)
{
    return store->ops->instances_add(store, tenant, quiet_ms, instances, n, ret, err);
}

bool mf_store_instances_search(struct mf_store *store, const struct mf_search *search,
                               struct mf_arena *arena, struct mf_found **ret, size_t *ret_count,
                               struct mf_error *err)
{
    return store->ops->instances_search(store, search, arena, ret, ret_count, err);
}

bool mf_store_studies_due(struct mf_store *store, struct mf_due_study *ret, size_t max,
                          size_t *ret_count, int64_t *ret_next_ms, struct mf_error *err)
{
    return store->ops->studies_due(store, ret, max, ret_count, ret_next_ms, err);
}

bool mf_store_study_settle(struct mf_store *store, const struct mf_due_study *study,
                           const char *job, const struct mf_error *problem, int64_t retry_ms,
                           struct mf_error *err)
{
    return store->ops->study_settle(store, study, job, problem, retry_ms, err);
}

bool mf_store_study_hasten(struct mf_store *store, const char *tenant, const char *uid,
                           struct mf_error *err)
{
    return store->ops->study_hasten(store, tenant, uid, err);
}

bool mf_store_study(struct mf_store *store, const char *tenant, const char *uid,
                    struct mf_arena *arena, struct mf_study_state *ret, struct mf_error *err)
{
    return store->ops->study(store, tenant, uid, arena, ret, err);
}

bool mf_store_deliveries_due(struct mf_store *store, const struct mf_destinations *which,
                             struct mf_delivery *ret, size_t max, size_t *ret_count,
                             int64_t *ret_next_ms, struct mf_error *err)
{
    static const struct mf_destinations all = {.list = " ", .others = true};
    return store->ops->deliveries_due(store, which ? which : &all, ret, max, ret_count, ret_next_ms,
                                      err);
}

bool mf_store_delivery_settle(struct mf_store *store, int64_t id, const struct mf_error *problem,
                              int64_t retry_ms, struct mf_error *err)
{
    return store->ops->delivery_settle(store, id, problem, retry_ms, err);
}
