/*
 * A result for sites without FHIR: an HL7 v2.5.1 message ORU^R01 (chapter 7, observation
 * reporting), in its text form (ER7).
 */
#ifndef MF_FHIR_ORU_H
#define MF_FHIR_ORU_H

#include "fhir/report.h"

#ifdef __cplusplus
extern "C" {
#endif

/* MSH, PID, OBR for the study, and for each label an OBX with what the conformal set says (CWE, the
 * label's first coding) and one with the probability (NM); NTE with what limits it. Segments end
 * with a carriage return; text is UTF-8 and escaped. Everything is preliminary (no physician has
 * seen it), or corrected when it supersedes another result. `context->issued` is the message's
 * time. The caller frees the text. NULL with MF_ERR_MALFORMED when `result` is no
 * medfusion.result/1, MF_ERR_NO_MEMORY. */
char *mf_fhir_oru(const json_t *result, const struct mf_fhir_report_context *context,
                  struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
