/* Frame header of JPEG (ISO 10918-1 B.2.2) and JPEG-LS (ISO 14495-1 C.2.2) codestreams. */
#include "dicom/codec.h"

static uint32_t read16(const uint8_t *p)
{
    return (uint32_t)p[0] << 8 | p[1];
}

/* SOF0…SOF15 without DHT, JPG and DAC, or SOF55 of JPEG-LS. */
static bool is_frame_marker(uint8_t marker)
{
    return marker == 0xF7 ||
           (marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC);
}

static bool is_alone(uint8_t marker) /* markers without a segment */
{
    return marker == 0x01 || (marker >= 0xD0 && marker <= 0xD8);
}

bool mf_jpeg_header_read(const uint8_t *data, size_t length, struct mf_jpeg_header *ret,
                         struct mf_error *err)
{
    if (length < 4 || data[0] != 0xFF || data[1] != 0xD8)
        return mf_error_set(err, MF_ERR_MALFORMED, "the frame is not a JPEG codestream");
    for (size_t at = 2; at + 4 <= length;) {
        uint8_t marker = data[at + 1];
        if (data[at] != 0xFF || marker == 0xDA || marker == 0xD9)
            break;
        if (marker == 0xFF || is_alone(marker)) { /* fill byte, or no segment */
            at += marker == 0xFF ? 1 : 2;
            continue;
        }
        size_t size = read16(data + at + 2);
        if (size < 2 || size > length - at - 2)
            break;
        if (is_frame_marker(marker) && size >= 8) {
            const uint8_t *p = data + at + 4;
            *ret = (struct mf_jpeg_header){.marker = marker,
                                           .precision = p[0],
                                           .rows = read16(p + 1),
                                           .columns = read16(p + 3),
                                           .components = p[5]};
            return true;
        }
        at += 2 + size;
    }
    return mf_error_set(err, MF_ERR_MALFORMED, "the JPEG codestream has no frame header");
}

bool mf_codec_check(const struct mf_codec_image *image, const char *name, uint32_t rows,
                    uint32_t columns, uint32_t components, uint32_t precision, struct mf_error *err)
{
    if (rows != image->rows || columns != image->columns || components != image->samples_per_pixel)
        return mf_error_set(err, MF_ERR_MALFORMED,
                            "the %s codestream has %u x %u x %u samples, the object %u x %u x %u",
                            name, rows, columns, components, image->rows, image->columns,
                            image->samples_per_pixel);
    if (precision < 1 || precision > 8 * image->sample_bytes)
        return mf_error_set(err, MF_ERR_MALFORMED,
                            "the %s codestream has samples of %u bits, the object allocates %u",
                            name, precision, 8 * image->sample_bytes);
    return true;
}
