/* Store server: from a request's body to its reply, the verbs about dead letters. */
#include "server/store_server.h"

static struct mf_dead_letter_filter get_filter(struct mf_wire_reader *in)
{
    struct mf_dead_letter_filter filter = {.id = mf_wire_get_int(in)};
    filter.tenant = mf_wire_get_text(in);
    filter.destination = mf_wire_get_text(in);
    return filter;
}

static bool incomplete(struct mf_error *err)
{
    return mf_error_set(err, MF_ERR_INTERNAL, "the job store got an incomplete request");
}

static bool serve_list(struct mf_store *store, struct mf_store_exchange *x, struct mf_error *err)
{
    const struct mf_dead_letter_filter filter = get_filter(x->in);
    int64_t cursor = mf_wire_get_int(x->in), next = 0;
    const size_t limit = (size_t)mf_wire_get_int(x->in);
    struct mf_dead_letter *letters = NULL;
    size_t n = 0;
    if (x->in->failed)
        return incomplete(err);
    if (!mf_store_dead_letters(store, &filter, cursor, limit, x->arena, &letters, &n, &next, err))
        return false;
    mf_wire_put_int(x->out, next);
    mf_wire_put_int(x->out, (int64_t)n);
    mf_wire_put(x->out, letters, n * sizeof *letters);
    return true;
}

static bool serve_end(struct mf_store *store, struct mf_store_exchange *x, struct mf_error *err)
{
    const struct mf_dead_letter_filter filter = get_filter(x->in);
    const int64_t end = mf_wire_get_int(x->in);
    const char *actor = mf_wire_get_text(x->in);
    int64_t cursor = mf_wire_get_int(x->in), n = 0;
    if (x->in->failed || (end != MF_DEAD_LETTER_RETRY && end != MF_DEAD_LETTER_DROP))
        return incomplete(err);
    if (!mf_store_dead_letters_end(store, &filter, (enum mf_dead_letter_end)end, actor, &cursor, &n,
                                   err))
        return false;
    mf_wire_put_int(x->out, cursor);
    mf_wire_put_int(x->out, n);
    return true;
}

bool mf_store_serve_dead_letters(struct mf_store *store, uint32_t verb, struct mf_store_exchange *x,
                                 struct mf_error *err)
{
    return verb == MF_VERB_DEAD_LETTERS ? serve_list(store, x, err) : serve_end(store, x, err);
}
