/* Volume frames: see volume_frames.h. Slices come in batches of as many as a selection holds. */
#include "server/volume_frames.h"

#include "engine/reslice.h"

#include <stdlib.h>
#include <string.h>

/* One volume while it is made. */
struct making {
    const struct mf_volume *volume;
    const struct mf_bundle_volume *values;
    const struct mf_volume_source *source;
    const size_t *planes;
    size_t count;
    struct mf_reslice *reslice;
    struct mf_frame_set out;
};

static struct mf_reslice *start(const struct making *m, struct mf_error *err)
{
    const struct mf_volume *v = m->volume;
    MF_AUTO(mf_mem) double *at = calloc(m->count, sizeof *at);
    if (!at) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
        return NULL;
    }
    for (size_t k = 0; k < m->count; k++)
        at[k] = mf_volume_plane_index(v, m->planes[k]);
    const struct mf_reslice_plan plan = {.slices = v->slice_count,
                                         .rows = v->rows,
                                         .columns = v->columns,
                                         .planes = m->count,
                                         .at = at,
                                         .stretch = v->voxel[0] / v->spacing[0],
                                         .plane_rows = v->size[1],
                                         .plane_columns = v->size[2],
                                         .background = m->values->background};
    return mf_reslice_new(&plan, err);
}

/* The frames of planes that lie nearest to this slice are shown as it is. */
static void take_window(struct making *m, size_t slice, const struct mf_frame *from)
{
    for (size_t k = 0; k < m->count; k++) {
        if (mf_volume_plane_slice(m->volume, m->planes[k]) != slice)
            continue;
        struct mf_frame *f = &m->out.frames[k];
        f->photometric = from->photometric == MF_PHOTOMETRIC_MONOCHROME1
                             ? MF_PHOTOMETRIC_MONOCHROME1
                             : MF_PHOTOMETRIC_MONOCHROME2;
        f->has_window = from->has_window;
        f->voi_function = from->voi_function;
        f->window_center = from->window_center;
        f->window_width = from->window_width;
    }
}

/* Whether slice `slice` has to be decoded. */
static bool is_needed(const struct making *m, size_t slice)
{
    bool nearest = false;
    for (size_t k = 0; k < m->count; k++)
        nearest |= mf_volume_plane_slice(m->volume, m->planes[k]) == slice;
    return nearest || mf_reslice_needs(m->reslice, slice);
}

/* Decodes and adds the slices with these numbers. */
static bool add_batch(struct making *m, const size_t *numbers, size_t count, struct mf_error *err)
{
    struct mf_study_frame frames[MF_SELECTION_FRAMES];
    const struct mf_study_request request = {.frames = frames, .frame_count = count};
    MF_AUTO(mf_frame_selection) struct mf_frame_selection selection = {.text = NULL};
    MF_AUTO(mf_frame_set) struct mf_frame_set set = {0};
    for (size_t i = 0; i < count; i++)
        frames[i] = m->volume->slices[numbers[i]];
    if (!mf_frame_selection_make(&request, &m->source->inputs, &selection, err) ||
        !mf_frame_selection_decode(&selection, m->source->decoder, &set, err))
        return false;
    for (size_t i = 0; i < count; i++) {
        take_window(m, numbers[i], &set.frames[i]);
        if (!mf_reslice_add(m->reslice, numbers[i], &set.frames[i], err))
            return false;
    }
    return true;
}

static bool add_slices(struct making *m, struct mf_error *err)
{
    const struct mf_volume_source *source = m->source;
    size_t batch[MF_SELECTION_FRAMES], n = 0, last = m->volume->slice_count - 1;
    for (size_t i = 0; i <= last; i++) {
        if (is_needed(m, i))
            batch[n++] = i;
        if (n < MF_SELECTION_FRAMES && (i < last || n == 0))
            continue;
        if (!add_batch(m, batch, n, err) ||
            (source->go_on && !source->go_on(source->context, (double)i / (double)last, err)))
            return false;
        n = 0;
    }
    return true;
}

static void describe(struct making *m, float *planes)
{
    const struct mf_volume *v = m->volume;
    for (size_t k = 0; k < m->count; k++) {
        struct mf_frame *f = &m->out.frames[k];
        f->rows = (uint32_t)v->size[1];
        f->columns = (uint32_t)v->size[2];
        f->samples_per_pixel = 1;
        f->type = MF_SAMPLE_F32;
        f->bits_stored = 32;
        f->high_bit = 31;
        f->rescale_slope = 1;
        f->pixel_spacing[0] = v->voxel[1];
        f->pixel_spacing[1] = v->voxel[2];
        f->samples = planes + k * v->size[1] * v->size[2];
        if (!m->values->has_window)
            continue;
        f->has_window = true;
        f->voi_function = MF_VOI_LINEAR_EXACT;
        f->window_center = m->values->window_center;
        f->window_width = m->values->window_width;
    }
    m->out.frames[0].owned = planes; /* the block of all */
}

static bool make(struct making *m, struct mf_error *err)
{
    m->out.frames = calloc(m->count, sizeof *m->out.frames);
    if (!m->out.frames)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    m->out.count = m->count;
    m->reslice = start(m, err);
    float *planes = m->reslice && add_slices(m, err) ? mf_reslice_finish(m->reslice, err) : NULL;
    if (planes)
        describe(m, planes);
    return planes != NULL;
}

bool mf_volume_frames(const struct mf_volume *volume, const struct mf_bundle_volume *values,
                      const size_t *planes, size_t count, const struct mf_volume_source *source,
                      struct mf_frame_set *ret, struct mf_error *err)
{
    struct making m = {
        .volume = volume, .values = values, .source = source, .planes = planes, .count = count};
    bool ok = make(&m, err);
    mf_reslice_free(m.reslice);
    if (ok)
        *ret = m.out;
    else
        mf_frame_set_free(&m.out);
    return ok;
}

/* --- what is told of it --- */

void mf_volume_describe(const struct mf_volume *v, struct mf_result_volume *ret)
{
    *ret = (struct mf_result_volume){.slices = v->slice_count,
                                     .planes = v->size[0],
                                     .gaps = v->gaps,
                                     .largest_distance = v->largest_distance,
                                     .duplicates = v->duplicates,
                                     .other_geometry = v->other_geometry,
                                     .tilt_degrees = v->tilt_degrees};
    memcpy(ret->spacing, v->spacing, sizeof ret->spacing);
    memcpy(ret->voxel, v->voxel, sizeof ret->voxel);
}

size_t mf_volume_flags(const struct mf_volume *v, const char *flags[MF_VOLUME_FLAGS])
{
    const struct {
        bool holds;
        const char *name;
    } all[MF_VOLUME_FLAGS] = {{v->gaps > 0, "volume_gaps"},
                              {v->uneven, "volume_uneven"},
                              {v->duplicates > 0, "volume_duplicates"},
                              {v->other_geometry > 0, "volume_mixed_geometry"},
                              {v->tilt_degrees > MF_VOLUME_TILT, "gantry_tilt"}};
    size_t n = 0;
    for (size_t i = 0; i < MF_VOLUME_FLAGS; i++)
        if (all[i].holds)
            flags[n++] = all[i].name;
    return n;
}

/* Planes and slices cover the same area, edge to edge. */
void mf_volume_stored_box(const struct mf_volume *v, uint32_t box[4])
{
    for (int i = 0; i < 4; i++) {
        uint64_t stored = i % 2 ? v->rows : v->columns, made = v->size[i % 2 ? 1 : 2];
        uint64_t scaled = box[i] * stored + (i < 2 ? 0 : made - 1); /* outwards */
        box[i] = (uint32_t)(scaled / made);
    }
}
