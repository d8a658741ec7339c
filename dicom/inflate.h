/* Raw deflate (RFC 1951) under caps: zip members and the deflated transfer syntaxes (PS3.5 A.5). */
#ifndef MF_DICOM_INFLATE_H
#define MF_DICOM_INFLATE_H

#include "core/error.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Shared by everything that is inflated in one scan. */
struct mf_inflate_budget {
    uint64_t remaining;    /* bytes that may still be inflated in all */
    uint64_t object_bytes; /* at most for one stream */
    uint32_t ratio;        /* inflated : deflated at most, once a stream is past 16 MiB */
};

/* Inflates one whole raw deflate stream into malloc'd memory (the caller frees `*ret`) and takes
 * its size from the budget. `*ret_used` (nullable) = bytes of input that the stream took.
 * MF_ERR_MALFORMED: damaged or truncated. MF_ERR_TOO_LARGE: a cap. */
bool mf_inflate(const void *data, size_t length, struct mf_inflate_budget *budget,
                unsigned char **ret, size_t *ret_length, size_t *ret_used,
                struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
