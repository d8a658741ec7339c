/* `module run`, one function for each kind of network but SAM 2: check the inputs, load, run item
 * by item, collect. */
#include "engine/module_io.h"

#include <math.h>
#include <string.h>

enum { REGIONS = 4 };

/* ── vision transformers ── */

struct vit_job {
    struct mf_vit *net;
    const float *pixels;
    size_t batch, rows, cols, tokens;
    float *hidden, *pooled, *regions; /* host */
};

static void vit_body(struct mf_exec *x, void *arg)
{
    const struct vit_job *j = arg;
    size_t image = 3 * j->rows * j->cols, d = mf_vit_width(j->net), n = j->tokens * d;
    float *pixels = mf_exec_floats(x, j->batch * image), *hidden = mf_exec_floats(x, j->batch * n);
    float *pooled = mf_exec_floats(x, d), *regions = mf_exec_floats(x, (REGIONS * REGIONS + 1) * d);
    MF_DO(x, upload, pixels, j->pixels, j->batch * image);
    mf_vit_run(x, j->net, pixels, j->batch, j->rows, j->cols, hidden);
    MF_DO(x, download, j->hidden, hidden, j->batch * n);
    for (size_t b = 0; b < j->batch; b++) {
        if (j->pooled) {
            mf_vit_pool(x, j->net, hidden + b * n, pooled);
            MF_DO(x, download, j->pooled + b * d, pooled, d);
        }
        mf_vit_regions(x, j->net, hidden + b * n, j->rows, j->cols, REGIONS, regions);
        MF_DO(x, download, j->regions + b * (REGIONS * REGIONS + 1) * d, regions,
              (REGIONS * REGIONS + 1) * d);
    }
}

bool mf_module_vit(struct mf_exec *x, struct mf_loader *ld, struct mf_module_io *io)
{
    size_t shape[4];
    struct vit_job j = {0};
    j.net = mf_vit_load_any(ld);
    j.pixels = mf_loader_finish(ld, mf_vit_head_names)
                   ? mf_module_floats(io, "pixel_values", 4, shape)
                   : NULL;
    if (!j.pixels)
        return false;
    size_t patch = mf_vit_patch(j.net);
    if (shape[1] != 3 || shape[2] < patch || shape[3] < patch)
        return mf_module_bad(
            io, "tensor \"pixel_values\" must be (b, 3, h, w) with h and w at least %zu", patch);
    size_t d = mf_vit_width(j.net);
    j.batch = shape[0];
    j.rows = shape[2];
    j.cols = shape[3];
    j.tokens = mf_vit_tokens(j.net, j.rows, j.cols);
    j.hidden = mf_module_output(io, "last_hidden_state", 3, (size_t[]){j.batch, j.tokens, d});
    j.regions =
        mf_module_output(io, "region_tokens", 3, (size_t[]){j.batch, REGIONS * REGIONS + 1, d});
    if (mf_vit_has_pooler(j.net))
        j.pooled = mf_module_output(io, "pooler_output", 2, (size_t[]){j.batch, d});
    return j.hidden && j.regions && mf_exec_run(x, vit_body, &j, false, io->err);
}

/* ── sequences ── */

struct sequence_job {
    const struct mf_mamba *mamba;
    const struct mf_temporal *temporal;
    const float *in;
    size_t batch, length, width, in_width,
        frames; /* frames > 0: region tokens through the whole module */
    const double *where;
    float *out; /* host */
};

static void sequence_body(struct mf_exec *x, void *arg)
{
    const struct sequence_job *j = arg;
    float *in = mf_exec_floats(x, j->length * j->in_width),
          *out = mf_exec_floats(x, j->length * j->width);
    for (size_t b = 0; b < j->batch; b++) {
        MF_DO(x, upload, in, j->in + b * j->length * j->in_width, j->length * j->in_width);
        if (j->frames)
            mf_temporal_run(x, j->temporal, in, j->frames, j->where, out);
        else if (j->temporal)
            mf_temporal_mix(x, j->temporal, in, j->length, out);
        else
            mf_mamba_run(x, j->mamba, in, j->length, out);
        MF_DO(x, download, j->out + b * j->length * j->width, out, j->length * j->width);
    }
}

static bool run_sequence(struct mf_exec *x, struct mf_module_io *io, struct sequence_job *j)
{
    j->out =
        mf_module_output(io, "last_hidden_state", 3, (size_t[]){j->batch, j->length, j->width});
    return j->out && mf_exec_run(x, sequence_body, j, false, io->err);
}

static bool read_embeds(struct mf_module_io *io, struct sequence_job *j)
{
    size_t shape[3];
    j->in = mf_module_floats(io, "inputs_embeds", 3, shape);
    if (!j->in)
        return false;
    if (shape[2] != j->width)
        return mf_module_bad(io, "tensor \"inputs_embeds\" must be (b, t, %zu)", j->width);
    j->batch = shape[0];
    j->length = shape[1];
    j->in_width = j->width;
    return true;
}

/* input_ids (b, t) → rows of the word embeddings. */
static bool read_ids(struct mf_module_io *io, struct sequence_job *j, const float *table,
                     size_t words)
{
    size_t shape[2];
    const long long *ids = mf_module_integers(io, "input_ids", 2, shape);
    if (!ids)
        return false;
    size_t n = shape[0] * shape[1];
    float *in = mf_arena_alloc(io->arena, n * j->width, sizeof *in, io->err);
    for (size_t i = 0; in && i < n; i++) {
        if (ids[i] < 0 || (size_t)ids[i] >= words)
            return mf_module_bad(io, "tensor \"input_ids\" holds %lld, words are 0 to %zu", ids[i],
                                 words - 1);
        memcpy(in + i * j->width, table + (size_t)ids[i] * j->width, j->width * sizeof *in);
    }
    j->in = in;
    j->batch = shape[0];
    j->length = shape[1];
    j->in_width = j->width;
    return in != NULL;
}

bool mf_module_mamba(struct mf_exec *x, struct mf_loader *ld, struct mf_module_io *io)
{
    static const char *const IGNORED[] = {"lm_head.", NULL};
    struct sequence_job j = {0};
    j.mamba = mf_mamba_load(ld);
    if (!j.mamba)
        return false;
    j.width = mf_mamba_width(j.mamba);
    const float *table = NULL;
    size_t words = 0;
    if (mf_weights_find(ld->weights, "embeddings.weight")) {
        words = mf_loader_int(ld, "vocab_size", 1, 1 << 24, -1);
        table = mf_load_host(ld, "embeddings.weight", 2, words, j.width);
    }
    if (!mf_loader_finish(ld, IGNORED))
        return false;
    bool by_ids = table && !mf_module_has(io, "inputs_embeds");
    return (by_ids ? read_ids(io, &j, table, words) : read_embeds(io, &j)) &&
           run_sequence(x, io, &j);
}

static bool read_regions(struct mf_module_io *io, struct sequence_job *j)
{
    size_t shape[3], frames;
    size_t tokens = mf_temporal_tokens(j->temporal), width = mf_temporal_input_width(j->temporal);
    j->in = mf_module_floats(io, "region_tokens", 3, shape);
    if (!j->in)
        return false;
    if (shape[1] != tokens || shape[2] != width || shape[0] > mf_temporal_max_frames(j->temporal))
        return mf_module_bad(io, "tensor \"region_tokens\" must be (frames ≤ %zu, %zu, %zu)",
                             mf_temporal_max_frames(j->temporal), tokens, width);
    j->batch = 1;
    j->frames = shape[0];
    j->length = shape[0] * tokens;
    j->in_width = width;
    if (!mf_module_has(io, "position"))
        return true;
    const float *position = mf_module_floats(io, "position", 1, &frames);
    double *where = position ? mf_arena_alloc(io->arena, frames, sizeof *where, io->err) : NULL;
    if (!where)
        return false;
    if (frames != j->frames)
        return mf_module_bad(io, "tensor \"position\" must have one value a frame");
    for (size_t i = 0; i < frames; i++)
        where[i] = position[i];
    j->where = where;
    return true;
}

bool mf_module_temporal(struct mf_exec *x, struct mf_loader *ld, struct mf_module_io *io)
{
    struct sequence_job j = {0};
    j.temporal = mf_temporal_load(ld);
    if (!mf_loader_finish(ld, NULL))
        return false;
    j.width = mf_temporal_width(j.temporal);
    bool regions = mf_module_has(io, "region_tokens");
    return (regions ? read_regions(io, &j) : read_embeds(io, &j)) && run_sequence(x, io, &j);
}

/* ── FT-Transformer ── */

struct ft_job {
    const struct mf_ft *net;
    size_t batch;
    const float *x_cont;
    const size_t *x_cat;
    const unsigned char *missing;
    float *out, *logits; /* host */
};

static void ft_body(struct mf_exec *x, void *arg)
{
    const struct ft_job *j = arg;
    size_t n = mf_ft_output_tokens(j->net) * mf_ft_width(j->net);
    size_t numeric = mf_ft_numeric(j->net), categorical = mf_ft_categorical(j->net);
    size_t outputs = mf_ft_outputs(j->net);
    float *out = mf_exec_floats(x, n), *logits = mf_exec_floats(x, outputs);
    for (size_t b = 0; b < j->batch; b++) {
        mf_ft_run(x, j->net, j->x_cont + b * numeric, j->x_cat + b * categorical,
                  j->missing + b * (numeric + categorical), out);
        MF_DO(x, download, j->out + b * n, out, n);
        if (!outputs)
            continue;
        mf_ft_head(x, j->net, out, logits);
        MF_DO(x, download, j->logits + b * outputs, logits, outputs);
    }
}

static bool read_categories(struct mf_module_io *io, struct ft_job *j, const long long *values)
{
    size_t m = mf_ft_categorical(j->net), n = mf_ft_numeric(j->net) + m;
    size_t *x_cat = mf_arena_alloc(io->arena, j->batch * m + 1, sizeof *x_cat, io->err);
    if (!x_cat)
        return false;
    for (size_t i = 0; values && i < j->batch * m; i++) {
        bool missing = j->missing[i / m * n + mf_ft_numeric(j->net) + i % m];
        size_t most = mf_ft_cardinality(j->net, i % m);
        if (!missing && (values[i] < 0 || (size_t)values[i] >= most))
            return mf_module_bad(
                io, "tensor \"x_cat\" holds %lld for feature %zu, categories are 0 to %zu",
                values[i], i % m, most - 1);
        x_cat[i] = missing ? 0 : (size_t)values[i];
    }
    j->x_cat = x_cat;
    return true;
}

static bool read_features(struct mf_module_io *io, struct ft_job *j)
{
    size_t n = mf_ft_numeric(j->net), m = mf_ft_categorical(j->net), shape[2] = {0, n},
           cats[2] = {0, m};
    if (n && !(j->x_cont = mf_module_floats(io, "x_cont", 2, shape)))
        return false;
    const long long *values = m ? mf_module_integers(io, "x_cat", 2, cats) : NULL;
    if (m && !values)
        return false;
    j->batch = n ? shape[0] : cats[0];
    if (shape[1] != n || cats[1] != m || (n && m && shape[0] != cats[0]))
        return mf_module_bad(io, "tensors \"x_cont\" and \"x_cat\" must be (b, %zu) and (b, %zu)",
                             n, m);
    unsigned char *missing = mf_arena_alloc(io->arena, j->batch * (n + m), 1, io->err);
    j->missing = missing;
    if (!missing)
        return false;
    if (mf_module_has(io, "missing")) {
        const long long *flags = mf_module_integers(io, "missing", 2, shape);
        if (!flags)
            return false;
        if (shape[0] != j->batch || shape[1] != n + m)
            return mf_module_bad(io, "tensor \"missing\" must be (%zu, %zu)", j->batch, n + m);
        for (size_t i = 0; i < j->batch * (n + m); i++) {
            missing[i] = flags[i] != 0;
            if (missing[i] && !mf_ft_takes_missing(j->net))
                return mf_module_bad(io, "tensor \"missing\": this model has no embedding for "
                                         "features that are missing");
        }
    }
    return read_categories(io, j, values);
}

bool mf_module_ft(struct mf_exec *x, struct mf_loader *ld, struct mf_module_io *io)
{
    struct ft_job j = {0};
    j.net = mf_ft_load(ld);
    if (!mf_loader_finish(ld, NULL) || !read_features(io, &j))
        return false;
    j.out = mf_module_output(io, "last_hidden_state", 3,
                             (size_t[]){j.batch, mf_ft_output_tokens(j.net), mf_ft_width(j.net)});
    if (mf_ft_outputs(j.net))
        j.logits = mf_module_output(io, "logits", 2, (size_t[]){j.batch, mf_ft_outputs(j.net)});
    return j.out && (j.logits || !mf_ft_outputs(j.net)) &&
           mf_exec_run(x, ft_body, &j, false, io->err);
}

/* ── fusion ── */

struct fusion_job {
    const struct mf_fusion *net;
    const float *image, *ehr;
    size_t batch, length, features, tokens_per_frame;
    float *out_image, *out_ehr, *out_readout, *out_logits; /* host */
};

static void fusion_body(struct mf_exec *x, void *arg)
{
    const struct fusion_job *j = arg;
    size_t d = mf_fusion_width(j->net), de = mf_fusion_ehr_width(j->net),
           r = mf_fusion_readout(j->net);
    size_t t = j->length, n = j->features, labels = mf_fusion_labels(j->net);
    float *image = mf_exec_floats(x, t * d), *ehr = mf_exec_floats(x, n * de + 1);
    float *fused = mf_exec_floats(x, n * d + 1), *readout = mf_exec_floats(x, r);
    float *logits = mf_exec_floats(x, labels);
    for (size_t b = 0; b < j->batch; b++) {
        MF_DO(x, upload, image, j->image + b * t * d, t * d);
        if (de)
            MF_DO(x, upload, ehr, j->ehr + b * n * de, n * de);
        mf_fusion_fuse(x, j->net, image, t, ehr, n, fused);
        mf_fusion_read(x, j->net, image, t, j->tokens_per_frame, fused, readout);
        mf_fusion_head(x, j->net, readout, logits);
        MF_DO(x, download, j->out_image + b * t * d, image, t * d);
        if (de)
            MF_DO(x, download, j->out_ehr + b * n * d, fused, n * d);
        MF_DO(x, download, j->out_readout + b * r, readout, r);
        MF_DO(x, download, j->out_logits + b * labels, logits, labels);
    }
}

static bool read_streams(struct mf_module_io *io, struct fusion_job *j)
{
    size_t image[3], ehr[3], d = mf_fusion_width(j->net), de = mf_fusion_ehr_width(j->net);
    long long tokens;
    j->image = mf_module_floats(io, "image_tokens", 3, image);
    if (!j->image || !mf_module_scalar(io, "tokens_per_frame", 17, &tokens))
        return false;
    if (image[2] != d || tokens < 2 || (size_t)tokens > image[1])
        return mf_module_bad(io, "tensor \"image_tokens\" must be (b, t ≥ tokens_per_frame, %zu)",
                             d);
    j->batch = image[0];
    j->length = image[1];
    j->tokens_per_frame = (size_t)tokens;
    if (!de)
        return true;
    j->ehr = mf_module_floats(io, "ehr_tokens", 3, ehr);
    if (!j->ehr)
        return false;
    if (ehr[0] != j->batch || ehr[2] != de)
        return mf_module_bad(io, "tensor \"ehr_tokens\" must be (%zu, n, %zu)", j->batch, de);
    j->features = ehr[1];
    return true;
}

bool mf_module_fusion(struct mf_exec *x, struct mf_loader *ld, struct mf_module_io *io)
{
    struct fusion_job j = {0};
    j.net = mf_fusion_load(ld);
    if (!mf_loader_finish(ld, NULL) || !read_streams(io, &j))
        return false;
    size_t d = mf_fusion_width(j.net);
    j.out_image = mf_module_output(io, "image_hidden_state", 3, (size_t[]){j.batch, j.length, d});
    if (j.ehr)
        j.out_ehr = mf_module_output(io, "ehr_hidden_state", 3, (size_t[]){j.batch, j.features, d});
    j.out_readout =
        mf_module_output(io, "readout", 2, (size_t[]){j.batch, mf_fusion_readout(j.net)});
    j.out_logits = mf_module_output(io, "logits", 2, (size_t[]){j.batch, mf_fusion_labels(j.net)});
    return j.out_image && j.out_readout && j.out_logits &&
           mf_exec_run(x, fusion_body, &j, false, io->err);
}
