/*
 * Study: an index → patients → studies → the ordered frames of one request.
 *
 * Patient = PatientID + issuer; an empty ID is a patient of its own per study. Studies are ordered
 * by StudyDate, StudyTime, UID. What a bundle accepts comes from the caller as plain rules; every
 * object that is not used is listed with the reason.
 */
#ifndef MF_DICOM_STUDY_H
#define MF_DICOM_STUDY_H

#include "core/clock.h"
#include "core/feature.h"
#include "core/order.h"
#include "dicom/index.h"
#include "dicom/volume.h"

#ifdef __cplusplus
extern "C" {
#endif

enum mf_study_order {
    MF_STUDY_BY_TIME, /* the frames of all studies, oldest first */
    MF_STUDY_BY_SLICE /* the frames of the current study's largest usable series, along its normal;
                         no priors */
};

/* What is accepted. An empty list accepts all; an object without the attribute is accepted unless
 * required. Values compare without regard to case. NULL rules accept every image. */
struct mf_study_rules {
    const char *const *modalities, *const *views, *const *body_parts;
    size_t modality_count, view_count, body_part_count;
    bool require_modality, require_view, require_body_part;
    enum mf_study_order order;
    uint32_t max_frames; /* 0 = 32; of n more, round(k·(n−1)/(max−1)) are taken */
    uint32_t max_priors; /* studies; 0 = 31, the newest ones */
    bool no_priors;
    uint32_t prior_days;       /* how much earlier a prior may be; 0 = any time */
    bool prior_same_body_part; /* priors show a body part that the current study shows; images that
                                  name none go with all */
    /* By slice only: the series becomes a volume (volume.h), of whose planes the sequence is made.
     * A voxel of 0 mm = frames as they are; max_slices is max_frames. */
    struct mf_volume_rules volume;
};

/* One study of the index. */
struct mf_study {
    const char *study_instance_uid; /* "" when absent */
    const char *modality; /* of its first usable image, else of its first object; may be NULL */
    const char *study_date, *study_time, *timezone_offset;
    struct mf_order order; /* each number from the first object that has it */
    const struct mf_index_object *const *objects; /* all of them, in index order */
    size_t object_count;
    size_t usable; /* images that the rules accept */
};

struct mf_study_patient {
    const char *patient_id, *issuer; /* NULL when absent; patient data: not for messages or logs */
    const struct mf_study *studies;  /* oldest first */
    size_t study_count;
};

struct mf_study_skipped {
    const struct mf_index_object *object; /* NULL: not a DICOM object, named by `name` */
    const char *name; /* SOP Instance UID, else the object's name in the index */
    const char *reason;
};

struct mf_study_list;

/* Groups and judges the objects of an index, which must outlive the list. */
struct mf_study_list *mf_study_list_new(const struct mf_index *index,
                                        const struct mf_study_rules *rules,
                                        struct mf_error *err) MF_CHECK_RESULT;
void mf_study_list_free(struct mf_study_list *list);

/* Patients in the order of their first object. */
const struct mf_study_patient *mf_study_list_patients(const struct mf_study_list *list,
                                                      size_t *count);
/* Everything that no request would use, in index order. */
const struct mf_study_skipped *mf_study_list_skipped(const struct mf_study_list *list,
                                                     size_t *count);

struct mf_study_frame {
    const struct mf_index_object *object;
    uint32_t object_index; /* of `object` in index->objects */
    uint32_t frame;        /* 0-based */
    bool prior;
    const char *acquired;  /* ISO 8601 in the precision known, or NULL */
    int64_t acquired_ms;   /* begin of that time; INT64_MIN when unknown */
    double slice_position; /* mm along the normal; NaN when unknown */
};

/* The input of one inference. Owned by the list. */
struct mf_study_request {
    const struct mf_study_patient *patient;
    const struct mf_study *study;        /* the current one */
    const struct mf_study_frame *frames; /* oldest first, or by slice position */
    size_t frame_count, prior_count;     /* prior_count: studies that gave a prior frame */
    struct mf_demographics demographics; /* of the current study, from its newest frame */
    struct mf_time study_time;           /* of the current study; MF_TIME_UNKNOWN without a date */
    /* The volume whose planes are analysed, or NULL. Frame k is then the stored slice nearest to
     * plane volume->chosen[k], and its slice_position is the plane's. */
    const struct mf_volume *volume;
    /* By slice: usable images that this request leaves out, other series as a whole. */
    const struct mf_study_skipped *left_out;
    size_t left_out_count;
};

/* Chooses the frames for study `study` of patient `patient`, with earlier studies as priors when
 * `priors`. MF_ERR_UNUSABLE, naming the first reason, when the study has no usable image. */
const struct mf_study_request *mf_study_list_request(struct mf_study_list *list, size_t patient,
                                                     size_t study, bool priors,
                                                     struct mf_error *err) MF_CHECK_RESULT;

/* The request of a job: all objects must belong to one patient; the newest usable study is current.
 * MF_ERR_UNUSABLE says why not: several patients, no usable image (and the first reason). */
const struct mf_study_request *mf_study_list_job(struct mf_study_list *list, bool priors,
                                                 struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_study_list, struct mf_study_list *, mf_study_list_free(*p))

#endif
