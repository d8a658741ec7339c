/* See vision.h. Batches have sizes that are powers of two, so that there are few to plan and
 * record. */
#include "engine/vision.h"

#include "core/clock.h"

#include <string.h>

/* One batch, as a section (exec.h): no padding. */
struct part {
    struct mf_engine *engine;
    const float *pixels;
    size_t count;
    float *regions;
};

static size_t pixels_of(const struct mf_engine *e)
{
    return 3 * e->bundle->vision.rows * e->bundle->vision.cols;
}

static size_t regions_of(const struct mf_engine *e)
{
    return e->tokens * mf_vit_width(e->vision);
}

static void run_part(struct mf_exec *x, void *arg)
{
    const struct part *p = arg;
    const struct mf_engine *e = p->engine;
    const struct mf_image_input *in = &e->bundle->vision;
    size_t mark = mf_exec_mark(x),
           n = mf_vit_tokens(e->vision, in->rows, in->cols) * mf_vit_width(e->vision);
    float *hidden = mf_exec_floats(x, p->count * n);
    mf_vit_run(x, e->vision, p->pixels, p->count, in->rows, in->cols, hidden);
    for (size_t i = 0; i < p->count; i++)
        mf_vit_regions(x, e->vision, hidden + i * n, in->rows, in->cols, e->bundle->regions,
                       p->regions + i * regions_of(e));
    mf_exec_rewind(x, mark);
}

static void run_batch(struct mf_exec *x, struct mf_engine *e, const float *pixels, size_t count,
                      float *regions)
{
    struct part part = {e, pixels, count, regions};
    mf_exec_section(x, run_part, &part, sizeof part);
}

void mf_vision_begin(struct mf_exec *x, struct mf_engine *e, struct mf_vision *v)
{
    memset(v, 0, sizeof *v);
    v->regions = mf_exec_floats(x, e->batch * regions_of(e));
    for (int i = 0; (e->batch > 1 || e->frames) && i < MF_VISION_BANKS; i++)
        v->banks[i] = e->frames && i > 0 ? v->banks[0] : mf_exec_floats(x, e->batch * pixels_of(e));
}

float *mf_vision_place(const struct mf_engine *e, const struct mf_vision *v)
{
    return e->frames ? v->banks[v->bank] + v->count * pixels_of(e) : NULL;
}

static size_t part_of(size_t count)
{
    size_t n = 1;
    while (2 * n <= count)
        n *= 2;
    return n;
}

static void plan(struct mf_exec *x, struct mf_engine *e, const struct mf_vision *v)
{
    size_t mark = mf_exec_mark(x);
    const float *pixels = v->banks[0] ? v->banks[0] : mf_exec_floats(x, pixels_of(e));
    for (size_t n = 1; n <= e->batch; n *= 2)
        run_batch(x, e, pixels, n, v->regions);
    mf_exec_rewind(x, mark);
}

void mf_vision_end(struct mf_exec *x, struct mf_engine *e, struct mf_vision *v)
{
    uint64_t start = mf_clock_monotonic_ns();
    size_t mark = mf_exec_mark(x), all = pixels_of(e), regions = regions_of(e);
    if (x->planning) {
        plan(x, e, v);
        return;
    }
    if (v->count == 0)
        return;
    float *pixels = v->banks[v->bank];
    if (!pixels) {
        pixels = mf_exec_floats(x, all);
        MF_DO(x, upload, pixels, e->pixels, all);
    }
    if (!e->frames)
        mf_exec_await(x, v->bank);
    for (size_t done = 0, n; done < v->count; done += n) {
        n = part_of(v->count - done);
        run_batch(x, e, pixels + done * all, n, v->regions + done * regions);
    }
    if (!e->frames)
        mf_exec_used(x, v->bank);
    for (size_t i = 0; i < v->count; i++)
        MF_DO(x, copy, v->regions + i * regions, regions, v->frames[i].tokens);
    double ms = (double)(mf_clock_monotonic_ns() - start) / 1e6;
    for (size_t i = 0; i < v->count; i++)
        v->frames[i].run->output->timing.vision += ms / (double)v->count;
    v->count = 0;
    v->bank = (v->bank + 1) % MF_VISION_BANKS;
    mf_exec_rewind(x, mark);
}

void mf_vision_add(struct mf_exec *x, struct mf_engine *e, struct mf_vision *v, struct run *run,
                   float *tokens)
{
    if (x->planning)
        return;
    v->frames[v->count].run = run;
    v->frames[v->count].tokens = tokens;
    if (v->banks[v->bank] && !e->frames)
        mf_exec_fill(x, v->bank, v->banks[v->bank] + v->count * pixels_of(e), e->pixels,
                     pixels_of(e));
    if (++v->count == e->batch)
        mf_vision_end(x, e, v);
}

void mf_vision_rehearse(struct mf_exec *x, struct mf_engine *e, const struct mf_vision *v)
{
    size_t all = pixels_of(e), regions = regions_of(e);
    /* where a batch of n can begin: behind larger ones */
    for (int bank = 0; bank < (e->frames ? 1 : MF_VISION_BANKS) && v->banks[bank]; bank++)
        for (size_t n = 1; n <= e->batch; n *= 2)
            for (size_t at = 0; at + n <= e->batch; at += 2 * n)
                run_batch(x, e, v->banks[bank] + at * all, n, v->regions + at * regions);
}
