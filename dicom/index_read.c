/*
 * Index from JSON. The document was written by a decoder that had parsed hostile bytes, so it is
 * hostile too: types, ranges, products and every offset against the layer it lies in are checked
 * before it is used.
 */
#include "dicom/collect.h"
#include "dicom/fields.h"
#include "dicom/index.h"
#include "dicom/syntax.h"

#include <string.h>

enum { MAX_OBJECTS = 100000, MAX_INPUTS = 1 << 20, MAX_FRAGMENTS = 1000000 };
enum { ARENA_CEILING = 256 << 20 };
static const json_int_t MAX_BYTES = (json_int_t)1 << 40;
static const uint64_t MAX_SAMPLES = UINT64_C(1) << 31;

/* Reading one object: members are taken one after the other, the first failure sticks. */
struct input {
    const json_t *json;
    struct mf_arena *arena;
    struct mf_error *err;
    bool ok;
};

static void fail(struct input *in, const char *key)
{
    if (in->ok)
        mf_error_set(in->err, MF_ERR_MALFORMED, "\"%s\" is missing or wrong", key);
    in->ok = false;
}

static int64_t need_int(struct input *in, const char *key, json_int_t min, json_int_t max)
{
    json_int_t v = min;
    if (in->ok)
        in->ok = mf_json_need_int(in->json, key, min, max, &v, in->err);
    return v;
}

static bool need_bool(struct input *in, const char *key)
{
    const json_t *v = json_object_get(in->json, key);
    if (!json_is_boolean(v))
        fail(in, key);
    return json_is_true(v);
}

static bool read_bytes(const json_t *json, uint64_t *ret)
{
    json_int_t v = json_integer_value(json);
    *ret = (uint64_t)v;
    return json_is_integer(json) && v >= 0 && v <= MAX_BYTES;
}

/* [offset, length] inside `limit` bytes. */
static bool read_range(const json_t *json, uint64_t limit, struct mf_range *ret)
{
    return json_is_array(json) && json_array_size(json) == 2 &&
           read_bytes(json_array_get(json, 0), &ret->offset) &&
           read_bytes(json_array_get(json, 1), &ret->length) && ret->offset <= limit &&
           ret->length <= limit - ret->offset;
}

/* Optional numbers; returns whether they are there. */
static bool take_numbers(struct input *in, const char *key, double *ret, size_t n)
{
    const json_t *v = json_object_get(in->json, key);
    if (!v || json_is_null(v))
        return false;
    if (!mf_json_numbers(v, n, ret))
        fail(in, key);
    return in->ok;
}

static void take_string(struct input *in, const struct mf_field *f, struct mf_index_object *o)
{
    const json_t *v = json_object_get(in->json, f->name);
    const char *s = json_string_value(v);
    if (!v || json_is_null(v))
        return;
    if (!s || strlen(s) >= MF_FIELD_MAX_CHARS || strlen(s) != json_string_length(v) ||
        (f->kind == MF_FIELD_UID && !mf_uid_valid(s))) {
        fail(in, f->name);
        return;
    }
    for (const char *p = s; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7F)
            fail(in, f->name);
    if (in->ok && *s) {
        *mf_field_string(o, f) = mf_arena_strdup(in->arena, s, in->err);
        in->ok = *mf_field_string(o, f) != NULL;
    }
}

static void read_fields(struct input *in, struct mf_index_object *o)
{
    for (size_t i = 0; i < mf_field_count && in->ok; i++) {
        const struct mf_field *f = &mf_fields[i];
        if (f->kind == MF_FIELD_U16)
            *mf_field_u32(o, f) = (uint32_t)need_int(in, f->name, 0, 65535);
        else if (f->kind == MF_FIELD_INT)
            *mf_field_int(o, f) = need_int(in, f->name, -MAX_BYTES * 4096, MAX_BYTES * 4096);
        else
            take_string(in, f, o);
    }
    if (in->ok && !mf_syntax_find(o->transfer_syntax))
        fail(in, "transfer_syntax");
}

static void read_layers(struct input *in, struct mf_index_object *o)
{
    const json_t *layers = json_object_get(in->json, "layers");
    size_t n = json_array_size(layers);
    uint64_t limit = (uint64_t)MAX_BYTES;
    if (n < 1 || n > 2)
        fail(in, "layers");
    for (size_t i = 0; i < n && in->ok; i++) {
        const json_t *json = json_array_get(layers, i),
                     *deflated = json_object_get(json, "deflated");
        struct mf_layer *layer = &o->layers[i];
        layer->deflated = json_is_true(deflated);
        if (!json_is_boolean(deflated) ||
            !read_range(json_object_get(json, "range"), limit, &layer->range) ||
            !read_bytes(json_object_get(json, "size"), &layer->size) ||
            (!layer->deflated && layer->size != layer->range.length) ||
            (i == 1 && !layer->deflated))
            fail(in, "layers");
        limit = layer->size;
    }
    o->layer_count = (uint32_t)n;
}

static uint64_t object_bytes(const struct mf_index_object *o)
{
    return o->layers[o->layer_count - 1].size;
}

static void read_lut(struct input *in, const char *key, const struct mf_index_object *o,
                     struct mf_index_lut *lut)
{
    const json_t *v = json_object_get(in->json, key);
    json_int_t count, first, bits, bytes;
    if (!v || json_is_null(v) || !in->ok)
        return;
    if (!mf_json_need_int(v, "count", 1, 65536, &count, NULL) ||
        !mf_json_need_int(v, "first", -65536, 65536, &first, NULL) ||
        !mf_json_need_int(v, "bits", 1, 16, &bits, NULL) ||
        !mf_json_need_int(v, "entry_bytes", 1, 2, &bytes, NULL) ||
        !read_range(json_object_get(v, "range"), object_bytes(o), &lut->range) ||
        !json_is_boolean(json_object_get(v, "segmented")) ||
        (!mf_json_get_bool(v, "segmented", false) &&
         (uint64_t)(count * bytes) > lut->range.length)) {
        fail(in, key);
        return;
    }
    lut->count = (uint32_t)count;
    lut->first = (int32_t)first;
    lut->bits = (uint32_t)bits;
    lut->entry_bytes = (uint32_t)bytes;
    lut->segmented = mf_json_get_bool(v, "segmented", false);
}

static void read_fragments(struct input *in, struct mf_index_object *o)
{
    const json_t *fragments = json_object_get(in->json, "fragments");
    const json_t *firsts = json_object_get(in->json, "frame_fragments");
    size_t n = json_array_size(fragments);
    if (n < 1 || n > MAX_FRAGMENTS || json_array_size(firsts) != (size_t)o->frames + 1) {
        fail(in, "fragments");
        return;
    }
    o->fragments = mf_arena_alloc(in->arena, n, sizeof *o->fragments, in->err);
    o->frame_fragments =
        mf_arena_alloc(in->arena, (size_t)o->frames + 1, sizeof *o->frame_fragments, in->err);
    in->ok = in->ok && o->fragments && o->frame_fragments;
    o->fragment_count = (uint32_t)n;
    for (size_t i = 0; i < n && in->ok; i++)
        if (!read_range(json_array_get(fragments, i), object_bytes(o), &o->fragments[i]))
            fail(in, "fragments");
    for (size_t i = 0; i <= o->frames && in->ok; i++) {
        const json_t *v = json_array_get(firsts, i);
        json_int_t first = json_integer_value(v);
        json_int_t previous = i ? (json_int_t)o->frame_fragments[i - 1] : -1;
        bool last = i == o->frames;
        if (!json_is_integer(v) || first <= previous || first > (json_int_t)n ||
            (i == 0 && first != 0) || (last && first != (json_int_t)n))
            fail(in, "frame_fragments");
        o->frame_fragments[i] = (uint32_t)first;
    }
}

static bool read_group(const json_t *json, struct mf_index_frame *g, struct mf_error *err)
{
    struct input in = {.json = json, .err = err, .ok = true};
    double rescale[2] = {1, 0}, window[2] = {0, 0};
    g->has_position = take_numbers(&in, "position", g->position, 3);
    g->has_orientation = take_numbers(&in, "orientation", g->orientation, 6);
    g->has_spacing = take_numbers(&in, "spacing", g->spacing, 2);
    g->has_rescale = take_numbers(&in, "rescale", rescale, 2);
    g->has_window = take_numbers(&in, "window", window, 2);
    g->slope = rescale[0];
    g->intercept = rescale[1];
    g->center = window[0];
    g->width = window[1];
    return in.ok;
}

static void read_frame_groups(struct input *in, struct mf_index_object *o)
{
    const json_t *groups = json_object_get(in->json, "frame_groups");
    size_t n = json_array_size(groups);
    if (!groups || !in->ok)
        return;
    if (!json_is_array(groups) || n > o->frames) {
        fail(in, "frame_groups");
        return;
    }
    o->frame_groups = mf_arena_alloc(in->arena, o->frames, sizeof *o->frame_groups, in->err);
    in->ok = o->frame_groups != NULL;
    for (size_t i = 0; i < n && in->ok; i++) {
        const json_t *group = json_array_get(groups, i);
        json_int_t frame;
        if (mf_json_need_int(group, "frame", 0, (json_int_t)o->frames - 1, &frame, NULL))
            in->ok = read_group(group, &o->frame_groups[frame], in->err);
        else
            fail(in, "frame_groups");
    }
}

static bool optional_int(struct input *in, const char *key, int64_t *ret)
{
    const json_t *v = json_object_get(in->json, key);
    if (!v || json_is_null(v))
        return false;
    *ret = need_int(in, key, INT32_MIN, UINT32_MAX);
    return true;
}

static void read_values(struct input *in, struct mf_index_object *o)
{
    double rescale[2] = {1, 0}, window[2] = {0, 0};
    take_numbers(in, "pixel_spacing", o->pixel_spacing, 2);
    take_numbers(in, "imager_pixel_spacing", o->imager_pixel_spacing, 2);
    o->has_position = take_numbers(in, "position", o->position, 3);
    o->has_orientation = take_numbers(in, "orientation", o->orientation, 6);
    o->has_rescale = take_numbers(in, "rescale", rescale, 2);
    o->has_window = take_numbers(in, "window", window, 2);
    o->slope = rescale[0];
    o->intercept = rescale[1];
    o->window_center = window[0];
    o->window_width = window[1];
    o->has_padding = optional_int(in, "padding", &o->padding);
    o->has_padding_limit = optional_int(in, "padding_limit", &o->padding_limit);
    read_lut(in, "modality_lut", o, &o->modality_lut);
    read_lut(in, "voi_lut", o, &o->voi_lut);
    read_lut(in, "palette_red", o, &o->palette[0]);
    read_lut(in, "palette_green", o, &o->palette[1]);
    read_lut(in, "palette_blue", o, &o->palette[2]);
}

static void read_pixels(struct input *in, struct mf_index_object *o)
{
    o->pixel_data =
        (enum mf_pixel_data)need_int(in, "pixel_data", MF_PIXEL_DATA_INTEGER, MF_PIXEL_DATA_DOUBLE);
    o->pixel_words = need_bool(in, "pixel_words");
    o->encapsulated = need_bool(in, "encapsulated");
    o->frames = (uint32_t)need_int(in, "frames", 1, MF_MAX_FRAMES);
    if (!o->photometric)
        fail(in, "photometric");
    if (in->ok && o->encapsulated)
        read_fragments(in, o);
    else if (in->ok &&
             !read_range(json_object_get(in->json, "pixels"), object_bytes(o), &o->pixels))
        fail(in, "pixels");
    if (in->ok)
        read_values(in, o);
    if (in->ok)
        read_frame_groups(in, o);
    in->ok = in->ok && mf_image_check(o, MAX_SAMPLES, in->err);
}

static bool read_object(struct mf_arena *arena, const json_t *json, struct mf_index_object *o,
                        struct mf_error *err)
{
    struct input in = {.json = json, .arena = arena, .err = err, .ok = true};
    const char *name = mf_json_need_string(json, "name", err);
    if (!name || strlen(name) > 64)
        return mf_error_set(err, MF_ERR_MALFORMED, "\"name\" is too long");
    o->name = mf_arena_strdup(arena, name, err);
    in.ok = o->name != NULL;
    o->input = (uint32_t)need_int(&in, "input", 0, MAX_INPUTS);
    o->big_endian = need_bool(&in, "big_endian");
    int64_t irregular = 0;
    optional_int(&in, "irregular", &irregular);
    o->irregular = (uint32_t)irregular & ((1u << MF_IRREGULAR_COUNT) - 1);
    if (in.ok)
        read_layers(&in, o);
    if (in.ok)
        read_fields(&in, o);
    if (in.ok && json_object_get(json, "pixel_data"))
        read_pixels(&in, o);
    return in.ok;
}

static bool read_skipped(struct mf_index *index, const json_t *list, struct mf_error *err)
{
    size_t n = json_array_size(list);
    index->skipped = mf_arena_alloc(index->arena, n, sizeof *index->skipped, err);
    if (!index->skipped)
        return false;
    for (size_t i = 0; i < n; i++) {
        const char *name = mf_json_need_string(json_array_get(list, i), "name", err);
        const char *reason = mf_json_need_string(json_array_get(list, i), "reason", err);
        if (!name || !reason)
            return false;
        index->skipped[i].name = mf_arena_strdup(index->arena, name, err);
        index->skipped[i].reason = mf_arena_strdup(index->arena, reason, err);
        if (!index->skipped[i].name || !index->skipped[i].reason)
            return false;
    }
    index->skipped_count = n;
    return true;
}

static bool read_all(struct mf_index *index, const json_t *json, struct mf_error *err)
{
    const char *schema = mf_json_need_string(json, "schema", err);
    json_t *objects = mf_json_need_array(json, "objects", err);
    json_t *skipped = mf_json_need_array(json, "skipped", err);
    if (!schema || !objects || !skipped)
        return false;
    if (strcmp(schema, "medfusion.index/1") != 0)
        return mf_error_set(err, MF_ERR_MALFORMED, "not a medfusion.index/1 document");
    size_t n = json_array_size(objects);
    if (n > MAX_OBJECTS || json_array_size(skipped) > MAX_OBJECTS)
        return mf_error_set(err, MF_ERR_MALFORMED, "more than %d objects", MAX_OBJECTS);
    index->objects = mf_arena_alloc(index->arena, n, sizeof *index->objects, err);
    if (!index->objects)
        return false;
    index->object_count = n;
    for (size_t i = 0; i < n; i++)
        if (!read_object(index->arena, json_array_get(objects, i), &index->objects[i], err))
            return mf_error_prefix(err, "objects[%zu]", i);
    return read_skipped(index, skipped, err);
}

struct mf_index *mf_index_from_json(const json_t *json, struct mf_error *err)
{
    MF_AUTO(mf_index) struct mf_index *index = calloc(1, sizeof *index);
    if (!index || !(index->arena = mf_arena_new(ARENA_CEILING))) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for an index");
        return NULL;
    }
    if (!read_all(index, json, err)) {
        if (err && err->code == MF_ERR_TOO_LARGE)
            err->code = MF_ERR_MALFORMED;
        mf_error_prefix(err, "index");
        return NULL;
    }
    return MF_STEAL(index);
}
