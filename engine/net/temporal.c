/*
 * The temporal module (DESIGN.md, "The network", 4): projection and LayerNorm to the fusion width,
 * token-type and position embeddings, then Mamba (one way, or both ways averaged), a transformer,
 * or nothing.
 */
#include "engine/net/net.h"

#include <math.h>
#include <string.h>

enum { MAX_FRAMES = 1024 };

struct mf_temporal {
    enum mf_temporal_kind kind;
    enum mf_position_kind position;
    size_t width, input_width, tokens, max_frames;
    struct mf_linear *projection, *position_fc1, *position_fc2;
    struct mf_norm norm;
    const float *token_type;     /* (tokens, width) */
    const float *position_table; /* (max_frames, width), row 0 = newest */
    const float *position_unknown;
    struct mf_mamba *forward, *backward;
    struct mf_transformer *transformer;
};

static void load_position(struct mf_loader *ld, struct mf_temporal *net)
{
    static const char *const NAMES[] = {"rank", "days", "slice"};
    const char *kind = json_string_value(mf_loader_config(ld, "position"));
    size_t i = 0, d = net->width, one = 1;
    while (i < 3 && (!kind || strcmp(kind, NAMES[i]) != 0))
        i++;
    if (i == 3) {
        mf_loader_fail(ld, "config.json: \"position\" must be rank, days or slice");
        return;
    }
    net->position = (enum mf_position_kind)i;
    if (net->position == MF_POSITION_RANK) {
        net->position_table = mf_load_matrix(ld, "position_embedding.weight", net->max_frames, d);
        return;
    }
    net->position_fc1 = mf_load_linear(ld, "position_mlp.fc1", d, one, true);
    net->position_fc2 = mf_load_linear(ld, "position_mlp.fc2", d, d, true);
    net->position_unknown = mf_load_vector(ld, "position_unknown", d);
}

static struct mf_mamba *load_mamba(struct mf_loader *ld, const char *path)
{
    size_t mark = mf_loader_enter(ld, "%s.", path);
    struct mf_mamba *mamba = mf_mamba_load(ld);
    mf_loader_leave(ld, mark);
    return mamba;
}

struct mf_temporal *mf_temporal_load(struct mf_loader *ld)
{
    struct mf_temporal *net = mf_loader_alloc(ld, 1, sizeof *net);
    const char *kind = json_string_value(mf_loader_config(ld, "model_type"));
    if (!net)
        return NULL;
    net->width = mf_loader_int(ld, "hidden_size", 1, 8192, -1);
    net->input_width = mf_loader_int(ld, "vision_hidden_size", 1, 8192, -1);
    net->tokens = mf_loader_int(ld, "tokens_per_frame", 1, 1025, -1);
    net->max_frames = mf_loader_int(ld, "max_frames", 1, MAX_FRAMES, -1);
    net->projection = mf_load_linear(ld, "projection", net->width, net->input_width, true);
    net->norm = mf_load_norm(ld, "projection_norm", net->width, 1e-5);
    net->token_type = mf_load_matrix(ld, "token_type_embedding.weight", net->tokens, net->width);
    load_position(ld, net);
    if (kind && strcmp(kind, "mamba") == 0) {
        net->kind = MF_TEMPORAL_MAMBA;
        net->forward = load_mamba(ld, "backbone");
        if (mf_loader_bool(ld, "bidirectional", false))
            net->backward = load_mamba(ld, "backbone_reverse");
    } else if (kind && strcmp(kind, "transformer") == 0) {
        net->kind = MF_TEMPORAL_TRANSFORMER;
        net->transformer = mf_transformer_load(ld);
    } else if (!kind || strcmp(kind, "none") != 0) {
        mf_loader_fail(ld, "config.json: \"model_type\" must be mamba, transformer or none");
    }
    return ld->failed ? NULL : net;
}

size_t mf_temporal_width(const struct mf_temporal *net)
{
    return net->width;
}

size_t mf_temporal_input_width(const struct mf_temporal *net)
{
    return net->input_width;
}

size_t mf_temporal_tokens(const struct mf_temporal *net)
{
    return net->tokens;
}

size_t mf_temporal_max_frames(const struct mf_temporal *net)
{
    return net->max_frames;
}

enum mf_position_kind mf_temporal_position(const struct mf_temporal *net)
{
    return net->position;
}

enum mf_temporal_kind mf_temporal_kind(const struct mf_temporal *net)
{
    return net->kind;
}

bool mf_temporal_both_ways(const struct mf_temporal *net)
{
    return net->backward != NULL;
}

/* One position embedding a frame, added to all its tokens. */
static void add_positions(struct mf_exec *x, const struct mf_temporal *net, size_t frames,
                          const double *where, float *h)
{
    size_t d = net->width, mark = mf_exec_mark(x);
    float *value = mf_exec_floats(x, frames), *hidden = mf_exec_floats(x, frames * d);
    float *rows = mf_exec_floats(x, frames * d);
    if (net->position != MF_POSITION_RANK) {
        float host[MAX_FRAMES];
        for (size_t f = 0; f < frames; f++) {
            double w = where ? where[f] : NAN;
            host[f] = isnan(w)                            ? 0
                      : net->position == MF_POSITION_DAYS ? log1pf((float)w)
                                                          : (float)w;
        }
        MF_DO(x, upload, value, host, frames);
        mf_linear(x, net->position_fc1, value, frames, hidden, MF_EPILOGUE_GELU);
        mf_linear(x, net->position_fc2, hidden, frames, rows, MF_EPILOGUE_NONE);
    }
    for (size_t f = 0; f < frames; f++) {
        const float *row = rows + f * d;
        if (net->position == MF_POSITION_RANK)
            row = net->position_table + (frames - 1 - f) * d;
        else if (!where || isnan(where[f]))
            row = net->position_unknown;
        MF_DO(x, add, row, 1, net->tokens, d, 1, h + f * net->tokens * d);
    }
    mf_exec_rewind(x, mark);
}

void mf_temporal_mix(struct mf_exec *x, const struct mf_temporal *net, const float *in, size_t t,
                     float *out)
{
    size_t d = net->width, mark = mf_exec_mark(x);
    if (net->kind == MF_TEMPORAL_NONE)
        MF_DO(x, copy, in, t * d, out);
    else if (net->kind == MF_TEMPORAL_TRANSFORMER)
        mf_transformer_run(x, net->transformer, in, t, out);
    else
        mf_mamba_run(x, net->forward, in, t, out);
    if (net->backward) {
        float *reversed = mf_exec_floats(x, t * d), *other = mf_exec_floats(x, t * d);
        MF_DO(x, reverse_rows, in, t, d, reversed);
        mf_mamba_run(x, net->backward, reversed, t, other);
        MF_DO(x, reverse_rows, other, t, d, reversed);
        MF_DO(x, add, reversed, t, t, d, 1, out);
        MF_DO(x, scale, 0.5f, t * d, out);
    }
    mf_exec_rewind(x, mark);
}

/* mf_temporal_mix() as a section (exec.h): no padding. */
struct mixing {
    const struct mf_temporal *net;
    const float *in;
    size_t tokens;
    float *out;
};

static void mix(struct mf_exec *x, void *arg)
{
    const struct mixing *m = arg;
    mf_temporal_mix(x, m->net, m->in, m->tokens, m->out);
}

void mf_temporal_run(struct mf_exec *x, const struct mf_temporal *net, const float *tokens,
                     size_t frames, const double *where, float *out)
{
    size_t d = net->width, m = frames * net->tokens, mark = mf_exec_mark(x);
    if (frames > net->max_frames) {
        mf_exec_fail(x, MF_ERR_UNUSABLE, "%zu frames, the model takes at most %zu", frames,
                     net->max_frames);
        return;
    }
    float *h = mf_exec_floats(x, m * d);
    mf_linear(x, net->projection, tokens, m, h, MF_EPILOGUE_NONE);
    MF_DO(x, layer_norm, h, m, d, net->norm.weight, net->norm.bias, net->norm.eps, h);
    MF_DO(x, add, net->token_type, net->tokens, m, d, 1, h);
    add_positions(x, net, frames, where, h);
    struct mixing mixing = {net, h, m, out};
    mf_exec_section(x, mix, &mixing, sizeof mixing);
    mf_exec_rewind(x, mark);
}
