/* Norms, activations and Mamba's convolution and scan. Compiled once for each instruction set
 * (vec.h). */
#include "engine/cpu/kernels.h"
#include "engine/cpu/vec.h"

static void norm_row(const float *x, size_t width, const float *weight, const float *bias,
                     float mean, float factor, float *y)
{
    size_t i = 0;
    for (; i + W <= width; i += W) {
        vf v = (load(x + i) - mean) * factor * load(weight + i);
        store(y + i, bias ? v + load(bias + i) : v);
    }
    for (; i < width; i++)
        y[i] = (x[i] - mean) * factor * weight[i] + (bias ? bias[i] : 0);
}

void MF_KERNEL(mf_cpu_layer_norm)(const float *x, size_t rows, size_t width, const float *weight,
                                  const float *bias, float eps, float *y)
{
    for (size_t r = 0; r < rows; r++, x += width, y += width) {
        vf total = {0};
        size_t i = 0;
        for (; i + W <= width; i += W)
            total += load(x + i);
        float sum = sum_lanes(total);
        for (; i < width; i++)
            sum += x[i];
        float mean = sum / (float)width;
        total = (vf){0};
        for (i = 0; i + W <= width; i += W) {
            vf d = load(x + i) - mean;
            total += d * d;
        }
        float squares = sum_lanes(total);
        for (; i < width; i++)
            squares += (x[i] - mean) * (x[i] - mean);
        norm_row(x, width, weight, bias, mean, 1.0f / sqrtf(squares / (float)width + eps), y);
    }
}

void MF_KERNEL(mf_cpu_rms_norm)(const float *x, size_t rows, size_t width, const float *weight,
                                float eps, float *y)
{
    for (size_t r = 0; r < rows; r++, x += width, y += width) {
        vf total = {0};
        size_t i = 0;
        for (; i + W <= width; i += W)
            total += load(x + i) * load(x + i);
        float squares = sum_lanes(total);
        for (; i < width; i++)
            squares += x[i] * x[i];
        norm_row(x, width, weight, NULL, 0, 1.0f / sqrtf(squares / (float)width + eps), y);
    }
}

MF_INLINE vf apply(enum mf_unary op, vf x)
{
    switch (op) {
    case MF_UNARY_GELU:
        return 0.5f * x * (1.0f + verf(x * 0.70710678f));
    case MF_UNARY_RELU:
        return vmax(x, (vf){0});
    case MF_UNARY_SILU:
        return x * vsigmoid(x);
    case MF_UNARY_SIGMOID:
        return vsigmoid(x);
    case MF_UNARY_TANH:
        return 2.0f * vsigmoid(2.0f * x) - 1.0f;
    }
    return x;
}

MF_INLINE void unary_loop(enum mf_unary op, const float *x, size_t n, float *y)
{
    size_t i = 0;
    for (; i + W <= n; i += W)
        store(y + i, apply(op, load(x + i)));
    if (i < n)
        store_some(y + i, apply(op, load_some(x + i, n - i)), n - i);
}

void MF_KERNEL(mf_cpu_unary)(enum mf_unary op, const float *x, size_t n, float *y)
{
    switch (op) { /* one loop for each operation */
    case MF_UNARY_GELU:
        unary_loop(MF_UNARY_GELU, x, n, y);
        break;
    case MF_UNARY_RELU:
        unary_loop(MF_UNARY_RELU, x, n, y);
        break;
    case MF_UNARY_SILU:
        unary_loop(MF_UNARY_SILU, x, n, y);
        break;
    case MF_UNARY_SIGMOID:
        unary_loop(MF_UNARY_SIGMOID, x, n, y);
        break;
    case MF_UNARY_TANH:
        unary_loop(MF_UNARY_TANH, x, n, y);
        break;
    }
}

MF_INLINE vf gated(enum mf_glu op, vf a, vf b)
{
    return op == MF_GLU_RELU ? a * vmax(b, (vf){0}) : a * vsigmoid(a) * b;
}

void MF_KERNEL(mf_cpu_glu)(enum mf_glu op, const float *x, size_t rows, size_t half, float *y)
{
    for (size_t r = 0; r < rows; r++, x += 2 * half, y += half) {
        size_t i = 0;
        for (; i + W <= half; i += W)
            store(y + i, gated(op, load(x + i), load(x + half + i)));
        if (i < half)
            store_some(y + i,
                       gated(op, load_some(x + i, half - i), load_some(x + half + i, half - i)),
                       half - i);
    }
}

void MF_KERNEL(mf_cpu_causal_conv)(const float *x, size_t begin, size_t end, size_t c, size_t x_row,
                                   const float *weight, const float *bias, size_t k, float *y)
{
    for (size_t t = begin; t < end; t++) {
        size_t first = t + 1 >= k ? 0 : k - 1 - t; /* taps before the sequence are zero */
        for (size_t i = 0; i < c; i += W) {
            size_t n = c - i < W ? c - i : W;
            vf sum = n < W ? load_some(bias + i, n) : load(bias + i);
            for (size_t j = first; j < k; j++) {
                const float *row = x + (t + j + 1 - k) * x_row + i, *tap = weight + j * c + i;
                sum += n < W ? load_some(row, n) * load_some(tap, n) : load(row) * load(tap);
            }
            vf out = sum * vsigmoid(sum);
            if (n < W)
                store_some(y + t * c + i, out, n);
            else
                store(y + t * c + i, out);
        }
    }
}

void MF_KERNEL(mf_cpu_weighted_sum)(const float *const *rows, const float *weights, size_t count,
                                    size_t n, bool add, float *out)
{
    size_t i = 0;
    for (; i + 2 * W <= n; i += 2 * W) {
        vf a = add ? load(out + i) : (vf){0}, b = add ? load(out + i + W) : (vf){0};
        for (size_t j = 0; j < count; j++) {
            a += weights[j] * load(rows[j] + i);
            b += weights[j] * load(rows[j] + i + W);
        }
        store(out + i, a);
        store(out + i + W, b);
    }
    for (; i < n; i++) {
        float sum = add ? out[i] : 0;
        for (size_t j = 0; j < count; j++)
            sum += weights[j] * rows[j][i];
        out[i] = sum;
    }
}

enum { MAX_STATES = 256 };

/* W channels (n of them real) through all steps; `states` is a constant where it is inlined so. */
MF_INLINE void scan_block(const struct mf_scan *s, size_t channel, size_t n, size_t states,
                          float *y)
{
    vf h[MAX_STATES], a[MAX_STATES];
    for (size_t j = 0; j < states; j++) {
        h[j] = (vf){0};
        a[j] = load_some(s->a + j * s->channels + channel, n) * 1.44269504f; /* e^x = 2^(x log₂e) */
    }
    vf d = load_some(s->d + channel, n);
    for (size_t t = 0; t < s->length; t++) {
        size_t at = t * s->channels + channel;
        vf u = n < W ? load_some(s->u + at, n) : load(s->u + at);
        vf dt = vsoftplus(n < W ? load_some(s->dt + at, n) : load(s->dt + at));
        vf du = dt * u, sum = d * u;
        const float *b = s->b + t * s->bc_row, *c = s->c + t * s->bc_row;
        for (size_t j = 0; j < states; j++) {
            h[j] = vexp2(dt * a[j]) * h[j] + du * b[j];
            sum += c[j] * h[j];
        }
        const float *zp = s->z + t * s->z_row + channel;
        vf z = n < W ? load_some(zp, n) : load(zp);
        sum *= z * vsigmoid(z);
        if (n < W)
            store_some(y + at, sum, n);
        else
            store(y + at, sum);
    }
}

void MF_KERNEL(mf_cpu_selective_scan)(const struct mf_scan *s, size_t begin, size_t end, float *y)
{
    for (size_t i = begin; i < end; i += W) {
        size_t n = end - i < W ? end - i : W;
        if (s->states == 16)
            scan_block(s, i, n, 16, y);
        else if (s->states == 8)
            scan_block(s, i, n, 8, y);
        else
            scan_block(s, i, n, s->states, y);
    }
}

const struct cpu_kernels MF_CAT(mf_cpu_kernels, MF_ISA) = {
    .isa = MF_ISA_NAME,
    .width = W,
    .layer_norm = MF_KERNEL(mf_cpu_layer_norm),
    .rms_norm = MF_KERNEL(mf_cpu_rms_norm),
    .unary = MF_KERNEL(mf_cpu_unary),
    .glu = MF_KERNEL(mf_cpu_glu),
    .attention_floats = MF_KERNEL(mf_cpu_attention_floats),
    .attention = MF_KERNEL(mf_cpu_attention),
    .causal_conv = MF_KERNEL(mf_cpu_causal_conv),
    .weighted_sum = MF_KERNEL(mf_cpu_weighted_sum),
    .selective_scan = MF_KERNEL(mf_cpu_selective_scan),
};
