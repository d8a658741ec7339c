/*
 * SAM 2's mask decoder (Hugging Face's Sam2MaskDecoder): two-way transformer between prompt tokens
 * and the image embedding, upscaling with skip features, hypernetworks. Tokens: object, IoU, masks,
 * prompts. All prompts of a call are one batch.
 */
#include "engine/net/net.h"

#include <math.h>
#include <string.h>

enum { MAX_LAYERS = 8, MAX_MASKS = 8, MAX_DEPTH = 8 };

struct attention {
    struct mf_linear *q, *k, *v, *o;
    size_t inner;
};

struct mlp {
    size_t depth;
    size_t widths[MAX_DEPTH + 1];
    struct mf_linear *layers[MAX_DEPTH];
};

struct two_way {
    struct attention self_attn, to_image, to_token;
    struct mlp mlp;
    struct mf_norm norm1, norm2, norm3, norm4;
};

struct mf_sam2_decoder {
    size_t width, heads, mask_count, layer_count;
    struct two_way layers[MAX_LAYERS];
    struct attention final_attn;
    struct mf_norm final_norm, upscale_norm;
    struct mf_linear *upscale1, *upscale2, *skip0, *skip1;
    struct mlp hyper[MAX_MASKS], iou, object;
    const float *tokens; /* (2 + mask_count, width): object, IoU, masks */
};

static void load_attention(struct mf_loader *ld, const struct mf_sam2_decoder *net,
                           const char *name, size_t rate, struct attention *a)
{
    size_t mark = mf_loader_enter(ld, "%s.", name), d = net->width;
    a->inner = d / rate;
    if (d % rate || a->inner % net->heads)
        mf_loader_fail(ld, "config.json: mask_decoder_config has sizes that do not fit together");
    a->q = mf_load_linear(ld, "q_proj", a->inner, d, true);
    a->k = mf_load_linear(ld, "k_proj", a->inner, d, true);
    a->v = mf_load_linear(ld, "v_proj", a->inner, d, true);
    a->o = mf_load_linear(ld, "o_proj", d, a->inner, true);
    mf_loader_leave(ld, mark);
}

static void load_mlp(struct mf_loader *ld, const char *name, size_t in, size_t hidden, size_t out,
                     size_t depth, struct mlp *m)
{
    size_t mark = mf_loader_enter(ld, "%s.", name);
    m->depth = depth;
    m->widths[0] = in;
    for (size_t i = 1; i < depth; i++)
        m->widths[i] = hidden;
    m->widths[depth] = out;
    m->layers[0] = mf_load_linear(ld, "proj_in", hidden, in, true);
    for (size_t i = 1; i + 1 < depth; i++) {
        char layer[32];
        snprintf(layer, sizeof layer, "layers.%zu", i - 1);
        m->layers[i] = mf_load_linear(ld, layer, hidden, hidden, true);
    }
    m->layers[depth - 1] = mf_load_linear(ld, "proj_out", out, hidden, true);
    mf_loader_leave(ld, mark);
}

static void load_layer(struct mf_loader *ld, const struct mf_sam2_decoder *net, size_t rate,
                       size_t mlp_dim, struct two_way *l)
{
    size_t d = net->width;
    load_attention(ld, net, "self_attn", 1, &l->self_attn);
    load_attention(ld, net, "cross_attn_token_to_image", rate, &l->to_image);
    load_attention(ld, net, "cross_attn_image_to_token", rate, &l->to_token);
    load_mlp(ld, "mlp", d, mlp_dim, d, net->layer_count < 2 ? 2 : net->layer_count, &l->mlp);
    l->norm1 = mf_load_norm(ld, "layer_norm1", d, 1e-5);
    l->norm2 = mf_load_norm(ld, "layer_norm2", d, 1e-5);
    l->norm3 = mf_load_norm(ld, "layer_norm3", d, 1e-5);
    l->norm4 = mf_load_norm(ld, "layer_norm4", d, 1e-5);
}

static void load_transformer(struct mf_loader *ld, struct mf_sam2_decoder *net)
{
    size_t rate = mf_loader_int(ld, "mask_decoder_config.attention_downsample_rate", 1, 64, 2);
    size_t mlp_dim = mf_loader_int(ld, "mask_decoder_config.mlp_dim", 1, 65536, 2048);
    size_t mark = mf_loader_enter(ld, "transformer.");
    for (size_t i = 0; i < net->layer_count && !ld->failed; i++) {
        size_t inner = mf_loader_enter(ld, "layers.%zu.", i);
        load_layer(ld, net, rate, mlp_dim, &net->layers[i]);
        mf_loader_leave(ld, inner);
    }
    load_attention(ld, net, "final_attn_token_to_image", rate, &net->final_attn);
    net->final_norm = mf_load_norm(ld, "layer_norm_final_attn", net->width, 1e-5);
    mf_loader_leave(ld, mark);
}

static void load_tokens(struct mf_loader *ld, struct mf_sam2_decoder *net)
{
    size_t d = net->width, one = 1;
    const float *object = mf_load_host(ld, "obj_score_token.weight", 2, one, d);
    const float *iou = mf_load_host(ld, "iou_token.weight", 2, one, d);
    const float *masks = mf_load_host(ld, "mask_tokens.weight", 2, net->mask_count, d);
    float *all = mf_loader_alloc(ld, (2 + net->mask_count) * d, sizeof *all);
    if (ld->failed)
        return;
    memcpy(all, object, d * sizeof *all);
    memcpy(all + d, iou, d * sizeof *all);
    memcpy(all + 2 * d, masks, net->mask_count * d * sizeof *all);
    net->tokens = mf_load_upload(ld, all, (2 + net->mask_count) * d);
}

struct mf_sam2_decoder *mf_sam2_decoder_load(struct mf_loader *ld, size_t width)
{
    struct mf_sam2_decoder *net = mf_loader_alloc(ld, 1, sizeof *net);
    if (!net)
        return NULL;
    net->width = width;
    net->heads = mf_loader_int(ld, "mask_decoder_config.num_attention_heads", 1, 64, 8);
    net->layer_count = mf_loader_int(ld, "mask_decoder_config.num_hidden_layers", 2, MAX_LAYERS, 2);
    net->mask_count =
        1 + mf_loader_int(ld, "mask_decoder_config.num_multimask_outputs", 1, MAX_MASKS - 1, 3);
    size_t iou_hidden = mf_loader_int(ld, "mask_decoder_config.iou_head_hidden_dim", 1, 4096, 256);
    size_t iou_depth = mf_loader_int(ld, "mask_decoder_config.iou_head_depth", 2, MAX_DEPTH, 3);
    if (mf_loader_int(ld, "mask_decoder_config.hidden_size", 1, 4096, 256) != width || width % 8)
        mf_loader_fail(
            ld, "config.json: the decoder's hidden_size must be the encoder's, a multiple of 8");
    size_t mark = mf_loader_enter(ld, "mask_decoder.");
    load_tokens(ld, net);
    load_transformer(ld, net);
    net->upscale1 = mf_load_upconv(ld, "upscale_conv1", width / 4, width);
    net->upscale2 = mf_load_upconv(ld, "upscale_conv2", width / 8, width / 4);
    net->upscale_norm = mf_load_norm(ld, "upscale_layer_norm", width / 4, 1e-6);
    net->skip0 = mf_load_conv(ld, "conv_s0", width / 8, width, 1, 1, true);
    net->skip1 = mf_load_conv(ld, "conv_s1", width / 4, width, 1, 1, true);
    for (size_t i = 0; i < net->mask_count && !ld->failed; i++) {
        char name[64];
        snprintf(name, sizeof name, "output_hypernetworks_mlps.%zu", i);
        load_mlp(ld, name, width, width, width / 8, 3, &net->hyper[i]);
    }
    load_mlp(ld, "iou_prediction_head", width, iou_hidden, net->mask_count, iou_depth, &net->iou);
    load_mlp(ld, "pred_obj_score_head", width, width, 1, 3, &net->object);
    mf_loader_leave(ld, mark);
    return ld->failed ? NULL : net;
}

size_t mf_sam2_decoder_masks(const struct mf_sam2_decoder *net)
{
    return net->mask_count;
}

void mf_sam2_decoder_skip(struct mf_exec *x, const struct mf_sam2_decoder *net, const float *level0,
                          const float *level1, size_t grid, const struct mf_sam2_maps *maps)
{
    mf_linear(x, net->skip0, level0, 16 * grid * grid, maps->s0, MF_EPILOGUE_NONE);
    mf_linear(x, net->skip1, level1, 4 * grid * grid, maps->s1, MF_EPILOGUE_NONE);
}

static void run_mlp(struct mf_exec *x, const struct mlp *m, const float *in, size_t rows,
                    size_t in_row, float *out)
{
    size_t mark = mf_exec_mark(x);
    for (size_t i = 0; i < m->depth; i++) {
        bool last = i + 1 == m->depth;
        float *y = last ? out : mf_exec_floats(x, rows * m->widths[i + 1]);
        mf_linear_strided(x, m->layers[i], in, rows, i ? 0 : in_row, y,
                          last ? MF_EPILOGUE_NONE : MF_EPILOGUE_RELU);
        in = y;
    }
    mf_exec_rewind(x, mark);
}

/* out (count · nq, width) gets attention(q, k, v), or adds it. q has nq rows an item, k and v nk.
 */
static void run_attention(struct mf_exec *x, const struct mf_sam2_decoder *net,
                          const struct attention *a, size_t count, const float *q, size_t nq,
                          const float *k, const float *v, size_t nk, float *out,
                          enum mf_epilogue epilogue)
{
    size_t n = a->inner, size = n / net->heads, mark = mf_exec_mark(x);
    float *qs = mf_exec_floats(x, count * nq * n), *ks = mf_exec_floats(x, count * nk * n);
    float *vs = mf_exec_floats(x, count * nk * n), *mixed = mf_exec_floats(x, count * nq * n);
    struct mf_attention at = {
        count, net->heads, size,   nq,     nk,     n,      n,
        n,     n,          nq * n, nk * n, nk * n, nq * n, mf_attention_scale(size)};
    mf_linear(x, a->q, q, count * nq, qs, MF_EPILOGUE_NONE);
    mf_linear(x, a->k, k, count * nk, ks, MF_EPILOGUE_NONE);
    mf_linear(x, a->v, v, count * nk, vs, MF_EPILOGUE_NONE);
    mf_attend(x, &at, qs, ks, vs, mixed);
    mf_linear(x, a->o, mixed, count * nq, out, epilogue);
    mf_exec_rewind(x, mark);
}

/* What one decoder call works on. */
struct call {
    size_t count, tokens, cells; /* prompts; tokens and image cells of each */
    const float *position;       /* (cells, width) */
    const float *point;          /* (count · tokens, width): the tokens as they came in */
    float *queries, *keys;
    float *query, *key; /* with positions added */
};

static void norm(struct mf_exec *x, const struct mf_norm *n, size_t rows, float *y)
{
    MF_DO(x, layer_norm, y, rows, n->width, n->weight, n->bias, n->eps, y);
}

static void add_positions(struct mf_exec *x, const struct mf_sam2_decoder *net,
                          const struct call *c, bool queries, bool keys)
{
    size_t d = net->width, m = c->count * c->tokens, n = c->count * c->cells;
    if (queries) {
        MF_DO(x, copy, c->queries, m * d, c->query);
        MF_DO(x, add, c->point, m, m, d, 1, c->query);
    }
    if (keys) {
        MF_DO(x, copy, c->keys, n * d, c->key);
        MF_DO(x, add, c->position, c->cells, n, d, 1, c->key);
    }
}

static void run_layer(struct mf_exec *x, const struct mf_sam2_decoder *net, const struct two_way *l,
                      bool first, const struct call *c)
{
    size_t m = c->count * c->tokens, n = c->count * c->cells, mark = mf_exec_mark(x);
    if (first) { /* no positions, and it replaces the queries */
        float *out = mf_exec_floats(x, m * net->width);
        run_attention(x, net, &l->self_attn, c->count, c->queries, c->tokens, c->queries,
                      c->queries, c->tokens, out, MF_EPILOGUE_NONE);
        MF_DO(x, copy, out, m * net->width, c->queries);
    } else {
        add_positions(x, net, c, true, false);
        float *value = mf_exec_floats(x, m * net->width);
        MF_DO(x, copy, c->queries, m * net->width, value);
        run_attention(x, net, &l->self_attn, c->count, c->query, c->tokens, c->query, value,
                      c->tokens, c->queries, MF_EPILOGUE_ADD);
    }
    norm(x, &l->norm1, m, c->queries);
    add_positions(x, net, c, true, true);
    run_attention(x, net, &l->to_image, c->count, c->query, c->tokens, c->key, c->keys, c->cells,
                  c->queries, MF_EPILOGUE_ADD);
    norm(x, &l->norm2, m, c->queries);
    float *wide = mf_exec_floats(x, m * net->width);
    run_mlp(x, &l->mlp, c->queries, m, 0, wide);
    MF_DO(x, add, wide, m, m, net->width, 1, c->queries);
    norm(x, &l->norm3, m, c->queries);
    add_positions(x, net, c, true, false); /* the keys have not changed: `key` still holds */
    run_attention(x, net, &l->to_token, c->count, c->key, c->cells, c->query, c->queries, c->tokens,
                  c->keys, MF_EPILOGUE_ADD);
    norm(x, &l->norm4, n, c->keys);
    mf_exec_rewind(x, mark);
}

/* Image cells (g·g, width) of one prompt → features (4g · 4g, width/8). */
static void upscale(struct mf_exec *x, const struct mf_sam2_decoder *net, const float *cells,
                    size_t grid, const struct mf_sam2_maps *maps, float *out)
{
    size_t n = grid * grid, c4 = net->width / 4, c8 = net->width / 8, mark = mf_exec_mark(x);
    float *first = mf_exec_floats(x, n * 4 * c4), *middle = mf_exec_floats(x, 4 * n * c4);
    float *second = mf_exec_floats(x, 4 * n * 4 * c8);
    mf_linear(x, net->upscale1, cells, n, first, MF_EPILOGUE_NONE);
    MF_DO(x, pixel_shuffle_add, first, grid, grid, c4, maps->s1, middle);
    norm(x, &net->upscale_norm, 4 * n, middle);
    MF_DO(x, unary, MF_UNARY_GELU, middle, 4 * n * c4, middle);
    mf_linear(x, net->upscale2, middle, 4 * n, second, MF_EPILOGUE_NONE);
    MF_DO(x, pixel_shuffle_add, second, 2 * grid, 2 * grid, c8, maps->s0, out);
    MF_DO(x, unary, MF_UNARY_GELU, out, 16 * n * c8, out);
    mf_exec_rewind(x, mark);
}

static void run_heads(struct mf_exec *x, const struct mf_sam2_decoder *net, const struct call *c,
                      size_t grid, const struct mf_sam2_maps *maps,
                      const struct mf_sam2_answer *answer)
{
    size_t d = net->width, row = c->tokens * d, c8 = d / 8, cells = 16 * grid * grid;
    float *hyper = mf_exec_floats(x, net->mask_count * c->count * c8);
    float *weights = mf_exec_floats(x, net->mask_count * c8);
    float *features = mf_exec_floats(x, cells * c8);
    for (size_t i = 0; i < net->mask_count; i++)
        run_mlp(x, &net->hyper[i], c->queries + (2 + i) * d, c->count, row,
                hyper + i * c->count * c8);
    run_mlp(x, &net->iou, c->queries + d, c->count, row, answer->iou);
    MF_DO(x, unary, MF_UNARY_SIGMOID, answer->iou, c->count * net->mask_count, answer->iou);
    run_mlp(x, &net->object, c->queries, c->count, row, answer->object);
    for (size_t b = 0; answer->tokens && b < c->count; b++)
        MF_DO(x, copy, c->queries + b * row + 2 * d, net->mask_count * d,
              answer->tokens + b * net->mask_count * d);
    for (size_t b = 0; b < c->count; b++) {
        upscale(x, net, c->keys + b * c->cells * d, grid, maps, features);
        for (size_t i = 0; i < net->mask_count; i++)
            MF_DO(x, copy, hyper + (i * c->count + b) * c8, c8, weights + i * c8);
        MF_DO(x, dot_rows, features, cells, c8, weights, net->mask_count,
              answer->masks + b * net->mask_count * cells);
    }
}

void mf_sam2_decoder_run(struct mf_exec *x, const struct mf_sam2_decoder *net, size_t count,
                         size_t grid, float *keys, const float *position, const float *sparse,
                         size_t sparse_tokens, const struct mf_sam2_maps *maps,
                         const struct mf_sam2_answer *answer)
{
    size_t d = net->width, own = 2 + net->mask_count, tokens = own + sparse_tokens;
    size_t cells = grid * grid, m = count * tokens, mark = mf_exec_mark(x);
    float *point = mf_exec_floats(x, m * d);
    struct call c = {.count = count,
                     .tokens = tokens,
                     .cells = cells,
                     .position = position,
                     .point = point,
                     .keys = keys};
    c.queries = mf_exec_floats(x, m * d);
    c.query = mf_exec_floats(x, m * d);
    c.key = mf_exec_floats(x, count * cells * d);
    for (size_t b = 0; b < count; b++) {
        MF_DO(x, copy, net->tokens, own * d, point + b * tokens * d);
        MF_DO(x, copy, sparse + b * sparse_tokens * d, sparse_tokens * d,
              point + (b * tokens + own) * d);
    }
    MF_DO(x, copy, point, m * d, c.queries);
    for (size_t i = 0; i < net->layer_count; i++)
        run_layer(x, net, &net->layers[i], i == 0, &c);
    add_positions(x, net, &c, true, true);
    run_attention(x, net, &net->final_attn, count, c.query, tokens, c.key, c.keys, cells, c.queries,
                  MF_EPILOGUE_ADD);
    norm(x, &net->final_norm, m, c.queries);
    run_heads(x, net, &c, grid, maps, answer);
    mf_exec_rewind(x, mark);
}
