/* Reading single values for extract.c. Not for other modules. */
#ifndef MF_FHIR_VALUES_H
#define MF_FHIR_VALUES_H

#include "core/arena.h"
#include "core/feature.h"
#include "fhir/internal.h"

/* The value[x] of an Observation or component as the feature wants it. False when there is none (no
 * value, dataAbsentReason). Else `ret` is USED, or IMPLAUSIBLE with what was found. Neither source
 * nor time. */
bool mf_fhir_read_value(const struct mf_feature *feature, const json_t *holder,
                        struct mf_feature_value *ret);

/* `value` in `unit` as a number in the feature's unit; false when it cannot be converted. NULL and
 * "" mean a number without unit ("1"). Annotations ("{beats}/min") say nothing about the quantity
 * (UCUM §6). */
bool mf_fhir_convert(const struct mf_feature *feature, double value, const char *unit, double *ret);

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

#endif
