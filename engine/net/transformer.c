/* The temporal module's transformer: pre-LayerNorm layers with full attention and erf GELU, then a
 * LayerNorm. */
#include "engine/net/net.h"

#include <math.h>

struct layer {
    struct mf_norm norm1, norm2;
    struct mf_linear *qkv, *output, *fc1, *fc2;
};

struct mf_transformer {
    size_t width, heads, hidden, layer_count;
    struct layer *layers;
    struct mf_norm norm;
};

struct mf_transformer *mf_transformer_load(struct mf_loader *ld)
{
    static const char *const QKV[] = {"attention.query", "attention.key", "attention.value"};
    struct mf_transformer *net = mf_loader_alloc(ld, 1, sizeof *net);
    if (!net)
        return NULL;
    size_t d = net->width = mf_loader_int(ld, "hidden_size", 1, 8192, -1);
    net->layer_count = mf_loader_int(ld, "num_hidden_layers", 0, 128, -1);
    net->heads = mf_loader_int(ld, "num_attention_heads", 1, 256, -1);
    net->hidden = mf_loader_int(ld, "intermediate_size", 1, 65536, -1);
    double eps = mf_loader_real(ld, "layer_norm_eps", 1e-5);
    if (d % net->heads)
        mf_loader_fail(ld, "config.json: hidden_size %zu is not a multiple of %zu heads", d,
                       net->heads);
    net->layers = mf_loader_alloc(ld, net->layer_count, sizeof *net->layers);
    for (size_t i = 0; !ld->failed && i < net->layer_count; i++) {
        struct layer *l = &net->layers[i];
        size_t mark = mf_loader_enter(ld, "encoder.layers.%zu.", i);
        l->norm1 = mf_load_norm(ld, "norm1", d, eps);
        l->norm2 = mf_load_norm(ld, "norm2", d, eps);
        l->qkv = mf_load_linears(ld, QKV, 3, d, d, true);
        l->output = mf_load_linear(ld, "attention.output", d, d, true);
        l->fc1 = mf_load_linear(ld, "mlp.fc1", net->hidden, d, true);
        l->fc2 = mf_load_linear(ld, "mlp.fc2", d, net->hidden, true);
        mf_loader_leave(ld, mark);
    }
    net->norm = mf_load_norm(ld, "encoder.norm", d, eps);
    return ld->failed ? NULL : net;
}

static void run_layer(struct mf_exec *x, const struct mf_transformer *net, const struct layer *l,
                      size_t t, float *h)
{
    mf_self_attention(x, &l->norm1, l->qkv, l->output, net->heads, h, 1, t);
    mf_mlp(x, &l->norm2, l->fc1, l->fc2, net->hidden, MF_EPILOGUE_GELU, h, t);
}

void mf_transformer_run(struct mf_exec *x, const struct mf_transformer *net, const float *in,
                        size_t t, float *out)
{
    size_t mark = mf_exec_mark(x);
    float *h = mf_exec_floats(x, t * net->width);
    MF_DO(x, copy, in, t * net->width, h);
    for (size_t i = 0; i < net->layer_count; i++)
        run_layer(x, net, &net->layers[i], t, h);
    MF_DO(x, layer_norm, h, t, net->width, net->norm.weight, net->norm.bias, net->norm.eps, out);
    mf_exec_rewind(x, mark);
}
