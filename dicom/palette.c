/*
 * Segmented palettes (PS3.3 C.7.9.2): discrete runs of values, linear ramps from the value before,
 * and indirect segments that repeat earlier ones (one level, so expansion is bounded by `count`).
 */
#include "dicom/palette.h"

enum { DISCRETE = 0, LINEAR = 1, INDIRECT = 2, MAX_SEGMENTS = 1 << 18 };

struct expansion {
    const uint8_t *bytes;
    size_t length, at;
    uint32_t width;
    bool big_endian;
    uint16_t *out;
    uint32_t made, count, segments;
};

static bool next_field(struct expansion *x, uint16_t *ret)
{
    if (x->width > x->length - x->at)
        return false;
    const uint8_t *p = x->bytes + x->at;
    x->at += x->width;
    *ret = x->width == 1   ? *p
           : x->big_endian ? (uint16_t)(p[0] << 8 | p[1])
                           : (uint16_t)(p[1] << 8 | p[0]);
    return true;
}

static void put(struct expansion *x, uint16_t value)
{
    if (x->made < x->count)
        x->out[x->made++] = value;
}

static bool expand_discrete(struct expansion *x, uint16_t n)
{
    uint16_t value;
    for (uint16_t i = 0; i < n; i++) {
        if (!next_field(x, &value))
            return false;
        put(x, value);
    }
    return true;
}

/* n entries that rise or fall evenly from the last value to `end`, which is the n-th. */
static bool expand_linear(struct expansion *x, uint16_t n)
{
    uint16_t end;
    if (!next_field(x, &end) || x->made == 0)
        return false;
    double begin = x->out[x->made - 1], step = n ? (end - begin) / n : 0;
    for (uint32_t i = 1; i <= n; i++)
        put(x, (uint16_t)(begin + step * i + 0.5));
    return true;
}

/* One segment; indirect ones only where `indirect` allows. */
static bool expand_segment(struct expansion *x, bool indirect)
{
    uint16_t kind, n, low, high;
    if (++x->segments > MAX_SEGMENTS || !next_field(x, &kind) || !next_field(x, &n))
        return false;
    if (kind == DISCRETE)
        return expand_discrete(x, n);
    if (kind == LINEAR)
        return expand_linear(x, n);
    if (kind != INDIRECT || !indirect || !next_field(x, &low) || !next_field(x, &high))
        return false;
    size_t back = x->at, offset = (size_t)high << (8 * x->width) | low;
    if (offset >= x->length)
        return false;
    x->at = offset;
    for (uint16_t i = 0; i < n && x->made < x->count; i++)
        if (!expand_segment(x, false))
            return false;
    x->at = back;
    return true;
}

bool mf_palette_expand(const uint8_t *segments, size_t length, uint32_t width, bool big_endian,
                       uint16_t *entries, uint32_t count, struct mf_error *err)
{
    struct expansion x = {.bytes = segments,
                          .length = length,
                          .width = width,
                          .big_endian = big_endian,
                          .out = entries,
                          .count = count};
    while (x.made < count)
        if (!expand_segment(&x, true))
            return mf_error_set(err, MF_ERR_MALFORMED, "the segmented palette is damaged");
    return true;
}
