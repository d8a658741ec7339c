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
        json_array_append_new(array, mf_json_real(values[i]));
    return array;
}

static void set(json_t *object, const char *key, json_t *value)
{
    json_object_set_new(object, key,
                        value); /* fails only without memory: checked by the caller's text */
}

static void write_fields(json_t *out, struct mf_index_object *o)
{
    for (size_t i = 0; i < mf_field_count; i++) {
        const struct mf_field *f = &mf_fields[i];
        if (f->kind == MF_FIELD_U16)
            set(out, f->name, json_integer(*mf_field_u32(o, f)));
        else if (f->kind == MF_FIELD_INT)
            set(out, f->name, json_integer(*mf_field_int(o, f)));
        else
            set(out, f->name, mf_json_string(*mf_field_string(o, f)));
    }
}

static void write_layers(json_t *out, const struct mf_index_object *o)
{
    json_t *layers = json_array();
    for (uint32_t i = 0; i < o->layer_count; i++)
        json_array_append_new(
            layers, json_pack("{s:o,s:b,s:I}", "range", range_json(&o->layers[i].range), "deflated",
                              o->layers[i].deflated, "size", (json_int_t)o->layers[i].size));
    set(out, "layers", layers);
}

const char *mf_irregularity_name(unsigned irregularity)
{
    static const char *const NAMES[MF_IRREGULAR_COUNT] = {"file_meta_missing", "file_vr_missing",
                                                          "file_odd_lengths", "file_trailing_bytes",
                                                          "file_vr_wrong"};
    return irregularity < MF_IRREGULAR_COUNT ? NAMES[irregularity] : NULL;
}

static void write_lut(json_t *out, const char *key, const struct mf_index_lut *lut)
{
    if (lut->count)
        set(out, key,
            json_pack("{s:I,s:i,s:I,s:I,s:b,s:o}", "count", (json_int_t)lut->count, "first",
                      (int)lut->first, "bits", (json_int_t)lut->bits, "entry_bytes",
                      (json_int_t)lut->entry_bytes, "segmented", lut->segmented, "range",
                      range_json(&lut->range)));
}

static json_t *group_json(const struct mf_index_frame *g)
{
    double rescale[2] = {g->slope, g->intercept}, window[2] = {g->center, g->width};
    json_t *out = json_object();
    if (g->has_position)
        set(out, "position", numbers_json(g->position, 3));
    if (g->has_orientation)
        set(out, "orientation", numbers_json(g->orientation, 6));
    if (g->has_spacing)
        set(out, "spacing", numbers_json(g->spacing, 2));
    if (g->has_rescale)
        set(out, "rescale", numbers_json(rescale, 2));
    if (g->has_window)
        set(out, "window", numbers_json(window, 2));
    return out;
}

/* Only the frames of which something is known, each with its number: the number of frames is a
 * claim of the file and must not decide how long the document gets. */
static void write_frame_groups(json_t *out, const struct mf_index_object *o)
{
    json_t *groups = json_array();
    for (uint32_t i = 0; i < o->frames; i++) {
        json_t *group = group_json(&o->frame_groups[i]);
        if (json_object_size(group)) {
            set(group, "frame", json_integer(i));
            json_array_append_new(groups, group);
        } else {
            json_decref(group);
        }
    }
    set(out, "frame_groups", groups);
}

static void write_pixels(json_t *out, const struct mf_index_object *o)
{
    set(out, "pixel_data", json_integer(o->pixel_data));
    set(out, "pixel_words", json_boolean(o->pixel_words));
    set(out, "encapsulated", json_boolean(o->encapsulated));
    set(out, "frames", json_integer(o->frames));
    if (!o->encapsulated) {
        set(out, "pixels", range_json(&o->pixels));
        return;
    }
    json_t *fragments = json_array(), *firsts = json_array();
    for (uint32_t i = 0; i < o->fragment_count; i++)
        json_array_append_new(fragments, range_json(&o->fragments[i]));
    for (uint32_t i = 0; i <= o->frames; i++)
        json_array_append_new(firsts, json_integer(o->frame_fragments[i]));
    set(out, "fragments", fragments);
    set(out, "frame_fragments", firsts);
}

static void write_values(json_t *out, const struct mf_index_object *o)
{
    double rescale[2] = {o->slope, o->intercept}, window[2] = {o->window_center, o->window_width};
    set(out, "pixel_spacing", numbers_json(o->pixel_spacing, 2));
    set(out, "imager_pixel_spacing", numbers_json(o->imager_pixel_spacing, 2));
    if (o->has_position)
        set(out, "position", numbers_json(o->position, 3));
    if (o->has_orientation)
        set(out, "orientation", numbers_json(o->orientation, 6));
    if (o->has_rescale)
        set(out, "rescale", numbers_json(rescale, 2));
    if (o->has_window)
        set(out, "window", numbers_json(window, 2));
    if (o->has_padding)
        set(out, "padding", json_integer(o->padding));
    if (o->has_padding_limit)
        set(out, "padding_limit", json_integer(o->padding_limit));
    write_lut(out, "modality_lut", &o->modality_lut);
    write_lut(out, "voi_lut", &o->voi_lut);
    write_lut(out, "palette_red", &o->palette[0]);
    write_lut(out, "palette_green", &o->palette[1]);
    write_lut(out, "palette_blue", &o->palette[2]);
}

static json_t *object_json(struct mf_index_object *o)
{
    json_t *out = json_object();
    if (!out)
        return NULL;
    set(out, "name", mf_json_string(o->name));
    set(out, "input", json_integer(o->input));
    write_layers(out, o);
    set(out, "big_endian", json_boolean(o->big_endian));
    if (o->irregular)
        set(out, "irregular", json_integer(o->irregular));
    write_fields(out, o);
    if (o->pixel_data == MF_PIXEL_DATA_NONE)
        return out;
    write_pixels(out, o);
    write_values(out, o);
    if (o->frame_groups)
        write_frame_groups(out, o);
    set(out, "problem", mf_json_string(o->problem)); /* for people; recomputed when read */
    return out;
}

json_t *mf_index_to_json(const struct mf_index *index)
{
    json_t *objects = json_array(), *skipped = json_array();
    for (size_t i = 0; i < index->object_count; i++)
        json_array_append_new(objects, object_json(&index->objects[i]));
    for (size_t i = 0; i < index->skipped_count; i++)
        json_array_append_new(skipped, json_pack("{s:s,s:s}", "name", index->skipped[i].name,
                                                 "reason", index->skipped[i].reason));
    return json_pack("{s:s,s:o,s:o}", "schema", SCHEMA, "objects", objects, "skipped", skipped);
}
