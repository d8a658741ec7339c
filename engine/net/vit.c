/*
 * Vision transformers: Hugging Face's Dinov2Model, Dinov2WithRegistersModel and ViTModel, image to
 * tokens. Pre-LayerNorm blocks with erf GELU (or SwiGLU); LayerScale is folded into the layers
 * before it; Q, K and V are one product.
 */
#include "engine/net/net.h"
#include "engine/resample.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { GRIDS = 8 };

const char *const mf_vit_head_names[] = {"classifier.", NULL};

struct layer {
    struct mf_norm norm1, norm2;
    struct mf_linear *qkv, *output, *fc1, *fc2;
};

struct mf_vit {
    enum mf_vit_layout layout;
    size_t width, layer_count, heads, patch, channels, registers, hidden;
    size_t rows, cols; /* grid of the stored position embedding */
    bool swiglu;
    struct layer *layers;
    struct mf_linear *projection, *pooler;
    struct mf_norm norm;
    float *cls, *position, *register_tokens; /* host */
    struct grid {
        size_t rows, cols;
        const float *prefix;  /* (1 + registers, width): CLS with its position, registers */
        const float *patches; /* (rows · cols, width): positions */
    } grids[GRIDS];
    size_t grid_count;
};

static void load_attention(struct mf_loader *ld, struct layer *l, size_t d, bool bias,
                           const float *scale)
{
    static const char *const QKV[] = {"attention.attention.query", "attention.attention.key",
                                      "attention.attention.value"};
    l->qkv = mf_load_linears(ld, QKV, 3, d, d, bias);
    l->output = mf_load_linear_scaled(ld, "attention.output.dense", d, d, true, scale);
}

static void load_layer(struct mf_loader *ld, const struct mf_vit *v, double eps, bool bias,
                       struct layer *l)
{
    size_t d = v->width;
    bool dinov2 = v->layout != MF_VIT_VIT;
    l->norm1 = mf_load_norm(ld, dinov2 ? "norm1" : "layernorm_before", d, eps);
    l->norm2 = mf_load_norm(ld, dinov2 ? "norm2" : "layernorm_after", d, eps);
    const float *scale1 = dinov2 ? mf_load_host(ld, "layer_scale1.lambda1", 1, d) : NULL;
    const float *scale2 = dinov2 ? mf_load_host(ld, "layer_scale2.lambda1", 1, d) : NULL;
    load_attention(ld, l, d, bias, scale1);
    if (v->swiglu) {
        l->fc1 = mf_load_linear(ld, "mlp.weights_in", 2 * v->hidden, d, true);
        l->fc2 = mf_load_linear_scaled(ld, "mlp.weights_out", d, v->hidden, true, scale2);
        return;
    }
    l->fc1 = mf_load_linear(ld, dinov2 ? "mlp.fc1" : "intermediate.dense", v->hidden, d, true);
    l->fc2 =
        mf_load_linear_scaled(ld, dinov2 ? "mlp.fc2" : "output.dense", d, v->hidden, true, scale2);
}

static void load_sizes(struct mf_loader *ld, struct mf_vit *v)
{
    size_t image[2], d;
    v->width = d = mf_loader_int(ld, "hidden_size", 1, 8192, -1);
    v->layer_count = mf_loader_int(ld, "num_hidden_layers", 1, 128, -1);
    v->heads = mf_loader_int(ld, "num_attention_heads", 1, 256, -1);
    v->patch = mf_loader_int(ld, "patch_size", 1, 256, -1);
    v->channels = mf_loader_int(ld, "num_channels", 3, 3, 3);
    mf_loader_ints(ld, "image_size", 1, 8192, 2, image);
    v->rows = image[0] / v->patch;
    v->cols = image[1] / v->patch;
    if (d % v->heads)
        mf_loader_fail(ld, "config.json: hidden_size %zu is not a multiple of %zu heads", d,
                       v->heads);
    if (v->rows != v->cols || v->rows == 0)
        mf_loader_fail(ld, "config.json: image_size must be square and at least one patch");
    const char *act = json_string_value(mf_loader_config(ld, "hidden_act"));
    if (act && strcmp(act, "gelu") != 0)
        mf_loader_fail(ld, "config.json: hidden_act \"%.32s\" is not supported, only gelu is", act);
    if (v->layout == MF_VIT_VIT) {
        v->hidden = mf_loader_int(ld, "intermediate_size", 1, 65536, -1);
        return;
    }
    v->swiglu = mf_loader_bool(ld, "use_swiglu_ffn", false);
    double ratio = mf_loader_real(ld, "mlp_ratio", 4);
    v->hidden = ratio > 0 && ratio < 64 ? (size_t)((double)d * ratio) : 0;
    if (v->swiglu)
        v->hidden = ((size_t)((double)v->hidden * 2 / 3) + 7) / 8 * 8;
    if (!v->hidden)
        mf_loader_fail(ld, "config.json: mlp_ratio is out of range");
    if (v->layout == MF_VIT_DINOV2_REGISTERS)
        v->registers = mf_loader_int(ld, "num_register_tokens", 0, 64, 4);
}

static void load_embeddings(struct mf_loader *ld, struct mf_vit *v)
{
    size_t d = v->width, one = 1, positions = 1 + v->rows * v->cols;
    size_t mark = mf_loader_enter(ld, "embeddings.");
    v->cls = mf_load_host(ld, "cls_token", 3, one, one, d);
    v->position = mf_load_host(ld, "position_embeddings", 3, one, positions, d);
    /* Every error in a pixel goes through all layers. */
    mf_loader_precision(ld, MF_PRECISION_16_BITS);
    v->projection =
        mf_load_conv(ld, "patch_embeddings.projection", d, v->channels, v->patch, v->patch, false);
    mf_loader_precision(ld, MF_PRECISION_DTYPE);
    if (v->layout == MF_VIT_DINOV2_REGISTERS) {
        v->register_tokens = mf_load_host(ld, "register_tokens", 3, one, v->registers, d);
        mf_load_host(ld, "mask_token", 2, one, d);
    } else if (v->layout == MF_VIT_DINOV2 && mf_loader_bool(ld, "use_mask_token", true)) {
        mf_load_host(ld, "mask_token", 2, one, d);
    } else if (v->layout == MF_VIT_VIT && mf_weights_find(ld->weights, "embeddings.mask_token")) {
        mf_load_host(ld, "mask_token", 3, one, one, d);
    }
    mf_loader_leave(ld, mark);
}

struct mf_vit *mf_vit_load(struct mf_loader *ld, enum mf_vit_layout layout)
{
    struct mf_vit *v = mf_loader_alloc(ld, 1, sizeof *v);
    if (!v)
        return NULL;
    v->layout = layout;
    load_sizes(ld, v);
    double eps = mf_loader_real(ld, "layer_norm_eps", layout == MF_VIT_VIT ? 1e-12 : 1e-6);
    bool bias = mf_loader_bool(ld, "qkv_bias", true);
    v->layers = mf_loader_alloc(ld, v->layer_count, sizeof *v->layers);
    if (ld->failed)
        return NULL;
    load_embeddings(ld, v);
    for (size_t i = 0; i < v->layer_count; i++) {
        size_t mark = mf_loader_enter(ld, "encoder.layer.%zu.", i);
        load_layer(ld, v, eps, bias, &v->layers[i]);
        mf_loader_leave(ld, mark);
    }
    v->norm = mf_load_norm(ld, "layernorm", v->width, eps);
    if (layout == MF_VIT_VIT && mf_weights_find(ld->weights, "pooler.dense.weight"))
        v->pooler = mf_load_linear(ld, "pooler.dense", v->width, v->width, true);
    return ld->failed ? NULL : v;
}

struct mf_vit *mf_vit_load_any(struct mf_loader *ld)
{
    static const char *const TYPES[] = {"dinov2", "dinov2_with_registers", "vit"};
    const char *type = json_string_value(mf_loader_config(ld, "model_type"));
    for (int i = 0; type && i < 3; i++)
        if (strcmp(type, TYPES[i]) == 0)
            return mf_vit_load(ld, (enum mf_vit_layout)i);
    mf_loader_fail(ld, "config.json: \"model_type\" must be dinov2, dinov2_with_registers or vit");
    return NULL;
}

size_t mf_vit_width(const struct mf_vit *v)
{
    return v->width;
}

size_t mf_vit_patch(const struct mf_vit *v)
{
    return v->patch;
}

bool mf_vit_has_pooler(const struct mf_vit *v)
{
    return v->layout != MF_VIT_VIT || v->pooler;
}

size_t mf_vit_tokens(const struct mf_vit *v, size_t rows, size_t cols)
{
    return 1 + v->registers + (rows / v->patch) * (cols / v->patch);
}

/* Position embeddings for a grid of patches: as stored, or resampled as Hugging Face does. */
static bool make_grid(struct mf_exec *x, struct mf_vit *v, size_t rows, size_t cols, bool native,
                      struct grid *g)
{
    size_t d = v->width, n = rows * cols, head = (1 + v->registers) * d;
    MF_AUTO(mf_mem) float *host = malloc((head + n * d) * sizeof *host);
    if (!host)
        return mf_exec_fail(x, MF_ERR_NO_MEMORY, "out of memory for position embeddings");
    for (size_t i = 0; i < d; i++)
        host[i] = v->cls[i] + v->position[i];
    if (v->registers)
        memcpy(host + d, v->register_tokens, v->registers * d * sizeof *host);
    MF_AUTO(mf_resampler) struct mf_resampler r = {0};
    enum mf_filter filter =
        v->layout == MF_VIT_DINOV2_REGISTERS ? MF_FILTER_BICUBIC_ANTIALIAS : MF_FILTER_BICUBIC;
    if (native)
        memcpy(host + head, v->position + d, n * d * sizeof *host);
    else if (!mf_resample(&r, filter, v->position + d, v->rows, v->cols, d, v->cols * d,
                          host + head, rows, cols, &x->error))
        return false;
    g->rows = rows;
    g->cols = cols;
    g->prefix = mf_exec_keep(x, host, head, &x->error);
    g->patches = mf_exec_keep(x, host + head, n * d, &x->error);
    return g->prefix && g->patches;
}

static const struct grid *find_grid(struct mf_exec *x, struct mf_vit *v, size_t rows, size_t cols,
                                    bool square)
{
    for (size_t i = 0; i < v->grid_count; i++)
        if (v->grids[i].rows == rows && v->grids[i].cols == cols)
            return &v->grids[i];
    if (v->grid_count == GRIDS) {
        mf_exec_fail(x, MF_ERR_UNUSABLE, "more than %d image sizes in one engine", GRIDS);
        return NULL;
    }
    struct grid *g = &v->grids[v->grid_count];
    if (!make_grid(x, v, rows, cols, square && rows * cols == v->rows * v->cols, g))
        return NULL;
    v->grid_count++;
    return g;
}

static void embed(struct mf_exec *x, struct mf_vit *v, const struct grid *g, const float *pixels,
                  size_t batch, size_t rows, size_t cols, float *h)
{
    size_t d = v->width, n = g->rows * g->cols, skip = 1 + v->registers;
    struct mf_unfold u = {1,        v->channels, rows, cols, v->patch, v->patch,
                          v->patch, v->patch,    0,    0,    false};
    for (size_t b = 0; b < batch; b++) {
        float *tokens = h + b * (skip + n) * d;
        MF_DO(x, copy, g->prefix, skip * d, tokens);
        mf_conv(x, v->projection, &u, pixels + b * v->channels * rows * cols, tokens + skip * d,
                MF_EPILOGUE_NONE);
        MF_DO(x, add, g->patches, n, n, d, 1, tokens + skip * d);
    }
}

static void run_layer(struct mf_exec *x, const struct mf_vit *v, const struct layer *l,
                      size_t batch, size_t tokens, float *h)
{
    size_t m = batch * tokens, mark = mf_exec_mark(x);
    mf_self_attention(x, &l->norm1, l->qkv, l->output, v->heads, h, batch, tokens);
    if (!v->swiglu) {
        mf_mlp(x, &l->norm2, l->fc1, l->fc2, v->hidden, MF_EPILOGUE_GELU, h, m);
        return;
    }
    float *wide = mf_exec_floats(x, m * v->hidden * 2), *gated = mf_exec_floats(x, m * v->hidden);
    mf_norm_linear(x, &l->norm2, l->fc1, h, m, wide, MF_EPILOGUE_NONE);
    MF_DO(x, glu, MF_GLU_SILU, wide, m, v->hidden, gated);
    mf_linear(x, l->fc2, gated, m, h, MF_EPILOGUE_ADD);
    mf_exec_rewind(x, mark);
}

void mf_vit_run(struct mf_exec *x, struct mf_vit *v, const float *pixels, size_t batch, size_t rows,
                size_t cols, float *hidden)
{
    size_t tokens = mf_vit_tokens(v, rows, cols), m = batch * tokens;
    if (rows < v->patch || cols < v->patch) {
        mf_exec_fail(x, MF_ERR_UNUSABLE, "an image of %zu × %zu is smaller than a patch", rows,
                     cols);
        return;
    }
    const struct grid *g = find_grid(x, v, rows / v->patch, cols / v->patch, rows == cols);
    if (!g)
        return;
    size_t mark = mf_exec_mark(x);
    float *h = mf_exec_floats(x, m * v->width);
    embed(x, v, g, pixels, batch, rows, cols, h);
    for (size_t i = 0; i < v->layer_count; i++)
        run_layer(x, v, &v->layers[i], batch, tokens, h);
    MF_DO(x, layer_norm, h, m, v->width, v->norm.weight, v->norm.bias, v->norm.eps, hidden);
    mf_exec_rewind(x, mark);
}

void mf_vit_pool(struct mf_exec *x, const struct mf_vit *v, const float *hidden, float *pooled)
{
    if (!v->pooler) {
        MF_DO(x, copy, hidden, v->width, pooled);
        return;
    }
    mf_linear(x, v->pooler, hidden, 1, pooled, MF_EPILOGUE_NONE);
    MF_DO(x, unary, MF_UNARY_TANH, pooled, v->width, pooled);
}

void mf_vit_regions(struct mf_exec *x, const struct mf_vit *v, const float *hidden, size_t rows,
                    size_t cols, size_t r, float *out)
{
    size_t d = v->width;
    MF_DO(x, region_pool, hidden + (1 + v->registers) * d, rows / v->patch, cols / v->patch, d, r,
          out);
    MF_DO(x, copy, hidden, d, out + r * r * d);
}
