/* Store server: from a request's body to its reply, the verbs about feedback. */
#include "server/store_server.h"

#include <string.h>

static bool incomplete(struct mf_error *err)
{
    return mf_error_set(err, MF_ERR_INTERNAL, "the job store got an incomplete request");
}

static void put_observed(struct mf_wire_writer *w, const struct mf_observed *o)
{
    mf_wire_put(w, &o->job, sizeof o->job);
    mf_wire_put_text(w, o->options);
    mf_wire_put_int(w, o->result != NULL);
    mf_wire_put_block(w, o->result ? o->result : "", o->result ? o->result_len : 0);
    mf_wire_put_int(w, o->revision);
    mf_wire_put_int(w, (int64_t)o->feedback_count);
    for (size_t i = 0; i < o->feedback_count; i++) {
        mf_wire_put_text(w, o->feedback[i].reader);
        mf_wire_put_int(w, o->feedback[i].time_ms);
        mf_wire_put_text(w, o->feedback[i].body);
    }
}

static bool serve_feedback(struct mf_store *store, struct mf_store_exchange *x,
                           struct mf_error *err)
{
    const char *tenant = mf_wire_get_text(x->in), *id = mf_wire_get_text(x->in);
    struct mf_observed o;
    if (!tenant || !id)
        return incomplete(err);
    if (!mf_store_feedback(store, tenant, id, x->arena, &o, err))
        return false;
    put_observed(x->out, &o);
    return true;
}

static bool serve_put(struct mf_store *store, struct mf_store_exchange *x, struct mf_error *err)
{
    struct mf_feedback_put p = {.tenant = mf_wire_get_text(x->in)};
    const char *job = mf_wire_get_text(x->in);
    p.reader = mf_wire_get_text(x->in);
    p.body = mf_wire_get_text(x->in);
    p.revision = mf_wire_get_int(x->in);
    p.state_key = mf_wire_get_text(x->in);
    p.state_version = mf_wire_get_int(x->in);
    p.state = mf_wire_get_text(x->in);
    bool kept = false;
    if (x->in->failed || !p.tenant || !mf_job_id_valid(job) || !p.reader || !p.body ||
        (p.state_key && !p.state))
        return incomplete(err);
    memcpy(p.job, job, sizeof p.job);
    if (!mf_store_feedback_put(store, &p, &kept, err))
        return false;
    mf_wire_put_int(x->out, kept);
    return true;
}

static bool serve_state(struct mf_store *store, struct mf_store_exchange *x, struct mf_error *err)
{
    const char *tenant = mf_wire_get_text(x->in), *key = mf_wire_get_text(x->in), *text = NULL;
    int64_t known = mf_wire_get_int(x->in), version = 0;
    if (x->in->failed || !tenant || !key)
        return incomplete(err);
    if (!mf_store_state(store, tenant, key, known, x->arena, &text, &version, err))
        return false;
    mf_wire_put_int(x->out, version);
    mf_wire_put_text(x->out, text);
    return true;
}

static bool serve_observed(struct mf_store *store, struct mf_store_exchange *x,
                           struct mf_error *err)
{
    const char *tenant = mf_wire_get_text(x->in), *model = mf_wire_get_text(x->in);
    int64_t cursor = mf_wire_get_int(x->in), next = 0;
    size_t limit = (size_t)mf_wire_get_int(x->in), n = 0;
    struct mf_observed *rows = NULL;
    if (x->in->failed || !model)
        return incomplete(err);
    if (!mf_store_observed(store, tenant, model, cursor, limit, x->arena, &rows, &n, &next, err))
        return false;
    mf_wire_put_int(x->out, next);
    mf_wire_put_int(x->out, (int64_t)n);
    for (size_t i = 0; i < n; i++)
        put_observed(x->out, &rows[i]);
    return true;
}

bool mf_store_serve_feedback(struct mf_store *store, uint32_t verb, struct mf_store_exchange *x,
                             struct mf_error *err)
{
    switch (verb) {
    case MF_VERB_FEEDBACK:
        return serve_feedback(store, x, err);
    case MF_VERB_FEEDBACK_PUT:
        return serve_put(store, x, err);
    case MF_VERB_STATE:
        return serve_state(store, x, err);
    case MF_VERB_OBSERVED:
        return serve_observed(store, x, err);
    default:
        return mf_error_set(err, MF_ERR_INTERNAL, "the job store does not know this request");
    }
}
