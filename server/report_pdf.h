/*
 * The report of a result as PDF (ISO 32000-1): one page A4 with the newest images and what the
 * segmenter outlined, findings with their uncertainty, patient data and provenance. Fonts are PDF's
 * standard ones, so that nothing is embedded but images; a name that they cannot write is left out
 * (the patient's ID is there), other text has '?' for what they lack. What does not fit on the page
 * is said to be in the result.
 */
#ifndef MF_SERVER_REPORT_PDF_H
#define MF_SERVER_REPORT_PDF_H

#include "server/report.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Appends the file. Errors are those of decoding the images, and MF_ERR_INTERNAL when the PDF
 * cannot be made. */
bool mf_report_pdf(const struct mf_report *report, struct mf_buffer *out,
                   struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
