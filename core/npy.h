/* NumPy's array files (format 1.0): writing, for command-line output and tests. */
#ifndef MF_CORE_NPY_H
#define MF_CORE_NPY_H

#include "core/error.h"
#include "core/frame.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { MF_NPY_DIMENSIONS = 4 };

/* Writes `data`, C order, shape[0…dimensions) with at most MF_NPY_DIMENSIONS. The file appears
 * whole or not at all. MF_ERR_IO names the path. */
bool mf_npy_write(const char *path, enum mf_sample_type type, const size_t *shape,
                  size_t dimensions, const void *data, struct mf_error *err);

#ifdef __cplusplus
}
#endif

#endif
