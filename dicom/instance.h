/*
 * Instance: what is kept of a stored object beside its bytes, and by which it is found again.
 *
 * The attributes are those that a search must be able to match or return at the levels of study,
 * series and instance (PS3.18 10.6.1.2.3 and 10.6.3.3), one table for reading them from a data set,
 * storing, matching and returning them. Values are UTF-8 as in the data set ("\" between values),
 * trimmed, without control characters.
 */
#ifndef MF_DICOM_INSTANCE_H
#define MF_DICOM_INSTANCE_H

#include "core/arena.h"
#include "core/error.h"
#include "core/json.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum mf_level { MF_LEVEL_STUDY, MF_LEVEL_SERIES, MF_LEVEL_INSTANCE };

enum mf_attribute_id {
    MF_STUDY_DATE,
    MF_STUDY_TIME,
    MF_ACCESSION_NUMBER,
    MF_REFERRING_PHYSICIAN,
    MF_TIMEZONE_OFFSET,
    MF_STUDY_DESCRIPTION,
    MF_PATIENT_NAME,
    MF_PATIENT_ID,
    MF_PATIENT_ID_ISSUER,
    MF_PATIENT_BIRTH_DATE,
    MF_PATIENT_SEX,
    MF_STUDY_UID,
    MF_STUDY_ID,
    MF_MODALITY,
    MF_SERIES_DESCRIPTION,
    MF_BODY_PART,
    MF_SERIES_UID,
    MF_SERIES_NUMBER,
    MF_STEP_DATE,
    MF_STEP_TIME,
    MF_SOP_CLASS_UID,
    MF_SOP_INSTANCE_UID,
    MF_INSTANCE_NUMBER,
    MF_FRAME_COUNT,
    MF_ROWS,
    MF_COLUMNS,
    MF_BITS_ALLOCATED,
    MF_ATTRIBUTE_COUNT
};

struct mf_attribute {
    uint32_t tag;
    const char *vr, *keyword; /* PS3.6; the keyword is also the column in the store */
    enum mf_level level;
};

extern const struct mf_attribute mf_attributes[MF_ATTRIBUTE_COUNT];

/* True for 1 to 64 digits and dots. */
bool mf_uid_valid(const char *uid);

/* The attribute with this tag ("0020000D") or keyword; −1 when it is none of the table. */
int mf_attribute_find(const char *name);

struct mf_instance {
    const char *values[MF_ATTRIBUTE_COUNT]; /* NULL when absent or empty */
    const char *transfer_syntax;
    uint64_t data_set; /* where the data set begins: behind the file meta information */
};

/* Reads one Part 10 file. Its whole structure is checked (prescan.h); the four UIDs that name it
 * must be there. Strings lie in the arena. MF_ERR_MALFORMED, MF_ERR_UNSUPPORTED (unknown transfer
 * syntax, or an image in one that is not decoded), MF_ERR_TOO_LARGE. */
bool mf_instance_read(const void *data, size_t length, struct mf_arena *arena,
                      struct mf_instance *ret, struct mf_error *err) MF_CHECK_RESULT;

/* As JSON between processes; reading checks everything, the strings lie in the arena. */
json_t *mf_instance_to_json(const struct mf_instance *instance);
bool mf_instance_from_json(const json_t *json, struct mf_arena *arena, struct mf_instance *ret,
                           struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
