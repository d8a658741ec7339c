/* What a bundle says of volumes: "voxel_spacing_mm" and "volume" of its preprocessing
 * (models/FORMAT.md). */
#include "engine/bundle_private.h"

#include <string.h>

static bool pair(const json_t *array, double low, double high, double ret[2])
{
    for (size_t i = 0; i < 2; i++) {
        const json_t *v = json_array_get(array, i);
        ret[i] = json_number_value(v);
        if (!json_is_number(v) || !(ret[i] >= low && ret[i] <= high))
            return false;
    }
    return json_array_size(array) == 2;
}

static bool parse_voxel(const json_t *spacing, double voxel[3], struct mf_error *err)
{
    for (size_t i = 0; i < 3; i++) {
        voxel[i] = json_number_value(json_array_get(spacing, i));
        if (json_array_size(spacing) != 3 || !(voxel[i] >= 0.01 && voxel[i] <= 100))
            return mf_error_set(
                err, MF_ERR_MODEL,
                "preprocessing.voxel_spacing_mm: must be three numbers from 0.01 to 100, or null");
    }
    return true;
}

static bool parse_slices(const json_t *v, struct mf_bundle_volume *ret, struct mf_error *err)
{
    static const char *const RULES[] = {"uniform", "central", "range"};
    const char *word = json_string_value(json_object_get(v, "slices"));
    const json_t *range = json_object_get(v, "range");
    int rule = 0;
    while (word && rule < 3 && strcmp(word, RULES[rule]) != 0)
        rule++;
    if (!word || rule == 3)
        return mf_error_set(err, MF_ERR_MODEL,
                            "preprocessing.volume.slices: must be uniform, central or range");
    ret->slices = (enum mf_bundle_slices)rule;
    if (ret->slices != MF_SLICES_RANGE)
        return !range || mf_error_set(err, MF_ERR_MODEL,
                                      "preprocessing.volume.range: only goes with slices range");
    return (pair(range, 0, 1, ret->range) && ret->range[0] < ret->range[1]) ||
           mf_error_set(err, MF_ERR_MODEL,
                        "preprocessing.volume.range: must be [low, high] within 0 and 1");
}

static bool parse_values(const json_t *v, struct mf_bundle_volume *ret, struct mf_error *err)
{
    const json_t *background = json_object_get(v, "background"),
                 *window = json_object_get(v, "window");
    double values[2];
    ret->background = (float)json_number_value(background);
    if (!json_is_number(background) || !(ret->background >= -1e6F && ret->background <= 1e6F))
        return mf_error_set(err, MF_ERR_MODEL,
                            "preprocessing.volume.background: must be a number from -1e6 to 1e6");
    if (!window)
        return true;
    if (!pair(window, -1e6, 1e6, values) || values[1] <= 0)
        return mf_error_set(
            err, MF_ERR_MODEL,
            "preprocessing.volume.window: must be [center, width] with a width above 0");
    ret->has_window = true;
    ret->window_center = values[0];
    ret->window_width = values[1];
    return true;
}

bool mf_bundle_parse_volume(struct mf_bundle *b, const json_t *preprocessing, struct mf_error *err)
{
    static const char *const KEYS[] = {"background", "slices", "range", "window", NULL};
    const json_t *spacing = json_object_get(preprocessing, "voxel_spacing_mm");
    json_t *volume = json_object_get(preprocessing, "volume");
    b->has_volume = spacing && !json_is_null(spacing);
    if (!b->has_volume)
        return !volume || mf_error_set(err, MF_ERR_MODEL,
                                       "preprocessing.volume: needs voxel_spacing_mm beside it");
    if (!json_is_object(volume))
        return mf_error_set(err, MF_ERR_MODEL,
                            "preprocessing.volume: is needed beside voxel_spacing_mm");
    return parse_voxel(spacing, b->volume.voxel, err) &&
           mf_json_only_keys(volume, KEYS, "preprocessing.volume", MF_ERR_MODEL, err) &&
           parse_slices(volume, &b->volume, err) && parse_values(volume, &b->volume, err);
}

const struct mf_bundle_volume *mf_bundle_volume(const struct mf_bundle *b)
{
    return b->has_volume ? &b->volume : NULL;
}
