/*
 * SAM 2's image path (Hugging Face's Sam2Model): image embedding, prompt encoder, decoder, choice
 * of the mask; and the box head that prompts it with nobody there to click
 * (models/FORMAT.md, "segmenter/").
 */
#include "engine/net/sam2_memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { STRUCTURES = 2, MAX_POINT_KINDS = 16 };

/* Hugging Face ignores these too when it opens a whole checkpoint as Sam2Model. */
const char *const mf_sam2_memory_names[] = {"memory_",
                                            "mask_downsample",
                                            "object_pointer_proj",
                                            "temporal_positional_encoding_projection_layer",
                                            "no_memory_positional_encoding",
                                            "no_object_pointer",
                                            "occlusion_spatial_embedding_parameter",
                                            NULL};

struct mf_sam2 {
    size_t width, image_size, grid, mask_channels, point_kinds, box_hidden;
    double delta, threshold;
    bool by_stability;
    struct mf_hiera *encoder;
    struct mf_sam2_decoder *decoder;
    struct mf_sam2_memory *memory;
    const float *no_memory, *no_mask;            /* device (width) */
    const float *position;                       /* device (grid · grid, width) */
    float *gaussian, *point_embed, *not_a_point; /* host; gaussian (2, width/2) */
    struct mf_linear *mask1, *mask2, *mask3;
    struct mf_norm mask_norm1, mask_norm2;
    struct mf_linear *box1, *box2, *box_out; /* box_out: 2 heat and 4 size channels */
};

/* [sin, cos] of 2π · (2c − 1) @ G for c in [0, 1]². */
static void encode_position(const float *gaussian, size_t width, float cx, float cy, float *out)
{
    size_t half = width / 2;
    cx = 2 * cx - 1;
    cy = 2 * cy - 1;
    for (size_t i = 0; i < half; i++) {
        float angle = 6.28318530717958647f * (cx * gaussian[i] + cy * gaussian[half + i]);
        out[i] = sinf(angle);
        out[half + i] = cosf(angle);
    }
}

static void load_position(struct mf_loader *ld, struct mf_sam2 *net)
{
    size_t two = 2, d = net->width, g = net->grid;
    const float *gaussian =
        mf_load_host(ld, "shared_image_embedding.positional_embedding", 2, two, d / 2);
    if (ld->failed || !ld->exec)
        return;
    float *host = mf_loader_alloc(ld, g * g * d, sizeof *host);
    for (size_t y = 0; host && y < g; y++)
        for (size_t x = 0; x < g; x++)
            encode_position(gaussian, d, ((float)x + 0.5f) / (float)g, ((float)y + 0.5f) / (float)g,
                            host + (y * g + x) * d);
    if (host)
        net->position = mf_load_upload(ld, host, g * g * d);
}

static void load_prompt_encoder(struct mf_loader *ld, struct mf_sam2 *net)
{
    size_t one = 1, two = 2, d = net->width, c = net->mask_channels;
    double eps = mf_loader_real(ld, "prompt_encoder_config.layer_norm_eps", 1e-6);
    size_t mark = mf_loader_enter(ld, "prompt_encoder.");
    net->gaussian = mf_load_host(ld, "shared_embedding.positional_embedding", 2, two, d / 2);
    net->point_embed = mf_load_host(ld, "point_embed.weight", 2, net->point_kinds, d);
    net->not_a_point = mf_load_host(ld, "not_a_point_embed.weight", 2, one, d);
    const float *no_mask = mf_load_host(ld, "no_mask_embed.weight", 2, one, d);
    net->no_mask = no_mask ? mf_load_upload(ld, no_mask, d) : NULL;
    net->mask1 = mf_load_conv(ld, "mask_embed.conv1", c / 4, 1, 2, 2, true);
    net->mask2 = mf_load_conv(ld, "mask_embed.conv2", c, c / 4, 2, 2, true);
    net->mask3 = mf_load_conv(ld, "mask_embed.conv3", d, c, 1, 1, true);
    net->mask_norm1 = mf_load_norm(ld, "mask_embed.layer_norm1", c / 4, eps);
    net->mask_norm2 = mf_load_norm(ld, "mask_embed.layer_norm2", c / 4 * 4, eps);
    mf_loader_leave(ld, mark);
}

/* The heat-map and size convolutions read the same features: one layer with 6 outputs. */
static void load_box_head(struct mf_loader *ld, struct mf_sam2 *net)
{
    size_t d = net->width, b = net->box_hidden, one = 1, two = STRUCTURES, four = 2 * STRUCTURES;
    size_t mark = mf_loader_enter(ld, "box_head.");
    net->box1 = mf_load_conv(ld, "conv1", b, d, 3, 3, true);
    net->box2 = mf_load_conv(ld, "conv2", b, b, 3, 3, true);
    const float *heat = mf_load_host(ld, "heatmap.weight", 4, two, b, one, one);
    const float *heat_bias = mf_load_host(ld, "heatmap.bias", 1, two);
    const float *size = mf_load_host(ld, "size.weight", 4, four, b, one, one);
    const float *size_bias = mf_load_host(ld, "size.bias", 1, four);
    mf_loader_leave(ld, mark);
    float *weight = mf_loader_alloc(ld, 6 * b, sizeof *weight),
          *bias = mf_loader_alloc(ld, 6, sizeof *bias);
    if (ld->failed || !ld->exec)
        return;
    memcpy(weight, heat, 2 * b * sizeof *weight);
    memcpy(weight + 2 * b, size, 4 * b * sizeof *weight);
    memcpy(bias, heat_bias, 2 * sizeof *bias);
    memcpy(bias + 2, size_bias, 4 * sizeof *bias);
    const struct mf_linear_source source = mf_linear_matrix(weight, bias, 6, b);
    net->box_out = mf_exec_keep_linear(ld->exec, &source, ld->err);
    ld->failed |= !net->box_out;
}

static struct mf_hiera *load_encoder(struct mf_loader *ld)
{
    size_t mark = mf_loader_enter(ld, "vision_encoder.");
    mf_loader_section(ld, "vision_config.");
    struct mf_hiera *encoder = mf_hiera_load(ld);
    mf_loader_section(ld, "");
    mf_loader_leave(ld, mark);
    return encoder;
}

struct mf_sam2 *mf_sam2_load(struct mf_loader *ld, bool memory)
{
    struct mf_sam2 *net = mf_loader_alloc(ld, 1, sizeof *net);
    size_t one = 1;
    if (!net)
        return NULL;
    size_t patch = mf_loader_int(ld, "prompt_encoder_config.patch_size", 16, 16, 16);
    net->width = mf_loader_int(ld, "prompt_encoder_config.hidden_size", 8, 4096, 256);
    net->image_size = mf_loader_int(ld, "prompt_encoder_config.image_size", 32, 4096, 1024);
    net->mask_channels = mf_loader_int(ld, "prompt_encoder_config.mask_input_channels", 4, 256, 16);
    net->point_kinds =
        mf_loader_int(ld, "prompt_encoder_config.num_point_embeddings", 4, MAX_POINT_KINDS, 4);
    net->grid = net->image_size / patch;
    net->delta = mf_loader_real(ld, "mask_decoder_config.dynamic_multimask_stability_delta", 0.05);
    net->threshold =
        mf_loader_real(ld, "mask_decoder_config.dynamic_multimask_stability_thresh", 0.98);
    net->by_stability =
        mf_loader_bool(ld, "mask_decoder_config.dynamic_multimask_via_stability", true);
    if (net->image_size % 32 || net->mask_channels % 4)
        mf_loader_fail(
            ld, "config.json: image_size must be a multiple of 32, mask_input_channels of 4");
    net->encoder = load_encoder(ld);
    if (net->encoder && mf_hiera_features(net->encoder) != net->width)
        mf_loader_fail(ld,
                       "config.json: fpn_hidden_size and the prompt encoder's hidden_size differ");
    net->decoder = mf_sam2_decoder_load(ld, net->width);
    load_prompt_encoder(ld, net);
    load_position(ld, net);
    const float *no_memory = mf_load_host(ld, "no_memory_embedding", 3, one, one, net->width);
    net->no_memory = no_memory ? mf_load_upload(ld, no_memory, net->width) : NULL;
    if (memory && mf_loader_has(ld, "memory_temporal_positional_encoding"))
        net->memory = mf_sam2_memory_load(ld, net->width, net->grid);
    if (mf_loader_has(ld, "box_head.conv1.weight")) {
        net->box_hidden = mf_loader_int(ld, "box_head_hidden_size", 1, 4096, -1);
        load_box_head(ld, net);
    }
    return ld->failed ? NULL : net;
}

bool mf_sam2_has_boxes(const struct mf_sam2 *net)
{
    return net->box_hidden > 0;
}

const struct mf_sam2_memory *mf_sam2_memory(const struct mf_sam2 *net)
{
    return net->memory;
}

size_t mf_sam2_image_size(const struct mf_sam2 *net)
{
    return net->image_size;
}

size_t mf_sam2_grid(const struct mf_sam2 *net)
{
    return net->grid;
}

size_t mf_sam2_width(const struct mf_sam2 *net)
{
    return net->width;
}

size_t mf_sam2_masks(const struct mf_sam2 *net)
{
    return mf_sam2_decoder_masks(net->decoder);
}

void mf_sam2_maps_alloc(struct mf_exec *x, const struct mf_sam2 *net, struct mf_sam2_maps *ret)
{
    size_t n = net->grid * net->grid;
    ret->s0 = mf_exec_floats(x, 16 * n * net->width / 8);
    ret->s1 = mf_exec_floats(x, 4 * n * net->width / 4);
    ret->s2 = mf_exec_floats(x, n * net->width);
}

void mf_sam2_add_no_memory(struct mf_exec *x, const struct mf_sam2 *net, float *s2)
{
    MF_DO(x, add, net->no_memory, 1, net->grid * net->grid, net->width, 1, s2);
}

void mf_sam2_embed(struct mf_exec *x, struct mf_sam2 *net, const float *pixels,
                   const struct mf_sam2_maps *maps)
{
    mf_sam2_features(x, net, pixels, maps);
    mf_sam2_add_no_memory(x, net, maps->s2);
}

void mf_sam2_features(struct mf_exec *x, struct mf_sam2 *net, const float *pixels,
                      const struct mf_sam2_maps *maps)
{
    size_t n = net->grid * net->grid, d = net->width, mark = mf_exec_mark(x);
    float *levels[3] = {mf_exec_floats(x, 16 * n * d), mf_exec_floats(x, 4 * n * d), maps->s2};
    mf_hiera_run(x, net->encoder, pixels, net->image_size, net->image_size, levels, NULL);
    mf_sam2_decoder_skip(x, net->decoder, levels[0], levels[1], net->grid, maps);
    mf_exec_rewind(x, mark);
}

void mf_sam2_box_logits(struct mf_exec *x, const struct mf_sam2 *net, const float *s2,
                        float *logits)
{
    size_t g = net->grid, n = g * g, mark = mf_exec_mark(x);
    struct mf_unfold u = {1, net->width, g, g, 3, 3, 1, 1, 1, 1, true};
    float *first = mf_exec_floats(x, n * net->box_hidden),
          *second = mf_exec_floats(x, n * net->box_hidden);
    mf_conv(x, net->box1, &u, s2, first, MF_EPILOGUE_RELU);
    u.channels = net->box_hidden;
    mf_conv(x, net->box2, &u, first, second, MF_EPILOGUE_RELU);
    mf_linear(x, net->box_out, second, n, logits, MF_EPILOGUE_NONE);
    mf_exec_rewind(x, mark);
}

void mf_sam2_boxes_from_logits(const struct mf_sam2 *net, const float *logits, float boxes[8])
{
    size_t g = net->grid, n = g * g;
    float pixels = (float)net->image_size;
    for (size_t s = 0; s < STRUCTURES; s++) {
        float most = -INFINITY;
        for (size_t i = 0; i < n; i++)
            most = fmaxf(most, logits[i * 6 + s]);
        double total = 0, cx = 0, cy = 0, w = 0, h = 0;
        for (size_t i = 0; i < n; i++) {
            double e = exp((double)logits[i * 6 + s] - most);
            size_t row = i / g, col = i % g;
            total += e;
            cx += e * ((double)col + 0.5) / (double)g;
            cy += e * ((double)row + 0.5) / (double)g;
            w += e * logits[i * 6 + 2 + 2 * s];
            h += e * logits[i * 6 + 3 + 2 * s];
        }
        cx /= total;
        cy /= total;
        w = 1 / (1 + exp(-w / total));
        h = 1 / (1 + exp(-h / total));
        float *box = boxes + 4 * s;
        box[0] = (float)(cx - w / 2) * pixels;
        box[1] = (float)(cy - h / 2) * pixels;
        box[2] = (float)(cx + w / 2) * pixels;
        box[3] = (float)(cy + h / 2) * pixels;
    }
}

size_t mf_sam2_prompt_tokens(const struct mf_sam2_prompts *p)
{
    return p->points + p->pad_point + (p->boxes ? 3 : 0);
}

static void add_row(const float *row, size_t width, float *out)
{
    for (size_t i = 0; i < width; i++)
        out[i] += row[i];
}

static bool encode_point(const struct mf_sam2 *net, const float *xy, int label, float *out,
                         struct mf_error *err)
{
    size_t d = net->width;
    float size = (float)net->image_size;
    if (label < -10 || (label < -1 && label != -10) || label >= (int)net->point_kinds)
        return mf_error_set(err, MF_ERR_MALFORMED, "input_labels: %d is not a label of a point",
                            label);
    if (label == -10) {
        memset(out, 0, d * sizeof *out);
    } else if (label == -1) {
        memcpy(out, net->not_a_point, d * sizeof *out);
    } else {
        encode_position(net->gaussian, d, (xy[0] + 0.5f) / size, (xy[1] + 0.5f) / size, out);
        add_row(net->point_embed + (size_t)label * d, d, out);
    }
    return true;
}

bool mf_sam2_encode_prompts(const struct mf_sam2 *net, const struct mf_sam2_prompts *p,
                            float *tokens, struct mf_error *err)
{
    static const float nowhere[2] = {0, 0};
    size_t d = net->width;
    for (size_t b = 0; b < p->count; b++) {
        for (size_t i = 0; i < p->points; i++, tokens += d)
            if (!encode_point(net, p->xy + (b * p->points + i) * 2, p->labels[b * p->points + i],
                              tokens, err))
                return false;
        if (p->pad_point) {
            if (!encode_point(net, nowhere, -1, tokens, err))
                return false;
            tokens += d;
        }
        for (int corner = 0; p->boxes && corner < 3; corner++, tokens += d) {
            const float *xy = corner < 2 ? p->boxes + b * 4 + 2 * corner : nowhere;
            if (!encode_point(net, xy, corner < 2 ? 2 + corner : -1, tokens, err))
                return false;
        }
    }
    return true;
}

/* Mask prompts (count, 4g, 4g) → dense (count · g·g, width) */
static void embed_masks(struct mf_exec *x, const struct mf_sam2 *net, size_t count,
                        const float *masks, float *dense)
{
    size_t g = net->grid, n = count * g * g, c = net->mask_channels, mark = mf_exec_mark(x);
    struct mf_unfold u = {count, 1, 4 * g, 4 * g, 2, 2, 2, 2, 0, 0, true};
    float *hidden = mf_exec_floats(x, 4 * n * (c / 4)), *out = mf_exec_floats(x, n * c);
    mf_conv(x, net->mask1, &u, masks, hidden, MF_EPILOGUE_NONE);
    MF_DO(x, layer_norm, hidden, 4 * n, c / 4, net->mask_norm1.weight, net->mask_norm1.bias,
          net->mask_norm1.eps, hidden);
    MF_DO(x, unary, MF_UNARY_GELU, hidden, n * c, hidden);
    u.channels = c / 4;
    u.height = u.width = 2 * g;
    mf_conv(x, net->mask2, &u, hidden, out, MF_EPILOGUE_NONE);
    MF_DO(x, layer_norm, out, n, c, net->mask_norm2.weight, net->mask_norm2.bias,
          net->mask_norm2.eps, out);
    MF_DO(x, unary, MF_UNARY_GELU, out, n * c, out);
    mf_linear(x, net->mask3, out, n, dense, MF_EPILOGUE_NONE);
    mf_exec_rewind(x, mark);
}

void mf_sam2_answer_alloc(struct mf_exec *x, const struct mf_sam2 *net, size_t count,
                          struct mf_sam2_answer *ret)
{
    size_t k = mf_sam2_masks(net), cells = 16 * net->grid * net->grid;
    ret->masks = mf_exec_floats(x, count * k * cells);
    ret->iou = mf_exec_floats(x, count * k);
    ret->object = mf_exec_floats(x, count);
    ret->tokens = mf_exec_floats(x, count * k * net->width);
}

void mf_sam2_decode(struct mf_exec *x, struct mf_sam2 *net, const struct mf_sam2_maps *maps,
                    const struct mf_sam2_prompts *p, const float *sparse,
                    const struct mf_sam2_answer *answer)
{
    size_t n = net->grid * net->grid, d = net->width, mark = mf_exec_mark(x);
    float *keys = mf_exec_floats(x, p->count * n * d);
    if (p->masks) {
        embed_masks(x, net, p->count, p->masks, keys);
        MF_DO(x, add, maps->s2, n, p->count * n, d, 1, keys);
    } else {
        for (size_t b = 0; b < p->count; b++)
            MF_DO(x, copy, maps->s2, n * d, keys + b * n * d);
        MF_DO(x, add, net->no_mask, 1, p->count * n, d, 1, keys);
    }
    mf_sam2_decoder_run(x, net->decoder, p->count, net->grid, keys, net->position, sparse,
                        mf_sam2_prompt_tokens(p), maps, answer);
    mf_exec_rewind(x, mark);
}

size_t mf_sam2_choose(const struct mf_sam2 *net, const float *masks, const float *iou)
{
    size_t n = 16 * net->grid * net->grid, inner = 0, outer = 0;
    float delta = mf_sam2_delta(net);
    for (size_t i = 0; net->by_stability && i < n; i++) {
        inner += masks[i] > delta;
        outer += masks[i] > -delta;
    }
    return mf_sam2_choose_by(net, inner, outer, iou);
}

float mf_sam2_delta(const struct mf_sam2 *net)
{
    return (float)net->delta;
}

size_t mf_sam2_choose_by(const struct mf_sam2 *net, size_t inner, size_t outer, const float *iou)
{
    size_t best = 1;
    if (!net->by_stability || !outer || (float)inner / (float)outer >= (float)net->threshold)
        return 0;
    for (size_t i = 2; i < mf_sam2_masks(net); i++)
        if (iou[i] > iou[best])
            best = i;
    return best;
}
