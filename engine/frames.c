/* Frames on the device (frames.h): samples up, display values, quality, a network's input. */
#include "engine/frames_private.h"

#include "core/grayscale.h"
#include "engine/trust/quality.h"
#include "engine/trust/sharpness.h"

#include <stdlib.h>
#include <string.h>

enum { GRID = 256, SUMS = 3 }; /* at most GRID² cells, and GRID + 1 rows of sums */

/* ---- memory ---- */

bool mf_frames_grow(struct mf_frames *f, struct mf_frames_buffer *b, size_t bytes,
                    struct mf_error *err)
{
    if (bytes <= b->bytes)
        return true;
    if (b->memory && !f->device->finish(f->be, err)) /* work in hand may still use it */
        return false;
    f->device->memory_free(f->be, b->memory);
    b->bytes = 0;
    b->memory = f->device->memory_new(f->be, bytes, err);
    if (b->memory)
        b->bytes = bytes;
    return b->memory != NULL;
}

/* Words that the region's runs, disc and weights take. */
static size_t shape_words(size_t size)
{
    return 2 * size + MF_REACH + 1 + 2 * MF_REACH + 1;
}

static bool make_fixed(struct mf_frames *f, const struct mf_engine *e, struct mf_error *err)
{
    size_t pixels = f->size * f->size;
    const struct {
        struct mf_frames_buffer *buffer;
        size_t bytes;
    } all[] = {
        {&f->table, MF_FRAMES_TABLE * sizeof(float)},
        {&f->counts, MF_FRAMES_TABLE * sizeof(uint32_t)},
        {&f->equalise, e->bundle->equalisation ? MF_EQUALISE_ROOM * sizeof(float) : 0},
        {&f->cells, GRID * GRID * sizeof(float)},
        {&f->sums, (size_t)MF_QUALITY_PARTS * (GRID + 1) * SUMS * sizeof(double)},
        {&f->grey, pixels * sizeof(float)},
        {&f->logits, f->size ? 2 * e->mask_cells * sizeof(float) : 0},
        {&f->masks, 2 * pixels},
        {&f->labels, pixels * sizeof(uint32_t)},
        {&f->sizes, pixels * sizeof(uint32_t)},
        {&f->best, sizeof(uint64_t)},
        {&f->soft, pixels * sizeof(float)},
        {&f->facts, (MF_FACT_FIRST + 2 * f->size) * sizeof(uint32_t)},
        {&f->shape, f->size ? shape_words(f->size) * sizeof(int32_t) : 0},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (!mf_frames_grow(f, all[i].buffer, all[i].bytes, err))
            return false;
    f->host_table = malloc(MF_FRAMES_TABLE * sizeof *f->host_table);
    f->host_counts = malloc(MF_FRAMES_TABLE * sizeof *f->host_counts);
    f->host_cells = malloc(f->cells.bytes);
    f->host_sums = malloc(f->sums.bytes);
    f->host_facts = calloc(1, f->facts.bytes);
    f->host_shape = calloc(shape_words(f->size), sizeof *f->host_shape);
    return (f->host_table && f->host_counts && f->host_cells && f->host_sums && f->host_facts &&
            f->host_shape) ||
           mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the engine's frames");
}

struct mf_frames *mf_frames_new(struct mf_engine *e, struct mf_error *err)
{
    struct mf_frames *f = calloc(1, sizeof *f);
    if (!f) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the engine's frames");
        return NULL;
    }
    f->device = e->exec.ops;
    f->ops = e->exec.ops->frames;
    f->be = e->exec.backend;
    f->size = e->segmenter ? e->bundle->segmenter.rows : 0;
    if (make_fixed(f, e, err))
        return f;
    mf_frames_free(f);
    return NULL;
}

enum { BUFFERS = 20 };

static void list_buffers(struct mf_frames *f, struct mf_frames_buffer *all[BUFFERS])
{
    struct mf_frames_buffer *const each[BUFFERS] = {
        &f->raw[0], &f->raw[1],   &f->image, &f->between, &f->taps,  &f->table, &f->counts,
        &f->cells,  &f->equalise, &f->sums,  &f->grey,    &f->head,  &f->masks, &f->logits,
        &f->labels, &f->sizes,    &f->best,  &f->soft,    &f->facts, &f->shape};
    memcpy(all, each, sizeof each);
}

void mf_frames_free(struct mf_frames *f)
{
    struct mf_frames_buffer *all[BUFFERS];
    if (!f)
        return;
    list_buffers(f, all);
    for (size_t i = 0; i < BUFFERS; i++)
        f->device->memory_free(f->be, all[i]->memory);
    mf_resampler_free(&f->axes);
    free(f->host_table);
    free(f->host_counts);
    free(f->host_cells);
    free(f->host_sums);
    free(f->host_facts);
    free(f->host_shape);
    free(f->host_taps);
    free(f->host_image);
    free(f);
}

size_t mf_frames_bytes(const struct mf_frames *f)
{
    struct mf_frames copy = *f;
    struct mf_frames_buffer *all[BUFFERS];
    size_t bytes = 0;
    list_buffers(&copy, all);
    for (size_t i = 0; i < BUFFERS; i++)
        bytes += all[i]->bytes;
    return bytes;
}

bool mf_frames_reserve(struct mf_frames *f, size_t rows, size_t cols, struct mf_error *err)
{
    size_t pixels = rows * cols;
    for (int i = 0; i < MF_FRAMES_SLOTS; i++)
        if (!mf_frames_grow(f, &f->raw[i], pixels * sizeof(uint16_t), err))
            return false;
    return mf_frames_grow(f, &f->image, pixels * sizeof(float), err) &&
           mf_frames_grow(f, &f->between, f->size * cols * sizeof(float), err);
}

/* ---- display values ---- */

/* By table: samples go up beside the work in hand. */
static bool look_up(struct mf_exec *x, struct mf_frames *f, const struct mf_frame *frame,
                    size_t entries)
{
    size_t bytes = entries == 256 ? 1 : 2, n = (size_t)frame->rows * frame->columns;
    int slot = f->slot;
    void *samples = f->raw[slot].memory;
    const uint32_t *counts = NULL;
    f->slot = (slot + 1) % MF_FRAMES_SLOTS;
    f->ops->fill(f->be, slot, samples, frame->samples, n * bytes);
    f->device->await(f->be, slot);
    if (mf_grayscale_needs_counts(frame)) {
        f->ops->count(f->be, samples, bytes, n, f->counts.memory);
        f->ops->get(f->be, f->host_counts, f->counts.memory, entries * sizeof *f->host_counts);
        counts = f->host_counts;
    }
    if (!mf_grayscale_table(frame, counts, f->host_table, &x->error))
        return false;
    f->ops->put(f->be, f->table.memory, f->host_table, entries * sizeof *f->host_table);
    f->ops->display(f->be, samples, bytes, n, f->table.memory, f->image.memory);
    f->device->used(f->be, slot);
    return true;
}

/* Colour, more than 16 bits, floats: the host's values. */
static bool show_as_is(struct mf_exec *x, struct mf_frames *f, const struct mf_frame *frame)
{
    size_t n = (size_t)frame->rows * frame->columns;
    if (n > f->host_image_room) {
        float *image = realloc(f->host_image, n * sizeof *image);
        if (!image)
            return mf_error_set(&x->error, MF_ERR_NO_MEMORY,
                                "out of memory for a frame of %zu pixels", n);
        f->host_image = image;
        f->host_image_room = n;
    }
    if (!mf_grayscale_display(frame, f->host_image, &x->error))
        return false;
    f->ops->put(f->be, f->image.memory, f->host_image, n * sizeof *f->host_image);
    return true;
}

bool mf_frames_load(struct mf_exec *x, struct mf_engine *e, const struct mf_frame *frame)
{
    struct mf_frames *f = e->frames;
    size_t entries = mf_grayscale_table_size(frame);
    f->rows = frame->rows;
    f->cols = frame->columns;
    if (!mf_exec_live(x) || !mf_frames_reserve(f, f->rows, f->cols, &x->error))
        return false;
    return entries ? look_up(x, f, frame, entries) : show_as_is(x, f, frame);
}

void mf_frames_equalise(struct mf_exec *x, struct mf_engine *e)
{
    struct mf_frames *f = e->frames;
    if (mf_exec_live(x))
        f->ops->equalise(f->be, e->bundle->equalisation, f->image.memory, f->rows, f->cols,
                         f->equalise.memory);
}

/* ---- quality ---- */

static uint32_t quality_of(struct mf_frames *f, bool chest)
{
    struct mf_quality_part plan[MF_QUALITY_PARTS];
    struct mf_quality_sums sums[MF_QUALITY_PARTS] = {{0}};
    struct mf_device_part parts[MF_QUALITY_PARTS];
    size_t step = mf_quality_plan(f->rows, f->cols, plan);
    if (!step)
        return 0;
    for (int k = 0; k < MF_QUALITY_PARTS; k++)
        parts[k] = (struct mf_device_part){(uint32_t)plan[k].r0, (uint32_t)plan[k].r1,
                                           (uint32_t)plan[k].c0, (uint32_t)plan[k].c1};
    size_t rows = (f->rows + step - 1) / step;
    f->ops->sums(f->be, f->image.memory, f->cols, parts, MF_QUALITY_PARTS, rows, step,
                 MF_QUALITY_NOISE, f->sums.memory);
    f->ops->get(f->be, f->host_sums, f->sums.memory,
                MF_QUALITY_PARTS * rows * SUMS * sizeof *f->host_sums);
    for (size_t k = 0; k < MF_QUALITY_PARTS; k++) {
        const struct mf_quality_part *p = &plan[k];
        for (size_t r = 0; r < rows; r++) {
            const double *of = f->host_sums + (k * rows + r) * SUMS;
            sums[k].sum += of[0];
            sums[k].squares += of[1];
            sums[k].white += of[2];
        }
        sums[k].points = ((p->r1 - p->r0 + step - 1) / step) * ((p->c1 - p->c0 + step - 1) / step);
    }
    return mf_quality_judge(sums, chest);
}

void mf_frames_quality(struct mf_exec *x, struct mf_engine *e, uint32_t *quality, double *sharpness)
{
    struct mf_frames *f = e->frames;
    struct mf_sharpness_grid grid;
    *sharpness = NAN;
    if (!mf_exec_live(x))
        return;
    *quality = quality_of(f, e->segmenter != NULL); /* an engine with a segmenter sees chests */
    if (!mf_sharpness_plan(f->rows, f->cols, &grid))
        return;
    f->ops->cells(f->be, f->image.memory, f->cols, grid.rows, grid.cols, grid.step, grid.stride,
                  f->cells.memory);
    f->ops->get(f->be, f->host_cells, f->cells.memory,
                grid.rows * grid.cols * sizeof *f->host_cells);
    *sharpness = mf_sharpness_of_cells(f->host_cells, grid.rows, grid.cols);
}

/* ---- a network's input ---- */

static char *pack_axis(const struct mf_axis *axis, char *to)
{
    size_t n = axis->out * axis->taps;
    uint32_t *index = (uint32_t *)(void *)to;
    for (size_t i = 0; i < n; i++)
        index[i] = (uint32_t)axis->index[i];
    memcpy(to + n * sizeof *index, axis->weight, n * sizeof *axis->weight);
    return to + n * (sizeof *index + sizeof *axis->weight);
}

static struct mf_device_axis device_axis(const struct mf_axis *axis, const char *at)
{
    const char *weight = at + axis->out * axis->taps * sizeof(uint32_t);
    return (struct mf_device_axis){(const uint32_t *)(const void *)at,
                                   (const float *)(const void *)weight, axis->out, axis->taps};
}

bool mf_frames_axes(struct mf_frames *f, enum mf_filter filter, size_t rows, size_t cols,
                    size_t out_rows, size_t out_cols, struct mf_device_axis axes[2],
                    struct mf_error *err)
{
    if (!mf_resample_plan(&f->axes, filter, rows, cols, out_rows, out_cols, err))
        return false;
    const struct mf_axis *down = &f->axes.rows, *across = &f->axes.cols;
    size_t first = down->out * down->taps * (sizeof(uint32_t) + sizeof(float));
    size_t bytes = first + across->out * across->taps * (sizeof(uint32_t) + sizeof(float));
    if (bytes > f->host_taps_room) {
        char *taps = realloc(f->host_taps, bytes);
        if (!taps)
            return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for resampling");
        f->host_taps = taps;
        f->host_taps_room = bytes;
    }
    if (!mf_frames_grow(f, &f->taps, bytes, err))
        return false;
    pack_axis(across, pack_axis(down, f->host_taps));
    f->ops->put(f->be, f->taps.memory, f->host_taps, bytes);
    axes[0] = device_axis(down, f->taps.memory);
    axes[1] = device_axis(across, (const char *)f->taps.memory + first);
    return true;
}

void mf_frames_input(struct mf_exec *x, struct mf_engine *e, const uint32_t box[4],
                     const struct mf_image_input *in, float *planes)
{
    struct mf_frames *f = e->frames;
    struct mf_device_axis axes[2];
    size_t rows = box[3] - box[1], cols = box[2] - box[0];
    size_t between = mf_device_between(rows, cols, in->rows, in->cols);
    if (!mf_exec_live(x) ||
        !mf_frames_axes(f, MF_FILTER_BILINEAR_ANTIALIAS, rows, cols, in->rows, in->cols, axes,
                        &x->error) ||
        !mf_frames_grow(f, &f->between, between * sizeof(float), &x->error))
        return;
    struct mf_device_resample r = {.rows = axes[0],
                                   .cols = axes[1],
                                   .in = (const float *)f->image.memory + box[1] * f->cols + box[0],
                                   .in_rows = rows,
                                   .in_cols = cols,
                                   .in_row = f->cols,
                                   .between = f->between.memory,
                                   .out = in == &e->bundle->segmenter ? f->grey.memory : NULL,
                                   .planes = planes};
    memcpy(r.mean, in->mean, sizeof r.mean);
    memcpy(r.std, in->std, sizeof r.std);
    f->ops->resample(f->be, &r);
}

void mf_frames_grey(struct mf_exec *x, struct mf_engine *e, float *grey)
{
    const struct mf_frames *f = e->frames;
    if (mf_exec_live(x))
        f->ops->get(f->be, grey, f->grey.memory, f->size * f->size * sizeof *grey);
}
