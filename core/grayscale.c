/*
 * Greyscale pipeline (PS3.3 C.11.1 modality LUT, C.11.2 VOI LUT, C.7.6.3.1 photometric
 * interpretations; PS3.4 N.2 order of the steps).
 *
 * Samples of up to 16 bits take one path: the whole pipeline is evaluated once per possible sample
 * value into a table, then every pixel is one look-up, so a 5-megapixel radiograph costs a few
 * milliseconds whatever LUT, window or padding it has. Wider integers and floats are computed pixel
 * by pixel; colour (core/colour.h) goes row by row through its luma.
 */
#include "core/grayscale.h"

#include "core/colour.h"
#include "core/percentile.h"
#include "core/stored_values.h"

#include <math.h>
#include <string.h>

static const double LOW_PERCENTILE = 0.005, HIGH_PERCENTILE = 0.995;

static bool is_padding(const struct mf_frame *f, int64_t stored)
{
    return f->has_padding && stored >= f->padding_low && stored <= f->padding_high;
}

static double modality_value(const struct mf_frame *f, double stored)
{
    if (f->modality_lut.count)
        return mf_lut_entry(&f->modality_lut, stored);
    return stored * f->rescale_slope + f->rescale_intercept;
}

/* ---- VOI: modality value → [0,1] ---- */

struct voi {
    enum { VOI_TABLE, VOI_AFFINE, VOI_STEP, VOI_SIGMOID } kind;
    double center,
        scale; /* affine: (x − center)·scale; step: x > center; sigmoid: scale = −4/width */
    const struct mf_lut *lut;
    double lut_max;
    bool invert;
};

static double clip(double x)
{
    return x > 0 ? (x < 1 ? x : 1) : 0; /* NaN gives 0 */
}

static double voi_value(const struct voi *v, double x)
{
    double y;
    switch (v->kind) {
    case VOI_TABLE:
        y = mf_lut_entry(v->lut, x) / v->lut_max;
        break;
    case VOI_STEP:
        y = x > v->center;
        break;
    case VOI_SIGMOID:
        y = 1 / (1 + exp(v->scale * (x - v->center)));
        break;
    default:
        y = (x - v->center) * v->scale;
    }
    y = clip(y);
    return v->invert ? 1 - y : y;
}

/* The VOI LUT or window of the frame; false when it has neither (a window too narrow to mean
 * anything counts as none), and then the percentiles decide. */
static bool voi_from_frame(const struct mf_frame *f, struct voi *v)
{
    double c = f->window_center, w = f->window_width;
    *v = (struct voi){.kind = VOI_AFFINE, .invert = f->photometric == MF_PHOTOMETRIC_MONOCHROME1};
    if (f->voi_lut.count) {
        v->kind = VOI_TABLE;
        v->lut = &f->voi_lut;
        v->lut_max = (double)((1u << f->voi_lut.bits) - 1);
        return true;
    }
    if (!f->has_window || !(w > 0) || (f->voi_function == MF_VOI_LINEAR && w < 1))
        return false;
    switch (f->voi_function) {
    case MF_VOI_LINEAR_EXACT:
        v->scale = 1 / w;
        v->center = c - w / 2;
        break;
    case MF_VOI_SIGMOID:
        v->kind = VOI_SIGMOID;
        v->scale = -4 / w;
        v->center = c;
        break;
    default:
        v->kind = w > 1 ? VOI_AFFINE : VOI_STEP;
        v->scale = w > 1 ? 1 / (w - 1) : 0;
        v->center = w > 1 ? c - 0.5 - (w - 1) / 2 : c - 0.5;
    }
    return true;
}

static void voi_from_range(struct voi *v, double low, double high)
{
    v->kind = VOI_AFFINE;
    v->center = low;
    v->scale = high > low ? 1 / (high - low) : 0; /* equal percentiles: everything is 0 */
}

/* ---- narrow samples: one table entry per raw value ---- */

static bool is_narrow(const struct mf_frame *f)
{
    return mf_sample_size(f->type) <= 2;
}

static void map_floats(const struct mf_frame *f, const float *restrict table, float *restrict out)
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

static bool is_colour(const struct mf_frame *f)
{
    return f->samples_per_pixel == 3;
}

/* Percentiles of the modality values of a narrow frame, by a histogram of its samples (`counts`;
 * NULL: it is made here). */
static bool narrow_range(const struct mf_frame *f, const uint32_t *counts, double *low,
                         double *high, struct mf_error *err)
{
    struct mf_stored_layout l = mf_stored_layout(f);
    uint32_t n = mf_stored_count(f);
    MF_AUTO(mf_mem) uint32_t *own = counts ? NULL : calloc(n, sizeof *own);
    MF_AUTO(mf_mem) struct mf_weighted *bins = calloc((size_t)l.mask + 1, sizeof *bins);
    if ((!counts && !own) || !bins)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a histogram");
    if (own && n == 256)
        mf_histogram_u8(f->samples, mf_stored_pixels(f), own);
    else if (own)
        mf_histogram_u16(f->samples, mf_stored_pixels(f), own);
    counts = counts ? counts : own;
    for (uint32_t raw = 0; raw < n; raw++) {
        int64_t stored = mf_stored_value(&l, raw);
        struct mf_weighted *bin = &bins[stored + (int64_t)l.sign]; /* ascending stored values */
        bin->value = modality_value(f, (double)stored);
        if (!is_padding(f, stored))
            bin->count += counts[raw];
    }
    double p[2] = {LOW_PERCENTILE, HIGH_PERCENTILE}, range[2];
    mf_percentiles_weighted(bins, (size_t)l.mask + 1, p, range);
    *low = range[0];
    *high = range[1];
    return true;
}

/* Display value per raw sample value; `counts` as above. */
static bool narrow_table(const struct mf_frame *f, const uint32_t *counts, float *table,
                         struct mf_error *err)
{
    struct mf_stored_layout l = mf_stored_layout(f);
    uint32_t n = mf_stored_count(f);
    if (f->photometric == MF_PHOTOMETRIC_PALETTE) {
        for (uint32_t raw = 0; raw < n; raw++)
            table[raw] = mf_colour_palette_luma(f, mf_stored_value(&l, raw));
        return true;
    }
    struct voi v;
    if (!voi_from_frame(f, &v)) {
        double low = 0, high = 0;
        if (!narrow_range(f, counts, &low, &high, err))
            return false;
        voi_from_range(&v, low, high);
    }
    for (uint32_t raw = 0; raw < n; raw++) {
        int64_t stored = mf_stored_value(&l, raw);
        table[raw] =
            is_padding(f, stored) ? 0 : (float)voi_value(&v, modality_value(f, (double)stored));
    }
    return true;
}

/* `padding` NULL: padding is a value as any other. */
static void narrow_modality_table(const struct mf_frame *f, const float *padding, float *table)
{
    struct mf_stored_layout l = mf_stored_layout(f);
    uint32_t n = mf_stored_count(f);
    bool palette = f->photometric == MF_PHOTOMETRIC_PALETTE;
    float scale = palette ? (float)((1u << f->palette[0].bits) - 1) : 1;
    for (uint32_t raw = 0; raw < n; raw++) {
        int64_t stored = mf_stored_value(&l, raw);
        table[raw] = padding && is_padding(f, stored) ? *padding
                     : palette                        ? mf_colour_palette_luma(f, stored) * scale
                                                      : (float)modality_value(f, (double)stored);
    }
}

/* ---- wide samples: pixel by pixel ---- */

static bool wide_padding(const struct mf_frame *f, double stored)
{
    return f->has_padding && stored >= (double)f->padding_low && stored <= (double)f->padding_high;
}

/* Modality values; `padding` as above. */
static bool wide_modality(const struct mf_frame *f, const float *padding, float *out,
                          struct mf_error *err)
{
    MF_AUTO(mf_mem) double *row = mf_stored_row(f, err);
    if (!row)
        return false;
    for (size_t y = 0; y < f->rows; y++, out += f->columns) {
        mf_stored_load(f, y * f->columns, f->columns, row);
        for (size_t x = 0; x < f->columns; x++)
            out[x] =
                padding && wide_padding(f, row[x]) ? *padding : (float)modality_value(f, row[x]);
    }
    return true;
}

static bool wide_display(const struct mf_frame *f, float *out, struct mf_error *err)
{
    static const float NOTHING = NAN;
    if (!wide_modality(f, &NOTHING, out, err))
        return false;
    struct voi v;
    size_t n = mf_stored_pixels(f);
    if (!voi_from_frame(f, &v)) {
        double p[2] = {LOW_PERCENTILE, HIGH_PERCENTILE}, range[2];
        if (!mf_percentiles_f32(out, n, p, range, err))
            return false;
        voi_from_range(&v, range[0], range[1]);
    }
    for (size_t i = 0; i < n; i++)
        /* NOLINTNEXTLINE(clang-analyzer-core.CallAndMessage): wide_modality() has filled every row
         */
        out[i] = isnan(out[i]) ? 0 : (float)voi_value(&v, out[i]);
    return true;
}

bool mf_grayscale_range(const struct mf_frame *f, double ret[2], struct mf_error *err)
{
    static const float NOTHING = NAN;
    double p[2] = {LOW_PERCENTILE, HIGH_PERCENTILE};
    if (is_narrow(f))
        return narrow_range(f, NULL, &ret[0], &ret[1], err);
    MF_AUTO(mf_mem) float *values = malloc(mf_stored_pixels(f) * sizeof *values);
    if (!values)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a frame");
    return wide_modality(f, &NOTHING, values, err) &&
           mf_percentiles_f32(values, mf_stored_pixels(f), p, ret, err);
}

bool mf_grayscale_has_voi(const struct mf_frame *f)
{
    struct voi v;
    return voi_from_frame(f, &v);
}

/* ---- public ---- */

bool mf_grayscale_filled(const struct mf_frame *f, const float *padding, float *out,
                         struct mf_error *err)
{
    if (is_colour(f))
        return mf_colour_luma(f, 1, out, err);
    if (!is_narrow(f))
        return wide_modality(f, padding, out, err);
    MF_AUTO(mf_mem) float *table = malloc(mf_stored_count(f) * sizeof *table);
    if (!table)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a table");
    narrow_modality_table(f, padding, table);
    map_floats(f, table, out);
    return true;
}

bool mf_grayscale_modality(const struct mf_frame *f, float *out, struct mf_error *err)
{
    return mf_grayscale_filled(f, NULL, out, err);
}

bool mf_grayscale_display(const struct mf_frame *f, float *out, struct mf_error *err)
{
    if (is_colour(f))
        return mf_colour_luma(f, 1 / mf_colour_full_scale(f), out, err);
    if (!is_narrow(f))
        return wide_display(f, out, err);
    MF_AUTO(mf_mem) float *table = malloc(mf_stored_count(f) * sizeof *table);
    if (!table)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a table");
    if (!narrow_table(f, NULL, table, err))
        return false;
    map_floats(f, table, out);
    return true;
}

size_t mf_grayscale_table_size(const struct mf_frame *f)
{
    return is_colour(f) || !is_narrow(f) ? 0 : mf_stored_count(f);
}

bool mf_grayscale_needs_counts(const struct mf_frame *f)
{
    return mf_grayscale_table_size(f) && f->photometric != MF_PHOTOMETRIC_PALETTE &&
           !mf_grayscale_has_voi(f);
}

bool mf_grayscale_table(const struct mf_frame *f, const uint32_t *counts, float *table,
                        struct mf_error *err)
{
    return narrow_table(f, counts, table, err);
}

uint32_t mf_grayscale_channels(const struct mf_frame *f)
{
    return is_colour(f) || f->photometric == MF_PHOTOMETRIC_PALETTE ? 3 : 1;
}

bool mf_grayscale_display8(const struct mf_frame *f, uint8_t *out, struct mf_error *err)
{
    if (is_colour(f))
        return mf_colour_bytes(f, out, err);
    if (f->photometric == MF_PHOTOMETRIC_PALETTE)
        return mf_colour_palette_bytes(f, out, err);
    size_t n = is_narrow(f) ? mf_stored_count(f) : mf_stored_pixels(f);
    MF_AUTO(mf_mem) float *values = calloc(n, sizeof *values);
    MF_AUTO(mf_mem) uint8_t *bytes = malloc(n);
    if (!values || !bytes)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for %zu display values", n);
    if (!(is_narrow(f) ? narrow_table(f, NULL, values, err) : wide_display(f, values, err)))
        return false;
    for (size_t i = 0; i < n; i++)
        bytes[i] = (uint8_t)(values[i] * 255 + 0.5f);
    if (is_narrow(f))
        mf_stored_map_bytes(f, bytes, out);
    else
        memcpy(out, bytes, n);
    return true;
}
