/* Store: the dispatch of the verbs about feedback. */
#include "server/store_ops.h"

bool mf_store_feedback(struct mf_store *store, const char *tenant, const char *id,
                       struct mf_arena *arena, struct mf_observed *ret, struct mf_error *err)
{
    return store->ops->feedback(store, tenant, id, arena, ret, err);
}

bool mf_store_feedback_put(struct mf_store *store, const struct mf_feedback_put *put,
                           bool *ret_kept, struct mf_error *err)
{
    return store->ops->feedback_put(store, put, ret_kept, err);
}

bool mf_store_state(struct mf_store *store, const char *tenant, const char *key, int64_t known,
                    struct mf_arena *arena, const char **ret_text, int64_t *ret_version,
                    struct mf_error *err)
{
    return store->ops->state(store, tenant, key, known, arena, ret_text, ret_version, err);
}

bool mf_store_observed(struct mf_store *store, const char *tenant, const char *model,
                       int64_t cursor, size_t limit, struct mf_arena *arena,
                       struct mf_observed **ret, size_t *ret_count, int64_t *ret_next,
                       struct mf_error *err)
{
    return store->ops->observed(store, tenant, model, cursor, limit, arena, ret, ret_count,
                                ret_next, err);
}
