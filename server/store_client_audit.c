/* Store client: the verbs about the audit trail, as requests and the reading of answers. */
#include "server/store_client.h"

static struct mf_store_client *self(struct mf_store *store)
{
    return (struct mf_store_client *)store;
}

bool mf_client_audit_add(struct mf_store *store, const struct mf_audit_row *row,
                         struct mf_error *err)
{
    struct mf_store_client *c = self(store);
    struct mf_wire_reader reply = {.at = NULL};
    struct mf_wire_writer w = mf_client_begin(c, MF_VERB_AUDIT_ADD);
    mf_wire_put_text(&w, row->tenant);
    mf_wire_put_text(&w, row->actor);
    mf_wire_put_text(&w, row->job);
    mf_wire_put_text(&w, row->event);
    mf_wire_put_text(&w, row->detail);
    return mf_client_call(c, &w, 0, &reply, err);
}

bool mf_client_audit_read(struct mf_store *store, int64_t after, struct mf_arena *arena,
                          struct mf_audit_point *ret_base, struct mf_audit_row **ret,
                          size_t *ret_count, struct mf_error *err)
{
    struct mf_store_client *c = self(store);
    struct mf_wire_reader reply = {.at = NULL};
    struct mf_wire_writer w = mf_client_begin(c, MF_VERB_AUDIT_READ);
    mf_wire_put_int(&w, after);
    if (!mf_client_call(c, &w, 0, &reply, err))
        return false;
    mf_wire_get(&reply, ret_base, sizeof *ret_base);
    size_t n = mf_wire_get_count(&reply, MF_SHA256_BYTES);
    struct mf_audit_row *rows = mf_arena_alloc(arena, n + 1, sizeof *rows, err);
    if (!rows)
        return false;
    for (size_t i = 0; i < n; i++) {
        rows[i].seq = mf_wire_get_int(&reply);
        rows[i].time_ms = mf_wire_get_int(&reply);
        rows[i].tenant = mf_wire_copy_text(&reply, arena, err);
        rows[i].actor = mf_wire_copy_text(&reply, arena, err);
        rows[i].job = mf_wire_copy_text(&reply, arena, err);
        rows[i].event = mf_wire_copy_text(&reply, arena, err);
        rows[i].detail = mf_wire_copy_text(&reply, arena, err);
        mf_wire_get(&reply, rows[i].hash, sizeof rows[i].hash);
    }
    *ret = rows;
    *ret_count = n;
    return mf_client_check(&reply, err);
}
