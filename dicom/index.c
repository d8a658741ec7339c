/* Index: its lifetime and its JSON form (`medfusion.index/1`), written in full and read with
 * suspicion. */
#include "dicom/index.h"

#include "dicom/fields.h"

#include <string.h>

static const char SCHEMA[] = "medfusion.index/1";

void mf_index_free(struct mf_index *index)
{
    if (!index)
        return;
    mf_arena_free(index->arena);
    free(index);
}

/* ---- writing ---- */

static json_t *range_json(const struct mf_range *r)
{
    return json_pack("[I,I]", (json_int_t)r->offset, (json_int_t)r->length);
}

static json_t *numbers_json(const double *values, size_t n)
{
    json_t *array = json_array();
    for (size_t i = 0; array && i < n; i++)
        if (json_array_append_new(array, mf_json_real(values[i])) != 0) {
            json_decref(array);
            return NULL;
        }
    return array;
}

/* An index without one of its members would be read as that of another object: what cannot be
 * written spoils the whole. */
static void set(json_t *object, const char *key, json_t *value, bool *ok)
{
    if (json_object_set_new(object, key, value) != 0)
        *ok = false;
}

static void append(json_t *array, json_t *value, bool *ok)
{
    if (json_array_append_new(array, value) != 0)
        *ok = false;
}

static void write_fields(json_t *out, struct mf_index_object *o, bool *ok)
{
    for (size_t i = 0; i < mf_field_count; i++) {
        const struct mf_field *f = &mf_fields[i];
        if (f->kind == MF_FIELD_U16)
            set(out, f->name, json_integer(*mf_field_u32(o, f)), ok);
        else if (f->kind == MF_FIELD_INT)
            set(out, f->name, json_integer(*mf_field_int(o, f)), ok);
        else
            set(out, f->name, mf_json_string(*mf_field_string(o, f)), ok);
    }
}

static void write_layers(json_t *out, const struct mf_index_object *o, bool *ok)
{
    json_t *layers = json_array();
    for (uint32_t i = 0; i < o->layer_count; i++)
        append(layers,
               json_pack("{s:o,s:b,s:I}", "range", range_json(&o->layers[i].range), "deflated",
                         o->layers[i].deflated, "size", (json_int_t)o->layers[i].size),
               ok);
    set(out, "layers", layers, ok);
}

const char *mf_irregularity_name(unsigned irregularity)
{
    static const char *const NAMES[MF_IRREGULAR_COUNT] = {"file_meta_missing", "file_vr_missing",
                                                          "file_odd_lengths", "file_trailing_bytes",
                                                          "file_vr_wrong"};
    return irregularity < MF_IRREGULAR_COUNT ? NAMES[irregularity] : NULL;
}

static void write_lut(json_t *out, const char *key, const struct mf_index_lut *lut, bool *ok)
{
    if (lut->count)
        set(out, key,
            json_pack("{s:I,s:i,s:I,s:I,s:b,s:o}", "count", (json_int_t)lut->count, "first",
                      (int)lut->first, "bits", (json_int_t)lut->bits, "entry_bytes",
                      (json_int_t)lut->entry_bytes, "segmented", lut->segmented, "range",
                      range_json(&lut->range)),
            ok);
}

static json_t *group_json(const struct mf_index_frame *g, bool *ok)
{
    double rescale[2] = {g->slope, g->intercept}, window[2] = {g->center, g->width};
    json_t *out = json_object();
    if (g->has_position)
        set(out, "position", numbers_json(g->position, 3), ok);
    if (g->has_orientation)
        set(out, "orientation", numbers_json(g->orientation, 6), ok);
    if (g->has_spacing)
        set(out, "spacing", numbers_json(g->spacing, 2), ok);
    if (g->has_rescale)
        set(out, "rescale", numbers_json(rescale, 2), ok);
    if (g->has_window)
        set(out, "window", numbers_json(window, 2), ok);
    return out;
}

/* Only the frames of which something is known, each with its number: the number of frames is a
 * claim of the file and must not decide how long the document gets. */
static void write_frame_groups(json_t *out, const struct mf_index_object *o, bool *ok)
{
    json_t *groups = json_array();
    for (uint32_t i = 0; i < o->frames; i++) {
        json_t *group = group_json(&o->frame_groups[i], ok);
        if (json_object_size(group)) {
            set(group, "frame", json_integer(i), ok);
            append(groups, group, ok);
        } else {
            json_decref(group);
        }
    }
    set(out, "frame_groups", groups, ok);
}

static void write_pixels(json_t *out, const struct mf_index_object *o, bool *ok)
{
    set(out, "pixel_data", json_integer(o->pixel_data), ok);
    set(out, "pixel_words", json_boolean(o->pixel_words), ok);
    set(out, "encapsulated", json_boolean(o->encapsulated), ok);
    set(out, "frames", json_integer(o->frames), ok);
    if (!o->encapsulated) {
        set(out, "pixels", range_json(&o->pixels), ok);
        return;
    }
    json_t *fragments = json_array(), *firsts = json_array();
    for (uint32_t i = 0; i < o->fragment_count; i++)
        append(fragments, range_json(&o->fragments[i]), ok);
    for (uint32_t i = 0; i <= o->frames; i++)
        append(firsts, json_integer(o->frame_fragments[i]), ok);
    set(out, "fragments", fragments, ok);
    set(out, "frame_fragments", firsts, ok);
}

static void write_values(json_t *out, const struct mf_index_object *o, bool *ok)
{
    double rescale[2] = {o->slope, o->intercept}, window[2] = {o->window_center, o->window_width};
    set(out, "pixel_spacing", numbers_json(o->pixel_spacing, 2), ok);
    set(out, "imager_pixel_spacing", numbers_json(o->imager_pixel_spacing, 2), ok);
    if (o->has_position)
        set(out, "position", numbers_json(o->position, 3), ok);
    if (o->has_orientation)
        set(out, "orientation", numbers_json(o->orientation, 6), ok);
    if (o->has_rescale)
        set(out, "rescale", numbers_json(rescale, 2), ok);
    if (o->has_window)
        set(out, "window", numbers_json(window, 2), ok);
    if (o->has_padding)
        set(out, "padding", json_integer(o->padding), ok);
    if (o->has_padding_limit)
        set(out, "padding_limit", json_integer(o->padding_limit), ok);
    write_lut(out, "modality_lut", &o->modality_lut, ok);
    write_lut(out, "voi_lut", &o->voi_lut, ok);
    write_lut(out, "palette_red", &o->palette[0], ok);
    write_lut(out, "palette_green", &o->palette[1], ok);
    write_lut(out, "palette_blue", &o->palette[2], ok);
}

static json_t *object_json(struct mf_index_object *o, bool *ok)
{
    json_t *out = json_object();
    if (!out)
        return NULL;
    set(out, "name", mf_json_string(o->name), ok);
    set(out, "input", json_integer(o->input), ok);
    write_layers(out, o, ok);
    set(out, "big_endian", json_boolean(o->big_endian), ok);
    if (o->irregular)
        set(out, "irregular", json_integer(o->irregular), ok);
    write_fields(out, o, ok);
    if (o->pixel_data == MF_PIXEL_DATA_NONE)
        return out;
    write_pixels(out, o, ok);
    write_values(out, o, ok);
    if (o->frame_groups)
        write_frame_groups(out, o, ok);
    set(out, "problem", mf_json_string(o->problem), ok); /* for people; recomputed when read */
    return out;
}

json_t *mf_index_to_json(const struct mf_index *index)
{
    bool ok = true;
    json_t *objects = json_array(), *skipped = json_array();
    for (size_t i = 0; i < index->object_count; i++)
        append(objects, object_json(&index->objects[i], &ok), &ok);
    for (size_t i = 0; i < index->skipped_count; i++)
        append(skipped,
               json_pack("{s:s,s:s}", "name", index->skipped[i].name, "reason",
                         index->skipped[i].reason),
               &ok);
    json_t *out =
        json_pack("{s:s,s:o,s:o}", "schema", SCHEMA, "objects", objects, "skipped", skipped);
    if (ok)
        return out;
    json_decref(out);
    return NULL;
}
