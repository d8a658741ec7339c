/* Native pixel data (PS3.5 8.1.1, annex D): bytes of a frame → samples. Private to decode.c. */
#ifndef MF_DICOM_NATIVE_H
#define MF_DICOM_NATIVE_H

#include "dicom/index.h"

#ifdef __cplusplus
extern "C" {
#endif

/* True for pixel data with chrominance for every second pixel only. */
bool mf_native_subsampled(const struct mf_index_object *object);

/* The bytes of a frame, counted from the start of the pixel data; `*skip_bits` is where a frame of
 * 1-bit pixels starts in the first byte. */
struct mf_range mf_native_range(const struct mf_index_object *object, uint32_t frame,
                                unsigned *skip_bits);

/* Whether the bytes are the samples already, so that they can be read in place. */
bool mf_native_in_place(const struct mf_index_object *object);

/* Turns the bytes of mf_native_range() into interleaved samples in the machine's byte order.
 * `bytes` is changed. With mf_native_in_place() both may be the same memory. */
void mf_native_unpack(const struct mf_index_object *object, uint8_t *bytes, size_t length,
                      unsigned skip_bits, void *samples);

/* Gives the unused high bits of integer samples the value of the sign bit, or 0: `bits` of each
 * count. */
void mf_native_clean(void *samples, size_t count, uint32_t sample_bytes, bool is_signed,
                     uint32_t bits);

/* The first `count` bits of `bytes` after `skip`, least significant first, as 0 and 1. */
void mf_native_unpack_bits(const uint8_t *bytes, unsigned skip, size_t count, uint8_t *samples);

#ifdef __cplusplus
}
#endif

#endif
