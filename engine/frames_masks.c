/* Masks and the region of interest on the device (frames.h). The host decides: which mask, whether
 * the gate holds, where the hull's corners are. */
#include "engine/frames_private.h"

#include "engine/trust/quality.h"

#include <stdlib.h>
#include <string.h>

enum { STRUCTURES = 2 };

static float *logits_of(const struct mf_frames *f)
{
    return f->logits.memory;
}

const float *mf_frames_logits(const struct mf_frames *f)
{
    return logits_of(f);
}

void mf_frames_put_logits(struct mf_exec *x, struct mf_engine *e, const float *logits)
{
    const struct mf_frames *f = e->frames;
    if (mf_exec_live(x))
        f->ops->put(f->be, f->logits.memory, logits, STRUCTURES * e->mask_cells * sizeof *logits);
}

void mf_frames_choose(struct mf_exec *x, struct mf_engine *e, const float *masks, const float *iou,
                      const float *object)
{
    const struct mf_frames *f = e->frames;
    size_t k = mf_sam2_masks(e->segmenter), cells = e->mask_cells;
    uint32_t counts[2 * STRUCTURES];
    if (!mf_exec_live(x))
        return;
    f->ops->mask_counts(f->be, masks, cells, k * cells, STRUCTURES, mf_sam2_delta(e->segmenter),
                        f->counts.memory);
    f->ops->get(f->be, counts, f->counts.memory, sizeof counts);
    f->ops->get(f->be, e->all_iou, iou, STRUCTURES * k * sizeof *iou);
    f->ops->get(f->be, e->object, object, STRUCTURES * sizeof *object);
    for (size_t s = 0; s < STRUCTURES; s++) {
        size_t best =
            mf_sam2_choose_by(e->segmenter, counts[2 * s], counts[2 * s + 1], e->all_iou + s * k);
        f->device->copy(f->be, masks + (s * k + best) * cells, cells, logits_of(f) + s * cells);
        e->iou[s] = e->all_iou[s * k + best];
    }
}

void mf_frames_masks(struct mf_exec *x, struct mf_engine *e, struct mf_gate_counts counts[2])
{
    struct mf_frames *f = e->frames;
    struct mf_device_axis axes[2];
    size_t side = 4 * mf_sam2_grid(e->segmenter), size = f->size, cells = e->mask_cells;
    size_t between = mf_device_between(side, side, size, size);
    uint32_t sure[2 * STRUCTURES];
    if (!mf_exec_live(x) ||
        !mf_frames_axes(f, MF_FILTER_BILINEAR, side, side, size, size, axes, &x->error) ||
        !mf_frames_grow(f, &f->between, between * sizeof(float), &x->error))
        return;
    f->ops->mask_counts(f->be, logits_of(f), cells, cells, STRUCTURES, MF_GATE_DELTA,
                        f->counts.memory);
    for (size_t k = 0; k < STRUCTURES; k++) {
        const struct mf_device_resample r = {.rows = axes[0],
                                             .cols = axes[1],
                                             .in = logits_of(f) + k * cells,
                                             .in_rows = side,
                                             .in_cols = side,
                                             .in_row = side,
                                             .between = f->between.memory,
                                             .out = f->soft.memory};
        f->ops->resample(f->be, &r);
        f->ops->component(f->be, f->soft.memory, size, (uint8_t *)f->masks.memory + k * size * size,
                          f->labels.memory, f->sizes.memory, f->best.memory);
    }
    f->ops->facts(f->be, f->masks.memory, size, f->facts.memory);
    f->ops->get(f->be, sure, f->counts.memory, sizeof sure);
    f->ops->get(f->be, f->host_facts, f->facts.memory, f->facts.bytes);
    for (size_t k = 0; k < STRUCTURES; k++)
        counts[k] =
            (struct mf_gate_counts){sure[2 * k], sure[2 * k + 1], f->host_facts[MF_FACT_SET + k]};
}

void mf_frames_get_masks(struct mf_exec *x, struct mf_engine *e, uint8_t *masks)
{
    const struct mf_frames *f = e->frames;
    if (mf_exec_live(x))
        f->ops->get(f->be, masks, f->masks.memory, f->masks.bytes);
}

uint32_t mf_frames_cut_off(const struct mf_frames *f)
{
    size_t edge[4];
    for (int i = 0; i < 4; i++)
        edge[i] = f->host_facts[MF_FACT_EDGE + i];
    return mf_quality_of_edges(edge, f->size);
}

bool mf_frames_region(struct mf_exec *x, struct mf_engine *e, uint32_t box[4])
{
    struct mf_frames *f = e->frames;
    const struct mf_segmentation_options *o = &e->bundle->segmentation;
    size_t size = f->size;
    const uint32_t *first = f->host_facts + MF_FACT_FIRST;
    int32_t *at = f->host_shape;
    if (!mf_exec_live(x) || !mf_fill_hull_of(first, first + size, size, e->region.runs))
        return false;
    for (size_t y = 0; y < size; y++) {
        *at++ = e->region.runs[y].begin;
        *at++ = e->region.runs[y].end;
    }
    uint32_t *disc = (uint32_t *)at;
    size_t reach = mf_disc(o->mask_dilation * (double)size, disc);
    float *weights = (float *)(void *)(disc + reach + 1);
    size_t blur = mf_blur_weights(o->mask_blur * (double)size, weights);
    mf_region_box(e->region.runs, size, disc, reach, f->rows, f->cols, o->roi_margin, box);
    char *device = f->shape.memory;
    size_t disc_at = 2 * size * sizeof *at, weights_at = disc_at + (reach + 1) * sizeof *disc;
    f->ops->put(f->be, device, f->host_shape, weights_at + (2 * blur + 1) * sizeof *weights);
    if (!mf_frames_grow(f, &f->between, size * size * sizeof(float), &x->error))
        return false;
    const struct mf_device_region r = {.runs = f->shape.memory,
                                       .disc = (const uint32_t *)(const void *)(device + disc_at),
                                       .weights =
                                           (const float *)(const void *)(device + weights_at),
                                       .size = size,
                                       .reach = reach,
                                       .blur = blur,
                                       .soft = f->soft.memory,
                                       .between = f->between.memory};
    f->ops->region(f->be, &r);
    return true;
}

void mf_frames_get_soft(struct mf_exec *x, struct mf_engine *e, float *soft)
{
    const struct mf_frames *f = e->frames;
    if (mf_exec_live(x))
        f->ops->get(f->be, soft, f->soft.memory, f->soft.bytes);
}

void mf_frames_weight(struct mf_exec *x, struct mf_engine *e, const uint32_t box[4])
{
    struct mf_frames *f = e->frames;
    struct mf_device_axis axes[2];
    double background = e->bundle->segmentation.background;
    if (!mf_exec_live(x) ||
        !mf_frames_axes(f, MF_FILTER_BILINEAR_ANTIALIAS, f->size, f->size, f->rows, f->cols, axes,
                        &x->error) ||
        !mf_frames_grow(f, &f->between, f->size * f->cols * sizeof(float), &x->error))
        return;
    const struct mf_device_weighting w = {.rows = axes[0],
                                          .cols = axes[1],
                                          .soft = f->soft.memory,
                                          .size = f->size,
                                          .between = f->between.memory,
                                          .image = f->image.memory,
                                          .box = {box[0], box[1], box[2], box[3]},
                                          .base = (float)background,
                                          .rest = (float)(1 - background)};
    f->ops->weight(f->be, &w);
}
