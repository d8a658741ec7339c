/*
 * A Parameters resource (http://hl7.org/fhir/R4/parameters.html) as the parts of a multipart
 * upload: the envelope of POST /fhir/$infer. Only the envelope is read; DICOM objects are decoded
 * from base64, and EHR resources are passed on as text, for a decoder to parse.
 */
#ifndef MF_SERVER_FHIR_PARAMETERS_H
#define MF_SERVER_FHIR_PARAMETERS_H

#include "core/error.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The boundary between the parts that are written, fresh for every call. */
enum { MF_FHIR_BOUNDARY = 49 };

/* Takes what is written, piece by piece. */
typedef bool (*mf_fhir_write)(void *context, const void *data, size_t len, struct mf_error *err);

/* Parameters:  dicom  resource (Binary) or valueAttachment, with data; one or more
 *              ehr    resource, at most one
 *              model (valueString), alpha (valueDecimal), priors (valueBoolean), priority
 *              (valueCode): options
 * MF_ERR_MALFORMED, MF_ERR_UNUSABLE: the message names the element. */
bool mf_fhir_parameters_to_multipart(const char *text, size_t len,
                                     const char boundary[MF_FHIR_BOUNDARY], mf_fhir_write write,
                                     void *context, struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
