/*
 * A result, `medfusion.result/1` (DESIGN.md, "A result"): the structs that the engine and the trust
 * layer fill and the one writer of its JSON. Every other output (FHIR, SR, text, page) is made from
 * that JSON, so no output can say something that another does not.
 *
 * All strings are borrowed (from the bundle, the index or the request's arena); NULL becomes JSON
 * null. NaN becomes null.
 */
#ifndef MF_CORE_RESULT_H
#define MF_CORE_RESULT_H

#include "core/error.h"
#include "core/feature.h"
#include "core/json.h"
#include "core/order.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum mf_segmentation_status { MF_SEGMENTATION_OFF, MF_SEGMENTATION_OK, MF_SEGMENTATION_FALLBACK };

struct mf_segmentation {
    enum mf_segmentation_status status;
    double iou; /* the smaller predicted IoU of the two structures; NaN when off */
    uint32_t
        box[4]; /* x0, y0, x1, y1: the ROI, half-open, in stored pixels; the whole frame when off */
    const char *reason; /* which gate failed ("ratio"), or NULL */
};

struct mf_result_frame {
    const char *study_instance_uid, *sop_instance_uid;
    uint32_t index; /* 0-based frame of a multi-frame instance */
    bool prior;
    const char *acquired; /* ISO 8601, or NULL */
    struct mf_segmentation segmentation;
};

enum mf_label_state {
    MF_LABEL_PRESENT,
    MF_LABEL_ABSENT,
    MF_LABEL_UNCERTAIN, /* both classes in the set */
    MF_LABEL_EMPTY      /* neither */
};

enum mf_guarantee {
    MF_GUARANTEE_VALID,
    MF_GUARANTEE_INSUFFICIENT, /* a class has too few calibration cases for this alpha */
    MF_GUARANTEE_SHIFTED,      /* the input lies outside the calibrated population */
    MF_GUARANTEE_VOID          /* thresholds not bound to this model, or none shipped */
};

struct mf_prediction {
    const char *label, *display;
    const struct mf_coding *codings;
    size_t coding_count;
    double logit, probability;
    enum mf_label_state state;
    double p_present, p_absent; /* conformal p-values; NaN without calibration */
    double q_present, q_absent; /* score units; infinity or NaN becomes null */
    uint32_t n_cal_pos, n_cal_neg;
    const char *method;   /* of the set; NULL = "split_conformal" */
    const char *taxonomy; /* of its calibration cases; NULL = "label_class" */
    enum mf_guarantee guarantee;
    bool outcome;        /* an outcome of the patient's course, not a finding: "kind" is written */
    const char *horizon; /* until when it may come; NULL = not said */
};

struct mf_finding_set {
    bool available;         /* false: no risk control calibration; written as null */
    const uint32_t *labels; /* indices into predictions, most probable first */
    size_t label_count;
    const char *method; /* NULL = "conformal_risk_control" */
};

/* Of what a volume was made. */
struct mf_result_volume {
    size_t slices, planes; /* stored slices, planes of the stack that they make */
    double spacing[3];     /* of the stored slices (median), their rows and columns; mm */
    double voxel[3];       /* of the stack: plane, row, column; mm */
    size_t gaps, duplicates, other_geometry;
    double largest_distance, tilt_degrees;
};

struct mf_skipped {
    const char *object; /* SOP Instance UID, or the part and member number */
    const char *reason;
};

struct mf_timing {
    double decode, segment, vision, temporal, ehr, fusion, total; /* milliseconds; NaN = not run */
};

struct mf_result {
    const char *job; /* NULL on the command line */
    const char *study_instance_uid, *modality;
    struct mf_order order;
    const struct mf_result_frame *frames; /* oldest first */
    size_t frame_count;
    const struct mf_result_volume *volume; /* NULL: frames as they are; the member is left out */
    struct {
        const char *name, *version, *digest, *model_hash, *device, *dtype;
    } model;
    double alpha;
    const struct mf_prediction *predictions;
    size_t prediction_count;
    struct mf_finding_set findings;
    struct {
        const char *id, *created, *model_hash; /* id NULL: the bundle is not calibrated */
        uint32_t patients;
    } calibration;
    struct {
        const char *mode;  /* off | shadow | episodic | site */
        const char *state; /* id of the adaptation state, or NULL */
        double entropy_before,
            entropy_after;       /* mean binary entropy of the labels, nats; NaN = off */
        double max_logit_change; /* in mode shadow: what it would have been */
        /* Levels learnt from feedback that judged this result; state NULL: none did. */
        struct {
            const char *state; /* id */
            uint64_t version;
            const double *levels; /* present, absent of every prediction in turn */
        } learnt;
    } adaptation;
    const struct mf_feature_set *feature_set; /* NULL: the bundle has no EHR module */
    const struct mf_feature_value *feature_values;
    double ood_p_value; /* NaN = not available */
    const char *const *flags;
    size_t flag_count;
    const struct mf_skipped *skipped;
    size_t skipped_count;
    struct mf_timing timing;
};

/* The JSON document of models and services, every field of the schema present. NULL when out of
 * memory. */
json_t *mf_result_to_json(const struct mf_result *result);

/* The member study.volume. NULL when out of memory. */
json_t *mf_result_volume_to_json(const struct mf_result_volume *volume);

/* RFC 9457 problem as `medfusion.problem/1`: {"schema","type","title","status","detail", "study"?,
 * "job"?}. `study` and `job` may be NULL. */
json_t *mf_problem_to_json(const struct mf_error *err, const char *study_instance_uid,
                           const char *job);

/* A table for people, made from the document (UTF-8, lines end with \n). The caller frees it; NULL
 * when out of memory. */
char *mf_result_to_text(const json_t *result);

const char *mf_label_state_name(enum mf_label_state state);
const char *mf_guarantee_name(enum mf_guarantee guarantee);

#ifdef __cplusplus
}
#endif

#endif
