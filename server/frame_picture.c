/* Pictures of frames: the greyscale pipeline (core/grayscale.h), cut and scaled, as PNG or JPEG. */
#include "server/frame_picture.h"

#include "core/grayscale.h"
#include "engine/resample.h"
#include "server/jpeg.h"
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

/* The whole frame, made smaller. */
static struct mf_cut whole_frame(const struct mf_frame *f, uint32_t side)
{
    struct mf_cut cut = {.columns = f->columns, .rows = f->rows};
    mf_frame_picture_size(f, side, &cut.shown_rows, &cut.shown_columns);
    return cut;
}

/* The floats of a cut in the size that it is shown in; frees or returns what it was given. */
static float *resize(const struct mf_cut *cut, float *values, uint32_t channels,
                     struct mf_error *err)
{
    MF_AUTO(mf_mem) float *from = values;
    if (!from || (cut->shown_rows == cut->rows && cut->shown_columns == cut->columns))
        return MF_STEAL(from);
    MF_AUTO(mf_resampler) struct mf_resampler r = {.threads = 1};
    MF_AUTO(mf_mem)
    float *to = malloc((size_t)cut->shown_rows * cut->shown_columns * channels * sizeof *to);
    if (!to) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a picture");
        return NULL;
    }
    if (!mf_resample(&r, MF_FILTER_BILINEAR_ANTIALIAS, from, cut->rows, cut->columns, channels,
                     (size_t)cut->columns * channels, to, cut->shown_rows, cut->shown_columns, err))
        return NULL;
    return MF_STEAL(to);
}

/* --- 8 bits --- */

static bool is_whole(const struct mf_frame *f, const struct mf_cut *cut)
{
    return cut->columns == f->columns && cut->rows == f->rows && cut->shown_columns == f->columns &&
           cut->shown_rows == f->rows && !cut->mirrored && !cut->upside_down;
}

/* The part of the frame's bytes that is cut out, as floats. */
static float *cut_out(const struct mf_frame *f, const struct mf_cut *cut, uint32_t channels,
                      const uint8_t *bytes)
{
    size_t width = (size_t)cut->columns * channels, n = 0;
    float *values = malloc(cut->rows * width * sizeof *values);
    for (uint32_t y = 0; values && y < cut->rows; y++) {
        const uint8_t *row = bytes + ((size_t)(cut->y + y) * f->columns + cut->x) * channels;
        for (size_t x = 0; x < width; x++)
            values[n++] = row[x];
    }
    return values;
}

/* The frame's bytes become those of the cut, in its size and turned as it says. */
static bool fit_bytes(const struct mf_frame *f, const struct mf_cut *cut, uint32_t channels,
                      uint8_t **bytes, struct mf_error *err)
{
    if (is_whole(f, cut))
        return true;
    MF_AUTO(mf_mem) float *shown = resize(cut, cut_out(f, cut, channels, *bytes), channels, err);
    free(*bytes);
    *bytes = malloc((size_t)cut->shown_rows * cut->shown_columns * channels);
    if (!shown || !*bytes)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a picture");
    uint8_t *out = *bytes;
    for (uint32_t y = 0; y < cut->shown_rows; y++) {
        size_t row = cut->upside_down ? cut->shown_rows - 1 - y : y;
        for (uint32_t x = 0; x < cut->shown_columns; x++) {
            size_t column = cut->mirrored ? cut->shown_columns - 1 - x : x;
            const float *from = shown + (row * cut->shown_columns + column) * channels;
            for (uint32_t c = 0; c < channels; c++)
                /* NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult): all are set */
                *out++ = (uint8_t)(from[c] + 0.5F);
        }
    }
    return true;
}

static bool displayed(const struct mf_frame *f, const struct mf_frame_picture *wanted,
                      struct mf_buffer *out, struct mf_error *err)
{
    struct mf_cut cut = whole_frame(f, wanted->side);
    uint32_t channels = mf_grayscale_channels(f);
    if (wanted->viewport && !mf_viewport_cut(wanted->viewport, f->columns, f->rows, &cut, err))
        return false;
    MF_AUTO(mf_mem) uint8_t *bytes = malloc((size_t)f->rows * f->columns * channels);
    if (!bytes)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a picture");
    if (!mf_grayscale_display8(f, bytes, err) || !fit_bytes(f, &cut, channels, &bytes, err))
        return false;
    const struct mf_png png = {.rows = cut.shown_rows,
                               .columns = cut.shown_columns,
                               .channels = channels,
                               .bits = 8,
                               .samples = bytes};
    const struct mf_jpeg jpeg = {.rows = cut.shown_rows,
                                 .columns = cut.shown_columns,
                                 .channels = channels,
                                 .quality = wanted->jpeg_quality,
                                 .samples = bytes};
    return wanted->jpeg_quality ? mf_jpeg_encode(&jpeg, out, err) : mf_png_encode(&png, out, err);
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

static bool values(const struct mf_frame *f, uint32_t side, struct mf_buffer *out,
                   struct mf_error *err)
{
    char text[80];
    double range[2];
    const struct mf_cut cut = whole_frame(f, side);
    struct mf_png png = {.rows = cut.shown_rows, .columns = cut.shown_columns};
    if (mf_grayscale_channels(f) != 1)
        return mf_error_set(err, MF_ERR_UNUSABLE, "a colour frame has no values of 16 bits");
    size_t n = (size_t)f->rows * f->columns, m = (size_t)png.rows * png.columns;
    float *modality = malloc(n * sizeof *modality);
    MF_AUTO(mf_mem) uint16_t *samples = malloc(m * sizeof *samples);
    if (!modality || !samples || !mf_grayscale_modality(f, modality, err)) {
        free(modality);
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a picture");
    }
    choose_scale(modality, n, &png);
    MF_AUTO(mf_mem) float *small = resize(&cut, modality, 1, err);
    if (!small || !display_range(f, range, err))
        return false;
    double scale = LARGEST_SAMPLE / (png.high - png.low);
    for (size_t i = 0; i < m; i++) {
        double s = (small[i] - png.low) * scale; /* NaN is shown as the smallest value */
        samples[i] = (uint16_t)(s > 0 ? fmin(s + 0.5, LARGEST_SAMPLE) : 0);
    }
    snprintf(text, sizeof text, "%.9g %.9g", range[0], range[1]);
    png.channels = 1;
    png.bits = 16;
    png.samples = samples;
    png.unit = "modality";
    png.keyword = "Display range";
    png.text = text;
    return mf_png_encode(&png, out, err);
}

bool mf_frame_picture(const struct mf_frame *f, const struct mf_frame_picture *wanted,
                      struct mf_buffer *out, struct mf_error *err)
{
    return wanted->bits == 16 ? values(f, wanted->side, out, err) : displayed(f, wanted, out, err);
}
