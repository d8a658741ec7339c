/*
 * Fusion and head (DESIGN.md, "The network", 6): gated cross-attention both ways, readout, Linear →
 * BatchNorm1d → erf GELU → Linear. The gates tanh(g) are folded into the layers they scale, the
 * BatchNorm's running statistics into fc1.
 */
#include "engine/net/net.h"

#include <math.h>
#include <string.h>

struct direction {
    struct mf_norm norm_query, norm_context, norm_ffn;
    struct mf_linear *query, *key_value, *output, *fc1, *fc2;
};

struct mf_fusion {
    size_t width, ehr_width, heads, hidden, layer_count, head_hidden, labels;
    struct mf_linear *ehr_projection, *head1, *head2;
    struct {
        struct direction image, ehr;
    } * layers;
};

/* A scalar gate as the factor of every output of the layer behind it. */
static const float *load_gate(struct mf_loader *ld, const char *name, size_t width)
{
    const float *gate = mf_load_host(ld, name, 0);
    float *factors = mf_loader_alloc(ld, width, sizeof *factors);
    for (size_t i = 0; gate && factors && i < width; i++)
        factors[i] = tanhf(*gate);
    return factors;
}

static void load_direction(struct mf_loader *ld, const struct mf_fusion *net, double eps,
                           const char *name, struct direction *r)
{
    static const char *const KV[] = {"attention.key", "attention.value"};
    size_t d = net->width, mark = mf_loader_enter(ld, "%s.", name);
    r->norm_query = mf_load_norm(ld, "norm_query", d, eps);
    r->norm_context = mf_load_norm(ld, "norm_context", d, eps);
    r->norm_ffn = mf_load_norm(ld, "norm_ffn", d, eps);
    r->query = mf_load_linear(ld, "attention.query", d, d, true);
    r->key_value = mf_load_linears(ld, KV, 2, d, d, true);
    r->output = mf_load_linear_scaled(ld, "attention.output", d, d, true,
                                      load_gate(ld, "gate_attention", d));
    r->fc1 = mf_load_linear(ld, "ffn.fc1", net->hidden, d, true);
    r->fc2 =
        mf_load_linear_scaled(ld, "ffn.fc2", d, net->hidden, true, load_gate(ld, "gate_ffn", d));
    mf_loader_leave(ld, mark);
}

/* fc1 followed by the BatchNorm in evaluation mode, as one layer. */
static void load_head(struct mf_loader *ld, struct mf_fusion *net)
{
    size_t h = net->head_hidden, in = mf_fusion_readout(net);
    double eps = mf_loader_real(ld, "batch_norm_eps", 1e-5);
    const float *weight = mf_load_host(ld, "head.fc1.weight", 2, h, in);
    const float *bias = mf_load_host(ld, "head.fc1.bias", 1, h);
    const float *gamma = mf_load_host(ld, "head.norm.weight", 1, h);
    const float *beta = mf_load_host(ld, "head.norm.bias", 1, h);
    const float *mean = mf_load_host(ld, "head.norm.running_mean", 1, h);
    const float *var = mf_load_host(ld, "head.norm.running_var", 1, h);
    net->head2 = mf_load_linear(ld, "head.fc2", net->labels, h, true);
    float *w = mf_loader_alloc(ld, h * in, sizeof *w), *b = mf_loader_alloc(ld, h, sizeof *b);
    if (ld->failed || !ld->exec)
        return;
    for (size_t i = 0; i < h; i++) {
        if (var[i] < 0) {
            mf_loader_fail(ld, "tensor \"head.norm.running_var\" holds a negative variance");
            return;
        }
        double s = gamma[i] / sqrt((double)var[i] + eps);
        for (size_t j = 0; j < in; j++)
            w[i * in + j] = (float)(s * weight[i * in + j]);
        b[i] = (float)(s * ((double)bias[i] - mean[i]) + beta[i]);
    }
    struct mf_linear_source source = mf_linear_matrix(w, b, h, in);
    source.few_rows = true;
    net->head1 = mf_exec_keep_linear(ld->exec, &source, ld->err);
    ld->failed |= !net->head1;
}

struct mf_fusion *mf_fusion_load(struct mf_loader *ld)
{
    struct mf_fusion *net = mf_loader_alloc(ld, 1, sizeof *net);
    if (!net)
        return NULL;
    ld->few_rows = true; /* tokens of a frame and of the EHR */
    net->width = mf_loader_int(ld, "hidden_size", 1, 8192, -1);
    net->ehr_width = mf_loader_int(ld, "ehr_hidden_size", 1, 8192, 0);
    net->heads = mf_loader_int(ld, "num_attention_heads", 1, 256, -1);
    net->hidden = mf_loader_int(ld, "intermediate_size", 1, 65536, -1);
    net->layer_count = net->ehr_width ? mf_loader_int(ld, "num_layers", 0, 64, -1) : 0;
    net->head_hidden = mf_loader_int(ld, "head_hidden_size", 1, 65536, -1);
    net->labels = mf_loader_int(ld, "num_labels", 1, 4096, -1);
    double eps = mf_loader_real(ld, "layer_norm_eps", 1e-5);
    if (net->width % net->heads)
        mf_loader_fail(ld, "config.json: hidden_size %zu is not a multiple of %zu heads",
                       net->width, net->heads);
    net->layers = mf_loader_alloc(ld, net->layer_count, sizeof *net->layers);
    if (net->ehr_width)
        net->ehr_projection =
            mf_load_linear(ld, "ehr_projection", net->width, net->ehr_width, true);
    for (size_t i = 0; !ld->failed && i < net->layer_count; i++) {
        size_t mark = mf_loader_enter(ld, "layers.%zu.", i);
        load_direction(ld, net, eps, "image", &net->layers[i].image);
        load_direction(ld, net, eps, "ehr", &net->layers[i].ehr);
        mf_loader_leave(ld, mark);
    }
    load_head(ld, net);
    return ld->failed ? NULL : net;
}

size_t mf_fusion_width(const struct mf_fusion *net)
{
    return net->width;
}

size_t mf_fusion_ehr_width(const struct mf_fusion *net)
{
    return net->ehr_width;
}

size_t mf_fusion_labels(const struct mf_fusion *net)
{
    return net->labels;
}

size_t mf_fusion_readout(const struct mf_fusion *net)
{
    return net->width * (net->ehr_width ? 4 : 3);
}

size_t mf_fusion_head_width(const struct mf_fusion *net)
{
    return net->head_hidden;
}

size_t mf_fusion_layers(const struct mf_fusion *net)
{
    return net->layer_count;
}

/* in (m, d) reading context (n, d) → out (m, d) */
static void run_direction(struct mf_exec *x, const struct mf_fusion *net, const struct direction *r,
                          const float *in, size_t m, const float *context, size_t n, float *out)
{
    size_t d = net->width, mark = mf_exec_mark(x);
    float *y = mf_exec_floats(x, m * d), *c = mf_exec_floats(x, n * d);
    float *q = mf_exec_floats(x, m * d), *kv = mf_exec_floats(x, n * 2 * d);
    float *wide = mf_exec_floats(x, m * net->hidden);
    struct mf_attention at = {1,
                              net->heads,
                              d / net->heads,
                              m,
                              n,
                              d,
                              2 * d,
                              2 * d,
                              d,
                              0,
                              0,
                              0,
                              0,
                              mf_attention_scale(d / net->heads)};
    MF_DO(x, copy, in, m * d, out);
    MF_DO(x, layer_norm, in, m, d, r->norm_query.weight, r->norm_query.bias, r->norm_query.eps, y);
    MF_DO(x, layer_norm, context, n, d, r->norm_context.weight, r->norm_context.bias,
          r->norm_context.eps, c);
    mf_linear(x, r->query, y, m, q, MF_EPILOGUE_NONE);
    mf_linear(x, r->key_value, c, n, kv, MF_EPILOGUE_NONE);
    mf_attend(x, &at, q, kv, kv + d, y);
    mf_linear(x, r->output, y, m, out, MF_EPILOGUE_ADD);
    MF_DO(x, layer_norm, out, m, d, r->norm_ffn.weight, r->norm_ffn.bias, r->norm_ffn.eps, y);
    mf_linear(x, r->fc1, y, m, wide, MF_EPILOGUE_GELU);
    mf_linear(x, r->fc2, wide, m, out, MF_EPILOGUE_ADD);
    mf_exec_rewind(x, mark);
}

void mf_fusion_fuse(struct mf_exec *x, const struct mf_fusion *net, float *image, size_t t,
                    const float *ehr, size_t n, float *fused_ehr)
{
    if (!net->ehr_width)
        return;
    size_t d = net->width, mark = mf_exec_mark(x);
    float *new_image = mf_exec_floats(x, t * d), *new_ehr = mf_exec_floats(x, n * d);
    mf_linear(x, net->ehr_projection, ehr, n, fused_ehr, MF_EPILOGUE_NONE);
    for (size_t i = 0; i < net->layer_count; i++) {
        run_direction(x, net, &net->layers[i].image, image, t, fused_ehr, n, new_image);
        run_direction(x, net, &net->layers[i].ehr, fused_ehr, n, image, t, new_ehr);
        MF_DO(x, copy, new_image, t * d, image);
        MF_DO(x, copy, new_ehr, n * d, fused_ehr);
    }
    mf_exec_rewind(x, mark);
}

void mf_fusion_read(struct mf_exec *x, const struct mf_fusion *net, const float *image, size_t t,
                    size_t tokens_per_frame, const float *fused_ehr, float *readout)
{
    size_t d = net->width, newest = t - tokens_per_frame;
    MF_DO(x, copy, image + (t - 1) * d, d, readout);
    MF_DO(x, row_mean, image + newest * d, tokens_per_frame - 1, d, readout + d);
    MF_DO(x, row_mean, image, t, d, readout + 2 * d);
    if (net->ehr_width)
        MF_DO(x, copy, fused_ehr, d, readout + 3 * d);
}

void mf_fusion_head(struct mf_exec *x, const struct mf_fusion *net, const float *readout,
                    float *logits)
{
    size_t mark = mf_exec_mark(x);
    float *h = mf_exec_floats(x, net->head_hidden);
    mf_linear(x, net->head1, readout, 1, h, MF_EPILOGUE_GELU);
    mf_linear(x, net->head2, h, 1, logits, MF_EPILOGUE_NONE);
    mf_exec_rewind(x, mark);
}
