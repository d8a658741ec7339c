/* CPU operations that move, pool or add data; plain loops that the compiler vectorises. */
#include "engine/cpu/backend.h"

#include <math.h>
#include <string.h>

enum { SERIAL = 1 << 14 }; /* floats below which threads cost more than they bring */

/* Runs `body` over [0, n) rows, in parallel when the whole is large. */
static void over_rows(const struct mf_backend *be, size_t n, size_t floats,
                      void (*body)(void *arg, size_t i, int thread), void *arg)
{
    struct mf_backend one = *be;
    if (floats < SERIAL)
        one.threads = 1;
    mf_cpu_parallel(&one, n, body, arg);
}

struct add_job {
    const float *x;
    float *y;
    size_t x_rows, rows, width, step; /* step: rows of a task */
    float scale;
};

static void add_rows(void *arg, size_t i, int thread)
{
    (void)thread;
    const struct add_job *job = arg;
    size_t end = (i + 1) * job->step < job->rows ? (i + 1) * job->step : job->rows;
    for (size_t r = i * job->step; r < end; r++) {
        const float *restrict a = job->x + r % job->x_rows * job->width;
        float *restrict b = job->y + r * job->width;
        for (size_t k = 0; k < job->width; k++)
            b[k] += job->scale * a[k];
    }
}

void mf_cpu_add(struct mf_backend *be, const float *x, size_t x_rows, size_t rows, size_t width,
                float scale, float *y)
{
    struct add_job job = {x, y, x_rows, rows, width, SERIAL / (width + 1) + 1, scale};
    over_rows(be, (rows + job.step - 1) / job.step, rows * width, add_rows, &job);
}

struct unfold_job {
    const struct mf_unfold *u;
    const float *x;
    float *y;
    size_t oh, ow, columns;
};

static void unfold_last(const struct mf_unfold *u, const float *image, long y0, long x0, float *out)
{
    for (size_t ky = 0; ky < u->kernel_h; ky++)
        for (size_t kx = 0; kx < u->kernel_w; kx++, out += u->channels) {
            long y = y0 + (long)ky, x = x0 + (long)kx;
            if (y < 0 || x < 0 || y >= (long)u->height || x >= (long)u->width)
                memset(out, 0, u->channels * sizeof *out);
            else
                memcpy(out, image + ((size_t)y * u->width + (size_t)x) * u->channels,
                       u->channels * sizeof *out);
        }
}

static void unfold_first(const struct mf_unfold *u, const float *image, long y0, long x0,
                         float *out)
{
    for (size_t c = 0; c < u->channels; c++)
        for (size_t ky = 0; ky < u->kernel_h; ky++, out += u->kernel_w) {
            long y = y0 + (long)ky;
            const float *row = image + (c * u->height + (size_t)(y < 0 ? 0 : y)) * u->width;
            for (size_t kx = 0; kx < u->kernel_w; kx++) {
                long x = x0 + (long)kx;
                bool inside = y >= 0 && y < (long)u->height && x >= 0 && x < (long)u->width;
                out[kx] = inside ? row[x] : 0;
            }
        }
}

static void unfold_row(void *arg, size_t i, int thread)
{
    (void)thread;
    const struct unfold_job *job = arg;
    const struct mf_unfold *u = job->u;
    size_t b = i / job->oh, oy = i % job->oh;
    const float *image = job->x + b * u->channels * u->height * u->width;
    float *out = job->y + i * job->ow * job->columns;
    for (size_t ox = 0; ox < job->ow; ox++, out += job->columns) {
        long y0 = (long)(oy * u->stride_h) - (long)u->pad_h;
        long x0 = (long)(ox * u->stride_w) - (long)u->pad_w;
        (u->channels_last ? unfold_last : unfold_first)(u, image, y0, x0, out);
    }
}

void mf_cpu_unfold(struct mf_backend *be, const struct mf_unfold *u, const float *x, float *y)
{
    struct unfold_job job = {u,
                             x,
                             y,
                             (u->height + 2 * u->pad_h - u->kernel_h) / u->stride_h + 1,
                             (u->width + 2 * u->pad_w - u->kernel_w) / u->stride_w + 1,
                             u->kernel_h * u->kernel_w * u->channels};
    over_rows(be, u->batch * job.oh, u->batch * job.oh * job.ow * job.columns, unfold_row, &job);
}

struct pool_job {
    const float *x;
    size_t h, w, c, row, sh, sw;
    float *y;
};

static void pool_row(void *arg, size_t i, int thread)
{
    (void)thread;
    const struct pool_job *job = arg;
    size_t oh = job->h / job->sh, ow = job->w / job->sw, b = i / oh, oy = i % oh;
    for (size_t ox = 0; ox < ow; ox++) {
        float *restrict out = job->y + (i * ow + ox) * job->c;
        for (size_t k = 0; k < job->sh * job->sw; k++) {
            size_t at =
                (b * job->h + oy * job->sh + k / job->sw) * job->w + ox * job->sw + k % job->sw;
            const float *restrict in = job->x + at * job->row;
            if (k == 0)
                memcpy(out, in, job->c * sizeof *out);
            for (size_t j = 0; k > 0 && j < job->c; j++)
                out[j] = in[j] > out[j] ? in[j] : out[j];
        }
    }
}

void mf_cpu_max_pool(struct mf_backend *be, const float *x, size_t batch, size_t h, size_t w,
                     size_t c, size_t row, size_t sh, size_t sw, float *y)
{
    struct pool_job job = {x, h, w, c, row, sh, sw, y};
    over_rows(be, batch * (h / sh), batch * h * w * c, pool_row, &job);
}

void mf_cpu_windows(struct mf_backend *be, const float *x, size_t h, size_t w, size_t c, size_t s,
                    float *y)
{
    (void)be;
    size_t across = (w + s - 1) / s, down = (h + s - 1) / s;
    for (size_t wy = 0; wy < down; wy++)
        for (size_t wx = 0; wx < across; wx++)
            for (size_t i = 0; i < s; i++, y += s * c) {
                size_t r = wy * s + i, x0 = wx * s, valid = 0;
                if (r < h)
                    valid = x0 + s <= w ? s : w - x0;
                memcpy(y, x + (r * w + x0) * (valid != 0) * c, valid * c * sizeof *y);
                memset(y + valid * c, 0, (s - valid) * c * sizeof *y);
            }
}

void mf_cpu_unwindows_add(struct mf_backend *be, const float *x, size_t h, size_t w, size_t c,
                          size_t s, float *y)
{
    (void)be;
    size_t across = (w + s - 1) / s;
    for (size_t r = 0; r < h; r++)
        for (size_t wx = 0; wx < across; wx++) {
            const float *in = x + (((r / s) * across + wx) * s + r % s) * s * c;
            size_t valid = wx * s + s <= w ? s : w - wx * s;
            float *out = y + (r * w + wx * s) * c;
            for (size_t i = 0; i < valid * c; i++)
                out[i] += in[i];
        }
}

struct upsample_job {
    const float *x;
    float *y;
    size_t w, c;
};

static void upsample_row(void *arg, size_t r, int thread)
{
    (void)thread;
    const struct upsample_job *job = arg;
    for (size_t col = 0; col < 2 * job->w; col++) {
        const float *restrict in = job->x + (r / 2 * job->w + col / 2) * job->c;
        float *restrict out = job->y + (r * 2 * job->w + col) * job->c;
        for (size_t i = 0; i < job->c; i++)
            out[i] += in[i];
    }
}

void mf_cpu_upsample2_add(struct mf_backend *be, const float *x, size_t h, size_t w, size_t c,
                          float *y)
{
    struct upsample_job job = {x, y, w, c};
    over_rows(be, 2 * h, 4 * h * w * c, upsample_row, &job);
}

void mf_cpu_pixel_shuffle_add(struct mf_backend *be, const float *x, size_t h, size_t w, size_t c,
                              const float *add, float *y)
{
    (void)be;
    for (size_t r = 0; r < h; r++)
        for (size_t col = 0; col < w; col++, x += 4 * c)
            for (size_t k = 0; k < 4; k++) {
                size_t at = ((2 * r + k / 2) * 2 * w + 2 * col + k % 2) * c;
                for (size_t i = 0; i < c; i++)
                    y[at + i] = x[k * c + i] + add[at + i];
            }
}

void mf_cpu_dot_rows(struct mf_backend *be, const float *x, size_t m, size_t k, const float *w,
                     size_t n, float *y)
{
    (void)be;
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            float sum = 0;
            for (size_t d = 0; d < k; d++)
                sum += x[i * k + d] * w[j * k + d];
            y[j * m + i] = sum;
        }
}

void mf_cpu_region_pool(struct mf_backend *be, const float *x, size_t rows, size_t cols,
                        size_t width, size_t r, float *y)
{
    (void)be;
    for (size_t i = 0; i < r; i++)
        for (size_t j = 0; j < r; j++, y += width) {
            size_t y0 = i * rows / r, y1 = ((i + 1) * rows + r - 1) / r;
            size_t x0 = j * cols / r, x1 = ((j + 1) * cols + r - 1) / r;
            float factor = 1.0f / (float)((y1 - y0) * (x1 - x0));
            memset(y, 0, width * sizeof *y);
            for (size_t a = y0; a < y1; a++)
                for (size_t b = x0; b < x1; b++)
                    for (size_t d = 0; d < width; d++)
                        y[d] += x[(a * cols + b) * width + d];
            for (size_t d = 0; d < width; d++)
                y[d] *= factor;
        }
}

void mf_cpu_row_mean(struct mf_backend *be, const float *x, size_t rows, size_t width, float *y)
{
    (void)be;
    memset(y, 0, width * sizeof *y);
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < width; i++)
            y[i] += x[r * width + i];
    for (size_t i = 0; i < width; i++)
        y[i] /= (float)rows;
}

void mf_cpu_reverse_rows(struct mf_backend *be, const float *x, size_t rows, size_t width, float *y)
{
    (void)be;
    for (size_t r = 0; r < rows; r++)
        memcpy(y + r * width, x + (rows - 1 - r) * width, width * sizeof *y);
}
