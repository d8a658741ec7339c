/*
 * Decode: the decoder's second verb. One frame of an object of the index → stored samples
 * (core/frame.h).
 *
 * Samples are the stored ones (PS3.5 8.1), as pydicom's pixel_array(raw=True) gives them: no LUT,
 * no colour conversion except what a codestream itself demands (JPEG 2000's component transform);
 * unused high bits (overlays, junk) are cleared or sign-extended, unless HighBit is not BitsStored
 * − 1; planar colour becomes interleaved and YBR_FULL_422 is expanded to YBR_FULL. The sample type
 * is the smallest that BitsAllocated and PixelRepresentation fit into.
 */
#ifndef MF_DICOM_DECODE_H
#define MF_DICOM_DECODE_H

#include "core/frame.h"
#include "dicom/index.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Decodes frame `frame` (0-based) of `object`; `fd` is the descriptor of its input. On success the
 * caller frees `ret` with mf_frame_free(); on failure `ret` is untouched. MF_ERR_NOT_FOUND: no such
 * frame. MF_ERR_MALFORMED: damaged data. MF_ERR_UNSUPPORTED: a transfer syntax or codestream that
 * is not decoded. MF_ERR_UNUSABLE: an object without pixel data, or a combination of image
 * attributes that is not displayed (for instance CMYK). */
bool mf_decode_frame(int fd, const struct mf_index_object *object, uint32_t frame,
                     struct mf_frame *ret, struct mf_error *err) MF_CHECK_RESULT;

/* True when the transfer syntax can be decoded: the check that a scan makes before a job is
 * accepted. */
bool mf_decode_supported(const char *transfer_syntax);

#ifdef __cplusplus
}
#endif

#endif
