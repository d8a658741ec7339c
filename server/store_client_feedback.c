/* Store client: the verbs about feedback, as requests and the reading of answers. */
#include "server/store_client.h"

static struct mf_store_client *self(struct mf_store *store)
{
    return (struct mf_store_client *)store;
}

/* One result with its feedback; texts copied into the arena. */
static bool get_observed(struct mf_wire_reader *r, struct mf_arena *arena, struct mf_observed *o,
                         struct mf_error *err)
{
    *o = (struct mf_observed){.revision = 0};
    mf_wire_get(r, &o->job, sizeof o->job);
    o->options = mf_wire_copy_text(r, arena, err);
    bool has_result = mf_wire_get_int(r) != 0;
    const char *result = mf_wire_copy_block(r, arena, &o->result_len, err);
    o->result = has_result ? result : NULL;
    o->revision = mf_wire_get_int(r);
    o->feedback_count = mf_wire_get_count(r, 3 * sizeof(int64_t));
    struct mf_feedback *rows = mf_arena_alloc(arena, o->feedback_count + 1, sizeof *rows, err);
    if (!rows)
        return false;
    for (size_t i = 0; i < o->feedback_count; i++) {
        rows[i].reader = mf_wire_copy_text(r, arena, err);
        rows[i].time_ms = mf_wire_get_int(r);
        rows[i].body = mf_wire_copy_text(r, arena, err);
    }
    o->feedback = rows;
    return mf_client_check(r, err);
}

bool mf_client_feedback(struct mf_store *store, const char *tenant, const char *id,
                        struct mf_arena *arena, struct mf_observed *ret, struct mf_error *err)
{
    struct mf_store_client *c = self(store);
    struct mf_wire_reader reply = {.at = NULL};
    struct mf_wire_writer w = mf_client_begin(c, MF_VERB_FEEDBACK);
    mf_wire_put_text(&w, tenant);
    mf_wire_put_text(&w, id);
    return mf_client_call(c, &w, 0, &reply, err) && get_observed(&reply, arena, ret, err);
}

bool mf_client_feedback_put(struct mf_store *store, const struct mf_feedback_put *put,
                            bool *ret_kept, struct mf_error *err)
{
    struct mf_store_client *c = self(store);
    struct mf_wire_reader reply = {.at = NULL};
    struct mf_wire_writer w = mf_client_begin(c, MF_VERB_FEEDBACK_PUT);
    mf_wire_put_text(&w, put->tenant);
    mf_wire_put_text(&w, put->job);
    mf_wire_put_text(&w, put->reader);
    mf_wire_put_text(&w, put->body);
    mf_wire_put_int(&w, put->revision);
    mf_wire_put_text(&w, put->state_key);
    mf_wire_put_int(&w, put->state_version);
    mf_wire_put_text(&w, put->state);
    if (!mf_client_call(c, &w, 0, &reply, err))
        return false;
    *ret_kept = mf_wire_get_int(&reply) != 0;
    return mf_client_check(&reply, err);
}

bool mf_client_state(struct mf_store *store, const char *tenant, const char *key, int64_t known,
                     struct mf_arena *arena, const char **ret_text, int64_t *ret_version,
                     struct mf_error *err)
{
    struct mf_store_client *c = self(store);
    struct mf_wire_reader reply = {.at = NULL};
    struct mf_wire_writer w = mf_client_begin(c, MF_VERB_STATE);
    mf_wire_put_text(&w, tenant);
    mf_wire_put_text(&w, key);
    mf_wire_put_int(&w, known);
    if (!mf_client_call(c, &w, 0, &reply, err))
        return false;
    *ret_version = mf_wire_get_int(&reply);
    *ret_text = mf_wire_copy_text(&reply, arena, err);
    return mf_client_check(&reply, err);
}

bool mf_client_observed(struct mf_store *store, const char *tenant, const char *model,
                        int64_t cursor, size_t limit, struct mf_arena *arena,
                        struct mf_observed **ret, size_t *ret_count, int64_t *ret_next,
                        struct mf_error *err)
{
    struct mf_store_client *c = self(store);
    struct mf_wire_reader reply = {.at = NULL};
    struct mf_wire_writer w = mf_client_begin(c, MF_VERB_OBSERVED);
    mf_wire_put_text(&w, tenant);
    mf_wire_put_text(&w, model);
    mf_wire_put_int(&w, cursor);
    mf_wire_put_int(&w, (int64_t)limit);
    if (!mf_client_call(c, &w, 0, &reply, err))
        return false;
    *ret_next = mf_wire_get_int(&reply);
    size_t n = mf_wire_get_count(&reply, sizeof(struct mf_job));
    struct mf_observed *rows = mf_arena_alloc(arena, n + 1, sizeof *rows, err);
    if (!rows)
        return false;
    for (size_t i = 0; i < n; i++)
        if (!get_observed(&reply, arena, &rows[i], err))
            return false;
    *ret = rows;
    *ret_count = n;
    return mf_client_check(&reply, err);
}
