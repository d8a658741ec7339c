/*
 * What turns raw logits into statements with a stated guarantee: calibrated probabilities,
 * class-conditional conformal sets at any alpha, and a finding list with a bounded false-negative
 * rate. It is fitted once on calibration patients (`medfusion calibrate`), stored beside the model,
 * and bound to the model by its hash: with another hash every guarantee is `void`.
 *
 * A calibration may be made for strata (engine/trust/strata.h): a study is then judged by the cases
 * of its own view, say, where they are enough for alpha, and by all of them otherwise; `taxonomy`
 * of a prediction says which. Instead it may be weighted towards the site where the model works
 * (engine/trust/weighted.h).
 *
 * calibration.json (parameters: engine/trust/calibrate.h)
 *   {"schema": "medfusion.calibration/1", "id", "created", "source", "patients", "model_hash",
 *    "labels": [{"id", "n_pos", "n_neg", "method": "identity|temperature|platt|beta|isotonic",
 *                "parameters": […], "cross_validated_nll": {method: nll|null},
 *                "prevalence"?: where the model works, if not as in the calibration cases,
 *                "groups"?: {name: {"n_pos", "n_neg", "method", "parameters",
 *                                   "cross_validated_nll"}}}]}       strata with enough cases only
 * conformal.json
 *   {"schema": "medfusion.conformal/1", "id", "created", "source", "patients", "model_hash",
 *    "method": "split_conformal", "taxonomy": "label_class|label_class_view|…", "score": "logit",
 *    "labels": [{"id", "positive": [raw logits, ascending], "negative": […],
 *                "positive_weights"?: […], "negative_weights"?: […],
 *                "groups"?: {name: {"positive", "negative"}}}],
 *    "density_ratio"?: {"intercept", "coefficients": […], "mean": […], "scale": […]},
 *    "risk_control": {"risk": "fnr", "cases", "logits": [ascending], "positives_in_case": […]}}
 * Labels that exclude each other add a member to both and have no risk_control:
 * engine/trust/exclusive.h.
 * ood.json: engine/trust/ood.h, and "of": "regions" (the engine's features) or, as in older bundles
 * and without this member, "readout"; "sharpness"?: [of the cases, ascending]; adaptation.json:
 * engine/trust/adapter.h; reference.json: server/reference.h
 */
#ifndef MF_TRUST_TRUST_H
#define MF_TRUST_TRUST_H

#include "core/auto.h"
#include "core/error.h"
#include "core/result.h"
#include "engine/bundle.h"
#include "engine/trust/aci.h"
#include "engine/trust/strata.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Calibration data: one row a case. */
struct mf_trust_cases {
    size_t count, label_count;
    const float *logits; /* count × label_count, raw, as mf_engine_run() gives them */
    const int8_t *truth; /* count × label_count: 1 present, 0 absent, −1 not labelled */
    const char *const
        *patients;         /* count; cases of one patient stay in one fold. NULL: each its own */
    const float *readouts; /* count × readout_size, for adaptation; NULL: none */
    size_t readout_size;
    const float *features; /* count × feature_size, for the out-of-distribution check; NULL: none */
    size_t feature_size;
    const double *sharpness; /* count (engine/trust/sharpness.h), NaN = unknown; NULL: none */
    /* What is fitted for strata too: a key a case (mf_strata_key()), NULL = unknown. */
    enum mf_strata_kind strata;
    const char *const *groups;
    /* Prevalence of each label where the model works, NaN = as in the cases; NULL: all so. */
    const double *prevalence;
    /* Logits (target_count × label_count) of unlabelled studies of the site where the model works,
     * towards which the conformal sets are weighted; NULL: none. Not together with strata. */
    const float *target;
    size_t target_count;
};

struct mf_trust_origin {
    const char *source;  /* what the data is, for the reader of a result ("NIH ChestX-ray14,
                            calibration part") */
    const char *created; /* RFC 3339; NULL = now */
};

/* Fits everything on `cases` for the labels and the model_hash of `bundle`. MF_ERR_UNUSABLE when
 * there is too little data for anything (no case, a case count or label count that does not fit).
 */
struct mf_trust *mf_trust_fit(const struct mf_bundle *bundle, const struct mf_trust_cases *cases,
                              const struct mf_trust_origin *origin,
                              struct mf_error *err) MF_CHECK_RESULT;
void mf_trust_free(struct mf_trust *trust);

/* Reads calibration.json, conformal.json and ood.json of `dir`; each may be absent. MF_ERR_MODEL
 * when one is wrong. */
struct mf_trust *mf_trust_load(const char *dir, const struct mf_label *labels, size_t label_count,
                               struct mf_error *err) MF_CHECK_RESULT;
/* Writes those three files (ood.json only where there is one), adaptation.json after a fit, and
 * reference.json where features were set. */
bool mf_trust_write(const struct mf_trust *trust, const char *dir, struct mf_error *err);

/* Borrowed; id and created are NULL and patients 0 in a bundle without calibration. */
const char *mf_trust_id(const struct mf_trust *trust);
const char *mf_trust_created(const struct mf_trust *trust);
const char *mf_trust_source(const struct mf_trust *trust);
const char *mf_trust_model_hash(const struct mf_trust *trust);
uint32_t mf_trust_patients(const struct mf_trust *trust);

/* How usual so blurred an image is among the calibration cases, a conformal p-value; NaN where
 * these have no sharpness or it is NaN itself. */
double mf_trust_sharpness_p_value(const struct mf_trust *trust, double sharpness);

/* The calibration cases' logits of one label, by truth, each ascending; none without a calibration.
 * Borrowed. */
struct mf_trust_reference {
    const float *positive, *negative;
    size_t n_pos, n_neg;
};
struct mf_trust_reference mf_trust_reference(const struct mf_trust *trust, size_t label);
/* How the cases' features were distributed, to be written as reference.json; taken. */
void mf_trust_set_features(struct mf_trust *trust, json_t *reference);

/* What is said about one case. */
struct mf_trust_statement {
    struct mf_prediction *predictions; /* label_count; filled; strings borrowed from the bundle */
    uint32_t *finding_labels;          /* room for label_count; `findings.labels` will point here */
    struct mf_finding_set findings;
    double ood_p_value; /* NaN without ood.json or without what it looks at */
    /* Those of the case's `aci` where the sets were made at them, else NULL. */
    const double *levels;
};

/* One case to be judged. */
struct mf_trust_case {
    const float *logits; /* label_count */
    /* As the engine gives them; NULL, or of another size than the bundle's check was made for: it
     * is not made. */
    const float *features, *readout;
    size_t feature_size, readout_size;
    struct mf_strata strata; /* MF_STRATA_UNKNOWN where nothing is known */
    bool shifted;            /* known to lie outside the calibrated population */
    /* Levels learnt from the site's feedback, or NULL. Used when they are those of this model and
     * of this alpha. */
    const struct mf_aci *aci;
    /* Of an adapted network (engine/trust/adapter.h): the trust layer that was fitted under the
     * same adaptation, NULL = the bundle's own; or that there is none, so nothing is promised. */
    const struct mf_trust *trust;
    bool unbound;
};

/* Applies `bundle`'s trust layer to one case at level `alpha` (0 < alpha < 1; the default of the
 * program is 0.1). */
bool mf_trust_apply(const struct mf_bundle *bundle, const struct mf_trust_case *c, double alpha,
                    struct mf_trust_statement *statement, struct mf_error *err);

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_trust, struct mf_trust *, mf_trust_free(*p))

#endif
