/*
 * Scan: the decoder's first verb. Part 10 files and zips of them → an index (index.h).
 *
 * Everything is bounded before it is believed: bytes, members, ratio of inflation, objects,
 * nesting.
 */
#ifndef MF_DICOM_SCAN_H
#define MF_DICOM_SCAN_H

#include "dicom/index.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One part of an upload: a Part 10 file or a zip of them, `length` bytes of `fd` from `offset` on.
 */
struct mf_scan_input {
    int fd; /* a regular file or memfd; must not shrink meanwhile. Borrowed; read with mmap or pread
             */
    uint64_t offset, length;
};

struct mf_scan_limits {
    uint64_t expanded_bytes;    /* all inflated bytes of one scan; 0 = 1 GiB */
    uint64_t object_bytes;      /* of one inflated object; 0 = 512 MiB */
    uint32_t ratio;             /* inflated : deflated, once past 16 MiB; 0 = 200 */
    uint32_t objects;           /* 0 = 10,000, zip members included */
    uint64_t samples_per_frame; /* rows · columns · samples; 0 = 2^27: a greyscale frame of 134
                                   megapixels */
    bool lenient; /* an input that is not DICOM is skipped, not refused (directories) */
};

/* Scans the inputs in order. Refuses the whole on the first damaged object: MF_ERR_MALFORMED (not
 * DICOM, truncated, too deep, wrong VR, zip escape), MF_ERR_TOO_LARGE (sizes, ratios, counts,
 * absurd dimensions), MF_ERR_UNSUPPORTED (transfer syntax, zip encryption), MF_ERR_IO. Members of a
 * zip that are not DICOM are skipped and listed; a zip without any DICOM object is malformed.
 * `limits` NULL = defaults. */
struct mf_index *mf_scan(const struct mf_scan_input *inputs, size_t count,
                         const struct mf_scan_limits *limits, struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
