/*
 * Metadata: the header of an object in the DICOM JSON Model (PS3.18 annex F).
 */
#ifndef MF_DICOM_METADATA_H
#define MF_DICOM_METADATA_H

#include "core/buffer.h"
#include "core/error.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Appends the JSON object of the data set: pixel data, overlays, curves and other values of more
 * than 8 KiB of bytes are left out (PS3.18 10.4.3.3.2 allows that), text is UTF-8, NaN and
 * infinities are null (JSON has no number for them). The structure is checked by the pre-scanner
 * before DCMTK reads it. Needs mf_dicom_init(). MF_ERR_MALFORMED. */
bool mf_metadata_json(const void *data, size_t length, struct mf_buffer *ret,
                      struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
