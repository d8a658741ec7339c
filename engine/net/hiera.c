/*
 * SAM 2's image encoder: Hiera (windowed multi-scale attention, query pooling at stage changes) and
 * the feature pyramid. As Hugging Face's Sam2VisionModel, which gathers windows after the LayerNorm
 * and pads them with unmasked zeros.
 *
 * Here attention reads windows where they lie in the grid, what is beyond it being the projections
 * of zeros: their bias. Linear layers then see every token once and none of the padding. A block
 * with windows is run some rows of windows at a time, so that its tensors stay in the caches.
 */
#include "engine/net/net.h"
#include "engine/resample.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { STAGES = 4, MAX_BLOCKS = 128 };

struct block {
    size_t in, out, heads, window, hidden; /* window 0: global attention */
    size_t stride_h, stride_w;             /* 1: no query pooling */
    struct mf_norm norm1, norm2;
    struct mf_linear *proj, *qkv, *output, *fc1, *fc2; /* proj: NULL where in = out */
    const float *qkv_bias;                             /* keys and values of padding */
};

struct mf_hiera {
    size_t kernel[2], stride[2], pad[2];
    size_t dims[STAGES], ends[STAGES], block_count, features, background[2], window0;
    bool top_down[STAGES];
    struct block *blocks;
    struct mf_linear *patch, *lateral[STAGES]; /* lateral[i] belongs to stage i */
    float *pos, *pos_window;                   /* host, channels last */
    size_t grid_rows, grid_cols;               /* of `position` */
    const float *position;
};

static void load_block(struct mf_loader *ld, struct block *b, double eps)
{
    b->norm1 = mf_load_norm(ld, "layer_norm1", b->in, eps);
    b->norm2 = mf_load_norm(ld, "layer_norm2", b->out, eps);
    b->qkv = mf_load_linear(ld, "attn.qkv", 3 * b->out, b->in, true);
    b->qkv_bias = mf_load_vector(ld, "attn.qkv.bias", 3 * b->out);
    b->output = mf_load_linear(ld, "attn.proj", b->out, b->out, true);
    b->fc1 = mf_load_linear(ld, "mlp.proj_in", b->hidden, b->out, true);
    b->fc2 = mf_load_linear(ld, "mlp.proj_out", b->out, b->hidden, true);
    if (b->in != b->out)
        b->proj = mf_load_linear(ld, "proj", b->out, b->in, true);
}

static bool is_listed(const json_t *list, size_t value)
{
    size_t i;
    json_t *item;
    json_array_foreach((json_t *)list, i, item)
    {
        if (json_is_integer(item) && json_integer_value(item) == (json_int_t)value)
            return true;
    }
    return false;
}

/* Fills the sizes of every block from the configuration. */
static void plan_blocks(struct mf_loader *ld, struct mf_hiera *net, const size_t *per_stage)
{
    size_t heads[STAGES], windows[STAGES], stride[2];
    mf_loader_ints(ld, "backbone_config.num_attention_heads_per_stage", 1, 256, STAGES, heads);
    mf_loader_ints(ld, "backbone_config.window_size_per_stage", 1, 256, STAGES, windows);
    mf_loader_ints(ld, "backbone_config.query_stride", 1, 8, 2, stride);
    size_t pools = mf_loader_int(ld, "backbone_config.num_query_pool_stages", 0, 3, 3);
    double ratio = mf_loader_real(ld, "backbone_config.mlp_ratio", 4);
    const json_t *global = mf_loader_config(ld, "backbone_config.global_attention_blocks");
    net->window0 = windows[0];
    size_t k = 0;
    for (size_t s = 0; s < STAGES; s++)
        for (size_t i = 0; i < per_stage[s]; i++, k++) {
            bool first = s > 0 && i == 0, pool = first && s <= pools;
            struct block *b = &net->blocks[k];
            b->in = net->dims[first ? s - 1 : s];
            b->out = net->dims[s];
            b->heads = heads[s];
            b->window = is_listed(global, k) ? 0 : windows[first ? s - 1 : s];
            b->hidden = ratio > 0 && ratio < 64 ? (size_t)((double)b->out * ratio) : 0;
            b->stride_h = pool ? stride[0] : 1;
            b->stride_w = pool ? stride[1] : 1;
            if (b->out % b->heads || !b->hidden || (pool && b->in == b->out) ||
                (pool && (stride[0] != stride[1] || b->window % stride[0])))
                mf_loader_fail(ld, "config.json: stage %zu has sizes that do not fit together", s);
        }
}

static void load_neck(struct mf_loader *ld, struct mf_hiera *net)
{
    size_t channels[STAGES], mark = mf_loader_enter(ld, "neck.");
    mf_loader_ints(ld, "backbone_channel_list", 1, 8192, STAGES, channels);
    mf_loader_int(ld, "fpn_kernel_size", 1, 1, 1);
    mf_loader_int(ld, "fpn_stride", 1, 1, 1);
    mf_loader_int(ld, "fpn_padding", 0, 0, 0);
    mf_loader_int(ld, "num_feature_levels", 3, 3, 3);
    net->features = mf_loader_int(ld, "fpn_hidden_size", 1, 4096, 256);
    const json_t *levels = mf_loader_config(ld, "fpn_top_down_levels");
    for (size_t i = 0; i < STAGES; i++) {
        char name[16];
        snprintf(name, sizeof name, "convs.%zu", STAGES - 1 - i);
        if (channels[STAGES - 1 - i] != net->dims[i])
            mf_loader_fail(ld,
                           "config.json: backbone_channel_list does not match embed_dim_per_stage");
        net->top_down[i] = json_is_array(levels) ? is_listed(levels, i) : i >= 2;
        net->lateral[i] = mf_load_conv(ld, name, net->features, net->dims[i], 1, 1, true);
    }
    mf_loader_leave(ld, mark);
}

/* (1, c, h, w) → (h, w, c) */
static float *load_channels_last(struct mf_loader *ld, const char *name, size_t c, size_t h,
                                 size_t w)
{
    size_t one = 1;
    const float *p = mf_load_host(ld, name, 4, one, c, h, w);
    float *out = mf_loader_alloc(ld, c * h * w, sizeof *out);
    for (size_t i = 0; p && out && i < c * h * w; i++)
        out[i % (h * w) * c + i / (h * w)] = p[i];
    return out;
}

static void load_sizes(struct mf_loader *ld, struct mf_hiera *net, size_t per_stage[STAGES])
{
    mf_loader_ints(ld, "backbone_config.blocks_per_stage", 1, 64, STAGES, per_stage);
    mf_loader_ints(ld, "backbone_config.embed_dim_per_stage", 1, 8192, STAGES, net->dims);
    mf_loader_ints(ld, "backbone_config.patch_kernel_size", 1, 32, 2, net->kernel);
    mf_loader_ints(ld, "backbone_config.patch_stride", 1, 32, 2, net->stride);
    mf_loader_ints(ld, "backbone_config.patch_padding", 0, 16, 2, net->pad);
    mf_loader_ints(ld, "backbone_config.window_positional_embedding_background_size", 1, 256, 2,
                   net->background);
    mf_loader_int(ld, "backbone_config.num_channels", 3, 3, 3);
    for (size_t s = 0; s < STAGES; s++) {
        net->block_count += per_stage[s];
        net->ends[s] = net->block_count - 1;
    }
    if (mf_loader_int(ld, "backbone_config.hidden_size", 1, 8192, -1) != net->dims[0])
        mf_loader_fail(ld, "config.json: hidden_size does not match embed_dim_per_stage");
    const char *act = json_string_value(mf_loader_config(ld, "backbone_config.hidden_act"));
    if (act && strcmp(act, "gelu") != 0)
        mf_loader_fail(ld, "config.json: hidden_act \"%.32s\" is not supported, only gelu is", act);
}

struct mf_hiera *mf_hiera_load(struct mf_loader *ld)
{
    size_t per_stage[STAGES];
    struct mf_hiera *net = mf_loader_alloc(ld, 1, sizeof *net);
    if (!net)
        return NULL;
    load_sizes(ld, net, per_stage);
    double eps = mf_loader_real(ld, "backbone_config.layer_norm_eps", 1e-6);
    net->blocks = mf_loader_alloc(ld, net->block_count, sizeof *net->blocks);
    if (ld->failed)
        return NULL;
    plan_blocks(ld, net, per_stage);
    size_t mark = mf_loader_enter(ld, "backbone.");
    net->pos =
        load_channels_last(ld, "pos_embed", net->dims[0], net->background[0], net->background[1]);
    net->pos_window =
        load_channels_last(ld, "pos_embed_window", net->dims[0], net->window0, net->window0);
    net->patch = mf_load_conv(ld, "patch_embed.projection", net->dims[0], 3, net->kernel[0],
                              net->kernel[1], false);
    for (size_t i = 0; !ld->failed && i < net->block_count; i++) {
        size_t inner = mf_loader_enter(ld, "blocks.%zu.", i);
        load_block(ld, &net->blocks[i], eps);
        mf_loader_leave(ld, inner);
    }
    mf_loader_leave(ld, mark);
    load_neck(ld, net);
    return ld->failed ? NULL : net;
}

size_t mf_hiera_width(const struct mf_hiera *net)
{
    return net->dims[3];
}

size_t mf_hiera_features(const struct mf_hiera *net)
{
    return net->features;
}

/* Position embedding of an h × w grid: the background resampled (bicubic) plus the window's tiled.
 */
static bool make_position(struct mf_exec *x, struct mf_hiera *net, size_t h, size_t w)
{
    size_t d = net->dims[0], s = net->window0;
    if (net->position && net->grid_rows == h && net->grid_cols == w)
        return true;
    if (h % s || w % s)
        return mf_exec_fail(x, MF_ERR_UNUSABLE,
                            "an image grid of %zu × %zu is not a multiple of the window %zu", h, w,
                            s);
    MF_AUTO(mf_mem) float *host = malloc(h * w * d * sizeof *host);
    MF_AUTO(mf_resampler) struct mf_resampler r = {0};
    if (!host)
        return mf_exec_fail(x, MF_ERR_NO_MEMORY, "out of memory for position embeddings");
    if (!mf_resample(&r, MF_FILTER_BICUBIC, net->pos, net->background[0], net->background[1], d,
                     net->background[1] * d, host, h, w, &x->error))
        return false;
    for (size_t i = 0; i < h * w; i++) {
        const float *tile = net->pos_window + ((i / w) % s * s + (i % w) % s) * d;
        for (size_t k = 0; k < d; k++)
            host[i * d + k] += tile[k];
    }
    net->position = mf_exec_keep(x, host, h * w * d, &x->error);
    net->grid_rows = h;
    net->grid_cols = w;
    return net->position != NULL;
}

/* How attention sees the rows of a product `qkv` in windows of `rows` × `cols`, or in one. */
static struct mf_attention attention_of(const struct block *b, size_t count, size_t rows,
                                        size_t cols)
{
    size_t keys = rows * cols, queries = keys / b->stride_h / b->stride_w, wide = 3 * b->out;
    return (struct mf_attention){.batch = count,
                                 .heads = b->heads,
                                 .head_size = b->out / b->heads,
                                 .queries = queries,
                                 .keys = keys,
                                 .q_row = b->stride_h > 1 ? b->out : wide,
                                 .k_row = wide,
                                 .v_row = wide,
                                 .o_row = b->out,
                                 .q_batch = queries * (b->stride_h > 1 ? b->out : wide),
                                 .k_batch = keys * wide,
                                 .v_batch = keys * wide,
                                 .o_batch = queries * b->out,
                                 .scale = mf_attention_scale(b->out / b->heads)};
}

/* Queries of a product `qkv` of `count` grids: its first columns, pooled where the block pools. */
static const float *queries_of(struct mf_exec *x, const struct block *b, const float *qkv,
                               size_t count, size_t h, size_t w)
{
    if (b->stride_h == 1)
        return qkv;
    size_t n = count * (h / b->stride_h) * (w / b->stride_w);
    float *pooled = mf_exec_floats(x, n * b->out);
    MF_DO(x, max_pool, qkv, count, h, w, b->out, 3 * b->out, b->stride_h, b->stride_w, pooled);
    return pooled;
}

/* residual (oh × ow) += attention of h × w tokens y (LayerNormed), windows gathered in memory: for
 * backends that cannot read them from the grid, and what tests compare those with that can. */
static void attend_gathered(struct mf_exec *x, const struct block *b, const float *y, size_t h,
                            size_t w, float *residual)
{
    size_t s = b->window, count = ((h + s - 1) / s) * ((w + s - 1) / s);
    struct mf_attention at = attention_of(b, count, s, s);
    float *windows = mf_exec_floats(x, count * at.keys * b->in);
    float *qkv = mf_exec_floats(x, count * at.keys * 3 * b->out);
    float *mixed = mf_exec_floats(x, count * at.queries * b->out);
    float *projected = mf_exec_floats(x, count * at.queries * b->out);
    MF_DO(x, windows, y, h, w, b->in, s, windows);
    mf_linear(x, b->qkv, windows, count * at.keys, qkv, MF_EPILOGUE_NONE);
    const float *q = queries_of(x, b, qkv, count, s, s);
    mf_attend(x, &at, q, qkv + b->out, qkv + 2 * b->out, mixed);
    mf_linear(x, b->output, mixed, count * at.queries, projected, MF_EPILOGUE_NONE);
    MF_DO(x, unwindows_add, projected, h / b->stride_h, w / b->stride_w, b->out, s / b->stride_h,
          residual);
}

/* The same from the product `qkv` of all tokens, for global attention and for windows. */
static void attend(struct mf_exec *x, const struct block *b, const float *qkv, size_t h, size_t w,
                   float *residual)
{
    size_t s = b->window, n = (h / b->stride_h) * (w / b->stride_w);
    const float *q = queries_of(x, b, qkv, 1, h, w);
    float *mixed = mf_exec_floats(x, n * b->out);
    if (s) {
        struct mf_attention at = attention_of(b, ((h + s - 1) / s) * ((w + s - 1) / s), s, s);
        struct mf_windows windows = {
            s, h, w, b->stride_h, b->qkv_bias + b->out, b->qkv_bias + 2 * b->out};
        mf_attend_windows(x, &at, &windows, q, qkv + b->out, qkv + 2 * b->out, mixed);
    } else {
        struct mf_attention at = attention_of(b, 1, h, w);
        mf_attend(x, &at, q, qkv + b->out, qkv + 2 * b->out, mixed);
    }
    mf_linear(x, b->output, mixed, n, residual, MF_EPILOGUE_ADD);
}

/* One block on h × w tokens. Where it has no projection of its own, `residual` are the tokens. */
static void run_rows(struct mf_exec *x, const struct block *b, const float *tokens, size_t h,
                     size_t w, float *residual)
{
    size_t n = h * w, oh = h / b->stride_h, ow = w / b->stride_w, mark = mf_exec_mark(x);
    bool gather = b->window && !x->ops->window_attention;
    float *qkv = mf_exec_floats(x, n * 3 * b->out), *y = NULL;
    if (b->proj || gather) {
        y = mf_exec_floats(x, n * b->in);
        MF_DO(x, layer_norm, tokens, n, b->in, b->norm1.weight, b->norm1.bias, b->norm1.eps, y);
    }
    if (b->proj && b->stride_h > 1) {
        float *wide = qkv; /* before it is needed */
        mf_linear(x, b->proj, y, n, wide, MF_EPILOGUE_NONE);
        MF_DO(x, max_pool, wide, 1, h, w, b->out, b->out, b->stride_h, b->stride_w, residual);
    } else if (b->proj) {
        mf_linear(x, b->proj, y, n, residual, MF_EPILOGUE_NONE);
    }
    if (gather) {
        attend_gathered(x, b, y, h, w, residual);
    } else {
        if (y)
            mf_linear(x, b->qkv, y, n, qkv, MF_EPILOGUE_NONE);
        else
            mf_norm_linear(x, &b->norm1, b->qkv, tokens, n, qkv, MF_EPILOGUE_NONE);
        attend(x, b, qkv, h, w, residual);
    }
    mf_exec_rewind(x, mark);
    mf_mlp(x, &b->norm2, b->fc1, b->fc2, b->hidden, MF_EPILOGUE_GELU, residual, oh * ow);
}

/* Rows of the grid that a block takes at a time: whole rows of windows, enough for all threads. */
static size_t rows_at_once(const struct mf_exec *x, const struct block *b, size_t h, size_t w)
{
    size_t enough = x->ops->window_tokens, line = b->window * w;
    return b->window && enough ? b->window * ((enough + line - 1) / line) : h;
}

/* One block; returns the tokens' buffer (the input's, or a new one where the size changes). */
static float *run_block(struct mf_exec *x, const struct block *b, float *tokens, size_t *h,
                        size_t *w)
{
    size_t oh = *h / b->stride_h, ow = *w / b->stride_w, s = b->window, ps = s / b->stride_h;
    if (b->stride_h > 1 && s &&
        ((*h + s - 1) / s != (oh + ps - 1) / ps || (*w + s - 1) / s != (ow + ps - 1) / ps))
        mf_exec_fail(x, MF_ERR_UNUSABLE, "an image grid of %zu × %zu does not pool into windows",
                     *h, *w);
    float *residual = b->proj ? mf_exec_floats(x, oh * ow * b->out) : tokens;
    for (size_t r = 0, step = rows_at_once(x, b, *h, *w); r < *h; r += step)
        run_rows(x, b, tokens + r * *w * b->in, *h - r < step ? *h - r : step, *w,
                 residual + r / b->stride_h * ow * b->out);
    *h = oh;
    *w = ow;
    return residual;
}

void mf_hiera_sizes(const struct mf_hiera *net, size_t rows, size_t cols, size_t sizes[4][2])
{
    size_t h = (rows + 2 * net->pad[0] - net->kernel[0]) / net->stride[0] + 1;
    size_t w = (cols + 2 * net->pad[1] - net->kernel[1]) / net->stride[1] + 1;
    for (size_t s = 0, i = 0; s < STAGES; s++) {
        for (; i <= net->ends[s]; i++) {
            h /= net->blocks[i].stride_h;
            w /= net->blocks[i].stride_w;
        }
        sizes[s][0] = h;
        sizes[s][1] = w;
    }
}

/* The pyramid's levels 0 … 2 from the stages' outputs; level 3 only feeds level 2. */
static void run_neck(struct mf_exec *x, const struct mf_hiera *net, float *const stages[STAGES],
                     const size_t (*sizes)[2], float *const levels[3])
{
    float *above = mf_exec_floats(x, sizes[3][0] * sizes[3][1] * net->features);
    for (size_t i = STAGES; i-- > 0;) {
        float *level = i == 3 ? above : levels[i];
        mf_linear(x, net->lateral[i], stages[i], sizes[i][0] * sizes[i][1], level,
                  MF_EPILOGUE_NONE);
        if (i < 3 && net->top_down[i]) {
            if (sizes[i][0] != 2 * sizes[i + 1][0] || sizes[i][1] != 2 * sizes[i + 1][1])
                mf_exec_fail(x, MF_ERR_UNUSABLE, "the image's size is not a multiple of 32");
            MF_DO(x, upsample2_add, above, sizes[i + 1][0], sizes[i + 1][1], net->features, level);
        }
        above = level;
    }
}

void mf_hiera_run(struct mf_exec *x, struct mf_hiera *net, const float *pixels, size_t rows,
                  size_t cols, float *const levels[3], float *last)
{
    struct mf_unfold u = {1,
                          3,
                          rows,
                          cols,
                          net->kernel[0],
                          net->kernel[1],
                          net->stride[0],
                          net->stride[1],
                          net->pad[0],
                          net->pad[1],
                          false};
    size_t h = (rows + 2 * net->pad[0] - net->kernel[0]) / net->stride[0] + 1;
    size_t w = (cols + 2 * net->pad[1] - net->kernel[1]) / net->stride[1] + 1;
    size_t start = mf_exec_mark(x), sizes[STAGES][2] = {{0}}, stage = 0;
    float *stages[STAGES] = {NULL};
    if (rows < 32 || cols < 32) {
        mf_exec_fail(x, MF_ERR_UNUSABLE, "an image of %zu × %zu is too small to segment", rows,
                     cols);
        return;
    }
    if (!make_position(x, net, h, w))
        return;
    float *tokens = mf_exec_floats(x, h * w * net->dims[0]);
    mf_conv(x, net->patch, &u, pixels, tokens, MF_EPILOGUE_NONE);
    MF_DO(x, add, net->position, h * w, h * w, net->dims[0], 1, tokens);
    for (size_t i = 0; i < net->block_count; i++) {
        tokens = run_block(x, &net->blocks[i], tokens, &h, &w);
        if (i != net->ends[stage])
            continue;
        sizes[stage][0] = h;
        sizes[stage][1] = w;
        stages[stage++] = tokens;
    }
    if (last)
        MF_DO(x, copy, stages[3], h * w * net->dims[3], last);
    run_neck(x, net, stages, sizes, levels);
    mf_exec_rewind(x, start);
}
