/* Store server: from a request's body to its reply, the verbs about the audit trail. */
#include "server/store_server.h"

static bool serve_add(struct mf_store *store, struct mf_store_exchange *x, struct mf_error *err)
{
    struct mf_audit_row row = {.tenant = mf_wire_get_text(x->in)};
    row.actor = mf_wire_get_text(x->in);
    row.job = mf_wire_get_text(x->in);
    row.event = mf_wire_get_text(x->in);
    row.detail = mf_wire_get_text(x->in);
    if (x->in->failed || !row.tenant || !row.job || !row.event)
        return mf_error_set(err, MF_ERR_INTERNAL, "the job store got an incomplete request");
    return mf_store_audit_add(store, &row, err);
}

static bool serve_read(struct mf_store *store, struct mf_store_exchange *x, struct mf_error *err)
{
    int64_t after = mf_wire_get_int(x->in);
    struct mf_audit_point base;
    struct mf_audit_row *rows = NULL;
    size_t n = 0;
    if (x->in->failed)
        return mf_error_set(err, MF_ERR_INTERNAL, "the job store got an incomplete request");
    if (!mf_store_audit_read(store, after, x->arena, &base, &rows, &n, err))
        return false;
    mf_wire_put(x->out, &base, sizeof base);
    mf_wire_put_int(x->out, (int64_t)n);
    for (size_t i = 0; i < n; i++) {
        mf_wire_put_int(x->out, rows[i].seq);
        mf_wire_put_int(x->out, rows[i].time_ms);
        mf_wire_put_text(x->out, rows[i].tenant);
        mf_wire_put_text(x->out, rows[i].actor);
        mf_wire_put_text(x->out, rows[i].job);
        mf_wire_put_text(x->out, rows[i].event);
        mf_wire_put_text(x->out, rows[i].detail);
        mf_wire_put(x->out, rows[i].hash, sizeof rows[i].hash);
    }
    return true;
}

bool mf_store_serve_audit(struct mf_store *store, uint32_t verb, struct mf_store_exchange *x,
                          struct mf_error *err)
{
    return verb == MF_VERB_AUDIT_ADD ? serve_add(store, x, err) : serve_read(store, x, err);
}
