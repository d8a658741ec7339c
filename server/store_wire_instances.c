/* Store messages: instances and searches. */
#include "server/store_wire_instances.h"

void mf_wire_put_stored(struct mf_wire_writer *w, const struct mf_stored *stored)
{
    for (int i = 0; i < MF_ATTRIBUTE_COUNT; i++)
        mf_wire_put_text(w, stored->instance.values[i]);
    mf_wire_put_text(w, stored->instance.transfer_syntax);
    mf_wire_put_int(w, (int64_t)stored->instance.data_set);
    mf_wire_put_text(w, stored->locator);
    mf_wire_put_int(w, (int64_t)stored->offset);
    mf_wire_put_int(w, (int64_t)stored->size);
    mf_wire_put(w, stored->sha256, sizeof stored->sha256);
    mf_wire_put_text(w, stored->source);
    mf_wire_put_int(w, stored->received_ms);
}

void mf_wire_get_stored(struct mf_wire_reader *r, struct mf_stored *ret)
{
    for (int i = 0; i < MF_ATTRIBUTE_COUNT; i++)
        ret->instance.values[i] = mf_wire_get_text(r);
    ret->instance.transfer_syntax = mf_wire_get_text(r);
    ret->instance.data_set = (uint64_t)mf_wire_get_int(r);
    ret->locator = mf_wire_get_text(r);
    ret->offset = (uint64_t)mf_wire_get_int(r);
    ret->size = (uint64_t)mf_wire_get_int(r);
    mf_wire_get(r, ret->sha256, sizeof ret->sha256);
    ret->source = mf_wire_get_text(r);
    ret->received_ms = mf_wire_get_int(r);
}

void mf_wire_put_search(struct mf_wire_writer *w, const struct mf_search *search)
{
    mf_wire_put_text(w, search->tenant);
    mf_wire_put_int(w, search->level);
    mf_wire_put_int(w, (int64_t)search->limit);
    mf_wire_put_int(w, (int64_t)search->offset);
    mf_wire_put_int(w, (int64_t)search->match_count);
    for (size_t i = 0; i < search->match_count; i++) {
        mf_wire_put_int(w, search->matches[i].attribute);
        mf_wire_put_int(w, search->matches[i].kind);
        mf_wire_put_text(w, search->matches[i].value);
    }
}

bool mf_wire_get_search(struct mf_wire_reader *r, struct mf_arena *arena, struct mf_search *ret,
                        struct mf_error *err)
{
    ret->tenant = mf_wire_get_text(r);
    ret->level = (enum mf_level)mf_wire_get_int(r);
    ret->limit = (size_t)mf_wire_get_int(r);
    ret->offset = (size_t)mf_wire_get_int(r);
    ret->match_count = mf_wire_get_count(r, 3 * sizeof(int64_t));
    struct mf_match *matches = mf_arena_alloc(arena, ret->match_count + 1, sizeof *matches, err);
    if (!matches)
        return false;
    for (size_t i = 0; i < ret->match_count; i++) {
        int64_t attribute = mf_wire_get_int(r);
        r->failed = r->failed || attribute < 0 || attribute >= MF_ATTRIBUTE_COUNT;
        matches[i].attribute = (enum mf_attribute_id)attribute;
        matches[i].kind = (enum mf_match_kind)mf_wire_get_int(r);
        matches[i].value = mf_wire_get_text(r);
        r->failed = r->failed || !matches[i].value;
    }
    ret->matches = matches;
    if (r->failed || !ret->tenant)
        return mf_error_set(err, MF_ERR_INTERNAL, "the job store got an incomplete request");
    return true;
}
