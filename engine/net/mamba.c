/*
 * Mamba, as Hugging Face's MambaModel without word embeddings: pre-RMSNorm blocks of selective
 * state spaces, then norm_f.
 *   x, z = in_proj;  x = silu(causal conv x);  dt, B, C = x_proj x
 *   h = e^(dt·A)·h + dt·B·x;  y = (C·h + D·x)·silu(z)
 */
#include "engine/net/net.h"

#include <math.h>

struct layer {
    struct mf_norm norm;
    struct mf_linear *in_proj, *x_proj, *dt_proj, *out_proj;
    const float *conv_weight, *conv_bias; /* (k, inner), (inner) */
    const float *a, *d;                   /* (states, inner), (inner) */
};

struct mf_mamba {
    size_t width, inner, states, rank, kernel, layer_count;
    struct layer *layers;
    struct mf_norm norm_f;
};

/* (rows, cols) → (cols, rows) on the device, each element through `map`. */
static const float *upload_transposed(struct mf_loader *ld, const float *host, size_t rows,
                                      size_t cols, float (*map)(float))
{
    float *t = host ? mf_loader_alloc(ld, rows * cols, sizeof *t) : NULL;
    for (size_t i = 0; t && i < rows; i++)
        for (size_t j = 0; j < cols; j++)
            t[j * rows + i] = map(host[i * cols + j]);
    return t ? mf_load_upload(ld, t, rows * cols) : NULL;
}

static float same(float x)
{
    return x;
}

static float minus_exp(float x)
{
    return -expf(x);
}

/* What steers the recurrence (x_proj, dt_proj) keeps 16 bits, as errors there add up; 8-bit
 * integers before and behind it (in_proj, out_proj) are too coarse: cosine .98 of a network of 48
 * layers. */
static void load_layer(struct mf_loader *ld, const struct mf_mamba *net, double eps, bool bias,
                       bool conv_bias, struct layer *l)
{
    size_t inner = net->inner, one = 1;
    l->norm = mf_load_rms_norm(ld, "norm", net->width, eps);
    size_t mark = mf_loader_enter(ld, "mixer.");
    mf_loader_precision(ld, MF_PRECISION_BF16);
    l->in_proj = mf_load_linear(ld, "in_proj", 2 * inner, net->width, bias);
    mf_loader_precision(ld, MF_PRECISION_16_BITS);
    l->x_proj = mf_load_linear(ld, "x_proj", net->rank + 2 * net->states, inner, false);
    l->dt_proj = mf_load_linear(ld, "dt_proj", inner, net->rank, true);
    mf_loader_precision(ld, MF_PRECISION_BF16);
    l->out_proj = mf_load_linear(ld, "out_proj", net->width, inner, bias);
    mf_loader_precision(ld, MF_PRECISION_DTYPE);
    const float *conv = mf_load_host(ld, "conv1d.weight", 3, inner, one, net->kernel);
    l->conv_weight = upload_transposed(ld, conv, inner, net->kernel, same);
    if (conv_bias) {
        l->conv_bias = mf_load_vector(ld, "conv1d.bias", inner);
    } else {
        const float *zeros = mf_loader_alloc(ld, inner, sizeof *zeros);
        l->conv_bias = zeros ? mf_load_upload(ld, zeros, inner) : NULL;
    }
    const float *a = mf_load_host(ld, "A_log", 2, inner, net->states);
    l->a = upload_transposed(ld, a, inner, net->states, minus_exp);
    l->d = mf_load_vector(ld, "D", inner);
    mf_loader_leave(ld, mark);
}

struct mf_mamba *mf_mamba_load(struct mf_loader *ld)
{
    struct mf_mamba *net = mf_loader_alloc(ld, 1, sizeof *net);
    if (!net)
        return NULL;
    net->width = mf_loader_int(ld, "hidden_size", 1, 8192, -1);
    net->states = mf_loader_int(ld, "state_size", 1, 256, -1);
    net->rank = mf_loader_int(ld, "time_step_rank", 1, 1024, -1);
    net->kernel = mf_loader_int(ld, "conv_kernel", 1, 64, -1);
    net->layer_count = mf_loader_int(ld, "num_hidden_layers", 1, 256, -1);
    net->inner = net->width * mf_loader_int(ld, "expand", 1, 16, 2);
    net->layers = mf_loader_alloc(ld, net->layer_count, sizeof *net->layers);
    double eps = mf_loader_real(ld, "layer_norm_epsilon", 1e-5);
    bool bias = mf_loader_bool(ld, "use_bias", false);
    bool conv_bias = mf_loader_bool(ld, "use_conv_bias", true);
    for (size_t i = 0; !ld->failed && i < net->layer_count; i++) {
        size_t mark = mf_loader_enter(ld, "layers.%zu.", i);
        load_layer(ld, net, eps, bias, conv_bias, &net->layers[i]);
        mf_loader_leave(ld, mark);
    }
    net->norm_f = mf_load_rms_norm(ld, "norm_f", net->width, eps);
    return ld->failed ? NULL : net;
}

size_t mf_mamba_width(const struct mf_mamba *net)
{
    return net->width;
}

static void run_layer(struct mf_exec *x, const struct mf_mamba *net, const struct layer *l,
                      size_t t, float *h)
{
    size_t inner = net->inner, wide = net->rank + 2 * net->states, mark = mf_exec_mark(x);
    float *y = mf_exec_floats(x, t * net->width);
    float *xz = mf_exec_floats(x, t * 2 * inner);
    float *u = mf_exec_floats(x, t * inner);
    float *dbc = mf_exec_floats(x, t * wide);
    float *dt = mf_exec_floats(x, t * inner);
    float *out = mf_exec_floats(x, t * inner);
    MF_DO(x, rms_norm, h, t, net->width, l->norm.weight, l->norm.eps, y);
    mf_linear(x, l->in_proj, y, t, xz, MF_EPILOGUE_NONE);
    MF_DO(x, causal_conv, xz, t, inner, 2 * inner, l->conv_weight, l->conv_bias, net->kernel, u);
    mf_linear(x, l->x_proj, u, t, dbc, MF_EPILOGUE_NONE);
    mf_linear_strided(x, l->dt_proj, dbc, t, wide, dt, MF_EPILOGUE_NONE);
    struct mf_scan scan = {.length = t,
                           .channels = inner,
                           .states = net->states,
                           .u = u,
                           .dt = dt,
                           .b = dbc + net->rank,
                           .c = dbc + net->rank + net->states,
                           .bc_row = wide,
                           .a = l->a,
                           .d = l->d,
                           .z = xz + inner,
                           .z_row = 2 * inner};
    MF_DO(x, selective_scan, &scan, out);
    mf_linear(x, l->out_proj, out, t, h, MF_EPILOGUE_ADD);
    mf_exec_rewind(x, mark);
}

void mf_mamba_run(struct mf_exec *x, const struct mf_mamba *net, const float *in, size_t t,
                  float *out)
{
    size_t mark = mf_exec_mark(x);
    float *h = mf_exec_floats(x, t * net->width);
    MF_DO(x, copy, in, t * net->width, h);
    for (size_t i = 0; i < net->layer_count; i++)
        run_layer(x, net, &net->layers[i], t, h);
    MF_DO(x, rms_norm, h, t, net->width, net->norm_f.weight, net->norm_f.eps, out);
    mf_exec_rewind(x, mark);
}
