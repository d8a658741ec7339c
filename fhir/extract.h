/*
 * Feature values of one patient at one moment, by a feature definition (core/feature.h; the
 * language is told in models/FORMAT.md, features.json).
 *
 * Sources are asked in the order of the definition. A source that has nothing, or only values older
 * than the look-back window, passes the question on; the first one with a value decides, also when
 * that value is implausible: a contradiction between two records is shown, not papered over.
 *
 * Records count when
 *   - they stand (not entered in error, cancelled, refuted, not done), they carry one of the
 * codings (system and code) in their code, for Observations also in component.code, and an
 * Observation has a value without dataAbsentReason (one of a kind that the feature cannot take is
 *     implausible);
 *   - they were made before or at the reference time and inside the look-back window. Their time is
 *     effective[x], performed[x], authoredOn, started …, else issued or recorded; a member of a
 *     panel that says none has the panel's. Times are intervals: "2019-03-07" is a day, "2019-03" a
 *     month. A record is after the study when its interval begins at or after the end of the
 * study's interval; where the intervals overlap, it may stick out by at most one day at either end
 * (a laboratory value dated on the day of the study counts, one dated only to the year of the study
 *     does not, for it may be months later). A record without a time never counts. What lasts (a
 *     Condition, an Encounter, a medication) has begun by then and is inside the window while it
 *     lasts.
 *   - When the reference time has no time zone (most DICOM studies), times are compared by their
 *     local clock, because both clocks hang in the same hospital. Otherwise by UTC.
 *
 * Of the values that count, those that another of the same moment and code replaces (final before
 * preliminary, corrected before both) and those that are implausible (outside the range, or in a
 * unit that cannot be converted) are set aside, and `pick` chooses among the rest. Only when no
 * value is left, the implausible one is reported. Equal times: the better standing, the later
 * `issued`, the later meta.lastUpdated, then the later name is the last, never the place in the
 * document. A value that is there twice (same time,
 * same number) counts once where many are put together.
 *
 * Derived sources and policies come last: see models/FORMAT.md.
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
 * `arena`, in the set or in the document. False: MF_ERR_UNUSABLE (a feature's policy refuses the
 * study), MF_ERR_NO_MEMORY or MF_ERR_TOO_LARGE (the arena's ceiling). */
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
