/* JPEG (libjpeg): writing grey and RGB pictures of 8 bits to memory. */
#ifndef MF_SERVER_JPEG_H
#define MF_SERVER_JPEG_H

#include "core/buffer.h"
#include "core/error.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mf_jpeg {
    uint32_t rows, columns;
    uint32_t channels;      /* 1 grey, 3 RGB (kept at full resolution: thin coloured lines stay) */
    uint32_t quality;       /* 1 … 100, as libjpeg counts it */
    const uint8_t *samples; /* rows · columns · channels, row-major */
};

/* Appends the picture to `out`, baseline with optimised tables. MF_ERR_UNUSABLE: a side is longer
 * than JPEG can have (65,500); MF_ERR_TOO_LARGE over the buffer's ceiling; MF_ERR_NO_MEMORY. */
bool mf_jpeg_encode(const struct mf_jpeg *jpeg, struct mf_buffer *out,
                    struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
