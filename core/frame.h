/*
 * A decoded image frame: stored samples and the descriptor that says how to show them.
 *
 * dicom/ fills it (in the decoder process), engine/ reads it (in the worker), and it crosses
 * between the two as one block of shared memory (mf_frame_pack / mf_frame_unpack). The receiver
 * trusts nothing in the block: unpack checks every size, enumeration and offset.
 */
#ifndef MF_CORE_FRAME_H
#define MF_CORE_FRAME_H

#include "core/auto.h"
#include "core/error.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum mf_sample_type {
    MF_SAMPLE_U8,
    MF_SAMPLE_I8,
    MF_SAMPLE_U16,
    MF_SAMPLE_I16,
    MF_SAMPLE_U32,
    MF_SAMPLE_I32,
    MF_SAMPLE_F32,
    MF_SAMPLE_F64,
    MF_SAMPLE_TYPE_COUNT
};

/* PhotometricInterpretation of the samples as they are in `samples` (PS3.3 C.7.6.3.1.2). */
enum mf_photometric {
    MF_PHOTOMETRIC_MONOCHROME1,
    MF_PHOTOMETRIC_MONOCHROME2,
    MF_PHOTOMETRIC_RGB,
    MF_PHOTOMETRIC_YBR_FULL,
    MF_PHOTOMETRIC_PALETTE,
    MF_PHOTOMETRIC_COUNT
};

/* A look-up table of PS3.3 C.11.1 (modality), C.11.2 (VOI) or C.7.9 (palette): entry i answers to
 * input first + i; inputs outside are clamped. count 0 = no table. */
struct mf_lut {
    uint32_t count; /* at most 65536 */
    int32_t first;
    uint32_t bits;        /* of an entry, 8…16: entries span 0 … 2^bits − 1 */
    const uint16_t *data; /* count entries; borrowed from the frame's memory */
};

enum mf_voi_function {
    MF_VOI_LINEAR,       /* PS3.3 C.11.2.1.2.1 */
    MF_VOI_LINEAR_EXACT, /* C.11.2.1.3.2 */
    MF_VOI_SIGMOID,      /* C.11.2.1.3.1 */
    MF_VOI_FUNCTION_COUNT
};

struct mf_frame {
    uint32_t rows, columns;
    uint32_t samples_per_pixel; /* 1 or 3, interleaved */
    enum mf_sample_type type;
    enum mf_photometric photometric;
    uint32_t bits_stored; /* of the sample, from bit 0 after decoding; higher bits are overlays or
                             junk */
    uint32_t high_bit;
    const void *samples; /* rows · columns · samples_per_pixel, row-major; unused bits cleared or
                                   sign-extended, except where HighBit is not BitsStored-1 */

    double rescale_slope, rescale_intercept; /* 1, 0 when absent; unused with a modality LUT */
    struct mf_lut modality_lut;
    struct mf_lut voi_lut; /* the first item; wins over the window */
    bool has_window;
    enum mf_voi_function voi_function;
    double window_center, window_width;
    bool has_padding; /* PixelPaddingValue … PixelPaddingRangeLimit, inclusive, */
    int64_t padding_low, padding_high; /* in stored values */
    struct mf_lut palette[3];          /* red, green, blue; only for MF_PHOTOMETRIC_PALETTE */

    double pixel_spacing[2]; /* row, column spacing in mm; 0 = unknown */
    double position[3];      /* ImagePositionPatient, mm */
    double orientation[6];   /* ImageOrientationPatient: row, then column direction cosines */
    bool has_position, has_orientation;

    void *
        owned; /* memory behind `samples` and the tables, freed by mf_frame_free; NULL = borrowed */
};

size_t mf_sample_size(enum mf_sample_type type);
bool mf_sample_is_signed(enum mf_sample_type type);
bool mf_sample_is_float(enum mf_sample_type type);

/* Bytes of `samples`; the product cannot overflow for a frame that passed mf_frame_check(). */
size_t mf_frame_bytes(const struct mf_frame *frame);

/* Checks the invariants above (rows, columns 1…65535, at most 2^31 samples, tables, finite
 * numbers). */
bool mf_frame_check(const struct mf_frame *frame, struct mf_error *err);

void mf_frame_free(struct mf_frame *frame); /* what it owns; the struct itself is the caller's */

/* One self-contained block: a fixed header, the tables, the samples (64-byte aligned). */
size_t mf_frame_packed_size(const struct mf_frame *frame);
void mf_frame_pack(const struct mf_frame *frame, void *block);
/* Makes `ret` point into `block` (64-byte aligned, must outlive it). MF_ERR_MALFORMED when anything
 * is off. */
bool mf_frame_unpack(const void *block, size_t len, struct mf_frame *ret, struct mf_error *err);

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_frame, struct mf_frame, mf_frame_free(p))

#endif
