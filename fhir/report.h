/*
 * Results for an EHR: `medfusion.result/1` → a FHIR R4 Bundle, problems → OperationOutcome.
 *
 * Both read the JSON documents (core/result.h), so a report can be made from a stored result at any time
 * and says exactly what the result says.
 */
#ifndef MF_FHIR_REPORT_H
#define MF_FHIR_REPORT_H

#include "core/error.h"
#include "core/json.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a result does not hold. All may be NULL. */
struct mf_fhir_report_context {
    const char *patient_reference;  /* "Patient/1" in the receiver's EHR; wins over the identifier */
    const char *patient_id, *patient_issuer; /* logical reference by identifier */
    const char *accession_number;
    const char *issued; /* instant; NULL = the result's study time is used nowhere, `issued` is left out */
};

enum mf_fhir_bundle_type {
    MF_FHIR_BUNDLE_COLLECTION,
    MF_FHIR_BUNDLE_TRANSACTION /* every entry with a PUT-like conditional create (ifNoneExist) */
};

/* Bundle with one DiagnosticReport, one Observation per label, one RiskAssessment (probabilities) and one
 * Device (model and software). `fullUrl`s are urn:uuid of version 8 (RFC 9562), made from SHA-256 over the
 * study UID, the model's digest, the job and the label: the same result gives the same Bundle.
 * NULL with MF_ERR_MALFORMED when `result` is no medfusion.result/1, MF_ERR_NO_MEMORY. */
json_t *mf_fhir_report(const json_t *result, const struct mf_fhir_report_context *context,
                       enum mf_fhir_bundle_type type, struct mf_error *err) MF_CHECK_RESULT;

/* OperationOutcome with one issue (severity error or fatal, code by mf_code_fhir_issue, diagnostics). */
json_t *mf_fhir_operation_outcome(const struct mf_error *error);
/* The same from a stored `medfusion.problem/1`. */
json_t *mf_fhir_operation_outcome_from_problem(const json_t *problem);

#ifdef __cplusplus
}
#endif

#endif
