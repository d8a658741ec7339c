/*
 * FT-Transformer (rtdl_revisiting_models): one token a feature, numeric then categorical, CLS
 * first. The first attention reads unnormalised tokens; ReGLU a·relu(b). config.json has a bundle's
 * names or those of rtdl's constructor. A bundle's module has a learned token for each missing
 * feature, which replaces value embedding and bias; rtdl's has a head on CLS instead.
 */
#include "engine/net/net.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FEATURES = 4096 };

struct block {
    struct mf_norm attention_norm, ffn_norm;
    bool normalised;
    struct mf_linear *qkv, *out, *linear1, *linear2;
};

struct mf_ft {
    size_t width, heads, hidden, block_count, numeric, categorical, outputs;
    size_t *cardinalities;
    bool only_cls, relu; /* relu: without the gate */
    struct block *blocks;
    float *cls, *cont_weight, *cont_bias, *cat_bias, *missing; /* host */
    float **cat_tables;
    float *tokens; /* host, (1 + features, width) */
    struct mf_norm head_norm;
    struct mf_linear *head;
};

static void load_block(struct mf_loader *ld, const struct mf_ft *net, size_t i, struct block *b)
{
    static const char *const QKV[] = {"attention.W_q", "attention.W_k", "attention.W_v"};
    size_t d = net->width, mark = mf_loader_enter(ld, "backbone.blocks.%zu.", i);
    b->normalised = i > 0;
    if (b->normalised)
        b->attention_norm = mf_load_norm(ld, "attention_normalization", d, 1e-5);
    b->ffn_norm = mf_load_norm(ld, "ffn_normalization", d, 1e-5);
    b->qkv = mf_load_linears(ld, QKV, 3, d, d, true);
    if (net->heads > 1)
        b->out = mf_load_linear(ld, "attention.W_out", d, d, true);
    b->linear1 =
        mf_load_linear(ld, "ffn.linear1", net->relu ? net->hidden : 2 * net->hidden, d, true);
    b->linear2 = mf_load_linear(ld, "ffn.linear2", d, net->hidden, true);
    mf_loader_leave(ld, mark);
}

static void load_embeddings(struct mf_loader *ld, struct mf_ft *net)
{
    size_t d = net->width, one = 1;
    const struct mf_tensor *cls = mf_weights_find(ld->weights, "cls_embedding.weight");
    net->cls = cls && cls->rank == 1 ? mf_load_host(ld, "cls_embedding.weight", 1, d)
                                     : mf_load_host(ld, "cls_embedding.weight", 2, one, d);
    if (net->numeric) {
        net->cont_weight = mf_load_host(ld, "cont_embeddings.weight", 2, net->numeric, d);
        net->cont_bias = mf_load_host(ld, "cont_embeddings.bias", 2, net->numeric, d);
    }
    net->cat_tables = mf_loader_alloc(ld, net->categorical, sizeof *net->cat_tables);
    for (size_t i = 0; !ld->failed && i < net->categorical; i++) {
        size_t mark = mf_loader_enter(ld, "cat_embeddings.embeddings.%zu.", i);
        net->cat_tables[i] = mf_load_host(ld, "weight", 2, net->cardinalities[i], d);
        mf_loader_leave(ld, mark);
    }
    if (net->categorical)
        net->cat_bias = mf_load_host(ld, "cat_embeddings.bias", 2, net->categorical, d);
    if (mf_loader_has(ld, "missing_embeddings.weight"))
        net->missing =
            mf_load_host(ld, "missing_embeddings.weight", 2, net->numeric + net->categorical, d);
    net->tokens =
        mf_loader_alloc(ld, (1 + net->numeric + net->categorical) * d, sizeof *net->tokens);
}

/* A number under its bundle's name or rtdl's. */
static size_t either(struct mf_loader *ld, const char *ours, const char *theirs, long long min,
                     long long max)
{
    return mf_loader_int(ld, mf_loader_config(ld, theirs) ? theirs : ours, min, max, -1);
}

static size_t load_hidden(struct mf_loader *ld, const struct mf_ft *net)
{
    const json_t *hidden = mf_loader_config(ld, "ffn_d_hidden");
    double times = mf_loader_real(ld, "ffn_d_hidden_multiplier", 0);
    if ((hidden && !json_is_null(hidden)) || times <= 0 || times > 64)
        return mf_loader_int(ld, "ffn_d_hidden", 1, 65536, -1);
    return (size_t)((double)net->width * times);
}

/* What the model answers with: all tokens, CLS, or rtdl's head on CLS. */
static void load_output(struct mf_loader *ld, struct mf_ft *net)
{
    const char *output = json_string_value(mf_loader_config(ld, "output_tokens"));
    const char *activation = json_string_value(mf_loader_config(ld, "ffn_activation"));
    net->relu = activation && strcmp(activation, "ReLU") == 0;
    if (activation && !net->relu && strcmp(activation, "ReGLU") != 0)
        mf_loader_fail(ld, "config.json: \"ffn_activation\" must be ReGLU or ReLU");
    net->only_cls = output ? strcmp(output, "cls") == 0 : mf_loader_config(ld, "d_block") != NULL;
    if (!net->only_cls && (!output || strcmp(output, "all") != 0))
        mf_loader_fail(ld, "config.json: \"output_tokens\" must be all or cls");
    net->outputs = mf_loader_int(ld, "d_out", 1, 65536, 0);
    if (net->outputs && !net->only_cls)
        mf_loader_fail(ld, "config.json: with \"d_out\", \"output_tokens\" must be cls");
}

static void load_head(struct mf_loader *ld, struct mf_ft *net)
{
    size_t mark = mf_loader_enter(ld, "backbone.output.");
    net->head_norm = mf_load_norm(ld, "normalization", net->width, 1e-5);
    net->head = mf_load_linear(ld, "linear", net->outputs, net->width, true);
    mf_loader_leave(ld, mark);
}

struct mf_ft *mf_ft_load(struct mf_loader *ld)
{
    struct mf_ft *net = mf_loader_alloc(ld, 1, sizeof *net);
    if (!net)
        return NULL;
    ld->few_rows = true; /* a token a feature */
    net->width = either(ld, "d_token", "d_block", 1, 4096);
    net->heads = mf_loader_int(ld, "attention_n_heads", 1, 128, -1);
    net->hidden = load_hidden(ld, net);
    net->block_count = mf_loader_int(ld, "n_blocks", 1, 64, -1);
    net->numeric = either(ld, "n_cont", "n_cont_features", 0, MAX_FEATURES);
    const json_t *cats = mf_loader_config(ld, "cat_cardinalities");
    net->categorical = json_array_size(cats);
    if (!json_is_array(cats) || net->categorical > MAX_FEATURES ||
        net->numeric + net->categorical == 0)
        mf_loader_fail(
            ld, "config.json: \"cat_cardinalities\" must be an array, and there must be features");
    if (net->width % net->heads)
        mf_loader_fail(ld, "config.json: d_token %zu is not a multiple of %zu heads", net->width,
                       net->heads);
    load_output(ld, net);
    net->cardinalities = mf_loader_alloc(ld, net->categorical, sizeof *net->cardinalities);
    net->blocks = mf_loader_alloc(ld, net->block_count, sizeof *net->blocks);
    if (ld->failed)
        return NULL;
    mf_loader_ints(ld, "cat_cardinalities", 1, 65536, net->categorical, net->cardinalities);
    load_embeddings(ld, net);
    for (size_t i = 0; i < net->block_count; i++)
        load_block(ld, net, i, &net->blocks[i]);
    if (net->outputs)
        load_head(ld, net);
    return ld->failed ? NULL : net;
}

size_t mf_ft_width(const struct mf_ft *net)
{
    return net->width;
}

size_t mf_ft_numeric(const struct mf_ft *net)
{
    return net->numeric;
}

size_t mf_ft_categorical(const struct mf_ft *net)
{
    return net->categorical;
}

size_t mf_ft_cardinality(const struct mf_ft *net, size_t i)
{
    return net->cardinalities[i];
}

size_t mf_ft_output_tokens(const struct mf_ft *net)
{
    return net->only_cls ? 1 : 1 + net->numeric + net->categorical;
}

bool mf_ft_takes_missing(const struct mf_ft *net)
{
    return net->missing != NULL;
}

size_t mf_ft_outputs(const struct mf_ft *net)
{
    return net->outputs;
}

void mf_ft_head(struct mf_exec *x, const struct mf_ft *net, const float *hidden, float *logits)
{
    size_t mark = mf_exec_mark(x);
    float *y = mf_exec_floats(x, net->width);
    MF_DO(x, layer_norm, hidden, 1, net->width, net->head_norm.weight, net->head_norm.bias,
          net->head_norm.eps, y);
    MF_DO(x, unary, MF_UNARY_RELU, y, net->width, y);
    mf_linear(x, net->head, y, 1, logits, MF_EPILOGUE_NONE);
    mf_exec_rewind(x, mark);
}

static void make_tokens(const struct mf_ft *net, const float *x_cont, const size_t *x_cat,
                        const unsigned char *missing)
{
    size_t d = net->width, n = net->numeric + net->categorical;
    memcpy(net->tokens, net->cls, d * sizeof(float));
    for (size_t i = 0; i < n; i++) {
        float *token = net->tokens + (1 + i) * d;
        size_t c = i - net->numeric;
        for (size_t k = 0; k < d; k++) {
            if (missing[i] && net->missing)
                token[k] = net->missing[i * d + k];
            else if (i < net->numeric)
                token[k] = x_cont[i] * net->cont_weight[i * d + k] + net->cont_bias[i * d + k];
            else
                token[k] = net->cat_tables[c][x_cat[c] * d + k] + net->cat_bias[c * d + k];
        }
    }
}

/* h (n, d) += attention and feed-forward; with `only_cls` row 0 alone. */
static void run_block(struct mf_exec *x, const struct mf_ft *net, const struct block *b, size_t n,
                      bool only_cls, float *h)
{
    size_t d = net->width, rows = only_cls ? 1 : n, mark = mf_exec_mark(x);
    float *y = mf_exec_floats(x, n * d);
    float *qkv = mf_exec_floats(x, n * 3 * d);
    float *wide = mf_exec_floats(x, n * 2 * net->hidden);
    float *gated = mf_exec_floats(x, n * net->hidden);
    struct mf_attention at = {1,
                              net->heads,
                              d / net->heads,
                              rows,
                              n,
                              3 * d,
                              3 * d,
                              3 * d,
                              d,
                              0,
                              0,
                              0,
                              0,
                              mf_attention_scale(d / net->heads)};
    if (b->normalised)
        MF_DO(x, layer_norm, h, n, d, b->attention_norm.weight, b->attention_norm.bias,
              b->attention_norm.eps, y);
    else
        MF_DO(x, copy, h, n * d, y);
    mf_linear(x, b->qkv, y, n, qkv, MF_EPILOGUE_NONE);
    mf_attend(x, &at, qkv, qkv + d, qkv + 2 * d, y);
    if (b->out)
        mf_linear(x, b->out, y, rows, h, MF_EPILOGUE_ADD);
    else
        MF_DO(x, add, y, rows, rows, d, 1, h);
    MF_DO(x, layer_norm, h, rows, d, b->ffn_norm.weight, b->ffn_norm.bias, b->ffn_norm.eps, y);
    mf_linear(x, b->linear1, y, rows, net->relu ? gated : wide,
              net->relu ? MF_EPILOGUE_RELU : MF_EPILOGUE_NONE);
    if (!net->relu)
        MF_DO(x, glu, MF_GLU_RELU, wide, rows, net->hidden, gated);
    mf_linear(x, b->linear2, gated, rows, h, MF_EPILOGUE_ADD);
    mf_exec_rewind(x, mark);
}

void mf_ft_run(struct mf_exec *x, const struct mf_ft *net, const float *x_cont, const size_t *x_cat,
               const unsigned char *missing, float *out)
{
    size_t n = 1 + net->numeric + net->categorical, mark = mf_exec_mark(x);
    float *h = mf_exec_floats(x, n * net->width);
    if (mf_exec_live(x))
        make_tokens(net, x_cont, x_cat, missing);
    MF_DO(x, upload, h, net->tokens, n * net->width);
    for (size_t i = 0; i < net->block_count; i++)
        run_block(x, net, &net->blocks[i], n, net->only_cls && i + 1 == net->block_count, h);
    MF_DO(x, copy, h, mf_ft_output_tokens(net) * net->width, out);
    mf_exec_rewind(x, mark);
}
