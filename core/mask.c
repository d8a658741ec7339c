/* Masks as JSON: runs out of pixels and pixels out of runs. */
#include "core/mask.h"

#include <string.h>

static const char SCHEMA[] = "medfusion.masks/1";

enum { MAX_MASKS = 4096 };

static const char *const STRUCTURES[MF_STRUCTURE_COUNT] = {"image_left", "image_right"};

const char *mf_structure_name(enum mf_structure structure)
{
    return (size_t)structure < MF_STRUCTURE_COUNT ? STRUCTURES[structure] : "";
}

json_t *mf_masks_new(void)
{
    return json_pack("{s:s, s:[]}", "schema", SCHEMA, "masks");
}

static json_t *runs_of(const uint8_t *pixels, size_t n)
{
    json_t *runs = json_array();
    bool set = false;
    for (size_t i = 0, begin = 0; i <= n; i++) {
        if (i < n && (pixels[i] != 0) == set)
            continue;
        if (json_array_append_new(runs, json_integer((json_int_t)(i - begin))) != 0) {
            json_decref(runs);
            return NULL;
        }
        begin = i;
        set = !set;
    }
    return runs;
}

bool mf_masks_add(json_t *masks, const struct mf_mask *m)
{
    json_t *runs = runs_of(m->pixels, (size_t)m->rows * m->columns);
    return json_array_append_new(
               json_object_get(masks, "masks"),
               json_pack("{s:I, s:s, s:I, s:I, s:o}", "frame", (json_int_t)m->frame, "structure",
                         mf_structure_name(m->structure), "rows", (json_int_t)m->rows, "columns",
                         (json_int_t)m->columns, "runs", runs)) == 0;
}

static bool parse_structure(const json_t *json, enum mf_structure *ret, struct mf_error *err)
{
    const char *name = mf_json_need_string(json, "structure", err);
    for (int i = 0; name && i < MF_STRUCTURE_COUNT; i++)
        if (strcmp(name, STRUCTURES[i]) == 0) {
            *ret = (enum mf_structure)i;
            return true;
        }
    return mf_error_set(err, MF_ERR_MALFORMED, "\"structure\" is not one that is known");
}

/* Sets the pixels that the runs say; their sum must be `n`. */
static bool fill(const json_t *runs, uint8_t *pixels, size_t n, struct mf_error *err)
{
    size_t at = 0;
    for (size_t i = 0; i < json_array_size(runs); i++) {
        const json_t *run = json_array_get(runs, i);
        json_int_t length = json_integer_value(run);
        if (!json_is_integer(run) || length < 0 || (uint64_t)length > n - at)
            return mf_error_set(err, MF_ERR_MALFORMED, "\"runs\" do not fit rows and columns");
        memset(pixels + at, i % 2, (size_t)length);
        at += (size_t)length;
    }
    return at == n || mf_error_set(err, MF_ERR_MALFORMED, "\"runs\" do not fill rows and columns");
}

static bool parse_mask(const json_t *json, size_t frames, struct mf_arena *arena,
                       struct mf_mask *ret, struct mf_error *err)
{
    json_int_t frame, rows, columns;
    const json_t *runs = mf_json_need_array(json, "runs", err);
    if (!runs || !mf_json_need_int(json, "frame", 0, (json_int_t)frames - 1, &frame, err) ||
        !mf_json_need_int(json, "rows", 1, MF_MASK_SIDE, &rows, err) ||
        !mf_json_need_int(json, "columns", 1, MF_MASK_SIDE, &columns, err) ||
        !parse_structure(json, &ret->structure, err))
        return false;
    size_t n = (size_t)rows * (size_t)columns;
    uint8_t *pixels = mf_arena_alloc(arena, n, 1, err);
    if (!pixels || !fill(runs, pixels, n, err))
        return false;
    ret->frame = (uint32_t)frame;
    ret->rows = (uint32_t)rows;
    ret->columns = (uint32_t)columns;
    ret->pixels = pixels;
    return true;
}

bool mf_masks_parse(const json_t *masks, size_t frames, struct mf_arena *arena,
                    struct mf_mask **ret, size_t *ret_count, struct mf_error *err)
{
    if (strcmp(mf_json_get_string(masks, "schema", ""), SCHEMA) != 0)
        return mf_error_set(err, MF_ERR_MALFORMED, "masks: the schema is not %s", SCHEMA);
    const json_t *list = mf_json_need_array(masks, "masks", err);
    size_t n = json_array_size(list);
    if (!list)
        return mf_error_prefix(err, "masks");
    if (n > MAX_MASKS)
        return mf_error_set(err, MF_ERR_MALFORMED, "masks: more than %d", MAX_MASKS);
    struct mf_mask *out = mf_arena_alloc(arena, n + 1, sizeof *out, err);
    for (size_t i = 0; out && i < n; i++)
        if (!parse_mask(json_array_get(list, i), frames, arena, &out[i], err))
            return mf_error_prefix(err, "masks[%zu]", i);
    *ret = out;
    *ret_count = n;
    return out != NULL;
}
