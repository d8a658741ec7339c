/*
 * Codecs: one frame's compressed bytes → samples, as the codestream holds them. Private to
 * decode.c.
 *
 * A decoder is told what the image attributes promise and refuses a codestream that says otherwise,
 * before it allocates anything by the codestream's own sizes.
 */
#ifndef MF_DICOM_CODEC_H
#define MF_DICOM_CODEC_H

#include "core/error.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What is wanted: rows · columns · samples_per_pixel samples, interleaved, of sample_bytes (1, 2 or
 * 4) in the machine's byte order. */
struct mf_codec_image {
    uint32_t rows, columns, samples_per_pixel, sample_bytes;
    uint32_t bits_stored;
    bool is_signed;
    bool ybr; /* the attributes say that the components are YCbCr */
    /* Set by decoders that know: what the codestream says of its samples; precision 0 = unknown. */
    uint32_t precision;
    bool codestream_signed;
};

typedef bool mf_codec_decode(const uint8_t *data, size_t length, struct mf_codec_image *image,
                             void *out, struct mf_error *err);

mf_codec_decode mf_rle_decode;     /* decode_rle.c, PS3.5 annex G */
mf_codec_decode mf_jpeg_decode;    /* dcmtk_jpeg.cpp: all processes of ISO 10918-1 that DCMTK has */
mf_codec_decode mf_jpeg_ls_decode; /* dcmtk_jpegls.cpp */
mf_codec_decode mf_jpeg2000_decode; /* decode_j2k.c: JPEG 2000 part 1 and High-Throughput */

/* What the frame header of a JPEG or JPEG-LS codestream says. */
struct mf_jpeg_header {
    uint8_t marker; /* SOF0 … SOF15, or 0xF7 for JPEG-LS */
    uint32_t precision, rows, columns, components;
};

/* Finds the frame header (ISO 10918-1 B.2.2, ISO 14495-1 C.2.2). jpeg_header.c */
bool mf_jpeg_header_read(const uint8_t *data, size_t length, struct mf_jpeg_header *ret,
                         struct mf_error *err);

/* Compares a codestream's dimensions with the image's; `name` names the codec. */
bool mf_codec_check(const struct mf_codec_image *image, const char *name, uint32_t rows,
                    uint32_t columns, uint32_t components, uint32_t precision,
                    struct mf_error *err);

#ifdef __cplusplus
}
#endif

#endif
