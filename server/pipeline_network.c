/*
 * The network's part of a run: its input, and computing alone or with others. Runs of one model are
 * computed together where the device gains by it (mf_engine_batch); what goes wrong then is found
 * by computing each alone.
 */
#include "server/pipeline_private.h"

#include <math.h>
#include <string.h>

/* Where each frame stands, in the unit of the bundle (engine.h, `positions`). */
static void fill_positions(const struct mf_study_request *request, enum mf_position_kind kind,
                           double *positions)
{
    const struct mf_study_frame *f = request->frames;
    size_t n = request->frame_count;
    double low = INFINITY, high = -INFINITY;
    for (size_t i = 0; i < n; i++) {
        low = fmin(low, f[i].slice_position); /* fmin and fmax pass NaN over */
        high = fmax(high, f[i].slice_position);
    }
    for (size_t i = 0; i < n; i++) {
        if (kind == MF_POSITION_SLICE)
            positions[i] = high > low ? (f[i].slice_position - low) / (high - low) : NAN;
        else if (f[i].acquired_ms == INT64_MIN || f[n - 1].acquired_ms == INT64_MIN)
            positions[i] = NAN;
        else
            positions[i] = (double)(f[n - 1].acquired_ms - f[i].acquired_ms) / 86400000.0;
    }
}

static void keep_mask(void *state, size_t frame, size_t structure, const uint8_t *mask, size_t size)
{
    struct mf_run_state *s = state;
    const struct mf_mask m = {.frame = (uint32_t)frame,
                              .structure = (enum mf_structure)structure,
                              .rows = (uint32_t)size,
                              .columns = (uint32_t)size,
                              .pixels = mask};
    s->masks = s->masks ? s->masks : mf_masks_new();
    s->masks_failed |= !s->masks || !mf_masks_add(s->masks, &m);
}

bool mf_run_prepare(struct mf_run_state *s, struct mf_error *err)
{
    struct mf_engine_output *o = &s->output;
    size_t labels = mf_bundle_label_count(s->bundle), n = s->frames.count;
    bool masks = s->run->masks || s->run->explanation;
    for (size_t i = 0; i < n; i++)
        s->list[i] = &s->frames.frames[i];
    fill_positions(s->run->plan->request, mf_bundle_position(s->bundle), s->positions);
    o->logits = mf_arena_alloc(s->arena, labels, sizeof *o->logits, err);
    o->segmentation = mf_arena_alloc(s->arena, n, sizeof *o->segmentation, err);
    o->readout =
        mf_arena_alloc(s->arena, mf_engine_readout_size(s->engine), sizeof *o->readout, err);
    o->features =
        mf_arena_alloc(s->arena, mf_engine_feature_size(s->engine), sizeof *o->features, err);
    o->quality = mf_arena_alloc(s->arena, n, sizeof *o->quality, err);
    o->sharpness = mf_arena_alloc(s->arena, n, sizeof *o->sharpness, err);
    s->input = (struct mf_engine_input){.frames = s->list,
                                        .frame_count = n,
                                        .positions = s->positions,
                                        .features = s->features,
                                        .mask = masks ? keep_mask : NULL,
                                        .mask_arg = s};
    return o->logits && o->segmentation && o->readout && o->features && o->quality && o->sharpness;
}

/* What an attempt that failed has left behind. */
static void begin_again(struct mf_run_state *s)
{
    json_decref(s->masks);
    s->masks = NULL;
    s->masks_failed = false;
    mf_explanation_inputs_free(&s->inputs);
    memset(&s->inputs, 0, sizeof s->inputs);
    mf_error_clear(&s->problem);
}

/* Where the device has no memory left, with fewer frames together. */
static void compute_alone(struct mf_run_state *s)
{
    const struct mf_tap tap = mf_explanation_tap(&s->inputs);
    do {
        begin_again(s);
        if (mf_engine_run(s->engine, &s->input, s->run->explanation ? &tap : NULL, &s->output,
                          &s->problem))
            return;
    } while (s->problem.code == MF_ERR_NO_MEMORY && mf_engine_shrink(s->engine));
}

static void compute_together(struct mf_run_state *const *states, size_t count)
{
    struct mf_engine_study studies[MF_RUN_FRAMES];
    for (size_t i = 0; i < count; i++) {
        begin_again(states[i]);
        studies[i] = (struct mf_engine_study){&states[i]->input, &states[i]->output};
    }
    if (count > 1 && mf_engine_run_together(states[0]->engine, studies, count, NULL))
        return;
    for (size_t i = 0; i < count; i++)
        compute_alone(states[i]);
}

/* A run that can go on, and be computed beside others of its engine. */
static bool is_shared(const struct mf_run_state *s)
{
    return !s->run->explanation && mf_engine_batch(s->engine) > 1;
}

/* Takes runs of the first one's engine out of `left`, as many as have room together. */
static size_t take(struct mf_run_state **left, size_t count, struct mf_run_state **group)
{
    struct mf_run_state *first = left[0];
    size_t n = 0, frames = 0, most = mf_bundle_max_frames(first->bundle);
    for (size_t i = 0; i < count; i++) {
        struct mf_run_state *s = left[i];
        bool fits = s && s->engine == first->engine && frames + s->frames.count <= most &&
                    n < MF_RUN_FRAMES;
        if (s != first && !(fits && is_shared(first) && is_shared(s)))
            continue;
        group[n++] = s;
        frames += s->frames.count;
        left[i] = NULL;
    }
    return n;
}

/* What the masks and boxes of a run mean for its study. */
static void conclude(struct mf_run_state *s)
{
    const struct mf_study_request *request = s->run->plan->request;
    if (s->problem.code != MF_OK)
        return;
    for (size_t i = 0; request->volume && i < s->frames.count; i++)
        mf_volume_stored_box(request->volume, s->output.segmentation[i].box);
    if (s->masks_failed)
        mf_error_set(&s->problem, MF_ERR_NO_MEMORY, "out of memory for the masks");
}

void mf_run_compute(struct mf_run_state *const *states, size_t count)
{
    struct mf_run_state *left[MF_RUN_AT_ONCE], *group[MF_RUN_FRAMES];
    for (size_t i = 0; i < count; i++)
        left[i] = states[i] && mf_run_go_on(states[i]->run, MF_RUN_DECODED, &states[i]->problem)
                      ? states[i]
                      : NULL;
    for (size_t i = 0; i < count; i++) {
        if (!left[i])
            continue;
        size_t n = take(left + i, count - i, group);
        compute_together(group, n);
        for (size_t k = 0; k < n; k++)
            conclude(group[k]);
    }
}

size_t mf_pipeline_batch(struct mf_pipeline *p)
{
    size_t most = 1;
    for (size_t i = 0; i < mf_registry_count(p->registry); i++) {
        const struct mf_engine *engine = mf_registry_engine(p->registry, i);
        size_t batch = engine ? mf_engine_batch(engine) : 1;
        most = batch > most ? batch : most;
    }
    return most;
}
