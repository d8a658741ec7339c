/* The segmenter inside an engine (DESIGN.md, "The network", 2). Boxes come from the box head or,
 * where a model has none, from Otsu's threshold (prompt.c). */
#include "engine/segment.h"

#include "engine/frames.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void mf_engine_tap(struct mf_exec *x, const float *data, const char *stage, size_t frame, int rank,
                   const size_t *shape)
{
    char name[64];
    if (!x->tap)
        return;
    snprintf(name, sizeof name, "%s.%zu", stage, frame);
    x->tap->see(x->tap->arg, name, data, shape, rank);
}

void mf_segment_begin(struct mf_engine *e, size_t frames)
{
    e->key = frames / 2;
    e->prompted = true;
    if (e->stack)
        mf_sam2_stack_begin(e->stack, frames, e->key);
}

size_t mf_segment_order(const struct mf_engine *e, size_t i)
{
    return e->stack ? mf_sam2_stack_order(e->stack, i) : i;
}

/* One call of the decoder, as a section (exec.h): no padding. */
struct decoding {
    struct mf_sam2 *net;
    struct mf_sam2_maps maps;
    const float *prompt, *sparse;
    struct mf_sam2_answer answer;
};

static void decode_section(struct mf_exec *x, void *arg)
{
    static const float ANYWHERE[8] = {0}; /* boxes were encoded into `sparse` */
    const struct decoding *d = arg;
    const struct mf_sam2_prompts p = {
        .count = MF_STRUCTURES, .boxes = ANYWHERE, .masks = d->prompt};
    mf_sam2_decode(x, d->net, &d->maps, &p, d->sparse, &d->answer);
}

/* Runs the decoder on both boxes; chosen masks (2, cells), their IoU and object scores go to the
 * host, masks stay where frames do. */
static void decode(struct mf_exec *x, struct mf_engine *e, const struct mf_sam2_maps *maps,
                   const float *boxes, const float *prompt)
{
    size_t cells = e->mask_cells, k = mf_sam2_masks(e->segmenter), mark = mf_exec_mark(x);
    struct mf_sam2_prompts p = {.count = MF_STRUCTURES, .boxes = boxes, .masks = prompt};
    size_t tokens = MF_STRUCTURES * mf_sam2_prompt_tokens(&p) * mf_sam2_width(e->segmenter);
    float *sparse = mf_exec_floats(x, tokens);
    struct mf_sam2_answer answer;
    mf_sam2_answer_alloc(x, e->segmenter, MF_STRUCTURES, &answer);
    answer.tokens = NULL;
    if (mf_exec_live(x))
        mf_sam2_encode_prompts(e->segmenter, &p, e->prompt_tokens, &x->error);
    MF_DO(x, upload, sparse, e->prompt_tokens, tokens);
    struct decoding decoding = {e->segmenter, *maps, prompt, sparse, answer};
    mf_exec_section(x, decode_section, &decoding, sizeof decoding);
    if (e->frames) {
        mf_frames_choose(x, e, answer.masks, answer.iou, answer.object);
        mf_exec_rewind(x, mark);
        return;
    }
    MF_DO(x, download, e->all_masks, answer.masks, MF_STRUCTURES * k * cells);
    MF_DO(x, download, e->all_iou, answer.iou, MF_STRUCTURES * k);
    MF_DO(x, download, e->object, answer.object, MF_STRUCTURES);
    for (size_t s = 0; mf_exec_live(x) && s < MF_STRUCTURES; s++) {
        const float *all = e->all_masks + s * k * cells;
        size_t best = mf_sam2_choose(e->segmenter, all, e->all_iou + s * k);
        memcpy(e->mask_logits + s * cells, all + best * cells, cells * sizeof *all);
        e->iou[s] = e->all_iou[s * k + best];
    }
    mf_exec_rewind(x, mark);
}

/* Otsu's boxes of the frame in e->grey. */
static bool dark_boxes(struct mf_engine *e, float boxes[8])
{
    size_t size = e->bundle->segmenter.rows;
    const struct mf_prompt_scratch scratch = {e->masks, e->masks + size * size,
                                              (uint32_t *)e->region.between,
                                              (uint32_t *)e->region.soft};
    return mf_prompt_lungs(e->grey, size, &scratch, boxes);
}

/* Boxes of both structures on frame f, in segmenter pixels; s2 is its embedding. Clears e->prompted
 * when there are none. */
static void find_boxes(struct mf_exec *x, struct mf_engine *e, const struct run *r, size_t f,
                       const float *s2, float boxes[8])
{
    size_t g = mf_sam2_grid(e->segmenter), mark = mf_exec_mark(x);
    bool found = true;
    if (mf_sam2_has_boxes(e->segmenter)) {
        float *heat = mf_exec_floats(x, g * g * 6);
        mf_sam2_box_logits(x, e->segmenter, s2, heat);
        MF_DO(x, download, e->heat, heat, g * g * 6);
        if (mf_exec_live(x))
            mf_sam2_boxes_from_logits(e->segmenter, e->heat, boxes);
    } else if (mf_exec_live(x)) {
        if (e->frames)
            mf_frames_grey(x, e, e->grey);
        found = dark_boxes(e, boxes);
    }
    if (mf_exec_live(x)) {
        mf_engine_tap(x, boxes, "boxes", f, 2, (size_t[]){2, 4});
        e->prompted = found || r->input->boxes;
        if (r->input->boxes)
            memcpy(boxes, r->input->boxes + 8 * f, 8 * sizeof *boxes);
    }
    mf_exec_rewind(x, mark);
}

/* The encoder, as a section (exec.h): no padding. */
struct embedding {
    struct mf_sam2 *net;
    const float *pixels;
    struct mf_sam2_maps maps;
    size_t alone; /* 1: nothing is remembered */
};

static void embed_section(struct mf_exec *x, void *arg)
{
    const struct embedding *e = arg;
    (e->alone ? mf_sam2_embed : mf_sam2_features)(x, e->net, e->pixels, &e->maps);
}

/* A frame on its own. */
static void segment_alone(struct mf_exec *x, struct mf_engine *e, const struct run *r, size_t f,
                          const float *pixels, const struct mf_sam2_maps *maps)
{
    float *prompt = mf_exec_floats(x, MF_STRUCTURES * e->mask_cells), boxes[8] = {0};
    struct embedding embedding = {e->segmenter, pixels, *maps, 1};
    mf_exec_section(x, embed_section, &embedding, sizeof embedding);
    find_boxes(x, e, r, f, maps->s2, boxes);
    if (!e->prompted)
        return;
    decode(x, e, maps, boxes, NULL);
    if (e->bundle->segmentation.refine) {
        if (e->frames)
            MF_DO(x, copy, mf_frames_logits(e->frames), MF_STRUCTURES * e->mask_cells, prompt);
        else
            MF_DO(x, upload, prompt, e->mask_logits, MF_STRUCTURES * e->mask_cells);
        decode(x, e, maps, boxes, prompt);
    }
}

/* A slice of a stack: boxes on the middle one, memory for the others. */
static void segment_slice(struct mf_exec *x, struct mf_engine *e, const struct run *r, size_t f,
                          const float *pixels, const struct mf_sam2_maps *maps)
{
    static const int CORNERS[2 * MF_STRUCTURES] = {2, 3, 2, 3};
    size_t n = mf_sam2_grid(e->segmenter) * mf_sam2_grid(e->segmenter);
    size_t d = mf_sam2_width(e->segmenter);
    float boxes[8] = {0};
    struct mf_sam2_stack_prompt prompt = {
        .points = 2, .xy = boxes, .labels = CORNERS, .refine = e->bundle->segmentation.refine};
    if (!e->prompted)
        return;
    struct embedding embedding = {e->segmenter, pixels, *maps, 0};
    mf_exec_section(x, embed_section, &embedding, sizeof embedding);
    if (f == e->key) {
        float *alone = mf_exec_floats(x, n * d);
        MF_DO(x, copy, maps->s2, n * d, alone);
        mf_sam2_add_no_memory(x, e->segmenter, alone);
        find_boxes(x, e, r, f, alone, boxes);
        if (!e->prompted)
            return;
    }
    mf_sam2_stack_step(x, e->stack, f, maps, f == e->key ? &prompt : NULL);
    if (!mf_exec_live(x))
        return;
    memcpy(e->mask_logits, mf_sam2_stack_masks(e->stack),
           MF_STRUCTURES * e->mask_cells * sizeof *e->mask_logits);
    memcpy(e->iou, mf_sam2_stack_iou(e->stack), sizeof e->iou);
    memcpy(e->object, mf_sam2_stack_object(e->stack), sizeof e->object);
    if (e->frames)
        mf_frames_put_logits(x, e, e->mask_logits);
}

/* The whole frame as the segmenter's input. */
static void fill_input(struct mf_exec *x, struct mf_engine *e, const struct mf_frame *frame,
                       float *pixels)
{
    const struct mf_image_input *in = &e->bundle->segmenter;
    if (!mf_exec_live(x))
        return;
    if (e->frames) {
        mf_frames_input(x, e, (uint32_t[4]){0, 0, frame->columns, frame->rows}, in, pixels);
        return;
    }
    if (mf_image_input_fill(&e->resampler, e->image, frame->rows, frame->columns, frame->columns,
                            in, e->grey, e->pixels, &x->error))
        MF_DO(x, upload, pixels, e->pixels, 3 * in->rows * in->cols);
}

void mf_segment(struct mf_exec *x, struct mf_engine *e, const struct run *r, size_t f)
{
    const struct mf_image_input *in = &e->bundle->segmenter;
    size_t n = 3 * in->rows * in->cols, mark = mf_exec_mark(x);
    struct mf_sam2_maps maps;
    float *pixels = mf_exec_floats(x, n);
    mf_sam2_maps_alloc(x, e->segmenter, &maps);
    fill_input(x, e, x->planning ? NULL : r->input->frames[f], pixels);
    mf_exec_precision(x, MF_PRECISION_16_BITS);
    if (e->stack)
        segment_slice(x, e, r, f, pixels, &maps);
    else
        segment_alone(x, e, r, f, pixels, &maps);
    mf_exec_precision(x, MF_PRECISION_DTYPE);
    mf_exec_rewind(x, mark);
}

/* m at the frame's size, which only a tap wants to see as a whole. */
static void tap_weight(struct mf_exec *x, struct mf_engine *e, const struct mf_frame *frame,
                       size_t f)
{
    size_t rows = frame->rows, cols = frame->columns;
    MF_AUTO(mf_mem) float *weight = malloc(rows * cols * sizeof *weight);
    if (e->frames)
        mf_frames_get_soft(x, e, e->region.soft);
    if (!weight)
        mf_exec_fail(x, MF_ERR_NO_MEMORY, "out of memory for the weight of a frame");
    else if (mf_region_weight(&e->resampler, e->region.soft, e->bundle->segmenter.rows, rows, cols,
                              weight, &x->error))
        mf_engine_tap(x, weight, "region_weight", f, 2, (size_t[]){rows, cols});
}

static void tell_masks(struct mf_exec *x, struct mf_engine *e, const struct mf_engine_input *in,
                       size_t frame)
{
    size_t size = e->bundle->segmenter.rows;
    if (in->mask && e->frames)
        mf_frames_get_masks(x, e, e->masks);
    for (size_t k = 0; in->mask && k < MF_STRUCTURES; k++)
        in->mask(in->mask_arg, frame, k, e->masks + k * size * size, size);
}

/* Logits → the largest component of each structure's mask at the segmenter's size, in e->masks. */
static bool make_masks(struct mf_exec *x, struct mf_engine *e)
{
    size_t size = e->bundle->segmenter.rows, pixels = size * size;
    size_t side = 4 * mf_sam2_grid(e->segmenter);
    for (size_t k = 0; k < MF_STRUCTURES; k++) {
        if (!mf_resample(&e->resampler, MF_FILTER_BILINEAR, e->mask_logits + k * e->mask_cells,
                         side, side, 1, side, e->region.soft, size, size, &x->error))
            return false;
        for (size_t i = 0; i < pixels; i++)
            e->masks[k * pixels + i] = e->region.soft[i] > 0;
        mf_keep_largest(e->masks + k * pixels, size, (uint32_t *)e->region.between,
                        (uint32_t *)e->region.soft);
    }
    return true;
}

/* Makes the masks; the first gate that they fail. */
static const char *judge_masks(struct mf_exec *x, struct mf_engine *e)
{
    const struct mf_gate *gate = &e->bundle->segmentation.gate;
    size_t size = e->bundle->segmenter.rows;
    struct mf_gate_counts counts[2] = {{0}, {0}};
    if (e->frames) {
        mf_frames_masks(x, e, counts);
        return mf_gate_judge(gate, counts, e->iou, e->object, size * size);
    }
    return make_masks(x, e) ? mf_gate_fails(gate, e->mask_logits, e->mask_cells, e->iou, e->object,
                                            e->masks, size * size)
                            : "prompt";
}

/* The region of both masks together; false when it is empty. */
static bool find_region(struct mf_exec *x, struct mf_engine *e, const struct mf_frame *frame,
                        uint32_t box[4])
{
    size_t size = e->bundle->segmenter.rows, pixels = size * size;
    if (e->frames)
        return mf_frames_region(x, e, box);
    for (size_t i = 0; i < pixels; i++)
        e->masks[i] |= e->masks[pixels + i];
    return mf_region_of(e->masks, size, frame->rows, frame->columns, &e->bundle->segmentation,
                        &e->region, box);
}

void mf_segment_region(struct mf_exec *x, struct mf_engine *e, const struct run *r, size_t f,
                       struct mf_segmentation *s)
{
    const struct mf_frame *frame = r->input->frames[f];
    size_t side = 4 * mf_sam2_grid(e->segmenter);
    s->status = MF_SEGMENTATION_FALLBACK;
    s->reason = "prompt";
    if (!e->prompted)
        return;
    if (e->frames)
        mf_exec_tap(x, mf_frames_logits(e->frames), 3, (size_t[]){2, side, side}, "mask_logits.%zu",
                    f);
    else
        mf_engine_tap(x, e->mask_logits, "mask_logits", f, 3, (size_t[]){2, side, side});
    mf_engine_tap(x, e->iou, "iou_scores", f, 1, (size_t[]){2});
    mf_engine_tap(x, e->object, "object_score_logits", f, 1, (size_t[]){2});
    s->reason = judge_masks(x, e);
    s->iou = fmin(e->iou[0], e->iou[1]);
    if (s->reason || !mf_exec_live(x))
        return;
    tell_masks(x, e, r->input, f);
    if (!find_region(x, e, frame, s->box)) {
        s->reason = "area";
        return;
    }
    s->status = MF_SEGMENTATION_OK;
    if (x->tap)
        tap_weight(x, e, frame, f);
}
