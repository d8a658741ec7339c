#include "core/stored_values.h"

void mf_stored_load(const struct mf_frame *f, size_t first, size_t count, double *restrict out)
{
    struct mf_stored_layout l = mf_stored_layout(f);
    switch (f->type) {
    case MF_SAMPLE_U8:
    case MF_SAMPLE_I8:
        for (size_t i = 0; i < count; i++)
            out[i] = (double)mf_stored_value(&l, ((const uint8_t *)f->samples)[first + i]);
        break;
    case MF_SAMPLE_U16:
    case MF_SAMPLE_I16:
        for (size_t i = 0; i < count; i++)
            out[i] = (double)mf_stored_value(&l, ((const uint16_t *)f->samples)[first + i]);
        break;
    case MF_SAMPLE_U32:
    case MF_SAMPLE_I32:
        for (size_t i = 0; i < count; i++)
            out[i] = (double)mf_stored_value(&l, ((const uint32_t *)f->samples)[first + i]);
        break;
    case MF_SAMPLE_F32:
        for (size_t i = 0; i < count; i++)
            out[i] = ((const float *)f->samples)[first + i];
        break;
    default:
        for (size_t i = 0; i < count; i++)
            out[i] = ((const double *)f->samples)[first + i];
    }
}

double *mf_stored_row(const struct mf_frame *f, struct mf_error *err)
{
    double *row = calloc((size_t)f->columns * f->samples_per_pixel, sizeof *row);
    if (!row)
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a row of %u pixels", f->columns);
    return row;
}

void mf_stored_map_bytes(const struct mf_frame *f, const uint8_t *restrict table,
                         uint8_t *restrict out)
{
    size_t n = mf_stored_pixels(f);
    if (mf_sample_size(f->type) == 1) {
        const uint8_t *restrict s = f->samples;
        for (size_t i = 0; i < n; i++)
            out[i] = table[s[i]];
    } else {
        const uint16_t *restrict s = f->samples;
        for (size_t i = 0; i < n; i++)
            out[i] = table[s[i]];
    }
}
