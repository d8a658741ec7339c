/*
 * A model bundle: one directory with everything a model needs (models/FORMAT.md). Opening it checks
 * all of it: the manifest's SHA-256 of every file, every JSON document, and every tensor by name,
 * shape and dtype against what the configurations imply; hostile weight files are an expected input
 * (core/error.h, MF_ERR_MODEL). A bundle is immutable after opening and may be shared by threads.
 *
 * manifest.json, `medfusion.manifest/1`: {"schema", "files": {"<path relative to the bundle>":
 * "<hex SHA-256>"}} names every file but itself and manifest.sig; a file that is not named, or is
 * missing, is an error. model_hash is the SHA-256 over the lines "<hex digest>  <path>\n", sorted
 * by path (bytes), of bundle.json, every config.json, ehr/features.json and every weight file;
 * `digest` is that of manifest.json itself.
 */
#ifndef MF_ENGINE_BUNDLE_H
#define MF_ENGINE_BUNDLE_H

#include "core/auto.h"
#include "core/error.h"
#include "core/feature.h"
#include "core/json.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mf_bundle;
struct mf_trust; /* engine/trust/trust.h */

struct mf_label {
    const char *id, *display;
    const struct mf_coding *codings;
    size_t coding_count;
    bool outcome;        /* of the patient's course, not a finding of the study */
    const char *horizon; /* of an outcome: until when it may come, in words; NULL = not said */
};

enum mf_segmenter_kind { MF_SEGMENTER_NONE, MF_SEGMENTER_SAM2 };
enum mf_vision_kind { MF_VISION_DINOV2, MF_VISION_VIT, MF_VISION_DINOV2_REGISTERS };
enum mf_temporal_kind { MF_TEMPORAL_NONE, MF_TEMPORAL_MAMBA, MF_TEMPORAL_TRANSFORMER };
enum mf_ehr_kind { MF_EHR_NONE, MF_EHR_FT_TRANSFORMER };

struct mf_modules {
    enum mf_segmenter_kind segmenter;
    enum mf_vision_kind vision;
    enum mf_temporal_kind temporal;
    enum mf_ehr_kind ehr;
};

/* What a frame's position value means: see struct mf_engine_input. */
enum mf_position_kind { MF_POSITION_RANK, MF_POSITION_DAYS, MF_POSITION_SLICE };

/* Volumes (models/FORMAT.md, "volume"). */
enum mf_bundle_slices { MF_SLICES_UNIFORM, MF_SLICES_CENTRAL, MF_SLICES_RANGE };
struct mf_bundle_volume {
    double voxel[3]; /* slice, row, column; mm */
    enum mf_bundle_slices slices;
    double range[2];  /* shares of the extent along the normal, for MF_SLICES_RANGE */
    float background; /* modality value (HU) in place of padding */
    bool has_window;  /* else the stored slices' own */
    double window_center, window_width;
};

enum mf_bundle_check {
    MF_BUNDLE_FULL,    /* everything, weights included: what a worker and `model verify` need */
    MF_BUNDLE_METADATA /* all but the weight files' content: what a front needs; no engine can be
                          made from it */
};

struct mf_bundle *mf_bundle_open(const char *dir, enum mf_bundle_check check,
                                 struct mf_error *err) MF_CHECK_RESULT;
void mf_bundle_free(struct mf_bundle *bundle);

/* Everything returned below is borrowed from the bundle. */
const char *mf_bundle_directory(const struct mf_bundle *bundle);
const char *mf_bundle_name(const struct mf_bundle *bundle);
const char *mf_bundle_version(const struct mf_bundle *bundle);
const char *mf_bundle_licence(const struct mf_bundle *bundle);
const char *mf_bundle_intended_use(const struct mf_bundle *bundle);
const char *mf_bundle_digest(const struct mf_bundle *bundle);     /* 64 hex digits */
const char *mf_bundle_model_hash(const struct mf_bundle *bundle); /* 64 hex digits */
size_t mf_bundle_label_count(const struct mf_bundle *bundle);
const struct mf_label *mf_bundle_labels(const struct mf_bundle *bundle); /* in logit order */
bool mf_bundle_exclusive(const struct mf_bundle *bundle); /* of the labels exactly one holds */
const struct mf_modules *mf_bundle_modules(const struct mf_bundle *bundle);
const struct mf_feature_set *mf_bundle_features(const struct mf_bundle *bundle); /* NULL: no EHR */
uint32_t mf_bundle_max_frames(const struct mf_bundle *bundle);
enum mf_position_kind mf_bundle_position(const struct mf_bundle *bundle);
/* What CT and MR series are made into before the network; NULL = their frames are taken as they
 * are. */
const struct mf_bundle_volume *mf_bundle_volume(const struct mf_bundle *bundle);
/* Calibration and conformal thresholds; never NULL (an uncalibrated bundle has an empty one). */
const struct mf_trust *mf_bundle_trust(const struct mf_bundle *bundle);

/* Whether images with these DICOM attributes may be given to the model. NULL or "" = absent, which
 * is accepted unless the bundle requires the attribute. False sets MF_ERR_UNUSABLE with the reason.
 * `body_part` and `view` are compared without regard to case. */
bool mf_bundle_accepts(const struct mf_bundle *bundle, const char *modality, const char *view,
                       const char *body_part, struct mf_error *err);

/* Quality flags (bits of enum mf_quality, engine/trust/quality.h) with which the bundle refuses an
 * image. */
uint32_t mf_bundle_refused_quality(const struct mf_bundle *bundle);

/* Which earlier studies of the patient the model looks at (models/FORMAT.md, "sequence"). */
struct mf_prior_rules {
    uint32_t max_studies; /* the newest ones; 0 = none */
    uint32_t days;        /* how far back; 0 = any time */
    bool same_body_part;  /* only of a body part that the study has; those that name none, too */
};

/* The lists behind mf_bundle_accepts() (models/FORMAT.md, "accepts"), for grouping a whole study by
 * them. An empty list accepts all. */
struct mf_bundle_rules {
    const char *const *modalities, *const *views, *const *body_parts;
    size_t modality_count, view_count, body_part_count;
    bool require_modality, require_view, require_body_part;
    struct mf_prior_rules priors;
};
void mf_bundle_rules(const struct mf_bundle *bundle,
                     struct mf_bundle_rules *ret); /* strings borrowed */

/* What `medfusion model inspect` prints: identity, labels, modules, sizes, calibration. Caller owns
 * it. */
json_t *mf_bundle_describe(const struct mf_bundle *bundle, struct mf_error *err) MF_CHECK_RESULT;

/* Writes dir/manifest.json for the files that lie in `dir` now; removes a manifest.sig, which no
 * longer fits. */
bool mf_bundle_write_manifest(const char *dir, struct mf_error *err);

/* A complete, unsigned copy of `bundle` in the new or empty directory `out`, with calibration.json,
 * conformal.json and what else calibration makes replaced by those of `trust` and a fresh manifest:
 * what `medfusion calibrate -o` leaves. */
bool mf_bundle_write_calibrated(const struct mf_bundle *bundle, const struct mf_trust *trust,
                                const char *out, struct mf_error *err);

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_bundle, struct mf_bundle *, mf_bundle_free(*p))

#endif
