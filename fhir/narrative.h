/* The human-readable parts of a report. Not for other modules. */
#ifndef MF_FHIR_NARRATIVE_H
#define MF_FHIR_NARRATIVE_H

#include "core/json.h"

/* DiagnosticReport.conclusion: the findings and what limits them, in sentences. New reference or
 * NULL. */
json_t *mf_fhir_conclusion(const json_t *result);

/* DiagnosticReport.text: an XHTML table of all labels (http://hl7.org/fhir/R4/narrative.html). */
json_t *mf_fhir_narrative(const json_t *result);

/* Observation.note of one prediction: its conformal set, alpha, and what the guarantee is worth. */
json_t *mf_fhir_prediction_note(const json_t *result, const json_t *prediction);

#endif
