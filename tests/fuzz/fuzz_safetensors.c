/* Any bytes as a safetensors file: refused, or every tensor lies inside the bytes and can be read
 * to its last element. */
#include "engine/safetensors.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_safetensors)
    struct mf_safetensors *file = mf_safetensors_parse(data, size, "fuzz", &err);
    if (!file) {
        if (err.code != MF_ERR_MALFORMED || !err.msg[0])
            __builtin_trap();
        return 0;
    }
    for (size_t i = 0; i < mf_safetensors_count(file); i++) {
        const struct mf_tensor *t = mf_safetensors_at(file, i);
        const uint8_t *begin = t->data, *end = begin + t->count * mf_dtype_size(t->dtype);
        if (begin < data || end > data + size || mf_safetensors_find(file, t->name) == NULL)
            __builtin_trap();
        mf_tensor_is_finite(t);
        MF_AUTO(mf_mem) float *out = malloc((t->count + 1) * sizeof *out);
        if (out)
            mf_tensor_to_floats(t, out);
    }
    return 0;
}
