/* A dot-matrix font for text that is burned into pictures: printable ASCII, 5 × 7 dots. */
#ifndef MF_DICOM_FONT_H
#define MF_DICOM_FONT_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { MF_FONT_COLUMNS = 5, MF_FONT_ROWS = 7 };

/* MF_FONT_ROWS rows, the leftmost dot in bit 4; anything but printable ASCII is a question mark. */
const uint8_t *mf_font_glyph(char c);

#ifdef __cplusplus
}
#endif

#endif
