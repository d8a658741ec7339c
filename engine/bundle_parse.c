/* bundle.json: every member checked and copied into struct mf_bundle. Format: models/FORMAT.md. */
#include "engine/bundle_private.h"
#include "engine/trust/quality.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_LABELS = 4096, MAX_LIST = 256, MAX_PRIORS = 31, MAX_PRIOR_DAYS = 36500 };

static const char *const MODULE_NAMES[MF_MODULE_COUNT] = {"segmenter", "vision", "temporal", "ehr",
                                                          "fusion"};

static bool parse_strings(struct mf_bundle *b, const json_t *list, const char *key,
                          struct mf_string_list *ret, struct mf_error *err)
{
    ret->count = json_array_size(list);
    if (list && (!json_is_array(list) || ret->count > MAX_LIST))
        return mf_error_set(err, MF_ERR_MODEL, "accepts.%s: must be an array of strings", key);
    ret->items = mf_arena_alloc(b->arena, ret->count, sizeof *ret->items, err);
    if (!ret->items)
        return false;
    for (size_t i = 0; i < ret->count; i++) {
        ret->items[i] = json_string_value(json_array_get(list, i));
        if (!ret->items[i])
            return mf_error_set(err, MF_ERR_MODEL, "accepts.%s: must be an array of strings", key);
    }
    return true;
}

static bool parse_accepts(struct mf_bundle *b, struct mf_error *err)
{
    static const char *const KEYS[] = {"modalities", "views", "body_parts", "require", NULL};
    json_t *accepts = mf_json_need_object(b->json, "accepts", err);
    if (!accepts || !mf_json_only_keys(accepts, KEYS, "accepts", MF_ERR_MODEL, err))
        return false;
    struct mf_string_list *lists[] = {&b->modalities, &b->views, &b->body_parts, &b->require};
    for (size_t i = 0; i < 4; i++)
        if (!parse_strings(b, json_object_get(accepts, KEYS[i]), KEYS[i], lists[i], err))
            return false;
    for (size_t i = 0; i < b->require.count; i++) {
        const char *const *k = KEYS;
        while (k < KEYS + 3 && strcmp(*k, b->require.items[i]) != 0)
            k++;
        if (k == KEYS + 3)
            return mf_error_set(err, MF_ERR_MODEL,
                                "accepts.require: \"%.40s\" is not modalities, views or body_parts",
                                b->require.items[i]);
    }
    return true;
}

static bool parse_codings(struct mf_bundle *b, const json_t *list, struct mf_label *label,
                          struct mf_error *err)
{
    label->coding_count = json_array_size(list);
    struct mf_coding *codings = mf_arena_alloc(b->arena, label->coding_count, sizeof *codings, err);
    if (!codings)
        return false;
    for (size_t i = 0; i < label->coding_count; i++) {
        const json_t *item = json_array_get(list, i);
        codings[i].system = mf_json_need_string(item, "system", err);
        codings[i].code = mf_json_need_string(item, "code", err);
        codings[i].display = mf_json_get_string(item, "display", NULL);
        if (!codings[i].system || !codings[i].code)
            return false;
    }
    label->codings = codings;
    return true;
}

static bool parse_label_kind(const json_t *item, struct mf_label *label, struct mf_error *err)
{
    const char *kind = mf_json_get_string(item, "kind", "finding");
    label->outcome = strcmp(kind, "outcome") == 0;
    label->horizon = mf_json_get_string(item, "horizon", NULL);
    if (!label->outcome && strcmp(kind, "finding") != 0)
        return mf_error_set(err, MF_ERR_MODEL, "\"kind\" must be finding or outcome");
    return label->outcome || !label->horizon ||
           mf_error_set(err, MF_ERR_MODEL, "\"horizon\" is for outcomes only");
}

static bool parse_labels(struct mf_bundle *b, struct mf_error *err)
{
    json_t *list = mf_json_need_array(b->json, "labels", err);
    b->label_count = json_array_size(list);
    if (!list)
        return false;
    if (b->label_count == 0 || b->label_count > MAX_LABELS)
        return mf_error_set(err, MF_ERR_MODEL, "labels: there must be 1 to %d", MAX_LABELS);
    b->labels = mf_arena_alloc(b->arena, b->label_count, sizeof *b->labels, err);
    for (size_t i = 0; b->labels && i < b->label_count; i++) {
        const json_t *item = json_array_get(list, i);
        struct mf_label *label = &b->labels[i];
        label->id = mf_json_need_string(item, "id", err);
        label->display = label->id ? mf_json_get_string(item, "display", label->id) : NULL;
        if (!label->id || !*label->id ||
            !parse_codings(b, json_object_get(item, "coding"), label, err)) {
            mf_error_set(err, MF_ERR_MODEL, "\"id\" must not be empty");
            return mf_error_prefix(err, "labels[%zu]", i);
        }
        if (!parse_label_kind(item, label, err))
            return mf_error_prefix(err, "labels[%zu]", i);
        for (size_t k = 0; k < i; k++)
            if (strcmp(b->labels[k].id, label->id) == 0)
                return mf_error_set(err, MF_ERR_MODEL, "labels[%zu]: \"%.60s\" is there twice", i,
                                    label->id);
    }
    const json_t *exclusive = json_object_get(b->json, "exclusive");
    b->exclusive = json_is_true(exclusive);
    if (exclusive && !json_is_boolean(exclusive))
        return mf_error_set(err, MF_ERR_MODEL, "\"exclusive\" must be true or false");
    if (b->exclusive && b->label_count < 2)
        return mf_error_set(err, MF_ERR_MODEL, "\"exclusive\" needs two labels");
    return b->labels != NULL;
}

/* The index of a member's value in a list of words. */
static bool parse_word(const json_t *object, const char *path, const char *key,
                       const char *const words[], int *ret, struct mf_error *err)
{
    const char *value = json_string_value(json_object_get(object, key));
    for (*ret = 0; value && words[*ret]; (*ret)++)
        if (strcmp(words[*ret], value) == 0)
            return true;
    return mf_error_set(err, MF_ERR_MODEL, "%s.%s: \"%.40s\" is not one of its values", path, key,
                        value ? value : "");
}

static bool parse_modules(struct mf_bundle *b, struct mf_error *err)
{
    static const char *const SEGMENTER[] = {"none", "sam2", NULL}, *const VISION[] = {
                                                                       "dinov2", "vit",
                                                                       "dinov2_with_registers",
                                                                       NULL};
    static const char *const TEMPORAL[] = {"none", "mamba", "transformer", NULL};
    static const char *const EHR[] = {"none", "ft_transformer", NULL};
    int segmenter, vision, temporal, ehr;
    json_t *modules = mf_json_need_object(b->json, "modules", err);
    json_t *directories = mf_json_need_object(b->json, "directories", err);
    if (!modules || !directories ||
        !parse_word(modules, "modules", "segmenter", SEGMENTER, &segmenter, err) ||
        !parse_word(modules, "modules", "vision", VISION, &vision, err) ||
        !parse_word(modules, "modules", "temporal", TEMPORAL, &temporal, err) ||
        !parse_word(modules, "modules", "ehr", EHR, &ehr, err))
        return false;
    b->modules = (struct mf_modules){(enum mf_segmenter_kind)segmenter, (enum mf_vision_kind)vision,
                                     (enum mf_temporal_kind)temporal, (enum mf_ehr_kind)ehr};
    for (int i = 0; i < MF_MODULE_COUNT; i++) {
        const char *name = json_string_value(json_object_get(directories, MODULE_NAMES[i]));
        bool off = (i == MF_MODULE_SEGMENTER && !segmenter) || (i == MF_MODULE_EHR && !ehr);
        if (off)
            continue;
        if (!name || !*name || *name == '.' || strchr(name, '/') || strlen(name) > 100)
            return mf_error_set(err, MF_ERR_MODEL,
                                "directories.%s: must be the name of a sub-directory",
                                MODULE_NAMES[i]);
        b->directories[i] = name;
    }
    return true;
}

static bool number(const json_t *object, const char *path, const char *key, double low, double high,
                   double *ret, struct mf_error *err)
{
    const json_t *v = json_object_get(object, key);
    *ret = json_number_value(v);
    if (json_is_number(v) && *ret >= low && *ret <= high)
        return true;
    return mf_error_set(err, MF_ERR_MODEL, "%s.%s: must be a number from %g to %g", path, key, low,
                        high);
}

static bool parse_image(const json_t *object, const char *path, struct mf_image_input *ret,
                        struct mf_error *err)
{
    const json_t *size = json_object_get(object, "size"), *mean = json_object_get(object, "mean");
    const json_t *std = json_object_get(object, "std");
    bool ok = json_array_size(size) == 2 && json_array_size(mean) == 3 && json_array_size(std) == 3;
    for (size_t i = 0; ok && i < 3; i++) {
        const json_t *m = json_array_get(mean, i), *s = json_array_get(std, i);
        ok = json_is_number(m) && json_is_number(s) && json_number_value(s) > 1e-6 &&
             fabs(json_number_value(m)) < 1e6;
        ret->mean[i] = (float)json_number_value(m);
        ret->std[i] = (float)json_number_value(s);
    }
    for (size_t i = 0; ok && i < 2; i++) {
        json_int_t n = json_integer_value(json_array_get(size, i));
        ok = n >= 14 && n <= 4096;
        *(i ? &ret->cols : &ret->rows) = (size_t)n;
    }
    return ok || mf_error_set(
                     err, MF_ERR_MODEL,
                     "%s: must have \"size\" [rows, cols] from 14 to 4096, \"mean\" and positive "
                     "\"std\" of three channels",
                     path);
}

static bool parse_preprocessing(struct mf_bundle *b, struct mf_error *err)
{
    static const char *const KEYS[] = {"equalisation",     "segmenter", "vision",
                                       "voxel_spacing_mm", "volume",    NULL};
    static const char *const EQUALISATION[] = {"none", "global", "clahe", NULL};
    json_t *p = mf_json_need_object(b->json, "preprocessing", err);
    int equalisation;
    if (!p || !mf_json_only_keys(p, KEYS, "preprocessing", MF_ERR_MODEL, err) ||
        !parse_word(p, "preprocessing", "equalisation", EQUALISATION, &equalisation, err) ||
        !parse_image(json_object_get(p, "vision"), "preprocessing.vision", &b->vision, err))
        return false;
    b->equalisation = (enum mf_equalisation)equalisation;
    if (b->modules.segmenter != MF_SEGMENTER_NONE &&
        !parse_image(json_object_get(p, "segmenter"), "preprocessing.segmenter", &b->segmenter,
                     err))
        return false;
    return mf_bundle_parse_volume(b, p, err);
}

static bool parse_gate(const json_t *s, struct mf_gate *g, struct mf_error *err)
{
    static const char *const KEYS[] = {"iou_score", "object_score", "stability",
                                       "area",      "ratio",        NULL};
    json_t *gate = mf_json_need_object(s, "gate", err);
    const json_t *area = json_object_get(gate, "area");
    if (!gate || !mf_json_only_keys(gate, KEYS, "segmentation.gate", MF_ERR_MODEL, err))
        return false;
    g->area_low = json_number_value(json_array_get(area, 0));
    g->area_high = json_number_value(json_array_get(area, 1));
    if (json_array_size(area) != 2 ||
        !(g->area_low >= 0 && g->area_low <= g->area_high && g->area_high <= 1))
        return mf_error_set(err, MF_ERR_MODEL,
                            "segmentation.gate.area: must be [low, high] within 0 and 1");
    return number(gate, "segmentation.gate", "iou_score", 0, 1, &g->iou_score, err) &&
           number(gate, "segmentation.gate", "object_score", -1e6, 1e6, &g->object_score, err) &&
           number(gate, "segmentation.gate", "stability", 0, 1, &g->stability, err) &&
           number(gate, "segmentation.gate", "ratio", 0, 1, &g->ratio, err);
}

static bool parse_segmentation(struct mf_bundle *b, struct mf_error *err)
{
    static const char *const KEYS[] = {"mask_dilation", "mask_blur", "background", "roi_margin",
                                       "refine",        "propagate", "gate",       NULL};
    struct mf_segmentation_options *o = &b->segmentation;
    if (b->modules.segmenter == MF_SEGMENTER_NONE)
        return true;
    json_t *s = mf_json_need_object(b->json, "segmentation", err);
    if (!s || !mf_json_only_keys(s, KEYS, "segmentation", MF_ERR_MODEL, err))
        return false;
    o->refine = mf_json_get_bool(s, "refine", true);
    o->propagate = mf_json_get_bool(s, "propagate", false);
    return number(s, "segmentation", "mask_dilation", 0, 0.25, &o->mask_dilation, err) &&
           number(s, "segmentation", "mask_blur", 0, 0.25, &o->mask_blur, err) &&
           number(s, "segmentation", "background", 0, 1, &o->background, err) &&
           number(s, "segmentation", "roi_margin", 0, 1, &o->roi_margin, err) &&
           parse_gate(s, &o->gate, err);
}

/* "priors": {"max": 31, "days": 0, "body_part": "any"}, optional: which earlier studies count. */
static bool parse_priors(struct mf_bundle *b, const json_t *sequence, struct mf_error *err)
{
    static const char *const KEYS[] = {"max", "days", "body_part", NULL};
    static const char *const PARTS[] = {"any", "same", NULL};
    const json_t *priors = json_object_get(sequence, "priors");
    json_int_t max = MAX_PRIORS, days = 0;
    int part = 0;
    if (priors && (!mf_json_only_keys(priors, KEYS, "sequence.priors", MF_ERR_MODEL, err) ||
                   (json_object_get(priors, "max") &&
                    !mf_json_need_int(priors, "max", 0, MAX_PRIORS, &max, err)) ||
                   (json_object_get(priors, "days") &&
                    !mf_json_need_int(priors, "days", 0, MAX_PRIOR_DAYS, &days, err)) ||
                   (json_object_get(priors, "body_part") &&
                    !parse_word(priors, "sequence.priors", "body_part", PARTS, &part, err))))
        return false;
    b->priors = (struct mf_prior_rules){(uint32_t)max, (uint32_t)days, part == 1};
    return true;
}

static bool parse_sequence(struct mf_bundle *b, struct mf_error *err)
{
    static const char *const POSITIONS[] = {"rank", "days", "slice", NULL};
    json_int_t regions, max_frames;
    int position;
    json_t *s = mf_json_need_object(b->json, "sequence", err);
    if (!s || !parse_priors(b, s, err) ||
        !mf_json_need_int(b->json, "regions", 1, 16, &regions, err) ||
        !mf_json_need_int(s, "max_frames", 1, 32, &max_frames, err) ||
        !parse_word(s, "sequence", "position", POSITIONS, &position, err))
        return false;
    b->regions = (size_t)regions;
    b->max_frames = (size_t)max_frames;
    b->position = (enum mf_position_kind)position;
    if (b->has_volume && b->position != MF_POSITION_SLICE)
        return mf_error_set(
            err, MF_ERR_MODEL,
            "preprocessing.voxel_spacing_mm: is for stacks, sequence.position \"slice\"");
    if (b->segmentation.propagate && b->position != MF_POSITION_SLICE)
        return mf_error_set(err, MF_ERR_MODEL,
                            "segmentation.propagate: is for stacks, sequence.position \"slice\"");
    return true;
}

/* "quality": {"refuse": […]}, optional: flags with which an image is not judged at all. */
static bool parse_quality(struct mf_bundle *b, struct mf_error *err)
{
    static const char *const KEYS[] = {"refuse", NULL};
    const json_t *quality = json_object_get(b->json, "quality"),
                 *refuse = json_object_get(quality, "refuse");
    if (!quality)
        return true;
    if (!mf_json_only_keys(quality, KEYS, "quality", MF_ERR_MODEL, err))
        return false;
    for (size_t i = 0; i < json_array_size(refuse); i++) {
        const char *name = json_string_value(json_array_get(refuse, i));
        unsigned bit = 0;
        while (name && bit < MF_QUALITY_COUNT && strcmp(name, mf_quality_name(bit)) != 0)
            bit++;
        if (!name || bit == MF_QUALITY_COUNT)
            return mf_error_set(err, MF_ERR_MODEL, "quality.refuse: \"%.40s\" is no quality flag",
                                name ? name : "");
        b->refused_quality |= 1U << bit;
    }
    return json_is_array(refuse) ||
           mf_error_set(err, MF_ERR_MODEL, "quality.refuse: must be an array of flags");
}

bool mf_bundle_parse(struct mf_bundle *b, struct mf_error *err)
{
    static const char *const KEYS[] = {"schema",       "name",          "version",      "licence",
                                       "intended_use", "accepts",       "labels",       "modules",
                                       "directories",  "preprocessing", "segmentation", "regions",
                                       "sequence",     "quality",       "exclusive",    NULL};
    const char *schema = mf_json_get_string(b->json, "schema", "");
    if (strcmp(schema, "medfusion.bundle/1") != 0)
        return mf_error_set(err, MF_ERR_MODEL, "not a medfusion.bundle/1");
    if (!mf_json_only_keys(b->json, KEYS, "bundle", MF_ERR_MODEL, err))
        return false;
    b->name = mf_json_need_string(b->json, "name", err);
    b->version = mf_json_need_string(b->json, "version", err);
    b->licence = mf_json_get_string(b->json, "licence", "");
    b->intended_use = mf_json_get_string(b->json, "intended_use", "");
    return b->name && b->version && parse_accepts(b, err) && parse_labels(b, err) &&
           parse_modules(b, err) && parse_preprocessing(b, err) && parse_segmentation(b, err) &&
           parse_sequence(b, err) && parse_quality(b, err);
}
