/*
 * One run of the whole network: frame by frame the segmenter and the region of interest, frames
 * together the vision module (vision.h); then, study by study, the sequence, the EHR features,
 * fusion and head.
 *
 * Stages shown to a tap: "boxes.{f}" (2, 4) in segmenter pixels, "mask_logits.{f}" (2, h, w),
 * "iou_scores.{f}" (2), "object_score_logits.{f}" (2), "region_weight.{f}" (rows, cols),
 * "pixel_values.{f}" (3, H, W), "region_tokens" (frames, tokens, dv), "temporal" (tokens, d), "ehr"
 * (n, de), "fused_image" (tokens, d), "fused_ehr" (n, d), "readout", "logits".
 */
#include "engine/frames.h"
#include "engine/segment.h"
#include "engine/vision.h"

#include "core/clock.h"
#include "core/grayscale.h"
#include "engine/trust/quality.h"
#include "engine/trust/sharpness.h"

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

/* Display values of a frame, equalised, in e->image or on the device (frames.h); its technical
 * quality where asked. */
static void load_frame(struct mf_exec *x, struct mf_engine *e, const struct mf_frame *frame,
                       uint32_t *quality, double *sharpness)
{
    size_t rows = frame->rows, cols = frame->columns;
    if (e->frames) {
        if (!mf_frames_load(x, e, frame))
            return;
        if (quality)
            mf_frames_quality(x, e, quality, sharpness);
        mf_frames_equalise(x, e);
        return;
    }
    if (!reserve_frame(e, rows * cols, &x->error) ||
        !mf_grayscale_display(frame, e->image, &x->error))
        return;
    if (quality) { /* an engine with a segmenter sees chests */
        *quality = mf_quality_of(e->image, rows, cols, e->segmenter != NULL);
        *sharpness = mf_sharpness_of(e->image, rows, cols);
    }
    mf_equalise(e->bundle->equalisation, e->image, rows, cols, e->levels);
}

/* Of a frame on the device: its region, weighted, as the vision module's input. */
static void cut_region_there(struct mf_exec *x, struct mf_engine *e, size_t f,
                             const struct mf_segmentation *s, float *to)
{
    const struct mf_image_input *in = &e->bundle->vision;
    if (s->status == MF_SEGMENTATION_OK)
        mf_frames_weight(x, e, s->box);
    mf_frames_input(x, e, s->box, in, to);
    mf_exec_tap(x, to, 3, (size_t[]){3, in->rows, in->cols}, "pixel_values.%zu", f);
}

/* The region of the frame, weighted, as the vision module's input: in e->pixels, or on the device
 * where it goes `to`. */
static void cut_region(struct mf_exec *x, struct mf_engine *e, const struct mf_frame *frame,
                       size_t f, const struct mf_segmentation *s, float *to)
{
    const struct mf_image_input *in = &e->bundle->vision;
    if (e->frames) {
        cut_region_there(x, e, f, s, to);
        return;
    }
    size_t cols = frame->columns, first = s->box[1] * cols + s->box[0];
    if (s->status == MF_SEGMENTATION_OK &&
        !mf_region_apply(&e->resampler, e->region.soft, e->bundle->segmenter.rows, e->image,
                         frame->rows, cols, s->box, e->bundle->segmentation.background, &x->error))
        return;
    if (mf_image_input_fill(&e->resampler, e->image + first, s->box[3] - s->box[1],
                            s->box[2] - s->box[0], cols, in, e->grey, e->pixels, &x->error))
        mf_engine_tap(x, e->pixels, "pixel_values", f, 3, (size_t[]){3, in->rows, in->cols});
}

/* One frame, up to what the vision module reads, in e->pixels or `to`. */
static void run_frame(struct mf_exec *x, struct mf_engine *e, const struct run *r, size_t f,
                      float *to)
{
    uint64_t start = mf_clock_monotonic_ns();
    const struct mf_frame *frame = x->planning ? NULL : r->input->frames[f];
    struct mf_segmentation whole = {.status = MF_SEGMENTATION_OFF, .iou = NAN};
    uint32_t *quality = frame && r->output->quality ? &r->output->quality[f] : NULL;
    if (frame) {
        whole.box[2] = frame->columns;
        whole.box[3] = frame->rows;
        load_frame(x, e, frame, quality, quality ? &r->output->sharpness[f] : NULL);
    }
    if (e->segmenter) {
        mf_segment(x, e, r, f);
        if (frame && mf_exec_live(x))
            mf_segment_region(x, e, r, f, &whole);
        if (quality && whole.status == MF_SEGMENTATION_OK) /* the union of both lungs */
            *quality |= e->frames ? mf_frames_cut_off(e->frames)
                                  : mf_quality_of_mask(e->masks, e->bundle->segmenter.rows);
    }
    if (frame) {
        r->output->segmentation[f] = whole;
        if (e->segmenter) { /* without one, loading the frame counts for the vision module */
            r->output->timing.segment += elapsed_ms(start);
            start = mf_clock_monotonic_ns();
        }
        if (mf_exec_live(x))
            cut_region(x, e, frame, f, &whole, to);
        r->output->timing.vision += elapsed_ms(start);
    }
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
        mf_engine_features(e->bundle->features, r->input ? r->input->features : NULL, e->x_cont,
                           e->x_cat, e->missing);
    mf_ft_run(x, e->ehr, e->x_cont, e->x_cat, e->missing, out);
    mf_exec_tap(x, out, 2, (size_t[]){mf_ft_output_tokens(e->ehr), mf_ft_width(e->ehr)}, "ehr");
    if (r->input)
        r->output->timing.ehr = elapsed_ms(start);
}

/* Everything behind the sequence, as a section (exec.h): no padding. */
struct fusing {
    struct mf_engine *engine;
    size_t tokens, features; /* of the image and of the EHR */
    float *image, *fused, *readout, *logits;
    const float *ehr;
};

static void fuse(struct mf_exec *x, void *arg)
{
    const struct fusing *f = arg;
    const struct mf_fusion *net = f->engine->fusion;
    size_t d = mf_fusion_width(net), labels = mf_fusion_labels(net), width = mf_fusion_readout(net);
    mf_fusion_fuse(x, net, f->image, f->tokens, f->ehr, f->features, f->fused);
    mf_exec_tap(x, f->image, 2, (size_t[]){f->tokens, d}, "fused_image");
    if (f->features)
        mf_exec_tap(x, f->fused, 2, (size_t[]){f->features, d}, "fused_ehr");
    mf_fusion_read(x, net, f->image, f->tokens, f->engine->tokens, f->fused, f->readout);
    mf_exec_tap(x, f->readout, 1, &width, "readout");
    mf_fusion_head(x, net, f->readout, f->logits);
    mf_exec_tap(x, f->logits, 1, &labels, "logits");
}

static void run_fusion(struct mf_exec *x, struct mf_engine *e, const struct run *r, float *image,
                       const float *ehr)
{
    size_t n = e->ehr ? mf_ft_output_tokens(e->ehr) : 0, labels = mf_fusion_labels(e->fusion),
           width = mf_fusion_readout(e->fusion);
    uint64_t start = mf_clock_monotonic_ns();
    struct fusing f = {.engine = e, .features = n, .image = image, .ehr = ehr};
    f.tokens = r->frames * e->tokens;
    f.fused = mf_exec_floats(x, n * mf_fusion_width(e->fusion));
    f.readout = mf_exec_floats(x, width);
    f.logits = mf_exec_floats(x, labels);
    mf_exec_section(x, fuse, &f, sizeof f);
    if (!r->input)
        return;
    MF_DO(x, download, r->output->logits, f.logits, labels);
    if (r->output->readout)
        MF_DO(x, download, r->output->readout, f.readout, width);
    r->output->timing.fusion = elapsed_ms(start);
}

/* The mean of the region tokens (CLS comes after them) of the newest frame, or of all slices. */
static void keep_features(struct mf_exec *x, struct mf_engine *e, const struct run *r,
                          const float *tokens)
{
    size_t dv = mf_vit_width(e->vision), regions = e->tokens - 1;
    size_t first = e->bundle->position == MF_POSITION_SLICE ? 0 : r->frames - 1;
    float *mean = r->output->features, share = 1 / (float)(regions * (r->frames - first));
    memset(mean, 0, dv * sizeof *mean);
    for (size_t f = first; f < r->frames; f++) {
        MF_DO(x, download, e->region_tokens, tokens + f * e->tokens * dv, regions * dv);
        for (size_t i = 0; i < regions; i++)
            for (size_t k = 0; k < dv; k++)
                mean[k] += share * e->region_tokens[i * dv + k];
    }
}

/* From a study's region tokens to its logits. */
static void run_study(struct mf_exec *x, struct mf_engine *e, const struct run *r,
                      const float *tokens)
{
    size_t mark = mf_exec_mark(x), d = mf_temporal_width(e->temporal), t = r->frames * e->tokens;
    uint64_t start = mf_clock_monotonic_ns();
    float *ehr = mf_exec_floats(x, e->ehr ? mf_ft_output_tokens(e->ehr) * mf_ft_width(e->ehr) : 0);
    float *image = mf_exec_floats(x, t * d);
    mf_exec_tap(x, tokens, 3, (size_t[]){r->frames, e->tokens, mf_vit_width(e->vision)},
                "region_tokens");
    mf_temporal_run(x, e->temporal, tokens, r->frames, r->input ? r->input->positions : NULL,
                    image);
    mf_exec_tap(x, image, 2, (size_t[]){t, d}, "temporal");
    if (r->input)
        r->output->timing.temporal = elapsed_ms(start);
    run_ehr(x, e, r, ehr);
    run_fusion(x, e, r, image, ehr);
    if (r->input && r->output->features)
        keep_features(x, e, r, tokens);
    mf_exec_rewind(x, mark);
}

/* Region tokens of all frames. Recorded parts know where they lie: there is room for as many frames
 * as there may be. */
static float *new_tokens(struct mf_exec *x, struct mf_engine *e, const struct batch *b)
{
    size_t frames = 0;
    for (size_t i = 0; i < b->count; i++)
        frames += b->runs[i].frames;
    if (x->ops->record && frames < e->bundle->max_frames)
        frames = e->bundle->max_frames;
    return mf_exec_floats(x, frames * e->tokens * mf_vit_width(e->vision));
}

void mf_pipeline_body(struct mf_exec *x, void *arg)
{
    const struct batch *b = arg;
    struct mf_engine *e = b->runs[0].engine;
    size_t frame = e->tokens * mf_vit_width(e->vision);
    struct mf_vision vision;
    float *tokens = new_tokens(x, e, b), *at = tokens;
    mf_vision_begin(x, e, &vision);
    for (size_t i = 0; i < b->count; i++, at += b->runs[i - 1].frames * frame) {
        struct run *r = &b->runs[i];
        mf_segment_begin(e, r->frames);
        size_t visits = x->planning && !e->stack ? 1 : r->frames; /* the same plan for each */
        for (size_t k = 0; k < visits; k++) {
            size_t f = mf_segment_order(e, k);
            run_frame(x, e, r, f, mf_vision_place(e, &vision));
            mf_vision_add(x, e, &vision, r, at + f * frame);
        }
    }
    mf_vision_end(x, e, &vision);
    at = tokens;
    for (size_t i = 0; i < b->count; i++, at += b->runs[i - 1].frames * frame)
        run_study(x, e, &b->runs[i], at);
}

void mf_pipeline_rehearsal(struct mf_exec *x, void *arg)
{
    const struct batch *b = arg;
    struct mf_engine *e = b->runs[0].engine;
    struct mf_vision vision;
    float *tokens = new_tokens(x, e, b);
    mf_vision_begin(x, e, &vision);
    mf_vision_rehearse(x, e, &vision);
    for (size_t frames = 1; frames <= b->runs[0].frames; frames++) {
        struct run r = {.engine = e, .frames = frames};
        run_study(x, e, &r, tokens);
    }
}
