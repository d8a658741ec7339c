/*
 * De-identification of one object: the Basic Application Level Confidentiality Profile of PS3.15
 * annex E, with options.
 *
 * Every attribute of Table E.1-1 is treated as dicom/deidentify.txt says, at every level; beyond
 * the table go private attributes, curves, overlays (also those in unused bits of native pixel
 * data), person names, dates and times that it does not list, and values of unknown
 * representation. Then whatever free text is left is searched for the identifiers that were taken
 * out, and blanked where it holds one. UIDs become 2.25.… and the patient a pseudonym, both by
 * HMAC-SHA256 under a secret, so that objects of one patient still belong together.
 */
#ifndef MF_DICOM_DEIDENTIFY_H
#define MF_DICOM_DEIDENTIFY_H

#include "core/buffer.h"
#include "core/error.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum mf_deidentify_dates {
    MF_DATES_REMOVE,
    MF_DATES_SHIFT, /* back by days that depend on the patient, 1 to 3650; times stay */
    MF_DATES_KEEP
};

enum { MF_DEIDENTIFY_KEY = 32 };

struct mf_deidentify_rules {
    unsigned char key[MF_DEIDENTIFY_KEY]; /* the secret, or a digest of it */
    enum mf_deidentify_dates dates;
    bool characteristics; /* sex, age, size, weight … are kept (Retain Patient Characteristics) */
    bool content; /* text of structured content is kept (Clean Structured Content): only for objects
                     whose text is known to name nobody, as that of our own reports */
};

/* Rules from a secret of any length and names of options; MF_ERR_USAGE names what is wrong. */
bool mf_deidentify_rules_make(const void *secret, size_t length, const char *dates,
                              bool characteristics, struct mf_deidentify_rules *ret,
                              struct mf_error *err) MF_CHECK_RESULT;

/* Appends the de-identified Part 10 file of the one at `data` to `ret`, in its own transfer syntax
 * (a deflated one inflated). The structure is checked by the pre-scanner before DCMTK reads it, and
 * so is what DCMTK made of it: on failure `ret` is as it was.
 * MF_ERR_MALFORMED; MF_ERR_UNUSABLE where no profile can help: pixels that are said to hold
 * identifying text, encapsulated documents, overlays in the bits of compressed pixels. Needs
 * mf_dicom_init(). */
bool mf_deidentify(const void *data, size_t length, const struct mf_deidentify_rules *rules,
                   struct mf_buffer *ret, struct mf_error *err) MF_CHECK_RESULT;

/* Another UID for `uid`, always the same. Those of the standard itself (1.2.840.10008.…) and empty
 * ones stay. False without memory. */
enum { MF_DEIDENTIFY_UID = 65 };
bool mf_deidentify_uid(const struct mf_deidentify_rules *rules, const char *uid,
                       char out[MF_DEIDENTIFY_UID]);

#ifdef __cplusplus
}
#endif

#endif
