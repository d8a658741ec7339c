/* Storage commitments under libFuzzer: the first byte chooses the encoding; what is accepted has
 * the UIDs that it must have. */
#include "dicom/commitment.h"
#include "dicom/instance.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    struct mf_error err = MF_ERROR_INIT;
    struct mf_commitment c;
    struct mf_arena *arena = mf_arena_new((size_t)64 << 20);
    if (!arena)
        abort();
    bool ok = mf_commitment_read(data + 1, size - 1, data[0] & 1, arena, &c, &err);
    if (ok != (err.code == MF_OK))
        abort();
    if (ok && (!mf_uid_valid(c.transaction) || c.count == 0 || c.count > MF_COMMITMENT_ITEMS))
        abort();
    for (size_t i = 0; ok && i < c.count; i++)
        if (!mf_uid_valid(c.items[i].sop_class) || !mf_uid_valid(c.items[i].sop_instance))
            abort();
    mf_arena_free(arena);
    return 0;
}
