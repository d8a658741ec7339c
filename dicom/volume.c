/* Volume: ordering, judging and choosing the slices of a series (PS3.3 C.7.6.2.1.1, C.7.6.16.2). */
#include "dicom/volume.h"

#include "dicom/study.h"

#include <math.h>
#include <string.h>

static const double SAME_PLACE = 0.01;     /* mm */
static const double SAME_DIRECTION = 2e-3; /* of unit vectors, about a tenth of a degree */
static const double SAME_SPACING = 1e-3;   /* relative */
static const double GAP = 1.5;             /* median distances */
static const double UNEVEN = 0.02;         /* of the median distance */
static const double DEGREES = 57.29577951308232;
static const double FARTHEST = 1e6; /* mm: beyond that a position is an accident */

enum { MAX_GEOMETRIES = 1000 };

const double *mf_volume_frame_position(const struct mf_index_object *o, uint32_t frame)
{
    const struct mf_index_frame *g = o->frame_groups ? &o->frame_groups[frame] : NULL;
    return g && g->has_position ? g->position : o->has_position ? o->position : NULL;
}

const double *mf_volume_frame_orientation(const struct mf_index_object *o, uint32_t frame)
{
    const struct mf_index_frame *g = o->frame_groups ? &o->frame_groups[frame] : NULL;
    return g && g->has_orientation ? g->orientation : o->has_orientation ? o->orientation : NULL;
}

/* Row and column spacing of a frame, or NULL. */
static const double *frame_spacing(const struct mf_index_object *o, uint32_t frame)
{
    const struct mf_index_frame *g = o->frame_groups ? &o->frame_groups[frame] : NULL;
    const double *s = g && g->has_spacing ? g->spacing : o->pixel_spacing;
    return s[0] > 0 && s[1] > 0 ? s : NULL;
}

/* ---- geometry of a frame ---- */

struct geometry {
    double orientation[6]; /* unit length */
    double spacing[2];     /* 0 = unknown */
    uint32_t rows, columns;
    const char *reference; /* FrameOfReferenceUID or "" */
    bool known;            /* position and a usable orientation */
    bool seen;             /* belongs to a geometry that was counted */
};

static double dot(const double *a, const double *b)
{
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
}

static void cross(const double *a, const double *b, double *out)
{
    out[0] = a[1] * b[2] - a[2] * b[1];
    out[1] = a[2] * b[0] - a[0] * b[2];
    out[2] = a[0] * b[1] - a[1] * b[0];
}

static struct geometry geometry_of(const struct mf_study_frame *f)
{
    const struct mf_index_object *o = f->object;
    const double *d = mf_volume_frame_orientation(o, f->frame);
    const double *p = mf_volume_frame_position(o, f->frame), *s = frame_spacing(o, f->frame);
    struct geometry g = {.rows = o->rows,
                         .columns = o->columns,
                         .reference = o->frame_of_reference_uid ? o->frame_of_reference_uid : ""};
    if (s)
        memcpy(g.spacing, s, sizeof g.spacing);
    if (!d || !p || !(fabs(p[0]) + fabs(p[1]) + fabs(p[2]) < FARTHEST))
        return g;
    double row = sqrt(dot(d, d)), column = sqrt(dot(d + 3, d + 3));
    for (int i = 0; i < 3 && row > 0 && column > 0; i++) {
        g.orientation[i] = d[i] / row;
        g.orientation[3 + i] = d[3 + i] / column;
    }
    /* Directions that are not at right angles (more than one degree off) say nothing. */
    g.known = row > 0 && column > 0 && fabs(dot(g.orientation, g.orientation + 3)) < 0.02;
    return g;
}

static bool same_geometry(const struct geometry *a, const struct geometry *b)
{
    for (int i = 0; i < 6; i++)
        if (fabs(a->orientation[i] - b->orientation[i]) > SAME_DIRECTION)
            return false;
    for (int i = 0; i < 2; i++)
        if (fabs(a->spacing[i] - b->spacing[i]) > SAME_SPACING * a->spacing[i])
            return false;
    return a->rows == b->rows && a->columns == b->columns &&
           strcmp(a->reference, b->reference) == 0;
}

/* ---- the frames of the volume ---- */

/* One frame while it is sorted. */
struct slice {
    const struct mf_study_frame *frame;
    size_t number;   /* in the caller's list */
    double along;    /* the normal, mm */
    double place[3]; /* ImagePositionPatient */
};

/* Frames from `first` on that have its geometry; they are marked as seen. */
static size_t count_alike(struct geometry *all, size_t first, size_t count)
{
    size_t n = 0;
    for (size_t i = first; i < count; i++) {
        if (!all[i].known || all[i].seen || !same_geometry(&all[first], &all[i]))
            continue;
        all[i].seen = true;
        n++;
    }
    return n;
}

/* The geometry of most frames, of equals the first; NULL when none is known. */
static const struct geometry *common_geometry(struct geometry *all, size_t count)
{
    const struct geometry *best = NULL;
    size_t most = 0, tried = 0;
    for (size_t i = 0; i < count && tried < MAX_GEOMETRIES; i++) {
        if (!all[i].known || all[i].seen)
            continue;
        size_t n = count_alike(all, i, count);
        tried++;
        if (n > most) {
            most = n;
            best = &all[i];
        }
    }
    return best;
}

static int compare_numbers(int64_t a, int64_t b)
{
    return (a > b) - (a < b);
}

static int by_place(const void *a, const void *b)
{
    const struct slice *x = a, *y = b;
    if (x->along != y->along)
        return x->along > y->along ? 1 : -1;
    int order =
        compare_numbers(x->frame->object->instance_number, y->frame->object->instance_number);
    if (order == 0)
        order = compare_numbers(x->frame->object_index, y->frame->object_index);
    return order ? order : compare_numbers(x->frame->frame, y->frame->frame);
}

/* Frames of the common geometry, in order along the normal. */
static struct slice *collect(struct mf_arena *arena, const struct mf_study_frame *frames,
                             const struct geometry *all, size_t count,
                             const struct geometry *common, enum mf_volume_fate *fates,
                             size_t *ret_count, struct mf_error *err)
{
    struct slice *slices = mf_arena_alloc(arena, count, sizeof *slices, err);
    double normal[3];
    size_t n = 0;
    cross(common->orientation, common->orientation + 3, normal);
    for (size_t i = 0; slices && i < count; i++) {
        fates[i] = !all[i].known                    ? MF_VOLUME_NOWHERE
                   : same_geometry(common, &all[i]) ? MF_VOLUME_USED
                                                    : MF_VOLUME_OTHER;
        if (fates[i] != MF_VOLUME_USED)
            continue;
        const double *p = mf_volume_frame_position(frames[i].object, frames[i].frame);
        slices[n] = (struct slice){.frame = &frames[i], .number = i, .along = dot(p, normal)};
        memcpy(slices[n++].place, p, sizeof slices->place);
    }
    if (slices)
        qsort(slices, n, sizeof *slices, by_place);
    *ret_count = n;
    return slices;
}

/* Keeps the first of slices at one place; returns how many are left. */
static size_t drop_duplicates(struct slice *slices, size_t count, enum mf_volume_fate *fates)
{
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        if (n == 0 || slices[i].along - slices[n - 1].along > SAME_PLACE) {
            slices[n++] = slices[i];
            continue;
        }
        struct slice *kept = &slices[n - 1];
        bool earlier =
            slices[i].frame->object->instance_number < kept->frame->object->instance_number;
        fates[earlier ? kept->number : slices[i].number] = MF_VOLUME_DUPLICATE;
        if (earlier)
            *kept = slices[i];
    }
    return n;
}

/* ---- judging ---- */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Distances between neighbours: the median becomes the spacing, the rest is judged by it. */
static bool judge_distances(struct mf_arena *arena, const struct slice *slices, size_t count,
                            struct mf_volume *v, struct mf_error *err)
{
    double *distances = mf_arena_alloc(arena, count, sizeof *distances, err);
    if (!distances)
        return false;
    for (size_t i = 0; i + 1 < count; i++)
        distances[i] = slices[i + 1].along - slices[i].along;
    qsort(distances, count - 1, sizeof *distances, by_value);
    double median = distances[(count - 1) / 2];
    v->spacing[0] = median;
    v->largest_distance = distances[count - 2];
    for (size_t i = 0; i + 1 < count; i++) {
        bool gap = distances[i] > GAP * median;
        v->gaps += gap;
        v->uneven |= !gap && fabs(distances[i] - median) > UNEVEN * median + SAME_PLACE;
    }
    return true;
}

/* The angle between the normal and the line through the slices' origins. */
static double tilt(const struct slice *first, const struct slice *last)
{
    double way[3];
    for (int i = 0; i < 3; i++)
        way[i] = last->place[i] - first->place[i];
    double along = last->along - first->along, squared = dot(way, way) - along * along;
    return squared > 0 ? atan2(sqrt(squared), along) * DEGREES : 0;
}

/* ---- the stack ---- */

static bool measure(const struct mf_volume_rules *rules, struct mf_volume *v, struct mf_error *err)
{
    const double *at = v->positions;
    double extents[3] = {at[v->slice_count - 1] - at[0] + v->spacing[0], v->rows * v->spacing[1],
                         v->columns * v->spacing[2]};
    for (int i = 0; i < 3; i++) {
        double n = floor(extents[i] / rules->voxel[i] + 0.5);
        if (!(n <= (i ? MF_VOLUME_SIDE : MF_VOLUME_SLICES)))
            return mf_error_set(err, MF_ERR_UNUSABLE,
                                "the series is no volume: %.0f %s of %.3g mm in %.6g mm, at most "
                                "%d can be made",
                                n, i ? "pixels" : "slices", rules->voxel[i], extents[i],
                                i ? MF_VOLUME_SIDE : MF_VOLUME_SLICES);
        v->size[i] = n < 1 ? 1 : (size_t)n;
        v->voxel[i] = extents[i] / (double)v->size[i];
    }
    return true;
}

double mf_volume_plane_position(const struct mf_volume *v, size_t plane)
{
    return v->positions[0] - v->spacing[0] / 2 + ((double)plane + 0.5) * v->voxel[0];
}

double mf_volume_plane_index(const struct mf_volume *v, size_t plane)
{
    double z = mf_volume_plane_position(v, plane);
    const double *at = v->positions;
    size_t last = v->slice_count - 1, low = 0, high = last;
    if (z <= at[0])
        return (z - at[0]) / v->spacing[0];
    if (z >= at[last])
        return (double)last + (z - at[last]) / v->spacing[0];
    while (high - low > 1) {
        size_t middle = (low + high) / 2;
        if (at[middle] <= z)
            low = middle;
        else
            high = middle;
    }
    return (double)low + (z - at[low]) / (at[high] - at[low]);
}

size_t mf_volume_plane_slice(const struct mf_volume *v, size_t plane)
{
    double i = floor(mf_volume_plane_index(v, plane) + 0.5), last = (double)v->slice_count - 1;
    return (size_t)(i < 0 ? 0 : i > last ? last : i);
}

/* Planes [begin, end) among which the sequence is chosen; at least one. */
static void eligible(const struct mf_volume_rules *rules, size_t planes, size_t *begin, size_t *end)
{
    *begin = 0;
    *end = planes;
    if (rules->choice == MF_VOLUME_CENTRAL && planes > rules->max_slices) {
        *begin = (planes - rules->max_slices) / 2;
        *end = *begin + rules->max_slices;
    } else if (rules->choice == MF_VOLUME_RANGE) {
        double n = (double)planes; /* plane i's middle is at (i + ½) / n */
        double low = ceil(rules->range[0] * n - 0.5), high = floor(rules->range[1] * n - 0.5);
        size_t middle = (size_t)((rules->range[0] + rules->range[1]) / 2 * n);
        bool none = high < low;
        *begin = none ? (middle < planes ? middle : planes - 1) : (size_t)(low > 0 ? low : 0);
        *end = none ? *begin + 1 : high + 1 < n ? (size_t)high + 1 : planes;
    }
}

static bool choose(struct mf_arena *arena, const struct mf_volume_rules *rules, struct mf_volume *v,
                   struct mf_error *err)
{
    size_t begin, end, max = rules->max_slices;
    eligible(rules, v->size[0], &begin, &end);
    size_t n = end - begin, count = n < max ? n : max;
    size_t *chosen = mf_arena_alloc(arena, count, sizeof *chosen, err);
    for (size_t k = 0; chosen && k < count; k++)
        chosen[k] = begin + (n <= max   ? k
                             : max == 1 ? (n - 1) / 2
                                        : (2 * k * (n - 1) + max - 1) / (2 * (max - 1)));
    v->chosen = chosen;
    v->chosen_count = count;
    return chosen != NULL;
}

/* ---- the whole ---- */

static bool keep_slices(struct mf_arena *arena, const struct slice *slices, size_t count,
                        struct mf_volume *v, struct mf_error *err)
{
    struct mf_study_frame *frames = mf_arena_alloc(arena, count, sizeof *frames, err);
    double *positions = mf_arena_alloc(arena, count, sizeof *positions, err);
    for (size_t i = 0; frames && positions && i < count; i++) {
        frames[i] = *slices[i].frame;
        frames[i].slice_position = positions[i] = slices[i].along;
    }
    v->slices = frames;
    v->positions = positions;
    v->slice_count = count;
    return frames && positions;
}

static bool no_volume(struct mf_error *err, const char *reason)
{
    return mf_error_set(err, MF_ERR_UNUSABLE, "the series is no volume: %s", reason);
}

static void count_fates(const enum mf_volume_fate *fates, size_t count, struct mf_volume *v)
{
    for (size_t i = 0; i < count; i++) {
        v->duplicates += fates[i] == MF_VOLUME_DUPLICATE;
        v->other_geometry += fates[i] == MF_VOLUME_OTHER || fates[i] == MF_VOLUME_NOWHERE;
    }
}

static bool fill(struct mf_arena *arena, const struct mf_study_frame *frames, size_t count,
                 const struct mf_volume_rules *rules, enum mf_volume_fate *fates,
                 struct mf_volume *v, struct mf_error *err)
{
    size_t n = 0;
    struct geometry *all = mf_arena_alloc(arena, count, sizeof *all, err);
    for (size_t i = 0; all && i < count; i++)
        all[i] = geometry_of(&frames[i]);
    const struct geometry *common = all ? common_geometry(all, count) : NULL;
    if (!common)
        return all && no_volume(err, "none of its frames has a position and an orientation");
    if (!(common->spacing[0] > 0))
        return no_volume(err, "its pixel spacing is not known");
    struct slice *slices = collect(arena, frames, all, count, common, fates, &n, err);
    if (!slices)
        return false;
    n = drop_duplicates(slices, n, fates);
    if (n < 2)
        return no_volume(err, "it has one slice");
    v->rows = common->rows;
    v->columns = common->columns;
    memcpy(v->orientation, common->orientation, sizeof v->orientation);
    memcpy(v->spacing + 1, common->spacing, sizeof common->spacing);
    v->tilt_degrees = tilt(&slices[0], &slices[n - 1]);
    count_fates(fates, count, v);
    return judge_distances(arena, slices, n, v, err) && keep_slices(arena, slices, n, v, err) &&
           measure(rules, v, err) && choose(arena, rules, v, err);
}

const struct mf_volume *mf_volume_make(struct mf_arena *arena, const struct mf_study_frame *frames,
                                       size_t count, const struct mf_volume_rules *rules,
                                       enum mf_volume_fate *ret_fates, struct mf_error *err)
{
    struct mf_volume *v = mf_arena_alloc(arena, 1, sizeof *v, err);
    return v && fill(arena, frames, count, rules, ret_fates, v, err) ? v : NULL;
}
