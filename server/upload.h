/*
 * An upload as the rest of the program knows it: the document that the decoder's `scan` makes and
 * that is kept with a job, `medfusion.scan/1`:
 *
 *   {"schema": "medfusion.scan/1",
 *    "dicom": medfusion.index/1 (dicom/index.h); object.input counts the DICOM parts in their
 * order, "ehr": null, or {"problem": null | {"code", "detail"}, "systems": […], "bundle": a FHIR
 * Bundle with what the features need}}
 *
 * With DICOM of one patient the bundle holds that patient's resources only, `systems` those of the
 * patient's identifiers that are the PatientID ("" = an identifier without), and `problem` says why
 * there are none ("another patient's"). Scanned alone, FHIR of all patients is kept. The text comes
 * from a sandboxed process that hostile bytes may own: readers check everything.
 */
#ifndef MF_SERVER_UPLOAD_H
#define MF_SERVER_UPLOAD_H

#include "core/error.h"
#include "core/json.h"
#include "dicom/index.h"
#include "fhir/document.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes of a document: enough for 10,000 objects. A reader needs about twenty times as much. */
enum { MF_UPLOAD_MAX = 32 << 20 };

struct mf_upload {
    struct mf_index *index;       /* owned; never NULL after parsing */
    struct mf_fhir_document *ehr; /* owned; NULL without a FHIR part, or with a problem */
    struct mf_error ehr_problem;  /* MF_OK when there is none */
    json_t *ehr_systems;          /* owned; strings; NULL when they are not told */
};

/* Writes the document. `index` may be NULL (FHIR alone), `ehr` NULL (no FHIR). The caller frees the
 * text; NULL with an error. */
char *mf_upload_text(const struct mf_index *index, const struct mf_fhir_document *ehr,
                     struct mf_error *err) MF_CHECK_RESULT;

enum mf_upload_read {
    MF_UPLOAD_ALL,
    MF_UPLOAD_WITHOUT_EHR /* the problem of the FHIR part, but not its bundle: the front parses no
                             FHIR */
};

/* Reads and checks one. MF_ERR_MALFORMED when anything is off. */
bool mf_upload_parse(const char *text, size_t len, enum mf_upload_read what, struct mf_upload *ret,
                     struct mf_error *err) MF_CHECK_RESULT;
/* A message that begins with the name `from` begins with `to` instead (of a long one the end is
 * kept, so that the reason has room). False when it does not. */
bool mf_upload_rename(struct mf_error *err, const char *from, const char *to);

void mf_upload_free(struct mf_upload *upload); /* what it owns */

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_upload, struct mf_upload, mf_upload_free(p))

#endif
