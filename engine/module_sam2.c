/* `module run` of SAM 2: prompts as Hugging Face's Sam2Model.forward takes them, and the box head's
 * own boxes. */
#include "engine/module_io.h"

#include <string.h>

struct job {
    struct mf_sam2 *net;
    const float *pixels, *masks;
    size_t batch, side;
    bool multimask;
    struct mf_sam2_prompts prompts; /* of one image */
    const float *xy, *boxes;        /* of all images */
    const int *labels;
    float *tokens;    /* host scratch */
    float *all, *iou; /* host scratch: every mask of one image's prompts */
    float *out_masks, *out_iou, *out_object, *out_boxes, *out_maps[3];
};

static void collect_maps(struct mf_exec *x, const struct job *j, const struct mf_sam2_maps *maps,
                         size_t b)
{
    size_t n = mf_sam2_grid(j->net) * mf_sam2_grid(j->net), d = mf_sam2_width(j->net);
    const float *levels[3] = {maps->s0, maps->s1, maps->s2};
    size_t cells[3] = {16 * n, 4 * n, n}, widths[3] = {d / 8, d / 4, d};
    for (int i = 0; i < 3; i++)
        mf_module_download_maps(x, levels[i], cells[i], widths[i],
                                j->out_maps[i] + b * cells[i] * widths[i]);
}

/* Picks what multimask_output asks for from the masks of each prompt of image b. */
static void collect_masks(const struct job *j, size_t b)
{
    size_t k = mf_sam2_masks(j->net), kept = j->multimask ? k - 1 : 1;
    size_t cells = 16 * mf_sam2_grid(j->net) * mf_sam2_grid(j->net);
    for (size_t i = 0; i < j->prompts.count; i++) {
        const float *masks = j->all + i * k * cells, *iou = j->iou + i * k;
        size_t first = j->multimask ? 1 : mf_sam2_choose(j->net, masks, iou);
        size_t at = (b * j->prompts.count + i) * kept;
        memcpy(j->out_masks + at * cells, masks + first * cells, kept * cells * sizeof(float));
        memcpy(j->out_iou + at, iou + first, kept * sizeof(float));
    }
}

static void run_image(struct mf_exec *x, struct job *j, size_t b, const struct mf_sam2_maps *maps)
{
    size_t g = mf_sam2_grid(j->net), cells = 16 * g * g, n = j->prompts.count,
           k = mf_sam2_masks(j->net);
    size_t image = 3 * j->side * j->side, mark = mf_exec_mark(x);
    struct mf_sam2_prompts p = j->prompts;
    size_t tokens = n * mf_sam2_prompt_tokens(&p) * mf_sam2_width(j->net);
    float *pixels = mf_exec_floats(x, image), *sparse = mf_exec_floats(x, tokens);
    float *prompt = mf_exec_floats(x, n * cells), *logits = mf_exec_floats(x, g * g * 6);
    struct mf_sam2_answer answer;
    mf_sam2_answer_alloc(x, j->net, n, &answer);
    answer.tokens = NULL;
    p.xy = j->xy ? j->xy + b * n * p.points * 2 : NULL;
    p.labels = j->labels ? j->labels + b * n * p.points : NULL;
    p.boxes = j->boxes ? j->boxes + b * n * 4 : NULL;
    p.masks = j->masks ? prompt : NULL;
    if (mf_exec_live(x))
        mf_sam2_encode_prompts(j->net, &p, j->tokens, &x->error);
    MF_DO(x, upload, pixels, j->pixels + b * image, image);
    MF_DO(x, upload, sparse, j->tokens, tokens);
    if (j->masks)
        MF_DO(x, upload, prompt, j->masks + b * cells, cells);
    mf_sam2_embed(x, j->net, pixels, maps);
    if (mf_sam2_has_boxes(j->net)) {
        mf_sam2_box_logits(x, j->net, maps->s2, logits);
        MF_DO(x, download, j->all, logits, g * g * 6);
        if (mf_exec_live(x))
            mf_sam2_boxes_from_logits(j->net, j->all, j->out_boxes + b * 8);
    }
    mf_sam2_decode(x, j->net, maps, &p, sparse, &answer);
    MF_DO(x, download, j->all, answer.masks, n * k * cells);
    MF_DO(x, download, j->iou, answer.iou, n * k);
    MF_DO(x, download, j->out_object + b * n, answer.object, n);
    if (mf_exec_live(x))
        collect_masks(j, b);
    collect_maps(x, j, maps, b);
    mf_exec_rewind(x, mark);
}

static void body(struct mf_exec *x, void *arg)
{
    struct job *j = arg;
    struct mf_sam2_maps maps;
    mf_sam2_maps_alloc(x, j->net, &maps);
    for (size_t b = 0; b < j->batch; b++)
        run_image(x, j, b, &maps);
}

static bool read_points(struct mf_module_io *io, struct job *j)
{
    size_t shape[4], labels[3];
    j->xy = mf_module_floats(io, "input_points", 4, shape);
    if (!j->xy)
        return false;
    if (shape[0] != j->batch || shape[3] != 2)
        return mf_module_bad(io, "tensor \"input_points\" must be (%zu, n, p, 2)", j->batch);
    j->prompts.count = shape[1];
    j->prompts.points = shape[2];
    size_t n = shape[0] * shape[1] * shape[2];
    int *values = mf_arena_alloc(io->arena, n, sizeof *values, io->err);
    if (!values)
        return false;
    const long long *given = NULL;
    if (mf_module_has(io, "input_labels")) {
        given = mf_module_integers(io, "input_labels", 3, labels);
        if (!given)
            return false;
        if (memcmp(labels, shape, sizeof labels) != 0)
            return mf_module_bad(io, "tensor \"input_labels\" must be one label a point");
    }
    for (size_t i = 0; i < n; i++)
        values[i] = !given ? 1 : given[i] < -100 || given[i] > 100 ? 100 : (int)given[i];
    j->labels = values;
    return true;
}

static bool read_boxes(struct mf_module_io *io, struct job *j)
{
    size_t shape[3];
    j->boxes = mf_module_floats(io, "input_boxes", 3, shape);
    if (!j->boxes)
        return false;
    if (shape[0] != j->batch || shape[2] != 4 || (j->xy && shape[1] != j->prompts.count))
        return mf_module_bad(io, "tensor \"input_boxes\" must be (%zu, n, 4), n as for the points",
                             j->batch);
    j->prompts.count = shape[1];
    j->prompts.boxes = j->boxes;
    return true;
}

/* Without any prompt there is one point that is none, for every image. */
static bool no_prompt(struct mf_module_io *io, struct job *j)
{
    float *xy = mf_arena_alloc(io->arena, j->batch * 2, sizeof *xy, io->err);
    int *labels = mf_arena_alloc(io->arena, j->batch, sizeof *labels, io->err);
    for (size_t i = 0; labels && i < j->batch; i++)
        labels[i] = -1;
    j->xy = xy;
    j->labels = labels;
    j->prompts.count = j->prompts.points = 1;
    return xy && labels;
}

static bool read_prompts(struct mf_module_io *io, struct job *j)
{
    bool points = mf_module_has(io, "input_points"), boxes = mf_module_has(io, "input_boxes");
    size_t shape[4], side = 4 * mf_sam2_grid(j->net);
    if ((points && !read_points(io, j)) || (boxes && !read_boxes(io, j)) ||
        (!points && !boxes && !no_prompt(io, j)))
        return false;
    j->prompts.pad_point = !boxes;
    if (!mf_module_has(io, "input_masks"))
        return true;
    j->masks = mf_module_floats(io, "input_masks", 4, shape);
    if (!j->masks)
        return false;
    if (shape[0] != j->batch || shape[1] != 1 || shape[2] != side || shape[3] != side ||
        j->prompts.count != 1)
        return mf_module_bad(
            io, "tensor \"input_masks\" must be (%zu, 1, %zu, %zu) with one prompt an image",
            j->batch, side, side);
    return true;
}

static bool make_outputs(struct mf_module_io *io, struct job *j)
{
    size_t g = mf_sam2_grid(j->net), side = 4 * g, n = j->prompts.count, k = mf_sam2_masks(j->net);
    size_t kept = j->multimask ? k - 1 : 1, d = mf_sam2_width(j->net);
    j->out_masks = mf_module_output(io, "pred_masks", 5, (size_t[]){j->batch, n, kept, side, side});
    j->out_iou = mf_module_output(io, "iou_scores", 3, (size_t[]){j->batch, n, kept});
    j->out_object = mf_module_output(io, "object_score_logits", 3, (size_t[]){j->batch, n, 1});
    j->out_maps[0] =
        mf_module_output(io, "image_embeddings.0", 4, (size_t[]){j->batch, d / 8, side, side});
    j->out_maps[1] =
        mf_module_output(io, "image_embeddings.1", 4, (size_t[]){j->batch, d / 4, 2 * g, 2 * g});
    j->out_maps[2] = mf_module_output(io, "image_embeddings.2", 4, (size_t[]){j->batch, d, g, g});
    if (mf_sam2_has_boxes(j->net))
        j->out_boxes = mf_module_output(io, "boxes", 3, (size_t[]){j->batch, 2, 4});
    size_t scratch = n * k * side * side;
    j->all = mf_arena_alloc(io->arena, scratch > 6 * g * g ? scratch : 6 * g * g, sizeof(float),
                            io->err);
    j->iou = mf_arena_alloc(io->arena, n * k, sizeof(float), io->err);
    j->tokens = mf_arena_alloc(io->arena, n * mf_sam2_prompt_tokens(&j->prompts) * d, sizeof(float),
                               io->err);
    return j->all && j->iou && j->tokens && j->out_maps[2] &&
           (j->out_boxes || !mf_sam2_has_boxes(j->net));
}

bool mf_module_sam2(struct mf_exec *x, struct mf_loader *ld, struct mf_module_io *io)
{
    struct job j = {0};
    size_t shape[4];
    long long multimask;
    mf_exec_precision(x, MF_PRECISION_16_BITS); /* as in a bundle: masks are yes or no */
    if (mf_module_has(io, "pixel_values_videos"))
        return mf_module_stack(x, ld, io);
    j.net = mf_sam2_load(ld, false);
    j.pixels = mf_loader_finish(ld, mf_sam2_memory_names)
                   ? mf_module_floats(io, "pixel_values", 4, shape)
                   : NULL;
    if (!j.pixels || !mf_module_scalar(io, "multimask_output", 1, &multimask))
        return false;
    j.side = mf_sam2_image_size(j.net);
    if (shape[1] != 3 || shape[2] != j.side || shape[3] != j.side)
        return mf_module_bad(io, "tensor \"pixel_values\" must be (b, 3, %zu, %zu)", j.side,
                             j.side);
    j.batch = shape[0];
    j.multimask = multimask != 0;
    return read_prompts(io, &j) && make_outputs(io, &j) && mf_exec_run(x, body, &j, false, io->err);
}
