/* Fragments of encapsulated pixel data → frames (PS3.5 A.4; PS3.3 C.7.6.3.1.8 extended offset
 * table). */
#include "dicom/collect.h"
#include "dicom/syntax.h"

#include <string.h>

static uint64_t read_le(const uint8_t *p, int bytes)
{
    uint64_t v = 0;
    for (int i = bytes - 1; i >= 0; i--)
        v = v << 8 | p[i];
    return v;
}

/* Frame starts from a table of `width`-byte offsets, which count from the first fragment's item
 * header. False when an offset does not meet a fragment or they do not ascend: such tables are not
 * believed. */
static bool by_table(struct mf_index_object *o, const uint8_t *table, int width)
{
    uint64_t base = o->fragments[0].offset - 8;
    uint32_t fragment = 0;
    for (uint32_t f = 0; f < o->frames; f++) {
        uint64_t offset = read_le(table + (size_t)f * (size_t)width, width);
        while (fragment < o->fragment_count && o->fragments[fragment].offset - 8 - base < offset)
            fragment++;
        if (fragment == o->fragment_count || o->fragments[fragment].offset - 8 - base != offset ||
            (f > 0 && fragment <= o->frame_fragments[f - 1]))
            return false;
        o->frame_fragments[f] = fragment;
    }
    o->frame_fragments[o->frames] = o->fragment_count;
    return o->frame_fragments[0] == 0;
}

/* SOI + marker of JPEG and JPEG-LS, SOC + SIZ of JPEG 2000, the signature box of JP2. */
static bool starts_codestream(const uint8_t *p, uint64_t length)
{
    static const uint8_t JPEG[] = {0xFF, 0xD8, 0xFF}, J2K[] = {0xFF, 0x4F, 0xFF, 0x51};
    static const uint8_t JP2[] = {0, 0, 0, 12, 'j', 'P', ' ', ' '};
    return (length >= sizeof JPEG && memcmp(p, JPEG, sizeof JPEG) == 0) ||
           (length >= sizeof J2K && memcmp(p, J2K, sizeof J2K) == 0) ||
           (length >= sizeof JP2 && memcmp(p, JP2, sizeof JP2) == 0);
}

static bool by_markers(struct mf_index_object *o, const uint8_t *bytes)
{
    uint32_t frame = 0;
    for (uint32_t i = 0; i < o->fragment_count; i++) {
        const struct mf_range *r = &o->fragments[i];
        if (!starts_codestream(bytes + r->offset, r->length))
            continue;
        if (frame == o->frames || (frame == 0 && i != 0))
            return false;
        o->frame_fragments[frame++] = i;
    }
    o->frame_fragments[o->frames] = o->fragment_count;
    return frame == o->frames;
}

static bool one_each(struct mf_index_object *o)
{
    if (o->fragment_count != o->frames && o->frames != 1)
        return false;
    for (uint32_t f = 0; f < o->frames; f++)
        o->frame_fragments[f] = f;
    o->frame_fragments[o->frames] = o->fragment_count;
    return true;
}

bool mf_fragments_assign(struct mf_arena *arena, struct mf_index_object *o,
                         const struct mf_prescan *prescan, struct mf_error *err)
{
    if (prescan->fragment_count == 0)
        return mf_error_set(err, MF_ERR_MALFORMED, "the pixel data has no fragments");
    if (prescan->fragment_count < o->frames)
        return mf_error_set(err, MF_ERR_MALFORMED, "truncated: %u frames in %u fragments",
                            o->frames, prescan->fragment_count);
    size_t n = prescan->fragment_count;
    o->fragments = mf_arena_alloc(arena, n, sizeof *o->fragments, err);
    o->frame_fragments = mf_arena_alloc(arena, (size_t)o->frames + 1, sizeof(uint32_t), err);
    if (!o->fragments || !o->frame_fragments)
        return false;
    memcpy(o->fragments, prescan->fragments, n * sizeof *o->fragments);
    o->fragment_count = prescan->fragment_count;
    const uint8_t *bytes = prescan->bytes;
    const struct mf_range *extended = &prescan->extended_offsets, *basic = &prescan->offset_table;
    if (extended->length == (uint64_t)o->frames * 8 && by_table(o, bytes + extended->offset, 8))
        return true;
    if (basic->length == (uint64_t)o->frames * 4 && by_table(o, bytes + basic->offset, 4))
        return true;
    if (one_each(o) || by_markers(o, bytes))
        return true;
    return mf_error_set(err, MF_ERR_MALFORMED,
                        "%u fragments cannot be assigned to %u frames: the offset table is missing",
                        o->fragment_count, o->frames);
}
