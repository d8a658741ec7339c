/*
 * Feature values of one patient at one moment, by a feature definition (core/feature.h).
 *
 * Sources are asked in the order of the definition. A source that has nothing, or only values older
 * than the look-back window, passes the question on; the first one with a value decides, also when
 * that value is implausible: a contradiction between two records is shown, not papered over.
 *
 * Observations count when
 *   - their status is neither entered-in-error nor cancelled, they carry one of the codings (system
 * and code) in Observation.code or component.code, and a value without dataAbsentReason (Quantity,
 * integer, string, boolean or CodeableConcept; one of a kind that the feature cannot take is
 * implausible);
 *   - they were made before or at the reference time and inside the look-back window. Their time is
 *     effectiveDateTime, effectiveInstant or effectivePeriod, else issued. Times are intervals:
 *     "2019-03-07" is a day, "2019-03" a month. An Observation is after the study when its interval
 * begins at or after the end of the study's interval; where the intervals overlap, it may stick out
 * by at most one day at either end (a laboratory value dated on the day of the study counts, one
 * dated only to the year of the study does not, for it may be months later). An Observation without
 * a time never counts.
 *   - When the reference time has no time zone (most DICOM studies), Observations are compared by
 * their local clock, because both clocks hang in the same hospital. Otherwise by UTC.
 *
 * Of the Observations that count, values that are implausible (outside the range, or in a unit that
 * is neither the feature's nor listed in its conversions) are set aside, and `pick` chooses among
 * the rest. Only when no value is left, the implausible one is reported. Equal times: the later
 * `issued`, then the later in the document is the last. A value that is there twice (same time,
 * same number) counts once in a mean.
 */
#ifndef MF_FHIR_EXTRACT_H
#define MF_FHIR_EXTRACT_H

#include "core/arena.h"
#include "core/feature.h"
#include "fhir/document.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Fills values[set->count]. `patient` may be NULL (no FHIR: only dicom: sources answer),
 * `demographics` may be NULL (no DICOM). `at` is the study's time; with MF_TIME_UNKNOWN no
 * Observation counts and no age is computed from a birth date. Strings of the values live in
 * `arena`, in the set or in the document. False: MF_ERR_NO_MEMORY or MF_ERR_TOO_LARGE (the arena's
 * ceiling). */
bool mf_fhir_extract(const struct mf_feature_set *set, const struct mf_fhir_patient *patient,
                     const struct mf_demographics *demographics, const struct mf_time *at,
                     struct mf_arena *arena, struct mf_feature_value *values, struct mf_error *err);

/* The document of `medfusion fhir features`: {"reference_time", "patient", "features": […]}. */
json_t *mf_fhir_features_to_json(const struct mf_feature_set *set,
                                 const struct mf_feature_value *values,
                                 const char *patient_reference, const struct mf_time *at);

#ifdef __cplusplus
}
#endif

#endif
