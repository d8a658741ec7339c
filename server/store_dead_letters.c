/* Store: dead letters, whatever the implementation. */
#include "server/store_dead_letters.h"

#include "server/store_ops.h"

bool mf_store_dead_letters(struct mf_store *store, const struct mf_dead_letter_filter *filter,
                           int64_t cursor, size_t limit, struct mf_arena *arena,
                           struct mf_dead_letter **ret, size_t *ret_count, int64_t *ret_next,
                           struct mf_error *err)
{
    if (limit == 0 || limit > MF_STORE_BATCH)
        return mf_error_set(err, MF_ERR_INTERNAL, "a list asks for no dead letters or more than %d",
                            MF_STORE_BATCH);
    return store->ops->dead_letters(store, filter, cursor, limit, arena, ret, ret_count, ret_next,
                                    err);
}

bool mf_store_dead_letters_end(struct mf_store *store, const struct mf_dead_letter_filter *filter,
                               enum mf_dead_letter_end end, const char *actor, int64_t *cursor,
                               int64_t *ret_count, struct mf_error *err)
{
    return store->ops->dead_letters_end(store, filter, end, actor, cursor, ret_count, err);
}

bool mf_store_dead_letters_end_all(struct mf_store *store,
                                   const struct mf_dead_letter_filter *filter,
                                   enum mf_dead_letter_end end, const char *actor,
                                   int64_t *ret_count, struct mf_error *err)
{
    int64_t cursor = 0;
    *ret_count = 0;
    do {
        int64_t n = 0;
        if (!mf_store_dead_letters_end(store, filter, end, actor, &cursor, &n, err))
            return false;
        *ret_count += n;
    } while (cursor != 0);
    return *ret_count > 0 || filter->id == 0 ||
           mf_error_set(err, MF_ERR_NOT_FOUND, "there is no such dead letter");
}
