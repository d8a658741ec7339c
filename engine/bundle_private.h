/* The inside of a bundle, for the files of engine/ that build on it. */
#ifndef MF_ENGINE_BUNDLE_PRIVATE_H
#define MF_ENGINE_BUNDLE_PRIVATE_H

#include "engine/bundle.h"
#include "engine/weights.h"

enum mf_equalisation { MF_EQUALISE_NONE, MF_EQUALISE_GLOBAL, MF_EQUALISE_CLAHE };

enum mf_bundle_module {
    MF_MODULE_SEGMENTER,
    MF_MODULE_VISION,
    MF_MODULE_TEMPORAL,
    MF_MODULE_EHR,
    MF_MODULE_FUSION,
    MF_MODULE_COUNT
};

struct mf_image_input {
    size_t rows, cols;
    float mean[3], std[3];
};

struct mf_gate {
    double iou_score, object_score, stability, area_low, area_high, ratio;
};

struct mf_segmentation_options {
    double mask_dilation, mask_blur; /* shares of the segmenter's side */
    double background, roi_margin;
    bool refine, propagate; /* propagate: boxes on the middle slice, memory for the others */
    struct mf_gate gate;
};

struct mf_string_list {
    const char **items;
    size_t count;
};

struct mf_bundle {
    struct mf_arena *arena;
    json_t *json; /* bundle.json; owns the strings */
    char *dir;
    const char *name, *version, *licence, *intended_use;
    char digest[65], model_hash[65];
    struct mf_modules modules;
    const char *directories[MF_MODULE_COUNT]; /* NULL: the module is off */
    struct mf_weights *weights[MF_MODULE_COUNT];
    struct mf_label *labels;
    size_t label_count;
    bool exclusive; /* exactly one label holds */
    struct mf_string_list modalities, views, body_parts, require;
    enum mf_equalisation equalisation;
    struct mf_image_input segmenter, vision;
    struct mf_segmentation_options segmentation;
    bool has_volume;
    struct mf_bundle_volume volume;
    size_t regions, max_frames;
    uint32_t refused_quality; /* bits of enum mf_quality */
    enum mf_position_kind position;
    struct mf_prior_rules priors;
    struct mf_feature_set *features;
    struct mf_trust *trust;
    enum mf_bundle_check checked;
};

/* Beginnings of names that the module's file may hold beyond what is used of it. */
const char *const *mf_bundle_ignored(const struct mf_bundle *b, int module);

/* Reads the members of "preprocessing" that are about volumes. bundle_volume.c */
bool mf_bundle_parse_volume(struct mf_bundle *b, const json_t *preprocessing, struct mf_error *err);

/* Reads bundle.json into the struct. */
bool mf_bundle_parse(struct mf_bundle *b, struct mf_error *err);

/* Reads and checks dir/manifest.json against the files; fills digest and model_hash. With
 * `skip_weights` the content of *.safetensors is not hashed. */
bool mf_manifest_check(const char *dir, bool skip_weights, char digest[65], char model_hash[65],
                       struct mf_error *err);
/* Paths of all files of a bundle, relative and sorted; at most MF_BUNDLE_FILES. The strings live in
 * the arena. */
enum { MF_BUNDLE_FILES = 1024 };
bool mf_bundle_list_files(const char *dir, struct mf_arena *arena, const char ***ret,
                          size_t *ret_count, struct mf_error *err);

#endif
