/* JPEG-LS (ISO 14495-1), DCMTK's: see codec.h. */
#include "tests/fuzz/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return fuzz_codec(mf_jpeg_ls_decode, data, size);
}
