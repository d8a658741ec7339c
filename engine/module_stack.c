/* `module run` of SAM 2 over a stack of slices (Hugging Face's Sam2VideoModel): prompts on one
 * slice, masks on all. */
#include "engine/module_io.h"
#include "engine/net/sam2_stack.h"

#include <string.h>

enum { MAX_SLICES = 1024, MAX_OBJECTS = 64 };

struct job {
    struct mf_sam2 *net;
    struct mf_sam2_stack *stack;
    const float *pixels;
    size_t slices, key, side, objects;
    struct mf_sam2_stack_prompt prompt;
    float *out_masks, *out_object, *out_iou; /* host */
};

static void run_slice(struct mf_exec *x, const struct job *j, size_t f)
{
    size_t image = 3 * j->side * j->side, n = j->objects;
    size_t cells = 16 * mf_sam2_grid(j->net) * mf_sam2_grid(j->net), mark = mf_exec_mark(x);
    struct mf_sam2_maps maps;
    float *pixels = mf_exec_floats(x, image);
    mf_sam2_maps_alloc(x, j->net, &maps);
    MF_DO(x, upload, pixels, j->pixels + f * image, image);
    mf_sam2_features(x, j->net, pixels, &maps);
    mf_sam2_stack_step(x, j->stack, f, &maps, f == j->key ? &j->prompt : NULL);
    if (mf_exec_live(x)) {
        memcpy(j->out_masks + f * n * cells, mf_sam2_stack_masks(j->stack),
               n * cells * sizeof(float));
        memcpy(j->out_object + f * n, mf_sam2_stack_object(j->stack), n * sizeof(float));
        memcpy(j->out_iou + f * n, mf_sam2_stack_iou(j->stack), n * sizeof(float));
    }
    mf_exec_rewind(x, mark);
}

static void body(struct mf_exec *x, void *arg)
{
    const struct job *j = arg;
    mf_sam2_stack_begin(j->stack, j->slices, j->key);
    for (size_t i = 0; i < j->slices; i++)
        run_slice(x, j, mf_sam2_stack_order(j->stack, i));
}

/* Corners of boxes, then points, as one list of points an object: what Hugging Face's processor
 * makes of them. */
static bool read_points(struct mf_module_io *io, struct job *j)
{
    bool boxes = mf_module_has(io, "input_boxes"), points = mf_module_has(io, "input_points");
    size_t box[3] = {1, 0, 4}, xy[4] = {1, 0, 0, 2}, kinds[3] = {0};
    const float *corners = boxes ? mf_module_floats(io, "input_boxes", 3, box) : NULL;
    const float *given = points ? mf_module_floats(io, "input_points", 4, xy) : NULL;
    const long long *labels = points ? mf_module_integers(io, "input_labels", 3, kinds) : NULL;
    if ((boxes && !corners) || (points && (!given || !labels)))
        return false;
    j->objects = boxes ? box[1] : xy[1];
    size_t n = j->prompt.points = (boxes ? 2 : 0) + xy[2];
    if (box[0] != 1 || box[2] != 4 || xy[0] != 1 || xy[3] != 2 ||
        (points && (xy[1] != j->objects || memcmp(xy, kinds, sizeof kinds) != 0)))
        return mf_module_bad(io, "\"input_boxes\" must be (1, n, 4), \"input_points\" (1, n, p, 2) "
                                 "and \"input_labels\" (1, n, p)");
    if (j->objects > MAX_OBJECTS || n > MF_SAM2_POINTS)
        return mf_module_bad(io, "more than %d objects or %d points", MAX_OBJECTS, MF_SAM2_POINTS);
    float *all = mf_arena_alloc(io->arena, j->objects * n * 2, sizeof *all, io->err);
    int *marks = mf_arena_alloc(io->arena, j->objects * n, sizeof *marks, io->err);
    if (!all || !marks)
        return false;
    for (size_t i = 0; i < j->objects * n; i++) {
        size_t object = i / n, k = i % n, first = boxes ? 2 : 0;
        const float *at =
            k < first ? corners + object * 4 + 2 * k : given + (object * xy[2] + k - first) * 2;
        long long label = k < first ? 2 + (long long)k : labels[object * xy[2] + k - first];
        memcpy(all + 2 * i, at, 2 * sizeof *all);
        marks[i] = label < -100 || label > 100 ? 100 : (int)label;
    }
    j->prompt.xy = all;
    j->prompt.labels = marks;
    return true;
}

static bool read_masks(struct mf_module_io *io, struct job *j)
{
    size_t shape[4];
    j->prompt.masks = mf_module_floats(io, "input_masks", 4, shape);
    if (!j->prompt.masks)
        return false;
    j->objects = shape[1];
    if (shape[0] != 1 || shape[1] > MAX_OBJECTS || shape[2] != j->side || shape[3] != j->side)
        return mf_module_bad(io, "tensor \"input_masks\" must be (1, n ≤ %d, %zu, %zu)",
                             MAX_OBJECTS, j->side, j->side);
    for (size_t i = 0; i < j->objects * j->side * j->side; i++)
        if (j->prompt.masks[i] != 0 && j->prompt.masks[i] != 1)
            return mf_module_bad(io, "tensor \"input_masks\" must hold 0 and 1 only");
    return true;
}

static bool read_slices(struct mf_module_io *io, struct job *j)
{
    size_t shape[5];
    long long key;
    j->side = mf_sam2_image_size(j->net);
    j->pixels = mf_module_floats(io, "pixel_values_videos", 5, shape);
    if (!j->pixels)
        return false;
    if (shape[0] != 1 || shape[1] > MAX_SLICES || shape[2] != 3 || shape[3] != j->side ||
        shape[4] != j->side)
        return mf_module_bad(io, "tensor \"pixel_values_videos\" must be (1, n ≤ %d, 3, %zu, %zu)",
                             MAX_SLICES, j->side, j->side);
    j->slices = shape[1];
    if (!mf_module_scalar(io, "frame_idx", (long long)(j->slices / 2), &key))
        return false;
    if (key < 0 || (size_t)key >= j->slices)
        return mf_module_bad(io, "tensor \"frame_idx\" is %lld, slices are 0 to %zu", key,
                             j->slices - 1);
    j->key = (size_t)key;
    return true;
}

static bool make_outputs(struct mf_module_io *io, struct job *j)
{
    size_t n = j->objects, side = 4 * mf_sam2_grid(j->net);
    j->out_masks = mf_module_output(io, "pred_masks", 5, (size_t[]){j->slices, n, 1, side, side});
    j->out_object = mf_module_output(io, "object_score_logits", 3, (size_t[]){j->slices, n, 1});
    j->out_iou = mf_module_output(io, "iou_scores", 3, (size_t[]){j->slices, n, 1});
    return j->out_masks && j->out_object && j->out_iou;
}

bool mf_module_stack(struct mf_exec *x, struct mf_loader *ld, struct mf_module_io *io)
{
    struct job j = {0};
    j.net = mf_sam2_load(ld, true);
    if (!mf_loader_finish(ld, NULL))
        return false;
    if (!mf_sam2_memory(j.net))
        return mf_loader_fail(ld, "the model has no memory, so it takes images, not stacks");
    if (!read_slices(io, &j))
        return false;
    bool masks = mf_module_has(io, "input_masks");
    bool others = mf_module_has(io, "input_points") || mf_module_has(io, "input_boxes");
    if (masks == others)
        return mf_module_bad(io, "a stack needs points and boxes, or masks, on one of its slices");
    if (!(masks ? read_masks(io, &j) : read_points(io, &j)) || !make_outputs(io, &j))
        return false;
    MF_AUTO(mf_sam2_stack)
    struct mf_sam2_stack *stack =
        mf_sam2_stack_new(j.net, j.objects, j.slices, x->ops->host_threads(x->backend), io->err);
    j.stack = stack;
    return stack && mf_exec_run(x, body, &j, false, io->err);
}
