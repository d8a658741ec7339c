/*
 * SAM 2's memory, as in Hugging Face's Sam2VideoModel: the memory encoder (a mask and the features
 * it was found on become a map of memories), the memory attention (features read memories and
 * object pointers, with axial rotary positions) and the projection of an object pointer.
 */
#include "engine/net/sam2_memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_LAYERS = 16, DOWN_LAYERS = 4, MAX_FUSERS = 8, POINTER_DEPTH = 3 };

struct cross {
    struct mf_linear *q, *k, *v, *o;
};

struct layer {
    struct mf_linear *qkv, *self_out;
    struct cross cross;
    struct mf_linear *linear1, *linear2;
    struct mf_norm norm1, norm2, norm3;
};

struct fuser {
    const float *weight, *bias; /* depth-wise: (k·k, C), (C) */
    struct mf_norm norm;
    struct mf_linear *expand, *shrink;
};

struct mf_sam2_memory {
    size_t width, grid, memory; /* C; g; channels of a memory */
    struct mf_sam2_memory_rules rules;
    /* attention */
    size_t heads, inner, hidden, layer_count;
    struct layer layers[MAX_LAYERS];
    struct mf_norm norm;
    const float *rotary;   /* (g·g, inner/heads) */
    const float *position; /* (g·g, C): a tenth of the sine positions */
    /* encoder */
    size_t down_channels[DOWN_LAYERS + 1], fuser_count, fuser_hidden, fuser_kernel;
    struct mf_linear *down[DOWN_LAYERS], *down_out, *feature_projection, *projection;
    struct mf_norm down_norm[DOWN_LAYERS];
    struct fuser fusers[MAX_FUSERS];
    struct mf_linear *pointer[POINTER_DEPTH];
    float *host_position; /* (g·g, memory): sine positions */
    struct mf_sam2_memory_host host;
};

/* One coordinate of the sine positions: `n` features of position p in (0, 2π], sin and cos by
 * turns. */
static void sine(float p, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++) {
        size_t even = i - i % 2;
        float angle = p / powf(10000.0f, (float)even / (float)n);
        out[i] = i % 2 ? cosf(angle) : sinf(angle);
    }
}

/* Normalised sine positions of a g × g grid: half the channels from y, half from x. */
static void fill_positions(size_t g, size_t channels, float factor, float *out)
{
    const float turn = 6.28318530717958647f;
    size_t half = channels / 2;
    for (size_t i = 0; i < g * g; i++, out += channels) {
        float last = (float)g + 1e-6f;
        size_t row = i / g, column = i % g;
        sine((float)(row + 1) / last * turn, half, out);
        sine((float)(column + 1) / last * turn, half, out + half);
        for (size_t k = 0; k < channels; k++)
            out[k] *= factor;
    }
}

static const float *upload_positions(struct mf_loader *ld, size_t g, size_t channels, float factor)
{
    float *host = ld->exec ? mf_loader_alloc(ld, g * g * channels, sizeof *host) : NULL;
    if (!host)
        return NULL;
    fill_positions(g, channels, factor, host);
    return mf_load_upload(ld, host, g * g * channels);
}

/* Axial rotary angles: the first half of the pairs turns with x, the second with y. */
static const float *upload_rotary(struct mf_loader *ld, size_t g, size_t size, double theta)
{
    float *host = ld->exec ? mf_loader_alloc(ld, g * g * size, sizeof *host) : NULL;
    size_t pairs = size / 2, half = pairs / 2;
    if (!host)
        return NULL;
    for (size_t i = 0; i < g * g; i++)
        for (size_t k = 0; k < pairs; k++) {
            float power = (float)(2 * (k % half)) / (float)pairs;
            float angle = (float)(k < half ? i % g : i / g) * (1.0f / powf((float)theta, power));
            host[i * size + 2 * k] = cosf(angle);
            host[i * size + 2 * k + 1] = sinf(angle);
        }
    return mf_load_upload(ld, host, g * g * size);
}

static void load_layer(struct mf_loader *ld, const struct mf_sam2_memory *m, struct layer *l)
{
    static const char *const QKV[] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"};
    size_t d = m->width, n = m->inner;
    l->qkv = mf_load_linears(ld, QKV, 3, n, d, true);
    l->self_out = mf_load_linear(ld, "self_attn.o_proj", d, n, true);
    l->cross.q = mf_load_linear(ld, "cross_attn_image.q_proj", n, d, true);
    l->cross.k = mf_load_linear(ld, "cross_attn_image.k_proj", n, m->memory, true);
    l->cross.v = mf_load_linear(ld, "cross_attn_image.v_proj", n, m->memory, true);
    l->cross.o = mf_load_linear(ld, "cross_attn_image.o_proj", d, n, true);
    l->linear1 = mf_load_linear(ld, "linear1", m->hidden, d, true);
    l->linear2 = mf_load_linear(ld, "linear2", d, m->hidden, true);
    l->norm1 = mf_load_norm(ld, "layer_norm1", d, 1e-5);
    l->norm2 = mf_load_norm(ld, "layer_norm2", d, 1e-5);
    l->norm3 = mf_load_norm(ld, "layer_norm3", d, 1e-5);
}

static void load_attention(struct mf_loader *ld, struct mf_sam2_memory *m)
{
    size_t rate = mf_loader_int(ld, "memory_attention_downsample_rate", 1, 64, 1);
    size_t grid[2];
    m->heads = mf_loader_int(ld, "memory_attention_num_attention_heads", 1, 64, 1);
    m->hidden = mf_loader_int(ld, "memory_attention_feed_forward_hidden_size", 1, 65536, 2048);
    m->layer_count = mf_loader_int(ld, "memory_attention_num_layers", 1, MAX_LAYERS, 4);
    mf_loader_ints(ld, "memory_attention_rope_feat_sizes", 1, 1024, 2, grid);
    double theta = mf_loader_real(ld, "rope_parameters.rope_theta",
                                  mf_loader_real(ld, "memory_attention_rope_theta", 10000));
    const char *act =
        json_string_value(mf_loader_config(ld, "memory_attention_feed_forward_hidden_act"));
    m->inner = m->width / rate;
    if (mf_loader_int(ld, "memory_attention_hidden_size", 1, 4096, 256) != m->width ||
        m->width % rate || m->inner % (4 * m->heads) || grid[0] != m->grid || grid[1] != m->grid ||
        theta <= 0)
        mf_loader_fail(ld, "config.json: the memory attention's sizes do not fit the image's");
    if (act && strcmp(act, "relu") != 0)
        mf_loader_fail(ld, "config.json: memory_attention_feed_forward_hidden_act must be relu");
    size_t mark = mf_loader_enter(ld, "memory_attention.");
    for (size_t i = 0; i < m->layer_count && !ld->failed; i++) {
        size_t inner = mf_loader_enter(ld, "layers.%zu.", i);
        load_layer(ld, m, &m->layers[i]);
        mf_loader_leave(ld, inner);
    }
    m->norm = mf_load_norm(ld, "layer_norm", m->width, 1e-5);
    mf_loader_leave(ld, mark);
    if (ld->failed)
        return;
    m->rotary = upload_rotary(ld, m->grid, m->inner / m->heads, theta);
    m->position = upload_positions(ld, m->grid, m->width, 0.1f);
}

/* Depth-wise weights (C, 1, k, k) → (k·k, C); the scale of the block goes into its last layer. */
static void load_fuser(struct mf_loader *ld, const struct mf_sam2_memory *m, struct fuser *f)
{
    size_t d = m->width, k = m->fuser_kernel, one = 1;
    const float *w = mf_load_host(ld, "depthwise_conv.weight", 4, d, one, k, k);
    float *order = mf_loader_alloc(ld, d * k * k, sizeof *order);
    for (size_t i = 0; w && order && i < d * k * k; i++)
        order[i % (k * k) * d + i / (k * k)] = w[i];
    f->weight = order ? mf_load_upload(ld, order, d * k * k) : NULL;
    f->bias = mf_load_vector(ld, "depthwise_conv.bias", d);
    f->norm = mf_load_norm(ld, "layer_norm", d, 1e-6);
    const float *scale = mf_load_host(ld, "scale", 1, d);
    f->expand = mf_load_linear(ld, "pointwise_conv1", m->fuser_hidden, d, true);
    f->shrink = mf_load_linear_scaled(ld, "pointwise_conv2", d, m->fuser_hidden, true, scale);
}

static void load_downsampler(struct mf_loader *ld, struct mf_sam2_memory *m)
{
    size_t mark = mf_loader_enter(ld, "memory_encoder.mask_downsampler.");
    m->down_channels[0] = 1;
    for (size_t i = 0; i < DOWN_LAYERS; i++) {
        size_t inner = mf_loader_enter(ld, "layers.%zu.", i), c = 4 * m->down_channels[i];
        m->down_channels[i + 1] = c;
        m->down[i] = mf_load_conv(ld, "conv", c, m->down_channels[i], 3, 3, true);
        m->down_norm[i] = mf_load_norm(ld, "layer_norm", c, 1e-6);
        mf_loader_leave(ld, inner);
    }
    m->down_out =
        mf_load_conv(ld, "final_conv", m->width, m->down_channels[DOWN_LAYERS], 1, 1, true);
    mf_loader_leave(ld, mark);
}

static void check_encoder(struct mf_loader *ld, const struct mf_sam2_memory *m)
{
    static const char *const ACTS[] = {"mask_downsampler_hidden_act", "memory_fuser_hidden_act"};
    mf_loader_int(ld, "mask_downsampler_kernel_size", 3, 3, 3);
    mf_loader_int(ld, "mask_downsampler_stride", 2, 2, 2);
    mf_loader_int(ld, "mask_downsampler_padding", 1, 1, 1);
    mf_loader_int(ld, "mask_downsampler_total_stride", 16, 16, 16);
    for (int i = 0; i < 2; i++) {
        const char *act = json_string_value(mf_loader_config(ld, ACTS[i]));
        if (act && strcmp(act, "gelu") != 0)
            mf_loader_fail(ld, "config.json: %s must be gelu", ACTS[i]);
    }
    if (m->fuser_kernel % 2 == 0 ||
        mf_loader_int(ld, "memory_fuser_padding", 0, 31, 3) != m->fuser_kernel / 2 ||
        mf_loader_int(ld, "memory_encoder_hidden_size", 1, 4096, 256) != m->width ||
        mf_loader_int(ld, "mask_downsampler_embed_dim", 1, 4096, 256) != m->width ||
        mf_loader_int(ld, "memory_fuser_embed_dim", 1, 4096, 256) != m->width)
        mf_loader_fail(ld, "config.json: the memory encoder's sizes do not fit the image's");
}

static void load_encoder(struct mf_loader *ld, struct mf_sam2_memory *m)
{
    m->fuser_count = mf_loader_int(ld, "memory_fuser_num_layers", 0, MAX_FUSERS, 2);
    m->fuser_hidden = mf_loader_int(ld, "memory_fuser_intermediate_dim", 1, 65536, 1024);
    m->fuser_kernel = mf_loader_int(ld, "memory_fuser_kernel_size", 1, 31, 7);
    check_encoder(ld, m);
    if (ld->failed)
        return;
    load_downsampler(ld, m);
    size_t mark = mf_loader_enter(ld, "memory_encoder.");
    m->feature_projection = mf_load_conv(ld, "feature_projection", m->width, m->width, 1, 1, true);
    m->projection = mf_load_conv(ld, "projection", m->memory, m->width, 1, 1, true);
    for (size_t i = 0; i < m->fuser_count && !ld->failed; i++) {
        size_t inner = mf_loader_enter(ld, "memory_fuser.layers.%zu.", i);
        load_fuser(ld, m, &m->fusers[i]);
        mf_loader_leave(ld, inner);
    }
    mf_loader_leave(ld, mark);
}

/* What the host adds to memories and pointers before they are uploaded. */
static void load_host(struct mf_loader *ld, struct mf_sam2_memory *m)
{
    size_t one = 1, four = 4, d = m->width, c = m->memory, g = m->grid;
    struct mf_sam2_memory_host *h = &m->host;
    h->temporal =
        mf_load_host(ld, "memory_temporal_positional_encoding", 4, m->rules.memories, one, one, c);
    h->no_object_pointer = mf_load_host(ld, "no_object_pointer", 2, one, d);
    if (mf_loader_bool(ld, "enable_occlusion_spatial_embedding", true))
        h->occlusion = mf_load_host(ld, "occlusion_spatial_embedding_parameter", 2, one, c);
    if (mf_loader_bool(ld, "enable_temporal_pos_encoding_for_object_pointers", true)) {
        size_t mark = mf_loader_enter(ld, "temporal_positional_encoding_projection_layer.");
        h->pointer_weight = mf_load_host(ld, "weight", 2, c, d);
        h->pointer_bias = mf_load_host(ld, "bias", 1, c);
        mf_loader_leave(ld, mark);
    }
    h->mask_weight = mf_load_host(ld, "mask_downsample.weight", 4, one, one, four, four);
    h->mask_bias = mf_load_host(ld, "mask_downsample.bias", 1, one);
    mf_load_host(ld, "no_memory_positional_encoding", 3, one, one, d); /* nothing reads it */
    m->host_position = ld->exec ? mf_loader_alloc(ld, g * g * c, sizeof(float)) : NULL;
    if (m->host_position)
        fill_positions(g, c, 1, m->host_position);
    h->position = m->host_position;
}

static void load_rules(struct mf_loader *ld, struct mf_sam2_memory_rules *r)
{
    r->memories = mf_loader_int(ld, "num_maskmem", 1, MF_SAM2_MEMORIES, 7);
    r->pointers = mf_loader_int(ld, "max_object_pointers_in_encoder", 2, MF_SAM2_POINTERS, 16);
    r->mask_scale = (float)mf_loader_real(ld, "sigmoid_scale_for_mem_enc", 20);
    r->mask_bias = (float)mf_loader_real(ld, "sigmoid_bias_for_mem_enc", -10);
    r->multimask = mf_loader_bool(ld, "multimask_output_in_sam", true);
    r->multimask_tracking = mf_loader_bool(ld, "multimask_output_for_tracking", true);
    r->least_points = mf_loader_int(ld, "multimask_min_pt_num", 0, 1024, 0);
    r->most_points = mf_loader_int(ld, "multimask_max_pt_num", 0, 1024, 1);
}

struct mf_sam2_memory *mf_sam2_memory_load(struct mf_loader *ld, size_t width, size_t grid)
{
    static const char *const LAYERS[] = {"proj_in", "layers.0", "proj_out"};
    struct mf_sam2_memory *m = mf_loader_alloc(ld, 1, sizeof *m);
    if (!m)
        return NULL;
    m->width = width;
    m->grid = grid;
    m->memory = mf_loader_int(ld, "memory_encoder_output_channels", 4, 4096, 64);
    if (m->memory % 4 || width % m->memory || width % 4)
        mf_loader_fail(ld, "config.json: hidden_size is not a multiple of the memory's channels");
    if (mf_loader_int(ld, "image_size", 32, 4096, 1024) != 16 * grid)
        mf_loader_fail(ld, "config.json: image_size is not the prompt encoder's");
    load_rules(ld, &m->rules);
    if (ld->failed)
        return NULL;
    load_attention(ld, m);
    load_encoder(ld, m);
    load_host(ld, m);
    size_t mark = mf_loader_enter(ld, "object_pointer_proj.");
    for (int i = 0; i < POINTER_DEPTH; i++)
        m->pointer[i] = mf_load_linear(ld, LAYERS[i], width, width, true);
    mf_loader_leave(ld, mark);
    return ld->failed ? NULL : m;
}

size_t mf_sam2_memory_channels(const struct mf_sam2_memory *m)
{
    return m->memory;
}

const struct mf_sam2_memory_rules *mf_sam2_memory_rules(const struct mf_sam2_memory *m)
{
    return &m->rules;
}

const struct mf_sam2_memory_host *mf_sam2_memory_host(const struct mf_sam2_memory *m)
{
    return &m->host;
}

static void norm(struct mf_exec *x, const struct mf_norm *n, const float *in, size_t rows, float *y)
{
    MF_DO(x, layer_norm, in, rows, n->width, n->weight, n->bias, n->eps, y);
}

static void self_attention(struct mf_exec *x, const struct mf_sam2_memory *m, const struct layer *l,
                           float *h)
{
    size_t n = m->grid * m->grid, c = m->inner, size = c / m->heads, mark = mf_exec_mark(x);
    float *y = mf_exec_floats(x, n * m->width), *qkv = mf_exec_floats(x, n * 3 * c);
    float *mixed = mf_exec_floats(x, n * c);
    struct mf_attention at = {1,     m->heads, size, n, n, 3 * c, 3 * c,
                              3 * c, c,        0,    0, 0, 0,     mf_attention_scale(size)};
    norm(x, &l->norm1, h, n, y);
    mf_linear(x, l->qkv, y, n, qkv, MF_EPILOGUE_NONE);
    MF_DO(x, rotate, m->rotary, n, n, 3 * c, m->heads, size, qkv);
    MF_DO(x, rotate, m->rotary, n, n, 3 * c, m->heads, size, qkv + c);
    mf_attend(x, &at, qkv, qkv + c, qkv + 2 * c, mixed);
    mf_linear(x, l->self_out, mixed, n, h, MF_EPILOGUE_ADD);
    mf_exec_rewind(x, mark);
}

static void cross_attention(struct mf_exec *x, const struct mf_sam2_memory *m,
                            const struct layer *l, const struct mf_sam2_memories *in, float *h)
{
    size_t n = m->grid * m->grid, c = m->inner, size = c / m->heads, mark = mf_exec_mark(x);
    float *y = mf_exec_floats(x, n * m->width), *q = mf_exec_floats(x, n * c);
    float *k = mf_exec_floats(x, in->count * c), *v = mf_exec_floats(x, in->count * c);
    struct mf_attention at = {1, m->heads, size, n, in->count, c, c,
                              c, c,        0,    0, 0,         0, mf_attention_scale(size)};
    norm(x, &l->norm2, h, n, y);
    mf_linear(x, l->cross.q, y, n, q, MF_EPILOGUE_NONE);
    mf_linear(x, l->cross.k, in->keys, in->count, k, MF_EPILOGUE_NONE);
    mf_linear(x, l->cross.v, in->values, in->count, v, MF_EPILOGUE_NONE);
    MF_DO(x, rotate, m->rotary, n, n, c, m->heads, size, q);
    MF_DO(x, rotate, m->rotary, n, in->count - in->pointers, c, m->heads, size, k);
    float *mixed = mf_exec_floats(x, n * c);
    mf_attend(x, &at, q, k, v, mixed);
    mf_linear(x, l->cross.o, mixed, n, h, MF_EPILOGUE_ADD);
    mf_exec_rewind(x, mark);
}

void mf_sam2_memory_attend(struct mf_exec *x, const struct mf_sam2_memory *m, const float *features,
                           const struct mf_sam2_memories *in, float *out)
{
    size_t n = m->grid * m->grid, d = m->width, mark = mf_exec_mark(x);
    float *h = mf_exec_floats(x, n * d);
    MF_DO(x, copy, features, n * d, h);
    MF_DO(x, add, m->position, n, n, d, 1, h);
    for (size_t i = 0; i < m->layer_count; i++) {
        const struct layer *l = &m->layers[i];
        self_attention(x, m, l, h);
        cross_attention(x, m, l, in, h);
        size_t inner = mf_exec_mark(x);
        float *y = mf_exec_floats(x, n * d), *wide = mf_exec_floats(x, n * m->hidden);
        norm(x, &l->norm3, h, n, y);
        mf_linear(x, l->linear1, y, n, wide, MF_EPILOGUE_RELU);
        mf_linear(x, l->linear2, wide, n, h, MF_EPILOGUE_ADD);
        mf_exec_rewind(x, inner);
    }
    norm(x, &m->norm, h, n, out);
    mf_exec_rewind(x, mark);
}

/* mask (16g, 16g) → (g·g, C), added to `out` */
static void downsample(struct mf_exec *x, const struct mf_sam2_memory *m, const float *mask,
                       float *out)
{
    size_t side = 16 * m->grid, mark = mf_exec_mark(x);
    const float *in = mask;
    for (size_t i = 0; i < DOWN_LAYERS; i++, side /= 2) {
        size_t c = m->down_channels[i], n = side * side / 4;
        struct mf_unfold u = {1, c, side, side, 3, 3, 2, 2, 1, 1, true};
        float *y = mf_exec_floats(x, n * 4 * c);
        mf_conv(x, m->down[i], &u, in, y, MF_EPILOGUE_NONE);
        norm(x, &m->down_norm[i], y, n, y);
        MF_DO(x, unary, MF_UNARY_GELU, y, n * 4 * c, y);
        in = y;
    }
    mf_linear(x, m->down_out, in, side * side, out, MF_EPILOGUE_ADD);
    mf_exec_rewind(x, mark);
}

void mf_sam2_memory_encode(struct mf_exec *x, const struct mf_sam2_memory *m, const float *features,
                           const float *mask, float *out)
{
    size_t g = m->grid, n = g * g, d = m->width, mark = mf_exec_mark(x);
    float *h = mf_exec_floats(x, n * d);
    mf_linear(x, m->feature_projection, features, n, h, MF_EPILOGUE_NONE);
    downsample(x, m, mask, h);
    for (size_t i = 0; i < m->fuser_count; i++) {
        const struct fuser *f = &m->fusers[i];
        size_t inner = mf_exec_mark(x);
        float *y = mf_exec_floats(x, n * d), *wide = mf_exec_floats(x, n * m->fuser_hidden);
        MF_DO(x, depthwise, h, g, g, d, f->weight, f->bias, m->fuser_kernel, y);
        norm(x, &f->norm, y, n, y);
        mf_linear(x, f->expand, y, n, wide, MF_EPILOGUE_GELU);
        mf_linear(x, f->shrink, wide, n, h, MF_EPILOGUE_ADD);
        mf_exec_rewind(x, inner);
    }
    mf_linear(x, m->projection, h, n, out, MF_EPILOGUE_NONE);
    mf_exec_rewind(x, mark);
}

void mf_sam2_memory_pointer(struct mf_exec *x, const struct mf_sam2_memory *m, const float *token,
                            float *out)
{
    size_t mark = mf_exec_mark(x);
    float *a = mf_exec_floats(x, m->width), *b = mf_exec_floats(x, m->width);
    mf_linear(x, m->pointer[0], token, 1, a, MF_EPILOGUE_RELU);
    mf_linear(x, m->pointer[1], a, 1, b, MF_EPILOGUE_RELU);
    mf_linear(x, m->pointer[2], b, 1, out, MF_EPILOGUE_NONE);
    mf_exec_rewind(x, mark);
}
