/* The inside of the trust layer, shared by its files. */
#ifndef MF_TRUST_TRUST_PRIVATE_H
#define MF_TRUST_TRUST_PRIVATE_H

#include "core/arena.h"
#include "engine/trust/calibrate.h"
#include "engine/trust/conformal.h"
#include "engine/trust/exclusive.h"
#include "engine/trust/ood.h"
#include "engine/trust/trust.h"
#include "engine/trust/weighted.h"

/* Calibration logits of one label, ascending; in the arena. */
struct mf_class_logits {
    float *positive, *negative;
    float *positive_weights, *negative_weights; /* in their order; NULL: not weighted */
    size_t n_pos, n_neg;
};

/* The cases of one stratum alone. */
struct mf_trust_group {
    const char *name;
    struct mf_calibration *calibrations; /* label_count */
    bool *own;                           /* label_count: too few cases make no map of their own */
    struct mf_class_logits *classes;     /* label_count */
};

struct mf_trust {
    struct mf_arena *arena;
    size_t label_count;
    const char **label_ids;
    const char *id, *created, *source, *model_hash; /* NULL: no calibration */
    uint32_t patients;
    struct mf_calibration *calibrations; /* label_count, or NULL */
    struct mf_class_logits *classes;     /* label_count, or NULL */
    enum mf_strata_kind strata;
    struct mf_trust_group *groups; /* group_count, by name */
    size_t group_count;
    double *prevalence; /* label_count: where the model works; NaN = as in the calibration */
    bool has_ratio;
    struct mf_density_ratio ratio;
    bool has_risk;
    float *risk_logits;
    uint32_t *risk_weights;
    size_t risk_count, risk_cases;
    struct mf_exclusive exclusive; /* zeros: not fitted, or the labels do not exclude each other */
    struct mf_ood *ood;            /* NULL: none */
    bool ood_of_regions;           /* else of the readout */
    double *sharpness;             /* sharpness_count, ascending; in the arena */
    size_t sharpness_count;
    json_t *adaptation; /* adaptation.json of a fit, to be written; else NULL */
    json_t *reference;  /* the same of reference.json */
};

/* The content of calibration.json, conformal.json and ood.json, in this order; json null = there is
 * no such file. */
enum { MF_TRUST_FILES = 3, MF_TRUST_FILE_BYTES = 256 << 20 };
struct mf_trust *mf_trust_from_json(json_t *const files[MF_TRUST_FILES],
                                    const struct mf_label *labels, size_t label_count,
                                    struct mf_error *err) MF_CHECK_RESULT;
enum { MF_TRUST_GROUPS = 64 };

struct mf_trust *mf_trust_new(const struct mf_label *labels, size_t label_count,
                              struct mf_error *err);

/* One more group (the caller keeps to MF_TRUST_GROUPS and has made room), empty. */
bool mf_trust_add_group(struct mf_trust *t, const char *name, struct mf_error *err);

#endif
