/*
 * The report of a result as one HTML page that needs nothing else: images with what the segmenter
 * outlined, findings with their uncertainty, and where all of it comes from. For paper (A4) and
 * screen, without scripts.
 */
#ifndef MF_SERVER_REPORT_H
#define MF_SERVER_REPORT_H

#include "core/json.h"
#include "dicom/index.h"
#include "server/artifacts.h"

#ifdef __cplusplus
extern "C" {
#endif

struct mf_report {
    const struct mf_index *index; /* where the images are, and whose they are */
    const json_t *result;         /* medfusion.result/1 */
    const json_t *masks;          /* medfusion.masks/1, or NULL */
    const struct mf_artifact_images *images;
    const char *made; /* when the result was made, ISO 8601; NULL: not told */
};

/* Appends the page (UTF-8). Errors are those of decoding the images. */
bool mf_report_html(const struct mf_report *report, struct mf_buffer *out,
                    struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
