/* Native pixel data: 1, 8, 16, 32 and 64 bits, byte order, planes, YBR_FULL_422 (PS3.3
 * C.7.6.3.1.2). */
#include "dicom/native.h"

#include <string.h>

bool mf_native_subsampled(const struct mf_index_object *o)
{
    return o->samples_per_pixel == 3 && strncmp(o->photometric, "YBR_", 4) == 0 &&
           strstr(o->photometric, "_422") != NULL;
}

static size_t frame_samples(const struct mf_index_object *o)
{
    return (size_t)o->rows * o->columns * (mf_native_subsampled(o) ? 2 : o->samples_per_pixel);
}

/* 8-bit and 1-bit samples in big-endian words sit the other way round in each pair of bytes. */
static bool pairs_swapped(const struct mf_index_object *o)
{
    return o->big_endian && o->pixel_words && o->bits_allocated <= 8;
}

struct mf_range mf_native_range(const struct mf_index_object *o, uint32_t frame,
                                unsigned *skip_bits)
{
    uint64_t bits = (uint64_t)frame_samples(o) * o->bits_allocated;
    uint64_t begin = bits * frame, end = begin + bits;
    struct mf_range r = {begin / 8, (end + 7) / 8 - begin / 8};
    *skip_bits = (unsigned)(begin % 8);
    if (pairs_swapped(o)) { /* whole words, as far as there are any */
        uint64_t stop = (r.offset + r.length + 1) & ~UINT64_C(1);
        *skip_bits += r.offset % 2 ? 8 : 0;
        r.offset &= ~UINT64_C(1);
        r.length = (stop < o->pixels.length ? stop : o->pixels.length) - r.offset;
    }
    return r;
}

bool mf_native_in_place(const struct mf_index_object *o)
{
    return o->bits_allocated >= 8 && !pairs_swapped(o) && !mf_native_subsampled(o) &&
           (o->samples_per_pixel == 1 || o->planar_configuration == 0);
}

static void swap_bytes(uint8_t *p, size_t length, size_t width)
{
    for (size_t i = 0; i + width <= length; i += width)
        for (size_t k = 0; k < width / 2; k++) {
            uint8_t t = p[i + k];
            p[i + k] = p[i + width - 1 - k];
            p[i + width - 1 - k] = t;
        }
}

void mf_native_unpack_bits(const uint8_t *bytes, unsigned skip, size_t count, uint8_t *samples)
{
    for (size_t i = 0; i < count; i++)
        samples[i] = (uint8_t)(bytes[(i + skip) / 8] >> ((i + skip) % 8) & 1);
}

/* Planes of `pixels` samples of `width` bytes → interleaved. */
static void interleave(const uint8_t *in, size_t pixels, size_t width, uint8_t *out)
{
    for (size_t c = 0; c < 3; c++)
        for (size_t i = 0; i < pixels; i++)
            memcpy(out + (i * 3 + c) * width, in + (c * pixels + i) * width, width);
}

/* Y1 Y2 Cb Cr → Y1 Cb Cr, Y2 Cb Cr. */
static void expand_422(const uint8_t *in, size_t pixels, size_t width, uint8_t *out)
{
    for (size_t i = 0; i < pixels; i++) {
        size_t pair = i / 2 * 4;
        memcpy(out + i * 3 * width, in + (pair + i % 2) * width, width);
        memcpy(out + (i * 3 + 1) * width, in + (pair + 2) * width, 2 * width);
    }
}

void mf_native_unpack(const struct mf_index_object *o, uint8_t *bytes, size_t length,
                      unsigned skip_bits, void *samples)
{
    size_t pixels = (size_t)o->rows * o->columns;
    size_t width = o->bits_allocated < 8 ? 1 : o->bits_allocated / 8;
    bool little_machine = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__;
    if (pairs_swapped(o))
        swap_bytes(bytes, length, 2);
    else if (width > 1 && o->big_endian == little_machine)
        swap_bytes(bytes, length, width);
    uint8_t *start = bytes + skip_bits / 8;
    if (o->bits_allocated == 1)
        mf_native_unpack_bits(start, skip_bits % 8, pixels, samples);
    else if (mf_native_subsampled(o))
        expand_422(start, pixels, width, samples); /* whose columns are even */
    else if (o->samples_per_pixel == 3 && o->planar_configuration == 1)
        interleave(start, pixels, width, samples);
    else if ((void *)start != samples)
        memcpy(samples, start, pixels * o->samples_per_pixel * width);
}

/* Left and right by the number of unused bits; the right shift of a signed type repeats the sign.
 */
#define CLEAN(type, unsigned_type)                                                                 \
    do {                                                                                           \
        type *s = samples;                                                                         \
        for (size_t i = 0; i < count; i++)                                                         \
            s[i] = (type)((type)((unsigned_type)s[i] << unused) >> unused);                        \
    } while (0)

void mf_native_clean(void *samples, size_t count, uint32_t sample_bytes, bool is_signed,
                     uint32_t bits)
{
    uint32_t unused = 8 * sample_bytes - bits;
    if (bits == 0 || bits >= 8 * sample_bytes)
        return;
    if (sample_bytes == 1 && is_signed)
        CLEAN(int8_t, uint8_t);
    else if (sample_bytes == 1)
        CLEAN(uint8_t, uint8_t);
    else if (sample_bytes == 2 && is_signed)
        CLEAN(int16_t, uint16_t);
    else if (sample_bytes == 2)
        CLEAN(uint16_t, uint16_t);
    else if (is_signed)
        CLEAN(int32_t, uint32_t);
    else
        CLEAN(uint32_t, uint32_t);
}
