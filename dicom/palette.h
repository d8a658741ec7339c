/* Segmented palettes (PS3.3 C.7.9.2): runs and ramps → entries. Private to decode.c. */
#ifndef MF_DICOM_PALETTE_H
#define MF_DICOM_PALETTE_H

#include "core/error.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Expands `length` bytes of segments, fields of `width` bytes (1 or 2), into exactly `count`
 * entries. MF_ERR_MALFORMED when they give fewer, point outside, or begin with a ramp. */
bool mf_palette_expand(const uint8_t *segments, size_t length, uint32_t width, bool big_endian,
                       uint16_t *entries, uint32_t count, struct mf_error *err);

#ifdef __cplusplus
}
#endif

#endif
