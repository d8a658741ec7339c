/* NumPy's format 1.0: magic, length of the header, a Python dictionary padded to 64 bytes, the
 * data. */
#include "core/npy.h"

#include "core/outfile.h"

#include <string.h>

/* Type descriptions; the byte order is the machine's. */
static const char *const TYPES[MF_SAMPLE_TYPE_COUNT] = {"u1", "i1", "u2", "i2",
                                                        "u4", "i4", "f4", "f8"};

bool mf_npy_write(const char *path, enum mf_sample_type type, const size_t *shape,
                  size_t dimensions, const void *data, struct mf_error *err)
{
    char header[256], dims[128] = "";
    size_t bytes = mf_sample_size(type), used = 0;
    char order = bytes == 1 ? '|' : __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? '<' : '>';
    for (size_t i = 0; i < dimensions && i < MF_NPY_DIMENSIONS; i++) {
        used += (size_t)snprintf(dims + used, sizeof dims - used, "%zu,", shape[i]);
        bytes *= shape[i];
    }
    static const char MAGIC[8] = {'\x93', 'N', 'U', 'M', 'P', 'Y', 1, 0};
    memcpy(header, MAGIC, sizeof MAGIC);
    int n = snprintf(header + 10, sizeof header - 10,
                     "{'descr': '%c%s', 'fortran_order': False, 'shape': (%s), }", order,
                     TYPES[type], dims);
    size_t total = (10 + (size_t)n + 1 + 63) / 64 * 64;
    memset(header + 10 + n, ' ', total - 10 - (size_t)n);
    header[total - 1] = '\n';
    header[8] = (char)((total - 10) & 0xFF);
    header[9] = (char)((total - 10) >> 8);
    struct mf_outfile out;
    if (!mf_outfile_open(&out, path, err))
        return false;
    fwrite(header, 1, total, out.file);
    if (bytes)
        fwrite(data, 1, bytes, out.file);
    return mf_outfile_commit(&out, err);
}
