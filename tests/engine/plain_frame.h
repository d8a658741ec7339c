/* An 8-bit radiograph without anything special about it, for tests that need some frame. */
#ifndef MF_TESTS_ENGINE_PLAIN_FRAME_H
#define MF_TESTS_ENGINE_PLAIN_FRAME_H

#include "core/frame.h"

/* The samples stay the caller's. */
static inline struct mf_frame plain_frame(const uint8_t *samples, uint32_t rows, uint32_t columns)
{
    return (struct mf_frame){.rows = rows,
                             .columns = columns,
                             .samples_per_pixel = 1,
                             .type = MF_SAMPLE_U8,
                             .photometric = MF_PHOTOMETRIC_MONOCHROME2,
                             .bits_stored = 8,
                             .high_bit = 7,
                             .samples = samples,
                             .rescale_slope = 1};
}

#endif
