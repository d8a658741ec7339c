/* Store client: the verbs about dead letters, as requests and the reading of answers. */
#include "server/store_client.h"

static void put_filter(struct mf_wire_writer *w, const struct mf_dead_letter_filter *filter)
{
    mf_wire_put_int(w, filter->id);
    mf_wire_put_text(w, filter->tenant);
    mf_wire_put_text(w, filter->destination);
}

bool mf_client_dead_letters(struct mf_store *store, const struct mf_dead_letter_filter *filter,
                            int64_t cursor, size_t limit, struct mf_arena *arena,
                            struct mf_dead_letter **ret, size_t *ret_count, int64_t *ret_next,
                            struct mf_error *err)
{
    struct mf_store_client *c = (struct mf_store_client *)store;
    struct mf_wire_reader reply = {.at = NULL};
    struct mf_wire_writer w = mf_client_begin(c, MF_VERB_DEAD_LETTERS);
    put_filter(&w, filter);
    mf_wire_put_int(&w, cursor);
    mf_wire_put_int(&w, (int64_t)limit);
    if (!mf_client_call(c, &w, 0, &reply, err))
        return false;
    *ret_next = mf_wire_get_int(&reply);
    size_t n = mf_wire_get_count(&reply, sizeof **ret);
    struct mf_dead_letter *letters = mf_arena_alloc(arena, n + 1, sizeof *letters, err);
    if (!letters)
        return false;
    mf_wire_get(&reply, letters, n * sizeof *letters);
    *ret = letters;
    *ret_count = n;
    return mf_client_check(&reply, err);
}

bool mf_client_dead_letters_end(struct mf_store *store, const struct mf_dead_letter_filter *filter,
                                enum mf_dead_letter_end end, const char *actor, int64_t *cursor,
                                int64_t *ret_count, struct mf_error *err)
{
    struct mf_store_client *c = (struct mf_store_client *)store;
    struct mf_wire_reader reply = {.at = NULL};
    struct mf_wire_writer w = mf_client_begin(c, MF_VERB_DEAD_LETTERS_END);
    put_filter(&w, filter);
    mf_wire_put_int(&w, end);
    mf_wire_put_text(&w, actor);
    mf_wire_put_int(&w, *cursor);
    if (!mf_client_call(c, &w, 0, &reply, err))
        return false;
    *cursor = mf_wire_get_int(&reply);
    *ret_count = mf_wire_get_int(&reply);
    return mf_client_check(&reply, err);
}
