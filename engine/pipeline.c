/*
 * One run of the whole network: frame by frame the segmenter, the region of interest and the vision
 * module; then the sequence, the EHR features, fusion and head.
 *
 * Stages shown to a tap: "boxes.{f}" (2, 4) in segmenter pixels, "mask_logits.{f}" (2, h, w),
 * "iou_scores.{f}" (2), "object_score_logits.{f}" (2), "region_weight.{f}" (rows, cols),
 * "pixel_values.{f}" (3, H, W), "region_tokens" (frames, tokens, dv), "temporal" (tokens, d), "ehr"
 * (n, de), "fused_image" (tokens, d), "fused_ehr" (n, d), "readout", "logits".
 */
#include "engine/segment.h"

#include "core/clock.h"
#include "core/grayscale.h"
#include "engine/trust/quality.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static double elapsed_ms(uint64_t since)
{
    return (double)(mf_clock_monotonic_ns() - since) / 1e6;
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

/* Display values of a frame, equalised, in e->image; its technical quality where asked. */
static void load_frame(struct mf_exec *x, struct mf_engine *e, const struct mf_frame *frame,
                       uint32_t *quality)
{
    size_t rows = frame->rows, cols = frame->columns;
    if (!reserve_frame(e, rows * cols, &x->error) ||
        !mf_grayscale_display(frame, e->image, &x->error))
        return;
    if (quality) /* an engine with a segmenter sees chests */
        *quality = mf_quality_of(e->image, rows, cols, e->segmenter != NULL);
    mf_equalise(e->bundle->equalisation, e->image, rows, cols, e->levels);
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
        mf_engine_tap(x, e->pixels, "pixel_values", f, 3, (size_t[]){3, in->rows, in->cols});
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
    uint32_t *quality = frame && r->output->quality ? &r->output->quality[f] : NULL;
    if (frame) {
        whole.box[2] = frame->columns;
        whole.box[3] = frame->rows;
        load_frame(x, e, frame, quality);
    }
    if (e->segmenter) {
        mf_segment(x, e, r, f);
        if (frame && mf_exec_live(x))
            mf_segment_region(x, e, r, f, &whole);
        if (quality && whole.status == MF_SEGMENTATION_OK) /* the union of both lungs */
            *quality |= mf_quality_of_mask(e->masks, e->bundle->segmenter.rows);
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

void mf_engine_features(const struct mf_feature_set *set, const struct mf_feature_value *values,
                        float *x_cont, size_t *x_cat, unsigned char *missing)
{
    for (size_t i = 0; i < set->count; i++) {
        const struct mf_feature *feature = &set->features[i];
        const struct mf_feature_value *v = values ? &values[i] : NULL;
        bool numeric = i < set->numeric_count;
        bool used =
            v && v->status == MF_FEATURE_USED && (numeric ? v->has_number : v->has_category);
        if (numeric) {
            x_cont[i] = used ? (float)((v->number - feature->mean) / feature->std) : 0;
            used = used && isfinite(x_cont[i]);
        } else {
            used = used && v->category < feature->category_count;
            x_cat[i - set->numeric_count] = used ? v->category : 0;
        }
        missing[i] = !used;
    }
}

static void run_ehr(struct mf_exec *x, struct mf_engine *e, const struct run *r, float *out)
{
    uint64_t start = mf_clock_monotonic_ns();
    if (!e->ehr)
        return;
    if (!x->planning)
        mf_engine_features(e->bundle->features, r->input->features, e->x_cont, e->x_cat,
                           e->missing);
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
    mf_segment_begin(e, r->frames);
    size_t visits = x->planning && !e->stack ? 1 : r->frames; /* the same plan for every frame */
    for (size_t i = 0; i < visits; i++) {
        size_t f = mf_segment_order(e, i);
        run_frame(x, e, r, f, tokens + f * e->tokens * dv);
    }
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
