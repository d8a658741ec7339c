/*
 * RLE Lossless (PS3.5 annex G): up to 15 segments, one per byte plane of each sample, most
 * significant byte first, each packed as PackBits. Every read and every write is checked against
 * its bounds.
 */
#include "dicom/codec.h"

enum { HEADER_BYTES = 64, MAX_SEGMENTS = 15 };

static uint32_t read_le32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* Unpacks one segment into out[0], out[step], …, `count` bytes. */
static bool unpack(const uint8_t *in, size_t length, uint8_t *out, size_t step, size_t count,
                   struct mf_error *err)
{
    size_t at = 0, made = 0;
    while (made < count) {
        if (at >= length)
            return mf_error_set(err, MF_ERR_MALFORMED, "truncated: an RLE segment ends early");
        uint8_t control = in[at++];
        if (control == 128)
            continue;
        size_t run = control < 128 ? (size_t)control + 1 : 257 - (size_t)control;
        size_t take = control < 128 ? run : 1;
        if (take > length - at)
            return mf_error_set(err, MF_ERR_MALFORMED, "truncated: an RLE segment ends early");
        if (run > count - made)
            run = count - made; /* encoders pad the last run of a segment */
        if (control < 128)
            for (size_t i = 0; i < run; i++)
                out[(made + i) * step] = in[at + i];
        else
            for (size_t i = 0; i < run; i++)
                out[(made + i) * step] = in[at];
        at += take;
        made += run;
    }
    return true;
}

bool mf_rle_decode(const uint8_t *data, size_t length, struct mf_codec_image *image, void *out,
                   struct mf_error *err)
{
    uint32_t bytes = image->sample_bytes, wanted = image->samples_per_pixel * bytes;
    if (length < HEADER_BYTES)
        return mf_error_set(err, MF_ERR_MALFORMED, "truncated: the RLE header has %zu of 64 bytes",
                            length);
    uint32_t segments = read_le32(data);
    if (segments != wanted || segments > MAX_SEGMENTS)
        return mf_error_set(err, MF_ERR_MALFORMED, "the RLE header has %u segments, %u are needed",
                            segments, wanted);
    size_t pixels = (size_t)image->rows * image->columns;
    for (uint32_t s = 0; s < segments; s++) {
        size_t begin = read_le32(data + 4 + 4 * s);
        size_t end = s + 1 < segments ? read_le32(data + 8 + 4 * s) : length;
        if (begin < HEADER_BYTES || begin > end || end > length)
            return mf_error_set(err, MF_ERR_MALFORMED,
                                "the RLE header places segment %u outside the frame", s);
        uint32_t sample = s / bytes, plane = s % bytes;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
        plane = bytes - 1 - plane;
#endif
        if (!unpack(data + begin, end - begin, (uint8_t *)out + sample * bytes + plane, wanted,
                    pixels, err))
            return false;
    }
    return true;
}
