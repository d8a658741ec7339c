/* Separable resampling: a table of taps for each axis, then both axes one after the other. */
#include "engine/resample.h"

#include "engine/host.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static float triangle(float x)
{
    x = fabsf(x);
    return x < 1 ? 1 - x : 0;
}

static float cubic(float x, float a)
{
    x = fabsf(x);
    if (x < 1)
        return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

double mf_filter_sinc(double x)
{
    double a = M_PI * fabs(x), b = a / MF_SINC_REACH;
    if (a < 1e-9)
        return 1;
    return fabs(x) < MF_SINC_REACH ? sin(a) / a * (sin(b) / b) : 0;
}

static bool is_antialias(enum mf_filter filter)
{
    return filter == MF_FILTER_BILINEAR_ANTIALIAS || filter == MF_FILTER_BICUBIC_ANTIALIAS;
}

static size_t taps_of(enum mf_filter filter, size_t in, size_t out)
{
    bool wide = filter == MF_FILTER_BICUBIC || filter == MF_FILTER_BICUBIC_ANTIALIAS;
    if (filter == MF_FILTER_SINC)
        return 2 * (size_t)ceil(MF_SINC_REACH * fmax((double)in / (double)out, 1)) + 1;
    if (!is_antialias(filter))
        return wide ? 4 : 2;
    float scale = (float)in / (float)out, support = (wide ? 2.0f : 1.0f) * (scale >= 1 ? scale : 1);
    return (size_t)ceilf(support) * 2 + 1;
}

static void fill_antialias(enum mf_filter filter, size_t in, struct mf_axis *axis)
{
    float scale = (float)in / (float)axis->out,
          reach = filter == MF_FILTER_BICUBIC_ANTIALIAS ? 2 : 1;
    float support = scale >= 1 ? reach * scale : reach, inverse = scale >= 1 ? 1 / scale : 1;
    for (size_t i = 0; i < axis->out; i++) {
        float center = scale * ((float)i + 0.5f);
        long low = (long)(center - support + 0.5f), high = (long)(center + support + 0.5f);
        low = low < 0 ? 0 : low;
        high = high > (long)in ? (long)in : high;
        float *w = axis->weight + i * axis->taps, sum = 0;
        for (long j = 0; j < high - low; j++) {
            float x = ((float)(j + low) - center + 0.5f) * inverse;
            w[j] = reach > 1 ? cubic(x, -0.5f) : triangle(x);
            sum += w[j];
            axis->index[i * axis->taps + (size_t)j] = (size_t)(j + low);
        }
        for (long j = 0; j < high - low && sum != 0; j++)
            w[j] /= sum;
    }
}

static void fill_plain(enum mf_filter filter, size_t in, struct mf_axis *axis)
{
    float scale = (float)in / (float)axis->out;
    for (size_t i = 0; i < axis->out; i++) {
        float at = scale * ((float)i + 0.5f) - 0.5f;
        if (filter == MF_FILTER_BILINEAR && at < 0)
            at = 0;
        float base = floorf(at), t = at - base;
        float *w = axis->weight + i * axis->taps;
        for (size_t j = 0; j < axis->taps; j++) {
            long offset = filter == MF_FILTER_BICUBIC ? (long)j - 1 : (long)j;
            long from = (long)base + offset;
            from = from < 0 ? 0 : from >= (long)in ? (long)in - 1 : from;
            axis->index[i * axis->taps + j] = (size_t)from;
            w[j] = filter == MF_FILTER_BICUBIC ? cubic((float)offset - t, -0.75f) : j ? t : 1 - t;
        }
    }
}

static void fill_sinc(size_t in, struct mf_axis *axis)
{
    double scale = (double)in / (double)axis->out, stretch = scale > 1 ? scale : 1;
    for (size_t i = 0; i < axis->out; i++) {
        double at = scale * ((double)i + 0.5) - 0.5, sum = 0;
        long first = (long)floor(at) - (long)(axis->taps / 2);
        float *w = axis->weight + i * axis->taps;
        size_t *index = axis->index + i * axis->taps;
        for (size_t j = 0; j < axis->taps; j++)
            sum += mf_filter_sinc(((double)(first + (long)j) - at) / stretch);
        for (size_t j = 0; j < axis->taps; j++) {
            long from = first + (long)j;
            w[j] = (float)(mf_filter_sinc(((double)from - at) / stretch) / sum);
            index[j] = (size_t)(from < 0 ? 0 : from >= (long)in ? (long)in - 1 : from);
        }
    }
}

static bool prepare(enum mf_filter filter, size_t in, size_t out, struct mf_axis *axis,
                    struct mf_error *err)
{
    axis->out = out;
    axis->taps = taps_of(filter, in, out);
    size_t n = out * axis->taps;
    if (n > axis->room) {
        size_t *index = realloc(axis->index, n * sizeof *index);
        axis->index = index ? index : axis->index;
        float *weight = index ? realloc(axis->weight, n * sizeof *weight) : NULL;
        axis->weight = weight ? weight : axis->weight;
        if (!weight)
            return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for resampling");
        axis->room = n;
    }
    memset(axis->weight, 0, n * sizeof *axis->weight);
    memset(axis->index, 0, n * sizeof *axis->index);
    if (filter == MF_FILTER_SINC)
        fill_sinc(in, axis);
    else
        (is_antialias(filter) ? fill_antialias : fill_plain)(filter, in, axis);
    return true;
}

/* n floats of output row `i`, from float x on, as a weighted sum of rows of `in`. */
static void sum_rows(const struct mf_axis *axis, size_t i, const float *in, size_t in_row, size_t x,
                     size_t n, float *out)
{
    enum { GROUP = 32 };
    const float *rows[GROUP];
    float weights[GROUP];
    size_t count = 0, groups = 0;
    for (size_t j = 0; j < axis->taps; j++) {
        float w = axis->weight[i * axis->taps + j];
        if (w == 0)
            continue;
        rows[count] = in + axis->index[i * axis->taps + j] * in_row + x;
        weights[count++] = w;
        if (count == GROUP) {
            mf_host_weighted_sum(rows, weights, count, n, groups++ > 0, out);
            count = 0;
        }
    }
    if (count || !groups)
        mf_host_weighted_sum(rows, weights, count, n, groups > 0, out);
}

/* One row of cells → axis->out cells of `channels` floats. */
static void resample_columns(const struct mf_axis *axis, const float *in, size_t channels,
                             float *restrict out)
{
    for (size_t i = 0; i < axis->out; i++, out += channels) {
        const float *weight = axis->weight + i * axis->taps;
        const size_t *index = axis->index + i * axis->taps;
        if (channels == 1) {
            float sum = 0;
            for (size_t j = 0; j < axis->taps; j++)
                sum += weight[j] * in[index[j]];
            *out = sum;
            continue;
        }
        memset(out, 0, channels * sizeof *out);
        for (size_t j = 0; j < axis->taps; j++)
            for (size_t c = 0; weight[j] != 0 && c < channels; c++)
                out[c] += weight[j] * in[index[j] * channels + c];
    }
}

static bool reserve(struct mf_resampler *r, size_t n, struct mf_error *err)
{
    if (n <= r->between_room)
        return true;
    float *more = realloc(r->between, n * sizeof *more);
    if (!more)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for resampling");
    r->between = more;
    r->between_room = n;
    return true;
}

/* One pass over an image: every output row of it is made by itself. */
struct pass {
    const struct mf_resampler *r;
    const float *in;
    size_t in_row, width, channels, out_row;
    float *out;
};

static void rows_of(void *arg, size_t i)
{
    enum { BLOCK = 2048 }; /* floats: the rows of one block stay in the first cache levels */
    const struct pass *p = arg;
    for (size_t x = 0; x < p->width; x += BLOCK)
        sum_rows(&p->r->rows, i, p->in, p->in_row, x, p->width - x < BLOCK ? p->width - x : BLOCK,
                 p->out + i * p->out_row + x);
}

static void columns_of(void *arg, size_t i)
{
    const struct pass *p = arg;
    resample_columns(&p->r->cols, p->in + i * p->in_row, p->channels, p->out + i * p->out_row);
}

/* Threads only where they are worth it. */
static void run_pass(struct pass *p, size_t rows, size_t floats, void (*body)(void *arg, size_t i))
{
    enum { SERIAL = 1 << 16 };
    mf_host_parallel(floats < SERIAL ? 1 : p->r->threads, rows, body, p);
}

bool mf_resample_plan(struct mf_resampler *r, enum mf_filter filter, size_t rows, size_t cols,
                      size_t out_rows, size_t out_cols, struct mf_error *err)
{
    return prepare(filter, rows, out_rows, &r->rows, err) &&
           prepare(filter, cols, out_cols, &r->cols, err);
}

bool mf_resample_begin(struct mf_resampler *r, enum mf_filter filter, const float *in, size_t rows,
                       size_t cols, size_t channels, size_t in_row, size_t out_rows,
                       size_t out_cols, struct mf_error *err)
{
    size_t width = out_cols * channels;
    if (!mf_resample_plan(r, filter, rows, cols, out_rows, out_cols, err) ||
        !reserve(r, rows * width, err))
        return false;
    r->between_row = width;
    struct pass p = {r, in, in_row, 0, channels, width, r->between};
    run_pass(&p, rows, rows * width, columns_of);
    return true;
}

void mf_resample_row(const struct mf_resampler *r, size_t y, size_t x, size_t n, float *out)
{
    sum_rows(&r->rows, y, r->between, r->between_row, x, n, out);
}

bool mf_resample(struct mf_resampler *r, enum mf_filter filter, const float *in, size_t rows,
                 size_t cols, size_t channels, size_t in_row, float *out, size_t out_rows,
                 size_t out_cols, struct mf_error *err)
{
    size_t width = cols * channels, out_width = out_cols * channels;
    if (rows < out_rows) { /* columns first: fewer rows to do them in */
        if (!mf_resample_begin(r, filter, in, rows, cols, channels, in_row, out_rows, out_cols,
                               err))
            return false;
        struct pass p = {r, r->between, out_width, out_width, channels, out_width, out};
        run_pass(&p, out_rows, out_rows * out_width, rows_of);
        return true;
    }
    if (!mf_resample_plan(r, filter, rows, cols, out_rows, out_cols, err) ||
        !reserve(r, out_rows * width, err))
        return false;
    struct pass down = {r, in, in_row, width, channels, width, r->between};
    run_pass(&down, out_rows, rows * width, rows_of);
    struct pass across = {r, r->between, width, 0, channels, out_width, out};
    run_pass(&across, out_rows, out_rows * width, columns_of);
    return true;
}

void mf_resampler_free(struct mf_resampler *r)
{
    free(r->rows.index);
    free(r->rows.weight);
    free(r->cols.index);
    free(r->cols.weight);
    free(r->between);
    memset(r, 0, sizeof *r);
}
