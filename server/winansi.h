/*
 * Text for PDF's standard fonts: UTF-8 to WinAnsiEncoding (PDF 32000-1, annex D.2), which has the
 * letters of Western European languages.
 */
#ifndef MF_SERVER_WINANSI_H
#define MF_SERVER_WINANSI_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Writes as much as fits, always ended. Other characters become '?', a few signs words ("≥" ">=");
 * true when every one of `utf8` was written. Malformed UTF-8 counts as other characters. */
bool mf_winansi(const char *utf8, char *ret, size_t size);

#ifdef __cplusplus
}
#endif

#endif
