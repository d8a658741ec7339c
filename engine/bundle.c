/* Opening a bundle: manifest, bundle.json, features, weights by name and shape, and that the parts
 * fit together. */
#include "engine/bundle_private.h"

#include "engine/net/net.h"
#include "engine/trust/trust.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

enum { PATH_BYTES = 1024 };

static bool unfit(struct mf_error *err, const char *what)
{
    return mf_error_set(err, MF_ERR_MODEL, "%s", what);
}

/* The networks of a bundle, constructed without a device: that checks every tensor. */
struct parts {
    struct mf_sam2 *segmenter;
    struct mf_vit *vision;
    struct mf_temporal *temporal;
    struct mf_ft *ehr;
    struct mf_fusion *fusion;
};

const char *const *mf_bundle_ignored(const struct mf_bundle *b, int module)
{
    if (module == MF_MODULE_VISION)
        return mf_vit_head_names;
    return module == MF_MODULE_SEGMENTER && !b->segmentation.propagate ? mf_sam2_memory_names
                                                                       : NULL;
}

static void load_part(struct mf_loader *ld, const struct mf_bundle *b, int module, struct parts *p)
{
    const char *type = json_string_value(mf_loader_config(ld, "model_type"));
    type = type ? type : "";
    switch (module) {
    case MF_MODULE_SEGMENTER:
        p->segmenter = mf_sam2_load(ld, b->segmentation.propagate);
        if (p->segmenter && b->segmentation.propagate && !mf_sam2_memory(p->segmenter))
            mf_loader_fail(ld, "segmentation.propagate needs a segmenter with memory");
        break;
    case MF_MODULE_VISION:
        /* bundle.json may say "dinov2" for both layouts; config.json decides. */
        if (b->modules.vision == MF_VISION_VIT ? strcmp(type, "vit") != 0
                                               : strncmp(type, "dinov2", 6) != 0)
            mf_loader_fail(ld, "config.json: model_type \"%.40s\" is not what bundle.json says",
                           type);
        p->vision = mf_vit_load_any(ld);
        break;
    case MF_MODULE_TEMPORAL:
        p->temporal = mf_temporal_load(ld);
        break;
    case MF_MODULE_EHR:
        p->ehr = mf_ft_load(ld);
        if (p->ehr && (!mf_ft_takes_missing(p->ehr) || mf_ft_outputs(p->ehr)))
            mf_loader_fail(ld, "a bundle's EHR module has missing_embeddings and no output head");
        break;
    default:
        p->fusion = mf_fusion_load(ld);
    }
}

static bool check_features(const struct mf_bundle *b, const struct parts *p, struct mf_error *err)
{
    const struct mf_feature_set *f = b->features;
    if (!p->ehr)
        return mf_fusion_ehr_width(p->fusion) == 0 ||
               unfit(err, "fusion expects an EHR module and there is none");
    if (mf_fusion_ehr_width(p->fusion) != mf_ft_width(p->ehr))
        return unfit(err, "fusion's ehr_hidden_size and the EHR module's d_token differ");
    if (f->numeric_count != mf_ft_numeric(p->ehr) ||
        f->count - f->numeric_count != mf_ft_categorical(p->ehr))
        return unfit(err,
                     "features.json and the EHR module's config.json count features differently");
    for (size_t i = f->numeric_count; i < f->count; i++)
        if (f->features[i].category_count != mf_ft_cardinality(p->ehr, i - f->numeric_count))
            return unfit(err, "features.json and the EHR module's cat_cardinalities differ");
    return true;
}

static bool check_parts(const struct mf_bundle *b, const struct parts *p, struct mf_error *err)
{
    const struct mf_temporal *t = p->temporal;
    if (p->segmenter && (mf_sam2_image_size(p->segmenter) != b->segmenter.rows ||
                         mf_sam2_image_size(p->segmenter) != b->segmenter.cols))
        return unfit(err, "preprocessing.segmenter.size is not the segmenter's image_size");
    if (b->vision.rows < mf_vit_patch(p->vision) || b->vision.cols < mf_vit_patch(p->vision))
        return unfit(err, "preprocessing.vision.size is smaller than a patch");
    if (mf_temporal_input_width(t) != mf_vit_width(p->vision))
        return unfit(
            err, "the temporal module's vision_hidden_size is not the vision module's hidden_size");
    if (mf_temporal_tokens(t) != b->regions * b->regions + 1)
        return unfit(err, "the temporal module's tokens_per_frame is not regions² + 1");
    if (mf_temporal_max_frames(t) < b->max_frames || mf_temporal_position(t) != b->position ||
        mf_temporal_kind(t) != b->modules.temporal)
        return unfit(err, "the temporal module's config.json and bundle.json differ (max_frames, "
                          "position or kind)");
    if (mf_fusion_width(p->fusion) != mf_temporal_width(t))
        return unfit(err, "fusion's and the temporal module's hidden_size differ");
    if (mf_fusion_labels(p->fusion) != b->label_count)
        return unfit(err, "fusion's num_labels is not the number of labels");
    return check_features(b, p, err);
}

static bool check_weights(struct mf_bundle *b, struct mf_error *err)
{
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new((size_t)1 << 30);
    struct parts parts = {0};
    if (!arena)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    for (int i = 0; i < MF_MODULE_COUNT; i++) {
        char path[PATH_BYTES];
        struct mf_loader ld;
        if (!b->directories[i])
            continue;
        snprintf(path, sizeof path, "%s/%s", b->dir, b->directories[i]);
        b->weights[i] = mf_weights_open(path, err);
        if (!b->weights[i])
            return false;
        mf_loader_init(&ld, b->weights[i], NULL, arena, err);
        load_part(&ld, b, i, &parts);
        if (!mf_loader_finish(&ld, mf_bundle_ignored(b, i)))
            return false;
        mf_weights_forget(b->weights[i]);
    }
    return check_parts(b, &parts, err) || mf_error_prefix(err, "%s", b->dir);
}

static bool open_files(struct mf_bundle *b, const char *dir, enum mf_bundle_check check,
                       struct mf_error *err)
{
    char path[PATH_BYTES];
    b->arena = mf_arena_new(0);
    b->dir = strdup(dir);
    b->checked = check;
    if (!b->arena || !b->dir)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    if (strlen(dir) > PATH_BYTES / 2)
        return mf_error_set(err, MF_ERR_MODEL, "the path of the bundle is too long");
    if (!mf_manifest_check(dir, check == MF_BUNDLE_METADATA, b->digest, b->model_hash, err))
        return mf_error_prefix(err, "%s", dir);
    snprintf(path, sizeof path, "%s/bundle.json", dir);
    b->json = mf_json_read_file(path, NULL, err);
    if (!b->json)
        return false;
    if (!mf_bundle_parse(b, err))
        return mf_error_prefix(err, "%s", path);
    if (b->directories[MF_MODULE_EHR]) {
        snprintf(path, sizeof path, "%s/%s/features.json", dir, b->directories[MF_MODULE_EHR]);
        b->features = mf_feature_set_load(path, err);
        if (!b->features)
            return false;
    }
    b->trust = mf_trust_load(dir, b->labels, b->label_count, err);
    return b->trust && (check == MF_BUNDLE_METADATA || check_weights(b, err));
}

struct mf_bundle *mf_bundle_open(const char *dir, enum mf_bundle_check check, struct mf_error *err)
{
    MF_AUTO(mf_bundle) struct mf_bundle *b = calloc(1, sizeof *b);
    struct mf_error own = MF_ERROR_INIT;
    if (!b) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
        return NULL;
    }
    if (open_files(b, dir, check, &own))
        return MF_STEAL(b);
    /* Whatever a file is wrong in, to the caller the model is invalid. */
    mf_error_set(err, own.code == MF_ERR_NO_MEMORY ? own.code : MF_ERR_MODEL, "%s", own.msg);
    return NULL;
}

void mf_bundle_free(struct mf_bundle *b)
{
    if (!b)
        return;
    for (int i = 0; i < MF_MODULE_COUNT; i++)
        mf_weights_free(b->weights[i]);
    mf_trust_free(b->trust);
    mf_feature_set_free(b->features);
    json_decref(b->json);
    mf_arena_free(b->arena);
    free(b->dir);
    free(b);
}

const char *mf_bundle_directory(const struct mf_bundle *b)
{
    return b->dir;
}

const char *mf_bundle_name(const struct mf_bundle *b)
{
    return b->name;
}

const char *mf_bundle_version(const struct mf_bundle *b)
{
    return b->version;
}

const char *mf_bundle_licence(const struct mf_bundle *b)
{
    return b->licence;
}

const char *mf_bundle_intended_use(const struct mf_bundle *b)
{
    return b->intended_use;
}

const char *mf_bundle_digest(const struct mf_bundle *b)
{
    return b->digest;
}

const char *mf_bundle_model_hash(const struct mf_bundle *b)
{
    return b->model_hash;
}

size_t mf_bundle_label_count(const struct mf_bundle *b)
{
    return b->label_count;
}

const struct mf_label *mf_bundle_labels(const struct mf_bundle *b)
{
    return b->labels;
}

const struct mf_modules *mf_bundle_modules(const struct mf_bundle *b)
{
    return &b->modules;
}

const struct mf_feature_set *mf_bundle_features(const struct mf_bundle *b)
{
    return b->features;
}

uint32_t mf_bundle_max_frames(const struct mf_bundle *b)
{
    return (uint32_t)b->max_frames;
}

enum mf_position_kind mf_bundle_position(const struct mf_bundle *b)
{
    return b->position;
}

const struct mf_trust *mf_bundle_trust(const struct mf_bundle *b)
{
    return b->trust;
}

static bool listed(const struct mf_string_list *list, const char *value)
{
    for (size_t i = 0; i < list->count; i++)
        if (strcasecmp(list->items[i], value) == 0)
            return true;
    return false;
}

static bool accepts_one(const struct mf_bundle *b, const struct mf_string_list *list,
                        const char *key, const char *what, const char *value, struct mf_error *err)
{
    if (!value || !*value)
        return !listed(&b->require, key) ||
               mf_error_set(err, MF_ERR_UNUSABLE, "%s is absent and model %.60s requires it", what,
                            b->name);
    if (list->count == 0 || listed(list, value))
        return true;
    return mf_error_set(err, MF_ERR_UNUSABLE, "%s %.20s is not accepted by model %.60s", what,
                        value, b->name);
}

bool mf_bundle_exclusive(const struct mf_bundle *b)
{
    return b->exclusive;
}

uint32_t mf_bundle_refused_quality(const struct mf_bundle *b)
{
    return b->refused_quality;
}

bool mf_bundle_accepts(const struct mf_bundle *b, const char *modality, const char *view,
                       const char *body_part, struct mf_error *err)
{
    return accepts_one(b, &b->modalities, "modalities", "modality", modality, err) &&
           accepts_one(b, &b->views, "views", "view position", view, err) &&
           accepts_one(b, &b->body_parts, "body_parts", "body part", body_part, err);
}
