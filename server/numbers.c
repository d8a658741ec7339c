/* Lists of numbers: strict readings of short text from outside. */
#include "server/numbers.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { NUMBER_BYTES = 32 };

static bool decimal(const char *text, size_t len, double *ret)
{
    char copy[NUMBER_BYTES], *end;
    if (len == 0 || len >= sizeof copy)
        return false;
    memcpy(copy, text, len);
    copy[len] = '\0';
    *ret = strtod(copy, &end);
    return strspn(copy, "0123456789+-.eE") == len && *end == '\0' && isfinite(*ret);
}

bool mf_numbers_parse(const char *text, double *ret, size_t max, size_t required, size_t *ret_count)
{
    size_t n = 0;
    for (;; text++, n++) {
        size_t len = strcspn(text, ",");
        if (n == max || (len == 0 && n < required) || (len > 0 && !decimal(text, len, &ret[n])))
            return false;
        text += len;
        if (!*text)
            break;
    }
    *ret_count = n + 1;
    return true;
}

bool mf_number_parse(const char *text, uint32_t least, uint32_t most, uint32_t *ret)
{
    char *end;
    errno = 0;
    unsigned long n = strtoul(text, &end, 10);
    if (!*text || text[strspn(text, "0123456789")] || errno || *end || n < least || n > most)
        return false;
    *ret = (uint32_t)n;
    return true;
}
