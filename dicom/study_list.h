/* The list of study.h from inside. Private to study.c and study_request.c. */
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

#endif
