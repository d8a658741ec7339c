#include "core/colour.h"

#include "core/stored_values.h"

#include <math.h>

/* ITU-R BT.601 luma of RGB. */
static const float LUMA_R = 0.299f, LUMA_G = 0.587f, LUMA_B = 0.114f;

/* Entry of one palette channel as a share of its full scale. */
static float palette_share(const struct mf_lut *lut, int64_t stored)
{
    return mf_lut_entry(lut, (double)stored) / (float)((1u << lut->bits) - 1);
}

float mf_colour_palette_luma(const struct mf_frame *f, int64_t stored)
{
    return LUMA_R * palette_share(&f->palette[0], stored) +
           LUMA_G * palette_share(&f->palette[1], stored) +
           LUMA_B * palette_share(&f->palette[2], stored);
}

/* Luma in stored units times `scale`. */
bool mf_colour_luma(const struct mf_frame *f, float scale, float *out, struct mf_error *err)
{
    MF_AUTO(mf_mem) double *row = mf_stored_row(f, err);
    if (!row)
        return false;
    bool ybr = f->photometric == MF_PHOTOMETRIC_YBR_FULL;
    float r = (ybr ? 1 : LUMA_R) * scale, g = (ybr ? 0 : LUMA_G) * scale,
          b = (ybr ? 0 : LUMA_B) * scale;
    size_t width = (size_t)f->columns * 3;
    for (size_t y = 0; y < f->rows; y++, out += f->columns) {
        mf_stored_load(f, y * width, width, row);
        for (size_t x = 0; x < f->columns; x++)
            out[x] = r * (float)row[3 * x] + g * (float)row[3 * x + 1] + b * (float)row[3 * x + 2];
    }
    return true;
}

float mf_colour_full_scale(const struct mf_frame *f)
{
    return (float)(f->bits_stored >= 32 ? UINT32_MAX : (UINT32_C(1) << f->bits_stored) - 1);
}

static uint8_t to_byte(double share)
{
    return (uint8_t)(fmin(fmax(share, 0), 1) * 255 + 0.5);
}

/* PS3.3 C.7.6.3.1.2, YBR_FULL, inverted; shares of full scale. */
static void ybr_to_rgb(const double ybr[3], double rgb[3])
{
    double cb = ybr[1] - 128.0 / 255, cr = ybr[2] - 128.0 / 255;
    rgb[0] = ybr[0] + 1.402 * cr;
    rgb[1] = ybr[0] - 0.344136 * cb - 0.714136 * cr;
    rgb[2] = ybr[0] + 1.772 * cb;
}

bool mf_colour_bytes(const struct mf_frame *f, uint8_t *out, struct mf_error *err)
{
    MF_AUTO(mf_mem) double *row = mf_stored_row(f, err);
    if (!row)
        return false;
    bool ybr = f->photometric == MF_PHOTOMETRIC_YBR_FULL;
    double scale = 1 / (double)mf_colour_full_scale(f);
    size_t width = (size_t)f->columns * 3;
    for (size_t y = 0; y < f->rows; y++, out += width) {
        mf_stored_load(f, y * width, width, row);
        for (size_t x = 0; x < width; x += 3) {
            double c[3] = {row[x] * scale, row[x + 1] * scale, row[x + 2] * scale};
            double rgb[3] = {c[0], c[1], c[2]};
            if (ybr)
                ybr_to_rgb(c, rgb);
            for (int k = 0; k < 3; k++)
                out[x + (size_t)k] = to_byte(rgb[k]);
        }
    }
    return true;
}

bool mf_colour_palette_bytes(const struct mf_frame *f, uint8_t *out, struct mf_error *err)
{
    MF_AUTO(mf_mem) uint8_t *table = malloc((size_t)mf_stored_count(f) * 3);
    MF_AUTO(mf_mem) uint8_t *plane = malloc(mf_stored_pixels(f));
    if (!table || !plane)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a palette");
    struct mf_stored_layout l = mf_stored_layout(f);
    for (int k = 0; k < 3; k++) {
        for (uint32_t raw = 0; raw < mf_stored_count(f); raw++)
            table[raw] = to_byte(palette_share(&f->palette[k], mf_stored_value(&l, raw)));
        mf_stored_map_bytes(f, table, plane);
        for (size_t i = 0; i < mf_stored_pixels(f); i++)
            out[3 * i + (size_t)k] = plane[i];
    }
    return true;
}
