/*
 * Part 10: what stands before a data set in a file (PS3.10 7.1), for data sets that came over the
 * network without it.
 */
#ifndef MF_DICOM_PART10_H
#define MF_DICOM_PART10_H

#include "core/buffer.h"
#include "core/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* This implementation, in file meta information and on associations (PS3.7 D.3.3.2). */
#define MF_IMPLEMENTATION_UID "2.25.302718409571363158137213478210293810176"
#define MF_IMPLEMENTATION_NAME "MEDFUSION_" MF_VERSION

struct mf_part10 {
    const char *sop_class, *sop_instance, *transfer_syntax;
    const char *source; /* AE title of the sender; NULL = none */
};

/* Appends preamble (zeros), prefix and file meta information. */
bool mf_part10_header(const struct mf_part10 *meta, struct mf_buffer *ret,
                      struct mf_error *err) MF_CHECK_RESULT;

#ifdef __cplusplus
}
#endif

#endif
