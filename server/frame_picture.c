/* Pictures of frames: the greyscale pipeline (core/grayscale.h), made smaller, as PNG. */
#include "server/frame_picture.h"

#include "core/grayscale.h"
#include "engine/resample.h"
#include "server/png.h"

#include <math.h>
#include <string.h>

enum { LARGEST_SAMPLE = 65535 };

void mf_frame_picture_size(const struct mf_frame *f, uint32_t side, uint32_t *ret_rows,
                           uint32_t *ret_columns)
{
    uint32_t longer = f->rows > f->columns ? f->rows : f->columns;
    double scale = side && longer > side ? (double)side / longer : 1;
    *ret_rows = (uint32_t)fmax(1, round(f->rows * scale));
    *ret_columns = (uint32_t)fmax(1, round(f->columns * scale));
}

/* The frame's floats in the picture's size; frees or returns what it was given. */
static float *reduce(const struct mf_frame *f, float *values, uint32_t channels, uint32_t rows,
                     uint32_t columns, struct mf_error *err)
{
    MF_AUTO(mf_mem) float *from = values;
    if (!from || (rows == f->rows && columns == f->columns))
        return MF_STEAL(from);
    MF_AUTO(mf_resampler) struct mf_resampler r = {.threads = 1};
    MF_AUTO(mf_mem) float *to = malloc((size_t)rows * columns * channels * sizeof *to);
    if (!to) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a picture");
        return NULL;
    }
    if (!mf_resample(&r, MF_FILTER_BILINEAR_ANTIALIAS, from, f->rows, f->columns, channels,
                     (size_t)f->columns * channels, to, rows, columns, err))
        return NULL;
    return MF_STEAL(to);
}

/* --- 8 bits --- */

static bool reduce_bytes(const struct mf_frame *f, struct mf_png *png, uint8_t *bytes,
                         struct mf_error *err)
{
    if (png->rows == f->rows && png->columns == f->columns)
        return true;
    size_t n = (size_t)f->rows * f->columns * png->channels;
    float *values = malloc(n * sizeof *values);
    for (size_t i = 0; values && i < n; i++)
        values[i] = bytes[i];
    MF_AUTO(mf_mem) float *small = reduce(f, values, png->channels, png->rows, png->columns, err);
    if (!small)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a picture");
    n = (size_t)png->rows * png->columns * png->channels;
    for (size_t i = 0; i < n; i++)
        bytes[i] = (uint8_t)(small[i] + 0.5F);
    return true;
}

static bool displayed(const struct mf_frame *f, struct mf_png *png, struct mf_buffer *out,
                      struct mf_error *err)
{
    png->channels = mf_grayscale_channels(f);
    png->bits = 8;
    MF_AUTO(mf_mem) uint8_t *bytes = malloc((size_t)f->rows * f->columns * png->channels);
    if (!bytes)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a picture");
    png->samples = bytes;
    return mf_grayscale_display8(f, bytes, err) && reduce_bytes(f, png, bytes, err) &&
           mf_png_encode(png, out, err);
}

/* --- 16 bits --- */

/* The modality values of black and white. */
static bool display_range(const struct mf_frame *f, double ret[2], struct mf_error *err)
{
    double c = f->window_center, w = f->window_width;
    if (!mf_grayscale_has_voi(f)) {
        if (!mf_grayscale_range(f, ret, err))
            return false;
    } else if (f->voi_lut.count) {
        ret[0] = f->voi_lut.first;
        ret[1] = (double)f->voi_lut.first + f->voi_lut.count - 1;
    } else {
        double shift = f->voi_function == MF_VOI_LINEAR ? 0.5 : 0; /* C.11.2.1.2.1 */
        ret[0] = c - w / 2;
        ret[1] = c + w / 2 - 2 * shift;
    }
    if (f->photometric == MF_PHOTOMETRIC_MONOCHROME1) {
        double black = ret[1];
        ret[1] = ret[0];
        ret[0] = black;
    }
    return true;
}

/* What samples 0 and 65535 stand for. */
static void choose_scale(const float *values, size_t n, struct mf_png *png)
{
    double low = INFINITY, high = -INFINITY;
    bool whole = true;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(values[i]))
            continue;
        low = fmin(low, values[i]);
        high = fmax(high, values[i]);
        whole = whole && values[i] == rintf(values[i]);
    }
    png->low = low <= high ? low : 0;
    png->high = whole && high - low <= LARGEST_SAMPLE ? png->low + LARGEST_SAMPLE
                                                      : fmax(high, nextafter(low, INFINITY));
}

static bool values(const struct mf_frame *f, struct mf_png *png, struct mf_buffer *out,
                   struct mf_error *err)
{
    char text[80];
    double range[2];
    if (mf_grayscale_channels(f) != 1)
        return mf_error_set(err, MF_ERR_UNUSABLE, "a colour frame has no values of 16 bits");
    size_t n = (size_t)f->rows * f->columns, m = (size_t)png->rows * png->columns;
    float *modality = malloc(n * sizeof *modality);
    MF_AUTO(mf_mem) uint16_t *samples = malloc(m * sizeof *samples);
    if (!modality || !samples || !mf_grayscale_modality(f, modality, err)) {
        free(modality);
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a picture");
    }
    choose_scale(modality, n, png);
    MF_AUTO(mf_mem) float *small = reduce(f, modality, 1, png->rows, png->columns, err);
    if (!small || !display_range(f, range, err))
        return false;
    double scale = LARGEST_SAMPLE / (png->high - png->low);
    for (size_t i = 0; i < m; i++) {
        double s = (small[i] - png->low) * scale; /* NaN is shown as the smallest value */
        samples[i] = (uint16_t)(s > 0 ? fmin(s + 0.5, LARGEST_SAMPLE) : 0);
    }
    snprintf(text, sizeof text, "%.9g %.9g", range[0], range[1]);
    png->channels = 1;
    png->bits = 16;
    png->samples = samples;
    png->unit = "modality";
    png->keyword = "Display range";
    png->text = text;
    bool ok = mf_png_encode(png, out, err);
    png->samples = png->text = NULL; /* they end here */
    return ok;
}

bool mf_frame_picture(const struct mf_frame *f, const struct mf_frame_picture *wanted,
                      struct mf_buffer *out, struct mf_error *err)
{
    struct mf_png png = {.rows = 0};
    mf_frame_picture_size(f, wanted->side, &png.rows, &png.columns);
    return wanted->bits == 16 ? values(f, &png, out, err) : displayed(f, &png, out, err);
}
