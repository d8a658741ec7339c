/*
 * One codec on any bytes: the first eight say what the image attributes promise, the rest is the
 * codestream. A codec must stay inside the samples that it was promised, and say why it failed.
 */
#ifndef MF_TESTS_FUZZ_CODEC_H
#define MF_TESTS_FUZZ_CODEC_H

#include "dicom/codec.h"
#include "dicom/dicom.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FUZZ_ATTRIBUTES = 8, FUZZ_SIDE = 512 };

static inline int fuzz_codec(mf_codec_decode *decode, const uint8_t *data, size_t size)
{
    struct mf_error err = MF_ERROR_INIT;
    if (size < FUZZ_ATTRIBUTES || !mf_dicom_init(NULL))
        return 0;
    struct mf_codec_image image = {
        .rows = 1 + (uint32_t)(data[0] | data[1] << 8) % FUZZ_SIDE,
        .columns = 1 + (uint32_t)(data[2] | data[3] << 8) % FUZZ_SIDE,
        .samples_per_pixel = data[4] & 1 ? 3 : 1,
        .sample_bytes = 1u << data[5] % 3,
        .is_signed = data[7] & 1,
        .ybr = data[7] & 2,
    };
    image.bits_stored = 1 + data[6] % (image.sample_bytes * 8);
    size_t bytes =
        (size_t)image.rows * image.columns * image.samples_per_pixel * image.sample_bytes;
    void *out = malloc(bytes); /* exact: the sanitizer sees the first byte too much */
    if (out && !decode(data + FUZZ_ATTRIBUTES, size - FUZZ_ATTRIBUTES, &image, out, &err) &&
        (err.code == MF_OK || !err.msg[0]))
        __builtin_trap();
    free(out);
    return 0;
}

#endif
