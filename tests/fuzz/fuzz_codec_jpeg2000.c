/* JPEG 2000 and High-Throughput JPEG 2000, OpenJPEG's: see codec.h. */
#include "tests/fuzz/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return fuzz_codec(mf_jpeg2000_decode, data, size);
}
