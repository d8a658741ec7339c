/*
 * The manifest of `medfusion calibrate`: a CSV with the columns path, patient_id, one per label,
 * and optionally ehr and group (where the study was made). A path is a DICOM file, a zip or a
 * directory; paths are relative to the CSV; a label is 1, 0 or blank. Also the other table that
 * `calibrate` reads: label,prevalence.
 */
#ifndef MF_SERVER_CALIBRATION_MANIFEST_H
#define MF_SERVER_CALIBRATION_MANIFEST_H

#include "core/auto.h"
#include "core/error.h"
#include "engine/bundle.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mf_manifest_row {
    char *path; /* made relative to the current directory */
    char *ehr;  /* likewise; NULL when blank */
    const char *patient_id;
    const char *group; /* NULL when blank */
    int8_t *truth;     /* one per label of the bundle: 1, 0, −1 = not labelled */
    size_t number;     /* of the row, 1 = the first below the header */
};

/* The rows of one patient. */
struct mf_manifest_patient {
    const struct mf_manifest_row *rows;
    size_t row_count;
};

struct mf_manifest;

/* Reads and checks it against the bundle's labels. MF_ERR_UNUSABLE names an unknown column or a
 * label that is not in the bundle, and a file without any label unless it is `unlabelled`;
 * MF_ERR_MALFORMED the row and column of a wrong value. */
struct mf_manifest *mf_manifest_read(const char *path, const struct mf_bundle *bundle,
                                     bool unlabelled, struct mf_error *err) MF_CHECK_RESULT;
void mf_manifest_free(struct mf_manifest *manifest);

/* Patients in the order of their ids; rows of a patient in file order. */
const struct mf_manifest_patient *mf_manifest_patients(const struct mf_manifest *manifest,
                                                       size_t *count);

/* Reads a CSV with the columns label and prevalence (above 0, below 1) into `ret`, one value a
 * label of the bundle, NaN for labels that are not in it. Errors as above. */
bool mf_manifest_read_prevalence(const char *path, const struct mf_bundle *bundle, double *ret,
                                 struct mf_error *err);

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_manifest, struct mf_manifest *, mf_manifest_free(*p))

#endif
