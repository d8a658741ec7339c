/*
 * Maps of where in the image. All of them come from walks back over recorded runs: one of sequence
 * and fusion, which gives the gradients and the relevance of every frame's region tokens, and from
 * there one of the vision module for each frame.
 */
#include "engine/explain/explain_private.h"

#include "engine/preprocess.h"

#include <string.h>

/* A call of mf_explain_maps(). */
struct maps {
    struct mf_explainer *e;
    const struct mf_explain_input *in;
    struct mf_explanation *out;
    size_t region_floats; /* of all frames' region tokens */
    float *slopes;        /* (labels, frames · tokens, width): gradients of region tokens */
    float *shares;        /* (1 + labels, frames · tokens): relevance of them; rollout first */
    float *r;             /* (tokens of an image) */
    struct mf_relevance_upper upper;
};

static size_t patches_of(const struct maps *m)
{
    return m->out->rows * m->out->cols;
}

/* --- sequence and fusion --- */

/* One walk back: by the gradient of a label, or a rollout. */
struct upper_walk {
    struct maps *m;
    const float *regions; /* where the run read region tokens */
    size_t label;         /* of those asked for */
    bool relevance;       /* walks relevance as well */
};

static void upper_host(void *arg, const float *host, bool upload, float *gradient, size_t n)
{
    const struct upper_walk *w = arg;
    struct maps *m = w->m;
    struct mf_explainer *e = m->e;
    size_t d = mf_fusion_width(e->fusion);
    if (upload && host == w->regions)
        memcpy(m->slopes + w->label * m->region_floats, gradient, n * sizeof *gradient);
    else if (host == e->logits)
        gradient[m->in->labels[w->label]] += 1;
    else if (w->relevance && host == e->fused)
        mf_relevance_seeds(gradient, e->fused, n / d, d, m->upper.image);
    else if (w->relevance && host == e->fused_ehr)
        mf_relevance_seeds(gradient, e->fused_ehr, n / d, d, m->upper.ehr);
}

static void upper_attention(void *arg, const struct mf_step *step, const float *gradient)
{
    struct maps *m = ((const struct upper_walk *)arg)->m;
    mf_relevance_upper_attention(mf_tape_of(&m->e->exec), &m->upper, step, gradient);
}

static void upper_scan(void *arg, const struct mf_step *step, const float *gradient)
{
    struct maps *m = ((const struct upper_walk *)arg)->m;
    mf_relevance_upper_scan(mf_tape_of(&m->e->exec), &m->upper, step, gradient);
}

static size_t scans_on(const struct mf_tape *t)
{
    size_t n = 0;
    for (const struct mf_step *s = t->last; s; s = s->before)
        n += s->kind == MF_STEP_SCAN;
    return n;
}

/* Before a walk: nothing seeded yet. */
static void begin_walk(struct maps *m)
{
    struct mf_relevance_upper *u = &m->upper;
    u->both = mf_temporal_both_ways(m->e->temporal);
    u->started = false;
    u->cross = 2 * mf_fusion_layers(m->e->fusion);
    u->reverse_scans = u->both ? scans_on(mf_tape_of(&m->e->exec)) / 2 : 0;
    memset(u->image, 0, u->tokens * sizeof *u->image);
    memset(u->ehr, 0, u->features * sizeof *u->ehr);
}

/* The parts of the readout have equal shares: newest CLS, newest regions, all tokens, EHR's CLS. */
static void seed_rollout(struct maps *m)
{
    struct mf_relevance_upper *u = &m->upper;
    float part = u->features ? 0.25f : 1.0f / 3;
    size_t own = m->e->tokens, t = u->tokens;
    for (size_t i = 0; i < t; i++)
        u->image[i] = part / (float)t;
    for (size_t i = t - own; i + 1 < t; i++)
        u->image[i] += part / (float)(own - 1);
    u->image[t - 1] += part;
    if (u->features)
        u->ehr[0] = part;
}

static double sum_of(const float *p, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += p[i];
    return sum;
}

/* The recorded run, walked once for the rollout and once for each label. */
static bool walk_upper(struct maps *m, struct mf_error *err)
{
    struct mf_tape *t = mf_tape_of(&m->e->exec);
    struct upper_walk w = {.m = m, .regions = m->e->regions, .relevance = true};
    const struct mf_tape_visitor v = {upper_host, upper_attention, upper_scan, &w};
    size_t n = m->upper.tokens;
    begin_walk(m);
    seed_rollout(m);
    if (!mf_tape_backward(t, &v, false, err))
        return false;
    mf_relevance_upper_end(&m->upper);
    memcpy(m->shares, m->upper.image, n * sizeof *m->shares);
    m->out->rollout_of_ehr = sum_of(m->upper.ehr, m->upper.features);
    for (w.label = 0; w.label < m->in->label_count; w.label++) {
        begin_walk(m);
        if (!mf_tape_backward(t, &v, true, err))
            return false;
        mf_relevance_upper_end(&m->upper);
        memcpy(m->shares + (1 + w.label) * n, m->upper.image, n * sizeof *m->shares);
        m->out->relevance_of_ehr[w.label] = sum_of(m->upper.ehr, m->upper.features);
    }
    return true;
}

/* --- vision --- */

struct vision_walk {
    struct maps *m;
    size_t frame, label;
    const float *pixels, *regions; /* what the run read and wrote */
    bool relevance;
    float weight; /* of this point of the line; 0: no attribution */
};

/* Gradient · (image − blurred image), summed over every patch. */
static void attribute(const struct vision_walk *w, const float *gradient)
{
    const struct maps *m = w->m;
    const struct mf_image_input *in = &m->e->bundle->vision;
    size_t patch = mf_vit_patch(m->e->vision), n = patches_of(m), cells = in->rows * in->cols;
    const float *image = m->in->pixels[w->frame];
    const float *blurred = m->e->blurred + w->frame * m->e->pixels;
    float *map = m->out->attribution + (w->label * m->in->frame_count + w->frame) * n;
    for (size_t i = 0; i < 3 * cells; i++) {
        size_t y = i % cells / in->cols / patch, x = i % in->cols / patch;
        if (y < m->out->rows && x < m->out->cols)
            map[y * m->out->cols + x] += w->weight * gradient[i] * (image[i] - blurred[i]);
    }
}

static void vision_host(void *arg, const float *host, bool upload, float *gradient, size_t n)
{
    const struct vision_walk *w = arg;
    const float *slopes = w->m->slopes + w->label * w->m->region_floats + w->frame * n;
    if (!upload && host == w->regions)
        for (size_t i = 0; i < n; i++)
            gradient[i] += slopes[i];
    else if (upload && host == w->pixels && w->weight != 0)
        attribute(w, gradient);
}

static void vision_attention(void *arg, const struct mf_step *step, const float *gradient)
{
    const struct vision_walk *w = arg;
    if (w->relevance)
        mf_relevance_vision(mf_tape_of(&w->m->e->exec), step, gradient, w->m->r);
}

/* The relevance of the patches in m->r joins a map. */
static void keep_relevance(const struct maps *m, float *map)
{
    size_t n = patches_of(m);
    memcpy(map, m->r + m->e->grid.tokens - n, n * sizeof *map);
}

/* The recorded run of one frame, walked for the rollout and for each label. */
static bool walk_vision(struct maps *m, size_t frame, struct mf_error *err)
{
    struct mf_explainer *e = m->e;
    struct mf_tape *t = mf_tape_of(&e->exec);
    size_t n = patches_of(m), tokens = m->in->frame_count * e->tokens, own = frame * e->tokens;
    struct vision_walk w = {.m = m,
                            .frame = frame,
                            .pixels = m->in->pixels[frame],
                            .regions = e->regions + own * e->grid.width,
                            .relevance = true};
    const struct mf_tape_visitor v = {vision_host, vision_attention, NULL, &w};
    mf_relevance_pooled(&e->grid, m->shares + own, e->hidden, NULL, m->r);
    if (!mf_tape_backward(t, &v, false, err))
        return false;
    keep_relevance(m, m->out->rollout + frame * n);
    for (w.label = 0; w.label < m->in->label_count; w.label++) {
        const float *slopes = m->slopes + w.label * m->region_floats + own * e->grid.width;
        mf_relevance_pooled(&e->grid, m->shares + (1 + w.label) * tokens + own, e->hidden, slopes,
                            m->r);
        if (!mf_tape_backward(t, &v, true, err))
            return false;
        keep_relevance(m, m->out->relevance + (w.label * m->in->frame_count + frame) * n);
    }
    return true;
}

enum { TAPE_GIB = 4 };

static bool record(struct mf_explainer *e, void (*body)(struct mf_exec *x, void *arg),
                   struct mf_explain_run *r, struct mf_error *err)
{
    return mf_tape_record(&e->exec, (size_t)TAPE_GIB << 30, body, r, err);
}

/* --- attribution --- */

/* The point of the line that is `share` of the way from the blurred image of a frame to it. */
static void on_line(const struct maps *m, size_t frame, double share)
{
    const float *from = m->e->blurred + frame * m->e->pixels, *to = m->in->pixels[frame];
    for (size_t i = 0; i < m->e->pixels; i++)
        m->e->line[i] = from[i] + (float)share * (to[i] - from[i]);
}

/* Region tokens of all frames at a point of the line, in e->moved. */
static bool see_line(const struct maps *m, double share, struct mf_error *err)
{
    struct mf_explainer *e = m->e;
    for (size_t f = 0; f < m->in->frame_count; f++) {
        struct mf_explain_run r = {
            .e = e, .pixels = e->line, .regions = e->moved + f * e->tokens * e->grid.width};
        on_line(m, f, share);
        if (!mf_explain_replay(e, mf_explain_vision, &r, err))
            return false;
    }
    return true;
}

static bool add_point(struct maps *m, double share, double weight, struct mf_error *err)
{
    struct mf_explainer *e = m->e;
    struct mf_tape *t = mf_tape_of(&e->exec);
    struct mf_explain_run upper = {
        .e = e, .frames = m->in->frame_count, .regions = e->moved, .positions = m->in->positions};
    struct upper_walk w = {.m = m, .regions = e->moved};
    const struct mf_tape_visitor v = {upper_host, NULL, NULL, &w};
    if (!see_line(m, share, err) || !record(e, mf_explain_upper, &upper, err))
        return false;
    for (w.label = 0; w.label < m->in->label_count; w.label++)
        if (!mf_tape_backward(t, &v, true, err))
            return false;
    for (size_t f = 0; f < m->in->frame_count; f++) {
        struct vision_walk walk = {.m = m,
                                   .frame = f,
                                   .pixels = e->line,
                                   .regions = e->moved + f * e->tokens * e->grid.width,
                                   .weight = (float)weight};
        struct mf_explain_run r = {
            .e = e, .pixels = e->line, .regions = e->moved + f * e->tokens * e->grid.width};
        const struct mf_tape_visitor vision = {vision_host, NULL, NULL, &walk};
        on_line(m, f, share);
        if (!record(e, mf_explain_vision, &r, err))
            return false;
        for (walk.label = 0; walk.label < m->in->label_count; walk.label++)
            if (!mf_tape_backward(t, &vision, true, err))
                return false;
    }
    return true;
}

/* The line begins at frames that have lost whatever is smaller than a patch. */
static void blur_frames(const struct maps *m)
{
    const struct mf_image_input *in = &m->e->bundle->vision;
    size_t cells = in->rows * in->cols;
    double sigma = (double)mf_vit_patch(m->e->vision);
    for (size_t f = 0; f < m->in->frame_count; f++) {
        float *to = m->e->blurred + f * m->e->pixels;
        memcpy(to, m->in->pixels[f], m->e->pixels * sizeof *to);
        for (size_t c = 0; c < 3; c++)
            mf_blur(to + c * cells, in->rows, in->cols, sigma, m->e->scratch);
    }
}

static bool attribute_line(struct maps *m, struct mf_error *err)
{
    struct mf_explainer *e = m->e;
    struct mf_explain_run upper = {
        .e = e, .frames = m->in->frame_count, .regions = e->moved, .positions = m->in->positions};
    size_t steps = m->out->steps;
    blur_frames(m);
    if (!see_line(m, 0, err) || !mf_explain_replay(e, mf_explain_upper, &upper, err))
        return false;
    for (size_t c = 0; c < m->in->label_count; c++)
        m->out->blurred[c] = e->logits[m->in->labels[c]];
    for (size_t k = 0; k < steps; k++) /* midpoints */
        if (!add_point(m, ((double)k + 0.5) / (double)steps, 1.0 / (double)steps, err))
            return false;
    return true;
}

/* --- all of them --- */

/* Shares of 1 over patches and EHR; all 0 stays so. */
static void normalise(float *map, size_t n, double *ehr)
{
    double whole = sum_of(map, n) + *ehr;
    for (size_t i = 0; whole > 0 && i < n; i++)
        map[i] = (float)(map[i] / whole);
    *ehr = whole > 0 ? *ehr / whole : 0;
}

static bool make_room(struct maps *m, struct mf_arena *arena, struct mf_error *err)
{
    struct mf_explainer *e = m->e;
    struct mf_explanation *o = m->out;
    size_t labels = m->in->label_count, map = m->in->frame_count * patches_of(m);
    struct mf_relevance_upper *u = &m->upper;
    u->tokens = m->in->frame_count * e->tokens;
    u->features = e->ehr ? mf_ft_output_tokens(e->ehr) : 0;
    m->region_floats = u->tokens * e->grid.width;
    return (m->slopes = mf_arena_alloc(arena, labels * m->region_floats + 1, sizeof(float), err)) &&
           (m->shares = mf_arena_alloc(arena, (1 + labels) * u->tokens, sizeof(float), err)) &&
           (m->r = mf_arena_alloc(arena, e->grid.tokens, sizeof(float), err)) &&
           (u->image = mf_arena_alloc(arena, u->tokens, sizeof(float), err)) &&
           (u->reverse = mf_arena_alloc(arena, u->tokens, sizeof(float), err)) &&
           (u->pending = mf_arena_alloc(arena, u->tokens, sizeof(float), err)) &&
           (u->ehr = mf_arena_alloc(arena, u->features + 1, sizeof(float), err)) &&
           (o->attribution = mf_arena_alloc(arena, labels * map + 1, sizeof(float), err)) &&
           (o->relevance = mf_arena_alloc(arena, labels * map + 1, sizeof(float), err)) &&
           (o->rollout = mf_arena_alloc(arena, map, sizeof(float), err)) &&
           (o->relevance_of_ehr = mf_arena_alloc(arena, labels + 1, sizeof(double), err)) &&
           (o->logit = mf_arena_alloc(arena, labels + 1, sizeof(double), err)) &&
           (o->blurred = mf_arena_alloc(arena, labels + 1, sizeof(double), err));
}

static bool relevance_maps(struct maps *m, struct mf_error *err)
{
    struct mf_explainer *e = m->e;
    struct mf_explain_run upper = {
        .e = e, .frames = m->in->frame_count, .regions = e->regions, .positions = m->in->positions};
    for (size_t f = 0; f < m->in->frame_count; f++) {
        struct mf_explain_run r = {.e = e,
                                   .pixels = m->in->pixels[f],
                                   .regions = e->regions + f * e->tokens * e->grid.width};
        if (!mf_explain_replay(e, mf_explain_vision, &r, err))
            return false;
    }
    if (!record(e, mf_explain_upper, &upper, err))
        return false;
    for (size_t c = 0; c < m->in->label_count; c++)
        m->out->logit[c] = e->logits[m->in->labels[c]];
    if (!walk_upper(m, err))
        return false;
    for (size_t f = 0; f < m->in->frame_count; f++) {
        struct mf_explain_run r = {.e = e,
                                   .pixels = m->in->pixels[f],
                                   .regions = e->regions + f * e->tokens * e->grid.width};
        if (!record(e, mf_explain_vision, &r, err) || !walk_vision(m, f, err))
            return false;
    }
    return true;
}

bool mf_explain_maps(struct mf_explainer *e, const struct mf_explain_input *in,
                     struct mf_arena *arena, struct mf_explanation *out, struct mf_error *err)
{
    struct maps m = {.e = e, .in = in, .out = out};
    size_t map = in->frame_count * patches_of(&m);
    if (!make_room(&m, arena, err) || !relevance_maps(&m, err) || !attribute_line(&m, err))
        return false;
    normalise(out->rollout, map, &out->rollout_of_ehr);
    for (size_t c = 0; c < in->label_count; c++)
        normalise(out->relevance + c * map, map, &out->relevance_of_ehr[c]);
    return true;
}
