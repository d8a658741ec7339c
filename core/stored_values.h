/* Samples as DICOM stores them: which bits of a sample are the value, tables with an entry per
 * sample value (PS3.5 8.1.1; PS3.3 C.7.6.3.1.3 for bits outside the stored ones, C.11 for look-up
 * tables). For the parts of the greyscale pipeline only. */
#ifndef MEDFUSION_CORE_STORED_VALUES_H
#define MEDFUSION_CORE_STORED_VALUES_H

#include "core/frame.h"

#include <math.h>

/* How the stored value sits in a raw sample: bits HighBit−BitsStored+1 … HighBit. */
struct mf_stored_layout {
    unsigned shift;
    uint32_t mask, sign; /* sign bit of the value, 0 when unsigned */
};

static inline struct mf_stored_layout mf_stored_layout(const struct mf_frame *f)
{
    struct mf_stored_layout l;
    l.shift = f->high_bit + 1 - f->bits_stored;
    l.mask = f->bits_stored >= 32 ? UINT32_MAX : (UINT32_C(1) << f->bits_stored) - 1;
    l.sign = mf_sample_is_signed(f->type) ? UINT32_C(1) << (f->bits_stored - 1) : 0;
    return l;
}

static inline int64_t mf_stored_value(const struct mf_stored_layout *l, uint32_t raw)
{
    uint32_t v = (raw >> l->shift) & l->mask;
    return (int64_t)(v ^ l->sign) - (int64_t)l->sign;
}

/* Entry of `lut` for a stored value; those outside take the first and the last (C.11.1.1). */
static inline uint16_t mf_lut_entry(const struct mf_lut *lut, double input)
{
    double i = floor(input + 0.5) - lut->first;
    if (!(i > 0))
        return lut->data[0];
    return i >= lut->count - 1 ? lut->data[lut->count - 1] : lut->data[(uint32_t)i];
}

/* Number of values that a raw sample of one or two bytes can have. */
static inline uint32_t mf_stored_count(const struct mf_frame *f)
{
    return mf_sample_size(f->type) == 1 ? 256 : 65536;
}

static inline size_t mf_stored_pixels(const struct mf_frame *f)
{
    return (size_t)f->rows * f->columns;
}

/* Stored values of `count` samples from `first` on, bits outside the stored ones masked. */
void mf_stored_load(const struct mf_frame *frame, size_t first, size_t count, double *out);

/* Room for the samples of one row; the caller frees it. NULL when there is no memory. */
double *mf_stored_row(const struct mf_frame *frame, struct mf_error *err);

/* out[i] = table[sample i] over a frame of one sample a pixel and one or two bytes a sample. */
void mf_stored_map_bytes(const struct mf_frame *frame, const uint8_t *table, uint8_t *out);

#endif
