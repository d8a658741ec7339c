/* What the two halves of the pre-scanner share. Private to prescan.c and prescan_meta.c. */
#ifndef MF_DICOM_PRESCAN_PARTS_H
#define MF_DICOM_PRESCAN_PARTS_H

#include "dicom/prescan.h"

static inline uint16_t mf_prescan_u16(const uint8_t *p, bool big)
{
    return big ? (uint16_t)(p[0] << 8 | p[1]) : (uint16_t)(p[1] << 8 | p[0]);
}

static inline uint32_t mf_prescan_u32(const uint8_t *p, bool big)
{
    return big ? (uint32_t)mf_prescan_u16(p, true) << 16 | mf_prescan_u16(p + 2, true)
               : (uint32_t)mf_prescan_u16(p + 2, false) << 16 | mf_prescan_u16(p, false);
}

/* The header of a data element (PS3.5 7.1). */
struct mf_prescan_header {
    uint32_t tag, length;
    char vr[3];    /* "" when the encoding gives none */
    uint32_t size; /* of the header itself: 8 or 12 */
};

/* Reads a header from at most `room` bytes; false when they do not suffice. */
bool mf_prescan_header_read(const uint8_t *p, uint64_t room, bool implicit_vr, bool big_endian,
                            struct mf_prescan_header *ret);

/* Reads what comes before the data set and says how that is encoded: fills the transfer syntax of
 * `out`, leaves
 * `*at` at the data set. */
bool mf_prescan_meta(const uint8_t *data, size_t length, uint64_t *at, struct mf_prescan *out,
                     struct mf_error *err);

#endif
