/*
 * Pre-scanner (PS3.10 7.1 file meta information; PS3.5 7.1 data elements, 7.5 nesting, A.4
 * encapsulation).
 *
 * The state is one cursor and a stack of containers (sequences and items) of fixed size; every
 * container knows the byte that nothing inside it may pass, so a length is checked once, when it is
 * read.
 */
#include "dicom/prescan.h"

#include "dicom/prescan_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TAG(group, element) ((uint32_t)(group) << 16 | (uint32_t)(element))
#define TAG_TEXT "(%04X,%04X)"
#define TAG_ARGS(tag) (unsigned)((tag) >> 16), (unsigned)((tag)&0xFFFF)

static const uint32_t TAG_ITEM = TAG(0xFFFE, 0xE000);
static const uint32_t TAG_ITEM_END = TAG(0xFFFE, 0xE00D);
static const uint32_t TAG_SEQUENCE_END = TAG(0xFFFE, 0xE0DD);
static const uint32_t TAG_ROWS = TAG(0x0028, 0x0010), TAG_COLUMNS = TAG(0x0028, 0x0011);
static const uint32_t TAG_FLOAT_PIXELS = TAG(0x7FE0, 0x0008);
static const uint32_t TAG_DOUBLE_PIXELS = TAG(0x7FE0, 0x0009);
static const uint32_t TAG_PIXELS = TAG(0x7FE0, 0x0010);
static const uint32_t TAG_EXTENDED_OFFSETS = TAG(0x7FE0, 0x0001);
static const uint32_t TAG_EXTENDED_LENGTHS = TAG(0x7FE0, 0x0002);
static const uint32_t UNDEFINED = 0xFFFFFFFF;

enum { MAX_FRAGMENTS = 1000000, STACK = 2 * MF_PRESCAN_DEPTH + 1 };

/* Sequences that are looked into even where the encoding does not say that they are sequences
 * (implicit VR, or UN with a length); others are passed over as a whole there. */
static const uint32_t KNOWN_SEQUENCES[] = {
    TAG(0x0020, 0x9113), TAG(0x0020, 0x9116), TAG(0x0028, 0x3000), TAG(0x0028, 0x3010),
    TAG(0x0028, 0x9110), TAG(0x0028, 0x9132), TAG(0x0028, 0x9145), TAG(0x0054, 0x0220),
    TAG(0x5200, 0x9229), TAG(0x5200, 0x9230),
};

struct container {
    bool is_sequence, undefined, implicit_vr, big_endian;
    uint64_t end; /* its own end, or the limit of what encloses it when undefined */
};

struct walker {
    const uint8_t *p;
    uint64_t length, at;
    struct container stack[STACK];
    int top; /* index of the innermost container */
    struct mf_prescan_level levels[MF_PRESCAN_DEPTH];
    uint32_t depth; /* sequences open */
    uint32_t elements;
    mf_prescan_visit *visit;
    void *context;
    struct mf_prescan *out;
};

static bool truncated(const struct walker *w, struct mf_error *err)
{
    return mf_error_set(err, MF_ERR_MALFORMED, "truncated: the file ends inside %s at byte %llu",
                        w->depth ? "a sequence" : "an element", (unsigned long long)w->at);
}

static bool push(struct walker *w, bool is_sequence, uint32_t length, bool implicit_vr,
                 bool big_endian, struct mf_error *err)
{
    const struct container *outer = &w->stack[w->top];
    if (is_sequence && w->depth == MF_PRESCAN_DEPTH)
        return mf_error_set(err, MF_ERR_MALFORMED, "sequences are nested deeper than %d levels",
                            MF_PRESCAN_DEPTH);
    if (length != UNDEFINED && length > outer->end - w->at)
        return mf_error_set(
            err, MF_ERR_MALFORMED, "truncated: an item at byte %llu claims %u bytes, %llu are left",
            (unsigned long long)w->at, length, (unsigned long long)(outer->end - w->at));
    bool undefined = length == UNDEFINED;
    w->stack[w->top + 1] = (struct container){.is_sequence = is_sequence,
                                              .undefined = undefined,
                                              .implicit_vr = implicit_vr,
                                              .big_endian = big_endian,
                                              .end = undefined ? outer->end : w->at + length};
    w->top++;
    return true;
}

static bool push_sequence(struct walker *w, const struct mf_prescan_header *h, bool implicit_vr,
                          bool big_endian, struct mf_error *err)
{
    if (!push(w, true, h->length, implicit_vr, big_endian, err))
        return false;
    w->levels[w->depth++] = (struct mf_prescan_level){.tag = h->tag, .item = UINT32_MAX};
    return true;
}

static void pop(struct walker *w)
{
    if (w->stack[w->top].is_sequence)
        w->depth--;
    w->top--;
}

/* ---- pixel data ---- */

static enum mf_pixel_data pixel_kind(uint32_t tag)
{
    return tag == TAG_PIXELS          ? MF_PIXEL_DATA_INTEGER
           : tag == TAG_FLOAT_PIXELS  ? MF_PIXEL_DATA_FLOAT
           : tag == TAG_DOUBLE_PIXELS ? MF_PIXEL_DATA_DOUBLE
                                      : MF_PIXEL_DATA_NONE;
}

static bool note_pixels(struct walker *w, const struct mf_prescan_header *h, struct mf_error *err)
{
    struct mf_prescan *out = w->out;
    enum mf_pixel_data kind = pixel_kind(h->tag);
    if (w->depth || kind == MF_PIXEL_DATA_NONE)
        return true;
    if (out->pixel_data != MF_PIXEL_DATA_NONE)
        return mf_error_set(err, MF_ERR_MALFORMED, "the object has pixel data twice");
    out->pixel_data = kind;
    out->pixel_words = memcmp(h->vr, "OB", 2) != 0; /* implicit VR: OW */
    out->fragmented = h->length == UNDEFINED;
    if (!out->fragmented)
        out->pixels = (struct mf_range){w->at, h->length};
    return true;
}

static bool add_fragment(struct mf_prescan *out, uint64_t offset, uint32_t length,
                         struct mf_error *err)
{
    uint32_t n = out->fragment_count;
    if (n == MAX_FRAGMENTS)
        return mf_error_set(err, MF_ERR_TOO_LARGE, "the pixel data has more than %d fragments",
                            MAX_FRAGMENTS);
    if ((n & (n - 1)) == 0) { /* capacity is the next power of two */
        struct mf_range *more = realloc(out->fragments, (n ? n * 2 : 1) * sizeof *more);
        if (!more)
            return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the fragment table");
        out->fragments = more;
    }
    out->fragments[n] = (struct mf_range){offset, length};
    out->fragment_count = n + 1;
    return true;
}

/* Walks the fragments of an encapsulated value; `keep` records them. The cursor is behind the
 * header. */
static bool walk_fragments(struct walker *w, const struct container *c, bool keep,
                           struct mf_error *err)
{
    for (bool first = true;; first = false) {
        if (c->end - w->at < 8)
            return truncated(w, err);
        uint32_t tag = TAG(mf_prescan_u16(w->p + w->at, c->big_endian),
                           mf_prescan_u16(w->p + w->at + 2, c->big_endian));
        uint32_t length = mf_prescan_u32(w->p + w->at + 4, c->big_endian);
        w->at += 8;
        if (tag == TAG_SEQUENCE_END)
            return true;
        if (tag != TAG_ITEM || length == UNDEFINED)
            return mf_error_set(err, MF_ERR_MALFORMED,
                                "the encapsulated pixel data holds " TAG_TEXT
                                " where a fragment belongs",
                                TAG_ARGS(tag));
        if (length > c->end - w->at)
            return mf_error_set(err, MF_ERR_MALFORMED,
                                "truncated: a fragment claims %u bytes, %llu are left", length,
                                (unsigned long long)(c->end - w->at));
        if (keep && first)
            w->out->offset_table = (struct mf_range){w->at, length};
        else if (keep && !add_fragment(w->out, w->at, length, err))
            return false;
        w->at += length;
    }
}

/* ---- elements ---- */

static bool is_known_sequence(uint32_t tag)
{
    for (size_t i = 0; i < sizeof KNOWN_SEQUENCES / sizeof *KNOWN_SEQUENCES; i++)
        if (KNOWN_SEQUENCES[i] == tag)
            return true;
    return false;
}

static bool visit_value(struct walker *w, const struct container *c,
                        const struct mf_prescan_header *h, struct mf_error *err)
{
    bool un = memcmp(h->vr, "UN", 2) == 0;
    struct mf_prescan_element e = {
        .tag = h->tag,
        .big_endian = c->big_endian && !un, /* PS3.5 6.2.2: UN is little endian */
        .value = h->length == UNDEFINED ? NULL : w->p + w->at,
        .length = h->length == UNDEFINED ? 0 : h->length,
        .offset = w->at,
        .depth = w->depth,
        .levels = w->levels,
    };
    snprintf(e.vr, sizeof e.vr, "%s", h->vr[0] ? h->vr : "UN");
    return !w->visit || w->visit(w->context, &e, err);
}

static bool check_dimension(const struct container *c, const struct mf_prescan_header *h,
                            struct mf_error *err)
{
    if (h->tag != TAG_ROWS && h->tag != TAG_COLUMNS)
        return true;
    const char *name = h->tag == TAG_ROWS ? "Rows" : "Columns";
    bool untyped = c->implicit_vr || !h->vr[0] || memcmp(h->vr, "UN", 2) == 0;
    if (!untyped && memcmp(h->vr, "US", 2) != 0)
        return mf_error_set(err, MF_ERR_MALFORMED, "%s has the value representation %s, not US",
                            name, h->vr);
    if (h->length != 2 && h->length != 0)
        return mf_error_set(err, MF_ERR_MALFORMED, "%s has %u bytes, not 2", name, h->length);
    return true;
}

/* An element of undefined length: fragments, or a sequence. */
static bool enter_undefined(struct walker *w, const struct container *c,
                            const struct mf_prescan_header *h, struct mf_error *err)
{
    bool bytes = h->tag == TAG_PIXELS || memcmp(h->vr, "OB", 2) == 0 || memcmp(h->vr, "OW", 2) == 0;
    if (bytes) {
        bool keep = w->depth == 0 && h->tag == TAG_PIXELS;
        return note_pixels(w, h, err) && visit_value(w, c, h, err) &&
               walk_fragments(w, c, keep, err);
    }
    bool un = memcmp(h->vr, "UN", 2) == 0; /* PS3.5 6.2.2: content in Implicit VR Little Endian */
    if (h->vr[0] && !un && memcmp(h->vr, "SQ", 2) != 0)
        return mf_error_set(err, MF_ERR_MALFORMED,
                            TAG_TEXT " has the value representation %s and an undefined length",
                            TAG_ARGS(h->tag), h->vr);
    return push_sequence(w, h, c->implicit_vr || un || !h->vr[0], c->big_endian && !un, err);
}

static bool enter_defined(struct walker *w, const struct container *c,
                          const struct mf_prescan_header *h, struct mf_error *err)
{
    if (h->length > c->end - w->at)
        return mf_error_set(err, MF_ERR_MALFORMED,
                            "truncated: " TAG_TEXT " claims %u bytes, %llu are left",
                            TAG_ARGS(h->tag), h->length, (unsigned long long)(c->end - w->at));
    bool un = memcmp(h->vr, "UN", 2) == 0;
    if (memcmp(h->vr, "SQ", 2) == 0)
        return push_sequence(w, h, false, c->big_endian, err);
    if ((!h->vr[0] || un) && is_known_sequence(h->tag))
        return push_sequence(w, h, true, c->big_endian && !un, err);
    if (w->depth == 0 && h->tag == TAG_EXTENDED_OFFSETS)
        w->out->extended_offsets = (struct mf_range){w->at, h->length};
    if (w->depth == 0 && h->tag == TAG_EXTENDED_LENGTHS)
        w->out->extended_lengths = (struct mf_range){w->at, h->length};
    if (!check_dimension(c, h, err) || !note_pixels(w, h, err) || !visit_value(w, c, h, err))
        return false;
    w->at += h->length;
    return true;
}

static bool step_sequence(struct walker *w, struct container *c, struct mf_error *err)
{
    if (c->end - w->at < 8)
        return truncated(w, err);
    uint32_t tag = TAG(mf_prescan_u16(w->p + w->at, c->big_endian),
                       mf_prescan_u16(w->p + w->at + 2, c->big_endian));
    uint32_t length = mf_prescan_u32(w->p + w->at + 4, c->big_endian);
    w->at += 8;
    if (tag == TAG_SEQUENCE_END && c->undefined) {
        pop(w);
        return true;
    }
    if (tag != TAG_ITEM)
        return mf_error_set(err, MF_ERR_MALFORMED,
                            "a sequence holds " TAG_TEXT " where an item belongs", TAG_ARGS(tag));
    w->levels[w->depth - 1].item++;
    return push(w, false, length, c->implicit_vr, c->big_endian, err);
}

/* Fragments under another name than OB or OW: another reader takes them for items. */
static bool is_misnamed(const struct mf_prescan_header *h)
{
    return h->length == UNDEFINED && h->tag == TAG_PIXELS && memcmp(h->vr, "OB", 2) != 0 &&
           memcmp(h->vr, "OW", 2) != 0;
}

static bool step_item(struct walker *w, struct container *c, struct mf_error *err)
{
    struct mf_prescan_header h;
    if (!mf_prescan_header_read(w->p + w->at, c->end - w->at, c->implicit_vr, c->big_endian, &h))
        return truncated(w, err);
    w->at += h.size;
    if (h.tag == TAG_ITEM_END && c->undefined) { /* so never the data set itself */
        pop(w);
        return true;
    }
    if (h.tag >> 16 == 0xFFFE)
        return mf_error_set(err, MF_ERR_MALFORMED, "a delimiter " TAG_TEXT " where no item ends",
                            TAG_ARGS(h.tag));
    if (!c->implicit_vr && (!h.vr[0] || is_misnamed(&h)))
        w->out->irregular |= 1u << MF_IRREGULAR_VR;
    if (h.length != UNDEFINED && h.length % 2)
        w->out->irregular |= 1u << MF_IRREGULAR_LENGTH;
    return h.length == UNDEFINED ? enter_undefined(w, c, &h, err) : enter_defined(w, c, &h, err);
}

/* After the pixel data a few bytes that cannot be an element, or zeros, are padding of the file. */
static bool only_padding_left(const struct walker *w)
{
    static const uint8_t ZEROS[8];
    if (w->top != 0 || w->out->pixel_data == MF_PIXEL_DATA_NONE)
        return false;
    return w->length - w->at < sizeof ZEROS || memcmp(w->p + w->at, ZEROS, sizeof ZEROS) == 0;
}

static bool walk(struct walker *w, struct mf_error *err)
{
    for (;;) {
        struct container *c = &w->stack[w->top];
        if (w->at == c->end) {
            if (c->undefined)
                return truncated(w, err);
            if (w->top == 0)
                return true;
            pop(w);
            continue;
        }
        if (++w->elements > MF_PRESCAN_ELEMENTS)
            return mf_error_set(err, MF_ERR_TOO_LARGE, "the object has more than %d elements",
                                MF_PRESCAN_ELEMENTS);
        if (only_padding_left(w)) {
            w->out->irregular |= 1u << MF_IRREGULAR_END;
            return true;
        }
        if (!(c->is_sequence ? step_sequence(w, c, err) : step_item(w, c, err)))
            return false;
    }
}

/* ---- the whole ---- */

static bool check_pixels(const struct mf_prescan *out, struct mf_error *err)
{
    if (out->pixel_data == MF_PIXEL_DATA_NONE || out->encapsulated == out->fragmented)
        return true;
    return mf_error_set(err, MF_ERR_MALFORMED,
                        out->fragmented ? "encapsulated pixel data in a native transfer syntax"
                                        : "native pixel data in an encapsulated transfer syntax");
}

static bool scan_into(const uint8_t *data, size_t length, struct mf_inflate_budget *budget,
                      mf_prescan_visit *visit, void *context, struct mf_prescan *out,
                      struct mf_error *err)
{
    uint64_t at;
    if (!mf_prescan_meta(data, length, &at, out, err))
        return false;
    out->bytes = data;
    out->length = length;
    if (out->deflated) {
        size_t used = 0;
        if (!mf_inflate(data + at, length - at, budget, &out->inflated, &out->length, &used, err))
            return false;
        out->deflated_range = (struct mf_range){at, used};
        out->bytes = out->inflated;
        at = 0;
    }
    out->data_set = at;
    if (at == out->length)
        return mf_error_set(err, MF_ERR_MALFORMED, "truncated: the file has no data set");
    struct walker w = {.p = out->bytes, .length = out->length, .at = at};
    w.visit = visit;
    w.context = context;
    w.out = out;
    w.stack[0] = (struct container){
        .implicit_vr = out->implicit_vr, .big_endian = out->big_endian, .end = out->length};
    bool ok = walk(&w, err) && check_pixels(out, err);
    out->end = w.at;
    return ok;
}

bool mf_prescan_run(const void *data, size_t length, struct mf_inflate_budget *budget,
                    mf_prescan_visit *visit, void *context, struct mf_prescan *ret,
                    struct mf_error *err)
{
    MF_AUTO(mf_prescan) struct mf_prescan out = {.transfer_syntax = ""};
    if (!scan_into(data, length, budget, visit, context, &out, err))
        return false;
    *ret = out;
    out.inflated = NULL;
    out.fragments = NULL;
    return true;
}

void mf_prescan_free(struct mf_prescan *prescan)
{
    free(prescan->inflated);
    free(prescan->fragments);
    prescan->inflated = NULL;
    prescan->fragments = NULL;
}
