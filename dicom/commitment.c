/* Storage commitment (PS3.4 J.3.2.1, J.3.3.1): reading its data set (PS3.5 7.1, 7.5). */
#include "dicom/commitment.h"

#include "dicom/instance.h"
#include "dicom/prescan_parts.h"

#include <string.h>

enum { UNDEFINED = 0xFFFFFFFF, MAX_DEPTH = 8, UID_BYTES = 65, FIRST_ITEMS = 64 };

static const uint32_t TAG_SOP_CLASS = 0x00081150, TAG_SOP_INSTANCE = 0x00081155,
                      TAG_TRANSACTION = 0x00081195, TAG_REASON = 0x00081197,
                      TAG_FAILED = 0x00081198, TAG_REFERENCED = 0x00081199, TAG_ITEM = 0xFFFEE000,
                      TAG_ITEM_END = 0xFFFEE00D, TAG_SEQUENCE_END = 0xFFFEE0DD;

struct cursor {
    const uint8_t *at, *end;
    bool implicit_vr;
    struct mf_arena *arena;
    struct mf_commitment *out;
    size_t room; /* of out->items */
};

static bool malformed(struct mf_error *err)
{
    return mf_error_set(err, MF_ERR_MALFORMED, "the commitment's data set is not well-formed");
}

static bool next_header(struct cursor *c, struct mf_prescan_header *h, struct mf_error *err)
{
    if (!mf_prescan_header_read(c->at, (uint64_t)(c->end - c->at), c->implicit_vr, false, h))
        return malformed(err);
    c->at += h->size;
    return h->length == UNDEFINED || h->length <= (uint64_t)(c->end - c->at) || malformed(err);
}

/* --- what is of no interest --- */

static bool skip_value(struct cursor *c, const struct mf_prescan_header *h, int depth,
                       struct mf_error *err);

/* Elements up to a delimiter of undefined length, items of sequences among them. */
static bool skip_undefined(struct cursor *c, uint32_t delimiter, int depth, struct mf_error *err)
{
    struct mf_prescan_header h;
    if (depth == MAX_DEPTH)
        return malformed(err);
    while (next_header(c, &h, err)) {
        if (h.tag == delimiter)
            return h.length == 0 || malformed(err);
        if (!skip_value(c, &h, depth + 1, err))
            return false;
    }
    return false;
}

static bool skip_value(struct cursor *c, const struct mf_prescan_header *h, int depth,
                       struct mf_error *err)
{
    if (h->length == UNDEFINED)
        return skip_undefined(c, h->tag == TAG_ITEM ? TAG_ITEM_END : TAG_SEQUENCE_END, depth, err);
    c->at += h->length;
    return true;
}

/* --- values --- */

static bool read_uid(struct cursor *c, const struct mf_prescan_header *h, const char **ret,
                     struct mf_error *err)
{
    char uid[UID_BYTES];
    size_t n = h->length;
    if (h->length >= UID_BYTES)
        return malformed(err);
    memcpy(uid, c->at, n);
    while (n > 0 && (uid[n - 1] == '\0' || uid[n - 1] == ' '))
        n--;
    uid[n] = '\0';
    c->at += h->length;
    if (strlen(uid) != n || !mf_uid_valid(uid))
        return mf_error_set(err, MF_ERR_MALFORMED,
                            "the commitment's data set has a UID that is "
                            "none");
    *ret = mf_arena_strdup(c->arena, uid, err);
    return *ret != NULL;
}

static bool add_item(struct cursor *c, const struct mf_commitment_item *item, struct mf_error *err)
{
    struct mf_commitment *out = c->out;
    if (!item->sop_class || !item->sop_instance)
        return mf_error_set(err, MF_ERR_MALFORMED,
                            "the commitment's data set has an item without its two UIDs");
    if (out->count == MF_COMMITMENT_ITEMS)
        return mf_error_set(err, MF_ERR_TOO_LARGE, "a commitment has at most %d objects",
                            (int)MF_COMMITMENT_ITEMS);
    if (out->count == c->room) {
        size_t room = c->room ? 2 * c->room : FIRST_ITEMS;
        struct mf_commitment_item *grown = mf_arena_alloc(c->arena, room, sizeof *grown, err);
        if (!grown)
            return false;
        if (out->count)
            memcpy(grown, out->items, out->count * sizeof *grown);
        out->items = grown;
        c->room = room;
    }
    out->items[out->count++] = *item;
    return true;
}

/* --- sequences --- */

static bool read_element(struct cursor *c, const struct mf_prescan_header *h,
                         struct mf_commitment_item *item, struct mf_error *err)
{
    bool whole = h->length != UNDEFINED;
    if (whole && h->tag == TAG_SOP_CLASS)
        return read_uid(c, h, &item->sop_class, err);
    if (whole && h->tag == TAG_SOP_INSTANCE)
        return read_uid(c, h, &item->sop_instance, err);
    if (whole && h->tag == TAG_REASON && h->length == 2)
        item->reason = mf_prescan_u16(c->at, false);
    return skip_value(c, h, 0, err);
}

/* One item, its header read already. */
static bool read_item(struct cursor *c, const struct mf_prescan_header *item_header, bool failed,
                      struct mf_error *err)
{
    struct mf_commitment_item item = {.reason = failed ? MF_COMMITMENT_FAILURE : MF_COMMITTED};
    bool defined = item_header->length != UNDEFINED;
    const uint8_t *end = c->end, *stop = defined ? c->at + item_header->length : c->end;
    struct mf_prescan_header h = {.tag = 0};
    c->end = stop;
    while (c->at < stop) {
        if (!next_header(c, &h, err))
            return false;
        if (!defined && h.tag == TAG_ITEM_END)
            break;
        if (!read_element(c, &h, &item, err))
            return false;
    }
    c->end = end;
    if (!defined && h.tag != TAG_ITEM_END)
        return malformed(err);
    return add_item(c, &item, err);
}

static bool read_sequence(struct cursor *c, const struct mf_prescan_header *h, bool failed,
                          struct mf_error *err)
{
    bool defined = h->length != UNDEFINED;
    const uint8_t *end = c->end, *stop = defined ? c->at + h->length : c->end;
    struct mf_prescan_header item = {.tag = 0};
    c->end = stop;
    while (c->at < stop) {
        if (!next_header(c, &item, err))
            return false;
        if (!defined && item.tag == TAG_SEQUENCE_END)
            break;
        if (item.tag != TAG_ITEM)
            return malformed(err);
        if (!read_item(c, &item, failed, err))
            return false;
    }
    c->end = end;
    return defined || item.tag == TAG_SEQUENCE_END || malformed(err);
}

static bool read_all(struct cursor *c, struct mf_error *err)
{
    struct mf_prescan_header h;
    while (c->at < c->end) {
        bool ok;
        if (!next_header(c, &h, err))
            return false;
        if (h.tag == TAG_TRANSACTION && h.length != UNDEFINED)
            ok = read_uid(c, &h, &c->out->transaction, err);
        else if (h.tag == TAG_REFERENCED || h.tag == TAG_FAILED)
            ok = read_sequence(c, &h, h.tag == TAG_FAILED, err);
        else
            ok = skip_value(c, &h, 0, err);
        if (!ok)
            return false;
    }
    return true;
}

bool mf_commitment_read(const void *data, size_t len, bool implicit_vr, struct mf_arena *arena,
                        struct mf_commitment *ret, struct mf_error *err)
{
    struct mf_commitment commitment = {.transaction = NULL};
    struct cursor c = {.at = data,
                       .end = (const uint8_t *)data + len,
                       .implicit_vr = implicit_vr,
                       .arena = arena,
                       .out = &commitment};
    if (len > MF_COMMITMENT_BYTES)
        return mf_error_set(err, MF_ERR_TOO_LARGE, "a commitment has at most %d bytes",
                            (int)MF_COMMITMENT_BYTES);
    if (!read_all(&c, err))
        return false;
    if (!commitment.transaction || commitment.count == 0)
        return mf_error_set(err, MF_ERR_MALFORMED,
                            "the commitment's data set has no Transaction UID, or no objects");
    *ret = commitment;
    return true;
}
