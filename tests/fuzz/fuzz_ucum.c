/*
 * Two lines as units of measure: a unit is converted to itself unchanged, and what is converted one
 * way is converted back to what it was.
 */
#include "core/ucum.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char text[256];
    double there, back;
    if (size >= sizeof text)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    char *second = strchr(text, '\n');
    if (second)
        *second++ = '\0';
    if (mf_ucum_valid(text) && (!mf_ucum_convert(7, text, text, 0, &there) || there != 7))
        abort();
    if (!second || !mf_ucum_convert(7, text, second, 180, &there))
        return 0;
    if (!mf_ucum_valid(text) || !mf_ucum_valid(second))
        abort();
    if (isnormal(there) && fabs(there) > 1e-100 && fabs(there) < 1e100 &&
        (!mf_ucum_convert(there, second, text, 180, &back) || fabs(back - 7) > 1e-3))
        abort();
    return 0;
}
