/* Text as a value of its VR (PS3.5 6.2). Private to the writer. */
#ifndef MF_DICOM_WRITER_TEXT_H
#define MF_DICOM_WRITER_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* `utf8` (length bytes, no NUL inside) as one value of the VR in `out` (size bytes, NUL-terminated;
 * at least 4 · 64 · 3 + 8 for a PN, length + 1 for UT). What does not fit becomes "" or is cut. */
void mf_writer_text(const char *vr, const char *utf8, size_t length, char *out, size_t size);

#ifdef __cplusplus
}
#endif

#endif
