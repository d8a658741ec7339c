/* PNG (libpng): writing grey and RGB pictures. */
#ifndef MF_SERVER_PNG_H
#define MF_SERVER_PNG_H

#include "core/error.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* rows · columns · channels (1 grey, 3 RGB) samples of `bits` (8, or 16 in the machine's byte
 * order), row-major. The file appears whole or not at all. MF_ERR_IO names the path. */
bool mf_png_write(const char *path, uint32_t rows, uint32_t columns, uint32_t channels,
                  uint32_t bits, const void *samples, struct mf_error *err);

#ifdef __cplusplus
}
#endif

#endif
