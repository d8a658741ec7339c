/* CPU operations of SAM 2's memory: depth-wise convolution and rotary positions. */
#include "engine/cpu/backend.h"

#include <string.h>

struct depthwise_job {
    const float *x, *weight, *bias;
    size_t h, w, c, k;
    float *y;
};

/* Adds one kernel row, `weight` (k, c), over one image row to one output row. */
static void add_kernel_row(const struct depthwise_job *job, const float *row, const float *weight,
                           float *out)
{
    size_t pad = job->k / 2, c = job->c;
    for (size_t ox = 0; ox < job->w; ox++)
        for (size_t kx = 0; kx < job->k; kx++) {
            size_t ix = ox + kx;
            if (ix < pad || ix - pad >= job->w)
                continue;
            const float *restrict in = row + (ix - pad) * c, *restrict f = weight + kx * c;
            float *restrict y = out + ox * c;
            for (size_t i = 0; i < c; i++)
                y[i] += in[i] * f[i];
        }
}

static void depthwise_row(void *arg, size_t oy, int thread)
{
    (void)thread;
    const struct depthwise_job *job = arg;
    size_t pad = job->k / 2, row = job->w * job->c;
    float *out = job->y + oy * row;
    for (size_t ox = 0; ox < job->w; ox++)
        memcpy(out + ox * job->c, job->bias, job->c * sizeof *out);
    for (size_t ky = 0; ky < job->k; ky++) {
        size_t iy = oy + ky;
        if (iy >= pad && iy - pad < job->h)
            add_kernel_row(job, job->x + (iy - pad) * row, job->weight + ky * job->k * job->c, out);
    }
}

void mf_cpu_depthwise(struct mf_backend *be, const float *x, size_t h, size_t w, size_t c,
                      const float *weight, const float *bias, size_t k, float *y)
{
    struct depthwise_job job = {x, weight, bias, h, w, c, k, y};
    mf_cpu_parallel(be, h, depthwise_row, &job);
}

struct rotate_job {
    const float *table;
    size_t period, row, heads, size;
    float *y;
};

static void rotate_row(void *arg, size_t r, int thread)
{
    (void)thread;
    const struct rotate_job *job = arg;
    const float *t = job->table + r % job->period * job->size;
    float *y = job->y + r * job->row;
    for (size_t h = 0; h < job->heads; h++, y += job->size)
        for (size_t i = 0; i < job->size; i += 2) {
            float a = y[i], b = y[i + 1];
            y[i] = a * t[i] - b * t[i + 1];
            y[i + 1] = b * t[i] + a * t[i + 1];
        }
}

void mf_cpu_rotate(struct mf_backend *be, const float *table, size_t period, size_t rows,
                   size_t row, size_t heads, size_t size, float *y)
{
    struct rotate_job job = {table, period, row, heads, size, y};
    mf_cpu_parallel(be, rows, rotate_row, &job);
}
