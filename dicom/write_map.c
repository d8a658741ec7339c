/*
 * The relevance maps of an explanation (medfusion.explanation/1) as a segmentation of fractions
 * (PS3.3 C.8.20): a segment for every label that was explained, a plane for every segment and
 * current frame. A plane has the size of its image; the map covers the box that the network saw and
 * is stretched to it bilinearly. 255 is the place of all the frames that matters most.
 */
#include "dicom/write_seg.h"

#include <math.h>
#include <string.h>

enum { MAX_GRID = 1024 };

static const char RELEVANCE[] = "relevance";

/* --- reading --- */

static const json_t *prediction_of(const struct mf_write_set *set, const char *label)
{
    const json_t *list = mf_write_predictions(set);
    for (size_t i = 0; label && i < json_array_size(list); i++)
        if (strcmp(mf_json_get_string(json_array_get(list, i), "label", ""), label) == 0)
            return json_array_get(list, i);
    return NULL;
}

/* The frames are those of the result, in its order. */
static bool same_frames(const struct mf_write_set *set, const json_t *list)
{
    bool same = json_array_size(list) == set->frame_count;
    for (size_t i = 0; same && i < set->frame_count; i++) {
        const json_t *f = json_array_get(list, i);
        same = strcmp(mf_json_get_string(f, "sop_instance_uid", ""),
                      set->frames[i].object->sop_instance_uid) == 0 &&
               mf_json_get_int(f, "index", -1) == (json_int_t)set->frames[i].frame;
    }
    return same;
}

/* One map: `n` numbers from 0 on; *most: the largest so far. */
static bool read_values(const json_t *list, float *out, size_t n, float *most)
{
    if (json_array_size(list) != n)
        return false;
    for (size_t i = 0; i < n; i++) {
        const json_t *number = json_array_get(list, i);
        out[i] = (float)json_number_value(number);
        if (!json_is_number(number) || !(out[i] >= 0) || !isfinite(out[i]))
            return false;
        *most = fmaxf(*most, out[i]);
    }
    return true;
}

static bool read_map(struct mf_write_set *set, const json_t *label, struct mf_write_map *ret,
                     struct mf_error *err)
{
    const size_t cells = (size_t)set->maps.rows * set->maps.columns;
    const json_t *frames = json_object_get(label, "frames");
    const char *name = mf_json_get_string(label, "label", NULL);
    float most = 0;
    float *values = mf_arena_alloc(set->arena, set->frame_count * cells, sizeof *values, err);
    if (!values)
        return false;
    ret->prediction = prediction_of(set, name);
    bool ok = ret->prediction && json_array_size(frames) == set->frame_count;
    for (size_t i = 0; ok && i < set->frame_count; i++)
        ok = read_values(json_object_get(json_array_get(frames, i), RELEVANCE), values + i * cells,
                         cells, &most);
    if (!ok)
        return mf_error_set(err, MF_ERR_MALFORMED,
                            "explanation: a label has no map of the result's frames");
    for (size_t i = 0; most > 0 && i < set->frame_count * cells; i++)
        values[i] /= most;
    ret->values = values;
    return true;
}

static bool read_side(const json_t *grid, size_t i, uint32_t *ret)
{
    const json_int_t side = json_integer_value(json_array_get(grid, i));
    *ret = (uint32_t)side;
    return side >= 1 && side <= MAX_GRID;
}

/* A frame with a box, and not a stored one that was met before. */
static bool is_mapped(const struct mf_write_set *set, size_t frame)
{
    const struct mf_write_frame *f = &set->frames[frame];
    for (size_t i = 0; i < frame; i++)
        if (set->frames[i].object == f->object && set->frames[i].frame == f->frame)
            return false;
    return f->box[0] < f->box[2] && f->box[1] < f->box[3];
}

bool mf_write_read_maps(struct mf_write_set *set, struct mf_error *err)
{
    const json_t *explanation = set->source->explanation;
    const json_t *labels = json_object_get(explanation, "labels");
    const json_t *grid = json_object_get(explanation, "grid");
    struct mf_write_maps *maps = &set->maps;
    if (!explanation)
        return true;
    if (!same_frames(set, json_object_get(explanation, "frames")))
        return mf_error_set(err, MF_ERR_MALFORMED,
                            "explanation: its frames are not those of the result");
    if (!read_side(grid, 0, &maps->rows) || !read_side(grid, 1, &maps->columns))
        return mf_error_set(err, MF_ERR_MALFORMED, "explanation: \"grid\" is out of range");
    maps->list = mf_arena_alloc(set->arena, json_array_size(labels) + 1, sizeof *maps->list, err);
    if (!maps->list)
        return false;
    for (; maps->count < json_array_size(labels); maps->count++)
        if (!read_map(set, json_array_get(labels, maps->count), &maps->list[maps->count], err))
            return false;
    return maps->count == 0 || mf_write_group_frames(set, is_mapped, &set->mapped, err);
}

/* --- writing --- */

struct plane {
    const float *values; /* (rows, columns) */
    uint32_t rows, columns;
    const uint32_t *box;
};

/* Where pixel `i` of a side from `begin` to `end` lies between the centres of `n` cells. */
static float between(uint32_t i, uint32_t begin, uint32_t end, uint32_t n, uint32_t *low)
{
    const double at = ((double)(i - begin) + 0.5) * n / (end - begin) - 0.5;
    const double inside = fmin(fmax(at, 0), n - 1);
    *low = (uint32_t)inside;
    return (float)(inside - *low);
}

static void fill_from_map(const void *context, uint32_t rows, uint32_t columns, uint8_t *out)
{
    const struct plane *p = context;
    const uint32_t *box = p->box; /* fits the image (write.c) */
    memset(out, 0, (size_t)rows * columns);
    for (uint32_t y = box[1]; y < box[3]; y++) {
        uint32_t r, c;
        const float v = between(y, box[1], box[3], p->rows, &r);
        const float *top = p->values + (size_t)r * p->columns;
        const float *bottom = r + 1 < p->rows ? top + p->columns : top;
        for (uint32_t x = box[0]; x < box[2]; x++) {
            const float h = between(x, box[0], box[2], p->columns, &c);
            const uint32_t right = c + 1 < p->columns ? c + 1 : c;
            const float upper = top[c] + h * (top[right] - top[c]);
            const float lower = bottom[c] + h * (bottom[right] - bottom[c]);
            out[(size_t)y * columns + x] = (uint8_t)(255 * (upper + v * (lower - upper)) + 0.5F);
        }
    }
}

static struct mf_seg_segment label_segment(const struct mf_write_set *set, const json_t *prediction)
{
    const char *label = mf_json_get_string(prediction, "label", "");
    struct mf_seg_segment s = {.label = mf_json_get_string(prediction, "display", label),
                               .category = {"309825002", "SCT", "Spatial and Relational Concept"},
                               .type = mf_write_label_code(prediction),
                               .colour = {63659, 27345, 57182}}; /* yellow */
    char what[64];
    snprintf(what, sizeof what, "map.finding.%.48s", label);
    mf_write_uid(set, what, s.tracking_uid);
    return s;
}

bool mf_write_map(struct mf_writer *w, const struct mf_write_set *set,
                  const struct mf_write_item *item, struct mf_arena *arena, struct mf_error *err)
{
    const struct mf_write_maps *maps = &set->maps;
    const size_t group = (size_t)(item - mf_write_set_find(set, "map")), segments = maps->count,
                 cells = (size_t)maps->rows * maps->columns;
    const size_t most = set->mapped.list[group].count * segments;
    struct mf_seg_segment *segment = mf_arena_alloc(arena, segments, sizeof *segment, err);
    struct mf_seg_plane *planes = mf_arena_alloc(arena, most, sizeof *planes, err);
    struct plane *plane = mf_arena_alloc(arena, most, sizeof *plane, err);
    size_t n = 0;
    if (!segment || !planes || !plane)
        return false;
    for (size_t k = 0; k < segments; k++) {
        segment[k] = label_segment(set, maps->list[k].prediction);
        for (size_t i = 0; i < set->frame_count; i++) {
            if (set->mapped.of[i] != group)
                continue;
            plane[n] = (struct plane){maps->list[k].values + i * cells, maps->rows, maps->columns,
                                      set->frames[i].box};
            planes[n] = (struct mf_seg_plane){
                .frame = i, .segment = k, .fill = fill_from_map, .context = &plane[n]};
            n++;
        }
    }
    const struct mf_seg_content content = {.label = "RELEVANCE",
                                           .description = "What mattered; 255 is where most",
                                           .map = true,
                                           .segments = segment,
                                           .segment_count = segments,
                                           .planes = planes,
                                           .plane_count = n};
    mf_put_common(w, set, item, "SEG", "AI relevance, not reviewed");
    mf_put_our_scheme(w);
    return mf_put_segmentation(w, set, item, &content, arena, err);
}
