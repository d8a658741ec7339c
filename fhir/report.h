/*
 * Results for an EHR: `medfusion.result/1` → a FHIR R4 Bundle, problems → OperationOutcome.
 *
 * Both read the JSON documents (core/result.h), so a report can be made from a stored result at any
 * time and says exactly what the result says.
 */
#ifndef MF_FHIR_REPORT_H
#define MF_FHIR_REPORT_H

#include "core/error.h"
#include "core/json.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a result does not hold; all may be NULL, and then the element is left out. */
struct mf_fhir_report_context {
    const char *patient_reference; /* "Patient/1" in the receiver's EHR; NULL = the Patient resource
                                    * that EHR features of the result came from, if any did */
    const char *patient_id, *patient_issuer; /* of the study: a logical reference by identifier */
    const char *accession_number;
    const char *issued; /* FHIR instant: when the result was made */
};

enum mf_fhir_bundle_type {
    MF_FHIR_BUNDLE_COLLECTION,
    MF_FHIR_BUNDLE_TRANSACTION /* POST with ifNoneExist: sending it twice stores it once */
};

/* A Bundle of
 *   DiagnosticReport  preliminary (no physician has seen it), the study by its UID, a conclusion, a
 * narrative Observation       one a label: the label's codings, present / absent / indeterminate by
 * the conformal set, components for probability and p-values, a note with the guarantee Device the
 * model (name, version, digest) and this software Labels are findings that are there or not at the
 * time of the study, so they are Observations; a RiskAssessment would claim a prognosis. `fullUrl`s
 * are urn:uuid of version 8 (RFC 9562) from SHA-256 over study UID, model digest, job and resource:
 * the same result gives the same Bundle.
 *
 * NULL with MF_ERR_MALFORMED when `result` is no medfusion.result/1, MF_ERR_NO_MEMORY. The caller
 * owns it. */
json_t *mf_fhir_report(const json_t *result, const struct mf_fhir_report_context *context,
                       enum mf_fhir_bundle_type type, struct mf_error *err) MF_CHECK_RESULT;

/* OperationOutcome with one issue (code by mf_code_fhir_issue). NULL when out of memory. */
json_t *mf_fhir_operation_outcome(const struct mf_error *error);
/* The same from a stored `medfusion.problem/1`. */
json_t *mf_fhir_operation_outcome_from_problem(const json_t *problem);

#ifdef __cplusplus
}
#endif

#endif
