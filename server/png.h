/* PNG (libpng): writing grey and RGB pictures, to a file or to memory. */
#ifndef MF_SERVER_PNG_H
#define MF_SERVER_PNG_H

#include "core/buffer.h"
#include "core/error.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mf_png {
    uint32_t rows, columns;
    uint32_t channels;   /* 1 grey, 3 RGB */
    uint32_t bits;       /* 8, or 16 in the machine's byte order */
    const void *samples; /* rows · columns · channels, row-major */
    /* What the samples stand for, when `unit` is not NULL (chunk pCAL, linear): the values of 0 and
     * of the largest sample. */
    const char *unit;
    double low, high;
    /* One line of text about the picture (chunk tEXt), or NULL. */
    const char *keyword, *text;
};

/* Appends the picture to `out`. MF_ERR_TOO_LARGE over the buffer's ceiling. */
bool mf_png_encode(const struct mf_png *png, struct mf_buffer *out,
                   struct mf_error *err) MF_CHECK_RESULT;

/* The file appears whole or not at all. MF_ERR_IO names the path. */
bool mf_png_write(const char *path, uint32_t rows, uint32_t columns, uint32_t channels,
                  uint32_t bits, const void *samples, struct mf_error *err);

#ifdef __cplusplus
}
#endif

#endif
