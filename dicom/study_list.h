/* The list of study.h from inside. Private to study*.c. */
#ifndef MF_DICOM_STUDY_LIST_H
#define MF_DICOM_STUDY_LIST_H

#include "dicom/study.h"

struct mf_study_entry {
    const struct mf_index_object *object;
    const char *reason; /* why it is not used, or NULL */
};

struct mf_study_list {
    struct mf_arena *arena;
    const struct mf_index *index;
    struct mf_study_rules rules;    /* defaults filled in; its lists are used only while judging */
    struct mf_study_entry *entries; /* one per object, in index order */
    struct mf_study_entry **sorted; /* scratch */
    size_t count;
    struct mf_study_patient *patients;
    size_t patient_count;
    struct mf_study_skipped *skipped;
    size_t skipped_count;
};

/* The frames of a request while they are gathered. */
struct mf_study_frames {
    struct mf_study_frame *list;
    size_t count;
    const char *series; /* by slice: the one they are of */
};

bool mf_study_is_usable(const struct mf_study_list *list, const struct mf_index_object *object);
/* Whether the object is of this series; NULL = of any. */
bool mf_study_in_series(const struct mf_index_object *object, const char *series);
/* Usable frames of a study or of one of its series. */
size_t mf_study_count_frames(const struct mf_study_list *list, const struct mf_study *study,
                             const char *series);

/* For a request by slice: makes its volume, where the rules ask for one, with the frames of its
 * planes, and lists what is left out. study_slices.c */
bool mf_study_finish_slices(struct mf_study_list *list, const struct mf_study_frames *frames,
                            struct mf_study_request *request, struct mf_error *err) MF_CHECK_RESULT;

#endif
