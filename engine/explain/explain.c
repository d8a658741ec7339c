/* An explainer's life, and the parts of the network that it runs. */
#include "engine/explain/explain_private.h"

#include "engine/engine_private.h"

#include <stdlib.h>
#include <string.h>

enum { ARENA_GIB = 64 };

static bool load_networks(struct mf_explainer *e, struct mf_error *err)
{
    const struct mf_bundle *b = e->bundle;
    for (int i = 0; i < MF_MODULE_COUNT; i++) {
        struct mf_loader ld;
        if (!b->weights[i] || i == MF_MODULE_SEGMENTER)
            continue;
        mf_loader_init(&ld, b->weights[i], &e->exec, e->arena, err);
        if (i == MF_MODULE_VISION)
            e->vision = mf_vit_load_any(&ld);
        else if (i == MF_MODULE_TEMPORAL)
            e->temporal = mf_temporal_load(&ld);
        else if (i == MF_MODULE_EHR)
            e->ehr = mf_ft_load(&ld);
        else
            e->fusion = mf_fusion_load(&ld);
        if (!mf_loader_finish(&ld, mf_bundle_ignored(b, i)))
            return false;
        mf_weights_forget(b->weights[i]);
    }
    return true;
}

static void *room(struct mf_explainer *e, size_t n, size_t size, bool *ok)
{
    void *p = mf_arena_alloc(e->arena, n + 1, size, NULL);
    *ok &= p != NULL;
    return p;
}

static bool make_buffers(struct mf_explainer *e, struct mf_error *err)
{
    const struct mf_image_input *in = &e->bundle->vision;
    size_t d = mf_temporal_width(e->temporal), dv = mf_vit_width(e->vision), f = MF_EXPLAIN_FRAMES;
    size_t n = e->ehr ? mf_ft_output_tokens(e->ehr) : 0, patch = mf_vit_patch(e->vision);
    bool ok = true;
    f = e->bundle->max_frames < f ? e->bundle->max_frames : f;
    e->tokens = mf_temporal_tokens(e->temporal);
    e->labels = mf_fusion_labels(e->fusion);
    e->features = e->bundle->features ? e->bundle->features->count : 0;
    e->pixels = 3 * in->rows * in->cols;
    e->grid = (struct mf_relevance_grid){e->bundle->regions, in->rows / patch, in->cols / patch,
                                         mf_vit_tokens(e->vision, in->rows, in->cols), dv};
    e->line = room(e, e->pixels, sizeof(float), &ok);
    e->scratch = room(e, in->rows * in->cols, sizeof(float), &ok);
    e->blurred = room(e, f * e->pixels, sizeof(float), &ok);
    e->hidden = room(e, e->grid.tokens * dv, sizeof(float), &ok);
    e->regions = room(e, f * e->tokens * dv, sizeof(float), &ok);
    e->moved = room(e, f * e->tokens * dv, sizeof(float), &ok);
    e->image = room(e, f * e->tokens * d, sizeof(float), &ok);
    e->fused = room(e, f * e->tokens * d, sizeof(float), &ok);
    e->fused_ehr = room(e, n * d, sizeof(float), &ok);
    e->ehr_tokens = room(e, n * (e->ehr ? mf_ft_width(e->ehr) : 0), sizeof(float), &ok);
    e->logits = room(e, e->labels, sizeof(float), &ok);
    e->x_cont = room(e, e->features, sizeof(float), &ok);
    e->x_cat = room(e, e->features, sizeof *e->x_cat, &ok);
    e->missing = room(e, e->features, 1, &ok);
    e->present = room(e, e->features, 1, &ok);
    return ok || mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for an explainer");
}

struct mf_explainer *mf_explainer_new(const struct mf_bundle *bundle, int threads,
                                      struct mf_error *err)
{
    MF_AUTO(mf_explainer) struct mf_explainer *e = calloc(1, sizeof *e);
    if (!e || !(e->arena = mf_arena_new((size_t)ARENA_GIB << 30))) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
        return NULL;
    }
    if (bundle->checked != MF_BUNDLE_FULL) {
        mf_error_set(err, MF_ERR_INTERNAL, "the bundle was opened without its weights");
        return NULL;
    }
    e->bundle = bundle;
    if (!mf_tape_exec_init(&e->exec, threads, err) || !load_networks(e, err) ||
        !make_buffers(e, err))
        return NULL;
    return MF_STEAL(e);
}

void mf_explainer_free(struct mf_explainer *e)
{
    if (!e)
        return;
    mf_exec_free(&e->exec);
    mf_arena_free(e->arena);
    free(e);
}

size_t mf_explainer_memory(const struct mf_explainer *e)
{
    return 2 * e->exec.capacity + e->exec.weight_bytes + mf_arena_used(e->arena);
}

/* --- parts of the network --- */

void mf_explain_vision(struct mf_exec *x, void *arg)
{
    const struct mf_explain_run *r = arg;
    struct mf_explainer *e = r->e;
    const struct mf_image_input *in = &e->bundle->vision;
    size_t dv = e->grid.width;
    float *pixels = mf_exec_floats(x, e->pixels);
    float *hidden = mf_exec_floats(x, e->grid.tokens * dv);
    float *regions = mf_exec_floats(x, e->tokens * dv);
    MF_DO(x, upload, pixels, r->pixels, e->pixels);
    mf_vit_run(x, e->vision, pixels, 1, in->rows, in->cols, hidden);
    MF_DO(x, download, e->hidden, hidden, e->grid.tokens * dv);
    mf_vit_regions(x, e->vision, hidden, in->rows, in->cols, e->grid.regions, regions);
    MF_DO(x, download, r->regions, regions, e->tokens * dv);
}

void mf_explain_ehr(struct mf_exec *x, void *arg)
{
    const struct mf_explain_run *r = arg;
    struct mf_explainer *e = r->e;
    size_t n = mf_ft_output_tokens(e->ehr) * mf_ft_width(e->ehr);
    float *out = mf_exec_floats(x, n);
    mf_ft_run(x, e->ehr, e->x_cont, e->x_cat, r->missing, out);
    MF_DO(x, download, e->ehr_tokens, out, n);
}

/* image (t, d) on the device → logits; the streams after fusion are shown to the host. */
static void fuse(struct mf_exec *x, struct mf_explainer *e, float *image, size_t t)
{
    size_t d = mf_fusion_width(e->fusion), n = e->ehr ? mf_ft_output_tokens(e->ehr) : 0;
    size_t ehr_floats = n * (e->ehr ? mf_ft_width(e->ehr) : 0);
    float *ehr = mf_exec_floats(x, ehr_floats), *fused = mf_exec_floats(x, n * d);
    float *readout = mf_exec_floats(x, mf_fusion_readout(e->fusion));
    float *logits = mf_exec_floats(x, e->labels);
    if (n)
        MF_DO(x, upload, ehr, e->ehr_tokens, ehr_floats);
    mf_fusion_fuse(x, e->fusion, image, t, ehr, n, fused);
    MF_DO(x, download, e->fused, image, t * d);
    if (n)
        MF_DO(x, download, e->fused_ehr, fused, n * d);
    mf_fusion_read(x, e->fusion, image, t, e->tokens, fused, readout);
    mf_fusion_head(x, e->fusion, readout, logits);
    MF_DO(x, download, e->logits, logits, e->labels);
}

void mf_explain_upper(struct mf_exec *x, void *arg)
{
    const struct mf_explain_run *r = arg;
    struct mf_explainer *e = r->e;
    size_t t = r->frames * e->tokens, dv = e->grid.width, d = mf_temporal_width(e->temporal);
    float *regions = mf_exec_floats(x, t * dv), *image = mf_exec_floats(x, t * d);
    MF_DO(x, upload, regions, r->regions, t * dv);
    mf_temporal_run(x, e->temporal, regions, r->frames, r->positions, image);
    MF_DO(x, download, e->image, image, t * d);
    fuse(x, e, image, t);
}

void mf_explain_fusion(struct mf_exec *x, void *arg)
{
    const struct mf_explain_run *r = arg;
    struct mf_explainer *e = r->e;
    size_t t = r->frames * e->tokens, d = mf_temporal_width(e->temporal);
    float *image = mf_exec_floats(x, t * d);
    MF_DO(x, upload, image, e->image, t * d);
    fuse(x, e, image, t);
}

bool mf_explain_plan(struct mf_explainer *e, size_t frames, struct mf_error *err)
{
    struct mf_explain_run r = {.e = e, .frames = frames};
    if (e->planned[frames])
        return true;
    e->planned[frames] = mf_exec_run(&e->exec, mf_explain_vision, &r, true, err) &&
                         mf_exec_run(&e->exec, mf_explain_upper, &r, true, err) &&
                         mf_exec_run(&e->exec, mf_explain_fusion, &r, true, err) &&
                         (!e->ehr || mf_exec_run(&e->exec, mf_explain_ehr, &r, true, err));
    return e->planned[frames];
}

/* --- explaining --- */

static bool check(const struct mf_explainer *e, const struct mf_explain_input *in,
                  struct mf_error *err)
{
    size_t most =
        e->bundle->max_frames < MF_EXPLAIN_FRAMES ? e->bundle->max_frames : MF_EXPLAIN_FRAMES;
    if (in->frame_count < 1 || in->frame_count > most)
        return mf_error_set(err, MF_ERR_UNUSABLE, "%zu frames, the model takes 1 to %zu",
                            in->frame_count, most);
    if (in->steps > MF_EXPLAIN_MAX_STEPS)
        return mf_error_set(err, MF_ERR_UNUSABLE, "%zu steps, at most %d are taken", in->steps,
                            MF_EXPLAIN_MAX_STEPS);
    for (size_t i = 0; i < in->label_count; i++)
        if (in->labels[i] >= e->labels)
            return mf_error_set(err, MF_ERR_UNUSABLE, "there is no label %zu", in->labels[i]);
    return true;
}

bool mf_explain(struct mf_explainer *e, const struct mf_explain_input *in, struct mf_arena *arena,
                struct mf_explanation *ret, struct mf_error *err)
{
    struct mf_explanation out = {.frame_count = in->frame_count,
                                 .label_count = in->label_count,
                                 .feature_count = e->features,
                                 .steps = in->steps ? in->steps : MF_EXPLAIN_STEPS,
                                 .rows = e->grid.rows,
                                 .cols = e->grid.cols};
    if (!check(e, in, err) || !mf_explain_plan(e, in->frame_count, err))
        return false;
    if (e->features)
        mf_engine_features(e->bundle->features, in->features, e->x_cont, e->x_cat, e->missing);
    struct mf_explain_run r = {.e = e, .missing = e->missing};
    if ((e->ehr && !mf_explain_replay(e, mf_explain_ehr, &r, err)) ||
        !mf_explain_maps(e, in, arena, &out, err) || !mf_explain_parts(e, in, arena, &out, err))
        return false;
    *ret = out;
    return true;
}
