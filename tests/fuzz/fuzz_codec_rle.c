/* RLE (PS3.5 annex G): see codec.h. */
#include "tests/fuzz/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return fuzz_codec(mf_rle_decode, data, size);
}
