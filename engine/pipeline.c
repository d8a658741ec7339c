/*
 * One run of the whole network: frame by frame the segmenter, the region of interest and the vision
 * module; then the sequence, the EHR features, fusion and head.
 *
 * Stages shown to a tap: "boxes.{f}" (2, 4) in segmenter pixels, "mask_logits.{f}" (2, h, w),
 * "iou_scores.{f}" (2), "object_score_logits.{f}" (2), "region_weight.{f}" (rows, cols),
 * "pixel_values.{f}" (3, H, W), "region_tokens" (frames, tokens, dv), "temporal" (tokens, d), "ehr"
 * (n, de), "fused_image" (tokens, d), "fused_ehr" (n, d), "readout", "logits".
 */
#include "engine/engine_private.h"

#include "core/clock.h"
#include "core/grayscale.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { STRUCTURES = 2 };

static double elapsed_ms(uint64_t since)
{
    return (double)(mf_clock_monotonic_ns() - since) / 1e6;
}

static void tap_host(struct mf_exec *x, const float *data, const char *stage, size_t frame,
                     int rank, const size_t *shape)
{
    char name[64];
    if (!x->tap)
        return;
    snprintf(name, sizeof name, "%s.%zu", stage, frame);
    x->tap->see(x->tap->arg, name, data, shape, rank);
}

/* Makes room for one frame of this size; only a larger frame than ever allocates. */
static bool reserve_frame(struct mf_engine *e, size_t pixels, struct mf_error *err)
{
    if (pixels <= e->frame_room)
        return true;
    float *image = realloc(e->image, pixels * sizeof *image);
    e->image = image ? image : e->image;
    uint8_t *levels = realloc(e->levels, pixels);
    e->levels = levels ? levels : e->levels;
    if (!image || !levels)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a frame of %zu pixels",
                            pixels);
    e->frame_room = pixels;
    return true;
}

/* Display values of a frame, equalised, in e->image. */
static void load_frame(struct mf_exec *x, struct mf_engine *e, const struct mf_frame *frame)
{
    size_t rows = frame->rows, cols = frame->columns;
    if (!reserve_frame(e, rows * cols, &x->error) ||
        !mf_grayscale_display(frame, e->image, &x->error))
        return;
    mf_equalise(e->bundle->equalisation, e->image, rows, cols, e->levels);
}

/* Runs the decoder on both boxes; chosen masks (2, cells), their IoU and object scores go to the
 * host. */
static void decode(struct mf_exec *x, struct mf_engine *e, const struct mf_sam2_maps *maps,
                   const float *boxes, const float *prompt)
{
    size_t cells = e->mask_cells, k = mf_sam2_masks(e->segmenter), mark = mf_exec_mark(x);
    struct mf_sam2_prompts p = {.count = STRUCTURES, .boxes = boxes, .masks = prompt};
    size_t tokens = STRUCTURES * mf_sam2_prompt_tokens(&p) * mf_sam2_width(e->segmenter);
    float *sparse = mf_exec_floats(x, tokens);
    struct mf_sam2_answer answer;
    mf_sam2_answer_alloc(x, e->segmenter, STRUCTURES, &answer);
    answer.tokens = NULL;
    if (mf_exec_live(x))
        mf_sam2_encode_prompts(e->segmenter, &p, e->prompt_tokens, &x->error);
    MF_DO(x, upload, sparse, e->prompt_tokens, tokens);
    mf_sam2_decode(x, e->segmenter, maps, &p, sparse, &answer);
    MF_DO(x, download, e->all_masks, answer.masks, STRUCTURES * k * cells);
    MF_DO(x, download, e->all_iou, answer.iou, STRUCTURES * k);
    MF_DO(x, download, e->object, answer.object, STRUCTURES);
    for (size_t s = 0; mf_exec_live(x) && s < STRUCTURES; s++) {
        const float *all = e->all_masks + s * k * cells;
        size_t best = mf_sam2_choose(e->segmenter, all, e->all_iou + s * k);
        memcpy(e->mask_logits + s * cells, all + best * cells, cells * sizeof *all);
        e->iou[s] = e->all_iou[s * k + best];
    }
    mf_exec_rewind(x, mark);
}

/* The segmenter on the frame in e->image (NULL while planning): mask logits of both structures on
 * the host. */
static void segment(struct mf_exec *x, struct mf_engine *e, const struct run *r, size_t f,
                    const struct mf_frame *frame)
{
    const struct mf_image_input *in = &e->bundle->segmenter;
    size_t n = 3 * in->rows * in->cols, g = mf_sam2_grid(e->segmenter), mark = mf_exec_mark(x);
    struct mf_sam2_maps maps;
    float *pixels = mf_exec_floats(x, n), *heat = mf_exec_floats(x, g * g * 6);
    float *prompt = mf_exec_floats(x, STRUCTURES * e->mask_cells), boxes[8] = {0};
    mf_sam2_maps_alloc(x, e->segmenter, &maps);
    if (frame && mf_exec_live(x))
        mf_image_input_fill(&e->resampler, e->image, frame->rows, frame->columns, frame->columns,
                            in, e->grey, e->pixels, &x->error);
    MF_DO(x, upload, pixels, e->pixels, n);
    mf_sam2_embed(x, e->segmenter, pixels, &maps);
    mf_sam2_box_logits(x, e->segmenter, maps.s2, heat);
    MF_DO(x, download, e->heat, heat, g * g * 6);
    if (mf_exec_live(x)) {
        mf_sam2_boxes_from_logits(e->segmenter, e->heat, boxes);
        tap_host(x, boxes, "boxes", f, 2, (size_t[]){2, 4});
        if (r->input->boxes)
            memcpy(boxes, r->input->boxes + 8 * f, sizeof boxes);
    }
    decode(x, e, &maps, boxes, NULL);
    if (e->bundle->segmentation.refine) {
        MF_DO(x, upload, prompt, e->mask_logits, STRUCTURES * e->mask_cells);
        decode(x, e, &maps, boxes, prompt);
    }
    mf_exec_rewind(x, mark);
}

/* m at the frame's size, which only a tap wants to see as a whole. */
static void tap_weight(struct mf_exec *x, struct mf_engine *e, const struct mf_frame *frame,
                       size_t f)
{
    size_t rows = frame->rows, cols = frame->columns;
    MF_AUTO(mf_mem) float *weight = malloc(rows * cols * sizeof *weight);
    if (!weight)
        mf_exec_fail(x, MF_ERR_NO_MEMORY, "out of memory for the weight of a frame");
    else if (mf_region_weight(&e->resampler, e->region.soft, e->bundle->segmenter.rows, rows, cols,
                              weight, &x->error))
        tap_host(x, weight, "region_weight", f, 2, (size_t[]){rows, cols});
}

static void tell_masks(const struct mf_engine_input *in, const uint8_t *masks, size_t size,
                       size_t frame)
{
    for (size_t k = 0; in->mask && k < STRUCTURES; k++)
        in->mask(in->mask_arg, frame, k, masks + k * size * size, size);
}

/* From mask logits to the region; fills the frame's segmentation and, when it holds,
 * e->region.soft. */
static void find_region(struct mf_exec *x, struct mf_engine *e, const struct run *r, size_t f,
                        struct mf_segmentation *s)
{
    const struct mf_frame *frame = r->input->frames[f];
    size_t size = e->bundle->segmenter.rows, pixels = size * size,
           side = 4 * mf_sam2_grid(e->segmenter);
    tap_host(x, e->mask_logits, "mask_logits", f, 3, (size_t[]){2, side, side});
    tap_host(x, e->iou, "iou_scores", f, 1, (size_t[]){2});
    tap_host(x, e->object, "object_score_logits", f, 1, (size_t[]){2});
    for (size_t k = 0; k < STRUCTURES; k++) {
        if (!mf_resample(&e->resampler, MF_FILTER_BILINEAR, e->mask_logits + k * e->mask_cells,
                         side, side, 1, side, e->region.soft, size, size, &x->error))
            return;
        for (size_t i = 0; i < pixels; i++)
            e->masks[k * pixels + i] = e->region.soft[i] > 0;
        mf_keep_largest(e->masks + k * pixels, size, (uint32_t *)e->region.between,
                        (uint32_t *)e->region.soft);
    }
    s->iou = fmin(e->iou[0], e->iou[1]);
    s->reason = mf_gate_fails(&e->bundle->segmentation.gate, e->mask_logits, e->mask_cells, e->iou,
                              e->object, e->masks, pixels);
    s->status = MF_SEGMENTATION_FALLBACK;
    if (s->reason)
        return;
    tell_masks(r->input, e->masks, size, f);
    for (size_t i = 0; i < pixels; i++)
        e->masks[i] |= e->masks[pixels + i];
    if (!mf_region_of(e->masks, size, frame->rows, frame->columns, &e->bundle->segmentation,
                      &e->region, s->box)) {
        s->reason = "area";
        return;
    }
    s->status = MF_SEGMENTATION_OK;
    if (x->tap)
        tap_weight(x, e, frame, f);
}

/* The region of the frame, weighted, as the vision module's input in e->pixels. */
static void cut_region(struct mf_exec *x, struct mf_engine *e, const struct mf_frame *frame,
                       size_t f, const struct mf_segmentation *s)
{
    const struct mf_image_input *in = &e->bundle->vision;
    size_t cols = frame->columns, first = s->box[1] * cols + s->box[0];
    if (s->status == MF_SEGMENTATION_OK &&
        !mf_region_apply(&e->resampler, e->region.soft, e->bundle->segmenter.rows, e->image,
                         frame->rows, cols, s->box, e->bundle->segmentation.background, &x->error))
        return;
    if (mf_image_input_fill(&e->resampler, e->image + first, s->box[3] - s->box[1],
                            s->box[2] - s->box[0], cols, in, e->grey, e->pixels, &x->error))
        tap_host(x, e->pixels, "pixel_values", f, 3, (size_t[]){3, in->rows, in->cols});
}

/* One frame: its region tokens go to `tokens` (device). */
static void run_frame(struct mf_exec *x, struct mf_engine *e, const struct run *r, size_t f,
                      float *tokens)
{
    const struct mf_image_input *in = &e->bundle->vision;
    size_t n = 3 * in->rows * in->cols, d = mf_vit_width(e->vision), mark = mf_exec_mark(x);
    uint64_t start = mf_clock_monotonic_ns();
    const struct mf_frame *frame = x->planning ? NULL : r->input->frames[f];
    struct mf_segmentation whole = {.status = MF_SEGMENTATION_OFF, .iou = NAN};
    if (frame) {
        whole.box[2] = frame->columns;
        whole.box[3] = frame->rows;
        load_frame(x, e, frame);
    }
    if (e->segmenter) {
        segment(x, e, r, f, frame);
        if (frame && mf_exec_live(x))
            find_region(x, e, r, f, &whole);
    }
    if (frame) {
        r->output->segmentation[f] = whole;
        if (e->segmenter) { /* without one, loading the frame counts for the vision module */
            r->output->timing.segment += elapsed_ms(start);
            start = mf_clock_monotonic_ns();
        }
        if (mf_exec_live(x))
            cut_region(x, e, frame, f, &whole);
    }
    float *pixels = mf_exec_floats(x, n);
    float *hidden = mf_exec_floats(x, mf_vit_tokens(e->vision, in->rows, in->cols) * d);
    MF_DO(x, upload, pixels, e->pixels, n);
    mf_vit_run(x, e->vision, pixels, 1, in->rows, in->cols, hidden);
    mf_vit_regions(x, e->vision, hidden, in->rows, in->cols, e->bundle->regions, tokens);
    if (frame)
        r->output->timing.vision += elapsed_ms(start);
    mf_exec_rewind(x, mark);
}

/* Values as the EHR module takes them; anything that is not MF_FEATURE_USED is missing. */
static void fill_features(struct mf_engine *e, const struct mf_feature_value *values)
{
    const struct mf_feature_set *set = e->bundle->features;
    for (size_t i = 0; i < set->count; i++) {
        const struct mf_feature *feature = &set->features[i];
        const struct mf_feature_value *v = values ? &values[i] : NULL;
        bool numeric = i < set->numeric_count;
        bool used =
            v && v->status == MF_FEATURE_USED && (numeric ? v->has_number : v->has_category);
        if (numeric) {
            e->x_cont[i] = used ? (float)((v->number - feature->mean) / feature->std) : 0;
            used = used && isfinite(e->x_cont[i]);
        } else {
            used = used && v->category < feature->category_count;
            e->x_cat[i - set->numeric_count] = used ? v->category : 0;
        }
        e->missing[i] = !used;
    }
}

static void run_ehr(struct mf_exec *x, struct mf_engine *e, const struct run *r, float *out)
{
    uint64_t start = mf_clock_monotonic_ns();
    if (!e->ehr)
        return;
    if (!x->planning)
        fill_features(e, r->input->features);
    mf_ft_run(x, e->ehr, e->x_cont, e->x_cat, e->missing, out);
    mf_exec_tap(x, out, 2, (size_t[]){mf_ft_output_tokens(e->ehr), mf_ft_width(e->ehr)}, "ehr");
    if (!x->planning)
        r->output->timing.ehr = elapsed_ms(start);
}

static void run_fusion(struct mf_exec *x, struct mf_engine *e, const struct run *r, float *image,
                       const float *ehr)
{
    size_t d = mf_fusion_width(e->fusion), t = r->frames * e->tokens,
           n = e->ehr ? mf_ft_output_tokens(e->ehr) : 0;
    size_t labels = mf_fusion_labels(e->fusion), width = mf_fusion_readout(e->fusion);
    uint64_t start = mf_clock_monotonic_ns();
    float *fused = mf_exec_floats(x, n * d), *readout = mf_exec_floats(x, width),
          *logits = mf_exec_floats(x, labels);
    mf_fusion_fuse(x, e->fusion, image, t, ehr, n, fused);
    mf_exec_tap(x, image, 2, (size_t[]){t, d}, "fused_image");
    if (n)
        mf_exec_tap(x, fused, 2, (size_t[]){n, d}, "fused_ehr");
    mf_fusion_read(x, e->fusion, image, t, e->tokens, fused, readout);
    mf_exec_tap(x, readout, 1, &width, "readout");
    mf_fusion_head(x, e->fusion, readout, logits);
    mf_exec_tap(x, logits, 1, &labels, "logits");
    if (x->planning)
        return;
    MF_DO(x, download, r->output->logits, logits, labels);
    if (r->output->readout)
        MF_DO(x, download, r->output->readout, readout, width);
    r->output->timing.fusion = elapsed_ms(start);
}

void mf_pipeline_body(struct mf_exec *x, void *arg)
{
    const struct run *r = arg;
    struct mf_engine *e = r->engine;
    size_t dv = mf_vit_width(e->vision), d = mf_temporal_width(e->temporal),
           t = r->frames * e->tokens;
    size_t ehr_floats = e->ehr ? mf_ft_output_tokens(e->ehr) * mf_ft_width(e->ehr) : 0;
    float *tokens = mf_exec_floats(x, t * dv), *image = mf_exec_floats(x, t * d);
    float *ehr = mf_exec_floats(x, ehr_floats);
    size_t visits = x->planning ? 1 : r->frames; /* every frame needs the same plan */
    for (size_t f = 0; f < visits; f++)
        run_frame(x, e, r, f, tokens + f * e->tokens * dv);
    mf_exec_tap(x, tokens, 3, (size_t[]){r->frames, e->tokens, dv}, "region_tokens");
    uint64_t start = mf_clock_monotonic_ns();
    mf_temporal_run(x, e->temporal, tokens, r->frames, x->planning ? NULL : r->input->positions,
                    image);
    mf_exec_tap(x, image, 2, (size_t[]){t, d}, "temporal");
    if (!x->planning)
        r->output->timing.temporal = elapsed_ms(start);
    run_ehr(x, e, r, ehr);
    run_fusion(x, e, r, image, ehr);
}
