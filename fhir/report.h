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
#include "core/order.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a result does not hold; all may be NULL, and then the element is left out. */
struct mf_fhir_report_context {
    const char *patient_reference; /* "Patient/1" in the receiver's EHR; NULL = the Patient resource
                                    * that EHR features of the result came from, if any did */
    const char *patient_id, *patient_issuer; /* of the study: a logical reference by identifier */
    struct mf_order order;
    const char *issued; /* FHIR instant: when the result was made */
    bool foreign; /* the receiver does not have the EHR's resources that the features came from:
                     they are named, not referred to */
    const json_t *superseded; /* the result of the same study that this one takes the place of */
    const char *receiving_application, *receiving_facility; /* MSH-5 and MSH-6 of HL7 v2 */
};

enum mf_fhir_bundle_type {
    MF_FHIR_BUNDLE_COLLECTION,
    MF_FHIR_BUNDLE_TRANSACTION, /* POST with ifNoneExist: sending it twice stores it once */
    MF_FHIR_BUNDLE_STORED /* a collection whose resources refer to each other by type and id, as
                             they do when each is read from here alone */
};

/* A Bundle of
 *   DiagnosticReport  preliminary (no physician has seen it), amended when it supersedes another;
 * the study by its UID, a conclusion, a narrative Observation       one a finding: the label's
 * codings, present / absent / indeterminate by the conformal set, components for probability and
 * p-values, a note with the guarantee RiskAssessment    one an outcome (a prediction of kind
 * "outcome"): its probability, the same note Provenance        who made this of what; only when
 * context->issued is known Device the model (name, version, digest) and this software `fullUrl`s
 * are urn:uuid of version 8 (RFC 9562) from SHA-256 over study UID, model digest, job and resource:
 * the same result gives the same Bundle. Resources of a job have the job's id in theirs
 * ("JOB", "JOB-0" …, "JOB-device", "JOB-provenance"). In a transaction everything is made
 * conditionally, by that URN as identifier (the Provenance, which has none, is put under its UUID).
 *
 * NULL with MF_ERR_MALFORMED when `result` is no medfusion.result/1, MF_ERR_NO_MEMORY. The caller
 * owns it. */
json_t *mf_fhir_report(const json_t *result, const struct mf_fhir_report_context *context,
                       enum mf_fhir_bundle_type type, struct mf_error *err) MF_CHECK_RESULT;

enum { MF_FHIR_PATH = 200 };

/* The element that a message of this module is about ("Bundle.entry[1].resource.code must be …"),
 * as a FHIRPath; false when it names none. */
bool mf_fhir_error_path(const char *message, char out[MF_FHIR_PATH]);

/* OperationOutcome with one issue: code by mf_code_fhir_issue, the offending element as its
 * expression. NULL when out of memory. */
json_t *mf_fhir_operation_outcome(const struct mf_error *error);
/* The same from a stored `medfusion.problem/1`. */
json_t *mf_fhir_operation_outcome_from_problem(const json_t *problem);

#ifdef __cplusplus
}
#endif

#endif
