/* Lists of decimal numbers in query parameters ("40,400", "1,2,3"). */
#ifndef MF_SERVER_NUMBERS_H
#define MF_SERVER_NUMBERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Decimal numbers between commas, at most `max`, the first `required` not empty; an empty one
 * leaves its place as it was. False when it is something else. */
bool mf_numbers_parse(const char *text, double *ret, size_t max, size_t required,
                      size_t *ret_count);

/* A number of digits only, `least` … `most`. */
bool mf_number_parse(const char *text, uint32_t least, uint32_t most, uint32_t *ret);

#ifdef __cplusplus
}
#endif

#endif
