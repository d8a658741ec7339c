/* Reading single values for extract.c. Not for other modules. */
#ifndef MF_FHIR_VALUES_H
#define MF_FHIR_VALUES_H

#include "core/arena.h"
#include "core/feature.h"
#include "fhir/record.h"

/* What an Observation or component says, as the feature wants it. False when it says nothing (no
 * value, dataAbsentReason). Else `ret` is USED, or IMPLAUSIBLE with what was found. Neither source
 * nor time. */
bool mf_fhir_read_value(const struct mf_feature *feature, enum mf_feature_read what,
                        const struct mf_fhir_item *item, struct mf_feature_value *ret);

/* Fill `ret` as USED or IMPLAUSIBLE: a number in a unit, converted and judged by the range; a
 * category. */
void mf_fhir_set_number(const struct mf_feature *feature, double value, const char *unit,
                        struct mf_feature_value *ret);
void mf_fhir_set_category(const struct mf_feature *feature, const char *text,
                          struct mf_feature_value *ret);

/* Patient.birthDate as completed years at `at`; Patient.gender. Left MISSING when there is none. */
void mf_fhir_read_patient(const struct mf_feature *feature, const char *path,
                          const struct mf_fhir_patient *patient, const struct mf_time *at,
                          struct mf_feature_value *ret);

/* PatientAge (AS), PatientBirthDate (DA), PatientSex, ViewPosition (CS). */
bool mf_fhir_read_demographics(const struct mf_feature *feature, const char *path,
                               const struct mf_demographics *demographics, const struct mf_time *at,
                               struct mf_arena *arena, struct mf_feature_value *ret,
                               struct mf_error *err);

/* An answer to the question for a feature. */
struct mf_fhir_answer {
    struct mf_feature_value value;
    bool usable;         /* a stale value that is none of implausible */
    struct mf_time time; /* of the value; MF_TIME_UNKNOWN = it has none */
};

/* What is asked of a patient's records: one feature, sources of codings, one moment. */
struct mf_fhir_question {
    const struct mf_feature *feature;
    const struct mf_feature_source *sources;
    size_t source_count;
    const struct mf_time *at;
};

/* Answers it by the rules of extract.h; MISSING when there is nothing. MF_ERR_NO_MEMORY. */
bool mf_fhir_ask_records(const struct mf_fhir_question *question,
                         const struct mf_fhir_patient *patient, struct mf_fhir_answer *ret,
                         struct mf_error *err);

#endif
