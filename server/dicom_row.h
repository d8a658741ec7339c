/* Reading DICOM JSON (PS3.18 annex F) that is jansson's already: whatever it holds, nothing fails.
 */
#ifndef MF_SERVER_DICOM_ROW_H
#define MF_SERVER_DICOM_ROW_H

#include "core/json.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The values of an attribute ("0020000D") of an object, borrowed; NULL = none. */
const json_t *mf_dicom_row_values(const json_t *object, const char *tag);
/* The first one as text, "" = none. */
const char *mf_dicom_row_text(const json_t *object, const char *tag);
/* The n-th item of a sequence, or NULL. */
const json_t *mf_dicom_row_item(const json_t *object, const char *tag, size_t n);

#ifdef __cplusplus
}
#endif

#endif
